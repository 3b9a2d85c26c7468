"""The messages in our mailboxes that have not ended: their records, what they fill, and their ends by ttl or cancel.

Bodies beyond a bound are left to the store. It must never look at who holds a message, nor end one that was leased.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from zmesh.protocol.bounds import CACHED_BODY_BYTES, STORE_RETRY
from zmesh.protocol.deadlines import Deadlines
from zmesh.protocol.journal import SetIn
from zmesh.protocol.messages import InMessage
from zmesh.protocol.states import RECEIVER, Received, step
from zmesh.protocol.turn import Turn

if TYPE_CHECKING:
    from zmesh.protocol.mailbox import Mailbox

Report = Callable[[InMessage, str, str], None]
"""Tells the sender what became of a message: (message, code, text)."""


class Incoming:
    """The records of received messages.

    Attributes:
        mailboxes: By name.
        by_row: The messages.
        cached: Bytes of the bodies in memory.
        expiry: When those that nobody ever leased expire.
    """

    def __init__(self, turn: Turn, report: Report) -> None:
        """Begin empty."""
        self.mailboxes: dict[str, Mailbox] = {}
        self.by_row: dict[int, InMessage] = {}
        self.cached = 0
        self.expiry = Deadlines(self.by_row)
        self._turn = turn
        self._report = report
        self._rows: dict[tuple[bytes, bytes], int] = {}  # by (source, id); one that has come twice, as it came first

    # --- the records ---

    def keep(self, message: InMessage) -> None:
        """Remember a message until it ends."""
        mailbox = self.mailboxes[message.mailbox]
        mailbox.count += 1
        mailbox.size += message.size
        self.by_row[message.row] = message
        self._rows.setdefault((message.source, message.id), message.row)
        if message.body is not None:
            self.cached += message.size
        if message.deadline is not None and message.attempts == 0:
            self.expiry.add(message.deadline, message.row)

    def drop(self, message: InMessage) -> None:
        """The message has ended: only the store remembers it now."""
        del self.by_row[message.row]
        if self._rows.get((message.source, message.id)) == message.row:
            del self._rows[message.source, message.id]
        mailbox = self.mailboxes[message.mailbox]
        mailbox.count -= 1
        mailbox.size -= message.size
        if message.body is not None:
            self.cached -= message.size

    def fill(self, message: InMessage, envelope: bytes, body: bytes) -> None:
        """Take in what was read back."""
        message.envelope, message.body = envelope, body
        self.cached += message.size

    def slim(self, message: InMessage) -> None:
        """Let the store alone keep the body of a message that nobody has, when there are too many in memory."""
        here = message.committed and message.body is not None and message.row in self.by_row
        if here and message.holder == 0 and self.cached > CACHED_BODY_BYTES:
            self.cached -= message.size
            message.envelope = message.body = message.opened = None

    # --- ends without a lease ---

    def expired(self, message: InMessage) -> bool:
        """Say whether its ttl has ended before anybody ever leased it."""
        return message.deadline is not None and message.attempts == 0 and message.deadline <= self._turn.now

    def expire(self, message: InMessage, event: str = "ttl") -> None:
        """End a message that nobody took in time. It leaves its queue when it comes to the head."""
        message.state = step(RECEIVER, message.state, event)
        self._turn.persist(SetIn(message.row, Received.EXPIRED, message.attempts, 0.0))
        self._report(message, "expired", "cancelled" if event == "cancel" else "nobody took it before its ttl ended")
        self.drop(message)
        self._turn.then(None, lambda _: self._unexpire(message))

    def _unexpire(self, message: InMessage) -> None:
        """The end of a message could not be written down: it is there still, and ends a little later."""
        message.state = Received.STORED
        message.deadline = self._turn.now + STORE_RETRY
        self.keep(message)

    def cancel(self, source: bytes, ids: Iterable[bytes]) -> None:
        """End messages of one sender that nobody has ever leased."""
        for ident in ids:
            row = self._rows.get((source, ident))
            message = None if row is None else self.by_row[row]
            if message is not None and message.committed and message.state is Received.STORED and not message.attempts:
                self.expire(message, "cancel")

    def expire_due(self) -> None:
        """End what nobody took in time."""
        for _, row in self.expiry.due(self._turn.now):
            message = self.by_row.get(row)
            if message is not None and message.committed and message.state is Received.STORED and not message.attempts:
                self.expire(message)
