"""What all tests share: Hypothesis without deadlines, an environment that no setting of the user reaches, and a watch.

The watch must never be silent: pytest-timeout ends a test by an exception in the main thread, which C code does not
hear and which an event loop that closes can wait on for ever. Then the process writes where all its threads stand
and ends; pytest-xdist names the test, counts it as failed, and goes on with a new worker.
"""

import faulthandler
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import settings

import zmesh

settings.register_profile("zmesh", deadline=None, print_blob=True)
settings.load_profile("zmesh")

LOCAL = "tcp://127.0.0.1:*"
GRACE = 60  # seconds from the timeout of a test to the end of its process
FORKED = 120  # seconds that a forked child of a test may live
BOUND = pytest.StashKey[float]()
STDERR = pytest.StashKey[int]()


class Limits(Protocol):
    """What the watch reads of pytest-timeout's settings of a test."""

    timeout: float  # seconds, above 0


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; programs under test inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[STDERR] = os.dup(2)  # before pytest captures it; never closed, as the watch may write until the end
    os.register_at_fork(after_in_child=_end_in_time)


def _end_in_time() -> None:
    """A forked child holds the worker's pipe: if it stayed, pytest-xdist would not notice the worker's end."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.alarm(FORKED)


def _watch(item: pytest.Item) -> None:
    if bound := item.stash.get(BOUND, 0):
        faulthandler.dump_traceback_later(bound, file=item.config.stash[STDERR], exit=True)


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Limits) -> None:
    """Start the watch where pytest-timeout starts its own, which follows, as this returns nothing."""
    item.stash[BOUND] = settings.timeout + GRACE
    _watch(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Watch the clearing up as well: when a test fails, pytest and pytest-timeout call off their timers."""
    _watch(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Iterator[None]:
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take all settings of zmesh away; a test that forgets to ask for `home` must not find the user's own."""
    for name in list(os.environ):
        if name.startswith("ZMESH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ZMESH_HOME", str(tmp_path_factory.getbasetemp() / "nobody"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _environment: None) -> Path:
    """A home of the test's own, which `ZMESH_HOME` names; it is made at first use."""
    path = tmp_path / "home"
    monkeypatch.setenv("ZMESH_HOME", str(path))
    return path


def new_peer(name: str, home: Path | None = None) -> zmesh.Peer:
    """A peer that only this machine can reach, and that finds others through files."""
    return zmesh.Peer(name, home=home, bind=LOCAL, discovery=["rendezvous"])


@asynccontextmanager
async def two_agents(home: Path | None = None) -> AsyncIterator[tuple[zmesh.Agent, zmesh.Agent]]:
    """The agents code@laptop and browser@studio, on two peers of this process that have found each other."""
    async with new_peer("laptop", home) as laptop, new_peer("studio", home) as studio:
        code = await laptop.agent("code")
        browser = await studio.agent("browser")
        await laptop.wait_for("browser@studio", timeout=20)
        await studio.wait_for("code@laptop", timeout=20)
        yield code, browser


async def take(agent: zmesh.Agent) -> zmesh.Message:
    """The next message of an inbox, which must come."""
    (message,) = await agent.poll(1, timeout=20)
    agent.keep(message)
    return message
