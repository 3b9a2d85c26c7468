"""The receiving half: our mailboxes, and what happens to a message that arrives for one of them.

It exists once it is on disk: until then nobody gets it, and if it was received before, nobody ever does. Who has it
afterwards is decided in `leases`, its end without a lease in `incoming`. Arrival must never say no to what `refusal`
has nothing against.
"""

from collections import deque
from collections.abc import Iterable

from zmesh.errors import AddressError, MeshFull
from zmesh.protocol.address import is_name, is_word
from zmesh.protocol.bounds import ARRIVALS_KEPT, MAX_AGENTS, MAX_CAPABILITIES, MAX_NAME, MAX_WORD
from zmesh.protocol.commands import Attach, Detach, OpenMailbox, SetStatus
from zmesh.protocol.effects import Settled
from zmesh.protocol.envelope import Envelope, is_type
from zmesh.protocol.frames import AWAY, BUSY, IDLE
from zmesh.protocol.incoming import Incoming, Report
from zmesh.protocol.journal import InRow, PutIn, PutMailbox
from zmesh.protocol.leases import Leases
from zmesh.protocol.mailbox import Holder, Mailbox
from zmesh.protocol.messages import InMessage
from zmesh.protocol.own_roster import OwnRoster
from zmesh.protocol.quotas import Quotas
from zmesh.protocol.states import Received
from zmesh.protocol.turn import Turn

_FATES = {Received.HANDLED: "handled", Received.EXPIRED: "expired", Received.DEAD: "dead"}


class Inbox:
    """All mailboxes of this store.

    Attributes:
        mailboxes: By name.
        messages: What they hold.
        leases: Who has it.
        roster: What the others are told of the mailboxes.
        quotas: How much a mailbox holds.
        arrivals: When which message came, from which store, the latest last: for people, and in memory only.
    """

    def __init__(self, turn: Turn, next_row: int, report: Report, quotas: Quotas) -> None:
        """Begin empty; `restore` fills it."""
        self.quotas = quotas
        self.messages = Incoming(turn, report)
        self.roster = OwnRoster(turn)
        self.leases = Leases(turn, self.messages, report, self.roster.stir)
        self.mailboxes = self.messages.mailboxes
        self.arrivals: deque[tuple[float, bytes, bytes]] = deque(maxlen=ARRIVALS_KEPT)
        self._turn = turn
        self._next_row = next_row
        self._report = report
        self._unsaved: dict[str, PutMailbox] = {}  # mailboxes that may not be on disk yet

    def restore(self, mailboxes: Iterable[PutMailbox], rows: Iterable[InRow], grace: float) -> None:
        """Take over what the store kept; what was leased waits `grace` seconds for who had it."""
        for mailbox in mailboxes:
            self.mailboxes[mailbox.name] = Mailbox(mailbox)
            self.roster.note(self.mailboxes[mailbox.name])
        for row in rows:
            message = InMessage(row)
            self.messages.keep(message)
            self.leases.offer_again(message, grace)

    # --- mailboxes ---

    def open(self, command: OpenMailbox) -> None:
        """Make sure a mailbox exists.

        Raises:
            AddressError: The name is none.
            ValueError: A role, project or capability is too long, or there are too many.
            MeshFull: There are too many mailboxes.
        """
        if not is_name(command.name):
            message = f"{command.name!r} is not a valid agent name"
            raise AddressError(message)
        _check_words(command)
        known = self.mailboxes.get(command.name)
        row = PutMailbox(command.name, command.role, command.capabilities, command.project)
        if known is None:
            if len(self.mailboxes) >= MAX_AGENTS:
                message = f"this peer has {MAX_AGENTS} mailboxes already: remove one, or start another peer"
                raise MeshFull(message)
            # It exists from now on; messages for it commit after it, in order.
            known = self.mailboxes[command.name] = Mailbox(row)
        elif known.record.lasting != (row.role, row.capabilities, row.project):
            known.role, known.capabilities, known.project = row.role, row.capabilities, row.project
        elif row.name not in self._unsaved:
            self._turn.emit(Settled(command.ticket))  # it is there as it is: a full disk is no reason to refuse it
            return
        row = known.row(self._turn.now)
        self.roster.note(known)
        self._unsaved[row.name] = row
        self._turn.persist(row)
        self._turn.then(lambda: self._saved(row))
        self._turn.settle(command.ticket)

    def _saved(self, row: PutMailbox) -> None:
        if self._unsaved.get(row.name) is row:
            del self._unsaved[row.name]

    def attach(self, command: Attach) -> None:
        """A holder is there for a mailbox; what it held before is its own again.

        Raises:
            AddressError: There is no such mailbox.
            ValueError: How it is reached is no word.
        """
        mailbox = self.opened(command.mailbox)
        if not is_word(command.reach):
            message = f"how an agent is reached is a word of at most {MAX_WORD} letters, not {command.reach!r}"
            raise ValueError(message)
        self.leases.attach(mailbox, command.holder, command.reach)
        self.roster.note(mailbox)

    def detach(self, command: Detach) -> None:
        """A holder is gone; its leases return after the grace."""
        mailbox = self.leases.detach(command)
        if mailbox is None:
            return
        mailbox.say(command.holder, "")
        mailbox.seen = self._turn.now
        self.roster.note(mailbox)
        self._turn.persist(mailbox.row(self._turn.now))

    def set_status(self, command: SetStatus) -> None:
        """A holder says what is being done in its mailbox.

        Raises:
            AddressError: There is no such mailbox.
            ValueError: The status is none.
        """
        mailbox = self.opened(command.mailbox)
        if command.status not in ("", IDLE, BUSY, AWAY):
            message = f"a status is {IDLE!r}, {BUSY!r} or {AWAY!r}, not {command.status!r}"
            raise ValueError(message)
        mailbox.say(command.holder, command.status)
        self.roster.note(mailbox)

    def leave(self) -> None:
        """The peer is closing: write down until when somebody was there."""
        for mailbox in self.mailboxes.values():
            if mailbox.attached:
                self._turn.persist(mailbox.row(self._turn.now))

    def remove(self, mailbox: Mailbox) -> None:
        """A mailbox is no more; nothing is in it."""
        del self.mailboxes[mailbox.name]
        self._unsaved.pop(mailbox.name, None)
        self.roster.forget(mailbox.name)

    def put_back(self, mailbox: Mailbox) -> None:
        """It is there after all: its end could not be written down."""
        self.mailboxes[mailbox.name] = mailbox
        self.roster.note(mailbox)

    def opened(self, name: str) -> Mailbox:
        """Return a mailbox.

        Raises:
            AddressError: There is none of that name.
        """
        mailbox = self.mailboxes.get(name)
        if mailbox is None:
            message = f"there is no mailbox {name!r} here: open it first"
            raise AddressError(message)
        return mailbox

    # --- arrival ---

    def refusal(self, name: str, size: int) -> tuple[str, str] | None:
        """Say why a message of `size` bytes for a mailbox cannot be taken now: (code, text), or None."""
        mailbox = self.mailboxes.get(name)
        if mailbox is None:
            return "unknown-mailbox", f"there is no mailbox {name!r}"
        if mailbox.full(self.quotas, size):
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
        self.messages.keep(message)
        holder = self.leases.claim(message, envelope.reply_to)
        if holder is None:
            self.mailboxes[message.mailbox].arriving += 1
        if message.mailbox in self._unsaved:  # the commit that opened it may fail, and this one not
            self._turn.persist(self.mailboxes[message.mailbox].row(self._turn.now))
        put = PutIn(
            message.row, message.id, device, message.source, message.mailbox, message.klass, message.attempts,
            message.due, message.deadline, packed, body,
        )  # fmt: skip
        self._turn.persist(put)
        self._turn.then(lambda: self._arrived(message, holder), lambda _: self._forget(message, holder))

    def _arrived(self, message: InMessage, holder: Holder | None) -> None:
        there = self._turn.written.ignored_in.get(message.row)
        if there is not None:
            self._forget(message, holder)
            if there in _FATES:
                self._report(message, _FATES[there], "")  # its sender asks because its disk went back in time
            return
        message.committed = True
        self.arrivals.append((self._turn.now, message.id, message.source))
        if holder is not None:
            self.leases.deliver(holder, message)
            return
        self.mailboxes[message.mailbox].arriving -= 1
        if self.messages.expired(message):
            self.messages.expire(message)  # while it was being written: the heap has let it pass
            return
        self.leases.offer(message)
        self.messages.slim(message)

    def _forget(self, message: InMessage, holder: Holder | None) -> None:
        """The message is not in the store: its commit failed, or it had been received before."""
        mailbox = self.mailboxes[message.mailbox]
        if holder is None:
            mailbox.arriving -= 1
        else:
            self.leases.disclaim(holder, message)
        self.messages.drop(message)
        self.leases.dispatch(mailbox)

    # --- time ---

    def timer(self) -> float:
        """Return when `wake` is due."""
        return min(self.leases.timer(), self.messages.expiry.next)

    def wake(self) -> None:
        """Release what detached holders held, expire what nobody took, offer what is due again."""
        self.leases.release_due()
        self.messages.expire_due()
        self.leases.offer_due()


def _check_words(command: OpenMailbox) -> None:
    for what, text in (("role", command.role), ("project", command.project)):
        if text and not is_type(text):
            message = f"a {what} is a text of at most {MAX_NAME} printable characters, not {text!r}"
            raise ValueError(message)
    if len(command.capabilities) > MAX_CAPABILITIES or not all(map(is_type, command.capabilities)):
        message = f"capabilities are at most {MAX_CAPABILITIES} texts of 1 to {MAX_NAME} printable characters"
        raise ValueError(message)
