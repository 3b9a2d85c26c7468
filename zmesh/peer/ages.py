"""When the messages of a store came into it, to an hour: which rows were there at which time.

Rows only rise, so one mark an hour says of every message how old it is at least, and costs the messages nothing. A mark
must never make a message older than it is.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final, NamedTuple

import msgpack

from zmesh.peer.connection import Connection
from zmesh.peer.store_identity import write_meta

AGES: Final = "ages"  # in the store's meta table
EVERY: Final = 3600.0  # seconds between two marks
FINENESS: Final = 32  # two marks that lie close together for their age become one: some 250 for ten years


class Mark(NamedTuple):
    """At a time on the store's clock these rows were there, and all below them."""

    at: float
    out: int
    in_: int


def read_marks(connection: Connection) -> list[Mark]:
    """Return all marks, the oldest first; what cannot be read is none.

    Raises:
        StoreError: The store cannot be read.
    """
    rows = connection.execute("SELECT value FROM meta WHERE key = ?", (AGES,))
    try:
        marks = [Mark(float(at), int(out), int(in_)) for at, out, in_ in msgpack.unpackb(rows[0][0])] if rows else []
    except (ValueError, TypeError, OverflowError):
        return []
    return marks if all(math.isfinite(mark.at) for mark in marks) else []


def note_ages(connection: Connection, clock: Callable[[], float]) -> None:
    """Make a mark, if an hour is over since the last one.

    Args:
        connection: In the writer thread.
        clock: The store's.

    Raises:
        StoreError: The store cannot be written.
    """
    out, in_ = (highest_row(connection, table) for table in ("outbox", "inbox"))
    now = clock()  # not before: they were there then
    marks = [mark for mark in read_marks(connection) if mark.at <= now]  # others are of a clock that was lost
    if marks and now < marks[-1].at + EVERY:
        return
    kept = thinned([*marks, Mark(now, out, in_)])
    write_meta(connection, {AGES: msgpack.packb(kept)})


def thinned(marks: Iterable[Mark]) -> list[Mark]:
    """Return the marks by which an age is known to two hours, or to its thirty-second part; the oldest one stays."""
    rising = list(marks)
    now = rising[-1].at
    kept = [rising[0]]
    for mark, following in pairwise(rising[1:]):
        # Without it, what came between the one before it and itself would count as younger: as of the following one.
        if following.at - kept[-1].at > max(EVERY, (now - mark.at) / FINENESS):
            kept.append(mark)
    return kept + rising[1:][-1:]


def rows_before(marks: Iterable[Mark], moment: float) -> Mark:
    """Return the latest mark at or before a time: what is above it may be younger."""
    return max((mark for mark in marks if mark.at <= moment), default=Mark(moment, 0, 0))


def highest_row(connection: Connection, table: str) -> int:
    """Return the row of the newest message of a direction; 0 when there is none.

    Raises:
        StoreError: The store cannot be read.
    """
    highest: int = connection.execute(f"SELECT coalesce(max(row), 0) FROM {table}")[0][0]  # noqa: S608 - of two names
    return highest
