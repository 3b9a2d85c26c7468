"""Starting, watching and ending processes of our own: each by its pid, and none outlives the one that started it."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INTERVAL = 0.005  # seconds between two looks
_TAIL = 3000  # characters of a log that are shown when something went wrong


class Overdue(AssertionError):  # noqa: N818 - names what happened
    """Something that had to happen did not happen in time."""


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return as soon as `condition()` is true.

    Raises:
        Overdue: It was not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise Overdue(f"{what}: not within {seconds:g} s")
        time.sleep(INTERVAL)


@contextlib.contextmanager
def disk_directory(prefix: str) -> Iterator[Path]:
    """Make a directory on a real disk where there is one, and remove it in the end: /tmp may be memory."""
    durable = Path("/var/tmp")  # noqa: S108 - mkdtemp makes the names in it
    place = durable if durable.is_dir() and os.access(durable, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Process(ABC):
    """A process of our own. It is to end itself when nobody can give it orders any more.

    Attributes:
        name: For people.
        pid: Its process id.
        log: What it wrote to its standard error.
    """

    name: str
    pid: int
    log: Path

    def __repr__(self) -> str:
        return f"<{self.name}, process {self.pid}>"

    @property
    @abstractmethod
    def running(self) -> bool:
        """True until it has ended."""

    @abstractmethod
    def tell(self, line: str) -> None:
        """Give it an order, one line."""

    @abstractmethod
    def _join(self, seconds: float) -> int | None:
        """Wait for its end; return its exit status, None when it still runs."""

    @abstractmethod
    def _forget(self) -> None:
        """Give no more orders, which ends it if nothing else has."""

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands still: the signal is only on its way when `kill` returns."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: self._state() in "TtZX", 10, f"{self} stands still")

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        assert self._join(10) is not None, f"{self} outlives a SIGKILL"
        self._forget()

    def end(self, seconds: float = 20) -> int:
        """Wait for its own end; return its exit status.

        Raises:
            Overdue: It did not end; its log is in the text.
        """
        status = self._join(seconds)
        if status is None:
            raise Overdue(f"{self} does not end within {seconds:g} s\n{self.tail()}")
        self._forget()
        return status

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            AssertionError: It has ended by itself; its log is in the text.
        """
        assert self.running, f"{self} ended by itself with {self._join(0)}\n{self.tail()}"

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-_TAIL:] if self.log.exists() else ""

    def _state(self) -> str:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except OSError:
            return "T"  # no /proc to see it in


class Child(Process):
    """A Python module run by an interpreter of its own; its orders come on its standard input."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], log: Path, before: Sequence[str] = ()) -> None:
        """Start it.

        Args:
            name: For people.
            module: As in `python -m`.
            arguments: Of its command line.
            log: Where its standard error goes, behind what is there already.
            before: A program that ends in running another one, with its arguments.
        """
        self.name, self.log = name, log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*before, sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                env={key: value for key, value in os.environ.items() if key not in ("ZMESH_HOME", "ZMESH_DISCOVERY")},
            )
        self.pid = self._process.pid

    @property
    def running(self) -> bool:
        """True until it has ended."""
        return self._process.poll() is None

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _join(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def _forget(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()


class Fork(Process):
    """A function in a process that is forked from one that has imported everything already: up in no time.

    The function is called with the arguments and the descriptor its orders come from.
    """

    def __init__(self, name: str, function: Callable[..., None], arguments: Sequence[str], log: Path) -> None:
        """Start it; parameters as for `Child`."""
        self.name, self.log = name, log
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([function.__module__])
        theirs, self._orders = context.Pipe(duplex=False)
        self._process = context.Process(target=_forked, args=(function, arguments, str(log), theirs), name=name)
        self._process.start()
        theirs.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def running(self) -> bool:
        """True until it has ended."""
        return self._process.is_alive()

    def tell(self, line: str) -> None:
        """Write a line to where its orders come from."""
        os.write(self._orders.fileno(), line.encode() + b"\n")

    def _join(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode

    def _forget(self) -> None:
        self._orders.close()


def _forked(function: Callable[..., None], arguments: Sequence[str], log: str, orders: Connection) -> None:
    """Run the function in the new process."""
    errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    os.close(errors)
    function(*arguments, orders.fileno())
