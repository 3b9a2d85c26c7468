"""The state machines of delivery, as tables. Everything that may change a state is here.

`step` is the only way a state changes; the diagrams in docs/PROTOCOL.md are generated from the tables
(`python -m zmesh.protocol.states`), and a test compares them. A transition that is not in its table is a bug in zmesh,
never something a peer can cause: callers check first what peers claim.
"""

from enum import IntEnum
from typing import Final, TypeVar


class Sent(IntEnum):
    """The sender's view of one message; the names are what people see in a receipt."""

    WAITING = 0
    QUEUED = 1
    SENT = 2
    STORED = 3
    HANDLED = 4
    EXPIRING = 5
    EXPIRED = 6
    REFUSED = 7
    DEAD = 8
    LOST = 9


class Received(IntEnum):
    """The receiver's view of one message."""

    STORED = 0
    LEASED = 1
    HANDLED = 2
    EXPIRED = 3
    DEAD = 4


class Link(IntEnum):
    """One peer's view of its link to another store."""

    IDLE = 0
    DIALING = 1
    GREETING = 2
    UP = 3


S = TypeVar("S", Sent, Received, Link)
Table = dict[S, dict[str, S]]

SENDER: Final[Table[Sent]] = {
    Sent.WAITING: {
        "mailbox seen": Sent.QUEUED,
        "ttl": Sent.EXPIRED,
        "ttl, in doubt": Sent.LOST,
        "stored here": Sent.STORED,
        "outcome": Sent.STORED,
        "refused": Sent.REFUSED,
    },
    Sent.QUEUED: {
        "handed over": Sent.SENT,
        "ttl": Sent.EXPIRED,
        "ttl, in doubt": Sent.LOST,
        "ttl, maybe sent": Sent.EXPIRING,
        "cursor": Sent.STORED,
        "outcome": Sent.STORED,
        "refused": Sent.REFUSED,
        "no such mailbox": Sent.WAITING,
        "mailbox full": Sent.QUEUED,
        "rate limited": Sent.QUEUED,
        "skipped": Sent.EXPIRED,
    },
    Sent.SENT: {
        "link reset": Sent.QUEUED,
        "cursor": Sent.STORED,
        "refused": Sent.REFUSED,
        "no such mailbox": Sent.WAITING,
        "mailbox full": Sent.QUEUED,
        "rate limited": Sent.QUEUED,
        "ttl, maybe sent": Sent.EXPIRING,
        "skipped": Sent.EXPIRED,
    },
    Sent.EXPIRING: {
        "cursor": Sent.STORED,
        "outcome": Sent.STORED,
        "ttl, in doubt": Sent.LOST,
        "skipped": Sent.EXPIRED,
        "refused": Sent.EXPIRED,
        "no such mailbox": Sent.EXPIRED,
        "mailbox full": Sent.EXPIRED,
        "rate limited": Sent.EXPIRED,
    },
    Sent.STORED: {
        "handled": Sent.HANDLED,
        "dead": Sent.DEAD,
        "expired there": Sent.EXPIRED,
        "rolled back": Sent.LOST,
    },
    Sent.HANDLED: {},
    Sent.EXPIRED: {},
    Sent.REFUSED: {},
    Sent.DEAD: {"handled": Sent.HANDLED, "replayed": Sent.STORED},
    Sent.LOST: {"handled": Sent.HANDLED, "replayed": Sent.STORED},
}

RECEIVER: Final[Table[Received]] = {
    Received.STORED: {"lease": Received.LEASED, "ttl": Received.EXPIRED, "cancel": Received.EXPIRED},
    Received.LEASED: {
        "done": Received.HANDLED,
        "nack": Received.STORED,
        "holder gone": Received.STORED,
        "too many attempts": Received.DEAD,
    },
    Received.HANDLED: {},
    Received.EXPIRED: {},
    Received.DEAD: {"replayed": Received.STORED},
}

LINK: Final[Table[Link]] = {
    Link.IDLE: {"dial": Link.DIALING, "their way": Link.GREETING},
    Link.DIALING: {"ready": Link.GREETING, "their way": Link.GREETING, "dial": Link.DIALING, "close": Link.IDLE},
    Link.GREETING: {
        "echoed": Link.UP,
        "ready": Link.GREETING,
        "their way": Link.GREETING,
        "reset": Link.GREETING,
        "dial": Link.DIALING,
        "close": Link.IDLE,
    },
    Link.UP: {
        "ready": Link.GREETING,
        "their way": Link.GREETING,
        "reset": Link.GREETING,
        "dial": Link.DIALING,
        "close": Link.IDLE,
    },
}

SENDER_LIVE: Final = frozenset({Sent.WAITING, Sent.QUEUED, Sent.SENT, Sent.EXPIRING})
"""The states in which the sender still has something to do; the others are endings, or STORED."""


def step(table: Table[S], state: S, event: str) -> S:
    """Return the state that follows.

    Raises:
        AssertionError: The table has no such transition: a bug in zmesh.
    """
    following = table[state].get(event)
    assert following is not None, f"{state.name} has no transition {event!r}"
    return following


def diagram(name: str, table: Table[S]) -> str:
    """Draw a table as a Mermaid state diagram."""
    lines: list[str] = ["```mermaid", "stateDiagram-v2", f"    %% {name}"]
    for state, transitions in table.items():
        for event, following in transitions.items():
            lines.append(f"    {state.name} --> {following.name}: {event}")
    return "\n".join([*lines, "```"])


def diagrams() -> str:
    """Draw all three machines, as they stand in docs/PROTOCOL.md."""
    return "\n\n".join([diagram("sender", SENDER), diagram("receiver", RECEIVER), diagram("link", LINK)])


if __name__ == "__main__":  # pragma: no cover - prints what the function above returns
    print(diagrams())  # noqa: T201 - this is the generator's output
