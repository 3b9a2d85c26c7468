"""The messages we sent that have not ended: their records, what counts against the quotas, and what the store is owed.

It must never decide where a message goes or what becomes of it; bodies beyond a bound are left to the store.
"""

from collections.abc import Callable, Mapping

from zmesh.protocol.bounds import CACHED_BODY_BYTES
from zmesh.protocol.deadlines import Deadlines
from zmesh.protocol.journal import MoveOut, Op
from zmesh.protocol.messages import OutMessage
from zmesh.protocol.remote import Remote
from zmesh.protocol.states import Sent
from zmesh.protocol.turn import Turn


class Outgoing:
    """The records of outgoing messages.

    Attributes:
        by_id, by_row: The messages.
        waiting: Those that wait for their peer or mailbox and are not parked, by row.
        remotes: Other stores by id, as they come and go.
        expiry: When their ttls end.
        cached: Bytes of the bodies in memory.
        nowhere, nowhere_bytes: Messages whose peer is not known, and their bytes, for the quota.
    """

    def __init__(self, turn: Turn, remotes: dict[bytes, Remote], touch: Callable[[Remote], None]) -> None:
        """Begin empty.

        Args:
            turn: The journal of the core.
            remotes: Other stores by id, as they come and go.
            touch: Told of every store whose streams were changed.
        """
        self.by_id: dict[bytes, OutMessage] = {}
        self.by_row: dict[int, OutMessage] = {}
        self.waiting: dict[int, OutMessage] = {}
        self.remotes = remotes
        self.expiry = Deadlines(self.by_row)
        self.cached = 0
        self.nowhere = 0
        self.nowhere_bytes = 0
        self._turn = turn
        self._touch = touch
        self._owed: list[Op] = []

    # --- the records ---

    def keep(self, message: OutMessage, remote: Remote | None) -> None:
        """Remember a message until it ends."""
        self.by_id[message.id] = message
        self.by_row[message.row] = message
        if message.body is not None:
            self.cached += message.size
        if message.deadline is not None:
            self.expiry.add(message.deadline, message.row)
        self.count(message, remote, 1)

    def count(self, message: OutMessage, remote: Remote | None, sign: int) -> None:
        """Count a message for the quota of its peer, or of those whose peer is not known."""
        if remote is not None:
            remote.queued += sign
            remote.queued_bytes += sign * message.size
        else:
            self.nowhere += sign
            self.nowhere_bytes += sign * message.size

    def drop(self, message: OutMessage, remote: Remote | None) -> None:
        """The message has ended, or was stored: only the store remembers it now."""
        del self.by_row[message.row]
        del self.by_id[message.id]
        self.waiting.pop(message.row, None)
        if message.body is not None:
            self.cached -= message.size
        self.count(message, remote, -1)

    def forget(self, message: OutMessage, remote: Remote | None) -> None:
        """The message is not to be sent any more: its number, if it has one, travels empty."""
        if remote is not None and message.number and message.epoch == remote.epoch:
            remote.outs[message.klass].void(message)
            self._touch(remote)
        self.drop(message, remote)

    def waiter(self, row: int) -> OutMessage | None:
        """Return the message under `row` if it waits for its mailbox, parked or not."""
        message = self.by_row.get(row)
        return message if message is not None and message.state is Sent.WAITING else None

    # --- bodies ---

    def slim(self, message: OutMessage) -> None:
        """Let the store alone keep the body of a message that is not under way, when there are too many in memory."""
        if self.cached > CACHED_BODY_BYTES and message.state is not Sent.SENT and message.body is not None:
            self.cached -= message.size
            message.body = None

    def fetched(self, bodies: Mapping[int, bytes]) -> None:
        """Bodies were read back."""
        for row, body in bodies.items():
            message = self.by_row.get(row)
            if message is not None and message.body is None:
                message.body = body
                self.cached += message.size

    def lose_body(self, row: int, remote: Remote) -> None:
        """The store has no body for this row any more: it ended there, and the number travels empty."""
        message = self.by_row.get(row)
        if message is not None and message.body is None:
            self.forget(message, remote)

    # --- what must be written down, now or later ---

    def owe(self, op: Op) -> None:
        """Persist what the other side has confirmed; if the commit fails, it is repeated with the next one.

        It must not come later than the floor that covers it: nobody will confirm it a second time.
        """
        self._turn.persist(op)
        self._turn.then(None, lambda _: self._owed.append(op))

    def owe_number(self, message: OutMessage) -> None:
        """A message will get a new number; the epoch tells a later process that it is in doubt."""
        epoch = message.epoch if message.doubt else 0
        self.owe(MoveOut(message.row, message.dest, epoch, 0, message.state))

    def pay(self) -> None:
        """Persist again what failed before; to be called before any stream is persisted."""
        owed, self._owed = self._owed, []
        if owed:
            self._turn.persist_first(owed)
            # Should it fail again, it stays before what this turn itself will then owe.
            self._turn.then(None, lambda _: self._owed.__setitem__(slice(0, 0), owed))
