"""Gives what is free in a store back to the file system, while the peer goes on.

Every store is made with incremental vacuum, so a page that holds nothing is filled with the last one of the file, and
the file ends earlier. This is done in small steps by the writer thread, each a transaction of its own between two
commits; it must never hold up a commit for longer. VACUUM, which writes the whole file anew, must never be run: it
needs as much room again, stops everything for as long as that takes, and would save only what is left over inside
pages, which the next messages fill.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zmesh.peer.connection import Connection
from zmesh.peer.schema import pragma
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.peer.upkeep import VACUUM_PAGES, in_transaction, paced

Told = Callable[[int, int], None]
"""Told after each step: (what is done, of how much)."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a store is, in bytes.

    Attributes:
        file: The database.
        log: Its write-ahead log, which is folded into it now and then.
        free: What of the database holds nothing.
    """

    file: int
    log: int
    free: int


async def sizes_of(store: SqliteStore) -> Sizes:
    """Return how large a store is now.

    Raises:
        StoreError: It cannot be read.
    """
    return await asyncio.wrap_future(store.query(lambda connection: _sizes(connection, store.path)))


async def compact(store: SqliteStore, told: Told = lambda *_: None) -> tuple[Sizes, Sizes]:
    """Give back what is free now; what becomes free meanwhile may stay, so that it comes to an end.

    Args:
        store: Started.
        told: Told how many pages of how many were given back.

    Returns:
        The sizes before and after.

    Raises:
        StoreError: The disk refused a step. What was given back before stays so, and nothing is lost.
    """
    before = await sizes_of(store)
    goal = await asyncio.wrap_future(store.query(lambda connection: int(pragma(connection, "freelist_count"))))
    given = 0
    while given < goal:
        most = min(VACUUM_PAGES, goal - given)
        step = await paced(store.change(partial(_give_back, most)))
        if step <= 0:
            break  # others had use for what was free
        given += step
        told(given, goal)
    # Only now does the file end earlier. The first does most of it, and the second what came meanwhile.
    for how in ("PASSIVE", "TRUNCATE"):
        await asyncio.wrap_future(store.change(partial(_fold, how)))
    return before, await sizes_of(store)


def _give_back(pages: int, connection: Connection) -> int:
    free = int(pragma(connection, "freelist_count"))
    # One by one: sqlite3 ends the statement at its first row, which has no columns: after one page.
    in_transaction(connection, [("PRAGMA incremental_vacuum(1)", ())] * min(pages, free))
    return free - int(pragma(connection, "freelist_count"))


def _fold(how: str, connection: Connection) -> None:
    connection.execute(f"PRAGMA wal_checkpoint({how})")


def _sizes(connection: Connection, path: Path) -> Sizes:
    log = path.with_name(f"{path.name}-wal")
    free = int(pragma(connection, "freelist_count")) * int(pragma(connection, "page_size"))
    return Sizes(path.stat().st_size, log.stat().st_size if log.exists() else 0, free)
