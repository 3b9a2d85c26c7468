"""Who has which message: holders, leases, redelivery, dead letters.

A message is leased to one holder at a time, and the lease lives while its holder is attached. Urgent classes come
first, and within a class the order is that of arrival; only a message that came back is late. It must never hand a
message over before both the message and its lease are on disk.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from itertools import islice

from zmesh.errors import LeaseLost, UnknownMessage
from zmesh.protocol.backoff import redelivery_delay, return_delay
from zmesh.protocol.bounds import ALONE_PATIENCE, MAX_ATTEMPTS, MAX_TTL, REDELIVERY_FIRST, REDELIVERY_MAX
from zmesh.protocol.commands import Detach, Done, Nack
from zmesh.protocol.deadlines import NEVER, SLACK, Deadlines
from zmesh.protocol.effects import Delivery, Failed, FetchIn, Settled
from zmesh.protocol.envelope import unpack_envelope
from zmesh.protocol.expected import Expected
from zmesh.protocol.incoming import Incoming, Report
from zmesh.protocol.journal import SetIn
from zmesh.protocol.mailbox import ASKED, Holder, Mailbox
from zmesh.protocol.messages import InMessage
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import RECEIVER, Received, step
from zmesh.protocol.turn import Turn

_NOT_LEASED = "the message is not leased to this holder any more: it was finished, or was redelivered to another"
_FETCH = 64  # messages read back at a time when a mailbox is longer than memory


class Leases:
    """All holders of this store's mailboxes, and what they hold."""

    def __init__(self, turn: Turn, messages: Incoming, report: Report, stir: Callable[[Mailbox], None]) -> None:
        """Begin without holders; `stir` is told when a holder begins or ends to have leases."""
        self._stir = stir
        self._turn = turn
        self._messages = messages
        self._report = report
        self._holders: dict[int, Holder] = {}
        self._expected = Expected()
        self._fetches: deque[tuple[Mailbox, tuple[int, ...]]] = deque()
        self._delayed = Deadlines(messages.by_row)
        self._patience: list[tuple[float, str]] = []
        self._detached: dict[int, float] = {}  # when the leases of a holder that is gone return
        self._left: set[int] = set()  # rows that were leased when the last process ended, and that nobody has had since

    # --- holders ---

    def attach(self, mailbox: Mailbox, ident: int, reach: str) -> None:
        """A holder is there; what it held before is its own again."""
        holder = self._holders.get(ident)
        if holder is None:
            holder = self._holders[ident] = Holder(ident, mailbox, reach)
            mailbox.holders[ident] = holder
        holder.here = True
        self._detached.pop(ident, None)

    def detach(self, command: Detach) -> Mailbox | None:
        """A holder is gone; its leases return after the grace. Return its mailbox, or None if nobody knew it."""
        holder = self._holders.get(command.holder)
        if holder is None:
            return None
        holder.here = False
        holder.demand = 0
        if command.grace > 0:
            self._detached[holder.id] = self._turn.now + command.grace
        else:
            self._release(holder)
        return holder.mailbox

    def take(self, ident: int, count: int) -> None:
        """The holder waits for `count` more messages."""
        holder = self._holders.get(ident)
        if holder is not None and holder.here:
            holder.demand += count
            self.dispatch(holder.mailbox)

    def untake(self, ident: int) -> None:
        """The holder waits no longer."""
        holder = self._holders.get(ident)
        if holder is not None:
            holder.withdraw()

    def expect(self, ident: int, question: bytes, answer: bytes) -> None:
        """The holder waits for the answer to a message; `answer` is its id if it may be here already, or empty."""
        self._expected.add(ident, question)
        holder = self._holders.get(ident)
        if not answer or holder is None:
            return
        for message in self._messages.by_row.values():
            if message.id == answer and message.mailbox == holder.mailbox.name:
                self._expected.find(message.row, question)
                self.dispatch(holder.mailbox)
                return

    def unexpect(self, question: bytes) -> None:
        """Nobody waits for it any more."""
        self._expected.remove(question)

    def _release(self, holder: Holder) -> None:
        self._detached.pop(holder.id, None)
        del self._holders[holder.id]
        del holder.mailbox.holders[holder.id]
        for message in list(holder.leases.values()):
            if not message.finishing:
                self._return(holder, message, "holder gone", None)

    # --- leasing ---

    def claim(self, message: InMessage, reply_to: bytes) -> Holder | None:
        """Lease a message that has just come to whoever expects this answer, or whoever waits in vain.

        The caller writes the lease down with the message, and calls `deliver` or `disclaim` when it is told of that.
        """
        holder = self._claimant(self._messages.mailboxes[message.mailbox], message, reply_to)
        if holder is not None:
            self._lease(holder, message)
        return holder

    def _claimant(self, mailbox: Mailbox, message: InMessage, reply_to: bytes) -> Holder | None:
        if self._messages.expired(message):
            return None
        asker = self._holders.get(self._expected.asker(reply_to)) if reply_to else None
        if asker is not None and asker.here and asker.mailbox is mailbox:
            self._expected.take(reply_to)
            message.claim = ASKED
            return asker
        return mailbox.taker(alone=False) if mailbox.head() is None and not mailbox.arriving else None

    def disclaim(self, holder: Holder, message: InMessage) -> None:
        """A message that was leased when it came is not there after all."""
        if holder.leases.pop(message.row, None) is not None:
            holder.pay_back(message)
            self._stir(holder.mailbox)
        if message.claim == ASKED and message.opened is not None:
            self._expected.give_back(holder.id, message.opened.reply_to)

    def offer(self, message: InMessage) -> None:
        """A message is on disk, and nobody has it."""
        mailbox = self._messages.mailboxes[message.mailbox]
        queue = mailbox.ready[message.klass]
        queue.append(message)
        if len(queue) > 2 * mailbox.count + SLACK:
            # Nobody takes anything, and what expired is still in the queue.
            by_row = self._messages.by_row
            mailbox.ready[message.klass] = deque(m for m in queue if by_row.get(m.row) is m)
        self.dispatch(mailbox)

    def offer_again(self, message: InMessage, grace: float) -> None:
        """A message was left by the last process, whose leases have ended with it.

        What was leased then waits `grace` seconds for `reclaim`.
        """
        delay = return_delay(message.attempts)
        if message.suspect and message.due == 0.0:
            self._left.add(message.row)
            delay = max(delay, grace)
        due = max(message.due, self._turn.now + delay)
        if due > self._turn.now:
            self._put_back(message, due)
        else:
            self.offer(message)

    def reclaim(self, ident: int, row: int, message_id: bytes) -> None:
        """Lease a message again to who had it when the last process ended.

        Raises:
            UnknownMessage: It is not there any more: it was finished.
            LeaseLost: It was given back, or has gone to another holder.
        """
        message = self._messages.by_row.get(row)
        holder = self._holders.get(ident)
        if message is None or message.id != message_id or holder is None:
            text = "the message is not there any more: it was finished"
            raise UnknownMessage(text)
        if row not in self._left or message.state is not Received.STORED or message.mailbox != holder.mailbox.name:
            raise LeaseLost(_NOT_LEASED)
        self._left.discard(row)
        message.state = step(RECEIVER, message.state, "lease")
        message.holder = ident
        message.suspect = False
        message.claim = ASKED  # beside what the holder waits for
        if not holder.leases:
            self._stir(holder.mailbox)
        holder.leases[row] = message

    def _alone(self, message: InMessage) -> bool:
        """Say whether a message is to be leased alone; one that has waited for that in vain is not.

        If it is what ends its holders, only its own attempts are counted, and not those of others leased ahead.
        """
        return message.suspect and self._turn.now < message.due + ALONE_PATIENCE

    def dispatch(self, mailbox: Mailbox) -> None:
        """Lease what is ready to those who wait."""
        by_row = self._messages.by_row
        self._answer(mailbox)
        while not mailbox.fetching:
            message = mailbox.head()
            holder = mailbox.taker(alone=self._alone(message)) if message is not None else None
            if message is None or holder is None:
                return
            gone = by_row.get(message.row) is not message or message.holder != 0
            if not gone and message.body is None:
                self._fetch(mailbox, [each for queue in mailbox.ready for each in islice(queue, _FETCH)])
                return
            mailbox.ready[message.klass].popleft()
            if gone:
                continue
            if self._messages.expired(message):
                self._messages.expire(message)
                continue
            message.claim = 0
            self._lease_and_deliver(holder, message)

    def _answer(self, mailbox: Mailbox) -> None:
        """Lease answers that were there before they were expected, past the queue."""
        for row in self._expected.found:
            message, holder = self._messages.by_row.get(row), self._holders.get(self._expected.finder(row))
            elsewhere = message is None or message.mailbox != mailbox.name  # it may have been moved
            if elsewhere or message is None or holder is None or holder.mailbox is not mailbox or not message.committed:
                continue
            if message.body is None and not mailbox.fetching:
                self._fetch(mailbox, [message])
            elif message.body is not None and message.state is Received.STORED:
                message.claim = ASKED
                self._lease_and_deliver(holder, message)

    def _lease_and_deliver(self, holder: Holder, message: InMessage) -> None:
        self._lease(holder, message)
        # A lease is persisted before the delivery: an attempt that kills its process must have been counted.
        self._turn.persist(SetIn(message.row, Received.STORED, message.attempts, 0.0))
        self._turn.then(self._deliverer(holder, message), self._unleaser(holder, message))

    def _deliverer(self, holder: Holder, message: InMessage) -> Callable[[], None]:
        return lambda: self.deliver(holder, message)

    def _unleaser(self, holder: Holder, message: InMessage) -> Callable[[str], None]:
        def abort(_: str) -> None:
            if message.row in holder.leases:
                message.attempts -= 1
                suspect = message.suspect
                self._return(holder, message, "nack", delay=REDELIVERY_FIRST, persist=False)
                message.suspect = suspect
                holder.pay_back(message)

        return abort

    def _lease(self, holder: Holder, message: InMessage) -> None:
        self._left.discard(message.row)
        self._expected.taken(message.row)
        message.state = step(RECEIVER, message.state, "lease")
        message.attempts += 1
        message.holder = holder.id
        if not holder.leases:
            self._stir(holder.mailbox)
        holder.leases[message.row] = message
        holder.pay(message)

    def deliver(self, holder: Holder, message: InMessage) -> None:
        """Hand a message over: its lease is on disk."""
        if message.row not in holder.leases or message.finishing:
            return  # it was detached meanwhile: the message is on its way back. Or it has finished what it had before
        assert message.envelope is not None
        assert message.body is not None
        envelope = message.opened or unpack_envelope(message.envelope)
        delivery = Delivery(
            holder.id, message.row, message.id, message.source, envelope, Priority(message.klass),
            message.attempts, message.body, asked=message.claim == ASKED,
        )  # fmt: skip
        self._turn.emit(delivery)

    def _fetch(self, mailbox: Mailbox, messages: list[InMessage]) -> None:
        rows = tuple([message.row for message in messages if message.body is None][:_FETCH])
        mailbox.fetching = True
        self._fetches.append((mailbox, rows))
        self._turn.emit(FetchIn(rows))

    def fetched(self, found: Mapping[int, tuple[bytes, bytes]]) -> None:
        """The oldest `FetchIn` was answered; a row that is missing was damaged or ended, and is dropped."""
        mailbox, rows = self._fetches.popleft()
        mailbox.fetching = False
        for row in rows:
            message = self._messages.by_row.get(row)
            if message is None or message.body is not None:
                continue
            if row in found:
                self._messages.fill(message, *found[row])
            else:
                self._messages.drop(message)
        self.dispatch(mailbox)

    # --- the end of a lease ---

    def leased(self, holder: int, row: int) -> InMessage:
        """Return a leased message.

        Raises:
            LeaseLost: The holder has no such lease, or it is being finished already.
        """
        owner = self._holders.get(holder)
        message = owner.leases.get(row) if owner else None
        if message is None or message.finishing or not message.committed:
            raise LeaseLost(_NOT_LEASED)
        return message

    def done(self, command: Done) -> None:
        """Finish a message; the caller has queued the reply in the same transaction already."""
        message = self.leased(command.holder, command.row)
        message.finishing = True
        self._turn.persist(SetIn(message.row, Received.HANDLED, message.attempts, 0.0))
        self._report(message, "handled", "")

        def commit() -> None:
            self._end(message)
            self._turn.emit(Settled(command.ticket, message.id))

        def abort(reason: str) -> None:
            self._unfinish(message)
            self._turn.emit(Failed(command.ticket, reason))

        self._turn.then(commit, abort)

    def nack(self, command: Nack) -> None:
        """Give a message back."""
        if command.delay is not None and not 0 <= command.delay <= MAX_TTL:
            text = f"the delay of a nack is between 0 and {MAX_TTL:.0f} seconds, not {command.delay}"
            raise ValueError(text)
        message = self.leased(command.holder, command.row)
        holder = self._holders[command.holder]
        if not command.count:
            message.attempts -= 1
        self._return(holder, message, "nack", command.delay)
        self._turn.settle(command.ticket)

    def _return(
        self, holder: Holder, message: InMessage, event: str, delay: float | None, *, persist: bool = True
    ) -> None:
        """End a lease without success: redeliver later, or give up."""
        del holder.leases[message.row]
        message.holder = 0
        if message.attempts >= MAX_ATTEMPTS:
            self._give_up(message)
            self._freed(holder)
            return
        message.state = step(RECEIVER, message.state, event)
        message.suspect = event == "holder gone"
        if delay is None:
            delay = return_delay(message.attempts) if message.suspect else redelivery_delay(message.attempts)
        due = self._turn.now + delay
        if persist:
            self._turn.persist(SetIn(message.row, Received.STORED, message.attempts, due))
        self._put_back(message, due)
        self._messages.slim(message)
        self._freed(holder)

    def _give_up(self, message: InMessage) -> None:
        message.state = step(RECEIVER, message.state, "too many attempts")
        self._turn.persist(SetIn(message.row, Received.DEAD, message.attempts, 0.0))
        self._report(message, "dead", f"given up after {message.attempts} deliveries")
        self._turn.then(lambda: self._messages.drop(message), lambda _: self._revive(message))

    def _revive(self, message: InMessage) -> None:
        message.state = Received.STORED
        self._put_back(message, self._turn.now + REDELIVERY_MAX)

    def _unfinish(self, message: InMessage) -> None:
        message.finishing = False
        holder = self._holders.get(message.holder)
        if message.state is Received.LEASED and (holder is None or message.row not in holder.leases):
            message.holder = 0
            message.state = step(RECEIVER, message.state, "holder gone")
            message.suspect = True
            self._put_back(message, self._turn.now + REDELIVERY_FIRST)

    def _end(self, message: InMessage) -> None:
        message.state = step(RECEIVER, message.state, "done")
        holder = self._holders.get(message.holder)
        if holder is not None:
            holder.leases.pop(message.row, None)
        self._messages.drop(message)
        if holder is not None:
            self._freed(holder)

    def _freed(self, holder: Holder) -> None:
        """A lease has ended: what could not be leased beside it can be now."""
        if not holder.leases:
            self._stir(holder.mailbox)
        if holder.demand > 0 and holder.mailbox.head() is not None:
            self.dispatch(holder.mailbox)

    def _put_back(self, message: InMessage, due: float) -> None:
        message.due = due
        self._delayed.add(due, message.row)
        if message.suspect:
            heappush(self._patience, (due + ALONE_PATIENCE, message.mailbox))

    # --- when messages go into another mailbox ---

    def free(self, message: InMessage) -> bool:
        """Say whether nobody has a message, nor may come back for it."""
        awaited = message.row in self._left and message.due > self._turn.now
        return message.committed and message.state is Received.STORED and not message.holder and not awaited

    def moved(self, messages: Iterable[InMessage]) -> None:
        """Messages that nobody has are in another mailbox now: who had one before cannot go on with it."""
        for message in messages:
            self._left.discard(message.row)
            if message.suspect:
                heappush(self._patience, (message.due + ALONE_PATIENCE, message.mailbox))

    # --- time ---

    def timer(self) -> float:
        """Return when `release_due` or `offer_due` is due."""
        patience = self._patience[0][0] if self._patience else NEVER
        return min(self._delayed.next, patience, min(self._detached.values(), default=NEVER))

    def release_due(self) -> None:
        """Take back what holders have that are gone for longer than their grace."""
        now = self._turn.now
        for ident in [ident for ident, at in self._detached.items() if at <= now]:
            self._release(self._holders[ident])

    def offer_due(self) -> None:
        """Offer again what has waited long enough, in its old place."""
        now = self._turn.now
        mailboxes = self._messages.mailboxes
        due = self._come_back(now)
        for message in reversed(due):
            mailboxes[message.mailbox].ready[message.klass].appendleft(message)
        names = dict.fromkeys(message.mailbox for message in due)
        while self._patience and self._patience[0][0] <= now:
            names[heappop(self._patience)[1]] = None
        for name in names:
            if name in mailboxes:  # it may be no more: then what was in it is in another one
                self.dispatch(mailboxes[name])

    def _come_back(self, now: float) -> list[InMessage]:
        """Return what is to be delivered again now; end what has been delivered often enough, or has expired."""
        back: list[InMessage] = []
        for at, row in self._delayed.due(now):
            message = self._messages.by_row.get(row)
            if message is None or message.state is not Received.STORED or message.due != at:
                continue
            if not message.committed:
                self._put_back(message, now + REDELIVERY_FIRST)  # its holder went while it was being written
            elif message.attempts >= MAX_ATTEMPTS:
                # Its last lease ended with its process, or its end could not be written down.
                message.state = step(RECEIVER, message.state, "lease")
                self._give_up(message)
            elif self._messages.expired(message):
                self._messages.expire(message)  # it was given back uncounted, and the heap has let it pass
            else:
                back.append(message)
        return back
