"""What goes into the core from this machine: commands, as records.

Frames, commits and time come in by other methods of `Core`. A command that has a ticket is answered by `Settled` or
`Failed` with it (`zmesh.protocol.effects`).
"""

from zmesh.protocol.frames import Have, Ops, Trace, Traced
from zmesh.protocol.journal import InRow
from zmesh.protocol.priority import Priority
from zmesh.protocol.quotas import Quotas
from zmesh.protocol.record import record


@record
class Send:
    """Queue a message. Answered by `Settled(ticket)` after the commit.

    Attributes:
        ticket: Chosen by the caller, unique; `Settled` and `Failed` carry it.
        id: 16 bytes, unique; a second message with the same id is the same message.
        address: Where it goes.
        sender: The sending mailbox of this store.
        priority: Its class.
        ttl: Seconds until it expires, or None for never.
        type, thread, reply_to, sent_at, packed: As in `Envelope`.
        body: The packed body.
        strict: Refuse (`UnknownAgent`) what would have to wait for its mailbox to appear.
    """

    ticket: int
    id: bytes
    address: str
    sender: str
    priority: Priority
    ttl: float | None
    type: str
    thread: bytes
    reply_to: bytes
    sent_at: int
    packed: bool
    body: bytes
    strict: bool = False


@record
class OpenMailbox:
    """Make sure the mailbox exists, for good. Answered by `Settled(ticket)`."""

    ticket: int
    name: str
    role: str
    capabilities: tuple[str, ...]
    project: str = ""


@record
class MergeMailbox:
    """Everything in the mailbox `name` goes into the mailbox `into`, ids kept, and `name` is no more.

    Answered by `Settled(ticket)`.
    """

    ticket: int
    name: str
    into: str


@record
class MoveMail:
    """What nobody has leased of the mailbox `name` goes into the mailbox `into`, ids and attempts kept.

    Answered by `Settled(ticket)`.

    Attributes:
        dead: Rows of dead messages that go along; what is no dead message of `name` must not be among them.
    """

    ticket: int
    name: str
    into: str
    dead: tuple[int, ...] = ()


@record
class RemoveMailbox:
    """The mailbox `name`, which nobody holds and in which nothing is, is no more. Answered by `Settled(ticket)`."""

    ticket: int
    name: str


@record
class Replay:
    """Dead messages of the mailbox `name` are delivered again, as if nobody had ever taken them.

    Answered by `Settled(ticket)`.

    Attributes:
        rows: The messages, as the store has them.
    """

    ticket: int
    name: str
    rows: tuple[InRow, ...]


@record
class Attach:
    """A holder (a process, an agent object) is there for the mailbox; the leases it held before are its own again.

    Attributes:
        reach: How it is reached, a word, for the roster.
    """

    mailbox: str
    holder: int
    reach: str = "program"


@record
class Reclaim:
    """A holder of the last process goes on with a message that was leased to it then; no attempt is counted.

    Attributes:
        holder: As in `Attach`.
        row, id: The lease, as its `Delivery` named it.
    """

    holder: int
    row: int
    id: bytes


@record
class SetStatus:
    """A holder says what its mailbox is doing; that counts while it is attached.

    Attributes:
        status: `idle`, `busy` or `away`; empty when it is to be seen from the leases again.
    """

    mailbox: str
    holder: int
    status: str


@record
class Detach:
    """The holder is gone. Its leases return at once (`grace` 0) or after `grace` seconds."""

    holder: int
    grace: float


@record
class Take:
    """The holder is ready for `count` more messages; they come as `Delivery` when there are any."""

    holder: int
    count: int


@record
class Untake:
    """The holder waits no longer; what is being delivered to it still comes."""

    holder: int


@record
class Expect:
    """The holder waits for the answer to the message `id`: it gets it past the queue and beside its demand.

    Attributes:
        answer: Id of the answer, if it may have come before this; then it is looked for.
    """

    holder: int
    id: bytes
    answer: bytes = b""


@record
class Unexpect:
    """Nobody waits for that answer any more: it goes the way of all messages."""

    id: bytes


@record
class Done:
    """The holder has handled the message; `reply` is queued in the same transaction. Answered by `Settled(ticket)`."""

    ticket: int
    holder: int
    row: int
    reply: Send | None = None


@record
class Nack:
    """The holder gives the message back. Answered by `Settled(ticket)`.

    Attributes:
        delay: Seconds until it is delivered again; None for the usual back-off.
        count: False when the attempt must not count (it was never looked at).
    """

    ticket: int
    holder: int
    row: int
    delay: float | None = None
    count: bool = True


@record
class CancelSend:
    """End an outgoing message now, as its ttl would; the receipt says how far it had got."""

    id: bytes


@record
class Sighted:
    """Discovery saw another store of an admitted device at these addresses."""

    store: bytes
    name: str
    device: str
    endpoints: tuple[str, ...]


@record
class Moved:
    """This host's addresses have changed: others can dial us at these from now on."""

    endpoints: tuple[str, ...]


@record
class Exclude:
    """A device is no member any more: end the links with its stores, and dial them no longer."""

    device: str
    reason: str


@record
class Share:
    """Send a frame about a replicated log or about a message's life to a store, if its link is up."""

    store: bytes
    frame: Have | Ops | Trace | Traced


@record
class Halt:
    """Exchange no mail with a store until a `Release`, whatever restarts between. Answered by `Settled(ticket)`.

    Attributes:
        store: Which one; empty for all of them.
        by: Who says so, in words.
    """

    ticket: int
    store: bytes
    by: str


@record
class Release:
    """Exchange mail again with a store; if `store` is empty, with all that have no halt of their own, and take sends.

    Answered by `Settled(ticket)`.
    """

    ticket: int
    store: bytes


@record
class Drain:
    """Take no new sends until a `Release` of all, or the end of the process. Answered by `Settled(ticket)`."""

    ticket: int
    by: str


@record
class Note:
    """Append a line to the audit log."""

    ticket: int
    kind: str
    text: str


@record
class SetQuotas:
    """Keep as much as these quotas say from now on; what is there already stays.

    It is `ValueError` when one of them is out of its range.
    """

    quotas: Quotas


@record
class Close:
    """Say BYE to everybody; the shell stops afterwards."""


Command = (
    Send
    | OpenMailbox
    | MergeMailbox
    | MoveMail
    | RemoveMailbox
    | Replay
    | Attach
    | Detach
    | Reclaim
    | SetStatus
    | Take
    | Untake
    | Expect
    | Unexpect
    | Done
    | Nack
    | CancelSend
    | Sighted
    | Moved
    | Exclude
    | Share
    | Halt
    | Release
    | Drain
    | Note
    | SetQuotas
    | Close
)
