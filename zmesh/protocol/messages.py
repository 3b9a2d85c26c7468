"""The core's records of messages that have not ended yet: one object per message, changed in place.

Only the two halves (`outbox`, `outgoing`, `expiry`, `out_stream`; `inbox`, `incoming`, `leases`) may change these;
everybody else sees the events made from them.
"""

from typing import TYPE_CHECKING

from zmesh.protocol.journal import InRow, OutRow
from zmesh.protocol.states import SENDER, Received, Sent, step

if TYPE_CHECKING:
    from zmesh.protocol.envelope import Envelope

_FIRST_EPOCH = 1


class OutMessage:
    """An outgoing message that the sender still has something to do for.

    Attributes:
        row, id, dest, address, klass, epoch, number, deadline, envelope, size: As in `OutRow`.
        state: As the sender sees it; SENT is known in memory only.
        body: None when it must be read back from the store.
        committed: True when the message is on disk: only then may it be sent.
        flying: Bytes counted against the window of the peer while it is unacknowledged.
        refusals: Temporary refusals so far.
        doubt: Our disk went back in time: it may have been stored there under another number, which we have forgotten.
    """

    __slots__ = (
        "address", "body", "committed", "deadline", "dest", "doubt", "envelope", "epoch", "flying", "id",
        "klass", "number", "refusals", "row", "size", "state",
    )  # fmt: skip

    def __init__(self, row: OutRow, body: bytes | None = None) -> None:
        """Take over what the store or a command says."""
        self.row, self.id, self.dest, self.address = row.row, row.id, row.dest, row.address
        self.klass, self.epoch, self.number, self.state = row.klass, row.epoch, row.number, row.state
        self.deadline, self.envelope, self.size, self.body = row.deadline, row.envelope, row.size, body
        self.committed = body is None
        self.flying = 0
        self.refusals = 0
        self.doubt = self.epoch > _FIRST_EPOCH

    def step(self, event: str) -> None:
        """Move along the sender's table."""
        self.state = step(SENDER, self.state, event)

    @property
    def empty(self) -> bool:
        """True when its number travels as an empty DATA: it expired, and is not there unless under this number.

        One in doubt travels whole, so that its id can tell whether it was stored under an older number.
        """
        return self.state is Sent.EXPIRING and not self.doubt

    @property
    def mailbox(self) -> str:
        """The mailbox in the address."""
        return self.address.partition("@")[0]


class InMessage:
    """A received message that nobody has finished yet.

    Attributes:
        row, id, source, mailbox, klass, attempts, due, deadline, size: As in `InRow`.
        state: STORED or LEASED; the endings are not kept in memory.
        envelope: Packed, None when it must be read back from the store.
        body: None when it must be read back from the store.
        opened: The envelope unpacked, while it is at hand.
        holder: Who holds the lease; 0 for nobody.
        suspect: True when a holder went away with it: it may be what ended that one.
        claim: For what its holder got it: `mailbox.ASKED`, or the count of its takes at that time.
        finishing: True while a `Done` is being committed.
        committed: True when the message is on disk.
    """

    __slots__ = (
        "attempts", "body", "claim", "committed", "deadline", "due", "envelope", "finishing", "holder", "id", "klass",
        "mailbox", "opened", "row", "size", "source", "state", "suspect",
    )  # fmt: skip

    def __init__(self, row: InRow, envelope: bytes | None = None, body: bytes | None = None) -> None:
        """Take over what the store or a frame says."""
        self.row, self.id, self.source, self.mailbox = row.row, row.id, row.source, row.mailbox
        self.klass, self.attempts, self.due, self.deadline = row.klass, row.attempts, row.due, row.deadline
        self.size, self.envelope, self.body = row.size, envelope, body
        self.opened: Envelope | None = None
        self.state = Received.STORED
        self.holder = 0
        self.claim = 0
        self.finishing = False
        self.suspect = self.attempts > 0
        self.committed = body is None
