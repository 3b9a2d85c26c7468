"""Starting, watching and ending processes of our own: each by its pid, and none outlives the one that started it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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


class Child:
    """A Python module in a process of its own. It is to end itself when its standard input ends.

    Attributes:
        name: For people.
        pid: Its process id.
        log: What it wrote to its standard error.
    """

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

    def __repr__(self) -> str:
        return f"<{self.name}, process {self.pid}>"

    @property
    def running(self) -> bool:
        """True until it has ended."""
        return self._process.poll() is None

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

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
        self._process.wait(10)
        self._forget()

    def end(self, seconds: float = 20) -> int:
        """Wait for its own end; return its exit status.

        Raises:
            Overdue: It did not end; its log is in the text.
        """
        self._forget()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Overdue(f"{self} does not end within {seconds:g} s\n{self.tail()}") from None

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            AssertionError: It has ended by itself; its log is in the text.
        """
        assert self.running, f"{self} ended by itself with {self._process.returncode}\n{self.tail()}"

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-_TAIL:] if self.log.exists() else ""

    def _state(self) -> str:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except OSError:
            return "T"  # no /proc to see it in

    def _forget(self) -> None:
        """Close our end of its input, which ends it if nothing else has."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
