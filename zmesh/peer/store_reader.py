"""Reads the store back: everything at the start, single bodies and receipts later. It must never write."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zmesh.errors import StoreError
from zmesh.peer.commands import HALT_KEY, LIVE
from zmesh.peer.connection import Connection, Row
from zmesh.protocol.frames import AgentRecord
from zmesh.protocol.journal import (
    InRow,
    InStreamRow,
    OutRow,
    OutStreamRow,
    PutEnding,
    PutHalt,
    PutMailbox,
    PutOutcome,
    PutPeer,
    Snapshot,
)
from zmesh.protocol.states import Received, Sent

FETCHED: Final = 64  # rows asked for by one statement
_MARKS: Final = ", ".join("?" * FETCHED)


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """What the store knows of one outgoing message, ended or not.

    Attributes:
        id: The message's id.
        address: Where it goes.
        dest: Id of the store it goes to; empty while the peer is not known.
        state: Where it stands, as far as it was observed.
        detail: A sentence about its end, or empty.
    """

    id: bytes
    address: str
    dest: bytes
    state: Sent
    detail: str


@dataclass(frozen=True, slots=True)
class OutTrace:
    """What the store knows of an outgoing message.

    Attributes:
        receipt: Where it goes, and how it got on.
        envelope: As it travels; empty once the message is stored at its recipient.
    """

    receipt: ReceiptRow
    envelope: bytes


@dataclass(frozen=True, slots=True)
class InTrace:
    """What the store knows of a received message.

    Attributes:
        mailbox: Which one it came to.
        source: Id of the store it came from.
        state: Where it stands.
        attempts: How often it was taken.
        envelope: As it came; empty once it is handled or expired.
        row: Its place in the inbox.
    """

    mailbox: str
    source: bytes
    state: Received
    attempts: int
    envelope: bytes
    row: int


def read_snapshot(connection: Connection, store: bytes) -> Snapshot:
    """Return everything the core needs to go on.

    Args:
        connection: Opened and migrated.
        store: This store's id.

    Raises:
        StoreError: The file cannot be read, or does not make sense.
    """
    try:
        return Snapshot(
            store=store,
            next_out=_highest(connection, "outbox") + 1,
            next_in=_highest(connection, "inbox") + 1,
            outs=_outs(connection),
            ins=_ins(connection),
            out_streams=tuple(OutStreamRow(*row) for row in _all(connection, "out_stream", "dest, klass")),
            in_streams=tuple(InStreamRow(*row) for row in _all(connection, "in_stream", "source, klass")),
            endings=tuple(PutEnding(*row) for row in _all(connection, "ending", "source, klass, number")),
            outcomes=tuple(PutOutcome(*row) for row in _all(connection, "outcome", "dest, number")),
            mailboxes=tuple(_mailbox(*row) for row in _all(connection, "mailbox", "name")),
            peers=tuple(_peer(row) for row in _all(connection, "peer", "store")),
            halts=_halts(connection),
        )
    except (ValueError, TypeError) as error:
        raise StoreError(f"the store holds what no zmesh wrote ({error}). Restore it from a backup") from error


def read_bodies(connection: Connection, rows: Sequence[int]) -> dict[int, bytes]:
    """Return the bodies of these outgoing messages, as far as they are still there.

    Raises:
        StoreError: The file cannot be read.
    """
    found = _fetch(connection, f"SELECT row, body FROM outbody WHERE row IN ({_MARKS})", rows)  # noqa: S608
    return dict(found)


def read_messages(connection: Connection, rows: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
    """Return envelope and body of these incoming messages, as far as they are still there.

    Raises:
        StoreError: The file cannot be read.
    """
    found = _fetch(connection, f"SELECT row, envelope, body FROM inbody WHERE row IN ({_MARKS})", rows)  # noqa: S608
    return {row: (envelope, body) for row, envelope, body in found}


def read_receipt(connection: Connection, ident: bytes) -> ReceiptRow | None:
    """Return what is known of an outgoing message, or None when it was never here or ended long ago.

    Raises:
        StoreError: The file cannot be read.
    """
    rows = connection.execute("SELECT id, address, dest, state, detail FROM outbox WHERE id = ?", (ident,))
    if not rows:
        return None
    _, address, dest, state, detail = rows[0]
    return ReceiptRow(ident, address, dest, Sent(state), detail)


def read_trace(connection: Connection, ident: bytes) -> tuple[OutTrace | None, list[InTrace]]:
    """Return what is known of a message that was sent or received here; two devices may use the same id.

    Raises:
        StoreError: The file cannot be read.
    """
    sent = connection.execute(
        """SELECT id, address, dest, state, detail, coalesce(envelope, x'')
            FROM outbox LEFT JOIN outbody USING (row) WHERE id = ?""",
        (ident,),
    )
    received = connection.execute(
        """SELECT mailbox, source, state, attempts, coalesce(envelope, x''), row
            FROM inbox LEFT JOIN inbody USING (row) WHERE id = ? ORDER BY row""",
        (ident,),
    )
    outgoing = [
        OutTrace(ReceiptRow(ident, address, dest, Sent(state), detail), envelope)
        for _, address, dest, state, detail, envelope in sent
    ]
    incoming = [InTrace(mailbox, source, Received(state), *rest) for mailbox, source, state, *rest in received]
    return (outgoing[0] if outgoing else None), incoming


def _fetch(connection: Connection, sql: str, rows: Sequence[int]) -> list[Row]:
    found: list[Row] = []
    for start in range(0, len(rows), FETCHED):
        part = list(rows[start : start + FETCHED])
        found += connection.execute(sql, part + [None] * (FETCHED - len(part)))
    return found


def _all(connection: Connection, table: str, order: str) -> list[Row]:
    return connection.execute(f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608 - our own names


def _highest(connection: Connection, table: str) -> int:
    highest: int = connection.execute(f"SELECT coalesce(max(row), 0) FROM {table}")[0][0]  # noqa: S608
    return highest


def _outs(connection: Connection) -> tuple[OutRow, ...]:
    rows = connection.execute(
        f"""SELECT row, id, dest, address, klass, epoch, number, state, deadline, coalesce(envelope, x''), size
            FROM outbox LEFT JOIN outbody USING (row) WHERE state IN ({LIVE}) ORDER BY row"""  # noqa: S608
    )
    return tuple(
        OutRow(row, ident, dest, address, klass, epoch, number, Sent(state), deadline, envelope, size)
        for row, ident, dest, address, klass, epoch, number, state, deadline, envelope, size in rows
    )


def _ins(connection: Connection) -> tuple[InRow, ...]:
    rows = connection.execute(
        """SELECT row, id, source, mailbox, klass, attempts, due, deadline, size FROM inbox
            WHERE state = ? ORDER BY row""",
        (int(Received.STORED),),
    )
    return tuple(InRow(*row) for row in rows)


def _mailbox(name: str, role: str, capabilities: str, project: str, seen: float | None) -> PutMailbox:
    return PutMailbox(name, role, tuple(json.loads(capabilities)), project, seen)


def _halts(connection: Connection) -> tuple[PutHalt, ...]:
    rows = connection.execute(
        "SELECT substr(key, ?), value FROM meta WHERE key GLOB ? ORDER BY key", (len(HALT_KEY) + 1, f"{HALT_KEY}*")
    )
    return tuple(PutHalt(bytes.fromhex(store), *json.loads(value)) for store, value in rows)


def _peer(columns: Row) -> PutPeer:
    store, name, device, endpoints, roster, agents, last_seen = columns
    records = tuple(
        AgentRecord(agent, role, tuple(capabilities), project=project, since_ms=since_ms)
        for agent, role, capabilities, project, since_ms in json.loads(agents)
    )
    return PutPeer(store, name, device, tuple(json.loads(endpoints)), roster, records, last_seen)
