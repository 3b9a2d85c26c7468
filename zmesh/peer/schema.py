"""The tables of the store, how older stores become current ones, and the settings without which nothing is durable.

Two tables per direction: a narrow one with what is asked for and kept (state, place, id), and one with envelope and
body. An ended message leaves a small row behind, and the pages of its body are free at once; with both in one table,
ended rows keep a page for every few of them. A migration, once released, must never be edited: stores in the field ran
it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from zmesh.errors import StoreError
from zmesh.peer.connection import Connection

APPLICATION_ID: Final = int.from_bytes(b"zmsh", "big")
PAGE_BYTES: Final = 8192  # 7 messages of 1 KiB on a page; 4 KiB pages cost a tenth more per message
CACHE_KIB: Final = 8192  # pages kept in memory
CHECKPOINT_PAGES: Final = 2000  # 16 MiB of WAL are copied back at once, some 10 ms of work
CHECKED_BYTES: Final = 64 * 1024 * 1024  # a larger file is not walked page by page at the start: that takes too long
WAL_BYTES: Final = 64 * 1024 * 1024  # a larger WAL is cut when it is next begun anew
FULL: Final = 2
INCREMENTAL: Final = 2

VERSION_1: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE outbox (
        row INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, dest BLOB NOT NULL, address TEXT NOT NULL,
        klass INTEGER NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL, state INTEGER NOT NULL,
        deadline REAL, size INTEGER NOT NULL, detail TEXT NOT NULL)""",
    "CREATE TABLE outbody (row INTEGER PRIMARY KEY, envelope BLOB NOT NULL, body BLOB NOT NULL)",
    """CREATE TABLE inbox (
        row INTEGER PRIMARY KEY, id BLOB NOT NULL, device TEXT NOT NULL, source BLOB NOT NULL, mailbox TEXT NOT NULL,
        klass INTEGER NOT NULL, state INTEGER NOT NULL, attempts INTEGER NOT NULL, due REAL NOT NULL, deadline REAL,
        size INTEGER NOT NULL, UNIQUE (id, device))""",
    "CREATE TABLE inbody (row INTEGER PRIMARY KEY, envelope BLOB NOT NULL, body BLOB NOT NULL)",
    """CREATE TABLE out_stream (
        dest BLOB NOT NULL, klass INTEGER NOT NULL, epoch INTEGER NOT NULL, next_number INTEGER NOT NULL,
        mark INTEGER NOT NULL, floor INTEGER NOT NULL, floor_id BLOB NOT NULL,
        PRIMARY KEY (dest, klass)) WITHOUT ROWID""",
    """CREATE TABLE in_stream (
        source BLOB NOT NULL, klass INTEGER NOT NULL, epoch INTEGER NOT NULL, cursor INTEGER NOT NULL,
        cursor_id BLOB NOT NULL, confirmed INTEGER NOT NULL, PRIMARY KEY (source, klass)) WITHOUT ROWID""",
    """CREATE TABLE ending (
        source BLOB NOT NULL, klass INTEGER NOT NULL, number INTEGER NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL,
        PRIMARY KEY (source, klass, number)) WITHOUT ROWID""",
    """CREATE TABLE outcome (
        number INTEGER NOT NULL, dest BLOB NOT NULL, id BLOB NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL,
        PRIMARY KEY (dest, number)) WITHOUT ROWID""",
    "CREATE TABLE mailbox (name TEXT PRIMARY KEY, role TEXT NOT NULL, capabilities TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE peer (
        store BLOB PRIMARY KEY, name TEXT NOT NULL, device TEXT NOT NULL, endpoints TEXT NOT NULL,
        roster INTEGER NOT NULL, agents TEXT NOT NULL, last_seen REAL NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE audit (
        entry INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL)""",
)

VERSION_2: Final = (
    "ALTER TABLE mailbox ADD COLUMN project TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE mailbox ADD COLUMN seen REAL",
    # Of each agent: name, role and capabilities stay; whether somebody was there gives way to project and last seen.
    """UPDATE peer SET agents = (
        SELECT json_group_array(json_array(
            json_extract(value, '$[0]'), json_extract(value, '$[1]'), json(json_extract(value, '$[2]')), '', NULL))
        FROM json_each(peer.agents))""",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (VERSION_1, VERSION_2)
"""The statements that lead from version n to n + 1, at index n. Version 0 is an empty file."""


def configure(connection: Connection, path: Path) -> None:
    """Set what durability depends on, in the only order that works, and check that it holds.

    EXCLUSIVE must come before the first use of WAL, so that the index of the WAL lies in this process's memory and no
    second connection can ever write; in a store that is there already, any look into the file uses the WAL. In a new
    one `auto_vacuum` is ignored once WAL is on; in an old one it would be written again, which a full disk refuses.
    The step to WAL is the last one that uses a rollback journal: EXTRA makes sure that its removal is on disk, else it
    could come back after a power cut and roll the whole store back to nothing.

    Raises:
        StoreError: The file is not a store of ours, or a setting did not hold.
    """
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    if not pragma(connection, "page_count"):
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    check_ours(connection, path)
    connection.execute("PRAGMA synchronous=EXTRA")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if sys.platform == "darwin":
        connection.execute("PRAGMA fullfsync=ON")
        connection.execute("PRAGMA checkpoint_fullfsync=ON")
    connection.execute("PRAGMA mmap_size=0")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    connection.execute("PRAGMA secure_delete=OFF")  # else every freed body is overwritten with zeros, and synced
    connection.execute("PRAGMA temp_store=MEMORY")
    _verify(connection, path)


def check_ours(connection: Connection, path: Path) -> None:
    """Make sure that the file is empty or a store of ours, before anything in it is touched.

    Raises:
        StoreError: It is another program's database, damaged, or in use.
    """
    if pragma(connection, "application_id") == APPLICATION_ID:
        return
    if connection.execute("SELECT count(*) FROM sqlite_master")[0][0]:
        raise StoreError(
            f"{path} is the database of another program. Move it away, or choose another directory for this peer"
        )


def _verify(connection: Connection, path: Path) -> None:
    for name, wanted in (("journal_mode", "wal"), ("synchronous", FULL), ("locking_mode", "exclusive")):
        found = pragma(connection, name)
        if found != wanted:
            raise StoreError(
                f"{path}: SQLite does not keep {name}={wanted} (it says {found}), so nothing would be safe. "
                f"Move the store to a local disk"
            )


def migrate(connection: Connection, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> bool:
    """Bring the tables to the newest version; each step is one transaction.

    Args:
        connection: Configured.
        path: The database file, for the error.
        migrations: The steps.

    Returns:
        True when the store was empty before.

    Raises:
        StoreError: The store is of a newer version, or a step failed.
    """
    version = int(pragma(connection, "user_version"))
    if version > len(migrations):
        raise StoreError(
            f"{path} is of schema version {version}, made by a newer zmesh; this one knows {len(migrations)}. "
            f"Install the newer zmesh again"
        )
    for step in range(version, len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in migrations[step]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={step + 1}")
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute("COMMIT")
        except StoreError:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return version == 0


def quick_check(connection: Connection, path: Path) -> None:
    """Let SQLite look over every page, unless the file is large; its tables are all read at the start anyway.

    Raises:
        StoreError: A page is damaged.
    """
    if int(pragma(connection, "page_count")) * int(pragma(connection, "page_size")) > CHECKED_BYTES:
        return
    found: str = connection.execute("PRAGMA quick_check(1)")[0][0].splitlines()[-1]
    if found != "ok":
        raise StoreError(
            f"{path} is damaged ({found}). Restore it from a backup, or move its directory away to begin with an "
            f"empty store"
        )


def pragma(connection: Connection, name: str) -> int | str:
    """Return the value of a setting; 0 when SQLite does not know it."""
    rows = connection.execute(f"PRAGMA {name}")
    value: int | str = rows[0][0] if rows else 0
    return value
