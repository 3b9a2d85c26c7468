"""The state of one peer that all parts of the core share, and what they all do with it: find, tell, transmit.

The rules live elsewhere: what a HELLO means in `greeting`, what other frames mean in `intake`, where waiting messages
go in `placing`, what a turn ends with in `pump`, what commands and time mean in `core`. This module must never decide
on anything a frame claims.
"""

from collections import deque
from collections.abc import Callable, Mapping

from zmesh.protocol.address import Address, store_text
from zmesh.protocol.admission import Admission
from zmesh.protocol.bounds import BYE_REDIAL, PROTOCOL_MAX, PROTOCOL_MIN, STORE_RETRY
from zmesh.protocol.codec import encode
from zmesh.protocol.deadlines import LONG_AGO, NEVER
from zmesh.protocol.directory import Entry, Resolved, resolve
from zmesh.protocol.effects import Dial, FetchOut, Hangup, Path, Progress, SendBack, Transmit
from zmesh.protocol.entropy import Entropy
from zmesh.protocol.frames import Frame, Hello
from zmesh.protocol.guard import UNGUARDED, Guard
from zmesh.protocol.halting import Halting
from zmesh.protocol.inbox import Inbox
from zmesh.protocol.journal import DropOutcomes, DropPeer, FateOut, Snapshot
from zmesh.protocol.link import Act
from zmesh.protocol.messages import InMessage
from zmesh.protocol.outbox import FATES, Outbox
from zmesh.protocol.placing import Placing
from zmesh.protocol.quotas import Quotas
from zmesh.protocol.remote import Remote
from zmesh.protocol.tracing import Questions
from zmesh.protocol.turn import Turn

_NOTICE_GAP = 10.0  # seconds between two equal notices about one device: a hostile peer must not fill the log
_REMEMBERED = 1024  # entries of each rate limiter

Fetched = Callable[[Mapping[int, bytes]], None]


class Node:
    """One peer's state.

    Attributes:
        store, name, device, endpoints: Who we are, and where we can be dialled.
        guard: Asked about each message of another device.
        quotas: How much is kept; `limit` changes it.
        turn: The journal.
        remotes: Other stores, by id.
        by_link: Other stores by (device, their link id).
        ways: The connections of others that our frames go back on, each with the device it must belong to.
        inbox, outbox: Our mailboxes, and what we sent.
        placing: Finds the places of what waits.
        halting: With whom no mail is exchanged, because somebody has said so.
        questions: How often others may ask about messages.
        sick_until: After a failed commit nothing is taken in until then.
        touched: Stores whose streams this turn may have changed, in order.
        changes: How often rosters, names or links have changed.
    """

    def __init__(
        self,
        *,
        store: bytes,
        name: str,
        device: str,
        endpoints: tuple[str, ...],
        entropy: Entropy,
        now: float,
        quotas: Quotas,
        guard: Guard = UNGUARDED,
    ) -> None:
        """Begin empty; `restore` fills it."""
        self.store, self.name, self.device, self.endpoints = store, name, device, endpoints
        self.guard = guard
        self.quotas = quotas
        self.turn = Turn(entropy, now)
        self.remotes: dict[bytes, Remote] = {}
        self.by_link: dict[tuple[str, bytes], Remote] = {}
        self.ways: dict[Path, str] = {}
        self.inbox = Inbox(self.turn, 1, self.report, quotas)
        self.outbox = self._new_outbox(1)
        self.sick_until = LONG_AGO
        self.touched: dict[bytes, Remote] = {}
        self.changes = 0
        self.placing = Placing(self)
        self.admission = Admission(self)
        self.halting = Halting(self)
        self.questions = Questions()
        self._entries: list[Entry] | None = None
        self._resolved: dict[str, Resolved] = {}
        self._fetches: deque[Fetched] = deque()
        self._said: dict[tuple[str, str], float] = {}

    def _new_outbox(self, next_row: int) -> Outbox:
        return Outbox(
            self.turn, next_row, store=self.store, name=self.name, remotes=self.remotes, touch=self.touch,
            quotas=self.quotas,
        )  # fmt: skip

    def restore(self, snapshot: Snapshot, grace: float = 0.0) -> None:
        """Take over what the store kept, and dial whom we know; `grace` as in `Inbox.restore`."""
        self.inbox = Inbox(self.turn, snapshot.next_in, self.report, self.quotas)
        self.outbox = self._new_outbox(snapshot.next_out)
        self.halting.restore(snapshot.halts)
        peers = {peer.store: peer for peer in snapshot.peers}
        stores = dict.fromkeys([*peers, *(row.dest for row in snapshot.out_streams)])
        stores.update(dict.fromkeys(row.source for row in snapshot.in_streams))
        stores.update(dict.fromkeys(row.dest for row in snapshot.outcomes))
        stores.update(dict.fromkeys(row.store for row in snapshot.halts if row.store))
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
        self.inbox.restore(snapshot.mailboxes, snapshot.ins, grace)
        self.outbox.restore(snapshot.outs)
        self.placing.place_all()
        for name in list(self.inbox.mailboxes):
            self.placing.land_all(name)
        for remote in self.remotes.values():
            self.act(remote, remote.link.sighted((), self.turn.now))

    def limit(self, quotas: Quotas) -> None:
        """Keep as much as these say from now on; what is there already stays."""
        self.quotas = self.inbox.quotas = self.outbox.quotas = quotas

    # --- other stores ---

    def _new_remote(self, store: bytes, device: str, name: str) -> Remote:
        remote = self.remotes[store] = Remote(store, device, name, self.turn.entropy, self.turn.now)
        self.halting.begin(remote)
        self.changed()
        return remote

    def admit(self, store: bytes, device: str, name: str, *, greets: bool) -> Remote | None:
        """Return the record of a store that its device owns, made if there is room; see `admission`.

        None when all places are taken by busy ones, or when the record names another device. Two devices own one store
        only if somebody has searched 2^64 keys for the second; even that one is not believed where the first is known.
        """
        remote = self.remotes.get(store)
        if remote is not None:
            remote.device = remote.device or device  # empty if its row was lost
            return remote if remote.device == device else None
        if not self.admission.place(device, name, greets=greets):
            return None
        remote = self._new_remote(store, device, name)
        self.remember(remote)
        return remote

    def remember(self, remote: Remote) -> None:
        """What is known of a store has changed: write it down, before anything else about it."""
        remote.dirty = True
        self.touch(remote)

    def forget(self, remote: Remote) -> None:
        """Forget a store, and all that was owed to it."""
        del self.remotes[remote.store]
        self.touched.pop(remote.store, None)
        self.end_link(remote, delay=NEVER)
        self.turn.persist(DropPeer(remote.store))

    def end_link(self, remote: Remote, delay: float = BYE_REDIAL) -> None:
        """Give up the link to a store: its frames count no longer, and it is dialled again after `delay` seconds."""
        self.by_link.pop((remote.device, remote.link.peer_id), None)
        self.act(remote, remote.link.bye(self.turn.now, delay=delay))

    def hold_link(self, remote: Remote) -> None:
        """Give up the link to a store until it is set free: it is not dialled."""
        self.by_link.pop((remote.device, remote.link.peer_id), None)
        self.act(remote, remote.link.hold(self.turn.now))

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
        if remote.outcomes.make_room():
            self.drop_outcomes(remote)
        row = remote.outcomes.add(message.source, message.id, code, text)
        self.turn.persist(row)

        def commit() -> None:
            remote.outcomes.committed = max(remote.outcomes.committed, row.number)
            self.touch(remote)

        self.turn.then(commit, lambda _: remote.outcomes.take_back(row.number))

    def drop_outcomes(self, remote: Remote) -> None:
        """What was confirmed or given up need not be on disk any more; if that cannot be written, it is tried again."""

        def abort(_: str) -> None:
            remote.outcomes.undropped = True

        self.turn.persist(DropOutcomes(remote.store, remote.outcomes.base - 1))
        self.turn.then(None, abort)

    # --- sending ---

    def transmit(self, remote: Remote, frame: Frame) -> None:
        """Send a frame on our link."""
        parts, via = encode(remote.link.id, frame), remote.link.via
        if via:
            self.turn.emit(SendBack(remote.store, remote.device, via, parts))
        else:
            self.turn.emit(Transmit(remote.store, parts))

    def act(self, remote: Remote, act: Act) -> None:
        """Do what the link wants done."""
        if (act.hello or act.hangup) and (self.ways or remote.link.via):
            self.ways = {other.link.via: other.device for other in self.remotes.values() if other.link.via}
        if act.hangup:
            self.changed()
            self.turn.emit(Hangup(remote.store))
            if remote.link.heard > remote.written:
                self.remember(remote)  # when it was heard is worth knowing now that it is gone
        if act.dial:
            self.turn.emit(Dial(remote.store, remote.device, act.dial))
        if act.hello:
            self.changed()
            self.greet(remote)
        if act.ping:
            remote.outcomes.rewind()
            if remote.roster_known != remote.roster_sent:
                self.send_roster(remote, whole=True)
            self.transmit(remote, remote.ping(self.inbox.roster.version))
            self.touch(remote)

    def leave_way(self, path: Path, device: str) -> None:
        """A frame of `device` came on a path on which another one was answered: nothing goes back there any more."""
        self.say("warning", device, "way-taken", "a connection that another device was answered on is this one's now")
        for remote in self.remotes.values():
            if remote.link.via == path and remote.device != device:
                self.act(remote, remote.link.lost(self.turn.now, path))

    def greet(self, remote: Remote) -> None:
        """Say HELLO, or as soon as what came on their earlier links is on disk or given up.

        Until then our cursors do not show a sender whose disk went back in time all that it has forgotten.
        """
        remote.hello_due = not remote.may_greet
        if remote.may_greet:
            self._hello(remote)

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

    def send_roster(self, remote: Remote, *, whole: bool = False) -> None:
        """Send our roster: what a store does not know of it, or all of it in pages."""
        roster = self.inbox.roster
        for frame in roster.frames(0 if whole else remote.roster_known):
            self.transmit(remote, frame)
        remote.roster_sent = roster.version

    def say(self, level: str, device: str, code: str, text: str, *, audit: bool = False) -> None:
        """Log a sentence about a device, but not the same again within ten seconds."""
        last = self._said.get((device, code), LONG_AGO)
        if self.turn.now < last + _NOTICE_GAP:
            return
        if len(self._said) >= _REMEMBERED:
            self._said = {}
        self._said[device, code] = self.turn.now
        self.turn.notice(level, f"{code}: {text}", code if audit else "")

    # --- reading back, and failures ---

    def fetch(self, rows: tuple[int, ...], fetched: Fetched) -> None:
        """Read bodies back from the outbox; answers come in the order of the questions."""
        self._fetches.append(fetched)
        self.turn.emit(FetchOut(rows))

    def fetched(self, bodies: Mapping[int, bytes]) -> None:
        """The oldest question was answered."""
        self._fetches.popleft()(bodies)

    def take_back(self) -> None:
        """A commit failed: what was accepted and not committed must come again, later."""
        self.sick_until = self.turn.now + STORE_RETRY
        for remote in self.remotes.values():
            remote.heard.take_back()
            for stream in remote.ins:
                stream.take_back()

    def recovered(self) -> None:
        """Try again after a failed commit."""
        self.sick_until = LONG_AGO
        for remote in self.remotes.values():
            remote.ack_due = True
            self.touch(remote)
            if remote.outcomes.undropped:
                remote.outcomes.undropped = False
                self.drop_outcomes(remote)

    def describe(self, remote: Remote) -> str:
        """Name a store for a log line."""
        return f"{remote.name}~{store_text(remote.store)[:8]}"
