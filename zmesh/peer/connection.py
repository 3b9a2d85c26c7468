"""The little that the store needs of a database connection, and the way from SQLite's error codes to words.

The store never sees a `sqlite3` or `apsw` exception: whatever implements `Connection` raises `StoreError` (`StoreFull`
when the disk is full) made by `explain`, and nothing else for what goes wrong in the database. A connection must
never be shared between two threads at once.
"""

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakSet

from zmesh.errors import StoreError, StoreFull

CACHED_STATEMENTS: Final = 512  # every command has at most 9 sizes, see `op_writer`: all of them stay prepared
LOCK_PATIENCE: Final = 1.0  # seconds to wait for another program that has just looked into the file
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


class SqliteConnection:
    """A `Connection` of Python's own sqlite3 module."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            StoreError: It cannot be opened.
        """
        self._path = path
        try:
            self._connection = sqlite3.connect(
                path,
                timeout=LOCK_PATIENCE,
                isolation_level=None,
                check_same_thread=False,  # opened by one thread, then handed to the writer's
                cached_statements=CACHED_STATEMENTS,
            )
        except sqlite3.Error as error:
            raise self._explain(error) from error
        self._execute = self._connection.execute
        _inherited.add(self)

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
        try:
            return self._execute(sql, params).fetchall()
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def close(self) -> None:
        """As in `Connection`."""
        self._connection.close()

    def abandon(self) -> None:
        """Never close the connection, not even at the end of the process: it belongs to the parent.

        The locks that tell SQLite of the parent are not inherited; to close it here would delete the parent's WAL, and
        with it what the parent has acknowledged.
        """
        import ctypes  # noqa: PLC0415 - only a forked child needs it

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._execute = self._connection.execute

    def _explain(self, error: sqlite3.Error) -> StoreError:
        return explain(getattr(error, "sqlite_errorcode", 1), str(error), self._path)


_inherited: WeakSet[SqliteConnection] = WeakSet()


def _abandon_inherited() -> None:
    for connection in list(_inherited):
        connection.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_inherited)


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
