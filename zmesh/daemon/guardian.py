"""`python -m zmesh.daemon.guardian`: runs one adapter for the daemon, and ends it when the daemon is gone.

A daemon that is killed cannot clear up. So each adapter is the child of a small process that holds a pipe from the
daemon: at its end the adapter's whole process group is ended. It also holds the adapter's lock for as long as anything
of it is there, so that there are never two; and it keeps what the adapter prints, so that no disk fills.

The daemon says what to run in one line of JSON, and is told in such lines what became of it. This module must never
wait for the adapter to read or to end by itself once the daemon is gone.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from zmesh.errors import MeshError, PeerRunning
from zmesh.peer.adapter_settings import OURS
from zmesh.peer.lock_file import LockFile

PATIENCE: Final = 5.0  # seconds for an adapter that was told to end; then it is killed
KILLED: Final = 2.0  # seconds for what was killed to be gone: the kernel needs milliseconds, unless a disk hangs
LAST_WORDS: Final = 0.5  # seconds to read what it has printed: who has left the group may hold its output still
LOG_BYTES: Final = 1 << 20  # of one log file, as the daemon's own
LOGS: Final = 3  # older ones that are kept
PID_BYTES: Final = 20
SAID: Final = 200  # characters of an adapter's last line that are told
READ: Final = 64 * 1024  # bytes at a time
LOOK_EVERY: Final = 0.02
_NOTHING: Final = -1
_KILL: Final = 9  # SIGKILL, for which Windows has no name
_LINUX_PDEATHSIG, _LINUX_SUBREAPER = 1, 36  # of prctl(2)


def harmless(text: str) -> str:
    """Return a text as it can be told in one line: cut, and with nothing in it that steers a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:SAID])


class Log:
    """What an adapter prints, in files of bounded size, and the last line of it."""

    def __init__(self, path: Path) -> None:
        """Name the file; where it cannot be written, nothing is."""
        self._path = path
        self._file = _NOTHING
        self._size = 0
        self._end = b""

    def take(self, data: bytes) -> None:
        """Take what the adapter has printed."""
        self._end = (self._end + data)[-READ:]
        self._write(data)

    def note(self, text: str) -> None:
        """Write a line of our own."""
        at_start = not self._end or self._end.endswith(b"\n")
        line = f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n"
        self._write((line if at_start else f"\n{line}").encode(errors="replace"))

    @property
    def last(self) -> str:
        """The last line that has something in it, as it can be told."""
        lines = self._end.decode(errors="replace").split("\n")
        return harmless(next((line.strip() for line in reversed(lines) if line.strip()), ""))

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the disk is full: the adapter works on
            if self._size + len(data) > LOG_BYTES:
                self._rotate()
            if self._file == _NOTHING:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                self._size = os.fstat(self._file).st_size
                if self._size + len(data) > LOG_BYTES:
                    self._write(data)
                    return
            self._size += os.write(self._file, data)

    def _rotate(self) -> None:
        if self._file != _NOTHING:
            os.close(self._file)
        self._file, self._size = _NOTHING, 0
        for number in range(LOGS, 0, -1):
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):
                newer.replace(self._path.with_name(f"{self._path.name}.{number}"))


class Group:
    """The process group of an adapter."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        """Take the process that leads it."""
        self._process = process
        self._ending = False
        self._over = threading.Event()

    def end(self) -> None:
        """Have it end, now or with force after `PATIENCE`; returns at once, and may be called again."""
        if not self._ending:
            self._ending = True
            threading.Thread(target=self._end, daemon=True).start()

    def wait(self) -> int:
        """Wait until the adapter and whatever it has left behind in its group are gone; return its exit code."""
        code = self._wait()
        for number, patience in ((signal.SIGTERM, PATIENCE), (_KILL, KILLED)):
            self._signal(number)
            if self._gone_within(patience):
                break
        self._over.set()
        return code

    def _end(self) -> None:
        self._signal(signal.SIGTERM)
        if not self._over.wait(PATIENCE):
            self._signal(_KILL)

    def _gone_within(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self._signal(0):
            if time.monotonic() > end:
                return False
            time.sleep(LOOK_EVERY)
        return True

    if sys.platform == "win32":  # pragma: no cover - untested

        def _wait(self) -> int:
            return self._process.wait()

        def _signal(self, number: int) -> bool:
            """End the tree; what a process that has ended by itself has left behind cannot be found here."""
            if self._process.poll() is not None:
                return False
            if number == signal.SIGTERM:
                with contextlib.suppress(OSError):
                    os.kill(self._process.pid, signal.CTRL_BREAK_EVENT)
            elif number:
                command = ["taskkill", "/F", "/T", "/PID", str(self._process.pid)]
                subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
            return True

    else:

        def _wait(self) -> int:
            while True:
                pid, status = os.waitpid(-1, 0)
                if pid == self._process.pid:
                    self._process.returncode = os.waitstatus_to_exitcode(status)
                    return self._process.returncode

        def _signal(self, number: int) -> bool:
            """Send a signal to all of it; return False if nothing is there."""
            if self._process.returncode is not None:
                with contextlib.suppress(ChildProcessError):  # on Linux, what the adapter has left behind is our child
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass
            try:
                os.killpg(self._process.pid, number)
            except (ProcessLookupError, PermissionError):  # the latter on macOS, of a group that has just ended
                return False
            return True


def main() -> int:
    """Run what the daemon says; return when nothing of it is there any more."""
    order = _order()
    if order is None:
        return 0
    lock = LockFile(Path(order["lock"]))
    before = _locked(lock, Path(order["lock"]))
    if before is None:
        return 0
    _clear(before, {os.fsencode(f"{name}={order['environment'].get(name, '')}") for name in OURS})
    log = Log(Path(order["log"]))
    try:
        process = _start(order)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.note(f"cannot be started: {error}")
        _tell({"refused": harmless(str(error))})
        return 1
    group = Group(process)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: group.end())
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # somebody means the daemon, and all that is called as it is
    log.note(f"started as process {process.pid}")
    _tell({"started": process.pid})
    threading.Thread(target=_watch_daemon, args=(group.end,), daemon=True).start()
    relay = threading.Thread(target=_relay, args=(process, log), daemon=True)
    relay.start()
    code = group.wait()
    relay.join(LAST_WORDS)
    log.note(f"ended with {code}")
    _tell({"ended": code, "said": log.last})
    return 0


def _order() -> dict[str, Any] | None:
    """Read what to run; None when the daemon has gone."""
    text = b""
    while not text.endswith(b"\n"):
        data = os.read(0, READ)
        if not data:
            return None
        text += data
    order: dict[str, Any] = json.loads(text)
    return order


def _locked(lock: LockFile, path: Path) -> int | None:
    """Wait until no guardian of an earlier daemon is there.

    Returns:
        Which process had the lock last, 0 for none; None when the daemon goes meanwhile.
    """
    told = False
    while True:
        try:
            before = _pid_in(path)
            lock.acquire()
        except PeerRunning as error:
            if not told:
                _tell({"waits": error.pid})
            told = True
        except MeshError as error:
            _tell({"refused": harmless(str(error))})
            return None
        else:
            return before
        if os.name != "posix":  # pragma: no cover - pipes cannot be asked there; its end is seen after the start
            time.sleep(LOOK_EVERY)
        elif select.select([0], [], [], LOOK_EVERY)[0]:
            return None


def _pid_in(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_bytes()[:PID_BYTES])
    return 0


def _clear(guardian: int, marks: set[bytes]) -> None:
    """Kill what is left of an adapter whose guardian was killed together with its daemon; on Linux.

    It is in that guardian's session, and its environment says whose adapter it is.
    """
    end = time.monotonic() + KILLED
    while guardian and time.monotonic() < end and (left := _in_session(guardian, marks)):
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, _KILL)
        time.sleep(LOOK_EVERY)


def _in_session(leader: int, marks: set[bytes]) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
            session = int((process / "stat").read_bytes().rpartition(b")")[2].split()[3])
            if session == leader and marks <= set((process / "environ").read_bytes().split(b"\0")):
                found.append(int(process.name))
    return found


def _start(order: dict[str, Any]) -> "subprocess.Popen[bytes]":
    windows = os.name == "nt"
    return subprocess.Popen(  # noqa: S603 - what the user's own configuration names
        order["command"],
        env=order["environment"],
        cwd=order["directory"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        process_group=None if windows else 0,
        creationflags=0x200 if windows else 0,  # CREATE_NEW_PROCESS_GROUP
        preexec_fn=_bind(),  # noqa: PLW1509 - no other thread is there yet
    )


def _bind() -> Callable[[], None] | None:
    """On Linux: take in what the adapter leaves behind; return what ends it should this process be killed."""
    if sys.platform != "linux":
        return None
    import ctypes  # noqa: PLC0415 - there only

    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    prctl(_LINUX_SUBREAPER, 1, 0, 0, 0)
    guardian = os.getpid()

    def end_with_us() -> None:
        prctl(_LINUX_PDEATHSIG, _KILL, 0, 0, 0)
        if os.getppid() != guardian:
            os._exit(1)

    return end_with_us


def _watch_daemon(gone: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, READ):
            pass
    gone()


def _relay(process: "subprocess.Popen[bytes]", log: Log) -> None:
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError):
        while data := process.stdout.read(READ):
            log.take(data)


def _tell(what: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody hears it any more
        os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    code = main()
    os._exit(code)  # the threads wait for what may never come
