"""The receiving half: mailboxes, leases, redelivery, dead letters.

A message is leased to one holder at a time, and the lease lives while its holder is attached. Urgent classes come
first, and within a class the order is that of arrival; only a message that came back is late. Nothing is delivered
before both the message and its lease are on disk.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from heapq import heapify, heappop, heappush
from itertools import islice

from zmesh.errors import AddressError, LeaseLost, MeshFull
from zmesh.protocol.address import is_name
from zmesh.protocol.backoff import delay_of
from zmesh.protocol.bounds import (
    ALONE_PATIENCE,
    CACHED_BODY_BYTES,
    MAX_AGENTS,
    MAX_ATTEMPTS,
    MAX_CAPABILITIES,
    MAX_NAME,
    MAX_TTL,
    REDELIVERY_FIRST,
    REDELIVERY_MAX,
    STORE_RETRY,
)
from zmesh.protocol.effects import Delivery, Detach, Done, Failed, FetchIn, Nack, OpenMailbox, Settled
from zmesh.protocol.envelope import Envelope, is_type, unpack_envelope
from zmesh.protocol.journal import InRow, PutIn, PutMailbox, SetIn
from zmesh.protocol.mailbox import ASKED, Holder, Mailbox
from zmesh.protocol.messages import InMessage
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import RECEIVER, Received, step
from zmesh.protocol.turn import Turn

NEVER = float("inf")
_FETCH = 64  # messages read back at a time when a mailbox is longer than memory
_SLACK = 64  # ended messages that a queue or heap may hold beyond as many as are alive

_FATES = {Received.HANDLED: "handled", Received.EXPIRED: "expired", Received.DEAD: "dead"}

Report = Callable[[InMessage, str, str], None]
"""Tells the sender what became of a message: (message, code, text)."""


class Inbox:
    """All mailboxes of this store.

    Attributes:
        mailboxes: By name.
        changed: The roster is not what the peers were told.
    """

    def __init__(self, turn: Turn, next_row: int, report: Report) -> None:
        """Begin empty; `restore` fills it."""
        self.mailboxes: dict[str, Mailbox] = {}
        self.changed = True
        self._turn = turn
        self._next_row = next_row
        self._report = report
        self._holders: dict[int, Holder] = {}
        self._expected: dict[bytes, int] = {}
        self._messages: dict[int, InMessage] = {}
        self._cached = 0
        self._fetches: deque[tuple[Mailbox, tuple[int, ...]]] = deque()
        self._delayed: list[tuple[float, int]] = []
        self._patience: list[tuple[float, str]] = []
        self._expiry: list[tuple[float, int]] = []
        self._detached: dict[int, float] = {}  # when the leases of a holder that is gone return
        self._unsaved: dict[str, PutMailbox] = {}  # mailboxes that may not be on disk yet

    def restore(self, mailboxes: Iterable[PutMailbox], rows: Iterable[InRow]) -> None:
        """Take over what the store kept; leases of the last process have ended with it."""
        for mailbox in mailboxes:
            self.mailboxes[mailbox.name] = Mailbox(mailbox)
        for row in rows:
            message = InMessage(row)
            self._keep(message)
            due = max(message.due, self._turn.now + _return_delay(message.attempts))
            if due > self._turn.now:
                self._put_back(message, due)
            else:
                self._offer(message)

    # --- mailboxes and holders ---

    def open(self, command: OpenMailbox) -> None:
        """Make sure a mailbox exists.

        Raises:
            AddressError: The name is none.
            ValueError: A role or capability is too long, or there are too many.
            MeshFull: There are too many mailboxes.
        """
        if not is_name(command.name):
            message = f"{command.name!r} is not a valid agent name"
            raise AddressError(message)
        _check_words(command)
        known = self.mailboxes.get(command.name)
        row = PutMailbox(command.name, command.role, command.capabilities)
        if known is None:
            if len(self.mailboxes) >= MAX_AGENTS:
                message = f"this peer has {MAX_AGENTS} mailboxes already: remove one, or start another peer"
                raise MeshFull(message)
            # It exists from now on; messages for it commit after it, in order.
            self.mailboxes[command.name] = Mailbox(row)
        elif (known.role, known.capabilities) != (row.role, row.capabilities):
            known.role, known.capabilities = row.role, row.capabilities
        elif row.name not in self._unsaved:
            self.changed = True
            self._turn.emit(Settled(command.ticket))  # it is there as it is: a full disk is no reason to refuse it
            return
        self.changed = True
        self._unsaved[row.name] = row
        self._turn.persist(row)
        self._turn.then(lambda: self._saved(row))
        self._settle_after_commit(command.ticket)

    def _saved(self, row: PutMailbox) -> None:
        if self._unsaved.get(row.name) is row:
            del self._unsaved[row.name]

    def attach(self, name: str, ident: int) -> None:
        """A holder is there; what it held before is its own again.

        Raises:
            AddressError: There is no such mailbox.
        """
        mailbox = self.mailboxes.get(name)
        if mailbox is None:
            message = f"there is no mailbox {name!r} here: open it first"
            raise AddressError(message)
        holder = self._holders.get(ident)
        if holder is None:
            holder = self._holders[ident] = Holder(ident, mailbox)
            mailbox.holders[ident] = holder
        holder.here = True
        self._detached.pop(ident, None)
        self.changed = True

    def detach(self, command: Detach) -> None:
        """A holder is gone; its leases return after the grace."""
        holder = self._holders.get(command.holder)
        if holder is None:
            return
        holder.here = False
        holder.demand = 0
        self.changed = True
        if command.grace > 0:
            self._detached[holder.id] = self._turn.now + command.grace
        else:
            self._release(holder)

    def take(self, ident: int, count: int) -> None:
        """The holder waits for `count` more messages."""
        holder = self._holders.get(ident)
        if holder is not None and holder.here:
            holder.demand += count
            self._dispatch(holder.mailbox)

    def untake(self, ident: int) -> None:
        """The holder waits no longer."""
        holder = self._holders.get(ident)
        if holder is not None:
            holder.withdraw()

    def expect(self, ident: int, message_id: bytes) -> None:
        """The holder waits for the answer to a message."""
        self._expected[message_id] = ident

    def unexpect(self, message_id: bytes) -> None:
        """Nobody waits for it any more."""
        self._expected.pop(message_id, None)

    def _release(self, holder: Holder) -> None:
        self._detached.pop(holder.id, None)
        del self._holders[holder.id]
        del holder.mailbox.holders[holder.id]
        for message in list(holder.leases.values()):
            if not message.finishing:
                self._return(holder, message, "holder gone", None)

    # --- arrival ---

    def refusal(self, name: str, size: int) -> tuple[str, str] | None:
        """Say why a message of `size` bytes for a mailbox cannot be taken now: (code, text), or None."""
        mailbox = self.mailboxes.get(name)
        if mailbox is None:
            return "unknown-mailbox", f"there is no mailbox {name!r}"
        if mailbox.full(size):
            return "mailbox-full", f"mailbox {name!r} is full ({mailbox.count} messages, {mailbox.size} bytes)"
        return None

    def arrive(self, row: InRow, device: str, packed: bytes, body: bytes, envelope: Envelope) -> None:
        """Take in a message that `refusal` has nothing against; `row.row` is chosen here.

        It is leased in the same transaction when somebody waits for it.
        """
        message = InMessage(row, packed, body)
        message.opened = envelope
        message.row = self._next_row
        self._next_row += 1
        self._keep(message)
        self._cached += message.size
        mailbox = self.mailboxes[message.mailbox]
        holder = self._claimant(mailbox, message, envelope.reply_to)
        if holder is not None:
            self._lease(holder, message)
        else:
            mailbox.arriving += 1
        unsaved = self._unsaved.get(mailbox.name)
        if unsaved is not None:
            self._turn.persist(unsaved)  # the commit that opened it may fail, and this one not
        put = PutIn(
            message.row, message.id, device, message.source, message.mailbox, message.klass, message.attempts,
            message.due, message.deadline, packed, body,
        )  # fmt: skip
        self._turn.persist(put)
        self._turn.then(lambda: self._arrived(message, holder), lambda _: self._forget_arrival(message, holder))

    def _claimant(self, mailbox: Mailbox, message: InMessage, reply_to: bytes) -> Holder | None:
        """Return who gets a message that has just come: whoever expects this answer, or whoever waits in vain."""
        if self._expired(message):
            return None
        asker = self._holders.get(self._expected.get(reply_to, 0)) if reply_to else None
        if asker is not None and asker.here and asker.mailbox is mailbox:
            self._expected[reply_to] = 0  # one answer; a second one goes the way of all messages
            message.claim = ASKED
            return asker
        return self._taker(mailbox, alone=False) if mailbox.head() is None and not mailbox.arriving else None

    def _arrived(self, message: InMessage, holder: Holder | None) -> None:
        there = self._turn.written.ignored_in.get(message.row)
        if there is not None:
            self._forget_arrival(message, holder)
            if there in _FATES:
                self._report(message, _FATES[there], "")  # its sender asks because its disk went back in time
            return
        message.committed = True
        if holder is not None:
            self._deliver(holder, message)
            return
        self.mailboxes[message.mailbox].arriving -= 1
        if self._expired(message):
            self._expire(message)  # while it was being written: the heap has let it pass
            return
        self._offer(message)
        self._slim(message)

    def _slim(self, message: InMessage) -> None:
        """Let the store alone keep the body of a message that nobody has, when there are too many in memory."""
        here = message.committed and message.body is not None and message.row in self._messages
        if here and message.holder == 0 and self._cached > CACHED_BODY_BYTES:
            self._cached -= message.size
            message.envelope = message.body = message.opened = None

    def _forget_arrival(self, message: InMessage, holder: Holder | None) -> None:
        """The message is not in the store: its commit failed, or it had been received before."""
        mailbox = self.mailboxes[message.mailbox]
        if holder is None:
            mailbox.arriving -= 1
        elif holder.leases.pop(message.row, None) is not None:
            holder.pay_back(message)
        if message.claim == ASKED and holder is not None and message.opened is not None:
            reply_to = message.opened.reply_to
            if reply_to in self._expected:  # the asker waits still
                self._expected[reply_to] = holder.id
        self._drop(message)
        self._dispatch(mailbox)

    def _keep(self, message: InMessage) -> None:
        mailbox = self.mailboxes[message.mailbox]
        mailbox.count += 1
        mailbox.size += message.size
        self._messages[message.row] = message
        if message.deadline is not None and message.attempts == 0:
            heappush(self._expiry, (message.deadline, message.row))
            if len(self._expiry) > 2 * len(self._messages) + _SLACK:
                self._expiry = [entry for entry in self._expiry if entry[1] in self._messages]
                heapify(self._expiry)

    def _drop(self, message: InMessage) -> None:
        del self._messages[message.row]
        mailbox = self.mailboxes[message.mailbox]
        mailbox.count -= 1
        mailbox.size -= message.size
        if message.body is not None:
            self._cached -= message.size

    # --- leases ---

    def _offer(self, message: InMessage) -> None:
        mailbox = self.mailboxes[message.mailbox]
        queue = mailbox.ready[message.klass]
        queue.append(message)
        if len(queue) > 2 * mailbox.count + _SLACK:
            # Nobody takes anything, and what expired is still in the queue.
            mailbox.ready[message.klass] = deque(m for m in queue if self._messages.get(m.row) is m)
        self._dispatch(mailbox)

    def _taker(self, mailbox: Mailbox, *, alone: bool) -> Holder | None:
        """Return the holder that waits for most, so that several share the work.

        Args:
            mailbox: The mailbox.
            alone: Take a holder that has nothing else. A message whose holder went away is leased so: if it is what
                ends its holders, only its own attempts are counted, and not those of others that were leased ahead.
        """
        waiting = [holder for holder in mailbox.holders.values() if holder.demand > 0 and not (alone and holder.leases)]
        waiting = [holder for holder in waiting if not holder.alone]
        return max(waiting, key=lambda holder: (holder.demand, -holder.id)) if waiting else None

    def _alone(self, message: InMessage) -> bool:
        """Say whether a message is to be leased alone; one that has waited for that in vain is not."""
        return message.suspect and self._turn.now < message.due + ALONE_PATIENCE

    def _dispatch(self, mailbox: Mailbox) -> None:
        while not mailbox.fetching:
            message = mailbox.head()
            holder = self._taker(mailbox, alone=self._alone(message)) if message is not None else None
            if message is None or holder is None:
                return
            gone = self._messages.get(message.row) is not message
            if not gone and message.body is None:
                self._fetch(mailbox)
                return
            mailbox.ready[message.klass].popleft()
            if gone:
                continue
            if self._expired(message):
                self._expire(message)
                continue
            message.claim = 0
            self._lease(holder, message)
            # A lease is persisted before the delivery: an attempt that kills its process must have been counted.
            self._turn.persist(SetIn(message.row, Received.STORED, message.attempts, 0.0))
            self._turn.then(self._deliverer(holder, message), self._unleaser(holder, message))

    def _deliverer(self, holder: Holder, message: InMessage) -> Callable[[], None]:
        return lambda: self._deliver(holder, message)

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
        message.state = step(RECEIVER, message.state, "lease")
        message.attempts += 1
        message.holder = holder.id
        holder.leases[message.row] = message
        holder.pay(message)

    def _deliver(self, holder: Holder, message: InMessage) -> None:
        if message.row not in holder.leases:
            return  # it was detached meanwhile: the message is on its way back
        assert message.envelope is not None
        assert message.body is not None
        envelope = message.opened or unpack_envelope(message.envelope)
        delivery = Delivery(
            holder.id, message.row, message.id, message.source, envelope, Priority(message.klass),
            message.attempts, message.body, asked=message.claim == ASKED,
        )  # fmt: skip
        self._turn.emit(delivery)

    def _fetch(self, mailbox: Mailbox) -> None:
        heads = [message for queue in mailbox.ready for message in islice(queue, _FETCH) if message.body is None]
        rows = tuple([message.row for message in heads[:_FETCH]])
        mailbox.fetching = True
        self._fetches.append((mailbox, rows))
        self._turn.emit(FetchIn(rows))

    def fetched(self, messages: Mapping[int, tuple[bytes, bytes]]) -> None:
        """The oldest `FetchIn` was answered; a row that is missing was damaged or ended, and is dropped."""
        mailbox, rows = self._fetches.popleft()
        mailbox.fetching = False
        for row in rows:
            message = self._messages.get(row)
            if message is None or message.body is not None:
                continue
            if row in messages:
                message.envelope, message.body = messages[row]
                self._cached += message.size
            else:
                self._drop(message)
        self._dispatch(mailbox)

    # --- the end of a lease ---

    def leased(self, holder: int, row: int) -> InMessage:
        """Return a leased message.

        Raises:
            LeaseLost: The holder has no such lease, or it is being finished already.
        """
        owner = self._holders.get(holder)
        message = owner.leases.get(row) if owner else None
        if message is None or message.finishing or not message.committed:
            text = "the message is not leased to this holder any more: it was finished, or was redelivered to another"
            raise LeaseLost(text)
        return message

    def done(self, command: Done) -> None:
        """Finish a message; the caller has queued the reply in the same transaction already."""
        message = self.leased(command.holder, command.row)
        message.finishing = True
        self._turn.persist(SetIn(message.row, Received.HANDLED, message.attempts, 0.0))
        self._report(message, "handled", "")

        def commit() -> None:
            self._end(message, "done")
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
        self._settle_after_commit(command.ticket)

    def cancel(self, source: bytes, ids: Iterable[bytes]) -> None:
        """End messages of one sender that nobody has ever leased."""
        wanted = set(ids)
        for message in [m for m in self._messages.values() if m.id in wanted and m.source == source]:
            if message.committed and message.state is Received.STORED and message.attempts == 0:
                self._expire(message, "cancel")

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
            delay = _return_delay(message.attempts) if message.suspect else _redelivery(message.attempts)
        due = self._turn.now + delay
        if persist:
            self._turn.persist(SetIn(message.row, Received.STORED, message.attempts, due))
        self._put_back(message, due)
        self._slim(message)
        self._freed(holder)

    def _give_up(self, message: InMessage) -> None:
        message.state = step(RECEIVER, message.state, "too many attempts")
        self._turn.persist(SetIn(message.row, Received.DEAD, message.attempts, 0.0))
        self._report(message, "dead", f"given up after {message.attempts} deliveries")
        self._turn.then(lambda: self._drop(message), lambda _: self._revive(message))

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

    def _end(self, message: InMessage, event: str) -> None:
        message.state = step(RECEIVER, message.state, event)
        holder = self._holders.get(message.holder)
        if holder is not None:
            holder.leases.pop(message.row, None)
        self._drop(message)
        if holder is not None:
            self._freed(holder)

    def _freed(self, holder: Holder) -> None:
        """A lease has ended: what could not be leased beside it can be now."""
        if holder.demand > 0 and holder.mailbox.head() is not None:
            self._dispatch(holder.mailbox)

    def _put_back(self, message: InMessage, due: float) -> None:
        message.due = due
        heappush(self._delayed, (due, message.row))
        if message.suspect:
            heappush(self._patience, (due + ALONE_PATIENCE, message.mailbox))

    def _settle_after_commit(self, ticket: int) -> None:
        self._turn.then(
            lambda: self._turn.emit(Settled(ticket)), lambda reason: self._turn.emit(Failed(ticket, reason))
        )

    # --- time ---

    def _expired(self, message: InMessage) -> bool:
        return message.deadline is not None and message.attempts == 0 and message.deadline <= self._turn.now

    def _expire(self, message: InMessage, event: str = "ttl") -> None:
        """End a message that nobody took in time. It leaves its queue when it comes to the head."""
        message.state = step(RECEIVER, message.state, event)
        self._turn.persist(SetIn(message.row, Received.EXPIRED, message.attempts, 0.0))
        self._report(message, "expired", "cancelled" if event == "cancel" else "nobody took it before its ttl ended")
        self._drop(message)
        self._turn.then(None, lambda _: self._unexpire(message))

    def _unexpire(self, message: InMessage) -> None:
        """The end of a message could not be written down: it is there still, and ends a little later."""
        message.state = Received.STORED
        message.deadline = self._turn.now + STORE_RETRY
        self._keep(message)
        self._cached += message.size if message.body is not None else 0

    def timer(self) -> float:
        """Return when `wake` is due."""
        heads = [heap[0][0] for heap in (self._delayed, self._expiry) if heap]
        heads += [at for at, _ in self._patience[:1]]
        return min([*heads, *self._detached.values()], default=NEVER)

    def wake(self) -> None:
        """Offer what is due again, expire what nobody took, release what detached holders held."""
        now = self._turn.now
        for ident in [ident for ident, at in self._detached.items() if at <= now]:
            self._release(self._holders[ident])
        while self._expiry and self._expiry[0][0] <= now:
            message = self._messages.get(heappop(self._expiry)[1])
            if message is not None and message.committed and message.state is Received.STORED and not message.attempts:
                self._expire(message)
        due = self._come_back(now)
        for message in reversed(due):
            self.mailboxes[message.mailbox].ready[message.klass].appendleft(message)
        names = dict.fromkeys(message.mailbox for message in due)
        while self._patience and self._patience[0][0] <= now:
            names[heappop(self._patience)[1]] = None
        for name in names:
            self._dispatch(self.mailboxes[name])

    def _come_back(self, now: float) -> list[InMessage]:
        """Return what is to be delivered again now; end what has been delivered often enough, or has expired."""
        due: list[InMessage] = []
        while self._delayed and self._delayed[0][0] <= now:
            at, row = heappop(self._delayed)
            message = self._messages.get(row)
            if message is None or message.state is not Received.STORED or message.due != at:
                continue
            if not message.committed:
                self._put_back(message, now + REDELIVERY_FIRST)  # its holder went while it was being written
            elif message.attempts >= MAX_ATTEMPTS:
                # Its last lease ended with its process, or its end could not be written down.
                message.state = step(RECEIVER, message.state, "lease")
                self._give_up(message)
            elif self._expired(message):
                self._expire(message)  # it was given back uncounted, and the heap has let it pass
            else:
                due.append(message)
        return due


def _check_words(command: OpenMailbox) -> None:
    if command.role and not is_type(command.role):
        message = f"a role is a text of at most {MAX_NAME} printable characters, not {command.role!r}"
        raise ValueError(message)
    if len(command.capabilities) > MAX_CAPABILITIES or not all(map(is_type, command.capabilities)):
        message = f"capabilities are at most {MAX_CAPABILITIES} texts of 1 to {MAX_NAME} printable characters"
        raise ValueError(message)


def _redelivery(attempts: int) -> float:
    """Return the delay after so many deliveries, in seconds."""
    return delay_of(max(0, attempts - 1), REDELIVERY_FIRST, REDELIVERY_MAX)


def _return_delay(attempts: int) -> float:
    """Return the delay when a holder went away, in seconds.

    The first time there is none: most of what it had leased ahead it never looked at, and that keeps its order so.
    """
    return _redelivery(attempts - 1) if attempts > 1 else 0.0
