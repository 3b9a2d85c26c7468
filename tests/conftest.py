"""What all tests share: Hypothesis without deadlines, and an environment that no setting of the user reaches."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import settings

import zmesh

settings.register_profile("zmesh", deadline=None, print_blob=True)
settings.load_profile("zmesh")

LOCAL = "tcp://127.0.0.1:*"


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
