"""The receiving half: who gets a message, when it comes again, and how it ends."""

import pytest

from tests.protocol.pair import DEVICE, Node, World
from zmesh.errors import AddressError, LeaseLost, MeshFull
from zmesh.protocol import inbox as module
from zmesh.protocol.bounds import (
    MAILBOX_MESSAGES,
    MAX_ATTEMPTS,
    MAX_CAPABILITIES,
    MAX_NAME,
    REDELIVERY_FIRST,
    REDELIVERY_MAX,
    STORE_RETRY,
)
from zmesh.protocol.effects import Attach, Detach, Done, Expect, Nack, OpenMailbox, Send, Take, Unexpect, Untake
from zmesh.protocol.envelope import Envelope
from zmesh.protocol.journal import InRow
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Received, Sent


def one() -> tuple[World, Node]:
    """A peer with the mailbox `in`, which writes to itself."""
    world = World()
    node = world.add("a")
    node.open("in")
    return world, node


def nack(node: Node, at: int = -1, *, delay: float | None = None, count: bool = True) -> None:
    delivery = node.deliveries[at]
    node.command(Nack(node.ticket(), delivery.holder, delivery.row, delay, count))


def received(node: Node) -> list[Received]:
    return [row.state for row in node.disk.in_rows()]


# --- mailboxes ---


def test_a_mailbox_is_opened_for_good() -> None:
    world, node = one()
    assert node.settled[1].ticket == 1
    node.restart()
    node.send("in@a")
    assert received(node) == [Received.STORED]
    world.run(1.0)


def test_opening_it_again_changes_what_the_roster_says() -> None:
    _, node = one()
    node.command(OpenMailbox(node.ticket(), "in", "coder", ("python",)))
    record = node.core.node.inbox.mailboxes["in"].record
    assert (record.role, record.capabilities) == ("coder", ("python",))
    node.open("other")
    node.command(OpenMailbox(node.ticket(), "in", "coder", ("python",)))
    assert [m.role for m in node.disk.snapshot().mailboxes] == ["coder", ""]


@pytest.mark.parametrize("name", ["", "In", "a b", "x" * (MAX_NAME + 1)])
def test_a_name_that_is_none_opens_nothing(name: str) -> None:
    _, node = one()
    with pytest.raises(AddressError, match="not a valid agent name"):
        node.open(name)


@pytest.mark.parametrize(
    ("role", "capabilities"),
    [("x" * (MAX_NAME + 1), ()), ("", ("x" * (MAX_NAME + 1),)), ("", ("x",) * (MAX_CAPABILITIES + 1))],
)
def test_what_a_roster_cannot_carry_is_refused(role: str, capabilities: tuple[str, ...]) -> None:
    _, node = one()
    with pytest.raises(ValueError, match=r"role|capabilit"):
        node.command(OpenMailbox(2, "other", role, capabilities))


def test_there_are_not_too_many_mailboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    _, node = one()
    monkeypatch.setattr(module, "MAX_AGENTS", 1)
    with pytest.raises(MeshFull, match="1 mailboxes already"):
        node.open("other")


def test_a_mailbox_whose_commit_failed_is_written_with_its_first_message() -> None:
    """It is there in memory: what it takes in must not outlive it on the disk."""
    world = World()
    node = world.add("a")
    node.failing = "disk full"
    node.open("in")
    assert node.failures[1].reason == "disk full"
    node.failing = ""
    node.send("in@a")
    node.open("in")
    node.restart()
    node.listen("in")
    world.run(1.0)
    assert node.bodies == [b"hello"]


def test_only_the_newest_opening_counts_as_written() -> None:
    _, node = one()
    node.holding = True
    node.command(OpenMailbox(node.ticket(), "in", "one", ()))
    node.command(OpenMailbox(node.ticket(), "in", "two", ()))
    node.commit_one()
    node.kill()
    node.holding = False
    node.start()
    assert node.core.node.inbox.mailboxes["in"].role == "one"


# --- holders ---


def test_nobody_attaches_to_a_mailbox_that_is_not_there() -> None:
    _, node = one()
    with pytest.raises(AddressError, match="open it first"):
        node.command(Attach("out", 1))


def test_only_who_is_there_and_waits_gets_anything() -> None:
    world, node = one()
    node.send("in@a")
    for command in (Take(1, 1), Untake(1), Detach(1, 0.0), Attach("in", 1), Take(1, 1), Untake(1)):
        node.command(command)
    assert len(node.deliveries) == 1
    node.send("in@a")
    world.run(60.0)
    assert len(node.deliveries) == 1
    node.command(Detach(1, 100.0))
    node.command(Take(1, 1))
    world.run(60.0)
    assert len(node.deliveries) == 1


def test_several_holders_share_the_work_by_what_they_wait_for() -> None:
    _, node = one()
    node.listen("in", 1, 2)
    node.listen("in", 2, 2)
    for _ in range(5):
        node.send("in@a")
    assert [delivery.holder for delivery in node.deliveries] == [1, 2, 1, 2]


def test_the_urgent_comes_first_and_a_class_in_its_order() -> None:
    _, node = one()
    for priority in (Priority.BULK, Priority.NORMAL, Priority.CRITICAL):
        for number in range(2):
            node.send("in@a", b"%d.%d" % (priority, number), priority=priority)
    node.listen("in")
    assert node.bodies == [b"0.0", b"0.1", b"2.0", b"2.1", b"4.0", b"4.1"]


def test_leases_return_when_the_grace_of_the_last_detachment_is_over() -> None:
    world, node = one()
    node.listen("in")
    node.send("in@a")
    node.command(Detach(1, 5.0))
    world.run(4.0)
    node.command(Attach("in", 1))
    node.command(Detach(1, 5.0))
    node.command(Attach("in", 2))
    node.command(Take(2, 1))
    world.run(4.0)
    assert len(node.deliveries) == 1, "the first grace ended when the holder came back"
    world.run(2.0)
    assert [delivery.holder for delivery in node.deliveries] == [1, 2]


def test_leases_come_back_in_their_order() -> None:
    world, node = one()
    node.listen("in")
    for number in range(3):
        node.send("in@a", b"%d" % number)
    node.command(Detach(1, 0.0))
    world.run(1.0)
    node.listen("in", 2)
    for number in range(3):
        assert node.bodies[3:] == [b"%d" % n for n in range(number + 1)], "one at a time: it may have ended its holder"
        node.done()
        world.run(0.1)


# --- answers ---


def ask(node: Node, reply_to: bytes, to: str = "in@a") -> None:
    node.command(
        Send(node.ticket(), node.ticket().to_bytes(16, "big"), to, "x", Priority.BULK, None, "text", b"", reply_to, 0,
             packed=False, body=b"answer")
    )  # fmt: skip


def test_an_expected_answer_passes_the_queue_and_asks_for_no_demand() -> None:
    _, node = one()
    node.send("in@a", b"first")
    node.command(Attach("in", 1))
    node.command(Expect(1, b"q" * 16))
    ask(node, b"q" * 16)
    assert node.bodies == [b"answer"]
    ask(node, b"q" * 16)
    assert node.bodies == [b"answer"], "one answer is expected, not two"


@pytest.mark.parametrize("how", ["nobody expects it", "given up", "gone", "another mailbox", "expected nothing"])
def test_an_answer_that_nobody_there_expects_goes_the_way_of_all_messages(how: str) -> None:
    _, node = one()
    node.open("other")
    node.command(Attach("in", 1))
    if how != "nobody expects it":
        node.command(Expect(1, b"q" * 16))
    if how == "given up":
        node.command(Unexpect(b"q" * 16))
    if how == "gone":
        node.command(Detach(1, 5.0))
    ask(node, b"q" * 16 if how != "expected nothing" else b"z" * 16, "other@a" if how == "another mailbox" else "in@a")
    assert node.bodies == []
    assert received(node) == [Received.STORED]


# --- arrival ---


def test_nothing_is_delivered_before_it_is_on_disk() -> None:
    _, node = one()
    node.listen("in")
    node.holding = True
    node.send("in@a", b"1")
    node.send("in@a", b"2")
    assert node.deliveries == []
    node.commit_held()
    assert node.bodies == [b"1", b"2"]


def test_a_message_whose_commit_failed_leaves_nothing_behind() -> None:
    world, node = one()
    node.command(Attach("in", 1))
    node.command(Take(1, 1))
    node.failing = "disk full"
    node.send("in@a", b"leased at once")
    node.send("in@a", b"queued")
    assert len(node.failures) == 2
    node.failing = ""
    world.run(60.0)
    box = node.core.node.inbox.mailboxes["in"]
    assert (box.count, box.size, box.arriving, node.core.node.inbox._cached) == (0, 0, 0, 0)  # noqa: SLF001
    node.send("in@a", b"again")
    assert node.bodies == [b"again"], "the demand is still there"


def test_a_holder_that_left_before_the_commit_leaves_the_message_to_others() -> None:
    world, node = one()
    node.listen("in")
    node.holding = True
    node.send("in@a")
    node.command(Detach(1, 0.0))
    node.commit_held()
    assert node.deliveries == []
    node.listen("in", 2)
    world.run(1.0)
    assert [(d.holder, d.attempt) for d in node.deliveries] == [(2, 2)]


def test_a_message_whose_commit_fails_after_its_holder_left_is_gone() -> None:
    world, node = one()
    node.listen("in")
    node.holding = True
    node.send("in@a")
    node.command(Detach(1, 0.0))
    node.failing = "disk full"
    node.commit_held()
    node.failing = ""
    node.listen("in", 2)
    world.run(60.0)
    assert node.deliveries == []
    assert received(node) == []


def test_a_full_mailbox_says_so() -> None:
    _, node = one()
    node.core.node.inbox.mailboxes["in"].count = MAILBOX_MESSAGES
    with pytest.raises(MeshFull, match="mailbox 'in' is full"):
        node.send("in@a")
    assert node.core.node.inbox.refusal("out", 0) == ("unknown-mailbox", "there is no mailbox 'out'")


def test_bodies_beyond_memory_are_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_BODY_BYTES", 10)
    _, node = one()
    for number in range(200):
        node.send("in@a", b"%d" % number, priority=Priority(number % 2 + 1))
    held = node.core.node.inbox
    assert held._cached <= 10  # noqa: SLF001
    node.listen("in")
    assert node.bodies == [b"%d" % n for n in range(0, 200, 2)] + [b"%d" % n for n in range(1, 200, 2)]


def test_messages_of_the_last_process_are_read_back_and_a_damaged_one_holds_nobody_up() -> None:
    world, node = one()
    for number in range(3):
        node.send("in@a", b"%d" % number)
    node.restart()
    node.damaged = {node.disk.in_rows()[1].row}
    node.listen("in")
    world.run(1.0)
    assert node.bodies == [b"0", b"2"]


def test_a_message_that_ends_while_it_is_read_back_is_not_delivered() -> None:
    world, node = one()
    node.send("in@a", ttl=10.0)
    node.send("in@a", b"second")
    node.restart()
    core = node.core
    core.command(Attach("in", 1), world.now)
    core.command(Take(1, 2), world.now)
    core.command(Take(1, 1), world.now)
    core.effects()  # the question is under way, once
    core.wake(world.now + 11.0)
    node.flush()
    core.fetched_in(node.disk.fetch_in(tuple(row.row for row in node.disk.in_rows())), world.now + 11.0)
    node.flush()
    assert node.bodies == [b"second"]


# --- the end of a lease ---


def test_what_is_not_leased_cannot_be_finished() -> None:
    _, node = one()
    node.listen("in")
    node.send("in@a")
    delivery = node.deliveries[0]
    for holder, row in ((2, delivery.row), (1, 99)):
        with pytest.raises(LeaseLost, match="not leased to this holder"):
            node.command(Done(5, holder, row))
    node.holding = True
    node.done()
    with pytest.raises(LeaseLost):
        node.done()
    with pytest.raises(LeaseLost):
        nack(node)
    node.commit_held()
    assert received(node) == [Received.HANDLED]


def test_done_is_told_once_it_is_on_disk() -> None:
    _, node = one()
    ident = node.send("in@a")
    node.listen("in")
    node.holding = True
    node.done()
    assert node.states(ident) == [Sent.STORED]
    node.commit_held()
    assert node.states(ident) == [Sent.STORED, Sent.HANDLED]
    assert node.settled[node.tickets].id == ident


def test_done_that_failed_can_be_said_again() -> None:
    _, node = one()
    node.send("in@a")
    node.listen("in")
    node.failing = "disk full"
    node.done()
    assert node.failures[node.tickets].reason == "disk full"
    node.failing = ""
    node.done()
    assert received(node) == [Received.HANDLED]


@pytest.mark.parametrize("failing", ["", "disk full"])
def test_done_while_its_holder_leaves(failing: str) -> None:
    """The lease does not return while its end is being written; if that fails, it does."""
    world, node = one()
    node.send("in@a")
    node.listen("in")
    node.holding = True
    node.done()
    node.command(Detach(1, 0.0))
    node.failing = failing
    node.commit_held()
    node.failing = ""
    node.listen("in", 2)
    world.run(5.0)
    assert [d.holder for d in node.deliveries] == ([1, 2] if failing else [1])
    assert received(node) == ([Received.STORED] if failing else [Received.HANDLED])


def test_done_that_fails_after_its_holder_came_back_as_another_object() -> None:
    world, node = one()
    node.send("in@a")
    node.listen("in")
    node.holding = True
    node.done()
    node.command(Detach(1, 0.0))
    node.listen("in")
    node.failing = "disk full"
    node.commit_held()
    node.failing = ""
    world.run(5.0)
    assert [d.attempt for d in node.deliveries] == [1, 2]
    node.done()
    assert received(node) == [Received.HANDLED]


def test_a_message_given_back_comes_again_after_a_while() -> None:
    world, node = one()
    node.send("in@a")
    node.listen("in")
    nack(node)
    assert node.settled[node.tickets].ticket == node.tickets
    world.run(REDELIVERY_FIRST / 2)
    assert len(node.deliveries) == 1
    world.run(REDELIVERY_FIRST)
    assert [d.attempt for d in node.deliveries] == [1, 2]
    nack(node, delay=100.0, count=False)
    world.run(99.0)
    assert len(node.deliveries) == 2
    world.run(2.0)
    assert [d.attempt for d in node.deliveries] == [1, 2, 2]


def test_the_delay_asked_for_outlives_a_restart() -> None:
    world, node = one()
    node.send("in@a")
    node.listen("in")
    nack(node, delay=100.0, count=False)
    node.restart()
    node.listen("in")
    world.run(99.0)
    assert node.deliveries == []
    world.run(2.0)
    assert [d.attempt for d in node.deliveries] == [1]


def test_a_lease_that_could_not_be_written_down_is_no_attempt() -> None:
    world, node = one()
    node.send("in@a")
    node.failing = "disk full"
    node.command(Attach("in", 1))
    node.command(Take(1, 1))
    assert node.deliveries == []
    node.failing = ""
    world.run(5.0)
    assert [d.attempt for d in node.deliveries] == [1]


def test_a_lease_that_returned_before_its_commit_failed_returns_once() -> None:
    world, node = one()
    node.send("in@a")
    node.holding = True
    node.listen("in")
    node.command(Detach(1, 0.0))
    node.failing = "disk full"
    node.commit_held()
    node.failing = ""
    node.listen("in", 2)
    world.run(5.0)
    assert len(node.deliveries) == 1


def test_a_message_finished_before_its_lease_was_written_comes_again_when_both_fail() -> None:
    """Its holder has it from an earlier lease, and says done when the second one has not been committed."""
    world, node = one()
    node.send("in@a")
    node.listen("in")
    nack(node, delay=1.0)
    node.holding = True
    world.run(2.0)
    assert len(node.deliveries) == 1
    node.done()
    node.failing = "disk full"
    node.commit_held()
    node.failing = ""
    world.run(5.0)
    assert [d.attempt for d in node.deliveries] == [1, 2]
    node.done()
    assert received(node) == [Received.HANDLED]


def test_too_many_attempts_are_the_end() -> None:
    world, node = one()
    ident = node.send("in@a")
    node.listen("in")
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert node.deliveries[-1].attempt == attempt
        if attempt == MAX_ATTEMPTS:
            node.failing = "disk full"
        nack(node)
        world.run(2 * REDELIVERY_MAX)
    assert received(node) == [Received.STORED], "its end could not be written down"
    assert len(node.deliveries) == MAX_ATTEMPTS, "and yet it is not delivered once more"
    node.failing = ""
    world.run(2 * REDELIVERY_MAX)
    assert received(node) == [Received.DEAD]
    assert node.states(ident) == [Sent.STORED, Sent.DEAD]
    assert len(node.deliveries) == MAX_ATTEMPTS
    world.run(60.0)
    assert not node.core.node.inbox._messages  # noqa: SLF001


# --- expiry ---


def test_a_message_expires_that_nobody_took() -> None:
    world, node = one()
    ident = node.send("in@a", ttl=10.0)
    kept = node.send("in@a", b"kept", ttl=100.0)
    world.run(11.0)
    assert node.states(ident) == [Sent.STORED, Sent.EXPIRED]
    node.listen("in")
    assert node.bodies == [b"kept"]
    world.run(100.0)
    assert node.states(kept) == [Sent.STORED]


def test_a_message_found_expired_at_the_head_is_not_delivered() -> None:
    world, node = one()
    node.send("in@a", ttl=10.0)
    world.now += 11.0  # nobody was woken in time
    node.listen("in")
    assert node.deliveries == []
    assert received(node) == [Received.EXPIRED]


def test_a_message_that_expires_while_it_is_written_is_expired_when_it_is() -> None:
    """Even if nobody ever comes for it, its sender must hear of it."""
    world, node = one()
    node.holding = True
    ident = node.send("in@a", ttl=1.0)
    world.run(5.0)
    node.commit_held()
    world.run(1.0)
    assert node.states(ident) == [Sent.STORED, Sent.EXPIRED]


def test_a_message_that_has_expired_already_is_leased_to_nobody() -> None:
    world = World()
    a, b = world.add("a"), world.add("b")
    b.open("in")
    world.meet(a, b)
    world.run(1.0)
    b.listen("in")
    a.holding = True
    ident = a.send("in@b", ttl=5.0)
    b.send("in@b", b"in the meantime")
    a.commit_held()
    assert b.bodies == [b"in the meantime"]
    envelope = Envelope("in", "me@a", "text", b"", b"", 0, packed=False)
    row = InRow(0, b"late".ljust(16), a.store, "in", 2, 0, 0.0, world.now - 1, 1)
    b.core.node.inbox.arrive(row, DEVICE, envelope.pack(), b"x", envelope)
    b.flush()
    world.run(1.0)
    assert b.inserted(b"late".ljust(16)) == [Received.EXPIRED]
    assert b.bodies == [b"in the meantime", b"hello"]
    assert b.inserted(ident) == [Received.STORED]


def test_what_was_given_back_unread_expires_as_if_it_had_never_been_leased() -> None:
    world, node = one()
    ident = node.send("in@a", ttl=10.0)
    node.listen("in")
    world.run(20.0)
    nack(node, delay=1.0, count=False)
    node.command(Detach(1, 0.0))
    world.run(5.0)
    assert node.states(ident)[-1] is Sent.EXPIRED


def test_an_end_that_cannot_be_written_comes_a_little_later() -> None:
    world, node = one()
    ident = node.send("in@a", ttl=10.0)
    node.failing = "disk full"
    world.run(30.0)
    assert received(node) == [Received.STORED]
    node.failing = ""
    world.run(2 * STORE_RETRY)
    assert received(node) == [Received.EXPIRED]
    assert node.states(ident) == [Sent.STORED, Sent.EXPIRED]


def test_an_end_that_cannot_be_written_of_a_message_read_from_disk() -> None:
    world, node = one()
    node.send("in@a", ttl=10.0)
    node.restart()
    node.failing = "disk full"
    world.run(30.0)
    node.failing = ""
    world.run(2 * STORE_RETRY)
    assert received(node) == [Received.EXPIRED]
    assert node.core.node.inbox._cached == 0  # noqa: SLF001


def test_cancelling_ends_only_what_nobody_ever_took() -> None:
    _, node = one()
    box = node.core.node.inbox
    waiting, other = node.send("in@a"), node.send("in@a")
    box.cancel(b"another store".ljust(16), [waiting])
    assert received(node) == [Received.STORED, Received.STORED]
    node.listen("in", count=1)
    box.cancel(node.store, [waiting, other])
    node.flush()
    assert received(node) == [Received.STORED, Received.EXPIRED]
    node.holding = True
    node.send("in@a", ident=b"uncommitted".ljust(16))
    box.cancel(node.store, [b"uncommitted".ljust(16)])
    node.commit_held()
    assert node.inserted(b"uncommitted".ljust(16)) == [Received.STORED]


def test_what_has_ended_leaves_the_memory() -> None:
    """Neither the queue of a mailbox that nobody reads nor the heap of deadlines grows for ever."""
    world, node = one()
    for _ in range(50):
        for _ in range(10):
            node.send("in@a", ttl=1.0)
        world.run(2.0)
    box = node.core.node.inbox
    assert sum(len(queue) for queue in box.mailboxes["in"].ready) < 100
    node.listen("in", count=10_000)
    for _ in range(500):
        node.send("in@a", ttl=1e6)
        node.done()
    assert len(box._expiry) < 100  # noqa: SLF001


def test_a_message_that_was_received_before_is_not_delivered_again() -> None:
    world, node = one()
    ident = node.send("in@a")
    node.listen("in", count=2)
    node.done()
    world.run(1.0)
    node.send("in@a", ident=ident)
    assert len(node.deliveries) == 1
    node.send("in@a", b"other")
    assert node.bodies == [b"hello", b"other"]
    node.send("in@a", ident=ident)
    assert received(node) == [Received.HANDLED, Received.STORED]
