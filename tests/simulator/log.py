"""The senders' own outside log: what was asked of the mesh and what it answered, kept where no crash can reach it."""

from dataclasses import dataclass, field
from enum import Enum

from zmesh.protocol.priority import Priority


class Fact(Enum):
    """What the sender knows of its `send`."""

    ASKED = "asked"  # no answer yet
    SETTLED = "settled"  # the call returned: from here on the mesh is responsible
    FAILED = "failed"  # the call said that nothing of it is on disk
    UNKNOWN = "unknown"  # the process died before it answered


@dataclass(eq=False)
class Sending:
    """One message, as its sender remembers it.

    Attributes:
        id: Its id.
        source: Index of the sending store.
        target: Index of the receiving store; None for one that does not exist.
        mailbox, priority, ttl, body, address: As it was sent.
        fact: What the sender knows.
        cancelled: It was asked to end early.
        doubtful: A process died over one of the tries: that one may have happened.
        at: Time of the world when it settled.
    """

    id: bytes
    source: int
    target: int | None
    mailbox: str
    address: str
    priority: Priority
    ttl: float | None
    body: bytes
    reply_to: bytes = b""
    sender: str = "app"
    fact: Fact = Fact.ASKED
    cancelled: bool = False
    doubtful: bool = False
    tries: int = 0
    at: float = 0.0

    def not_done(self) -> None:
        """The last try is known to have left nothing; an earlier one may have."""
        if self.fact is Fact.ASKED:
            self.fact = Fact.UNKNOWN if self.doubtful else Fact.FAILED


@dataclass
class Log:
    """All sends of all stores, in the order in which they were first asked."""

    sendings: dict[bytes, Sending] = field(default_factory=dict)

    def add(self, sending: Sending) -> Sending:
        """Keep a send; a repeated reply is the one kept before."""
        return self.sendings.setdefault(sending.id, sending)

    def count(self, fact: Fact) -> int:
        """Say of how many sends this is known."""
        return sum(sending.fact is fact for sending in self.sendings.values())
