"""Forgets messages that have ended, when somebody asks for it, in small steps between commits.

The core has no record of what has ended, so nothing here is ever in two places: what goes from the disk is gone. It
must never touch a message that has not ended, nor the rows by which a message is recognised that comes again. Those
are the rows of received messages, ended ones too: a sender whose disk went back in time sends again what it has
forgotten, however long ago that was, and only the id tells. So a received message loses its envelope and body, and
never its row; a sent one loses its row, for whoever gets it again knows it. The newest row of each direction stays,
since the next one is counted from it.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from zmesh.errors import StoreError
from zmesh.peer.ages import Mark, highest_row
from zmesh.peer.connection import Connection
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.peer.upkeep import in_transaction, paced
from zmesh.protocol.bounds import MIB
from zmesh.protocol.states import Received, Sent

STEP_ROWS: Final = 256  # looked at in one step: each one that goes may touch a page of its own in the index of ids
STEP_BYTES: Final = 8 * MIB  # of bodies freed in one step: SQLite walks their pages, some 10 ms
KINDS: Final[dict[str, tuple[tuple[Sent, ...], tuple[Received, ...]]]] = {
    "expired": ((Sent.EXPIRED,), ()),
    "ended": ((Sent.HANDLED, Sent.REFUSED, Sent.LOST), ()),
    "dead": ((Sent.DEAD,), (Received.DEAD,)),
}
"""What can be forgotten: states of sent messages, and of received ones that still have a body."""

Told = Callable[[int, int], None]
"""Told after each step: (messages looked at, of how many)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to go.

    Attributes:
        kinds: Of `KINDS`.
        mailbox: Only messages to this mailbox of this store; empty for all.
        before: Only messages that were there then; None for all.
    """

    kinds: frozenset[str]
    mailbox: str = ""
    before: Mark | None = None


@dataclass(slots=True)
class Count:
    """So many messages, and the bytes of their texts, envelopes and bodies."""

    messages: int = 0
    bytes: int = 0


class Purge:
    """One pass over both directions; used by the writer thread alone while a step is under way.

    Attributes:
        sent, received: By name of the state: what went, or would go.
        known: Received messages that have ended and whose row stays.
        awaited: Sent messages that are stored at their recipient, which has not said that it is done with them.
        looked, total: Messages that were looked at, of how many.
    """

    def __init__(self, wanted: Wanted, own: bytes, *, dry: bool) -> None:
        """Describe it.

        Args:
            wanted: What is to go.
            own: Id of the store.
            dry: Only count.
        """
        self.known = self.awaited = self.looked = self.total = 0
        self._dry = dry
        outgoing, incoming = _Sent(wanted, own), _Received(wanted)
        self.sent, self.received = outgoing.gone, incoming.gone
        self._sides: list[_Side] = [outgoing, incoming]

    def begin(self, connection: Connection) -> None:
        """Look how much there is; what comes later is not looked at.

        Raises:
            StoreError: The store cannot be read.
        """
        for side in self._sides:
            side.newest = highest_row(connection, side.table)
            self.total += connection.execute(f"SELECT count(*) FROM {side.table}")[0][0]  # noqa: S608 - of two names

    def step(self, connection: Connection) -> bool:
        """Look at some messages, and forget what is to go of them, in one transaction.

        Returns:
            True when there is more to do.

        Raises:
            StoreError: The disk refused; nothing of this step was done.
        """
        side = self._sides[0]
        if side.after >= side.newest:
            del self._sides[0]
            return bool(self._sides)
        last = side.edge(connection)
        seen = side.states(connection, last)
        if side.wanted & seen.keys():
            side.forget(connection, last, dry=self._dry)
        side.after = last
        self.looked += sum(seen.values())
        if side.table == _Sent.table:
            self.awaited += seen.get(Sent.STORED, 0)
        else:
            self.known += sum(seen.values()) - seen.get(Received.STORED, 0)
        return True

    @property
    def messages(self) -> int:
        """How many went, or would go."""
        return sum(count.messages for gone in (self.sent, self.received) for count in gone.values())


class _Side:
    """One direction: how its messages are found, counted and forgotten.

    Attributes:
        table: Its narrow table.
        wanted: The states in which messages are to go.
        gone: By name of the state: what went, or would go.
        newest: The highest row that is looked at.
        after: The highest row that was.
    """

    table: str
    names: type[Sent] | type[Received]
    source: str  # as SQL: the tables that hold what is to go
    octets: str  # as SQL: what is counted of one message

    def __init__(self, wanted: Iterable[int], condition: str, values: tuple[object, ...], most: int | None) -> None:
        self.wanted = frozenset(map(int, wanted))
        self.gone: dict[str, Count] = {}
        self.newest = self.after = 0
        states = ", ".join(map(str, sorted(self.wanted)))
        self._where = f"row > ? AND row <= ? AND state IN ({states}){condition}"
        self._values = values
        self._most = most  # the highest row that may go, if there is one

    def edge(self, connection: Connection) -> int:
        """Return the last row of the next step."""
        found = connection.execute(
            f"SELECT row FROM {self.table} WHERE row > ? ORDER BY row LIMIT 1 OFFSET ?",  # noqa: S608 - of two names
            (self.after, STEP_ROWS - 1),
        )
        return min(found[0][0], self.newest) if found else self.newest

    def states(self, connection: Connection, last: int) -> dict[int, int]:
        """Return how many messages there are in which state, up to a row."""
        rows = connection.execute(
            f"SELECT state, count(*) FROM {self.table} WHERE row > ? AND row <= ? GROUP BY state",  # noqa: S608
            (self.after, last),
        )
        return dict(rows)

    def forget(self, connection: Connection, last: int, *, dry: bool) -> None:
        """Forget what is to go up to a row, and count it."""
        highest = self.highest(last)
        values = (self.after, highest if self._most is None else min(highest, self._most), *self._values)
        counts = connection.execute(
            f"SELECT state, count(*), sum({self.octets}) FROM {self.source} WHERE {self._where} GROUP BY state",  # noqa: S608
            values,
        )
        if counts and not dry:
            in_transaction(connection, [(self.dropping(self._where), values)])
        for state, messages, size in counts:
            so_far = self.gone.setdefault(self.names(state).name.lower(), Count())
            so_far.messages += messages
            so_far.bytes += size

    def highest(self, last: int) -> int:
        """Return the highest row up to `last` that may go."""
        return last

    def dropping(self, where: str) -> str:
        """Return the statement that forgets them."""
        raise NotImplementedError


class _Sent(_Side):
    table = source = "outbox"
    names = Sent
    octets = "length(id) + length(dest) + length(CAST(address AS BLOB)) + length(CAST(detail AS BLOB))"

    def __init__(self, wanted: Wanted, own: bytes) -> None:
        to = f"{wanted.mailbox}@"
        condition = " AND dest = ? AND substr(address, 1, ?) = ?" if wanted.mailbox else ""
        values = (own, len(to), to) if wanted.mailbox else ()
        states = [state for kind in wanted.kinds for state in KINDS[kind][0]]
        super().__init__(states, condition, values, wanted.before.out if wanted.before else None)

    def highest(self, last: int) -> int:
        return min(last, self.newest - 1)

    def dropping(self, where: str) -> str:
        return f"DELETE FROM outbox WHERE {where}"  # noqa: S608 - as above


class _Received(_Side):
    table, source = "inbox", "inbox JOIN inbody USING (row)"
    names = Received
    octets = "length(envelope) + length(body)"

    def __init__(self, wanted: Wanted) -> None:
        condition = " AND mailbox = ?" if wanted.mailbox else ""
        values = (wanted.mailbox,) if wanted.mailbox else ()
        states = [state for kind in wanted.kinds for state in KINDS[kind][1]]
        super().__init__(states, condition, values, wanted.before.in_ if wanted.before else None)

    def edge(self, connection: Connection) -> int:
        """Return the last row of the next step, which frees no more than `STEP_BYTES` and one message."""
        last = super().edge(connection)
        octets = 0
        rows = connection.execute(
            "SELECT row, size FROM inbox WHERE row > ? AND row <= ? AND state = ? ORDER BY row",
            (self.after, last, int(Received.DEAD)),
        )
        for row, size in rows:
            octets += size
            if octets > STEP_BYTES:
                return int(row)
        return last

    def dropping(self, where: str) -> str:
        return f"DELETE FROM inbody WHERE row IN (SELECT row FROM inbox WHERE {where})"  # noqa: S608 - as above


async def purge(
    store: SqliteStore, wanted: Wanted, own: bytes, *, dry: bool = False, told: Told = lambda *_: None
) -> Purge:
    """Forget what is to go, and count it; as `Purge` has it.

    Args:
        store: Started.
        wanted: What is to go.
        own: Id of the store.
        dry: Only count.
        told: Told how far it is.

    Raises:
        StoreError: The disk refused a step. What went before is gone, and the message says how much that is.
    """
    work = Purge(wanted, own, dry=dry)
    await asyncio.wrap_future(store.query(work.begin))
    try:
        while await paced(store.query(work.step) if dry else store.change(work.step)):
            told(work.looked, work.total)
    except StoreError as error:
        raise type(error)(f"{error}. {work.messages} messages had gone before that") from error
    return work
