"""The outside log: what a worker knows it was promised, written where a SIGKILL cannot reach it.

One line per event, each one `write`: what was written is in the page cache and survives its process. A kill can tear
the last line; the next life of the worker ends it, and it counts as never written.
"""

import os
from collections.abc import Iterator
from pathlib import Path

LIFE = "L"  # a process began: LIFE number
SENT = "S"  # send() returned: SENT id priority number
STORED = "A"  # a receipt said stored: STORED number
GOT = "R"  # a message was delivered: GOT id attempt number
DONE = "D"  # done() returned: DONE id
QUIET = "Q"  # nothing is left to do: QUIET


class Journal:
    """The log of one worker, to be written to."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._handle).st_size
        if size and os.pread(self._handle, 1, size - 1) != b"\n":
            os.write(self._handle, b"\n")

    def write(self, *words: object) -> None:
        """Add a line."""
        os.write(self._handle, " ".join(map(str, words)).encode() + b"\n")

    def close(self) -> None:
        os.close(self._handle)


def read_lines(path: Path) -> Iterator[list[str]]:
    """Return the words of every whole line."""
    if path.exists():
        for line in path.read_bytes().split(b"\n")[:-1]:
            yield line.decode().split()


class Watch:
    """Follows the log of one worker while it is written, for the present life of the worker.

    Attributes:
        sent: How many sends have returned.
        stored: How many of them are known to be stored.
        got: How many messages were delivered.
        done: How many of them are finished.
        quiet: True when nothing is left to do.
        total: How many sends have returned in all lives.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = b""
        self.total = 0
        self.forget()

    def forget(self) -> None:
        """A new life begins: read past what the last one has left."""
        self._take()
        self._rest = b""
        self.sent = self.stored = self.got = self.done = 0
        self.quiet = False

    def look(self) -> None:
        """Take in what was written since the last look."""
        for line in self._take():
            kind = line[:1].decode()
            self.sent += kind == SENT
            self.stored += kind == STORED
            self.got += kind == GOT
            self.done += kind == DONE
            self.quiet = self.quiet or kind == QUIET

    def _take(self) -> list[bytes]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.total += sum(line[:1].decode() == SENT for line in lines)
        return lines
