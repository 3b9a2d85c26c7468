"""The state of one peer that all parts of the core share, and what they all do with it: send, find, persist.

The rules live elsewhere: what a HELLO means in `greeting`, what other frames mean in `intake`, what commands and time
mean in `core`. This module never decides on anything a frame claims.
"""

from collections import deque
from collections.abc import Callable, Mapping

from zmesh.errors import MeshError
from zmesh.protocol.address import Address, store_text
from zmesh.protocol.bounds import AGENTS_PER_PAGE, BYE_REDIAL, MAX_PEERS, PROTOCOL_MAX, PROTOCOL_MIN, STORE_RETRY
from zmesh.protocol.codec import MAX_NUMBER, encode
from zmesh.protocol.directory import Entry, Resolved, resolve
from zmesh.protocol.effects import Dial, FetchOut, Hangup, Progress, Transmit
from zmesh.protocol.entropy import Entropy
from zmesh.protocol.envelope import unpack_envelope
from zmesh.protocol.frames import Data, Frame, Hello, Peers
from zmesh.protocol.in_stream import InStream
from zmesh.protocol.inbox import Inbox
from zmesh.protocol.journal import (
    DropEndings,
    DropOutcomes,
    DropPeer,
    FateOut,
    InRow,
    InStreamRow,
    OutStreamRow,
    Snapshot,
)
from zmesh.protocol.link import Act
from zmesh.protocol.messages import InMessage, OutMessage
from zmesh.protocol.out_stream import OutStream
from zmesh.protocol.outbox import FATES, Outbox
from zmesh.protocol.remote import Remote
from zmesh.protocol.turn import Turn

NEVER = float("inf")
_ROSTER_GAP = 0.2  # seconds between two versions of the roster: short-lived clients come and go in bursts
_NOTICE_GAP = 10.0  # seconds between two equal notices about one device: a hostile peer must not fill the log
_REMEMBERED = 1024  # entries of each rate limiter

Fetched = Callable[[Mapping[int, bytes]], None]


class Node:
    """One peer's state.

    Attributes:
        store, name, device, endpoints: Who we are, and where we can be dialled.
        turn: The journal.
        remotes: Other stores, by id.
        by_link: Other stores by (device, their link id).
        inbox, outbox: Our mailboxes, and what we sent.
        roster: Version of our roster.
        sick_until: After a failed commit nothing is taken in until then.
        touched: Stores whose streams this turn may have changed, in order.
        changes: How often rosters, names or links have changed.
    """

    def __init__(
        self, *, store: bytes, name: str, device: str, endpoints: tuple[str, ...], entropy: Entropy, now: float
    ) -> None:
        """Begin empty; `restore` fills it."""
        self.store, self.name, self.device, self.endpoints = store, name, device, endpoints
        self.turn = Turn(entropy, now)
        self.remotes: dict[bytes, Remote] = {}
        self.by_link: dict[tuple[str, bytes], Remote] = {}
        self.inbox = Inbox(self.turn, 1, self.report)
        self.outbox = self._new_outbox(1)
        self.roster = 1
        self.sick_until = float("-inf")
        self.touched: dict[bytes, Remote] = {}
        self.changes = 0
        self._landing: dict[str, set[int]] = {}
        self._behind: dict[bytes, Remote] = {}
        self._roster_at = now
        self._entries: list[Entry] | None = None
        self._resolved: dict[str, Resolved] = {}
        self._fetches: deque[Fetched] = deque()
        self._said: dict[tuple[str, str], float] = {}

    def _new_outbox(self, next_row: int) -> Outbox:
        return Outbox(self.turn, next_row, store=self.store, name=self.name, remotes=self.remotes, touch=self.touch)

    def restore(self, snapshot: Snapshot) -> None:
        """Take over what the store kept, and dial whom we know."""
        self.inbox = Inbox(self.turn, snapshot.next_in, self.report)
        self.outbox = self._new_outbox(snapshot.next_out)
        peers = {peer.store: peer for peer in snapshot.peers}
        stores = dict.fromkeys([*peers, *(row.dest for row in snapshot.out_streams)])
        stores.update(dict.fromkeys(row.source for row in snapshot.in_streams))
        stores.update(dict.fromkeys(row.dest for row in snapshot.outcomes))
        for store in stores:
            peer = peers.get(store)
            remote = self._new_remote(store, peer.device if peer else "", peer.name if peer else "unknown")
            remote.restore(
                peer,
                [row for row in snapshot.out_streams if row.dest == store],
                [row for row in snapshot.in_streams if row.source == store],
                [row for row in snapshot.endings if row.source == store],
                [row for row in snapshot.outcomes if row.dest == store],
            )
        self.inbox.restore(snapshot.mailboxes, snapshot.ins)
        self.outbox.restore(snapshot.outs, self.remotes)
        self.place_waiting()
        for name in list(self.inbox.mailboxes):
            self.deliver_waiting_here(name)
        for remote in self.remotes.values():
            self.act(remote, remote.link.sighted((), self.turn.now))

    # --- other stores ---

    def _new_remote(self, store: bytes, device: str, name: str) -> Remote:
        remote = self.remotes[store] = Remote(store, device, name, self.turn.entropy, self.turn.now)
        self.changed()
        return remote

    def admit(self, store: bytes, device: str, name: str) -> Remote | None:
        """Return the record of a store, made if there is room; None when all places are taken by busy ones."""
        remote = self.remotes.get(store)
        if remote is not None:
            return remote
        if len(self.remotes) >= MAX_PEERS and not self._make_room():
            self.say("warning", device, "too-many-peers", f"{name!r} is ignored: {MAX_PEERS} peers are known already")
            return None
        remote = self._new_remote(store, device, name)
        self.remember(remote)
        return remote

    def remember(self, remote: Remote) -> None:
        """What is known of a store has changed: write it down, before anything else about it."""
        remote.dirty = True
        self.touch(remote)

    def _make_room(self) -> bool:
        # Whoever has not heard our outcomes comes second; but who has gone for good must not hold a place for ever.
        idle = [remote for remote in self.remotes.values() if not remote.up and not remote.queued]
        if not idle:
            return False
        oldest = min(idle, key=lambda remote: (remote.outcomes.pending, remote.link.heard))
        del self.remotes[oldest.store]
        self.touched.pop(oldest.store, None)
        self.end_link(oldest, delay=NEVER)
        self.turn.persist(DropPeer(oldest.store))
        return True

    def end_link(self, remote: Remote, delay: float = BYE_REDIAL) -> None:
        """Give up the link to a store: its frames count no longer, and it is dialled again after `delay` seconds."""
        self.by_link.pop((remote.device, remote.link.peer_id), None)
        self.act(remote, remote.link.bye(self.turn.now, delay=delay))

    def touch(self, remote: Remote) -> None:
        """Its streams may have changed in this turn."""
        if self.remotes.get(remote.store) is remote:  # it may have been forgotten while a commit was under way
            self.touched[remote.store] = remote

    # --- finding ---

    def changed(self) -> None:
        """Rosters, names or links have changed: addresses must be resolved afresh."""
        self.changes += 1
        self._entries = None
        self._resolved = {}

    def find(self, text: str) -> Resolved:
        """Resolve an address.

        Raises:
            AddressError, AmbiguousAddress, UnknownAgent: As in `directory.resolve`.
        """
        known = self._resolved.get(text)
        if known is None:
            if len(self._resolved) >= _REMEMBERED:
                self._resolved = {}
            known = self._resolved[text] = resolve(Address.parse(text), self.entries())
        return known

    def entries(self) -> list[Entry]:
        """Return all stores as the directory sees them, our own first."""
        if self._entries is None:
            own = {name: mailbox.record for name, mailbox in self.inbox.mailboxes.items()}
            self._entries = [Entry(self.store, self.name, live=True, agents=own)]
            self._entries += [Entry(r.store, r.name, r.up, r.roster.agents) for r in self.remotes.values()]
        return self._entries

    def place_of(self, message: OutMessage) -> Remote | None:
        """Return the store a waiting message can go to now, if there is one."""
        if message.dest:
            remote = self.remotes.get(message.dest)
            return remote if remote and message.mailbox in remote.roster.agents else None
        try:
            resolved = self.find(message.address)
        except MeshError:
            return None  # two peers of one name came up meanwhile: wait until one of them is gone
        if resolved.entry is None or not resolved.known:
            return None
        return self.remotes.get(resolved.entry.store)

    def place_waiting(self) -> None:
        """Rosters have changed: move what waited for them, in order, and before anything new overtakes it."""
        for message in list(self.outbox.waiting.values()):
            remote = self.place_of(message)
            if remote is not None:
                self.outbox.place(message, remote)

    def place_one(self, message: OutMessage) -> None:
        """A waiting message is on disk, or is tried again: its mailbox may have appeared meanwhile."""
        if message.row not in self.outbox.waiting:
            return
        remote = self.place_of(message)
        if remote is not None:
            self.outbox.place(message, remote)
        elif message.committed and message.mailbox in self.inbox.mailboxes and self._is_here(message, message.mailbox):
            self._fetch_to_land(message.mailbox, [message])

    def place_late(self, ident: bytes) -> None:
        """A message that waits has just been committed."""
        message = self.outbox.by_id.get(ident)
        if message is not None:
            self.place_one(message)

    def deliver_waiting_here(self, name: str) -> None:
        """A mailbox of ours has appeared: what waited for it needs no network."""
        here = [message for message in self.outbox.waiting.values() if self._is_here(message, name)]
        if here or self._landing.get(name):
            self._fetch_to_land(name, here)

    def _fetch_to_land(self, name: str, messages: list[OutMessage]) -> None:
        """Bring messages into our own mailbox `name`; one that is not on disk yet follows when it is."""
        self._landing.setdefault(name, set()).update(message.row for message in messages)
        waiting = self._waiting_here(name)
        rows = tuple([message.row for message in waiting if message.committed])
        if rows:
            self.fetch(rows, self._land)

    def waits_here(self, name: str) -> bool:
        """Say whether older messages are on their way into our own mailbox `name`: newer ones go behind them."""
        return bool(self._waiting_here(name))

    def _waiting_here(self, name: str) -> list[OutMessage]:
        """Return what is on its way into our own mailbox `name`, the oldest first."""
        found = [self.outbox.waiter(row) for row in sorted(self._landing.get(name, ()))]
        waiting = [message for message in found if message is not None]
        if waiting:
            self._landing[name] = {message.row for message in waiting}
        else:
            self._landing.pop(name, None)
        return waiting

    def follow(self, name: str, ident: bytes) -> None:
        """A message goes behind those that are on their way into our own mailbox `name`."""
        self._landing[name].add(self.outbox.by_id[ident].row)

    def _is_here(self, message: OutMessage, name: str) -> bool:
        if message.mailbox != name or message.dest:
            return False
        try:
            entry = self.find(message.address).entry
        except MeshError:
            return False
        return entry is not None and entry.store == self.store

    def _land(self, bodies: Mapping[int, bytes]) -> None:
        blocked: set[str] = set()  # what comes behind a message that finds no room waits behind it
        for row, body in sorted(bodies.items()):
            message = self.outbox.waiter(row)
            if message is None:
                continue
            if message.mailbox in blocked or self.inbox.refusal(message.mailbox, len(body)) is not None:
                blocked.add(message.mailbox)
                self.outbox.park(message)
            else:
                self.outbox.land(message, self.store)
                place = InRow(
                    0, message.id, self.store, message.mailbox, message.klass, 0, 0.0, message.deadline, len(body)
                )
                opened = unpack_envelope(message.envelope)
                self.inbox.arrive(place, self.device, message.envelope, body, opened)

    # --- outcomes ---

    def report(self, message: InMessage, code: str, text: str) -> None:
        """Tell the sender of a message what became of it, once that is committed."""
        if message.source == self.store:
            state = FATES[code]
            self.turn.persist(FateOut(self.store, (message.id,), state, text))
            self.turn.then(lambda: self.turn.emit(Progress(message.id, state, text, self.store)))
            return
        remote = self.remotes.get(message.source)
        if remote is None:
            return  # its store was forgotten: nobody is there to tell
        overdue = remote.outcomes.make_room()
        if overdue:
            self.turn.persist(DropOutcomes(remote.store, overdue))
        row = remote.outcomes.add(message.source, message.id, code, text)
        self.turn.persist(row)

        def commit() -> None:
            remote.outcomes.committed = max(remote.outcomes.committed, row.number)
            self.touch(remote)

        self.turn.then(commit, lambda _: remote.outcomes.take_back(row.number))

    # --- sending ---

    def transmit(self, remote: Remote, frame: Frame) -> None:
        """Send a frame on our link."""
        self.turn.emit(Transmit(remote.store, encode(remote.link.id, frame)))

    def act(self, remote: Remote, act: Act) -> None:
        """Do what the link wants done."""
        if act.hangup:
            self.changed()
            self.turn.emit(Hangup(remote.store))
        if act.dial:
            self.turn.emit(Dial(remote.store, remote.device, act.dial))
        if act.hello:
            self.changed()
            self._hello(remote)
        if act.ping:
            remote.outcomes.rewind()
            if remote.roster_known != remote.roster_sent:
                self.send_roster(remote)
            self.transmit(remote, remote.ping(self.roster))
            self.touch(remote)

    def _hello(self, remote: Remote) -> None:
        hello = Hello(
            proto_min=PROTOCOL_MIN,
            proto_max=PROTOCOL_MAX,
            store=self.store,
            name=self.name,
            endpoints=self.endpoints,
            echo=remote.link.peer_id,
            up=remote.up,
            epoch=remote.source_epoch,
            cursors=remote.cursors(),
            limits=remote.limits(),
        )
        self.transmit(remote, hello)

    def send_roster(self, remote: Remote) -> None:
        """Send our roster, in pages."""
        records = [mailbox.record for mailbox in self.inbox.mailboxes.values()]
        pages = max(1, -(-len(records) // AGENTS_PER_PAGE))
        for page in range(pages):
            part = tuple(records[page * AGENTS_PER_PAGE : (page + 1) * AGENTS_PER_PAGE])
            self.transmit(remote, Peers(self.roster, page, pages, part))
        remote.roster_sent = self.roster

    def say(self, level: str, device: str, code: str, text: str, *, audit: bool = False) -> None:
        """Log a sentence about a device, but not the same again within ten seconds."""
        last = self._said.get((device, code), float("-inf"))
        if self.turn.now < last + _NOTICE_GAP:
            return
        if len(self._said) >= _REMEMBERED:
            self._said = {}
        self._said[device, code] = self.turn.now
        self.turn.notice(level, f"{code}: {text}", code if audit else "")

    # --- the end of a turn ---

    def roster_timer(self) -> float:
        """Return when a changed roster is due to be told."""
        return self._roster_at if self.inbox.changed else NEVER

    def close_turn(self) -> None:
        """Send what may be sent, persist what has changed, and seal the transaction."""
        if self.inbox.changed and self.turn.now >= self._roster_at:
            self._tell_roster()
        touched, self.touched = self.touched, {}
        for remote in touched.values():
            if remote.up:
                self._pump(remote)
                if remote.ack_due:
                    self.transmit(remote, remote.ack(self.turn.now))
                remote.link.expect(self.turn.now, waiting=remote.unconfirmed)
        # A full disk is not hammered: after a failure rows wait for the retry, unless something else is committed now,
        # which might depend on them.
        self._behind.update(touched)
        if self.turn.now >= self.sick_until or self.turn.open:
            self.outbox.pay()
            behind, self._behind = self._behind, {}
            for remote in behind.values():
                self._persist_streams(remote)
        self.turn.seal()

    def _tell_roster(self) -> None:
        self.inbox.changed = False
        self.roster += 1
        self._roster_at = self.turn.now + _ROSTER_GAP
        self.changed()
        for remote in self.remotes.values():
            if remote.up:
                self.send_roster(remote)
                self.touch(remote)

    def _pump(self, remote: Remote) -> None:
        blocked: set[int] = set()
        while True:
            ready = [klass for klass in remote.sendable() if klass not in blocked]
            if not ready:
                break
            klass = remote.scheduler.pick(ready)
            stream = remote.outs[klass]
            if stream.raise_mark() or not self._send_batch(remote, stream):
                blocked.add(klass)
        outcome = remote.outcomes.take()
        while outcome is not None:
            self.transmit(remote, outcome)
            outcome = remote.outcomes.take()

    def _send_batch(self, remote: Remote, stream: OutStream) -> bool:
        batch = stream.take(remote.room(stream.klass), self.turn.now)
        if batch.items:
            self.transmit(remote, Data(remote.epoch, stream.klass, stream.saved_floor, batch.first, batch.items))
            remote.scheduler.sent(stream.klass, len(batch.items), batch.size)
            return True
        if batch.missing:
            stream.fetching = True
            rows = batch.missing
            self.fetch(rows, lambda bodies: self._bodies(remote, stream, rows, bodies))
        return False

    def fetch(self, rows: tuple[int, ...], fetched: Fetched) -> None:
        """Read bodies back from the outbox; answers come in the order of the questions."""
        self._fetches.append(fetched)
        self.turn.emit(FetchOut(rows))

    def fetched(self, bodies: Mapping[int, bytes]) -> None:
        """The oldest question was answered."""
        self._fetches.popleft()(bodies)

    def _bodies(self, remote: Remote, stream: OutStream, rows: tuple[int, ...], bodies: Mapping[int, bytes]) -> None:
        stream.fetching = False
        self.outbox.fetched(bodies)
        for row in rows:
            if row not in bodies:
                self.outbox.lose_body(row, remote)
        self.touch(remote)

    def _persist_streams(self, remote: Remote) -> None:
        if remote.dirty:
            remote.dirty = False
            self.turn.persist(remote.row(self.turn.now))
            self.turn.then(None, lambda _: self.remember(remote))
        for out in remote.outs:
            if out.dirty:
                out.dirty = False
                row = out.row(remote.store, remote.epoch)
                self.turn.persist(row)
                self.turn.then(self._out_saved(remote, out, row), self._unsaved(remote, out))
        for stream in remote.ins:
            if stream.dirty:
                stream.dirty = False
                if stream.fresh:
                    self._drop_old_endings(remote, stream)
                line = stream.row(remote.store, remote.source_epoch)
                self.turn.persist(line)
                self.turn.then(self._in_saved(remote, stream, line), self._unsaved(remote, stream))

    def _drop_old_endings(self, remote: Remote, stream: InStream) -> None:
        """A new epoch: the endings of the old one go, once, and before those of the new one in this transaction."""

        def abort(_: str) -> None:
            stream.fresh = True

        stream.fresh = False
        self.turn.persist_first([DropEndings(remote.store, stream.klass, MAX_NUMBER)])
        self.turn.then(None, abort)

    def _out_saved(self, remote: Remote, stream: OutStream, row: OutStreamRow) -> Callable[[], None]:
        def commit() -> None:
            stream.saved(row)
            self.touch(remote)
            if remote.floor_due and remote.up:
                remote.floor_due = False
                self.transmit(remote, remote.ping(self.roster))

        return commit

    def _unsaved(self, remote: Remote, stream: OutStream | InStream) -> Callable[[str], None]:
        def abort(_: str) -> None:
            stream.dirty = True
            self.touch(remote)

        return abort

    def _in_saved(self, remote: Remote, stream: InStream, row: InStreamRow) -> Callable[[], None]:
        def commit() -> None:
            stream.saved(row)
            remote.ack_due = True
            self.touch(remote)

        return commit

    def take_back(self) -> None:
        """A commit failed: what was accepted and not committed must come again, later."""
        self.sick_until = self.turn.now + STORE_RETRY
        for remote in self.remotes.values():
            remote.heard.take_back()
            for stream in remote.ins:
                stream.take_back()

    def recovered(self) -> None:
        """Try again after a failed commit."""
        self.sick_until = float("-inf")
        for remote in self.remotes.values():
            remote.ack_due = True
            self.touch(remote)

    def describe(self, remote: Remote) -> str:
        """Name a store for a log line."""
        return f"{remote.name}~{store_text(remote.store)[:8]}"
