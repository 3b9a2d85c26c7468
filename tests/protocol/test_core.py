"""The core: what it does with each input, and, in a state machine of three peers, what it never does."""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.protocol.pair import DEVICE, Node, World, one, one_way, two
from tests.stores import store_of
from zmesh.errors import LeaseLost, MailboxBusy, MeshFull, PeerHalted
from zmesh.protocol import core as module
from zmesh.protocol.bounds import MAX_EPOCH
from zmesh.protocol.codec import decode, encode
from zmesh.protocol.commands import (
    CancelSend,
    Close,
    Detach,
    Done,
    Drain,
    Exclude,
    Halt,
    MergeMailbox,
    Moved,
    Nack,
    Note,
    Release,
    Send,
    Share,
    Sighted,
    Take,
    Untake,
)
from zmesh.protocol.effects import Delivery, Notice, Transmit
from zmesh.protocol.frames import Ack, Bye, Cancel, Data, Frame, Have, Hello, Ping, Reset
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Link, Received, Sent

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
          size=st.sampled_from([1, 1, 1, 70_000]), count=st.integers(1, 4), steps=st.integers(0, 20))  # fmt: skip
    def send(
        self, *, source: str, to: str, priority: Priority, ttl: float | None, size: int, count: int, steps: int
    ) -> None:
        node = self.node(source)
        for _ in range(count if node.alive else 0):
            order = len(self.letters)
            ident = order.to_bytes(4, "big") + node.store[:12]
            letter = Letter(ident, source, to, priority, order, ttl is not None, node.tickets + 1)
            self.letters[ident] = letter
            node.send(f"in@{to}", bytes(size), sender="in", priority=priority, ttl=ttl, ident=ident)
        self.world.carry(steps)

    @precondition(lambda self: self.letters)
    @rule(at=st.integers(0, 5))
    def cancel(self, at: int) -> None:
        letter = list(self.letters.values())[-1 - at % len(self.letters)]
        node = self.node(letter.source)
        if node.alive:
            letter.mortal = True
            node.command(CancelSend(letter.id))

    @rule(name=nodes, how=st.sampled_from(["done", "done", "all", "nack", "uncounted"]))
    def finish(self, name: str, how: str) -> None:
        node = self.node(name)
        for delivery in self.leased(node)[: None if how == "all" else 1]:
            if how in ("done", "all"):
                node.command(Done(node.ticket(), delivery.holder, delivery.row))
                self.doing[name, node.tickets] = delivery.id
            else:
                node.command(Nack(node.ticket(), delivery.holder, delivery.row, count=how == "nack"))
                node.command(Take(delivery.holder, 1))

    def leased(self, node: Node) -> list[Delivery]:
        """What a holder has got and not finished, as the core sees it."""
        holders = node.core.node.inbox.leases._holders  # noqa: SLF001
        leases = {row: m for holder in holders.values() for row, m in holder.leases.items() if not m.finishing}
        newest = {delivery.row: delivery for delivery in node.deliveries}
        return [
            newest[row]
            for row, m in leases.items()
            if node.alive and row in newest and newest[row].attempt == m.attempts
        ]

    @rule(name=nodes, what=st.sampled_from(["attach", "attach", "leave", "go"]), count=st.integers(1, 3))
    def holder(self, name: str, what: str, count: int) -> None:
        node = self.node(name)
        if node.alive and what == "attach":
            node.listen("in", count=count)
        elif node.alive:
            node.command(Detach(1, 1.0 if what == "leave" else 0.0))

    @rule(name=nodes, seconds=st.sampled_from([0.0, 0.0, 1.0, 20.0]))
    def die(self, name: str, seconds: float) -> None:
        """The process is killed, and another one started later."""
        self.node(name).kill()
        self.world.run(seconds)
        self.start(name)

    @rule(name=nodes)
    def stay_away(self, name: str) -> None:
        self.node(name).kill()

    def start(self, name: str) -> None:
        node = self.node(name)
        if not node.alive:
            node.holding = False
            self.told.pop(name, None)
            on_disk = {row.id: row.state for row in node.disk.out_rows()}
            for letter in self.letters.values():  # what the last process knew and did not write down is found out anew
                if letter.source == name and Sent.EXPIRED in letter.seen and on_disk.get(letter.id) is not Sent.EXPIRED:
                    letter.seen.remove(Sent.EXPIRED)
            node.start()
            node.listen("in", count=3)

    @rule(name=nodes, what=st.sampled_from(["hold", "hold", "one", "all", "fail", "work"]), steps=st.integers(0, 20))
    def disk(self, name: str, what: str, steps: int) -> None:
        node = self.node(name)
        if what == "hold":
            node.holding = True
        elif what in ("fail", "work"):
            node.failing = "disk full" if what == "fail" else ""
        elif node.alive:
            (node.commit_one if what == "one" else node.commit_held)()
        self.world.carry(steps)

    @rule(source=nodes, to=nodes, lose=st.integers(0, 4))
    def network(self, source: str, to: str, lose: int) -> None:
        """A connection is cut or mended, or a few frames are lost."""
        if lose:
            self.lose += lose
        else:
            self.cut ^= {(source, to)}

    @rule(name=nodes, other=nodes)
    def halt(self, name: str, other: str) -> None:
        """Disconnect another peer; oneself stands for all."""
        node = self.node(name)
        if node.alive:
            node.command(Halt(node.ticket(), b"" if name == other else self.node(other).store, "process 7"))

    @rule(name=nodes, other=nodes)
    def release(self, name: str, other: str) -> None:
        node = self.node(name)
        if node.alive:
            node.command(Release(node.ticket(), b"" if name == other else self.node(other).store))

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
        self.release_all()
        for _ in range(30):
            self.work_off()
            if not any(node.core.node.outbox.by_id or node.disk.snapshot().ins for node in self.world.nodes.values()):
                break
        self.world.run(20.0)  # outcomes and endings are confirmed
        self.what_is_told_is_true()
        for letter in self.letters.values():
            if letter.settled:
                out = [row.state for row in self.node(letter.source).disk.out_rows() if row.id == letter.id]
                assert out in ([Sent.HANDLED], [Sent.EXPIRED], [Sent.DEAD]), f"{out} {letter}"
        for node in self.world.nodes.values():
            self.is_clean(node)

    def release_all(self) -> None:
        for name in NAMES:
            for other in NAMES:
                self.release(name, other)

    def work_off(self) -> None:
        for node in self.world.nodes.values():
            node.listen("in", count=100)
            self.finish(node.name, "all")
        self.world.run(10.0)
        self.what_is_told_is_true()

    def is_clean(self, node: Node) -> None:
        """Nothing is left behind in memory or on disk."""
        core = node.core.node
        assert not core.outbox.by_id
        assert not core.outbox.waiting
        assert not core.inbox.messages.by_row
        assert core.inbox.messages.cached == core.outbox.messages.cached == 0
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
    max_examples=30, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# --- one input at a time ---

STRAY = b"unknown!"


def ping() -> Ping:
    return Ping(1, (0,) * 5, (0,) * 5, 1)


def test_what_cannot_be_read_is_dropped_and_is_no_sign_of_life() -> None:
    world, a, b = two()
    heard = a.remote(b).link.heard
    world.now += 1.0
    world.inject(a, [b"ZM\x01\x03" + b.remote(a).link.id + b"\xc1", b""], b.device, b.store)
    assert a.remote(b).link.heard == heard
    assert any(notice.text.startswith("bad-msgpack") for notice in a.notices)
    world.inject(a, [b"ZM\x01\x7f" + b.remote(a).link.id], b.device, b.store)
    assert a.remote(b).link.heard == world.now, "an unknown kind is skipped, and a sign of life"


def test_a_link_is_bound_to_its_device() -> None:
    world, a, b = two()
    world.inject(a, encode(b.remote(a).link.id, ping()), "e" * 32, b"path")
    link, frame = decode(world.answers[0].parts)
    assert (link, frame, world.answers[0].path) == (b.remote(a).link.id, Reset(), b"path")


def test_a_greeting_of_a_link_that_is_no_more_is_reset_as_any_frame_of_it() -> None:
    world, a, b = two()
    old, hello = b.remote(a).link.id, world.frames(Hello, "b")[-1]
    b.core.ready(a.store, world.now)
    b.flush()
    world.run(1.0)
    world.answers.clear()
    for late in (hello, ping()):
        world.inject(a, encode(old, late), b.device, b.store)
        world.now += 1.0
    assert [decode(answer.parts) for answer in world.answers] == [(old, Reset())] * 2
    assert a.remote(b).link.peer_id == b.remote(a).link.id


def test_resets_are_limited_for_each_connection_and_not_all_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATHS", 2)
    world, a, _ = two()
    for path in (b"1", b"1", b"2", b"3", b"3"):
        world.inject(a, encode(STRAY, ping()), DEVICE, path)
    assert [answer.path for answer in world.answers] == [b"1", b"2", b"3"]
    world.now += 1.0
    world.inject(a, encode(STRAY, ping()), DEVICE, b"3")
    assert len(world.answers) == 4


def test_a_lie_costs_the_link_and_is_kept() -> None:
    world, a, b = two()
    frames = len(world.frames(Bye, "a"))
    lie = encode(b.remote(a).link.id, Ack(1, (1,) * 5, (9,) * 5, (), (), 0, 0))
    world.inject(a, lie, b.device, b.store)
    assert len(world.frames(Bye, "a")) == frames + 1
    assert a.remote(b).link.state is Link.IDLE
    assert (b.device, b.remote(a).link.id) not in a.core.node.by_link


def test_a_lie_before_our_link_is_up_costs_the_link_without_a_word() -> None:
    """They know our link or they do not: a frame other than HELLO would only bring a RESET."""
    world, a, b = two()
    theirs = b.remote(a).link.id
    a.core.undeliverable(b.store, world.now)
    assert not a.remote(b).up
    before = len(world.frames(Bye, "a"))
    world.inject(a, encode(theirs, Ping(MAX_EPOCH + 1, (0,) * 5, (0,) * 5, 1)), b.device, b.store)
    assert a.audits("bad-epoch")
    assert len(world.frames(Bye, "a")) == before
    assert (b.device, theirs) not in a.core.node.by_link


def test_a_lie_in_a_hello_costs_nobody_anything() -> None:
    world, a, b = two()
    forged = Hello(1, 1, b.store, "b", (), b"", up=False, epoch=0, cursors=b.remote(a).cursors(), limits=(1,) * 5)
    world.inject(a, encode(STRAY, forged), "e" * 32, b"path")
    assert a.remote(b).up
    assert a.audits("forged-store")


def test_answers_on_our_own_connection_are_reset_and_bye_only() -> None:
    world, a, b = two()
    link = a.remote(b).link.id
    a.core.answered(b"nobody".ljust(16), encode(link, Reset()), world.now)
    a.core.answered(b.store, encode(STRAY, Reset()), world.now)
    a.core.answered(b.store, encode(STRAY, Bye("version", "old")), world.now)
    a.core.answered(b.store, encode(link, ping()), world.now)
    a.core.answered(b.store, [b"rubbish"], world.now)
    assert a.remote(b).link.id == link
    assert a.remote(b).up
    a.core.answered(b.store, encode(link, Reset()), world.now)
    a.flush()
    assert a.remote(b).link.id != link
    world.run(1.0)
    assert a.remote(b).up
    a.core.answered(b.store, encode(a.remote(b).link.id, Bye("version", "upgrade")), world.now)
    assert a.remote(b).trouble == "upgrade"
    assert a.remote(b).link.state is Link.IDLE


def test_connections_of_stores_that_were_forgotten_mean_nothing() -> None:
    world, a, _ = two()
    a.core.ready(b"nobody".ljust(16), world.now)
    a.core.undeliverable(b"nobody".ljust(16), world.now)
    assert a.core.effects() == []


def test_a_frame_that_could_not_be_sent_is_sent_again() -> None:
    world, a, b = two()
    b.kill()
    ident = a.send("inbox@b")
    assert a.remote(b).link.state is Link.DIALING
    b.start()
    b.listen("inbox")
    world.run(5.0)
    assert a.receipt(ident) is Sent.STORED


def test_commits_that_fail_together_are_reported_one_by_one_and_taken_back_once() -> None:
    world, a, b = two()
    a.holding = True
    idents = [a.send("inbox@b") for _ in range(3)]
    a.failing = "disk full"
    a.commit_held()
    assert len(a.failures) == 3
    assert len([notice for notice in a.notices if "disk full" in notice.text]) == 1
    a.failing = ""
    world.run(5.0)
    assert b.bodies == []
    assert [b.inserted(ident) for ident in idents] == [[], [], []]


def test_bodies_that_are_not_in_memory_are_asked_for() -> None:
    world, a, b = two()
    b.kill()
    a.send("inbox@b")
    a.send("me@a", b"mine")
    a.restart()
    a.listen("me")
    b.start()
    b.listen("inbox")
    world.run(5.0)
    assert (a.bodies, b.bodies) == ([b"mine"], [b"hello"])


def test_nothing_overtakes_what_waited_for_our_own_mailbox() -> None:
    world, a, _ = two()
    a.holding = True
    a.send("later@a", b"first")
    a.open("later")
    a.send("later@a", b"second")
    a.commit_held()
    a.listen("later")
    world.run(5.0)
    assert a.bodies == [b"first", b"second"]


def test_time_never_runs_backwards() -> None:
    world, a, _ = two()
    a.core.wake(world.now + 10.0)
    a.core.wake(world.now)
    assert a.core.node.turn.now == world.now + 10.0


def test_a_core_with_nothing_to_do_has_no_timer() -> None:
    world = World()
    a = world.add("a")
    world.run(1.0)
    assert a.core.timer() is None
    a.failing = "disk full"
    a.open("in")
    assert a.core.timer() is not None
    world.run(5.0)
    assert a.core.timer() is None


def test_a_reply_and_the_end_of_the_request_are_one_transaction() -> None:
    world, a, b = two()
    a.send("inbox@b")
    world.run(1.0)

    def reply(to: str, body: bytes = b"") -> Done:
        delivery = b.deliveries[0]
        send = Send(60, b"r" * 16, to, "inbox", Priority.NORMAL, None, "text", b"", b"", 0, packed=False, body=body)
        return Done(61, delivery.holder, delivery.row, send)

    b.core.node.inbox.mailboxes["inbox"].size = 1 << 40
    with pytest.raises(MeshFull, match="wait until its holder"):
        b.command(reply("inbox@b"))
    b.failing = "disk full"
    b.command(reply("me@a"))
    assert set(b.failures) >= {60, 61}
    b.failing = ""
    b.command(reply("me@a"))
    assert set(b.settled) >= {60, 61}
    with pytest.raises(LeaseLost):
        b.command(reply("me@a"))
    world.run(5.0)
    assert a.inserted(b"r" * 16) == [Received.STORED]


def test_a_cancel_is_told_to_the_receiver_if_it_may_have_the_message() -> None:
    world, a, b = two(listening=False)
    world.drop.append(lambda _, target, frame: target is a and not isinstance(frame, Hello))
    ident = a.send("inbox@b")
    world.settle()
    a.command(CancelSend(ident))
    world.settle()
    assert world.frames(Cancel) == [Cancel((ident,))]
    assert b.inserted(ident) == [Received.EXPIRED]
    second = a.send("inbox@b")
    world.settle()
    b.kill()
    world.run(30.0)
    a.command(CancelSend(second))
    assert len(world.frames(Cancel)) == 1, "there is no link to tell it on"
    a.command(CancelSend(b"unknown".ljust(16)))
    a.command(CancelSend(a.send("inbox@nowhere")))
    assert len(world.frames(Data, "a")) == 2


def test_a_sighting_of_ourselves_or_of_another_device_is_none() -> None:
    _, a, b = two()
    before = a.remote(b).link.endpoints
    a.command(Sighted(a.store, "a", a.device, ("tcp://192.0.2.1:1",)))
    a.command(Sighted(b.store, "b", "e" * 32, ("tcp://192.0.2.1:1",)))
    assert list(a.core.node.remotes) == [b.store]
    assert a.remote(b).link.endpoints == before


def test_a_sighting_of_a_store_that_nobody_has_seen_needs_its_owner() -> None:
    world = World()
    a, b = world.add("a"), world.add("b")
    a.command(Sighted(b.store, "b", "e" * 32, ("tcp://192.0.2.1:1",)))
    assert a.core.node.remotes == {}
    assert a.disk.snapshot().peers == ()
    world.meet(a, b)
    world.run(1.0)
    assert a.remote(b).up


def test_a_sighting_finds_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    _, a, b = two()
    monkeypatch.setattr("zmesh.protocol.admission.MAX_PEERS", 1)
    a.command(Sighted(store_of(DEVICE, 1), "x", DEVICE, ()))
    assert list(a.core.node.remotes) == [b.store]


def test_a_host_that_moves_says_where_it_is_and_is_found_there() -> None:
    world, a, b = two()
    there = "tcp://192.0.2.9:1"
    world.log.clear()
    a.command(Moved((there,)))
    world.run(1.0)
    assert {hello.endpoints for hello in world.frames(Hello, "a") if isinstance(hello, Hello)} == {(there,)}
    assert a.remote(b).up
    assert there in b.remote(a).link.endpoints
    assert any(isinstance(hello, Hello) for hello in world.frames(Hello, "b")), "b has followed"


def test_another_address_besides_ends_no_link() -> None:
    world, a, b = two()
    world.log.clear()
    a.command(Moved((a.endpoint, "tcp://192.0.2.9:1")))
    world.run(1.0)
    assert world.frames(Hello) == []
    assert a.core.node.endpoints == (a.endpoint, "tcp://192.0.2.9:1")
    assert b.remote(a).up


def test_a_host_that_moves_does_not_dial_whom_it_has_shut_out() -> None:
    world, a, b = two()
    a.command(Exclude(b.device, "its owner lost it"))
    a.command(Moved(("tcp://192.0.2.9:1",)))
    assert a.remote(b).link.state is Link.IDLE
    world.run(5.0)
    assert a.remote(b).link.state is not Link.DIALING


def test_what_is_shared_goes_to_who_listens_and_nowhere_else() -> None:
    world, a, b = two()
    frame = Have(b"log", b"content")
    a.command(Share(b.store, frame))
    world.settle()
    assert [(told.store, told.device, told.frame) for told in b.told] == [(a.store, a.device, frame)]
    a.command(Share(b"unknown".ljust(16), frame))
    a.core.undeliverable(b.store, world.now)
    a.command(Share(b.store, frame))
    assert len(world.frames(Have, "a")) == 1


def test_a_device_that_is_no_member_any_more_is_hung_up_on_and_dialled_no_longer() -> None:
    world = World()
    a, b, c = world.add("a"), world.add("b"), world.add("c", device="e" * 32)
    world.meet(a, b, c)
    world.run(1.0)
    world.drop.append(lambda node, target, _: c in (node, target))
    a.command(Exclude(c.device, "its owner lost it"))
    world.run(60.0)
    assert (a.remote(c).link.state, a.remote(c).trouble) == (Link.IDLE, "its owner lost it")
    assert a.remote(b).up
    assert not any(device == c.device for device, _ in a.core.node.by_link)


def test_closing_says_goodbye_to_those_who_listen() -> None:
    world, a, b = two()
    b.command(Untake(1))
    a.command(Sighted(store_of(DEVICE, 1), "x", DEVICE, ("tcp://192.0.2.1:1",)))
    a.command(Close())
    world.settle()
    assert [target for _, target, frame in world.log if isinstance(frame, Bye)] == ["b"]
    assert b.remote(a).link.state is Link.IDLE


# --- who cannot be dialled ---


def test_messages_go_both_ways_between_two_of_which_one_cannot_be_dialled() -> None:
    world, a, b = one_way()
    a.listen("me")
    for number in range(300):
        a.send("inbox@b", b"%d" % number)
        b.send("me@a", b"%d" % number)
        world.run(0.01)
    world.run(5.0)
    expected = [b"%d" % number for number in range(300)]
    assert a.bodies == expected
    assert b.bodies == expected


@pytest.mark.parametrize("victim", ["a", "b"])
def test_who_of_such_two_is_killed_comes_back(victim: str) -> None:
    world, a, b = one_way()
    a.listen("me")
    for node, address in ((a, "inbox@b"), (b, "me@a")):
        for number in range(20):
            node.send(address, b"%d" % number)
    world.carry(10)
    node = world.nodes[victim]
    node.kill()
    world.run(1.0)
    node.start()
    node.listen("me" if victim == "a" else "inbox")
    world.run(40.0)
    assert [len(a.disk.in_rows()), len(b.disk.in_rows())] == [20, 20]


def test_a_frame_that_comes_back_on_a_link_that_is_not_known_is_answered_by_a_reset_that_is_heeded() -> None:
    world, a, b = one_way()
    before = b.remote(a).link.id
    del a.core.node.by_link[DEVICE, before]
    b.core.node.transmit(b.remote(a), Ping(1, (0,) * 5, (0,) * 5, 1))
    b.flush()
    world.settle()
    assert b.remote(a).link.id != before
    world.run(1.0)
    assert a.remote(b).up
    assert b.remote(a).up


def test_any_frame_of_another_device_ends_a_way_back_even_rubbish() -> None:
    world, a, b = one_way()
    world.inject(b, [b"rubbish"], "e" * 32, a.store)
    assert b.remote(a).link.via == b""


def test_when_our_addresses_change_all_are_told_by_a_new_link_if_one_is_gone() -> None:
    world, a, b = two()
    a.endpoint = "tcp://127.0.0.1:6000"
    before = a.remote(b).link.id
    a.command(Moved((a.endpoint,)))
    world.run(2.0)
    assert a.remote(b).link.id != before
    assert a.endpoint in b.remote(a).link.endpoints
    assert a.remote(b).up
    assert b.remote(a).up


def test_resets_on_our_own_connection_are_limited_too() -> None:
    world, a, b = one_way()
    stray = encode(STRAY, ping())
    for _ in range(5):
        a.core.returned(b.store, stray, world.now)
    sent = [effect for effect in a.core.effects() if isinstance(effect, Transmit)]
    assert [(effect.store, decode(effect.parts)) for effect in sent] == [(b.store, (STRAY, Reset()))]


def test_what_comes_back_from_nobody_or_makes_no_sense_is_dropped() -> None:
    world, a, b = one_way()
    a.core.returned(b"nobody".ljust(16), encode(STRAY, ping()), world.now)
    a.core.returned(b.store, [b"rubbish"], world.now)
    (effect,) = a.core.effects()
    assert isinstance(effect, Notice)
    assert "a frame was dropped" in effect.text


def test_a_reset_on_a_way_back_that_is_not_about_it_is_answered_like_any_stray_frame() -> None:
    world, a, b = one_way()
    before = b.remote(a).link.id
    world.inject(b, encode(STRAY, Reset()), DEVICE, a.store)
    assert decode(world.answers[-1].parts) == (STRAY, Reset())
    assert b.remote(a).link.id == before


def test_what_waits_for_a_mailbox_lands_before_it_can_end() -> None:
    _, node = one()
    node.holding = True
    node.send("late@a", b"waits")
    node.open("late")
    with pytest.raises(MailboxBusy, match="on their way"):
        node.command(MergeMailbox(node.ticket(), "late", "in"))
    node.holding = False
    node.commit_held()
    node.command(MergeMailbox(node.ticket(), "late", "in"))
    node.listen("in")
    assert node.bodies == [b"waits"]


def test_an_address_is_resolved_afresh_when_its_mailbox_ends_and_when_that_fails() -> None:
    _, node = one()
    node.open("late")
    node.send("late@a", b"stored")
    node.holding = True
    node.command(MergeMailbox(node.ticket(), "late", "in"))
    assert not node.core.node.find("late@a").known
    node.holding = False
    node.failing = "the disk is full"
    node.commit_held()
    assert node.core.node.find("late@a").known


def test_a_core_halts_drains_and_goes_on() -> None:
    world, a, b = two()
    a.command(Drain(a.ticket(), "process 7"))
    with pytest.raises(PeerHalted):
        a.send("inbox@b")
    a.command(Halt(a.ticket(), b.store, "process 7"))
    assert not a.remote(b).up
    a.command(Release(a.ticket(), b.store))
    a.command(Release(a.ticket(), b""))
    a.send("inbox@b")
    world.run(1.0)
    assert b.bodies == [b"hello"]


def test_a_note_is_in_the_audit_log_once_it_is_answered() -> None:
    _, node = one()
    ticket = node.ticket()
    node.command(Note(ticket, "admin.pause", "process 7 asks"))
    assert ticket in node.settled
    assert node.audits("admin.pause") == ["process 7 asks"]
