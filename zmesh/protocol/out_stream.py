"""One class's outgoing stream to one store: numbers, the confirmed floor, the hand-over mark, and what is in flight.

Numbers are given once and never again, not even when the commit of their message failed: such a number is void and
travels as an empty DATA. Nothing above the committed mark is ever sent, so a number above it may still expire for good.
"""

from zmesh.protocol.bounds import BATCH_BYTES, BATCH_MESSAGES, MARK_AHEAD, NO_ID
from zmesh.protocol.frames import Ending, Item
from zmesh.protocol.journal import OutStreamRow
from zmesh.protocol.messages import OutMessage
from zmesh.protocol.record import record
from zmesh.protocol.states import Sent

ITEM_OVERHEAD = 64  # bytes counted per message beside its body: header and envelope, roughly


@record
class Batch:
    """Consecutive places that may be sent now.

    Attributes:
        first: Number of the first item.
        items: The places; empty when nothing may be sent.
        size: Bytes counted against the window.
        missing: Rows whose bodies must be fetched before the stream can go on.
    """

    first: int
    items: tuple[Item, ...]
    size: int
    missing: tuple[int, ...] = ()


@record
class Settlement:
    """A number that the receiver is done with.

    Attributes:
        number: The number.
        message: The message at it, None for a void number.
        ending: None when the message was stored.
    """

    number: int
    message: OutMessage | None
    ending: Ending | None


class OutStream:
    """The stream of one class.

    Attributes:
        klass: The class.
        entries: Live messages by number; a number between floor and `next_number` without entry is void.
        next_number: The number the next message gets.
        mark: Hand-over of numbers up to here is wanted; `saved_mark` is what the store knows.
        floor: Confirmed by the receiver; `saved_floor` is what the store knows, and what peers are told.
        floor_id: Id of the message at the floor.
        sent: Highest number sent on the present link since the last rewind, or the floor.
        high: Highest number that may ever have been sent: an earlier process may have sent up to its mark.
        limit: Credit: the highest number the receiver accepts.
        flying: Bytes sent and not yet confirmed.
        fetching: True while bodies are being read back.
        dirty: True when the store's row is behind.
    """

    __slots__ = (
        "dirty", "entries", "fetching", "floor", "floor_id", "flying", "high", "klass", "limit", "mark",
        "next_number", "saved_floor", "saved_mark", "sent",
    )  # fmt: skip

    def __init__(self, klass: int, row: OutStreamRow | None = None) -> None:
        """Begin a stream, or go on where the store's row ended."""
        self.klass = klass
        self.entries: dict[int, OutMessage] = {}
        self.next_number = row.next_number if row else 1
        self.mark = self.saved_mark = row.mark if row else 0
        self.floor = self.saved_floor = self.sent = row.floor if row else 0
        self.high = max(self.mark, self.floor)
        self.floor_id = row.floor_id if row else NO_ID
        self.limit = 0
        self.flying = 0
        self.fetching = False
        self.dirty = False

    # --- numbers ---

    def append(self, message: OutMessage, epoch: int, *, handing_over: bool) -> None:
        """Give the message the next number.

        Args:
            message: The message; its epoch and number are set.
            epoch: Epoch of the streams.
            handing_over: The link is up: mark the hand-over in the same commit, if there is credit.
        """
        number = self.next_number
        self.next_number += 1
        message.epoch, message.number = epoch, number
        self.entries[number] = message
        if handing_over and number <= self.limit:
            self.mark = number
        self.dirty = True

    def void(self, message: OutMessage) -> None:
        """Take a message out; its number travels empty."""
        taken = self.entries.pop(message.number, None)
        assert taken is message
        self.flying -= message.flying
        message.flying = 0

    def row(self, dest: bytes, epoch: int) -> OutStreamRow:
        """Return what the store shall know of this stream."""
        return OutStreamRow(dest, self.klass, epoch, self.next_number, self.mark, self.floor, self.floor_id)

    def saved(self, row: OutStreamRow) -> None:
        """The row is on disk."""
        self.saved_mark = max(self.saved_mark, row.mark)
        self.saved_floor = max(self.saved_floor, row.floor)

    def id_at(self, number: int) -> bytes | None:
        """Return the id at a number (`NO_ID` for a void one), or None when the number is unknown or forgotten."""
        if number == self.floor:
            return self.floor_id
        if not self.floor < number < self.next_number:
            return None
        message = self.entries.get(number)
        return message.id if message else NO_ID

    # --- sending ---

    @property
    def unconfirmed(self) -> bool:
        """True when something was sent on this link and not confirmed."""
        return self.sent > self.floor

    @property
    def ready(self) -> bool:
        """True when there may be something to send, credit and mark permitting."""
        return self.sent + 1 < self.next_number and self.sent < self.limit and not self.fetching

    def raise_mark(self) -> bool:
        """Want the hand-over of what comes next, when the mark stands in the way.

        Returns:
            True when a commit of the row must come first.
        """
        if self.sent < self.saved_mark:
            return False
        if self.mark <= self.saved_mark:
            self.mark = max(self.mark, min(self.next_number - 1, self.limit, self.sent + MARK_AHEAD))
            self.dirty = True
        return True

    def take(self, room: int, now: float) -> Batch:
        """Take the next places that may be sent, and count them as sent.

        Args:
            room: Bytes left in the window of the peer; one message goes even when it is larger, if nothing flies.
            now: For the remaining ttl.
        """
        first = number = self.sent + 1
        top = min(self.limit, self.saved_mark, self.next_number - 1)
        batch_room = min(room, BATCH_BYTES)
        items: list[Item] = []
        size = 0
        while number <= top and len(items) < BATCH_MESSAGES:
            message = self.entries.get(number)
            if message is None:
                items.append(Item(NO_ID, None, b"", b""))
            elif not message.committed:
                break
            elif message.empty:
                items.append(Item(message.id, None, b"", b""))
            else:
                cost = message.size + ITEM_OVERHEAD
                if size + cost > batch_room if items else cost > room and self.flying:
                    break
                if message.body is None:
                    break
                items.append(_item(message, now))
                message.flying = cost
                size += cost
                if message.state is Sent.QUEUED:
                    message.step("handed over")
            number += 1
        self.sent = number - 1
        self.high = max(self.high, self.sent)
        self.flying += size
        missing = () if items else self._missing(number, top)
        return Batch(first, tuple(items), size, missing)

    def _missing(self, number: int, top: int) -> tuple[int, ...]:
        """Return the rows of the next messages whose bodies are not in memory, when the next one is such."""
        rows: list[int] = []
        size = 0
        while number <= top and len(rows) < MARK_AHEAD and size < 4 * BATCH_BYTES:
            message = self.entries.get(number)
            if message is not None and (message.body is not None or not message.committed):
                break
            if message is not None and not message.empty:
                rows.append(message.row)
                size += message.size + ITEM_OVERHEAD
            number += 1
        return tuple(rows)

    def rewind(self, number: int) -> None:
        """Send again from `number`; numbers up to the floor are never sent again."""
        start = max(number, self.floor + 1)
        for again in range(start, self.sent + 1):
            message = self.entries.get(again)
            if message is not None:
                self.flying -= message.flying
                message.flying = 0
                if message.state is Sent.SENT:
                    message.step("link reset")
        self.sent = min(self.sent, start - 1)

    def skip_to(self, cursor: int) -> None:
        """The receiver has everything up to `cursor`: go on behind it (the ACK that follows will settle it)."""
        assert cursor <= self.saved_mark
        self.sent = max(self.sent, self.floor, cursor)
        self.high = max(self.high, self.sent)

    # --- confirmation ---

    def settle(self, cursor: int, endings: dict[int, Ending]) -> list[Settlement]:
        """Advance the floor to the receiver's cursor.

        Args:
            cursor: Committed by the receiver; at most `high` (checked by the caller).
            endings: By number, what was not stored.
        """
        settled: list[Settlement] = []
        if cursor <= self.floor:
            return settled
        assert cursor <= self.high
        self.floor_id = self.id_at(cursor) or NO_ID
        for number in range(self.floor + 1, cursor + 1):
            message = self.entries.pop(number, None)
            if message is not None:
                self.flying -= message.flying
                message.flying = 0
            settled.append(Settlement(number, message, endings.get(number)))
        self.floor = cursor
        self.sent = max(self.sent, cursor)
        self.dirty = True
        return settled


def _item(message: OutMessage, now: float) -> Item:
    assert message.body is not None
    ttl = None if message.deadline is None else max(0, int((message.deadline - now) * 1000))
    return Item(message.id, ttl, message.envelope, message.body)
