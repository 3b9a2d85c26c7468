"""The SQLite file under the membership logs, invitations and grants: opened safely, changed by one process at a time.

All peers of a device share the file. This module must never open one that other users can read or change, nor let an
error of SQLite out that does not name the file and the way out.
"""

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from zmesh.errors import TrustError
from zmesh.trust.forking import Abandoned, forks, leave

VERSION: Final = 2  # of the schema; 2: grants and limits
BUSY: Final = 5.0  # seconds to wait for another process that writes; it writes a few rows
_SCHEMA: Final = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS entry (author BLOB NOT NULL, seq INTEGER NOT NULL, payload BLOB NOT NULL,
        signature BLOB NOT NULL, PRIMARY KEY (author, seq)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS invitation (secret TEXT PRIMARY KEY, nameplate TEXT NOT NULL, expires REAL NOT NULL,
        attempts INTEGER NOT NULL, failed INTEGER NOT NULL, used TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS "grant" (capability TEXT NOT NULL, device TEXT NOT NULL, agent TEXT NOT NULL,
        allow INTEGER NOT NULL, until REAL, at REAL NOT NULL, PRIMARY KEY (capability, device, agent)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS peer_limit (device TEXT PRIMARY KEY, messages REAL NOT NULL, octets REAL NOT NULL,
        size INTEGER NOT NULL) WITHOUT ROWID;
    PRAGMA user_version = {VERSION};
    COMMIT;
"""


class TrustFile:
    """One connection to the file; for one thread.

    Attributes:
        path: The file.
        inside: As in `Forking`.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, making it with mode 0600 if it is not there.

        Raises:
            TrustError: It cannot be opened, is open to other users, or was written by a later zmesh.
        """
        self.path = path
        self.inside = threading.RLock()
        self._connection: sqlite3.Connection | Abandoned = Abandoned()
        forks.add(self)
        with self._explained():
            _check(path)
            self._connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self.inside:
            self._connection.close()

    def abandon(self) -> None:
        """As in `Forking`."""
        leave(self._connection)
        self._connection = Abandoned()
        self.inside = threading.RLock()

    def version(self) -> int:
        """Return a number that differs from the last one when another connection has changed the file."""
        return int(self.rows("PRAGMA data_version")[0][0])

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement and return what it finds.

        Raises:
            TrustError: SQLite refused.
        """
        with self._explained():
            return self._connection.execute(sql, parameters).fetchall()

    def change(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run a statement within `write`; return how many rows it changed.

        Raises:
            TrustError: SQLite refused.
        """
        assert self._busy()
        with self._explained():
            return self._connection.execute(sql, parameters).rowcount

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        """Change the file, alone: all of it is kept, on disk, or nothing. Within itself it is one change.

        Raises:
            TrustError: SQLite refused, or another process does not let go of the file.
        """
        if self._busy():
            yield
            return
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._explained():
                self._connection.execute("COMMIT")
        except BaseException:
            if self._busy():
                with self.inside:
                    self._connection.execute("ROLLBACK")
            raise

    def _busy(self) -> bool:
        return self._connection.in_transaction

    def _prepare(self) -> None:
        end = time.monotonic() + BUSY
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError:  # two that open a new file at once: SQLite does not wait here
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
        self._connection.execute("PRAGMA synchronous=FULL")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise TrustError(f"{self.path} was written by a later zmesh: upgrade zmesh on this machine")
        if version < VERSION:
            self._connection.executescript(_SCHEMA)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Be inside SQLite; what it says is told in words."""
        forks.let_go_first()
        try:
            with self.inside:
                yield
        except (OSError, sqlite3.Error) as error:
            raise TrustError(
                f"cannot use {self.path}, which holds who is trusted: {error}; make its directory writable for you, "
                "or restore the file from a backup"
            ) from error


def _check(path: Path) -> None:
    flags = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY"))
    handle = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    try:
        status = os.fstat(handle)
    finally:
        os.close(handle)
    if os.name != "posix":  # elsewhere the user profile's access list protects the file
        return
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise TrustError(
            f"{path} holds who is trusted, and is open to others (owner {status.st_uid}, mode "
            f"{status.st_mode & 0o777:04o}); if nobody has changed it, make it yours alone: "
            f"chown {os.geteuid()} {path} and chmod 600 {path}"
        )
