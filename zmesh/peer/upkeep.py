"""Keeps the store small: old endings go, free pages go back to the file system, the WAL is folded in while idle.

All of it is done in small steps by the writer thread, between commits or when there is nothing else to do. It must
never touch a message that is not ended, and never hold up a commit for more than one step.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final, TypeVar

from zmesh.peer.commands import LIVE
from zmesh.peer.connection import Connection
from zmesh.peer.schema import PAGE_BYTES, pragma
from zmesh.protocol.bounds import KEPT_ENDED, MIB
from zmesh.protocol.states import Received

PRUNE_ROWS: Final = 1024  # rows pruned in one step, about 5 ms
VACUUM_PAGES: Final = 128  # pages given back in one step: 1 MiB
SPARE_PAGES: Final = 4 * MIB // PAGE_BYTES  # free pages left for what comes next
KEPT_AUDIT: Final = 10_000  # lines of the audit log; the oldest go
AUDIT_CUT_EVERY: Final = 1000  # commits of a store that is never idle: each has a few lines at most
MAX_PAUSE: Final = 0.1  # seconds between two steps that somebody waits for: a slow disk has caught up by then
SLACK: Final = 20  # a count of the ended rows, some ms, is worth it for every 1/20 of them

T = TypeVar("T")
_UNENDED_IN: Final = f"{int(Received.STORED)}, {int(Received.LEASED)}"


class Pruner:
    """Forgets the oldest ended messages of one direction.

    The number of ended ones is counted exactly only when it may have come near the bound: counting walks the table.
    """

    def __init__(self, table: str, body: str, unended: str, keep: int) -> None:
        """Name the tables.

        Args:
            table: The narrow table.
            body: The table of its bodies.
            unended: States of messages that must stay, as SQL.
            keep: Ended messages that are kept at most.
        """
        self._count = f"SELECT count(*) FROM {table} WHERE state NOT IN ({unended})"  # noqa: S608
        self._oldest = f"""SELECT row FROM {table} WHERE state NOT IN ({unended}) AND row > ?
            ORDER BY row LIMIT ?"""  # noqa: S608
        self._drops = tuple(
            f"DELETE FROM {name} WHERE row BETWEEN ? AND ? AND row IN "  # noqa: S608
            f"(SELECT row FROM {table} WHERE row BETWEEN ? AND ? AND state NOT IN ({unended}))"
            for name in (body, table)
        )
        self._keep = keep
        self._slack = max(1, keep // SLACK)
        self._room = 0  # rows that may be added before the bound can be reached
        self._excess = 0
        self._after = 0

    def added(self, rows: int) -> None:
        """So many messages were added: each may be an ended one by now."""
        self._room -= rows

    @property
    def due(self) -> bool:
        """True when a step has something to do."""
        return self._excess > 0 or self._room <= 0

    def step(self, connection: Connection) -> None:
        """Count, or forget up to `PRUNE_ROWS` messages in one transaction.

        Raises:
            StoreError: The database refused; the step can be repeated.
        """
        if not self._excess:
            ended: int = connection.execute(self._count)[0][0]
            self._room = self._keep - ended
            self._after = 0
            if self._room >= self._slack:
                return
            self._excess = ended - self._keep + 2 * self._slack
            self._room += self._excess
        rows = connection.execute(self._oldest, (self._after, min(self._excess, PRUNE_ROWS)))
        if rows:
            first, last = rows[0][0], rows[-1][0]
            in_transaction(connection, [(sql, (first, last, first, last)) for sql in self._drops])
            self._after = last
        self._excess = self._excess - len(rows) if rows else 0


class Upkeep:
    """All housekeeping of one store."""

    def __init__(self, keep: int = KEPT_ENDED) -> None:
        """Set the bound of ended messages per direction."""
        self.outs = Pruner("outbox", "outbody", LIVE, keep)
        self.ins = Pruner("inbox", "inbody", _UNENDED_IN, keep)
        self._folded = True
        self._audit_cut = False
        self._spare = False
        self._commits = 0  # since the audit log was cut

    def added(self, outs: int, ins: int) -> None:
        """A commit was made that added so many messages."""
        self.outs.added(outs)
        self.ins.added(ins)
        self._commits += 1
        self._folded = self._audit_cut = self._spare = False

    def step(self, connection: Connection) -> None:
        """Do what cannot wait for idleness: at most one small step.

        Raises:
            StoreError: As for `Pruner.step`.
        """
        for pruner in (self.outs, self.ins):
            if pruner.due:
                pruner.step(connection)
                return
        if self._commits >= AUDIT_CUT_EVERY:
            self._cut_audit(connection)

    def _cut_audit(self, connection: Connection) -> None:
        self._commits = 0
        connection.execute("DELETE FROM audit WHERE entry <= (SELECT max(entry) FROM audit) - ?", (KEPT_AUDIT,))

    def idle_step(self, connection: Connection) -> bool:
        """Do one small step of what can wait.

        Returns:
            True when there is more to do.

        Raises:
            StoreError: As for `Pruner.step`.
        """
        if self.outs.due or self.ins.due:
            self.step(connection)
        elif not self._folded:
            self._folded = True
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        elif not self._audit_cut:
            self._audit_cut = True
            self._cut_audit(connection)
        elif not self._spare:
            free = int(pragma(connection, "freelist_count"))
            pages = min(VACUUM_PAGES, free - SPARE_PAGES)
            if pages > 0:
                # One by one: sqlite3 ends the statement at its first row, which has no columns: after one page.
                in_transaction(connection, [("PRAGMA incremental_vacuum(1)", ())] * pages)
            else:
                self._spare = True
        return self.outs.due or self.ins.due or not (self._folded and self._audit_cut and self._spare)


async def paced(step: Future[T]) -> T:
    """Wait for a step that somebody has asked for, and then as long again, so that commits have half of the thread.

    Raises:
        StoreError: As the step.
    """
    began = time.monotonic()
    result = await asyncio.wrap_future(step)
    await asyncio.sleep(min(time.monotonic() - began, MAX_PAUSE))
    return result


def in_transaction(connection: Connection, statements: Sequence[tuple[str, tuple[object, ...]]]) -> None:
    """Carry out the statements, all or none.

    Raises:
        StoreError: The database refused; nothing was changed.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, params in statements:
            connection.execute(sql, params)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
