"""The frames of the wire, as records. What each means is specified in docs/PROTOCOL.md.

These are data only: `codec` turns them into bytes and back, `core` gives them meaning. A sequence named `per class`
has `CLASSES` entries, critical first.
"""

from enum import IntEnum

from zmesh.protocol.record import record


class Kind(IntEnum):
    """The kind octet. Frames of an unknown kind below 0x80 are skipped; others are dropped, with a line in the log."""

    HELLO = 0x01
    RESET = 0x02
    DATA = 0x03
    ACK = 0x04
    OUTCOME = 0x05
    CANCEL = 0x06
    PING = 0x07
    PEERS = 0x08
    GONE = 0x09
    BYE = 0x0A
    HAVE = 0x0B
    OPS = 0x0C
    CHANGES = 0x0D
    TRACE = 0x0E
    TRACED = 0x0F


@record
class Cursor:
    """How far a stream was received.

    Attributes:
        number: Everything up to it is on the receiver's disk, or ended.
        id: The id of the message at it; `NO_ID` at zero or a void number.
        confirmed: The sender has confirmed endings up to this number, and the receiver has forgotten them. A sender
            whose floor is lower has gone back in time.
    """

    number: int
    id: bytes
    confirmed: int = 0


@record
class Hello:
    """Announces a link and says where the peer's streams stand here.

    Attributes:
        proto_min: Oldest protocol version spoken.
        proto_max: Newest protocol version spoken.
        store: The sending store's id.
        name: The sending peer's name.
        endpoints: Where the sending peer can be dialled.
        echo: The link id of the newest HELLO received from the other side; empty when none was.
        up: True when the other side's HELLO has echoed this link: no answer is needed.
        epoch: Epoch of the other side's streams as received here; 0 when nothing was.
        cursors: Per class, committed.
        limits: Per class, the highest number the other side may send.
    """

    proto_min: int
    proto_max: int
    store: bytes
    name: str
    endpoints: tuple[str, ...]
    echo: bytes
    up: bool
    epoch: int
    cursors: tuple[Cursor, ...]
    limits: tuple[int, ...]


@record
class Reset:
    """The link id in the header is not known here: say HELLO again."""


@record
class Item:
    """One numbered place in a stream.

    Attributes:
        id: The message's id; `NO_ID` for a void number.
        ttl_ms: Milliseconds left until the message expires, None for never.
        envelope: Packed envelope; empty for an empty DATA (expired, cancelled or void).
        body: The message's body.
    """

    id: bytes
    ttl_ms: int | None
    envelope: bytes
    body: bytes


@record
class Data:
    """Consecutive places of one stream.

    Attributes:
        epoch: Epoch of the sender's streams.
        klass: The priority class, 0 to 4.
        floor: Everything up to this number is confirmed at the sender: endings up to it may be forgotten.
        first: Number of the first item.
        items: The places, at least one.
    """

    epoch: int
    klass: int
    floor: int
    first: int
    items: tuple[Item, ...]


@record
class Ending:
    """A number that ended otherwise than stored: refused with a reason, or skipped."""

    klass: int
    number: int
    code: str
    text: str


@record
class Ack:
    """What was received and committed.

    Attributes:
        epoch: Epoch of the streams that are acknowledged; 0 when nothing was ever received.
        cursors: Per class: everything up to it is on the receiver's disk, or ended as listed.
        limits: Per class: absolute credit.
        endings: Every number above the sender's confirmed floor and up to the cursor that was not stored.
        rewinds: (class, number): a gap was seen; send again from this number.
        outcomes: Outcomes up to this number are on disk here.
        roster: Version of the other side's roster that is known here; 0 for none.
    """

    epoch: int
    cursors: tuple[int, ...]
    limits: tuple[int, ...]
    endings: tuple[Ending, ...]
    rewinds: tuple[tuple[int, int], ...]
    outcomes: int
    roster: int


@record
class Fate:
    """What became of stored messages: a code, a sentence or nothing, and the ids it is true of."""

    code: str
    text: str
    ids: tuple[bytes, ...]


@record
class Outcome:
    """What became of messages after they were stored.

    Attributes:
        base: Every outcome below this number is confirmed.
        first: Number of the first id in `fates`; the others follow on.
        fates: In the order of their numbers.
    """

    base: int
    first: int
    fates: tuple[Fate, ...]


@record
class Cancel:
    """Please end these messages if nobody has taken them yet."""

    ids: tuple[bytes, ...]


@record
class Ping:
    """Names what was sent, so that a lost tail is noticed; asks for an ACK.

    Attributes:
        epoch: Epoch of the sender's streams.
        last: Per class, the highest number sent on this link (or the floor).
        floors: Per class, the confirmed floor.
        roster: Version of the sender's roster.
    """

    epoch: int
    last: tuple[int, ...]
    floors: tuple[int, ...]
    roster: int


IDLE, BUSY, AWAY = "idle", "busy", "away"  # a later version may know more


@record
class AgentRecord:
    """One mailbox as its own peer describes it.

    Attributes:
        name: The mailbox.
        role: What it is for, in its owner's words.
        capabilities: What it can do, in its owner's words.
        attached: Somebody is there to take messages.
        project: What it works on, a short label; may be empty.
        status: A word: `IDLE`, `BUSY`, `AWAY`, or one that is not known here.
        reach: How whoever is there is reached, a word; empty when nobody is.
        since_ms: For how long nobody has been there, in milliseconds, when this was sent; None when somebody is, or
            when that is not known.
    """

    name: str
    role: str = ""
    capabilities: tuple[str, ...] = ()
    attached: bool = False
    project: str = ""
    status: str = AWAY
    reach: str = ""
    since_ms: int | None = None

    @property
    def lasting(self) -> tuple[str, tuple[str, ...], str]:
        """What does not change as programs come and go."""
        return self.role, self.capabilities, self.project


@record
class Peers:
    """One page of the sending store's roster."""

    version: int
    page: int
    pages: int
    agents: tuple[AgentRecord, ...]


@record
class Changes:
    """What is new in the sending store's roster.

    Attributes:
        version: Of the roster with these changes.
        base: They are complete for whoever has this version of the roster, or one between the two.
        agents: The mailboxes that are new or have changed.
    """

    version: int
    base: int
    agents: tuple[AgentRecord, ...]


@record
class Gone:
    """The receiver's cursor lies below the floor: these numbers were confirmed once and exist no more.

    `id` is the id at `last`, so that the receiver's next HELLO names the same message as the sender remembers.
    """

    epoch: int
    klass: int
    first: int
    last: int
    id: bytes


@record
class Bye:
    """The link ends; the code says why: `closing`, `version`, or what the other side did against the protocol."""

    code: str
    text: str


@record
class Have:
    """How far the sender knows a replicated log; what that means is the layer's above.

    Attributes:
        log: Id of the log or group of logs, 1 to 32 bytes: the membership of a mesh, a room.
        content: In that layer's own words.
    """

    log: bytes
    content: bytes


@record
class Ops:
    """Entries of a replicated log, which prove themselves: it does not matter who sends them.

    Attributes:
        log: As in `Have`.
        content: As in `Have`.
    """

    log: bytes
    content: bytes


@record
class Trace:
    """Asks what the other side knows of a message that went from one of the two to the other.

    Attributes:
        id: The message.
        sent: True when whoever asks has sent it, False when it has received it.
    """

    id: bytes
    sent: bool


@record
class Step:
    """Something that was seen of a message: a word for it, and how many milliseconds ago it was."""

    what: str
    age_ms: int


@record
class Traced:
    """What a side knows of the message it was asked for.

    Attributes:
        id, sent: As in the question.
        state: Where it stands there, a word; empty when it knows of no such message between the two.
        attempts: How often it was taken, where it was received.
        steps: What was seen of it, the oldest first; not all may be remembered.
    """

    id: bytes
    sent: bool
    state: str = ""
    attempts: int = 0
    steps: tuple[Step, ...] = ()


@record
class Unknown:
    """A frame of a kind below 0x80 that this version does not know: skipped."""

    kind: int


Frame = (
    Hello | Reset | Data | Ack | Outcome | Cancel | Ping | Peers | Gone | Bye | Have | Ops | Changes | Trace | Traced
    | Unknown
)  # fmt: skip
