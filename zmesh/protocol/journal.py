"""What the core asks the store to remember, and what it needs back at the next start.

An op is one change. The ops of one `Persist` are committed in one transaction, in their order, or not at all. Every op
is absolute (it states the new value), so that applying one twice changes nothing. The store must apply ops exactly as
their docstrings say: `tests/simulator` holds a model of them and the SQLite store is compared with it.

Times (`deadline`, `due`) are seconds on the store's own clock, which never steps (see `zmesh.peer.clock`).
"""

from collections.abc import Mapping

from zmesh.protocol.bounds import NO_ID
from zmesh.protocol.frames import AgentRecord
from zmesh.protocol.record import record
from zmesh.protocol.states import Received, Sent


@record
class PutOut:
    """Insert an outgoing message under `row`.

    An outgoing message with the same id that is already there wins: the new one is ignored, its row reported.

    Attributes:
        row: Position in the outbox, rising, chosen by the core.
        id: Message id, unique in the outbox.
        dest: Id of the store it goes to; empty while the peer is not known.
        address: `agent@peer` as resolved; what a waiting message waits for.
        klass: Priority class.
        epoch: Epoch of the stream; 0 while waiting.
        number: Place in the stream; 0 while waiting.
        state: WAITING, QUEUED, or an ending for local messages.
        deadline: When it expires, or None.
        envelope: Packed envelope.
        body: The body.
    """

    row: int
    id: bytes
    dest: bytes
    address: str
    klass: int
    epoch: int
    number: int
    state: Sent
    deadline: float | None
    envelope: bytes
    body: bytes


@record
class MoveOut:
    """Give the outgoing message `row` a new place: another store, epoch or number, and a state."""

    row: int
    dest: bytes
    epoch: int
    number: int
    state: Sent


@record
class EndOut:
    """Set the state of outgoing messages `first..last` (rows, inclusive).

    An ended one (STORED or later, but EXPIRING) loses its body.
    """

    first: int
    last: int
    state: Sent
    detail: str


@record
class FateOut:
    """Set the state of the outgoing messages with these ids, whatever it was, unless it is final already.

    A message that is HANDLED, REFUSED or EXPIRED keeps its state; unknown ids are ignored; `dest` must match. The
    message loses its body.
    """

    dest: bytes
    ids: tuple[bytes, ...]
    state: Sent
    detail: str


@record
class LoseOut:
    """Mark the messages to `dest` with these places as LOST, if they were STORED."""

    dest: bytes
    epoch: int
    klass: int
    first: int
    last: int


@record
class OutStreamRow:
    """Replace the row of the outgoing stream (dest, klass)."""

    dest: bytes
    klass: int
    epoch: int
    next_number: int
    mark: int
    floor: int
    floor_id: bytes


@record
class PutIn:
    """Insert an incoming message under `row`.

    A message from the same device with the same id that was ever received, ended ones included, wins: the new one is
    ignored, its row reported.
    """

    row: int
    id: bytes
    device: str
    source: bytes
    mailbox: str
    klass: int
    attempts: int
    due: float
    deadline: float | None
    envelope: bytes
    body: bytes


@record
class SetIn:
    """Update the incoming message `row`; an ended one loses envelope and body, its id is kept for dedup.

    DEAD keeps envelope and body: a person may want to see what nobody could handle.
    """

    row: int
    state: Received
    attempts: int
    due: float


@record
class InStreamRow:
    """Replace the row of the incoming stream (source, klass)."""

    source: bytes
    klass: int
    epoch: int
    cursor: int
    cursor_id: bytes
    confirmed: int = 0


@record
class PutEnding:
    """Insert or replace the ending of (source, klass, number)."""

    source: bytes
    klass: int
    number: int
    code: str
    text: str


@record
class DropEndings:
    """Delete the endings of (source, klass) with numbers up to `upto`."""

    source: bytes
    klass: int
    upto: int


@record
class PutOutcome:
    """Insert an outcome that the sending store `dest` must hear of; numbers rise without gaps per `dest`."""

    number: int
    dest: bytes
    id: bytes
    code: str
    text: str


@record
class DropOutcomes:
    """Delete the outcomes for `dest` with numbers up to `upto`."""

    dest: bytes
    upto: int


@record
class PutMailbox:
    """Insert or replace a mailbox of this store.

    Attributes:
        seen: When somebody was last there to take messages, as far as that was written down; None for never.
        The others: as in `AgentRecord`.
    """

    name: str
    role: str
    capabilities: tuple[str, ...]
    project: str = ""
    seen: float | None = None


@record
class MergeMailbox:
    """All messages of the mailbox `name`, ended ones too, are the mailbox `into`'s from now on; `name` is no more."""

    name: str
    into: str


@record
class DropMailbox:
    """The mailbox `name` is no more; messages that were in it and have ended stay as they are."""

    name: str


@record
class MoveIn:
    """The incoming message `row` is the mailbox `into`'s from now on."""

    row: int
    into: str


@record
class ReviveIn:
    """The incoming message `row`, if it is DEAD, is STORED again, with no attempts, due at once, and never expires.

    One whose body was purged stays dead.
    """

    row: int


@record
class PutPeer:
    """Insert or replace what is known of another store.

    Attributes:
        agents: What lasts of each mailbox in its roster, with `since_ms` as of `last_seen`.
        last_seen: When it was last heard.
    """

    store: bytes
    name: str
    device: str
    endpoints: tuple[str, ...]
    roster: int
    agents: tuple[AgentRecord, ...]
    last_seen: float


@record
class DropPeer:
    """Forget another store: its row, the streams to and from it, their endings, and the outcomes for it."""

    store: bytes


@record
class PutHalt:
    """Insert or replace the halt of the store `store`, or that of all mail if it is empty: an administrator's word.

    Attributes:
        since: When it was said.
        by: Who said so, in words.
    """

    store: bytes
    since: float
    by: str


@record
class DropHalt:
    """Delete the halt of `store`, or that of all mail if it is empty."""

    store: bytes


@record
class PutAudit:
    """Append a line to the audit log: a loss, a rollback, a refusal of a forged frame."""

    at: float
    kind: str
    text: str


Op = (
    PutOut | MoveOut | EndOut | FateOut | LoseOut | OutStreamRow | PutIn | SetIn | InStreamRow | PutEnding | DropEndings
    | PutOutcome | DropOutcomes | PutMailbox | MergeMailbox | DropMailbox | MoveIn | ReviveIn | PutPeer | DropPeer
    | PutHalt | DropHalt | PutAudit
)  # fmt: skip


@record
class Written:
    """What only the store can tell of a commit; mostly nothing.

    Attributes:
        ignored_out: Rows of `PutOut` whose id was there already, each with the state of the message that is there.
        ignored_in: Rows of `PutIn` whose message was there already, the same.
        lost: Ids of the messages that a `LoseOut` marked.
    """

    ignored_out: Mapping[int, Sent]
    ignored_in: Mapping[int, Received]
    lost: tuple[bytes, ...] = ()


NOTHING_SPECIAL = Written({}, {})


@record
class OutRow:
    """An un-ended outgoing message as the store found it; its body is fetched when it is sent.

    Attributes:
        size: Bytes of the body.
        The others: as in `PutOut`.
    """

    row: int
    id: bytes
    dest: bytes
    address: str
    klass: int
    epoch: int
    number: int
    state: Sent
    deadline: float | None
    envelope: bytes
    size: int


@record
class InRow:
    """An un-ended incoming message as the store found it; envelope and body are fetched when it is leased."""

    row: int
    id: bytes
    source: bytes
    mailbox: str
    klass: int
    attempts: int
    due: float
    deadline: float | None
    size: int


@record
class Snapshot:
    """Everything the core needs to go on where the last process ended.

    Attributes:
        store: This store's id.
        next_out: Above every row ever used in the outbox that may still exist.
        next_in: The same for the inbox.
        outs: WAITING, QUEUED and EXPIRING messages, by row.
        ins: STORED messages, by row.
        The others: the rows of the ops of that name.
    """

    store: bytes = NO_ID
    next_out: int = 1
    next_in: int = 1
    outs: tuple[OutRow, ...] = ()
    ins: tuple[InRow, ...] = ()
    out_streams: tuple[OutStreamRow, ...] = ()
    in_streams: tuple[InStreamRow, ...] = ()
    endings: tuple[PutEnding, ...] = ()
    outcomes: tuple[PutOutcome, ...] = ()
    mailboxes: tuple[PutMailbox, ...] = ()
    peers: tuple[PutPeer, ...] = ()
    halts: tuple[PutHalt, ...] = ()
