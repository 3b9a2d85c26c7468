"""The little that the store needs of a database connection, and the way from SQLite's error codes to words.

The store never sees a `sqlite3` or `apsw` exception: whatever implements `Connection` raises `StoreError` (`StoreFull`
when the disk is full) made by `explain`, and nothing else for what goes wrong in the database. A connection must never
be shared between two threads at once, nor may a thread be inside SQLite while the process forks.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from zmesh.errors import StoreError, StoreFull
from zmesh.trust.forking import Abandoned, forks, leave

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
        self._connection: sqlite3.Connection | Abandoned = Abandoned()
        self.inside = threading.RLock()  # held by the thread that is inside SQLite, and by one that forks
        forks.add(self)
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
        forks.let_go_first()
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
        """As in `Forking`."""
        leave(self._connection)
        self._connection = Abandoned()
        self._execute = self._connection.execute
        self.inside = threading.RLock()  # the thread that had the old one is not here

    def _explain(self, error: sqlite3.Error) -> StoreError:
        return explain(getattr(error, "sqlite_errorcode", 1), str(error), self._path)


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
