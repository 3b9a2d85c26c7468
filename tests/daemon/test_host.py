"""The daemon itself: it never runs twice for a home, it ends in an orderly way, and not silently."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import zmesh
from tests.daemon_home import daemon_pid, daemons, kill_daemon
from tests.storm.processes import wait_until
from tests.waiting import until
from zmesh.daemon import host
from zmesh.daemon.connecting import connected
from zmesh.daemon.host import Daemon
from zmesh.daemon.place import LOCK, place_of
from zmesh.errors import PeerFailed, PeerRunning
from zmesh.peer.lock_file import LockFile
from zmesh.protocol.core import Core

SOON = 20.0


def described(home: Path, name: str = "laptop") -> Daemon:
    return Daemon(home, name, port=0, peers=())


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[tuple[Daemon, "asyncio.Task[None]"]]:
    """Run a daemon in this loop."""
    daemon, up = described(home), asyncio.Event()
    task = asyncio.create_task(daemon.run(lambda _: up.set()))
    first = asyncio.create_task(up.wait())
    await asyncio.wait({task, first}, return_when=asyncio.FIRST_COMPLETED)
    if not up.is_set():
        await task
    try:
        yield daemon, task
    finally:
        daemon.over.set()
        await asyncio.wait({task})


def test_two_daemons_of_one_home_are_one_too_many_whatever_they_are_called(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()

    async def scenario() -> None:
        async with running(home):
            with pytest.raises(PeerRunning, match=f"as process {os.getpid()}.*`zmesh down`"):
                await described(home, "studio").run(lambda _: None)
        monkeypatch.setattr(host, "DRAIN", 0.1)
        lock = LockFile(place_of(home).directory / LOCK)
        lock.acquire()
        with pytest.raises(PeerRunning, match="runs already"):
            await described(home).run(lambda _: None)
        lock.release()
        async with running(home) as (daemon, _):
            assert daemon.peer.name == "laptop"

    asyncio.run(scenario())


def test_a_daemon_waits_for_one_that_is_coming_to_its_end(home: Path) -> None:
    home.mkdir()

    async def scenario() -> None:
        ending = LockFile(place_of(home).directory / LOCK)
        ending.acquire()
        daemon, up = described(home), asyncio.Event()
        task = asyncio.create_task(daemon.run(lambda _: up.set()))
        await asyncio.sleep(0)
        assert not task.done()
        ending.release()
        async with asyncio.timeout(SOON):
            await up.wait()
        daemon.over.set()
        await task

    asyncio.run(scenario())


def test_the_same_as_a_process_ends_with_an_exit_code_and_says_why(daemon_home: Path) -> None:
    with connected(daemon_home) as looking:
        command = [sys.executable, "-m", "zmesh.daemon", "--name", "studio"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert f"runs already, as process {looking.call('daemon.status')['pid']}" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_an_error_that_ends_the_peer_ends_the_daemon(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()

    async def scenario() -> None:
        async with running(home) as (daemon, task):
            agent = await daemon.peer.agent("code")
            monkeypatch.setattr(Core, "command", lambda *_: 1 / 0)
            with pytest.raises(PeerFailed):
                await agent.send("code", "x")
            await asyncio.wait({task}, timeout=SOON)
            with pytest.raises(PeerFailed, match="ZeroDivisionError"):
                await task

    asyncio.run(scenario())
    LockFile(home / "daemon" / LOCK).acquire()  # nobody has it


def test_a_peer_that_failed_is_exit_code_1_and_the_log_says_why(daemon_home: Path) -> None:
    script = (
        "import sys, zmesh.daemon.host as host\n"
        "from zmesh.errors import PeerFailed\nfrom zmesh.daemon import program\n"
        "async def ended(self): raise PeerFailed('an error in zmesh has stopped this peer')\n"
        "host.Daemon._ended = ended\nsys.exit(program.run([]))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (1, "an error in zmesh has stopped this peer\n")
    assert "an error in zmesh has stopped" in (daemon_home / "daemon" / "daemon.log").read_text()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_is_asked_to_end_drains_and_leaves_nothing(daemon_home: Path, how: signal.Signals) -> None:
    place = place_of(daemon_home)
    with zmesh.connect("code") as code:
        receipts = [code.send("later@laptop", number) for number in range(50)]
        pid = daemon_pid(daemon_home)
    os.kill(pid, how)
    wait_until(lambda: not daemons(daemon_home), SOON, "it ends")
    assert place.socket_path is not None
    assert not place.socket_path.exists()
    assert "down" in (place.directory / "daemon.log").read_text().splitlines()[-1]
    with zmesh.connect("later") as later:
        assert sorted(message.id for message in later.poll(timeout=SOON)) == sorted(each.id for each in receipts)


def test_clients_keep_their_leases_and_questions_through_an_orderly_restart(daemon_home: Path) -> None:
    with zmesh.connect("code") as code, zmesh.connect("browser") as browser:
        receipt = browser.send("code", "work")
        (message,) = code.take(timeout=SOON)
        os.kill(daemon_pid(daemon_home), signal.SIGTERM)
        message.done("done")
        receipt.handled(SOON)
        (answer,) = browser.poll(timeout=SOON)
        assert (answer.body, message.attempt) == ("done", 1)
        assert code.poll(timeout=0.1) == []


def test_what_was_said_of_the_status_holds_after_a_restart(daemon_home: Path) -> None:
    with zmesh.connect("code") as code:
        code.status("away")
        kill_daemon(daemon_home)
        (agent,) = (each for each in code.agents() if each["name"] == "code")
        assert agent["status"] == "away"


def test_it_tells_of_itself_and_of_who_is_there(home: Path) -> None:
    home.mkdir()

    async def scenario() -> None:
        async with running(home) as (_, task), zmesh.connect_async("code", home=home) as code:
            await code.send("code", "x")
            await code.take(1, SOON)
            told = await code.call("daemon.status")
            assert (told["name"], told["pid"]) == ("laptop", os.getpid())
            assert told["clients"] == [{"pid": os.getpid(), "mailbox": "code", "holds": 1}]
            await code.call("daemon.down")
            await until(task.done)

    asyncio.run(scenario())
    assert (home / "daemon" / "ended").exists()
