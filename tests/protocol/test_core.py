"""The core: what it does with each input, and, in a state machine of three peers, what it never does."""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.protocol.pair import Node, World
from zmesh.protocol.effects import Attach, CancelSend, Detach, Nack, Take
from zmesh.protocol.frames import Frame
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Received, Sent

NAMES = ("a", "b", "c")
nodes = st.sampled_from(NAMES)


@dataclass
class Letter:
    """What the outside knows of one message, whoever forgets what."""

    id: bytes
    source: str
    target: str
    klass: int
    order: int
    mortal: bool
    ticket: int
    settled: bool = False
    failed: bool = False
    done: bool = False
    seen: list[Sent] = field(default_factory=list)


class Storm(RuleBasedStateMachine):
    """Three peers that send, lose frames, fail to commit, die and come back."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.letters: dict[bytes, Letter] = {}
        self.cut: set[tuple[str, str]] = set()
        self.lose = 0
        self.doing: dict[tuple[str, int], bytes] = {}
        self.told: dict[str, tuple[int, int, int]] = {}
        for name in NAMES:
            self.world.add(name).open("in")
        self.world.drop.append(self.lost)
        self.world.meet(*self.world.nodes.values())
        self.world.run(1.0)
        for node in self.world.nodes.values():
            node.listen("in", count=3)

    def lost(self, source: Node, target: Node, _: Frame) -> bool:
        if self.lose:
            self.lose -= 1
            return True
        return (source.name, target.name) in self.cut

    def node(self, name: str) -> Node:
        return self.world.nodes[name]

    # --- what happens ---

    @rule(source=nodes, to=nodes, priority=st.sampled_from(Priority), ttl=st.sampled_from([None, None, 2.0, 30.0]),
          size=st.sampled_from([1, 1, 1, 70_000]))  # fmt: skip
    def send(self, source: str, to: str, priority: Priority, ttl: float | None, size: int) -> None:
        node = self.node(source)
        if node.alive:
            order = len(self.letters)
            ident = order.to_bytes(4, "big") + node.store[:12]
            letter = Letter(ident, source, to, priority, order, ttl is not None, node.tickets + 1)
            self.letters[ident] = letter
            node.send(f"in@{to}", bytes(size), sender="in", priority=priority, ttl=ttl, ident=ident)

    @precondition(lambda self: self.letters)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        letter = data.draw(st.sampled_from(list(self.letters.values())))
        node = self.node(letter.source)
        if node.alive:
            letter.mortal = True
            node.command(CancelSend(letter.id))

    @rule(name=nodes, at=st.integers(0, 3), how=st.sampled_from(["done", "done", "done", "nack", "uncounted"]))
    def finish(self, name: str, at: int, how: str) -> None:
        node = self.node(name)
        if not node.alive or len(node.deliveries) <= at:
            return
        delivery = node.deliveries[-1 - at]
        holder = node.core.node.inbox._holders.get(delivery.holder)  # noqa: SLF001 - is the lease still there?
        message = holder.leases.get(delivery.row) if holder else None
        if message is None or message.finishing:
            return
        if how == "done":
            node.done(-1 - at)
            self.doing[name, node.tickets] = delivery.id
        else:
            node.command(Nack(node.ticket(), delivery.holder, delivery.row, count=how == "nack"))
            node.command(Take(delivery.holder, 1))

    @rule(name=nodes, grace=st.sampled_from([0.0, 1.0]))
    def detach(self, name: str, grace: float) -> None:
        if self.node(name).alive:
            self.node(name).command(Detach(1, grace))

    @rule(name=nodes, count=st.integers(1, 3))
    def attach(self, name: str, count: int) -> None:
        if self.node(name).alive:
            self.node(name).command(Attach("in", 1))
            self.node(name).command(Take(1, count))

    @rule(name=nodes)
    def kill(self, name: str) -> None:
        self.node(name).kill()

    @rule(name=nodes)
    def start(self, name: str) -> None:
        node = self.node(name)
        if not node.alive:
            node.holding = False
            self.told.pop(name, None)
            node.start()

    @rule(name=nodes)
    def hold(self, name: str) -> None:
        self.node(name).holding = True

    @rule(name=nodes)
    def commit_one(self, name: str) -> None:
        if self.node(name).alive:
            self.node(name).commit_one()

    @rule(name=nodes)
    def commit(self, name: str) -> None:
        if self.node(name).alive:
            self.node(name).commit_held()

    @rule(name=nodes, reason=st.sampled_from(["", "", "disk full"]))
    def fail(self, name: str, reason: str) -> None:
        self.node(name).failing = reason

    @rule(source=nodes, to=nodes)
    def cut_or_mend(self, source: str, to: str) -> None:
        self.cut ^= {(source, to)}

    @rule(count=st.integers(1, 4))
    def lose_frames(self, count: int) -> None:
        self.lose += count

    @rule(count=st.integers(1, 10))
    def carry(self, count: int) -> None:
        self.world.carry(count)

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 1.0, 4.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.run(seconds)

    # --- what must be true ---

    @invariant()
    def what_is_told_is_true(self) -> None:
        for name in NAMES:
            self.listen_to(self.node(name))
        for node in self.world.nodes.values():
            states = {row.id: row.state for row in node.disk.in_rows()}
            assert len(states) == len(node.disk.in_rows()), "an id is in the inbox twice"
            orders: dict[tuple[str, int], int] = {}
            for row in node.disk.in_rows():
                letter = self.letters[row.id]
                assert orders.get((letter.source, row.klass), -1) < letter.order, "the order within a class"
                orders[letter.source, row.klass] = letter.order
            for line in node.disk.audit:
                assert line.kind not in ("rollback", "lost", "ack-beyond", "forged-store", "forged-sender"), line.text
        for letter in self.letters.values():
            self.compare(letter)

    def listen_to(self, node: Node) -> None:
        """Write down what a peer has said since the last time."""
        settled, failures, progress = self.told.get(node.name, (0, 0, 0))
        letters = {letter.ticket: letter for letter in self.letters.values() if letter.source == node.name}
        for ticket in list(node.settled)[settled:]:
            if ticket in letters:
                letters[ticket].settled = True
            ident = self.doing.pop((node.name, ticket), None)
            if ident is not None:
                self.letters[ident].done = True
        for ticket in list(node.failures)[failures:]:
            if ticket in letters:
                letters[ticket].failed = True
        for step in node.progress[progress:]:
            letter = self.letters[step.id]
            assert letter.source == node.name
            assert not {Sent.HANDLED, Sent.EXPIRED, Sent.DEAD} & set(letter.seen) - {step.state, Sent.DEAD}
            letter.seen.append(step.state)
        self.told[node.name] = len(node.settled), len(node.failures), len(node.progress)

    def compare(self, letter: Letter) -> None:
        out = [row.state for row in self.node(letter.source).disk.out_rows() if row.id == letter.id]
        there = self.node(letter.target).inserted(letter.id)
        assert len(out) == (1 if letter.settled else len(out)), "a settled message is not on disk"
        assert not (letter.failed and out), "a failed message is on disk"
        for state in (*out, *letter.seen):
            assert state not in (Sent.REFUSED, Sent.LOST)
            if state is Sent.STORED:
                assert there, "stored, and nowhere to be found"
            if state is Sent.HANDLED:
                assert there == [Received.HANDLED]
            if state is Sent.DEAD:
                assert there == [Received.DEAD]
            if state is Sent.EXPIRED:
                assert letter.mortal
                assert there in ([], [Received.EXPIRED])
        if letter.done:
            assert there == [Received.HANDLED]

    def teardown(self) -> None:
        """Heal everything; then every message that was settled must come to a true end."""
        if not hasattr(self, "letters"):
            return
        self.cut, self.lose = set(), 0
        for node in self.world.nodes.values():
            node.failing = ""
            if node.alive:
                node.commit_held()
            self.start(node.name)
        for _ in range(30):
            for node in self.world.nodes.values():
                node.listen("in", count=100)
                for at in range(-1, -1 - len(node.deliveries), -1):
                    self.finish(node.name, -1 - at, "done")
            self.world.run(10.0)
            self.what_is_told_is_true()
        for letter in self.letters.values():
            if letter.settled:
                out = [row.state for row in self.node(letter.source).disk.out_rows() if row.id == letter.id]
                assert out in ([Sent.HANDLED], [Sent.EXPIRED], [Sent.DEAD]), f"{out} {letter}"
        for node in self.world.nodes.values():
            self.is_clean(node)

    def is_clean(self, node: Node) -> None:
        """Nothing is left behind in memory or on disk."""
        core = node.core.node
        assert not core.outbox.by_id
        assert not core.outbox.waiting
        assert not core.inbox._messages  # noqa: SLF001
        assert core.inbox._cached == core.outbox._cached == 0  # noqa: SLF001
        assert all(mailbox.count == mailbox.size == mailbox.arriving == 0 for mailbox in core.inbox.mailboxes.values())
        for remote in core.remotes.values():
            assert remote.up
            assert remote.queued == remote.queued_bytes == 0
            assert not any(stream.flying or stream.entries for stream in remote.outs)
            assert not remote.outcomes.pending
            assert not remote.unconfirmed
        snapshot = node.disk.snapshot()
        assert not snapshot.outs
        assert not snapshot.ins
        assert not snapshot.outcomes
        assert not snapshot.endings


TestStorm = Storm.TestCase
TestStorm.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
