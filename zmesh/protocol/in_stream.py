"""One class's incoming stream from one store: what was accepted, what is committed, what ended otherwise than stored.

`seen` runs ahead of the committed cursor; only the cursor is ever told to the sender. A failed commit takes `seen` back
to the cursor, and the sender is asked to rewind.
"""

from zmesh.protocol.bounds import NO_ID, REWIND_INTERVAL, WINDOW_MESSAGES
from zmesh.protocol.deadlines import LONG_AGO
from zmesh.protocol.frames import Ending
from zmesh.protocol.journal import InStreamRow


class InStream:
    """The stream of one class.

    Attributes:
        klass: The class.
        cursor: Everything up to it is committed.
        cursor_id: Id of the message at the cursor.
        confirmed: Endings up to this number were confirmed, and are forgotten.
        seen: Everything up to it was accepted, in order.
        seen_id: Id of the message at it.
        earlier: Everything up to it came on earlier links; until it is committed the cursor hides what is to come.
        gap: A number beyond `seen + 1` arrived: the sender must rewind.
        dirty: True when the store's row is behind.
        fresh: A new epoch has begun: with its first row go the endings of the old one.
    """

    __slots__ = (
        "_asked",
        "_endings",
        "confirmed",
        "cursor",
        "cursor_id",
        "dirty",
        "earlier",
        "fresh",
        "gap",
        "klass",
        "seen",
        "seen_id",
    )

    def __init__(self, klass: int, row: InStreamRow | None = None, endings: dict[int, Ending] | None = None) -> None:
        """Begin a stream, or go on where the store's row ended."""
        self.klass = klass
        self.cursor = self.seen = row.cursor if row else 0
        self.cursor_id = self.seen_id = row.cursor_id if row else NO_ID
        self.earlier = self.cursor
        self.confirmed = row.confirmed if row else 0
        self._endings: dict[int, Ending] = endings or {}
        self.gap = False
        self.dirty = False
        self.fresh = False
        self._asked = LONG_AGO

    @property
    def limit(self) -> int:
        """The credit given: the highest number that is accepted.

        It stays within a window of the first ending that the sender has not confirmed, so that endings are bounded too.
        """
        return min(self.cursor, min(self._endings, default=self.cursor + 1) - 1) + WINDOW_MESSAGES

    @property
    def ended(self) -> bool:
        """True when there are endings to tell."""
        return bool(self._endings)

    @property
    def settled(self) -> bool:
        """True when nothing that came on an earlier link is still to be committed."""
        return self.cursor >= self.earlier

    def new_link(self) -> None:
        """The sender greets under a new link id: its disk may have gone back in time."""
        self.earlier = self.seen

    def expects(self, number: int) -> bool:
        """Say whether `number` is the next one; a later one is noted as a gap, an earlier one is a duplicate."""
        if number == self.seen + 1:
            self.gap = False
            return number <= self.limit
        if number > self.seen + 1:
            self.gap = True
        return False

    def advance(self, ident: bytes, ending: Ending | None) -> None:
        """Accept the next number, as stored or with its ending; counts once the row is committed."""
        self.seen += 1
        self.seen_id = ident
        self._asked = LONG_AGO
        self.dirty = True
        if ending is not None:
            self._endings[self.seen] = ending

    def jump(self, number: int, ident: bytes) -> None:
        """Accept that everything up to `number` is gone; `ident` is the id at it."""
        self.seen, self.seen_id = number, ident
        self.gap = False
        self.dirty = True

    def row(self, source: bytes, epoch: int) -> InStreamRow:
        """Return what the store shall know of this stream."""
        return InStreamRow(source, self.klass, epoch, self.seen, self.seen_id, self.confirmed)

    def saved(self, row: InStreamRow) -> None:
        """The row, and what it covers, is on disk."""
        if row.cursor > self.cursor:
            self.cursor, self.cursor_id = row.cursor, row.cursor_id

    def take_back(self) -> None:
        """The commit failed: forget what was accepted and not committed."""
        if self.seen != self.cursor:
            self.seen, self.seen_id, self.gap = self.cursor, self.cursor_id, True
            self.earlier = self.cursor
            self._endings = {n: e for n, e in self._endings.items() if n <= self.cursor}

    def confirm(self, floor: int) -> bool:
        """Forget endings that the sender has confirmed.

        Args:
            floor: The sender's committed floor.

        Returns:
            True when there were any.
        """
        done = [number for number in self._endings if number <= min(floor, self.cursor)]
        for number in done:
            del self._endings[number]
        if done:
            self.confirmed = max(self.confirmed, *done)
            self.dirty = True
        return bool(done)

    def acknowledge(self, most: int) -> tuple[int, list[Ending]]:
        """Return the cursor to tell and the endings up to it.

        Args:
            most: How many endings fit; the cursor stops before the first that does not.
        """
        numbers = sorted(number for number in self._endings if number <= self.cursor)
        if len(numbers) > most:
            return numbers[most] - 1, [self._endings[n] for n in numbers[:most]]
        return self.cursor, [self._endings[n] for n in numbers]

    def wants_rewind(self, now: float) -> bool:
        """Say whether to ask for a rewind: once for a gap, and again when nothing came of it."""
        return self.gap and now >= self._asked + REWIND_INTERVAL

    def asked(self, now: float) -> None:
        """The rewind was asked for."""
        self._asked = now
