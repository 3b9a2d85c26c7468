"""Whether a process that began something is still there: a file that it keeps locked.

The lock is the operating system's and goes with the process, however it ends. So what it has begun can be called over
without asking a clock, or believing a process id that another one may have by now. This module must never take a file
that is not there for one that was let go.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

from zmesh.errors import TrustError

_FAR: Final = 1 << 30  # Windows locks bytes against reading too: one far behind the text leaves it readable


class Holding:
    """A file that this process keeps locked, until `release`."""

    def __init__(self, path: Path) -> None:
        """Make the file, and its directory with mode 0700, and lock it.

        Raises:
            TrustError: It cannot be made, or another process has it.
        """
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            held = try_lock(self._descriptor)
        except OSError as error:
            raise TrustError(f"cannot write {path}: {error.strerror}; make its directory writable for you") from error
        if not held:
            os.close(self._descriptor)
            raise TrustError(f"another process has {path}: end that one")

    def release(self) -> None:
        """Remove the file; may be called twice."""
        if self._descriptor >= 0:
            if sys.platform != "win32":  # where an open file cannot be removed
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


def was_let_go(path: Path) -> bool:
    """Say whether the process that held a file is gone; False where there is no such file, or it cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return try_lock(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def clear(directory: Path) -> list[str]:
    """Remove the files in a directory that were let go; return their names."""
    gone: list[str] = []
    with contextlib.suppress(OSError):
        for path in sorted(directory.iterdir()):
            if was_let_go(path):
                path.unlink(missing_ok=True)
                gone.append(path.name)
    return gone


if sys.platform == "win32":  # pragma: no cover - the other half runs elsewhere
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Lock an open file unless another process, or another descriptor of this one, has done so."""
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Lock an open file unless another process, or another descriptor of this one, has done so."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
