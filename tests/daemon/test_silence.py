"""Daemons that say nothing: who waits hears of it in time, and nobody gives up a daemon that is only busy."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.cli.commands import Machine
from tests.daemon.served import Raw, serving
from tests.daemon.test_connection import Fake, connected, daemon, echo
from tests.daemon.test_conversation import greet, heard, read, ready
from tests.daemon_home import daemon_pid
from zmesh.daemon import silence
from zmesh.daemon.async_client import AsyncClient
from zmesh.daemon.async_connection import AsyncConnection
from zmesh.daemon.client import Client
from zmesh.daemon.connection import Connection
from zmesh.daemon.conversation import Answer, Conversation
from zmesh.daemon.errand import ask_daemon
from zmesh.daemon.place import LOCK, place_of
from zmesh.daemon.silence import HUNG, LOOK_EVERY, PATIENCE, PING_EVERY, NotHeard
from zmesh.daemon.wire import OK, pack
from zmesh.errors import DaemonUnreachable, WaitTimeout


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits end in tenths of seconds."""
    monkeypatch.setattr(silence, "PATIENCE", 0.4)
    monkeypatch.setattr(silence, "HUNG", 0.2)
    monkeypatch.setattr(silence, "PING_EVERY", 0.02)
    for module in ("connection", "async_connection"):
        monkeypatch.setattr(f"zmesh.daemon.{module}.LOOK_EVERY", 0.02)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process is stopped meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


class Watched:
    """A conversation with a clock, and somebody who waits: what is said and answered, and when."""

    def __init__(self, talk: Conversation) -> None:
        self.talk, self.now = talk, 0.0
        self.said: list[list[Any]] = []
        self.ended: dict[int, tuple[float, zmesh.MeshError | None]] = {}

    def wait(self, seconds: float, *, alive: bool = False, step: float = LOOK_EVERY) -> None:
        """Look, until so many seconds have passed; a daemon that is alive answers each ping."""
        end = self.now + seconds
        while self.now < end:
            self.now += step
            for each in self.talk.look(self.now, lambda: "it is stopped"):
                if isinstance(each, Answer):
                    self.ended[each.number] = self.now, each.error
                    continue
                self.said += read(each)
                if alive and self.said[-1][1] == "ping":
                    assert heard(self.talk, [self.said[-1][0], OK, None]) == ([], [])


def test_a_silent_daemon_ends_every_wait_each_with_its_own_error() -> None:
    watched = Watched(ready())
    numbers = [
        watched.talk.request(verb, {"timeout": timeout} if verb != "send" else {}, 0.0)[0]
        for verb, timeout in (("send", None), ("poll", 0.0), ("wait", None), ("ask", 1.0), ("ask", 20.0), ("ask", 60.0))
    ]
    watched.wait(100)
    ends = [watched.ended[number] for number in numbers]
    kinds = [type(error) for _, error in ends]
    assert kinds == [DaemonUnreachable, DaemonUnreachable, DaemonUnreachable, NotHeard, NotHeard, NotHeard]
    assert issubclass(NotHeard, WaitTimeout)
    late = 2 * LOOK_EVERY
    bounds = [PATIENCE, PATIENCE, PATIENCE, HUNG, 20.0, 60.0]
    for (at, error), bound in zip(ends, bounds, strict=True):
        assert bound <= at <= bound + late
        assert str(error) == "it is stopped"
    assert [verb for _, verb, _ in watched.said].count("ping") == 1, "it is asked once, until it says something"


def test_a_daemon_that_is_there_is_waited_for_without_an_end() -> None:
    watched = Watched(ready())
    watched.talk.request("wait", {"timeout": None}, 0.0)
    watched.talk.request("send", {}, 0.0)
    watched.wait(3600, alive=True)
    assert watched.ended == {}
    assert {verb for _, verb, _ in watched.said} == {"ping"}
    assert 3600 / PING_EVERY / 2 < len(watched.said) <= 3600 / PING_EVERY + 1, "and not asked all the time"


def test_an_answer_that_a_busy_daemon_owes_ends_when_it_is_late_by_the_patience() -> None:
    watched = Watched(ready())
    number, _ = watched.talk.request("ask", {"timeout": 5.0}, 0.0)
    watched.wait(100, alive=True)
    at, error = watched.ended[number]
    assert 5.0 + PATIENCE <= at <= 5.0 + PATIENCE + LOOK_EVERY
    assert isinstance(error, WaitTimeout)
    assert [verb for _, verb, _ in watched.said if verb != "ping"] == ["forget"], "what comes yet goes to others"


def test_who_was_stopped_itself_blames_nobody() -> None:
    watched = Watched(ready())
    number, _ = watched.talk.request("send", {}, 0.0)
    watched.wait(LOOK_EVERY)
    watched.wait(1000, step=1000)
    assert watched.ended == {}
    assert heard(watched.talk, [number, OK, {}])[0] == [Answer(number, {})]


def test_silence_is_of_a_connection_and_begins_anew_with_the_next() -> None:
    watched = Watched(ready())
    number, _ = watched.talk.request("send", {}, 0.0)
    watched.wait(PATIENCE - LOOK_EVERY)
    watched.talk.lost()
    watched.wait(100)
    assert watched.ended == {}, "while there is no connection, whoever makes one has patience of its own"
    greet(watched.talk, now=watched.now)
    watched.wait(PATIENCE - LOOK_EVERY)
    assert watched.ended == {}
    watched.wait(2 * LOOK_EVERY)
    assert list(watched.ended) == [number]


def test_what_was_given_up_is_not_asked_again_and_what_it_brings_goes_back() -> None:
    watched = Watched(ready())
    number, _ = watched.talk.request("poll", {"timeout": 1.0}, 0.0)
    watched.wait(100)
    assert list(watched.ended) == [number]
    told = {"lease": 3, "id": bytes(16), "body": [b"text", False]}
    answers, asked = heard(watched.talk, [number, OK, [told]])
    assert (answers, [verb for _, verb, _ in asked]) == ([], ["nack"])


# --- over a socket ---


def mute(_: Fake, connection: socket.socket) -> None:
    """Take everything, and say nothing."""
    while connection.recv(65536):
        pass


def welcoming(fake: Fake, connection: socket.socket) -> None:
    """Answer the hello, and nothing else."""
    for _ in fake.requests(connection):
        pass


@pytest.mark.usefixtures("impatient")
def test_a_client_that_is_not_welcomed_says_who_does_not_answer_and_what_to_do(home: Path) -> None:
    with daemon(home, mute) as fake:
        (fake.place.directory / LOCK).write_text("4711\n")
        with pytest.raises(DaemonUnreachable, match=r"process 4711, does not answer.*`zmesh down` ends it"):
            Connection(fake.place, lambda: None)
        with pytest.raises(WaitTimeout, match=r"process 4711, does not answer.*`zmesh down` ends it"):
            Connection(fake.place, lambda: None, timeout=0.1)


@pytest.mark.usefixtures("impatient")
def test_requests_to_a_daemon_that_falls_silent_end(home: Path) -> None:
    with daemon(home, welcoming) as fake, connected(fake) as connection, Client(connection) as client:
        with pytest.raises(WaitTimeout, match="`zmesh down`"):
            client.take(timeout=0.1)
        with pytest.raises(DaemonUnreachable, match="`zmesh down`"):
            client.send("bob", "x")
        with pytest.raises(DaemonUnreachable, match="`zmesh down`"):
            client.take(timeout=None)
        with pytest.raises(DaemonUnreachable, match="`zmesh down`"):
            connection.call("peers")
        assert [type(error) for error in connection.call_all([("done", {"lease": 1})])] == [DaemonUnreachable]
        assert not connection.closed, "it may come back"


@pytest.mark.usefixtures("impatient")
def test_who_only_listens_hears_that_nobody_is_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.daemon.client.LISTEN", 0.1)
    with daemon(home, welcoming) as fake, connected(fake) as connection, Client(connection) as client:
        with pytest.raises(DaemonUnreachable):
            next(client.inbox())
        with pytest.raises(DaemonUnreachable):
            client.listen(60)


@pytest.mark.usefixtures("impatient")
def test_the_async_client_hears_of_a_silent_daemon_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.daemon.async_client.LISTEN", 0.1)

    async def scenario() -> None:
        with daemon(home, welcoming) as fake:
            async with AsyncClient(AsyncConnection(fake.place, lambda: None, mailbox="code")) as client:
                with pytest.raises(WaitTimeout, match="`zmesh down`"):
                    await client.ask("bob", "x", timeout=0.1)
                with pytest.raises(DaemonUnreachable, match="`zmesh down`"):
                    await client.send("bob", "x")
                with pytest.raises(DaemonUnreachable):
                    await anext(client.inbox())
                with pytest.raises(DaemonUnreachable):
                    await client.listen(60)
        with daemon(home, mute) as fake, pytest.raises(DaemonUnreachable, match="`zmesh down`"):
            await AsyncClient(AsyncConnection(fake.place, lambda: None)).start()

    asyncio.run(scenario())


@pytest.mark.usefixtures("impatient")
def test_a_daemon_that_answers_pings_is_waited_for(home: Path) -> None:
    def slow(fake: Fake, connection: socket.socket) -> None:
        late = None
        for number, verb, _arguments in fake.requests(connection):
            if verb == "ping":
                connection.sendall(pack([number, OK, None]))
            else:
                late = number
            if sum(frame[1] == "ping" for frame in fake.heard) == 40 and late is not None:
                connection.sendall(pack([late, OK, "late"]))

    with daemon(home, slow) as fake, connected(fake) as connection:
        assert connection.call("find", {"address": "x", "timeout": None}) == "late"


def test_the_daemon_answers_a_ping_before_the_hello_and_while_others_wait(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (_, _, place):
            raw = await Raw.connect(place)
            assert await raw.ask("ping", {}) == [1, OK, None]
            raw = await Raw.greeted(place)
            raw.say("poll", {"timeout": None})
            assert await raw.ask("ping", {}) == [2, OK, None]

    asyncio.run(scenario())


def test_a_client_that_hears_is_not_watched(home: Path) -> None:
    """Nothing is said beyond what is asked, while answers come."""
    with daemon(home, echo) as fake, connected(fake) as connection:
        for n in range(100):
            connection.call("echo", {"n": n})
        assert {verb for _, verb, _ in fake.heard} == {"echo"}


# --- a real daemon that is stopped ---


@pytest.mark.usefixtures("impatient")
def test_commands_say_that_a_stopped_daemon_does_not_answer_and_down_ends_it(
    laptop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.run("up")
    ident = laptop.json("send", "--as", "ann", "code@laptop", "x")["id"]
    laptop.inside = True
    monkeypatch.setattr("zmesh.daemon.client.LISTEN", 0.1)
    monkeypatch.setattr("zmesh.cli.inbox.LISTEN", 0.1)
    pid = daemon_pid(laptop.home)
    with stopped(pid):
        for code, words in (
            (3, ("ask", "--as", "ann", "code@laptop", "x", "--timeout", "0.1s")),
            (3, ("inbox", "--as", "ann", "--timeout", "0.1s")),
            (3, ("wait", ident, "--timeout", "0.1s")),
            (3, ("send", "--as", "ann", "code@laptop", "x", "--wait", "stored", "--timeout", "0.1s")),
            (1, ("send", "--as", "ann", "code@laptop", "x")),
            (1, ("inbox", "--as", "ann", "--follow")),
            (1, ("wait", ident)),
            (1, ("agents", "--json")),
            (1, ("peers",)),
        ):
            said = laptop.fails(code, *words)
            assert f"process {pid}, does not answer" in said
            assert "`zmesh down` ends it" in said
        monkeypatch.setattr("zmesh.daemon.errand.PATIENCE", 0.3)
        monkeypatch.setattr("zmesh.cli.status.ask_daemon", _hasty)
        assert f"process {pid}, does not answer within 0.3 s" in laptop.fails(1, "status")
        assert laptop.json("down") == {"ended": pid}
    assert daemon_pid(laptop.home) == 0


def _hasty(place: Any, verb: str) -> Any:
    return ask_daemon(place, verb, 0.3)


@pytest.mark.usefixtures("impatient")
def test_a_command_that_waits_when_the_daemon_is_stopped_ends_too(
    laptop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZMESH_HOME", str(laptop.home))
    with zmesh.connect("ann") as ann:
        receipt = ann.send("code@elsewhere", "x")
        with stopped(daemon_pid(laptop.home)):
            with pytest.raises(DaemonUnreachable, match="`zmesh down`"):
                receipt.handled()
            with pytest.raises(WaitTimeout, match="`zmesh down`"):
                ann.wait_for("nobody@elsewhere", timeout=0.1)
        with pytest.raises(WaitTimeout, match="nobody@elsewhere"):  # it goes on, and so does the client
            ann.wait_for("nobody@elsewhere", timeout=0.1)
        assert receipt.refresh() == "waiting"


STUBBORN = """
import os, signal, sys, time
from zmesh.daemon.place import LOCK, place_of
from zmesh.peer.lock_file import LockFile
from pathlib import Path
place = place_of(Path(sys.argv[1]))
lock = LockFile(place.directory / LOCK)
lock.acquire()
listener, _ = place.listen()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("there", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("socket_removed", [False, True])
def test_down_kills_a_daemon_that_hangs(
    laptop: Machine, monkeypatch: pytest.MonkeyPatch, *, socket_removed: bool
) -> None:
    monkeypatch.setattr("zmesh.daemon.ending.DRAINED", 0.2)
    monkeypatch.setattr("zmesh.cli.status.ask_daemon", _hasty)
    laptop.inside = True
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(laptop.home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as hanging:
        try:
            assert hanging.stdout is not None
            assert hanging.stdout.readline() == "there\n"
            if socket_removed:
                (place_of(laptop.home).directory / "socket").unlink()
                looked = laptop.run("status", "--json")
                assert (looked.returncode, json.loads(looked.stdout)) == (1, {"running": False, "pid": hanging.pid})
                assert f"process {hanging.pid}, does not listen" in laptop.run("status").stdout
            assert laptop.json("down") == {"ended": hanging.pid}
            assert hanging.wait(20) == -signal.SIGKILL
        finally:
            hanging.kill()
