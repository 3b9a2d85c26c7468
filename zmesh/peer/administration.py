"""What is done to a running peer by hand, and the audit log in which that is written down.

The log also holds what the peer itself finds worth keeping: losses, disks that went back in time, forged frames. This
module must never do anything to a peer that its core does not know of.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from zmesh.peer.connection import Connection
from zmesh.peer.peer import Peer
from zmesh.protocol.commands import Note

MAX_LINES: Final = 1000  # of the audit log, told at once
MAX_NOTE: Final = 1000  # characters of a line: who, what, how many


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A line of the audit log.

    Attributes:
        entry: Its number; later lines have higher ones.
        at: When it was written, in seconds of Unix time as this machine's clock is now; for people.
        kind: A word: what it is about.
        text: A sentence.
    """

    entry: int
    at: float
    kind: str
    text: str


class Administration:
    """What can be done to one peer."""

    def __init__(self, peer: Peer) -> None:
        """Take the peer, which is running."""
        self._peer = peer

    async def note(self, kind: str, text: str) -> None:
        """Append a line to the audit log; it is on disk when this returns.

        Raises:
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
            StoreError: It could not be written.
        """
        driver = self._peer.driver
        ticket = driver.number()
        await driver.submit(ticket, Note(ticket, kind, text[:MAX_NOTE]))

    async def log(self, most: int = 100) -> list[AuditLine]:
        """Return the last lines of the audit log, the oldest of them first.

        Args:
            most: How many, 1 to `MAX_LINES`.

        Raises:
            StoreError: The store cannot be read.
        """
        if not 1 <= most <= MAX_LINES:
            raise ValueError(f"{most} lines cannot be told at once: 1 to {MAX_LINES}")
        rows = await asyncio.wrap_future(self._peer.store.query(lambda connection: _read(connection, most)))
        started = time.time() - self._peer.driver.now()  # when the clock of the store would have been at zero
        return [AuditLine(entry, started + at, kind, text) for entry, at, kind, text in reversed(rows)]


def _read(connection: Connection, most: int) -> list[tuple[int, float, str, str]]:
    return connection.execute("SELECT entry, at, kind, text FROM audit ORDER BY entry DESC LIMIT ?", (most,))
