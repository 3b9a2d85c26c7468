"""The little that the store needs of a database connection, and the way from SQLite's error codes to words.

The store never sees a `sqlite3` or `apsw` exception: whatever implements `Connection` raises `StoreError` (`StoreFull`
when the disk is full) made by `explain`, and nothing else for what goes wrong in the database. A connection must
never be shared between two threads at once, and no thread may be inside SQLite while the process forks: the child
would inherit SQLite's own mutexes as they are, locked for ever if need be, and hang in whatever it does with SQLite.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakSet

from zmesh.errors import StoreError, StoreFull

CACHED_STATEMENTS: Final = 512  # every command has at most 9 sizes, see `op_writer`: all of them stay prepared
LOCK_PATIENCE: Final = 1.0  # seconds to wait for another program that has just looked into the file
FORK_PATIENCE: Final = 5.0  # seconds that a fork waits for statements under way; the disk hangs if they take longer
OLDEST_SQLITE: Final = (3, 35, 0)  # 32,766 parameters, UPSERT in triggers

# Result codes of SQLite (https://www.sqlite.org/rescode.html); the low byte of an extended code.
_FULL: Final = 13
_REASONS: Final = {
    3: "access to {path} was denied. Give the file and its directory to this user",
    5: "{path} is in use by another program. Close whatever has it open",
    6: "{path} is in use by another program. Close whatever has it open",
    7: "there is not enough memory to work on {path}. Free some and try again",
    8: "{path} is read-only. Mount the file system writable and make file and directory writable",
    10: "reading or writing {path} failed ({text}). Check the disk, its quota and the system's log",
    11: "{path} is damaged ({text}). Restore it from a backup, or move its directory away to begin with an empty store",
    14: "{path} cannot be opened. Check that its directory exists and is writable, and the limit of open files",
    _FULL: "the disk is full: {path} cannot grow. Free some space on its file system",
    26: "{path} is not a zmesh store. Move it away, and an empty store takes its place",
}

Row = tuple[Any, ...]


class Connection(Protocol):
    """A connection in autocommit mode: transactions begin and end by statements."""

    @property
    def in_transaction(self) -> bool:
        """True between BEGIN and COMMIT or ROLLBACK."""
        ...

    @property
    def total_changes(self) -> int:
        """Rows inserted, changed or deleted since the connection was opened, by triggers too."""
        ...

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """Run one statement to its end and return its rows.

        Raises:
            StoreError: The database refused; the text is for people.
        """
        ...

    def close(self) -> None:
        """Close it; idempotent."""
        ...


Connect = Callable[[Path], Connection]


class _Abandoned:
    """What a forked child finds in place of its parent's connection. It never enters SQLite."""

    in_transaction = False
    total_changes = 0

    def execute(self, _sql: str, _params: Sequence[Any] = ()) -> sqlite3.Cursor:
        raise sqlite3.ProgrammingError("it belongs to the process that this one was forked from")

    def close(self) -> None:
        """Leave it to the parent."""


class SqliteConnection:
    """A `Connection` of Python's own sqlite3 module."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            StoreError: It cannot be opened.
        """
        self._path = path
        self._connection: sqlite3.Connection | _Abandoned = _Abandoned()
        self.inside = threading.RLock()  # held by the thread that is inside SQLite, and by one that forks
        _forks.add(self)
        try:
            with self.inside:
                self._connection = sqlite3.connect(
                    path,
                    timeout=LOCK_PATIENCE,
                    isolation_level=None,
                    check_same_thread=False,  # opened by one thread, then handed to the writer's
                    cached_statements=CACHED_STATEMENTS,
                )
        except sqlite3.Error as error:
            raise self._explain(error) from error
        self._execute: Callable[[str, Sequence[Any]], sqlite3.Cursor] = self._connection.execute

    @property
    def in_transaction(self) -> bool:
        """As in `Connection`."""
        return self._connection.in_transaction

    @property
    def total_changes(self) -> int:
        """As in `Connection`."""
        return self._connection.total_changes

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """As in `Connection`."""
        if _forks.under_way:  # let it go first: a thread with many statements would keep it waiting
            with _forks.gate:
                pass
        try:
            with self.inside:
                return self._execute(sql, params).fetchall()
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def close(self) -> None:
        """As in `Connection`."""
        with self.inside:
            self._connection.close()

    def abandon(self) -> None:
        """Never close the connection, not even at the end of the process: it belongs to the parent.

        The locks that tell SQLite of the parent are not inherited; to close it here would delete the parent's WAL, and
        with it what the parent has acknowledged.
        """
        import ctypes  # noqa: PLC0415 - only a forked child needs it

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
        self._connection = _Abandoned()
        self._execute = self._connection.execute
        self.inside = threading.RLock()  # the thread that had the old one is not here

    def _explain(self, error: sqlite3.Error) -> StoreError:
        return explain(getattr(error, "sqlite_errorcode", 1), str(error), self._path)


class _Forks:
    """Sees to it that no thread is inside SQLite while the process forks, and that the child lets go of what it finds.

    Attributes:
        gate: Held by a thread that forks, and for an instant by one that opens a connection.
        under_way: True while a thread forks, or waits for it.
    """

    def __init__(self) -> None:
        self.gate = threading.RLock()
        self.under_way = False
        self._connections: WeakSet[SqliteConnection] = WeakSet()
        self._held: list[threading.RLock] = []

    def add(self, connection: SqliteConnection) -> None:
        with self.gate:
            self._connections.add(connection)

    def before(self) -> None:
        self.gate.acquire()
        self.under_way = True
        end = time.monotonic() + FORK_PATIENCE
        for connection in list(self._connections):
            inside = connection.inside
            if inside.acquire(timeout=max(0.0, end - time.monotonic())):
                self._held.append(inside)

    def after_in_parent(self) -> None:
        while self._held:
            self._held.pop().release()
        self.under_way = False
        self.gate.release()

    def after_in_child(self) -> None:
        for connection in list(self._connections):
            connection.abandon()
        self._held.clear()
        self.under_way = False
        self.gate = threading.RLock()  # as other threads may have waited for the old one


_forks = _Forks()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_forks.before, after_in_parent=_forks.after_in_parent, after_in_child=_forks.after_in_child
    )


def sqlite_connect(path: Path) -> Connection:
    """Open a connection of Python's sqlite3 module.

    Raises:
        StoreError: The file cannot be opened, or SQLite is too old.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} is too old for {path}: zmesh needs 3.35. Use a newer Python or system"
        )
    return SqliteConnection(path)


def explain(code: int, text: str, path: Path) -> StoreError:
    """Turn a result code of SQLite into an error that names the file and the way out.

    Args:
        code: The code, extended or not.
        text: What SQLite says.
        path: The database file.
    """
    primary = code & 0xFF
    reason = _REASONS.get(primary, "{path} could not be read or written ({text}). Please report this")
    kind = StoreFull if primary == _FULL else StoreError
    return kind(reason.format(path=path, text=text))


def failed_commit(reason: str) -> StoreError:
    """Make the error of a commit that failed, from its reason in words."""
    kind = StoreFull if "disk is full" in reason else StoreError
    return kind(f"nothing was stored: {reason}")
