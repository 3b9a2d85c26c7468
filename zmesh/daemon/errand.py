"""One question to the daemon if it runs, without a client: `zmesh status`, `zmesh down`, completion of addresses.

It says no hello, so that a daemon of another version can be asked and ended. This module must never start a daemon,
nor wait longer than it was told to.
"""

import time
from typing import Any, Final

from zmesh.daemon.conversation import read_error
from zmesh.daemon.place import LOCK, Place, owner
from zmesh.daemon.process import STARTING
from zmesh.daemon.wire import FAILED, Frames, pack
from zmesh.errors import DaemonUnreachable, PeerRunning, WaitTimeout
from zmesh.peer.lock_file import LockFile

PATIENCE: Final = 10.0  # seconds for an answer; the daemon answers within milliseconds unless its disk hangs
READ: Final = 64 * 1024  # bytes at a time
LOOK_EVERY: Final = 0.01  # seconds
_NUMBER: Final = 1


def ask_daemon(place: Place, verb: str, timeout: float = PATIENCE) -> Any:
    """Ask the daemon something that needs no mailbox.

    Args:
        place: Where it listens.
        verb: What is asked for.
        timeout: Seconds to wait at most.

    Raises:
        OSError: None runs, or it ends just now.
        DaemonUnreachable: It does not answer.
        MeshError: What it says.
    """
    end = time.monotonic() + timeout
    frames = Frames()
    try:
        with place.connect(timeout) as connection:
            connection.sendall(pack([_NUMBER, verb, {}]))
            while True:
                connection.settimeout(max(0.001, end - time.monotonic()))
                data = connection.recv(READ)
                if not data:
                    raise ConnectionResetError("the daemon is ending")
                for _, status, *rest in frames.feed(data):
                    if status == FAILED:
                        raise read_error(rest)
                    return rest[0]
    except TimeoutError:
        raise DaemonUnreachable(
            f"the daemon of this machine, process {owner(place) or '(unknown)'}, does not answer within {timeout:g} s: "
            f"its log is in {place.directory}, and `zmesh down` ends it, by force if it must"
        ) from None


def wait_until_gone(place: Place, pid: int, timeout: float) -> None:
    """Wait until a daemon that was told to end has given its lock back, the last thing it does.

    Args:
        place: Where it has listened.
        pid: Its process id.
        timeout: Seconds to wait at most.

    Raises:
        WaitTimeout: It has not.
    """
    end = time.monotonic() + timeout
    while _holds(place, pid):
        if time.monotonic() > end:
            raise WaitTimeout(f"the daemon, process {pid}, has not ended after {timeout:g} s: it is being ended still")
        time.sleep(LOOK_EVERY)


def _holds(place: Place, pid: int) -> bool:
    """Look who has the daemon's lock; with the starter's, so that nobody who starts one finds it taken."""
    starter, lock = LockFile(place.directory / STARTING), LockFile(place.directory / LOCK)
    try:
        starter.acquire()
    except PeerRunning:  # somebody starts the next one, and will have done so soon
        return True
    try:
        lock.acquire()
    except PeerRunning as error:
        return error.pid in (None, pid)
    finally:
        lock.release()
        starter.release()
    return False
