"""Who gets a message, when it comes again, and how a lease ends."""

import pytest

from tests.protocol.pair import DEVICE, Node, World, nack, one, received, two
from zmesh.errors import LeaseLost, UnknownMessage
from zmesh.protocol.bounds import (
    MAX_ATTEMPTS,
    MAX_TTL,
    REDELIVERY_FIRST,
    REDELIVERY_MAX,
)
from zmesh.protocol.commands import (
    Attach,
    Detach,
    Done,
    Expect,
    MergeMailbox,
    Nack,
    Reclaim,
    Send,
    Take,
    Unexpect,
    Untake,
)
from zmesh.protocol.effects import Delivery
from zmesh.protocol.envelope import Envelope
from zmesh.protocol.journal import InRow
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Received, Sent

# --- holders ---


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


@pytest.mark.parametrize("how", ["it was detached", "its process died"])
def test_what_a_holder_leaves_behind_keeps_its_place_the_first_time_and_is_delayed_later(how: str) -> None:
    """Most of what it had leased ahead it never looked at; but what comes back twice may be what ended it."""
    world, node = one()

    def leave(holder: int) -> None:
        if how == "it was detached":
            node.command(Detach(holder, 0.0))
        else:
            node.restart()

    node.send("in@a", b"1")
    node.send("in@a", b"2")
    node.listen("in")
    leave(1)
    node.send("in@a", b"3")
    node.command(Attach("in", 2))
    node.core.wake(world.now)
    node.deliveries.clear()
    node.command(Take(2, 1))
    assert [(d.body, d.attempt) for d in node.deliveries] == [(b"1", 2)]
    leave(2)
    node.deliveries.clear()
    world.run(REDELIVERY_FIRST / 2)
    node.listen("in", 3)
    assert [d.body for d in node.deliveries] == [b"2"], "the first one has been with two holders: it is late"
    node.done()
    assert node.bodies == [b"2", b"3"]
    world.run(REDELIVERY_FIRST)
    node.done()
    assert node.bodies == [b"2", b"3", b"1"]


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


@pytest.mark.parametrize("given_up", [False, True])
def test_an_answer_whose_commit_failed_is_expected_still_if_anybody_waits(*, given_up: bool) -> None:
    """It comes again, and whoever asked gets it then, past the queue."""
    world, node = one()
    node.send("in@a", b"before it")
    node.command(Attach("in", 1))
    node.command(Expect(1, b"q" * 16))
    node.failing = "disk full"
    node.holding = True
    ask(node, b"q" * 16)
    if given_up:
        node.command(Unexpect(b"q" * 16))
    node.commit_held()
    node.failing = ""
    world.run(5.0)
    ask(node, b"q" * 16)
    assert node.bodies == ([] if given_up else [b"answer"])


def test_a_delivery_says_whether_it_was_asked_for() -> None:
    """Only what was not asked for counts as one of those that the holder takes."""
    world, node = one()
    node.listen("in")
    node.send("in@a", b"not asked")
    node.command(Expect(1, b"q" * 16))
    ask(node, b"q" * 16)
    assert [delivery.asked for delivery in node.deliveries] == [False, True]
    nack(node)
    world.run(5.0)
    assert [(delivery.body, delivery.asked) for delivery in node.deliveries[2:]] == [(b"answer", False)]


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


def ask_again(node: Node, ident: bytes) -> None:
    """Let a message that was received before arrive again, as it does in a new epoch of its sender."""
    envelope = Envelope("in", "me@a", "text", b"", b"", 0, packed=False)
    row = InRow(0, ident, node.store, "in", 2, 0, 0.0, None, 4)
    node.core.node.inbox.arrive(row, node.device, envelope.pack(), b"once", envelope)
    node.flush()


def test_nothing_is_delivered_before_it_is_on_disk() -> None:
    _, node = one()
    node.listen("in")
    node.holding = True
    node.send("in@a", b"1")
    node.send("in@a", b"2")
    assert node.deliveries == []
    node.commit_held()
    assert node.bodies == [b"1", b"2"]


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


def test_a_duplicate_whose_insert_is_slow_is_not_delivered_when_its_holder_leaves_meanwhile() -> None:
    """What is not on disk is offered to nobody else: the store may know it already."""
    world, node = one()
    ident = node.send("in@a", b"once")
    node.listen("in")
    node.done()
    node.holding = True
    ask_again(node, ident)
    node.command(Detach(1, 0.0))
    node.listen("in", 2)
    world.run(REDELIVERY_FIRST * 2)
    with pytest.raises(LeaseLost):
        node.command(Done(node.ticket(), 2, 2))
    node.commit_held()
    world.run(60.0)
    assert node.bodies == [b"once"]
    assert not node.core.node.inbox.messages.by_row
    node.send("in@a", b"another")
    node.done()
    assert node.bodies == [b"once", b"another"]


def test_what_is_being_written_cannot_be_finished() -> None:
    _, node = one()
    node.listen("in")
    node.holding = True
    node.send("in@a")
    with pytest.raises(LeaseLost):
        node.command(Done(node.ticket(), 1, 1))
    node.commit_held()
    node.done()
    assert received(node) == [Received.HANDLED]


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


@pytest.mark.parametrize("delay", [-1.0, float("nan"), float("inf"), MAX_TTL + 1])
def test_a_delay_that_is_none_is_refused(delay: float) -> None:
    _, node = one()
    node.send("in@a")
    node.listen("in")
    with pytest.raises(ValueError, match="the delay of a nack is between"):
        nack(node, delay=delay)
    node.done()
    assert received(node) == [Received.HANDLED]


@pytest.mark.parametrize("how", ["done failed", "the lease failed"])
def test_what_may_have_ended_its_holder_stays_suspect_when_the_disk_fails(how: str) -> None:
    """It is leased alone, whatever could not be written down meanwhile."""
    world, node = one()
    for number in range(2):
        node.send("in@a", b"%d" % number)
    node.listen("in")
    node.holding = how == "done failed"
    if how == "done failed":
        node.done(0)
    node.command(Detach(1, 0.0))
    node.failing = "disk full"
    if how == "the lease failed":
        world.run(0.1)
        node.listen("in", 2)
    else:
        node.commit_held()
    node.failing = ""
    messages = list(node.core.node.inbox.messages.by_row.values())
    assert [message.suspect for message in messages] == [True, True]
    node.listen("in", 3)
    world.run(1.0)
    assert all(len(holder.leases) <= 1 for holder in node.core.node.inbox.mailboxes["in"].holders.values())


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
    assert not node.core.node.inbox.messages.by_row


# --- expiry ---


def test_a_message_found_expired_at_the_head_is_not_delivered() -> None:
    world, node = one()
    node.send("in@a", ttl=10.0)
    world.now += 11.0  # nobody was woken in time
    node.listen("in")
    assert node.deliveries == []
    assert received(node) == [Received.EXPIRED]


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


def test_a_mailbox_that_nobody_reads_does_not_keep_what_has_expired() -> None:
    world, node = one()
    for _ in range(50):
        for _ in range(10):
            node.send("in@a", ttl=1.0)
        world.run(2.0)
    assert sum(len(queue) for queue in node.core.node.inbox.mailboxes["in"].ready) < 100
    node.send("in@a", b"kept")
    node.listen("in")
    assert node.bodies == [b"kept"]


def test_what_was_finished_while_it_was_leased_again_is_not_delivered_again() -> None:
    """The holder comes back, and is done with what it had before while its new lease is being written down."""
    world, a, b = two()
    b.listen("inbox")
    a.send("inbox@b")
    world.run(1.0)
    (first,) = b.deliveries
    b.command(Detach(first.holder, 0.0))
    world.run(0.01)
    b.holding = True
    b.listen("inbox")
    world.run(2.0)
    held = b.core.node.inbox.leases.leased(first.holder, first.row)
    assert held.attempts == 2
    b.command(Done(b.ticket(), first.holder, first.row))
    b.commit_held()
    world.run(1.0)
    assert len(b.deliveries) == 1
    assert b.inserted(first.id) == [Received.HANDLED]


# --- leases of the process before ---


def leased_and_restarted(grace: float, *, count: int = 1) -> tuple[World, Node, list[Delivery]]:
    """A store that was killed while a holder had messages, and runs again."""
    world, node = one()
    node.grace = grace
    node.listen("in", 1, count)
    for number in range(count):
        node.send("in@a", b"%d" % number)
    before = list(node.deliveries)
    assert len(before) == count
    node.kill()
    node.restart()
    return world, node, before


def test_who_comes_back_within_the_grace_goes_on_with_what_it_had() -> None:
    world, node, (had,) = leased_and_restarted(5.0)
    node.listen("in", 2)
    world.run(4.0)
    assert node.deliveries == [], "it waits for who had it"
    node.command(Attach("in", 3))
    node.command(Reclaim(3, had.row, had.id))
    world.run(60.0)
    assert node.deliveries == []
    node.command(Done(900, 3, had.row))
    assert 900 in node.settled
    assert node.core.node.inbox.messages.by_row == {}


def test_after_the_grace_it_goes_to_others_and_is_lost_to_who_had_it() -> None:
    world, node, (had,) = leased_and_restarted(5.0)
    node.listen("in", 2)
    world.run(6.0)
    assert [(delivery.holder, delivery.attempt) for delivery in node.deliveries] == [(2, 2)]
    node.command(Attach("in", 3))
    with pytest.raises(LeaseLost, match="redelivered"):
        node.command(Reclaim(3, had.row, had.id))


def test_without_a_grace_it_goes_to_others_at_once() -> None:
    _, node, _ = leased_and_restarted(0.0)
    node.listen("in", 2)
    assert [delivery.attempt for delivery in node.deliveries] == [2]


def test_reclaiming_counts_no_attempt_and_pays_for_no_take() -> None:
    world, node, (had,) = leased_and_restarted(5.0)
    node.listen("in", 2, 1)
    node.command(Reclaim(2, had.row, had.id))
    node.send("in@a", b"next")
    assert node.bodies == [b"next"], "it had waited for one more"
    node.command(Nack(901, 2, had.row, 0.0))
    world.run(1.0)
    node.command(Take(2, 1))
    assert [(delivery.id, delivery.attempt) for delivery in node.deliveries[1:]] == [(had.id, 2)]


def test_a_reclaimed_lease_returns_when_its_holder_goes() -> None:
    world, node, (had,) = leased_and_restarted(5.0)
    node.command(Attach("in", 3))
    node.command(Reclaim(3, had.row, had.id))
    node.command(Detach(3, 0.0))
    node.listen("in", 4)
    world.run(1.0)
    assert [delivery.holder for delivery in node.deliveries] == [4]
    with pytest.raises(LeaseLost):
        node.command(Reclaim(4, had.row, had.id))


def test_what_was_finished_or_given_back_cannot_be_reclaimed() -> None:
    world, node = one()
    node.grace = 5.0
    node.listen("in", 1, 2)
    node.send("in@a", b"finished")
    node.send("in@a", b"given back")
    finished, returned = node.deliveries
    node.command(Done(1000, 1, finished.row))
    node.command(Nack(1001, 1, returned.row, 30.0))
    node.kill()
    node.restart()
    node.command(Attach("in", 2))
    with pytest.raises(UnknownMessage, match="it was finished"):
        node.command(Reclaim(2, finished.row, finished.id))
    with pytest.raises(LeaseLost):
        node.command(Reclaim(2, returned.row, returned.id))
    world.run(1.0)
    with pytest.raises(UnknownMessage):
        node.command(Reclaim(2, returned.row, bytes(16)))  # another message at that row
    with pytest.raises(UnknownMessage):
        node.command(Reclaim(7, returned.row, returned.id))  # nobody knows that holder


def test_only_a_holder_of_its_mailbox_reclaims_a_message() -> None:
    _, node, (had,) = leased_and_restarted(5.0)
    node.open("other")
    node.command(Attach("other", 2))
    with pytest.raises(LeaseLost):
        node.command(Reclaim(2, had.row, had.id))


def test_a_second_reclaim_of_one_lease_is_refused() -> None:
    _, node, (had, other) = leased_and_restarted(5.0, count=2)
    node.command(Attach("in", 2))
    node.command(Attach("in", 3))
    node.command(Reclaim(2, had.row, had.id))
    node.command(Reclaim(2, other.row, other.id))
    with pytest.raises(LeaseLost):
        node.command(Reclaim(3, had.row, had.id))


# --- an answer that came before it was expected ---


def test_an_answer_that_only_the_store_has_is_read_back_for_its_asker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.protocol.incoming.CACHED_BODY_BYTES", 0)
    _, node = one()
    answer = node.send("in@a", b"answer", reply_to=b"q" * 16)
    node.command(Attach("in", 2))
    node.command(Expect(2, b"q" * 16, answer))
    assert [(delivery.holder, delivery.asked, delivery.body) for delivery in node.deliveries] == [(2, True, b"answer")]


def test_an_answer_that_is_there_already_goes_to_its_asker_past_the_queue() -> None:
    world, node = one()
    question = b"q" * 16
    node.send("in@a", b"before")
    answer = node.send("in@a", b"answer", reply_to=question)
    node.listen("in", 1, 1)
    assert node.bodies == [b"before"]
    node.command(Attach("in", 2))
    node.command(Expect(2, question, answer))
    world.run(1.0)
    assert [(delivery.holder, delivery.asked, delivery.body) for delivery in node.deliveries[1:]] == [
        (2, True, b"answer")
    ]
    node.command(Take(1, 5))
    node.send("in@a", b"after")
    world.run(1.0)
    assert node.bodies == [b"before", b"answer", b"after"], "its old place in the queue is passed over"
    assert node.core.node.inbox.mailboxes["in"].holders[2].demand == 0


def test_an_answer_that_is_just_being_written_goes_to_its_asker_too_past_what_is_more_urgent() -> None:
    world, node = one()
    question = b"q" * 16
    node.send("in@a", b"urgent", priority=Priority.CRITICAL)
    node.holding = True
    answer = node.send("in@a", b"answer", reply_to=question)
    node.command(Attach("in", 2))
    node.command(Expect(2, question, answer))
    assert node.deliveries == []
    node.holding = False
    node.commit_held()
    assert [(delivery.holder, delivery.body) for delivery in node.deliveries] == [(2, b"answer")]
    node.command(Take(2, 5))
    world.run(60.0)
    assert node.bodies == [b"answer", b"urgent"]


def test_an_answer_that_others_have_or_that_is_not_there_is_waited_for() -> None:
    world, node = one()
    question = b"q" * 16
    answer = node.send("in@a", b"answer", reply_to=question)
    node.listen("in", 1, 1)
    node.command(Attach("in", 2))
    node.command(Expect(2, question, answer))
    node.command(Expect(2, b"p" * 16, b"x" * 16))
    node.command(Expect(9, b"o" * 16, answer))  # a holder that nobody knows
    world.run(1.0)
    assert [delivery.holder for delivery in node.deliveries] == [1]
    node.done()
    node.send("in@a", b"later", reply_to=b"p" * 16)
    assert [delivery.holder for delivery in node.deliveries] == [1, 2]


def test_an_answer_that_was_finished_by_another_is_found_no_more() -> None:
    world, node = one()
    question = b"q" * 16
    answer = node.send("in@a", b"answer", reply_to=question)
    node.listen("in", 1, 1)
    node.command(Attach("in", 2))
    node.command(Expect(2, question, answer))
    node.done()
    node.send("in@a", b"next")
    world.run(1.0)
    assert [delivery.holder for delivery in node.deliveries] == [1]


def test_a_message_that_waited_alone_may_be_in_another_mailbox_by_then() -> None:
    world, node = one()
    node.open("in.2")
    node.listen("in.2")
    node.send("in.2@a", b"suspect")
    node.command(Detach(1, 0.0))
    node.command(MergeMailbox(900, "in.2", "in"))
    world.run(60.0)
    node.listen("in", 2)
    assert node.bodies == [b"suspect", b"suspect"]


def test_an_answer_that_is_on_its_way_to_the_disk_when_it_is_expected_goes_to_its_asker() -> None:
    _, node = one()
    question = b"q" * 16
    node.holding = True
    answer = node.send("in@a", b"answer", reply_to=question)
    node.command(Attach("in", 2))
    node.command(Expect(2, question, answer))
    node.commit_held()
    node.commit_held()
    assert [(delivery.holder, delivery.asked) for delivery in node.deliveries] == [(2, True)]


@pytest.mark.parametrize("fetched", [False, True])
def test_an_answer_that_is_there_already_is_not_stuck_behind_what_nobody_takes(
    monkeypatch: pytest.MonkeyPatch, *, fetched: bool
) -> None:
    world, node = one()
    if fetched:
        monkeypatch.setattr("zmesh.protocol.incoming.CACHED_BODY_BYTES", 0)
    question = b"q" * 16
    node.send("in@a", b"urgent", priority=Priority.CRITICAL)
    answer = node.send("in@a", b"answer", reply_to=question)
    node.command(Attach("in", 2))
    node.command(Expect(2, question, answer))
    world.run(1.0)
    assert node.bodies == [b"answer"]


# --- when messages go into another mailbox ---


def test_a_message_is_free_when_nobody_has_it_nor_may_come_back_for_it() -> None:
    world, node, (had,) = leased_and_restarted(5.0)
    leases, by_row = node.core.node.inbox.leases, node.core.node.inbox.messages.by_row
    node.send("in@a", b"free")
    assert [leases.free(message) for message in by_row.values()] == [False, True]
    world.run(6.0)
    assert [leases.free(message) for message in by_row.values()] == [True, True]
    node.listen("in", 3, 1)
    assert [leases.free(message) for message in by_row.values()] == [False, True]
    node.holding = True
    node.send("in@a", b"arriving")
    assert [leases.free(message) for message in by_row.values()][-1] is False
    assert had.row in by_row


def test_who_had_what_was_moved_cannot_go_on_with_it_and_it_waits_no_longer_to_be_leased_alone() -> None:
    world, node, (had,) = leased_and_restarted(5.0)
    world.run(6.0)
    leases, by_row = node.core.node.inbox.leases, node.core.node.inbox.messages.by_row
    node.send("in@a", b"not suspect")
    before = leases.timer()
    leases.moved(by_row.values())
    assert leases.timer() <= before
    node.command(Attach("in", 3))
    with pytest.raises(LeaseLost):
        node.command(Reclaim(3, had.row, had.id))
