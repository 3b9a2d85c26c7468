"""What time does to outgoing messages: ttls end, cancelled ones end early, and parked ones get another chance.

A message ends for good only if its hand-over had not begun, and once that is written down. What may have been handed
over must never be called expired before its receiver has spoken, and what is in doubt never at all.
"""

from collections.abc import Callable

from zmesh.protocol.backoff import delay_of
from zmesh.protocol.bounds import REQUEUE_FIRST, REQUEUE_MAX, STORE_RETRY
from zmesh.protocol.deadlines import Deadlines
from zmesh.protocol.effects import Progress
from zmesh.protocol.journal import EndOut
from zmesh.protocol.messages import OutMessage
from zmesh.protocol.outgoing import Outgoing
from zmesh.protocol.remote import Remote
from zmesh.protocol.states import Sent
from zmesh.protocol.turn import Turn

IN_DOUBT = "the ttl ended; our store went back in time or is a copy, and it may have arrived before that"

_ENDING = (Sent.EXPIRING, Sent.EXPIRED, Sent.LOST)  # the last two while that is being written down
_UNCOMMITTED_RETRY = 1.0  # seconds until a ttl is looked at again that ended before its message was on disk


class Expiry:
    """The deadlines of outgoing messages, and those that are parked: they have no number until they are due."""

    def __init__(self, turn: Turn, messages: Outgoing) -> None:
        """Begin with nothing parked."""
        self._turn = turn
        self._messages = messages
        self._parked = Deadlines(messages.by_row)

    # --- ends ---

    def cancel(self, ident: bytes) -> OutMessage | None:
        """End a message as its ttl would; returns it when it may have been handed over already."""
        message = self._messages.by_id.get(ident)
        if message is None or not message.committed or message.state in _ENDING:
            return None
        handed_over = self._expire(message, self._messages.remotes.get(message.dest), "cancelled")
        return message if handed_over else None

    def expire(self) -> None:
        """End what has outlived its ttl, or begin to ask whether it was stored in time."""
        messages = self._messages
        for _, row in messages.expiry.due(self._turn.now):
            message = messages.by_row.get(row)
            if message is None or message.state in _ENDING:
                continue
            if not message.committed:
                messages.expiry.add(self._turn.now + _UNCOMMITTED_RETRY, row)
                continue
            self._expire(message, messages.remotes.get(message.dest), "the ttl ended")

    def _expire(self, message: OutMessage, remote: Remote | None, detail: str) -> bool:
        """End a message, or say True: it may have been handed over, and only the receiver knows."""
        stream = remote.outs[message.klass] if remote and message.number else None
        if stream is not None and message.number <= stream.mark:
            message.step("ttl, maybe sent")
            self._messages.owe(EndOut(message.row, message.row, Sent.EXPIRING, detail))
            self._turn.emit(Progress(message.id, Sent.EXPIRING, detail, message.dest))
            return True
        before = message.state
        message.step("ttl, in doubt" if message.doubt else "ttl")
        detail = IN_DOUBT if message.doubt else detail
        state = message.state
        self._messages.waiting.pop(message.row, None)
        self._turn.persist(EndOut(message.row, message.row, state, detail))

        def commit() -> None:
            self._messages.forget(message, remote)  # its number is above the mark, and travels empty from now on
            self._turn.emit(Progress(message.id, state, detail, message.dest))

        self._turn.then(commit, lambda _: self._revive(message, before))
        return False

    def _revive(self, message: OutMessage, state: Sent) -> None:
        """The end of a message could not be written down: it ends a little later."""
        message.state = state
        again = self._turn.now + STORE_RETRY
        self._messages.expiry.add(again, message.row)
        if not message.number:
            self._parked.add(again, message.row)

    # --- another chance ---

    def requeue(self, message: OutMessage, most: float = REQUEUE_MAX) -> None:
        """A message was refused for now: it gets another number, or looks for its mailbox again, after a while.

        Args:
            message: Which one.
            most: Seconds; it waits no longer, however often it was refused.
        """
        message.refusals += 1
        delay = delay_of(message.refusals - 1, REQUEUE_FIRST, most)
        self._parked.add(self._turn.now + delay, message.row)

    def requeue_now(self, message: OutMessage) -> None:
        """A message was found without a place: it gets one as soon as everything is there."""
        message.number = 0
        self._parked.add(self._turn.now, message.row)

    def park(self, message: OutMessage) -> None:
        """A waiting message cannot go to its mailbox just now: try again later, unless it is parked already."""
        if self._messages.waiting.pop(message.row, None) is not None:
            self.requeue(message)

    def unpark(self, seek: Callable[[OutMessage], None], place: Callable[[OutMessage, Remote], None]) -> None:
        """Give parked messages that are due their new place.

        Args:
            seek: Finds the place of a message that waits for its mailbox.
            place: Gives a message a number in a stream to a store.
        """
        messages = self._messages
        for _, row in self._parked.due(self._turn.now):
            message = messages.by_row.get(row)
            if message is None or message.number or message.state in (Sent.EXPIRED, Sent.LOST):
                continue
            if message.state is Sent.WAITING:
                messages.waiting[message.row] = message
                seek(message)
            else:
                place(message, messages.remotes[message.dest])  # a store with queued messages is never forgotten

    def timer(self) -> float:
        """Return when `expire` or `unpark` is due."""
        return min(self._messages.expiry.next, self._parked.next)
