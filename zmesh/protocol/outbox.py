"""The sending half: what is sent and where it goes, and what the receivers say became of it.

`send` says where a message goes once and for all; only a temporary refusal, a new epoch or a mailbox that appears gives
it another place. The records are in `outgoing`; what time does to them, in `expiry`. A state must never be reported
before it was observed.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from zmesh.errors import BodyTooLarge, MeshFull, UnknownAgent
from zmesh.protocol.bounds import (
    ID_BYTES,
    MAX_BODY,
    MAX_NAME,
    MAX_TTL,
    NO_ID,
    RATE_BURST,
    REQUEUE_MAX,
)
from zmesh.protocol.commands import Send
from zmesh.protocol.directory import Resolved, waiting_warning
from zmesh.protocol.effects import Failed, Progress, Settled
from zmesh.protocol.envelope import Envelope, is_type, unpack_envelope
from zmesh.protocol.expiry import IN_DOUBT, Expiry
from zmesh.protocol.frames import Ending
from zmesh.protocol.journal import EndOut, FateOut, MoveOut, OutRow, PutOut
from zmesh.protocol.messages import OutMessage
from zmesh.protocol.out_stream import Settlement
from zmesh.protocol.outgoing import Outgoing
from zmesh.protocol.quotas import Quotas
from zmesh.protocol.remote import Remote
from zmesh.protocol.states import Sent
from zmesh.protocol.turn import Turn

NOWHERE = b""

FATES = {"handled": Sent.HANDLED, "dead": Sent.DEAD, "expired": Sent.EXPIRED, "replayed": Sent.STORED}
"""Outcome codes and the states they mean; codes that are not listed are confirmed and ignored."""

_TEMPORARY = {"unknown-mailbox": "no such mailbox", "mailbox-full": "mailbox full", "rate-limited": "rate limited"}

Arrive = Callable[[Send, bytes, str, bytes, float | None], None]
"""Puts a message into a mailbox of this store: (command, envelope, mailbox, own store, deadline)."""


class Outbox:
    """All outgoing messages that have not ended.

    Attributes:
        messages: Their records; `by_id` and `waiting` are parts of these.
        expiry: What time does to them.
        quotas: How much may wait for one peer.
    """

    def __init__(
        self,
        turn: Turn,
        next_row: int,
        *,
        store: bytes,
        name: str,
        remotes: dict[bytes, Remote],
        touch: Callable[[Remote], None],
        quotas: Quotas,
    ) -> None:
        """Begin empty; `restore` fills it.

        Args:
            turn: The journal of the core.
            next_row: Above every row in the store.
            store: Own store id.
            name: Own peer name.
            remotes: Other stores by id, as they come and go.
            touch: Told of every store whose streams were changed.
            quotas: How much may wait for one peer.
        """
        self.quotas = quotas
        self.messages = Outgoing(turn, remotes, touch)
        self.by_id, self.waiting = self.messages.by_id, self.messages.waiting
        self.expiry = Expiry(turn, self.messages)
        self._turn = turn
        self._next_row = next_row
        self._store, self._name = store, name
        self._remotes, self._touch = remotes, touch

    def restore(self, rows: Iterable[OutRow]) -> None:
        """Take over what the store kept."""
        for row in rows:
            message = OutMessage(row)
            message.envelope = self._in_our_name(message.envelope)
            remote = self._remotes.get(message.dest)
            self.messages.keep(message, remote)
            if remote is None:
                message.state, message.dest = Sent.WAITING, NOWHERE
            if remote is None or message.state is Sent.WAITING:
                self.waiting[message.row] = message
            elif message.epoch == remote.epoch and message.number > remote.outs[message.klass].floor:
                remote.outs[message.klass].entries[message.number] = message
            else:
                self.expiry.requeue_now(message)  # it has no place, or lost it with its body

    def _in_our_name(self, packed: bytes) -> bytes:
        """Return an envelope that names this peer as it is called now: it may have had another name when it sent."""
        envelope = unpack_envelope(packed)
        if envelope.sender_peer == self._name:
            return packed
        agent = envelope.sender.partition("@")[0]
        return replace(envelope, sender=f"{agent}@{self._name}").pack()

    # --- sending ---

    def check(self, command: Send, resolved: Resolved, remote: Remote | None) -> None:
        """See that a message may be queued.

        Raises:
            BodyTooLarge: The body is larger than one message may be.
            ValueError: The ttl is not a positive number of seconds, a year at most; or an id or the type is none.
            UnknownAgent: The mailbox is not there, and the command is strict.
            MeshFull: The quota of the peer is used up.
        """
        if len(command.body) > MAX_BODY:
            text = (
                f"the body has {len(command.body)} bytes, more than the {MAX_BODY} one message can carry: "
                f"send a reference to the data, or send it in pieces"
            )
            raise BodyTooLarge(text)
        if len(command.id) != ID_BYTES or command.id == NO_ID or not is_type(command.type):
            text = f"a message has an id of {ID_BYTES} bytes and a type of 1 to {MAX_NAME} printable characters"
            raise ValueError(text)
        if len(command.thread) not in (0, ID_BYTES) or len(command.reply_to) not in (0, ID_BYTES):
            text = f"thread and reply_to are message ids of {ID_BYTES} bytes, or empty"
            raise ValueError(text)
        if command.ttl is not None and not 0 < command.ttl <= MAX_TTL:
            text = f"a ttl is between 0 and {MAX_TTL:.0f} seconds, not {command.ttl}"
            raise ValueError(text)
        if not resolved.known and command.strict:
            raise UnknownAgent(waiting_warning(resolved).partition(": the message")[0])
        if resolved.entry is not None and resolved.entry.store == self._store and resolved.known:
            return  # the mailbox has its own quota
        held = self.messages
        count, size = (remote.queued, remote.queued_bytes) if remote else (held.nowhere, held.nowhere_bytes)
        most, most_bytes = self.quotas.peer_messages, self.quotas.peer_bytes
        if count >= most or size + len(command.body) > most_bytes:
            whom = repr(resolved.address.peer) if remote else "peers and mailboxes that are not there yet"
            text = (
                f"{count} messages ({size} bytes) already wait for {whom}, the quota is "
                f"{most} messages and {most_bytes} bytes: wait until some are delivered, cancel some, or raise the "
                f"quota ([quotas] in config.toml)"
            )
            raise MeshFull(text)

    def send(self, command: Send, resolved: Resolved, remote: Remote | None, warning: str = "") -> None:
        """Queue a message that `check` has nothing against, for another store; the warning says why it waits."""
        known = self.by_id.get(command.id)
        if known is not None:
            self._settle_with(known, command.ticket)
            return
        state = Sent.QUEUED if remote and resolved.known else Sent.WAITING
        message = self._record(command, resolved, remote.store if remote else NOWHERE, state)
        self.messages.keep(message, remote)
        if state is Sent.QUEUED and remote:
            remote.outs[message.klass].append(message, remote.epoch, handing_over=remote.up)
        else:
            self.waiting[message.row] = message
        warning = warning or ("" if resolved.known else waiting_warning(resolved))
        self._persist(message, command, warning)

    def send_here(self, command: Send, resolved: Resolved, arrive: Arrive) -> None:
        """Put a message into a mailbox of this store: one transaction, no socket, the same receipts."""
        known = self.by_id.get(command.id)
        if known is not None:
            self._settle_with(known, command.ticket)
            return
        message = self._record(command, resolved, self._store, Sent.STORED)
        self._turn.persist(_put(message, b""))
        arrive(command, message.envelope, resolved.address.agent, self._store, message.deadline)

        def commit() -> None:
            there = self._turn.written.ignored_out.get(message.row)
            state = Sent.STORED if there is None else there
            self._turn.emit(Settled(command.ticket, command.id, message.address, state, dest=self._store))
            if there is None:
                self._turn.emit(Progress(command.id, Sent.STORED, "", self._store))

        self._turn.then(commit, lambda reason: self._turn.emit(Failed(command.ticket, reason)))

    def _record(self, command: Send, resolved: Resolved, dest: bytes, state: Sent) -> OutMessage:
        envelope = Envelope(
            to=resolved.address.agent,
            sender=f"{command.sender}@{self._name}",
            type=command.type,
            thread=command.thread,
            reply_to=command.reply_to,
            sent_at=command.sent_at,
            packed=command.packed,
        ).pack()
        deadline = None if command.ttl is None else self._turn.now + command.ttl
        address = str(resolved.address)
        row = self._next_row
        self._next_row += 1
        size = len(command.body)
        klass = int(command.priority)
        return OutMessage(
            OutRow(row, command.id, dest, address, klass, 0, 0, state, deadline, envelope, size), command.body
        )

    def _persist(self, message: OutMessage, command: Send, warning: str) -> None:
        assert message.body is not None
        self._turn.persist(_put(message, message.body))

        def commit() -> None:
            there = self._turn.written.ignored_out.get(message.row)
            state = message.state if there is None else there
            self._turn.emit(Settled(command.ticket, message.id, message.address, state, warning, message.dest))
            if there is not None:
                self.messages.forget(message, self._remotes.get(message.dest))  # this id was sent before, and has ended
                return
            message.committed = True
            self.messages.slim(message)

        def abort(reason: str) -> None:
            self.messages.forget(message, self._remotes.get(message.dest))
            self._turn.emit(Failed(command.ticket, reason))

        self._turn.then(commit, abort)

    def _settle_with(self, known: OutMessage, ticket: int) -> None:
        """The same id again: it is the same message, and settled when the first one is."""
        self._turn.then(
            lambda: self._turn.emit(Settled(ticket, known.id, known.address, known.state, dest=known.dest)),
            lambda reason: self._turn.emit(Failed(ticket, reason)),
        )

    # --- confirmation ---

    def settle(self, remote: Remote, settled: list[Settlement]) -> None:
        """The receiver is done with these numbers; says of each what it is now."""
        stored: list[int] = []
        for item in settled:
            message = item.message
            if message is None:
                continue
            if item.ending is None:
                message.step("cursor")
                stored.append(message.row)
                self._turn.emit(Progress(message.id, Sent.STORED, "", remote.store))
                self.messages.drop(message, remote)
            else:
                self._ended(remote, message, item.ending)
        for first, last in _ranges(stored):
            self.messages.owe(EndOut(first, last, Sent.STORED, ""))

    def _ended(self, remote: Remote, message: OutMessage, ending: Ending) -> None:
        expiring = message.state is Sent.EXPIRING
        event = _TEMPORARY.get(ending.code, "skipped" if ending.code == "skipped" else "refused")
        if expiring and message.doubt:
            event = "ttl, in doubt"
        message.step(event)
        if message.state in (Sent.EXPIRED, Sent.REFUSED, Sent.LOST):
            detail = f"{ending.code}: {ending.text}"
            if expiring:
                detail = IN_DOUBT if message.doubt else "the ttl ended"
            self.messages.owe(EndOut(message.row, message.row, message.state, detail))
            self._turn.emit(Progress(message.id, message.state, detail, remote.store))
            self.messages.drop(message, remote)
            return
        # A temporary refusal: the message gets a new number later.
        message.number = 0
        # The bucket over there is full after RATE_BURST: who waits for longer gets less than the rate.
        self.expiry.requeue(message, RATE_BURST if ending.code == "rate-limited" else REQUEUE_MAX)
        self.messages.owe_number(message)
        self._turn.emit(Progress(message.id, message.state, f"{ending.code}: {ending.text}", remote.store))

    def awaits_cursor(self, dest: bytes, ids: Iterable[bytes]) -> bool:
        """Say whether any of these messages to `dest` is not settled yet: the ACK was lost, and comes again.

        One without a number has no ACK to come: its outcome says that it was stored before our disk went back in time.
        """
        awaited = False
        for ident in ids:
            message = self.by_id.get(ident)
            if message is not None and message.dest == dest:
                if message.number or not message.committed:
                    awaited = True
                else:
                    self._stored_before(message)
        return awaited

    def _stored_before(self, message: OutMessage) -> None:
        message.step("outcome")
        self.messages.owe(EndOut(message.row, message.row, Sent.STORED, ""))
        self._turn.emit(Progress(message.id, Sent.STORED, "", message.dest))
        self.messages.drop(message, self._remotes[message.dest])

    def fate(self, dest: bytes, ids: tuple[bytes, ...], code: str, text: str) -> None:
        """Stored messages came to an end, says `dest`; the store and the observer check that they went there."""
        state = FATES.get(code)
        ids = tuple([ident for ident in ids if self._may_tell(dest, ident)])
        if state is None or not ids:
            return
        self._turn.persist(FateOut(dest, ids, state, text))

        def commit() -> None:
            for ident in ids:
                self._turn.emit(Progress(ident, state, text, dest))

        self._turn.then(commit)

    def _may_tell(self, dest: bytes, ident: bytes) -> bool:
        """Say whether a store may know of a message: one that is on its way to another one, it may not."""
        message = self.by_id.get(ident)
        return message is None or message.dest == dest

    def lost(self, dest: bytes) -> None:
        """The commit that is being reported has marked messages as lost, which `dest` had stored."""
        for ident in self._turn.written.lost:
            self._turn.emit(Progress(ident, Sent.LOST, "its recipient's disk went back in time", dest))

    # --- places ---

    def place(self, message: OutMessage, remote: Remote) -> None:
        """Give a waiting or parked message a number in a stream."""
        if message.dest != remote.store:
            assert message.dest == NOWHERE
            self.messages.count(message, None, -1)
            message.dest = remote.store
            self.messages.count(message, remote, 1)
        self.waiting.pop(message.row, None)
        if message.state is Sent.WAITING:
            message.step("mailbox seen")
        remote.outs[message.klass].append(message, remote.epoch, handing_over=remote.up)
        self.messages.owe(MoveOut(message.row, message.dest, message.epoch, message.number, message.state))
        self._touch(remote)

    def land(self, message: OutMessage, store: bytes) -> None:
        """A waiting message goes into a mailbox of this store; the caller puts it there in the same transaction."""
        message.step("stored here")
        self._turn.persist(MoveOut(message.row, store, 0, 0, Sent.STORED))
        self._turn.persist(EndOut(message.row, message.row, Sent.STORED, ""))
        self.messages.drop(message, None)

        def abort(_: str) -> None:
            message.state = Sent.WAITING
            self.messages.keep(message, None)
            self.waiting[message.row] = message
            self.expiry.park(message)

        self._turn.then(lambda: self._turn.emit(Progress(message.id, Sent.STORED, "", store)), abort)

    def new_epoch(self, remote: Remote, epoch: int) -> None:
        """Start the streams to a store afresh: every live message gets a new number, in the old order."""
        live = [message for stream in remote.outs for message in _in_order(stream.entries)]
        remote.new_epoch(epoch)
        for message in self.by_id.values():
            if message.dest in (remote.store, NOWHERE):
                message.doubt = True
                if message.dest and not message.number and message.committed:
                    message.epoch = epoch
                    self.messages.owe_number(message)
        for message in live:
            message.flying = 0
            if message.state is Sent.SENT:
                message.step("link reset")
            stream = remote.outs[message.klass]
            stream.append(message, epoch, handing_over=False)
            # What our disk has forgotten may have been sent: each may be stored there under another number.
            stream.mark = message.number
            self.messages.owe(MoveOut(message.row, message.dest, epoch, message.number, message.state))


def _put(message: OutMessage, body: bytes) -> PutOut:
    return PutOut(
        message.row, message.id, message.dest, message.address, message.klass, message.epoch, message.number,
        message.state, message.deadline, message.envelope, body,
    )  # fmt: skip


def _in_order(entries: dict[int, OutMessage]) -> list[OutMessage]:
    return [entries[number] for number in sorted(entries)]


def _ranges(rows: list[int]) -> list[tuple[int, int]]:
    """Fold rising rows into (first, last) runs."""
    runs: list[tuple[int, int]] = []
    for row in sorted(rows):
        if runs and runs[-1][1] == row - 1:
            runs[-1] = (runs[-1][0], row)
        else:
            runs.append((row, row))
    return runs
