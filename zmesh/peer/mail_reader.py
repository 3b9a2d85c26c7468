"""Reads messages back for people: what a mailbox holds, and which of it is dead. It must never write.

A list must not cost what the messages in it weigh: no more than the beginning of each body is read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from zmesh.peer.connection import Connection
from zmesh.protocol.journal import InRow
from zmesh.protocol.states import Received


@dataclass(frozen=True, slots=True)
class Glance:
    """A message as far as it is read for a list.

    Attributes:
        row: Its place in the inbox.
        id: The message's id.
        source: Id of the store it came from.
        klass: Its priority class.
        attempts: How often it was taken.
        size: Octets of its body.
        envelope: As it came.
        beginning: Of its body.
    """

    row: int
    id: bytes
    source: bytes
    klass: int
    attempts: int
    size: int
    envelope: bytes
    beginning: bytes


def read_glances(connection: Connection, rows: Sequence[int], most_bytes: int) -> list[Glance]:
    """Return these messages, in this order, as far as they are still there.

    Args:
        connection: Opened.
        rows: Which ones.
        most_bytes: Of each body.

    Raises:
        StoreError: The file cannot be read.
    """
    found = connection.execute(
        """SELECT row, id, source, klass, attempts, size, envelope, substr(body, 1, ?)
            FROM inbox JOIN inbody USING (row) WHERE row IN (SELECT value FROM json_each(?))""",
        (most_bytes, json.dumps(list(rows))),
    )
    glances = {row: Glance(row, *rest) for row, *rest in found}
    return [glances[row] for row in rows if row in glances]


def read_dead(connection: Connection, mailbox: str, most: int, ident: bytes = b"") -> list[InRow]:
    """Return the dead messages of a mailbox that were not purged, the oldest first.

    Args:
        connection: Opened.
        mailbox: Its name.
        most: How many at most.
        ident: Only the one with that id; empty for all.

    Raises:
        StoreError: The file cannot be read.
    """
    found = connection.execute(
        """SELECT row, id, source, mailbox, klass, attempts, due, deadline, size FROM inbox
            WHERE state = ? AND EXISTS (SELECT 1 FROM inbody WHERE inbody.row = inbox.row)
            AND mailbox = ? AND (? = x'' OR id = ?) ORDER BY row LIMIT ?""",
        (int(Received.DEAD), mailbox, ident, ident, most),
    )
    return [InRow(*row) for row in found]


def count_dead(connection: Connection) -> dict[str, int]:
    """Return how many dead messages each mailbox has that were not purged.

    Raises:
        StoreError: The file cannot be read.
    """
    found = connection.execute(
        """SELECT mailbox, count(*) FROM inbox
            WHERE state = ? AND EXISTS (SELECT 1 FROM inbody WHERE inbody.row = inbox.row) GROUP BY mailbox""",
        (int(Received.DEAD),),
    )
    return dict(found)
