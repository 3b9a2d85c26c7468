"""SQLite in a process that forks: nobody is inside it meanwhile, and the child lets go of what it finds.

The child would inherit SQLite's own mutexes as they are, locked for ever if need be, and hang in whatever it does with
SQLite. All connections of the process take part, those of stores and of who is trusted. This module must never close a
connection of the parent's.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol
from weakref import WeakSet

FORK_PATIENCE: Final = 5.0  # seconds that a fork waits for statements under way; the disk hangs if they take longer


class Forking(Protocol):
    """A connection of a process that may fork.

    Attributes:
        inside: Held by the thread that is inside SQLite, and by one that forks.
    """

    inside: threading.RLock

    def abandon(self) -> None:
        """In the child: let go of the connection, with `leave`, and take a new `inside`."""


class Abandoned:
    """What a forked child finds in place of its parent's connection. It never enters SQLite."""

    in_transaction = False
    total_changes = 0

    def execute(self, _sql: str, _params: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Refuse."""
        raise sqlite3.ProgrammingError("it belongs to the process that this one was forked from")

    executescript = execute

    def close(self) -> None:
        """Leave it to the parent."""


def leave(connection: object) -> None:
    """Never close a connection, not even at the end of the process: it belongs to the parent.

    The locks that tell SQLite of the parent are not inherited; to close it here would delete the parent's WAL, and
    with it what the parent has acknowledged.
    """
    import ctypes  # noqa: PLC0415 - only a forked child needs it

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


class Forks:
    """Sees to it that no thread is inside SQLite while the process forks, and that the child lets go of what it finds.

    Attributes:
        gate: Held by a thread that forks, and for an instant by one that opens a connection.
        under_way: True while a thread forks, or waits for it.
    """

    def __init__(self) -> None:
        """Begin without connections."""
        self.gate = threading.RLock()
        self.under_way = False
        self._connections: WeakSet[Forking] = WeakSet()
        self._held: list[threading.RLock] = []

    def add(self, connection: Forking) -> None:
        """Let a connection take part, before it is opened."""
        with self.gate:
            self._connections.add(connection)

    def let_go_first(self) -> None:
        """Let a fork under way go first: a thread with many statements would keep it waiting."""
        if self.under_way:
            with self.gate:
                pass

    def before(self) -> None:
        """Wait until nobody is inside SQLite, and let nobody in."""
        self.gate.acquire()
        self.under_way = True
        end = time.monotonic() + FORK_PATIENCE
        for connection in list(self._connections):
            inside = connection.inside
            if inside.acquire(timeout=max(0.0, end - time.monotonic())):
                self._held.append(inside)

    def after_in_parent(self) -> None:
        """Go on."""
        while self._held:
            self._held.pop().release()
        self.under_way = False
        self.gate.release()

    def after_in_child(self) -> None:
        """Let go of everything."""
        for connection in list(self._connections):
            connection.abandon()
        self._held.clear()
        self.under_way = False
        self.gate = threading.RLock()  # as other threads may have waited for the old one


forks = Forks()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=forks.before, after_in_parent=forks.after_in_parent, after_in_child=forks.after_in_child)
