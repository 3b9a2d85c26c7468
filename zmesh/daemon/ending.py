"""Whether the daemon of a home runs, and how it is ended by others: it drains, and nobody starts it meanwhile.

Needs no answer of the daemon, so that one that hangs, or that is of another version, can be ended too. This module must
never end a process that does not hold the daemon's lock.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from zmesh.daemon.belongings import is_lock
from zmesh.daemon.connection import Connection
from zmesh.daemon.place import Place, owner, place_of
from zmesh.daemon.process import PATIENCE, STARTING, listens
from zmesh.errors import DaemonError, PeerRunning
from zmesh.peer.lock_file import LockFile

LOCK: Final = "lock"
DRAINED: Final = 30.0  # seconds; it needs up to ten for its store, and ten for its links
KILLED: Final = 10.0  # seconds in which the system takes a killed process away; longer only where its disk hangs
LOOK_EVERY: Final = 0.02


def running(home: Path) -> int | None:
    """Return the process id of the daemon of a home, 0 if that cannot be read; None when there is none.

    Nothing is made where there was no daemon yet.

    Raises:
        DaemonError, StoreError: Its directory is somebody else's.
    """
    if not is_lock(home / "daemon" / LOCK):
        return None
    place = place_of(home)
    # Asking the lock takes it for a moment, in which a daemon that starts would be refused.
    if listens(place) and (pid := owner(place)):
        return pid
    lock = LockFile(place.directory / LOCK)
    try:
        lock.acquire()
    except PeerRunning as error:
        return error.pid or 0
    lock.release()
    return None


def end(home: Path) -> int | None:
    """End the daemon of a home and wait until it is gone; programs that were connected do not start it again.

    One that is stopped goes on to its end; one that does not come to it is killed, which loses nothing.

    Returns:
        What its process id was; None when there was none.

    Raises:
        DaemonError: It does not end.
    """
    pid = running(home)
    if pid is None:
        return None
    place = place_of(home)
    with contextlib.suppress(OSError):  # a disk that is full must not keep it from ending
        place.ended.touch()
    if os.name != "posix":  # no signal drains it there
        _tell(place)
    elif pid:
        _signal(pid, signal.SIGTERM)
        _signal(pid, signal.SIGCONT)
    if _gone(home, pid, DRAINED):
        return pid
    if os.name == "posix" and pid:
        _signal(pid, signal.SIGKILL)
        if _gone(home, pid, KILLED):
            return pid
    raise DaemonError(f"the daemon, process {pid or '(unknown)'}, does not end: kill it")


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _gone(home: Path, pid: int, seconds: float) -> bool:
    """Wait until a daemon has given its lock back; the next one may have it already."""
    deadline = time.monotonic() + seconds
    while (now := running(home)) is not None and (now in (0, pid) or not pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY)
    return True


@contextlib.contextmanager
def nobody_starts(home: Path) -> Iterator[Place]:
    """Keep all clients from starting the daemon of a home; those that need it wait.

    Raises:
        DaemonError: Somebody else starts it, and does not come to an end.
    """
    place = place_of(home)
    starter = LockFile(place.directory / STARTING)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            starter.acquire()
            break
        except PeerRunning as error:
            if time.monotonic() > deadline:
                raise DaemonError(f"process {error.pid} has been starting the daemon for {PATIENCE:g} s") from None
            time.sleep(LOOK_EVERY)
    try:
        yield place
    finally:
        starter.release()


def _tell(place: Place) -> None:
    connection = Connection(place, lambda: None)
    try:
        connection.call("daemon.down")
    finally:
        connection.close()
