"""What comes out of the core: effects, as records.

An effect is what the shell must do. The law of the journal: whatever depends on a `Persist` comes out only after
`Core.committed`.
"""

from zmesh.protocol.envelope import Envelope
from zmesh.protocol.frames import Have, Ops, Trace, Traced
from zmesh.protocol.journal import Op
from zmesh.protocol.priority import Priority
from zmesh.protocol.record import record
from zmesh.protocol.states import Sent

Path = bytes
"""The routing id of an inbound connection; used to answer RESET, and BYE for a version, and for `SendBack`."""


@record
class Persist:
    """Commit these ops in one transaction, then call `Core.committed(token)`, or `Core.failed(token)`.

    Once a Persist of a generation has failed, the store must fail every later one of that generation without trying:
    the committed ones are always a prefix.
    """

    token: int
    generation: int
    ops: tuple[Op, ...]


@record
class FetchOut:
    """Read the bodies of these outbox rows, then call `Core.fetched_out` with what was found."""

    rows: tuple[int, ...]


@record
class FetchIn:
    """Read envelope and body of these inbox rows, then call `Core.fetched_in` with what was found."""

    rows: tuple[int, ...]


@record
class Transmit:
    """Send these parts on the DEALER to `store`; if it cannot, call `Core.undeliverable(store)`."""

    store: bytes
    parts: list[bytes]


@record
class Answer:
    """Send these parts back on the inbound connection; best effort."""

    path: Path
    parts: list[bytes]


@record
class SendBack:
    """Send these parts on the inbound connection `path`, sealed to the device whose store cannot be dialled.

    If it cannot be done, call `Core.undeliverable(store, path)`.
    """

    store: bytes
    device: str
    path: Path
    parts: list[bytes]


@record
class Dial:
    """Open a fresh connection to `store`, dropping the old one; call `Core.ready(store)` when it is writable."""

    store: bytes
    device: str
    endpoint: str


@record
class Hangup:
    """Close the connection to `store`."""

    store: bytes


@record
class Delivery:
    """Hand a leased message to its holder.

    Attributes:
        holder: As in `Attach`.
        row: Names the lease in `Done` and `Nack`.
        id: The message's id.
        source: Id of the store it came from.
        envelope: What it says about itself; its sender is verified.
        priority: Its class.
        attempt: 1 for the first delivery.
        body: The packed body.
        asked: It came because of an `Expect`, beside what the holder takes.
    """

    holder: int
    row: int
    id: bytes
    source: bytes
    envelope: Envelope
    priority: Priority
    attempt: int
    body: bytes
    asked: bool = False


@record
class Settled:
    """The command with this ticket is on disk.

    Attributes:
        id: For `Send`, the message's id.
        address: For `Send`, the address it was resolved to.
        state: For `Send`, where it stands.
        warning: For `Send`, what the sender should know (an unknown mailbox and near names), or empty.
        dest: For `Send`, the store it goes to; empty while that is not known.
    """

    ticket: int
    id: bytes = b""
    address: str = ""
    state: Sent = Sent.QUEUED
    warning: str = ""
    dest: bytes = b""


@record
class Failed:
    """The command with this ticket was not carried out: its commit failed. Nothing of it is on disk."""

    ticket: int
    reason: str


@record
class Progress:
    """An outgoing message reached a state that was observed.

    Attributes:
        id: The message.
        state: What it reached.
        detail: Why, in words.
        dest: The store that said so: whoever knows where the message went must compare, since any member can name any
            id. Empty when the message had not found its store yet.
    """

    id: bytes
    state: Sent
    detail: str
    dest: bytes


@record
class Linked:
    """The link to a store has come up."""

    store: bytes
    device: str


@record
class Told:
    """A store has told about a replicated log; nothing in the frame's content was checked."""

    store: bytes
    device: str
    frame: Have | Ops


@record
class Inquired:
    """A store asks about a message, no faster than it may, or answers; nothing in the frame was checked.

    What may be answered is said by `tracing.answer`.
    """

    store: bytes
    device: str
    frame: Trace | Traced


@record
class Notice:
    """Something a person should find in the log: a protocol error, a rollback, a loss."""

    level: str
    text: str


Effect = (
    Persist
    | FetchOut
    | FetchIn
    | Transmit
    | SendBack
    | Answer
    | Dial
    | Hangup
    | Delivery
    | Settled
    | Failed
    | Progress
    | Linked
    | Told
    | Inquired
    | Notice
)
