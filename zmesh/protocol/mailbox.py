"""One mailbox and those who hold it: what is ready, who waits for how much, who has leased what.

Data and counts only; it must never decide when a message is leased, returned or ended, which `leases` does.
"""

from collections import deque

from zmesh.protocol.bounds import CLASSES
from zmesh.protocol.frames import BUSY, IDLE, AgentRecord
from zmesh.protocol.journal import PutMailbox
from zmesh.protocol.messages import InMessage
from zmesh.protocol.quotas import Quotas

ASKED = -1  # the claim of an answer that goes to whoever asked, beside what it waits for


class Mailbox:
    """One mailbox: its ready messages by class, and who holds it.

    Attributes:
        name, role, capabilities, project: As in the roster.
        holders: By id.
        said: What holders that are there say of its status, by id; the latest comes last.
        seen: When somebody was there who has gone, None for never.
        ready: Committed messages that may be leased, per class.
        count, size: Un-ended messages and their bytes, for the quota.
        arriving: Messages being committed that nobody has leased: later ones must not overtake them.
        fetching: True while bodies are being read back.
    """

    __slots__ = (
        "arriving", "capabilities", "count", "fetching", "holders", "name", "project", "ready", "role", "said", "seen",
        "size",
    )  # fmt: skip

    def __init__(self, row: PutMailbox) -> None:
        """Take over what the store or a command says."""
        self.name, self.role, self.capabilities, self.project = row.name, row.role, row.capabilities, row.project
        self.seen = row.seen
        self.holders: dict[int, Holder] = {}
        self.said: dict[int, str] = {}
        self.ready: list[deque[InMessage]] = [deque() for _ in range(CLASSES)]
        self.count = 0
        self.size = 0
        self.arriving = 0
        self.fetching = False

    @property
    def record(self) -> AgentRecord:
        """What the roster says of it."""
        here = [holder for holder in self.holders.values() if holder.here]
        if not here:
            return AgentRecord(self.name, self.role, self.capabilities, project=self.project)
        said = next(reversed(self.said.values()), "")
        status = said or (BUSY if any(holder.leases for holder in here) else IDLE)
        return AgentRecord(
            self.name, self.role, self.capabilities, attached=True,
            project=self.project, status=status, reach=here[-1].reach,
        )  # fmt: skip

    @property
    def attached(self) -> bool:
        """True while somebody is there to take messages."""
        return any(holder.here for holder in self.holders.values())

    @property
    def absent(self) -> float | None:
        """Since when nobody has been there; None when somebody is, or nobody ever was."""
        return None if self.attached else self.seen

    def row(self, now: float) -> PutMailbox:
        """Return what the store shall know of it."""
        return PutMailbox(
            self.name, self.role, self.capabilities, self.project, seen=now if self.attached else self.seen
        )

    def say(self, ident: int, status: str) -> None:
        """A holder says what is being done here; empty when it has no opinion any more."""
        self.said.pop(ident, None)
        if status and ident in self.holders and self.holders[ident].here:
            self.said[ident] = status

    @property
    def busy(self) -> bool:
        """True when something is ready, or will be once it is on disk."""
        return self.arriving > 0 or any(self.ready)

    def full(self, quotas: Quotas, size: int, count: int = 1) -> bool:
        """Say whether `count` more messages of `size` bytes in all would exceed the quota."""
        return self.count + count > quotas.mailbox_messages or self.size + size > quotas.mailbox_bytes

    def head(self) -> InMessage | None:
        """Return the next message to deliver."""
        for queue in self.ready:
            if queue:
                return queue[0]
        return None

    def taker(self, *, alone: bool) -> "Holder | None":
        """Return the holder that waits for most, so that several share the work.

        Args:
            alone: Take only one that has nothing else.
        """
        waiting = [holder for holder in self.holders.values() if holder.demand > 0 and not (alone and holder.leases)]
        waiting = [holder for holder in waiting if not holder.alone]
        return max(waiting, key=lambda holder: (holder.demand, -holder.id)) if waiting else None


class Holder:
    """A process or object that takes messages from a mailbox.

    Attributes:
        here: False after it was detached, until its leases return.
        reach: How it is reached, a word.
        demand: How many messages it waits for.
        leases: By row.
    """

    __slots__ = ("_takes", "demand", "here", "id", "leases", "mailbox", "reach")

    def __init__(self, ident: int, mailbox: Mailbox, reach: str = "program") -> None:
        """Begin without demand."""
        self.id, self.mailbox, self.reach = ident, mailbox, reach
        self.here = True
        self.demand = 0
        self._takes = 1
        self.leases: dict[int, InMessage] = {}

    def pay(self, message: InMessage) -> None:
        """A message is leased: it is one that the holder waited for, unless it is an answer it had asked for."""
        if message.claim != ASKED:
            self.demand -= 1
            message.claim = self._takes

    def pay_back(self, message: InMessage) -> None:
        """The lease came to nothing: the holder waits for one more again, if it still waits at all."""
        if self.here and message.claim == self._takes:
            self.demand += 1

    def withdraw(self) -> None:
        """The holder waits for nothing any more."""
        self.demand = 0
        self._takes += 1

    @property
    def alone(self) -> bool:
        """True while the holder has a suspect message: nothing else is leased beside it."""
        return bool(self.leases) and next(iter(self.leases.values())).suspect
