"""Everything known about one other store: its link, the streams to and from it, its roster, and what is due to it.

A `Remote` only holds and counts; what frames and commands mean is decided in `core`, `outbox` and `inbox`.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

from zmesh.protocol.bounds import (
    CLASSES,
    ENDINGS_PER_ACK,
    IN_FLIGHT_BYTES,
    IN_FLIGHT_CRITICAL_BYTES,
    LINKS_REMEMBERED,
    MAX_AGENTS,
    WINDOW_MESSAGES,
)
from zmesh.protocol.entropy import Entropy
from zmesh.protocol.frames import Ack, AgentRecord, Changes, Cursor, Ending, Peers, Ping
from zmesh.protocol.in_stream import InStream
from zmesh.protocol.journal import InStreamRow, OutStreamRow, PutEnding, PutOutcome, PutPeer
from zmesh.protocol.link import LinkMachine
from zmesh.protocol.out_stream import OutStream
from zmesh.protocol.outcomes import OutcomeReceiver, OutcomeSender
from zmesh.protocol.priority import Priority
from zmesh.protocol.record import record
from zmesh.protocol.scheduler import Scheduler
from zmesh.protocol.states import Link


@record
class News:
    """How a roster differs from the one before.

    Attributes:
        names: Mailboxes have come or gone.
        lasting: These, or what lasts of one has changed, or it is the first roster: the store must know.
        attached: These, or somebody has come or gone: addresses may mean something else.
        any: Anything.
    """

    names: bool
    lasting: bool
    attached: bool
    any: bool


class Roster:
    """The mailboxes of one store, as it describes them.

    Attributes:
        version: Of the complete roster; 0 before the first one.
        agents: By name, without `since_ms`.
        seen: When those at which nobody is were last seen with somebody, on our clock, as far as that is known.
    """

    def __init__(self, version: int, agents: Iterable[AgentRecord], now: float) -> None:
        """Take over what the store kept, which was true at `now`."""
        self.version = version
        self.agents: dict[str, AgentRecord] = {}
        self.seen: dict[str, float] = {}
        self._pages: dict[int, Peers] = {}
        self._keep(agents, now)

    def _keep(self, agents: Iterable[AgentRecord], now: float) -> None:
        for agent in agents:
            name, since_ms = agent.name, agent.since_ms
            self.seen.pop(name, None)
            if since_ms is not None:
                self.seen[name] = now - since_ms / 1000
            self.agents[name] = agent if since_ms is None else replace(agent, since_ms=None)

    def begin(self) -> None:
        """Forget the pages of a version that is not complete."""
        self._pages = {}

    def page(self, frame: Peers, now: float) -> News | None:
        """Take in one page; return what is new when this completed a version."""
        if self._pages and next(iter(self._pages.values())).version != frame.version:
            self._pages = {}
        self._pages[frame.page] = frame
        if len(self._pages) < frame.pages:
            return None
        pages, self._pages = self._pages, {}
        before, self.agents, self.seen = self.agents, {}, {}
        self._keep([agent for page in pages.values() for agent in page.agents], now)
        first, self.version = self.version == 0, frame.version
        return _news(before, self.agents, first=first)

    def change(self, frame: Changes, now: float) -> News | None:
        """Take in what has changed since a version that is here; return what is new, None if it cannot be kept.

        The dict of agents stays the same one.
        """
        names = [agent.name for agent in frame.agents]
        if len(self.agents.keys() | names) > MAX_AGENTS:
            return None
        before = {name: self.agents[name] for name in names if name in self.agents}
        self._keep(frame.agents, now)
        self.version = frame.version
        return _news(before, {name: self.agents[name] for name in names})

    def lasting(self, now: float) -> tuple[AgentRecord, ...]:
        """Return what is worth keeping of each mailbox, true at `now`."""
        return tuple([self._lasting(agent, now) for agent in self.agents.values()])

    def _lasting(self, agent: AgentRecord, now: float) -> AgentRecord:
        seen = now if agent.attached else self.seen.get(agent.name)
        since_ms = None if seen is None else max(0, int((now - seen) * 1000))
        return AgentRecord(agent.name, agent.role, agent.capabilities, project=agent.project, since_ms=since_ms)


def _news(before: Mapping[str, AgentRecord], after: Mapping[str, AgentRecord], *, first: bool = False) -> News:
    changed = [(before[name], agent) for name, agent in after.items() if name in before and before[name] != agent]
    names = before.keys() != after.keys()
    return News(
        names=names,
        lasting=first or names or any(old.lasting != new.lasting for old, new in changed),
        attached=names or any(old.attached != new.attached for old, new in changed),
        any=names or bool(changed),
    )


class Remote:
    """Another store.

    Attributes:
        store: Its id.
        device: The device it belongs to (`ownership.owns`); empty when the store forgot it, until it is heard of.
        name: Its peer name.
        link: Our link to it.
        roster: Its mailboxes; `fresh` is the version received on the present link.
        epoch: Of our streams to it; `outs` are these streams.
        source_epoch: Of its streams to us, 0 before the first; `ins` are these streams.
        outcomes: What we owe it; `heard` is what it has told us.
        replaced: Link ids of theirs that a newer one took the place of; they greet under none of them again.
        doubted: Link id under which its claims about our streams were doubted: only a younger one convinces.
        ack_due: It must be told how far we are.
        hello_due: A HELLO waits until `may_greet`.
        floor_due: It must be told our floors once they are on disk: endings make room for others.
        dirty: The store's row about it is behind.
        written: When it was last heard, as the store knows it.
        queued: Number and bytes of un-ended messages to it, for the quota.
        trouble: Why nothing moves, for people; empty when all is well.
        greeted: It has said HELLO, now or before: it is more than hearsay.
        closed: It has said goodbye, and nothing was heard since.
    """

    def __init__(self, store: bytes, device: str, name: str, entropy: Entropy, now: float) -> None:
        """Begin with nothing exchanged."""
        self.store, self.device, self.name = store, device, name
        self.link = LinkMachine(entropy, now)
        self.roster = Roster(0, (), now)
        self.roster_fresh = 0
        self.roster_sent = 0
        self.roster_known = 0
        self.epoch = 1
        self.outs = [OutStream(klass) for klass in range(CLASSES)]
        self.source_epoch = 0
        self.ins = [InStream(klass) for klass in range(CLASSES)]
        self.outcomes = OutcomeSender([])
        self.heard = OutcomeReceiver()
        self.scheduler = Scheduler()
        self.replaced: deque[bytes] = deque(maxlen=LINKS_REMEMBERED)
        self._bound = b""
        self.doubted = b""
        self.ack_due = False
        self.hello_due = False
        self.floor_due = False
        self.dirty = False
        self.written = now
        self.queued = 0
        self.queued_bytes = 0
        self.trouble = ""
        self.greeted = False
        self.closed = False

    # --- restoring ---

    def restore(
        self,
        peer: PutPeer | None,
        outs: Iterable[OutStreamRow],
        ins: Iterable[InStreamRow],
        endings: Iterable[PutEnding],
        outcomes: list[PutOutcome],
    ) -> None:
        """Go on with what the store kept of this one."""
        if peer is not None:
            self.link.endpoints = peer.endpoints
            self.greeted = peer.roster > 0
            self.roster = Roster(peer.roster, peer.agents, peer.last_seen)
            self.link.heard = self.written = peer.last_seen
        for out in outs:
            self.epoch = out.epoch
            self.outs[out.klass] = OutStream(out.klass, out)
        by_class: list[dict[int, Ending]] = [{} for _ in range(CLASSES)]
        for ending in endings:
            by_class[ending.klass][ending.number] = Ending(ending.klass, ending.number, ending.code, ending.text)
        for row in ins:
            self.source_epoch = row.epoch
            self.ins[row.klass] = InStream(row.klass, row, by_class[row.klass])
        self.outcomes = OutcomeSender(sorted(outcomes, key=lambda row: row.number))

    def row(self) -> PutPeer:
        """Return what the store shall know of this one."""
        self.written = heard = self.link.heard
        agents = self.roster.lasting(heard)
        return PutPeer(
            self.store, self.name, self.device, self.link.endpoints, self.roster.version, agents, last_seen=heard
        )

    # --- what to send ---

    @property
    def up(self) -> bool:
        """True when the link is up."""
        return self.link.state is Link.UP

    @property
    def may_greet(self) -> bool:
        """True when a HELLO would say all that came on its earlier links, and there is a connection."""
        return self.link.state in (Link.GREETING, Link.UP) and all(stream.settled for stream in self.ins)

    @property
    def unconfirmed(self) -> bool:
        """True when the other side owes us a confirmation."""
        return (
            any(stream.unconfirmed for stream in self.outs)
            or self.outcomes.unconfirmed
            or self.roster_known != self.roster_sent
        )

    def room(self, klass: int) -> int:
        """Return how many bytes of a class may still be sent before something is confirmed."""
        if klass == Priority.CRITICAL:
            return IN_FLIGHT_CRITICAL_BYTES - self.outs[klass].flying
        return IN_FLIGHT_BYTES - sum(stream.flying for stream in self.outs[Priority.HIGH :])

    def sendable(self) -> list[int]:
        """Return the classes that may have something to send."""
        return [s.klass for s in self.outs if s.ready and (s.flying == 0 or self.room(s.klass) > 0)]

    def new_link(self, link: bytes) -> None:
        """The other side greets under the id `link`: what it knew of us in memory is gone."""
        if self._bound not in (b"", link):
            self.replaced.append(self._bound)
        self._bound = link
        self.heard = OutcomeReceiver()
        self.roster.begin()
        self.roster_fresh = 0
        self.closed = False
        for stream in self.ins:
            stream.new_link()

    def rewind_all(self) -> None:
        """Our link is new: everything unconfirmed is to be sent again."""
        for stream in self.outs:
            stream.rewind(0)
            stream.fetching = False
        self.outcomes.rewind()
        self.roster_sent = self.roster_known = 0

    def new_epoch(self, epoch: int) -> None:
        """Start our streams afresh; the caller moves the live messages over."""
        self.epoch = epoch
        self.outs = [OutStream(klass) for klass in range(CLASSES)]
        for stream in self.outs:
            stream.limit = WINDOW_MESSAGES
            stream.dirty = True

    def new_source_epoch(self, epoch: int) -> None:
        """Its streams start afresh."""
        self.source_epoch = epoch
        self.ins = [InStream(klass) for klass in range(CLASSES)]
        for stream in self.ins:
            stream.dirty = stream.fresh = True

    def cursors(self) -> tuple[Cursor, ...]:
        """Return what a HELLO says of its streams."""
        return tuple([Cursor(stream.cursor, stream.cursor_id, stream.confirmed) for stream in self.ins])

    def limits(self) -> tuple[int, ...]:
        """Return the credit given to it."""
        return tuple([stream.limit for stream in self.ins])

    def ack(self, now: float) -> Ack:
        """Return the ACK that is due."""
        self.ack_due = False
        cursors: list[int] = []
        endings: list[Ending] = []
        share = ENDINGS_PER_ACK // max(1, sum(stream.ended for stream in self.ins))
        for stream in self.ins:
            cursor, ended = stream.acknowledge(share)
            cursors.append(cursor)
            endings += ended
        wanting = [stream for stream in self.ins if stream.wants_rewind(now)]
        for stream in wanting:
            stream.asked(now)
        rewinds = [(stream.klass, stream.seen + 1) for stream in wanting]
        return Ack(
            epoch=self.source_epoch,
            cursors=tuple(cursors),
            limits=self.limits(),
            endings=tuple(endings),
            rewinds=tuple(rewinds),
            outcomes=self.heard.saved,
            roster=self.roster_fresh,
        )

    def ping(self, roster: int) -> Ping:
        """Return a PING that names what was sent."""
        last = tuple([stream.sent for stream in self.outs])
        return Ping(self.epoch, last, tuple([stream.saved_floor for stream in self.outs]), roster)
