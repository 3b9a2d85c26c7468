"""The core of a peer: joins links, streams, outbox and inbox. Sans-I/O: inputs come in with their time, effects go out.

    core.receive(parts, device, path, now)   a frame from the ROUTER, with the device CURVE established
    core.answered(store, parts, now)         a plain frame from our own DEALER: RESET, or BYE `version`
    core.returned(store, parts, now)         a frame from our own DEALER that was sealed to us: as from the ROUTER
    core.ready / undeliverable(store, now)   what became of a connection
    core.command(command, now)               what this machine wants
    core.committed / failed(token, ..., now) what became of a `Persist`
    core.fetched_out / fetched_in(..., now)  what was read back
    core.timer() -> when; core.wake(now)     time
    core.effects() -> list                   to be carried out, in order, after every input

The laws it keeps: nothing that depends on a commit leaves before it; the sender of a frame is who CURVE says it is; a
state is reported only when it was observed. It must never import a socket, a database, a clock or randomness.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from zmesh.errors import MailboxBusy, MeshFull
from zmesh.protocol.bounds import RESET_INTERVAL
from zmesh.protocol.codec import decode, encode
from zmesh.protocol.commands import (
    Attach,
    CancelSend,
    Close,
    Command,
    Detach,
    Done,
    Drain,
    Exclude,
    Expect,
    Halt,
    MergeMailbox,
    Moved,
    MoveMail,
    Nack,
    Note,
    OpenMailbox,
    Reclaim,
    Release,
    RemoveMailbox,
    Replay,
    Send,
    SetQuotas,
    SetStatus,
    Share,
    Sighted,
    Take,
    Unexpect,
    Untake,
)
from zmesh.protocol.deadlines import LONG_AGO, NEVER
from zmesh.protocol.effects import Answer, Effect, Path, Transmit
from zmesh.protocol.entropy import Entropy
from zmesh.protocol.envelope import unpack_envelope
from zmesh.protocol.errors import ProtocolError
from zmesh.protocol.frames import Bye, Cancel, Frame, Hello, Reset, Unknown
from zmesh.protocol.greeting import is_late, on_hello
from zmesh.protocol.guard import UNGUARDED, Guard
from zmesh.protocol.intake import take_in
from zmesh.protocol.journal import NOTHING_SPECIAL, InRow, PutAudit, Snapshot, Written
from zmesh.protocol.merging import merge
from zmesh.protocol.moving import move, remove
from zmesh.protocol.node import Node
from zmesh.protocol.ownership import owns
from zmesh.protocol.pump import Pump
from zmesh.protocol.quotas import Quotas, checked_quotas, default_quotas
from zmesh.protocol.remote import Remote
from zmesh.protocol.replaying import replay

_PATHS = 1024  # connections remembered for the rate of RESETs


class Core:
    """One peer, without its sockets and its disk."""

    def __init__(
        self,
        *,
        store: bytes,
        name: str,
        device: str,
        endpoints: tuple[str, ...],
        entropy: Entropy,
        snapshot: Snapshot,
        now: float,
        guard: Guard = UNGUARDED,
        grace: float = 0.0,
        quotas: Quotas | None = None,
    ) -> None:
        """Go on where the store ended.

        Args:
            store: Own store id, 16 bytes.
            name: Own peer name.
            device: Own device id.
            endpoints: Where others can dial us.
            entropy: Source of link ids and jitter.
            snapshot: What the store kept.
            now: Seconds on the store's clock.
            guard: What other devices may send.
            grace: Seconds for which what was leased when the last process ended waits for a `Reclaim`.
            quotas: How much is kept; None for the defaults.
        """
        self.node = Node(
            store=store, name=name, device=device, endpoints=endpoints, entropy=entropy, now=now, guard=guard,
            quotas=quotas or default_quotas(),
        )  # fmt: skip
        self._pump = Pump(self.node)
        self.node.restore(snapshot, grace)
        self._resets: dict[Path, float] = {}

    # --- the network ---

    def receive(self, parts: Sequence[bytes], device: str, path: Path, now: float) -> None:
        """Take in a frame from the ROUTER.

        Args:
            parts: Without the routing id.
            device: `User-Id`, as CURVE and ZAP established it.
            path: The routing id, for an answer.
            now: Seconds.
        """
        node = self._at(now)
        if node.ways.get(path, device) != device:
            node.leave_way(path, device)
        unknown = self._take_in(parts, device, path)
        if unknown and self._may_reset(path):
            node.turn.emit(Answer(path, encode(unknown, Reset())))

    def returned(self, store: bytes, parts: Sequence[bytes], now: float) -> None:
        """Take in a frame that came back on our DEALER to `store`, sealed to us: it is from that store's device."""
        node = self._at(now)
        remote = node.remotes.get(store)
        unknown = self._take_in(parts, remote.device, b"") if remote else b""
        if unknown and self._may_reset(store):
            node.turn.emit(Transmit(store, encode(unknown, Reset())))

    def _take_in(self, parts: Sequence[bytes], device: str, path: Path) -> bytes:
        """Give a frame to its rule; return its link id if that is not known, or not any more.

        Args:
            parts: The frame.
            device: Whose it is.
            path: Their connection that it came on; empty if it came on our own.
        """
        node = self.node
        try:
            link, frame = decode(parts)
        except ProtocolError as error:
            node.say("warning", device, error.code, f"a frame was dropped: {error.text}")
            return b""
        if isinstance(frame, Hello):
            if is_late(node, link, frame, device):
                return link
            self._guard(None, device, lambda: on_hello(node, link, frame, device, path))
            return b""
        remote = node.by_link.get((device, link))
        if remote is None:
            heeded = isinstance(frame, Reset) and path in node.ways and self._heed_reset(link, path)
            return b"" if heeded else link
        remote.link.hear(node.turn.now, path)
        if not isinstance(frame, Unknown):
            self._guard(remote, device, lambda: take_in(node, remote, frame))
        return b""

    def _heed_reset(self, link: bytes, path: Path) -> bool:
        """A RESET came on a path that a link of ours goes back on: say whether it was about that."""
        node = self.node
        remote = next((each for each in node.remotes.values() if each.link.via == path and each.link.id == link), None)
        if remote is not None:
            node.act(remote, remote.link.reset(link, node.turn.now))
        return remote is not None

    def _guard(self, remote: Remote | None, device: str, rule: Callable[[], None]) -> None:
        """Apply a rule; a peer that breaks the protocol loses its link."""
        try:
            rule()
        except ProtocolError as error:
            self.node.say("error", device, error.code, error.text, audit=True)
            if remote is not None:
                self._say_bye(remote, error.code, error.text)

    def _say_bye(self, remote: Remote, code: str, text: str) -> None:
        node = self.node
        if remote.up:
            node.transmit(remote, Bye(code, text))
        node.end_link(remote)

    def _may_reset(self, connection: bytes) -> bool:
        """Say whether a RESET may go out on a connection, which counts as one."""
        now = self.node.turn.now
        if now < self._resets.get(connection, LONG_AGO) + RESET_INTERVAL:
            return False
        if len(self._resets) >= _PATHS:
            self._resets = {}
        self._resets[connection] = now
        return True

    def answered(self, store: bytes, parts: Sequence[bytes], now: float) -> None:
        """Take in a frame that came back on our DEALER: RESET, or BYE for a version that is not spoken there."""
        node = self._at(now)
        remote = node.remotes.get(store)
        if remote is None:
            return
        frame: Frame
        try:
            link, frame = decode(parts)
        except ProtocolError as error:
            node.say("warning", remote.device, error.code, f"an answer was dropped: {error.text}")
            return
        if isinstance(frame, Reset):
            node.act(remote, remote.link.reset(link, now))
        elif isinstance(frame, Bye) and link == remote.link.id:
            take_in(node, remote, frame)

    def ready(self, store: bytes, now: float) -> None:
        """The connection to a store is writable, for the first time or again."""
        node = self._at(now)
        remote = node.remotes.get(store)
        if remote is not None:
            node.act(remote, remote.link.ready(now))

    def undeliverable(self, store: bytes, now: float, path: Path = b"") -> None:
        """A frame could not be sent, on our own connection or on their `path`: it is lost, and will be sent again."""
        node = self._at(now)
        remote = node.remotes.get(store)
        if remote is not None:
            node.act(remote, remote.link.lost(now, path))
            node.changed()

    # --- the store ---

    def committed(self, token: int, now: float, written: Written = NOTHING_SPECIAL) -> None:
        """A `Persist` is on disk.

        Args:
            token: Its token.
            now: Seconds.
            written: What only the store can tell.
        """
        self._at(now).turn.committed(token, written)

    def failed(self, token: int, reason: str, now: float) -> None:
        """A `Persist` is not on disk, for a reason in words."""
        node = self._at(now)
        if node.turn.failed(token, reason):
            node.take_back()
            node.say("error", node.device, "store", reason)

    def fetched_out(self, bodies: Mapping[int, bytes], now: float) -> None:
        """The oldest unanswered `FetchOut` found these bodies; rows that are missing have none."""
        self._at(now).fetched(bodies)

    def fetched_in(self, messages: Mapping[int, tuple[bytes, bytes]], now: float) -> None:
        """The oldest unanswered `FetchIn` found these (envelope, body); rows that are missing have ended."""
        self._at(now).inbox.leases.fetched(messages)

    # --- this machine ---

    def command(self, command: Command, now: float) -> None:
        """Carry out a command.

        Raises:
            MeshError: It cannot be done; nothing of it was.
            ValueError: An argument is out of its range.
        """
        self._at(now)
        self._RULES[type(command)](self, command)

    def _send_new(self, command: Send) -> None:
        self.node.halting.check_open(command)
        self._send(command)

    def _send(self, command: Send) -> None:
        node = self.node
        resolved = node.find(command.address)
        store = resolved.entry.store if resolved.entry else b""
        remote = node.remotes.get(store)
        node.outbox.check(command, resolved, remote)
        if store == node.store and resolved.known:
            refusal = node.inbox.refusal(resolved.address.agent, len(command.body))
            if refusal is not None:
                message = f"{refusal[1]}: wait until its holder has worked some off"
                raise MeshFull(message)
            if not node.placing.waits_here(resolved.address.agent):
                node.outbox.send_here(command, resolved, self._arrive)
                return
            node.outbox.send(command, resolved, None)
            node.placing.follow(resolved.address.agent, command.id)
        else:
            node.outbox.send(command, resolved, remote, "" if store == node.store else node.halting.warning(store))
        if remote is None or not resolved.known:
            node.turn.then(lambda: node.placing.place_late(command.id))
        if remote is not None:
            node.touch(remote)

    def _arrive(self, command: Send, envelope: bytes, mailbox: str, store: bytes, deadline: float | None) -> None:
        row = InRow(0, command.id, store, mailbox, int(command.priority), 0, 0.0, deadline, len(command.body))
        self.node.inbox.arrive(row, self.node.device, envelope, command.body, unpack_envelope(envelope))

    def _open(self, command: OpenMailbox) -> None:
        self.node.inbox.open(command)
        self.node.changed()
        self.node.placing.land_all(command.name)

    def _merge(self, command: MergeMailbox) -> None:
        node = self.node
        if node.placing.waits_here(command.name):
            message = f"messages are on their way into mailbox {command.name!r}: try again"
            raise MailboxBusy(message)
        merge(node.inbox, node.turn, command)
        node.changed()
        node.turn.then(None, lambda _: node.changed())

    def _attach(self, command: Attach) -> None:
        self.node.inbox.attach(command)
        self.node.changed()

    def _detach(self, command: Detach) -> None:
        self.node.inbox.detach(command)
        self.node.changed()

    def _done(self, command: Done) -> None:
        self.node.inbox.leases.leased(command.holder, command.row)
        if command.reply is not None:
            self._send(command.reply)
        self.node.inbox.leases.done(command)

    def _cancel(self, command: CancelSend) -> None:
        message = self.node.outbox.expiry.cancel(command.id)
        remote = self.node.remotes.get(message.dest) if message else None
        if remote is not None and remote.up:
            self.node.transmit(remote, Cancel((command.id,)))
            self.node.touch(remote)

    def _sighted(self, command: Sighted) -> None:
        if command.store == self.node.store or not owns(command.device, command.store):
            return
        remote = self.node.admit(command.store, command.device, command.name, greets=False)
        if remote is not None:
            self.node.act(remote, remote.link.sighted(command.endpoints, self.node.turn.now))

    def _moved(self, command: Moved) -> None:
        gone = not set(self.node.endpoints) <= set(command.endpoints)
        self.node.endpoints = command.endpoints
        for remote in self.node.remotes.values():
            self.node.act(remote, remote.link.moved(self.node.turn.now, gone=gone))

    def _exclude(self, command: Exclude) -> None:
        for remote in self.node.remotes.values():
            if remote.device == command.device:
                remote.trouble = command.reason
                self.node.end_link(remote, delay=NEVER)
        self.node.changed()

    def _share(self, command: Share) -> None:
        remote = self.node.remotes.get(command.store)
        if remote is not None and remote.up:
            self.node.transmit(remote, command.frame)

    def _note(self, command: Note) -> None:
        turn = self.node.turn
        turn.persist(PutAudit(turn.now, command.kind, command.text))
        turn.settle(command.ticket)

    def _close(self, _: Close) -> None:
        self.node.inbox.leave()
        for remote in self.node.remotes.values():
            if remote.up:
                self.node.remember(remote)  # until now it was heard
                self.node.transmit(remote, Bye("closing", "the peer is closing"))
            remote.link.bye(self.node.turn.now, delay=NEVER)  # the shell closes the connection when that has gone out

    # --- time and effects ---

    def timer(self) -> float | None:
        """Return when `wake` is due, or None."""
        node = self.node
        due = min(node.outbox.expiry.timer(), node.inbox.timer(), self._pump.timer())
        for remote in node.remotes.values():
            due = min(due, remote.link.timer())
        if node.sick_until > LONG_AGO:
            due = min(due, node.sick_until)
        return None if due == NEVER else due

    def wake(self, now: float) -> None:
        """Do what is due."""
        node = self._at(now)
        if LONG_AGO < node.sick_until <= now:
            node.recovered()
        node.outbox.expiry.expire()
        node.outbox.expiry.unpark(node.placing.place_one, node.outbox.place)
        node.inbox.wake()
        for remote in node.remotes.values():
            if remote.link.timer() <= now:
                node.act(remote, remote.link.wake(now))
                node.touch(remote)

    def effects(self) -> list[Effect]:
        """Return what is to be done, in order."""
        self._pump.close_turn()
        return self.node.turn.drain()

    def _at(self, now: float) -> Node:
        """Take the time of an input; it never runs backwards."""
        self.node.turn.now = max(now, self.node.turn.now)
        return self.node

    _RULES: ClassVar[dict[type[Any], Callable[["Core", Any], None]]] = {
        Send: _send_new,
        OpenMailbox: _open,
        MergeMailbox: _merge,
        MoveMail: lambda core, command: move(core.node, command),
        RemoveMailbox: lambda core, command: remove(core.node, command),
        Replay: lambda core, command: replay(core.node, command),
        Attach: _attach,
        Detach: _detach,
        SetStatus: lambda core, command: core.node.inbox.set_status(command),
        Take: lambda core, command: core.node.inbox.leases.take(command.holder, command.count),
        Untake: lambda core, command: core.node.inbox.leases.untake(command.holder),
        Expect: lambda core, command: core.node.inbox.leases.expect(command.holder, command.id, command.answer),
        Unexpect: lambda core, command: core.node.inbox.leases.unexpect(command.id),
        Done: _done,
        Reclaim: lambda core, command: core.node.inbox.leases.reclaim(command.holder, command.row, command.id),
        Nack: lambda core, command: core.node.inbox.leases.nack(command),
        CancelSend: _cancel,
        Sighted: _sighted,
        Moved: _moved,
        Exclude: _exclude,
        Share: _share,
        Halt: lambda core, command: core.node.halting.halt(command),
        Release: lambda core, command: core.node.halting.release(command),
        Drain: lambda core, command: core.node.halting.drain(command),
        Note: _note,
        SetQuotas: lambda core, command: core.node.limit(checked_quotas(command.quotas)),
        Close: _close,
    }
