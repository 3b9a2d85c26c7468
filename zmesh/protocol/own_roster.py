"""What the others are told of our mailboxes, and when: our roster, its versions, and what has changed since each.

A mailbox that changes is only noted; it is looked at when a new version is due, a moment later, so that whatever
happens in between is told once and a message costs nothing. It must never tell more often than `ROSTER_GAP` allows,
nor leave a change untold for a second.
"""

from dataclasses import replace
from itertools import takewhile

from zmesh.protocol.bounds import AGENTS_PER_PAGE, ROSTER_GAP, STATUS_LASTS
from zmesh.protocol.deadlines import NEVER
from zmesh.protocol.frames import AgentRecord, Changes, Peers
from zmesh.protocol.mailbox import Mailbox
from zmesh.protocol.record import record
from zmesh.protocol.turn import Turn


@record
class _Told:
    """What was told of a mailbox, and since which version."""

    version: int
    agent: AgentRecord
    absent: float | None


class OwnRoster:
    """Our roster.

    Attributes:
        version: Of what was told; rises with every change while the process runs.
        due: When a new version is due; `NEVER` when nothing has changed.
    """

    def __init__(self, turn: Turn) -> None:
        """Begin without mailboxes."""
        self.version = 1
        self.due = NEVER
        self._turn = turn
        self._told: dict[str, _Told] = {}  # what changed last comes last
        self._noted: dict[str, Mailbox] = {}
        self._open_at = turn.now  # no version before that
        self._whole_from = 1  # who has an older version is told everything: something is no more

    def note(self, mailbox: Mailbox) -> None:
        """A mailbox has changed: it is new, is described differently, or somebody came, went or has set a status."""
        self._noted[mailbox.name] = mailbox
        self.due = min(self.due, max(self._turn.now, self._open_at))

    def stir(self, mailbox: Mailbox) -> None:
        """The first lease of a holder has begun, or its last one ended: its mailbox may be busy, or idle."""
        self._noted[mailbox.name] = mailbox
        if self.due == NEVER:
            self.due = self._turn.now + STATUS_LASTS

    def forget(self, name: str) -> None:
        """A mailbox is no more."""
        self._noted.pop(name, None)
        if self._told.pop(name, None) is not None:
            self._whole_from = self.version + 1
            self.due = min(self.due, max(self._turn.now, self._open_at))

    def renew(self) -> bool:
        """Look at what was noted; return True when that makes a new version."""
        noted, self._noted = self._noted, {}
        self.due = NEVER
        news = [mailbox for mailbox in noted.values() if self._is_news(mailbox)]
        if not news and self._whole_from <= self.version:
            return False
        self.version += 1
        self._open_at = self._turn.now + ROSTER_GAP
        for mailbox in news:
            self._told.pop(mailbox.name, None)
            self._told[mailbox.name] = _Told(self.version, mailbox.record, mailbox.absent)
        return True

    def _is_news(self, mailbox: Mailbox) -> bool:
        told = self._told.get(mailbox.name)
        return told is None or (told.agent, told.absent) != (mailbox.record, mailbox.absent)

    def frames(self, known: int) -> list[Peers | Changes]:
        """Return what brings somebody to the present version.

        Args:
            known: The version that is there, 0 for none.
        """
        changed = list(takewhile(lambda told: told.version > known, reversed(self._told.values())))
        if known >= self._whole_from and len(changed) <= AGENTS_PER_PAGE:
            return [Changes(self.version, known, self._records(changed))]
        told = list(self._told.values())
        pages = max(1, -(-len(told) // AGENTS_PER_PAGE))
        parts = [told[page * AGENTS_PER_PAGE : (page + 1) * AGENTS_PER_PAGE] for page in range(pages)]
        return [Peers(self.version, page, pages, self._records(part)) for page, part in enumerate(parts)]

    def _records(self, told: list[_Told]) -> tuple[AgentRecord, ...]:
        now = self._turn.now
        return tuple([one.agent if one.absent is None else _since(one.agent, now - one.absent) for one in told])


def _since(agent: AgentRecord, seconds: float) -> AgentRecord:
    return replace(agent, since_ms=int(seconds * 1000))
