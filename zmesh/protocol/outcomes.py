"""Outcomes: what became of stored messages, told to the store that sent them until it confirms.

They are facts, not messages: numbered per destination without gaps, sent in order, resent from the first unconfirmed
one, outside every quota. Saying one twice changes nothing.
"""

from collections import deque

from zmesh.protocol.bounds import KEPT_ENDED, OUTCOMES_PER_FRAME, OUTCOMES_WINDOW
from zmesh.protocol.frames import Fate, Outcome
from zmesh.protocol.journal import PutOutcome


class OutcomeSender:
    """The outcomes for one store.

    Attributes:
        sent: Highest number sent on the present link.
        committed: Highest number on disk: only up to there anything is sent.
        undropped: Something that is over is on disk still, for the commit that should have dropped it failed.
    """

    def __init__(self, rows: list[PutOutcome]) -> None:
        """Go on with the rows the store kept, in the order of their numbers."""
        self._rows = deque(rows)
        self._next = rows[-1].number + 1 if rows else 1
        self.committed = self._next - 1
        self.sent = self.base - 1
        self.undropped = False

    @property
    def base(self) -> int:
        """The first unconfirmed number; the next one to be given when all are confirmed."""
        return self._rows[0].number if self._rows else self._next

    @property
    def pending(self) -> bool:
        """True when there is anything left to tell."""
        return bool(self._rows)

    @property
    def unconfirmed(self) -> bool:
        """True when something was sent on this link and not confirmed."""
        return self.sent >= self.base

    def add(self, dest: bytes, ident: bytes, code: str, text: str) -> PutOutcome:
        """Number an outcome; it is sent once `committed` has reached it."""
        row = PutOutcome(self._next, dest, ident, code, text)
        self._next += 1
        self._rows.append(row)
        return row

    def make_room(self) -> int:
        """Give up the oldest outcome when there are too many; return its number, or 0 when there is room.

        Who has not come back for so long learns from its own ttl that nobody told it more.
        """
        if len(self._rows) < KEPT_ENDED:
            return 0
        number = self._rows.popleft().number
        self.sent = max(self.sent, number)
        return number

    def take_back(self, number: int) -> None:
        """The commit of `number` failed, and with it that of all later ones: their numbers are given again."""
        while self._rows and self._rows[-1].number >= number:
            self._rows.pop()
        self._next = min(self._next, number)

    def rewind(self) -> None:
        """A new link: send again everything unconfirmed."""
        self.sent = self.base - 1

    def take(self) -> Outcome | None:
        """Return the next frame, or None when everything committed is sent, or too much is unconfirmed."""
        first = max(self.sent + 1, self.base)
        count = min(self.committed - first + 1, OUTCOMES_PER_FRAME, self.base + OUTCOMES_WINDOW - first)
        if count <= 0:
            return None
        offset = first - self.base
        rows = [self._rows[offset + i] for i in range(count)]
        fates: list[Fate] = []
        ids: list[bytes] = []
        for at, row in enumerate(rows):
            ids.append(row.id)
            last = at + 1 == count
            if last or (rows[at + 1].code, rows[at + 1].text) != (row.code, row.text):
                fates.append(Fate(row.code, row.text, tuple(ids)))
                ids = []
        self.sent = first + count - 1
        return Outcome(self.base, first, tuple(fates))

    def confirm(self, upto: int) -> bool:
        """The other side has everything up to `upto` on disk.

        Returns:
            True when rows can be dropped; numbers that were not sent on this link are no evidence and change nothing.
        """
        if not self.base <= upto <= self.sent:
            return False
        while self._rows and self._rows[0].number <= upto:
            self._rows.popleft()
        return True


class OutcomeReceiver:
    """How far the outcomes of one store were received on its present link.

    Attributes:
        seen: Accepted in order up to here.
        saved: Committed up to here; this is what an ACK says.
    """

    def __init__(self) -> None:
        """Begin with a new link."""
        self.seen = 0
        self.saved = 0

    def accept(self, frame: Outcome) -> bool:
        """Say whether the frame brings anything new; one that leaves a gap is ignored and will come again."""
        last = frame.first + sum(len(fate.ids) for fate in frame.fates) - 1
        if frame.first > max(self.seen + 1, frame.base) or last <= self.seen:
            return False
        self.seen = last
        return True

    def take_back(self) -> None:
        """The commit failed: what it covered must come again."""
        self.seen = self.saved
