"""One process per store: a locked file that holds the owner's process id.

The lock is the operating system's and goes with the process, however it ends; what the file says is only for the error
of the second process. The file is never removed: a lock on a removed file would exclude nobody.
"""

import contextlib
import os
from pathlib import Path
from typing import Final
from weakref import WeakSet

from zmesh.errors import PeerRunning, StoreError
from zmesh.trust.holding import try_lock

_PID_BYTES: Final = 20


class LockFile:
    """The lock of one store."""

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is touched before `acquire`."""
        self._path = path
        self._descriptor = -1
        _inherited.add(self)

    def acquire(self) -> None:
        """Take the lock and write this process's id into the file.

        Raises:
            PeerRunning: Another process, or another peer of this one, has it.
            StoreError: The file cannot be written.
        """
        if self._descriptor >= 0:
            raise PeerRunning(self._running(os.getpid()), os.getpid())
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(self._path, error) from error
        try:
            locked = try_lock(descriptor)
            pid = None if locked else _read_pid(descriptor)
            if locked:
                _write_pid(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise _unusable(self._path, error) from error
        if not locked:
            os.close(descriptor)
            raise PeerRunning(self._running(pid), pid)
        self._descriptor = descriptor

    @property
    def lies(self) -> bool:
        """True while the file that is locked is the one that others find."""
        try:
            return self._descriptor >= 0 and os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return False

    def renew(self) -> None:
        """Take the lock again, of a file that was removed; errors as of `acquire`, and the old one is held still."""
        held, self._descriptor = self._descriptor, -1
        try:
            self.acquire()
        except BaseException:
            self._descriptor = held
            raise
        if held >= 0:
            os.close(held)

    def release(self) -> None:
        """Give the lock back; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _running(self, pid: int | None) -> str:
        who = f"process {pid}" if pid else "another process"
        return (
            f"{who} already runs the peer of {self._path.parent}: end that one, reach it by zmesh.connect() if it is "
            "this machine's daemon, or give this peer another name"
        )


_inherited: WeakSet[LockFile] = WeakSet()


def _release_inherited() -> None:
    """A forked child must not hold the lock of its parent beyond the parent's end; closing does not unlock it there."""
    for lock in list(_inherited):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_inherited)


def _write_pid(descriptor: int) -> None:
    """Write this process's id. On a full disk the lock holds without it."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())


def _read_pid(descriptor: int) -> int | None:
    """Return the process id in the file, or None when there is none yet."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, _PID_BYTES).strip()
    return int(text) if text.isdigit() else None


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}: {error.strerror}. Make its directory writable for this user, or set ZMESH_HOME to "
        f"another place"
    )
