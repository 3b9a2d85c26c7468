"""Daemons of a test's own home; whatever happens, none outlives its test."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from zmesh.daemon.place import LOCK, place_of
from zmesh.daemon.process import STARTING
from zmesh.errors import PeerRunning
from zmesh.peer.lock_file import LockFile

PORT = 17_420 + 2 * (os.getpid() % 1000)
"""Where the daemons of this process's tests listen, one at a time; those of other processes listen elsewhere."""


def daemon_pid(home: Path) -> int:
    """The process id of the daemon of a home; 0 when none holds its lock."""
    lock = LockFile(place_of(home).directory / LOCK)
    try:
        lock.acquire()
    except PeerRunning as error:
        return error.pid or 0
    lock.release()
    return 0


def daemons(home: Path) -> list[int]:
    """The processes that are daemons of a home, be they at work or not."""
    found = []
    processes = Path("/proc")
    for process in processes.iterdir() if processes.exists() else ():
        with suppress(OSError):
            if not process.name.isdigit() or b"zmesh.daemon" not in (process / "cmdline").read_bytes():
                continue
            if f"ZMESH_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def kill_daemon(home: Path) -> int:
    """Kill the daemon of a home, if there is one, and wait until it is gone; return what its process id was."""
    pid = daemon_pid(home)
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _wait_until_gone(home, pid)
    return pid


def _wait_until_gone(home: Path, pid: int) -> None:
    deadline = time.monotonic() + 10
    while daemon_pid(home) == pid:
        assert time.monotonic() < deadline, f"the daemon {pid} holds its lock still"
        time.sleep(0.005)


@pytest.fixture
def daemon_home(home: Path) -> Iterator[Path]:
    """A home whose daemon finds nobody outside, at a port of its own choice."""
    home.mkdir()
    (home / "config.toml").write_text(f'name = "laptop"\ndiscovery = ["rendezvous"]\nport = {PORT}\n')
    yield home
    _end_for_good(home)


def _end_for_good(home: Path) -> None:
    """Kill the daemon, and the one that a client whose daemon was killed is just starting."""
    starter = LockFile(place_of(home).directory / STARTING)
    deadline = time.monotonic() + 30
    for thread in threading.enumerate():
        if thread.name == "zmesh":  # of a client: it ends when it has found that it is closed
            thread.join(1)
    while True:
        assert time.monotonic() < deadline, "a daemon is started again and again"
        for pid in daemons(home):  # those too that wait for the lock
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        kill_daemon(home)
        try:
            starter.acquire()
        except PeerRunning:
            time.sleep(0.005)
            continue
        starter.release()
        if not daemon_pid(home):
            return
