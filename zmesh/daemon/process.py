"""Starting the daemon: once, however many clients want it at the same time, and apart from whoever started it.

Whoever gets the starter's lock starts it, the others wait for the socket. Where it is installed as a service, the
system is asked to; else the daemon is a process of its own session, nobody's child, with nothing of an agent's
environment in it. This module must never start one that runs already, nor pass on a secret that was meant for somebody
else.
"""

import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from zmesh.daemon.place import LOCK, Place
from zmesh.errors import DaemonUnreachable, PeerRunning
from zmesh.peer.lock_file import LockFile

LOG: Final = "daemon.log"
ERRORS: Final = "daemon.err"  # what a daemon says that ends before its log is open
STARTING: Final = "starting"
PATIENCE: Final = 20.0  # seconds for the daemon to listen; it takes 0.5 s on an idle machine
LOOK_EVERY: Final = 0.02
REMOVED: Final = 4.0  # seconds for a daemon that runs to see that its directory was removed: twice what it takes
LAST_WORDS: Final = 2000  # bytes of its log that are shown when it does not start
ALIVE: Final = "ZMESH_ALIVE"  # names the descriptor that the daemon holds open while it starts
SECRETS: Final = ("CLAUDECODE", "CLAUDE_PID", "ZMESH_JOIN", "ZMESH_AGENT", "ZMESH_ADAPTER", "NOTIFY_SOCKET", ALIVE)
SECRET_PREFIXES: Final = ("CLAUDE_CODE_", "CODEX_", "ANTHROPIC_", "OPENAI_", "GEMINI_")
SECRET_SUFFIXES: Final = ("_TOKEN", "_API_KEY", "_SECRET", "_PASSWORD")
PYTHON_PATH: Final = "PYTHONPATH"
RUNS_ALREADY: Final = "the daemon of this home runs already"
_APART: Final = 0x08 | 0x200 if os.name == "nt" else 0  # DETACHED_PROCESS, CREATE_NEW_PROCESS_GROUP


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what belongs to the agent that happens to start the daemon."""
    kept = {
        name: value
        for name, value in environment.items()
        if name not in SECRETS and not name.startswith(SECRET_PREFIXES) and not name.upper().endswith(SECRET_SUFFIXES)
    }
    if PYTHON_PATH in kept:  # it works in another directory
        kept[PYTHON_PATH] = os.pathsep.join(str(Path(part).absolute()) for part in kept[PYTHON_PATH].split(os.pathsep))
    return kept


def start(home: Path, place: Place, words: Sequence[str] = ()) -> None:
    """Start the daemon of a home if it does not run; return when it listens.

    Args:
        home: Of its state.
        place: Where it listens.
        words: What the command line of the daemon says besides.

    Raises:
        DaemonUnreachable: It does not; the message shows the end of its log.
    """
    end = time.monotonic() + PATIENCE
    starter = LockFile(place.directory / STARTING)
    started: _Started | None = None
    mine = False
    try:
        while not listens(place):
            if not mine and not place.directory.is_dir():
                _check_removed(place, end - PATIENCE)
                continue
            mine = mine or _acquired(starter)  # else another client starts it
            if mine and started is None and not listens(place):
                if words or not _by_service(home, place):
                    started = _Started(home, place, words)
            elif started is not None and started.ended and not listens(place):
                _check_end(place)
                started.forget()
                started = None  # it is started again
            if time.monotonic() > end:
                raise DaemonUnreachable(f"the daemon does not come up within {PATIENCE:g} s: {_last_words(place)}")
            time.sleep(LOOK_EVERY)
    except OSError as error:
        raise DaemonUnreachable(f"the daemon cannot be started: {error}") from error
    finally:
        starter.release()
        if started is not None:
            started.forget()


def _check_removed(place: Place, since: float) -> None:
    """Wait for a daemon that runs to make its directory again; by an uninstallation it is removed for good.

    Raises:
        DaemonUnreachable: None has.
    """
    if time.monotonic() > since + REMOVED:
        raise DaemonUnreachable(
            f"{place.directory} was removed, and no daemon runs that makes it again: was zmesh uninstalled? "
            "Whoever connects anew starts one"
        )
    time.sleep(LOOK_EVERY)


def _acquired(lock: LockFile) -> bool:
    try:
        lock.acquire()
    except PeerRunning:
        return False
    return True


def _check_end(place: Place) -> None:
    """See why a daemon has ended at once. It may have been killed, or have seen another one that has gone since.

    Raises:
        DaemonUnreachable: It has said why, and would say it again.
    """
    said = _read(place.directory / ERRORS)
    if not said and _is_full(place):
        raise DaemonUnreachable(f"the daemon cannot start: the disk of {place.directory} is full. Free some space")
    if said and RUNS_ALREADY not in said:
        raise DaemonUnreachable(f"the daemon has ended at once: {said}")


def _is_full(place: Place) -> bool:
    if os.name != "posix":
        return False
    disk = os.statvfs(place.directory)
    return disk.f_bavail == 0 or (disk.f_files > 0 and disk.f_favail == 0)


def listens(place: Place) -> bool:
    """Say whether a daemon is there."""
    if place.socket_path is None and _acquired(lock := LockFile(place.directory / LOCK)):
        lock.release()  # what it has left behind names a port that others may have by now
        return False
    try:
        place.connect(1.0).close()
    except TimeoutError:
        return True  # it has much to do, or was stopped
    except OSError:
        return False
    return True


def _by_service(home: Path, place: Place) -> bool:
    """Have the system start it, where it is installed as a service: it is then looked after."""
    from zmesh.daemon.service import begin  # noqa: PLC0415 - only where it has to be started

    return begin(home, place)


class _Started:
    """A daemon that was started and may not listen yet."""

    def __init__(self, home: Path, place: Place, words: Sequence[str]) -> None:
        import subprocess  # noqa: PLC0415 - for who starts the daemon only

        environment = clean(os.environ) | {"ZMESH_HOME": str(home)}
        self._pipe = -1
        handed: tuple[int, ...] = ()
        if os.name == "posix":
            self._pipe, alive = os.pipe()
            os.set_blocking(self._pipe, False)
            handed = (alive,)
            environment[ALIVE] = str(alive)
        try:
            with (place.directory / ERRORS).open("wb") as errors:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-m", "zmesh.daemon", *words],
                    env=environment,
                    cwd=home,
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    start_new_session=True,
                    pass_fds=handed,
                    creationflags=_APART,
                )
        finally:
            for descriptor in handed:
                os.close(descriptor)
        if handed:
            self._process.wait()  # it forks at once: the daemon is nobody's child

    @property
    def ended(self) -> bool:
        """True when it has ended without listening."""
        if self._pipe < 0:
            return self._process.poll() is not None
        try:
            return os.read(self._pipe, 1) == b""
        except BlockingIOError:
            return False

    def forget(self) -> None:
        """It listens, or nobody waits for it any more."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        elif self._process.poll() is None:
            self._process.returncode = 0  # it outlives us, and that is meant


def detach() -> None:
    """Leave whoever has started this process; to be called before anything else is done."""
    if os.name == "posix" and ALIVE in os.environ and os.fork():
        os._exit(0)


def started() -> None:
    """Tell whoever has started this process that it listens."""
    alive = os.environ.pop(ALIVE, "")
    if alive.isdigit():
        with contextlib.suppress(OSError):
            os.close(int(alive))


def _last_words(place: Place) -> str:
    lock = LockFile(place.directory / LOCK)
    try:
        lock.acquire()
    except PeerRunning as error:
        who = f"process {error.pid}" if error.pid else "another process"
        return f"{who} is the daemon, and does not listen. `zmesh down` ends it, by force if it must"
    finally:
        lock.release()
    said = _read(place.directory / ERRORS) or _read(place.directory / LOG)
    return said or f"it has said nothing, see {place.directory}"


def _read(path: Path) -> str:
    try:
        return path.read_bytes()[-LAST_WORDS:].decode(errors="replace").strip()
    except OSError:
        return ""
