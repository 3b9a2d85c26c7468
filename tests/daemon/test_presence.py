"""A daemon whose socket, lock, directory or home is removed under it."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import zmesh
from tests.cli.commands import Machine
from tests.daemon.served import Raw
from tests.daemon.test_host import running
from tests.daemon_home import daemon_pid
from tests.storm.processes import wait_until
from tests.waiting import until
from zmesh.daemon import presence
from zmesh.daemon.place import LOCK, SOCKET, TOKEN_FILE, Place, place_of, restore
from zmesh.daemon.process import ERRORS, PATIENCE
from zmesh.daemon.wire import OK
from zmesh.errors import DaemonError, DaemonUnreachable, PeerRunning, StoreError
from zmesh.peer.lock_file import LockFile

SOON = 20.0


@pytest.fixture
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked all the time."""
    monkeypatch.setattr(presence, "LOOK_EVERY", 0.01)


def remove_socket(place: Place) -> None:
    assert place.socket_path is not None
    place.socket_path.unlink()


def replace_socket(place: Place) -> None:
    assert place.socket_path is not None
    place.socket_path.unlink()
    place.socket_path.write_text("something else")


def remove_lock(place: Place) -> None:
    (place.directory / LOCK).unlink()


def remove_directory(place: Place) -> None:
    shutil.rmtree(place.directory)


@pytest.mark.usefixtures("attentive")
@pytest.mark.parametrize("harm", [remove_socket, replace_socket, remove_lock, remove_directory])
def test_what_is_removed_is_made_anew_and_who_is_connected_stays(home: Path, harm: Callable[[Place], None]) -> None:
    home.mkdir()

    async def scenario() -> None:
        async with running(home) as (_, task):
            place = place_of(home)
            before = await Raw.greeted(place)
            for _ in range(2):
                was = _as_found(place)
                harm(place)
                restore(place)  # as any client does
                await until(lambda before=was: _as_found(place) not in (None, before))  # type: ignore[misc]
                assert (await before.ask("ping", {}))[1] == OK
                await (await Raw.greeted(place, "other")).close()
                with pytest.raises(PeerRunning):
                    LockFile(place.directory / LOCK).acquire()
                assert int((place.directory / LOCK).read_text()) == os.getpid()
                assert place.socket_path is not None
                assert place.socket_path.stat().st_mode & 0o777 == 0o600
            assert not task.done()
            await before.close()
        assert not place.mark, "it takes the new one away, too"

    asyncio.run(scenario())


def _as_found(place: Place) -> object:
    """What tells socket and lock from others in their place; None while a client could not connect."""
    with contextlib.suppress(OSError):
        place.connect(1.0).close()
        status = (place.directory / LOCK).stat()
        return place.mark, status.st_ino, status.st_mtime_ns
    return None


@pytest.mark.usefixtures("attentive")
def test_without_unix_sockets_the_file_that_names_port_and_token_is_written_anew(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmesh.daemon.place.UNIX", False)
    home.mkdir()

    async def scenario() -> None:
        async with running(home):
            place = place_of(home)
            (place.directory / TOKEN_FILE).unlink()
            await until(lambda: place.mark)
            await (await Raw.greeted(place)).close()

    asyncio.run(scenario())


@pytest.mark.usefixtures("attentive")
@pytest.mark.parametrize("again", [False, True])
def test_a_daemon_whose_home_was_removed_ends_and_says_why(home: Path, *, again: bool) -> None:
    """Also where its directory was made again, as other parts of the daemon do with what they need."""
    home.mkdir()

    async def scenario() -> None:
        async with running(home) as (_, task):
            os.rename(home, home.with_name("elsewhere"))  # noqa: PTH104 - of this very disk
            if again:
                home.mkdir()  # noqa: ASYNC240 - as above
            with pytest.raises(StoreError, match=r"was removed.*the daemon ends"):
                await asyncio.wait_for(asyncio.shield(task), SOON)

    asyncio.run(scenario())


@pytest.mark.usefixtures("attentive")
def test_a_daemon_in_whose_place_another_has_come_ends_and_leaves_its_socket_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "OUSTED", 0.2)
    home.mkdir()

    async def scenario() -> None:
        async with running(home) as (_, task):
            place = place_of(home)
            aside = place.directory.with_name("aside")
            aside.mkdir(mode=0o700)
            lock = LockFile(aside / LOCK)
            lock.acquire()
            listener, _ = Place(aside, aside / SOCKET).listen()
            shutil.rmtree(place.directory)
            aside.rename(place.directory)
            with listener, pytest.raises(PeerRunning):
                await asyncio.wait_for(asyncio.shield(task), SOON)
            assert (place.directory / SOCKET).exists()
            lock.release()

    asyncio.run(scenario())


@pytest.mark.usefixtures("attentive")
def test_a_directory_that_cannot_be_made_again_is_told_once_and_tried_again(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    looks: list[Place] = []

    def counted(place: Place) -> None:
        looks.append(place)
        restore(place)

    monkeypatch.setattr(presence, "restore", counted)

    async def scenario() -> None:
        async with running(home) as (_, task):
            place = place_of(home)
            shutil.rmtree(place.directory)
            place.directory.write_text("a file in its place")
            await until(lambda: "programs do not find this daemon" in caplog.text)
            await until(lambda: len(looks) > 3)
            place.directory.unlink()
            await until(lambda: _as_found(place))
            assert not task.done()
        assert sum("do not find" in record.message for record in caplog.records) == 1

    asyncio.run(scenario())


def test_somebody_elses_directory_beside_a_long_home_is_never_connected_to(home: Path) -> None:
    """Cleaners of temporary files remove it under a daemon, and then anybody can make it."""
    place = place_of(home / ("x" * 100))
    assert place.socket_path is not None
    short = place.socket_path.parent
    try:
        assert short != place.directory
        short.chmod(0o777)
        for use in (lambda: place.connect(1.0), place.listen, lambda: restore(place)):
            with pytest.raises(DaemonError, match="open to others"):
                use()
    finally:
        shutil.rmtree(short)


# --- real processes ---


@pytest.mark.parametrize("harm", [remove_socket, remove_directory])
def test_clients_wait_for_the_daemon_to_come_back_and_nothing_is_lost(
    laptop: Machine, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Place], None]
) -> None:
    monkeypatch.setenv("ZMESH_HOME", str(laptop.home))
    with zmesh.connect("bob") as bob:
        pid = daemon_pid(laptop.home)
        harm(place_of(laptop.home))
        sent = laptop.run("send", "--as", "ann", "bob@laptop", "x")
        assert sent.returncode == 0, sent.stderr
        (message,) = bob.take(timeout=SOON)
        message.done()
        assert laptop.json("status")["pid"] == pid
    assert laptop.json("down") == {"ended": pid}


def test_a_client_that_finds_the_daemon_and_its_directory_gone_does_not_bring_it_back(
    laptop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So they are after an uninstallation. Whoever connects anew wants it."""
    monkeypatch.setenv("ZMESH_HOME", str(laptop.home))
    with zmesh.connect("bob") as bob:
        pid = daemon_pid(laptop.home)
        os.kill(pid, signal.SIGSTOP)
        shutil.rmtree(place_of(laptop.home).directory)
        os.kill(pid, signal.SIGKILL)  # now: the client would start another one in between
        with pytest.raises(DaemonUnreachable, match="Whoever connects anew starts one"):
            bob.send("bob", "x")
        assert not (laptop.home / "daemon").exists()
    with zmesh.connect("bob") as bob:
        assert bob.send("bob", "x").state == "stored"


DEAF = """
import sys
from pathlib import Path
from zmesh.daemon.place import LOCK, place_of
from zmesh.peer.lock_file import LockFile
lock = LockFile(place_of(Path(sys.argv[1])).directory / LOCK)
lock.acquire()
print("there", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def deaf(home: Path) -> Iterator[int]:
    """A process that holds the daemon's lock, and does not listen."""
    with subprocess.Popen(
        [sys.executable, "-c", DEAF, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            yield process.pid
        finally:
            process.kill()


def test_a_client_says_who_has_the_lock_and_does_not_listen(laptop: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.daemon.process.PATIENCE", 1.0)
    laptop.inside = True
    with deaf(laptop.home) as pid:
        said = laptop.fails(1, "send", "--as", "ann", "bob@laptop", "x")
        assert f"process {pid} is the daemon, and does not listen" in said
        assert "`zmesh down` ends it" in said


GIVING_UP = """
import asyncio, os, sys, threading, zmesh
def give_up():
    with open("/dev/stdin") as until:
        until.readline()
    os.kill(os.getpid(), 2)
threading.Thread(target=give_up, daemon=True).start()
print("waits", flush=True)
async def wait():
    async with zmesh.connect_async("ann"):
        pass
try:
    asyncio.run(wait()) if sys.argv[1] == "async" else zmesh.connect("ann")
except KeyboardInterrupt:
    print("gave up", flush=True)
"""


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_who_gives_up_while_the_daemon_does_not_come_up_need_not_wait_for_it(laptop: Machine, kind: str) -> None:
    with (
        deaf(laptop.home),
        subprocess.Popen(
            [sys.executable, "-c", GIVING_UP, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=laptop.environment({}),
        ) as program,
    ):  # fmt: skip
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "waits\n"
            wait_until((place_of(laptop.home).directory / ERRORS).exists, SOON, "a daemon is started")
            assert program.communicate("\n", timeout=PATIENCE / 2)[0] == "gave up\n"
        finally:
            program.kill()
