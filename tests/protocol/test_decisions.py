"""The protocol's decisions 1 to 9, each played as the trace that would lose a message or lie about one.

The names are those of the table in docs/PROTOCOL.md, section 11.
"""

from typing import Any

import pytest

from tests.protocol.pair import World, limit, losing, two
from zmesh.errors import UnknownAgent
from zmesh.protocol.bounds import (
    MAX_ATTEMPTS,
    NO_ID,
    PING_FIRST,
    PING_MAX,
    REDELIVERY_MAX,
    WINDOW_MESSAGES,
)
from zmesh.protocol.codec import decode, encode
from zmesh.protocol.commands import Attach, CancelSend, Detach, Nack, Send, Sighted, Take
from zmesh.protocol.frames import Ack, Bye, Cancel, Cursor, Data, Frame, Gone, Hello, Item, Outcome, Ping, Reset
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Link, Received, Sent

OTHER_DEVICE = "e" * 32


def last(frames: list[Frame]) -> Any:
    return frames[-1]


# --- 1. links ---


def test_decision_1_links() -> None:
    """A frame of an unknown link is dropped and answered by RESET; the sender greets anew and sends it again."""
    world, a, b = two()
    b.kill()
    b.start()  # a's connection is made again silently, and b knows nothing of a's link
    before = len(world.frames(Hello, "a"))
    ident = a.send("inbox@b")
    world.settle()
    world.run(0.1)
    assert len(world.frames(Hello, "a")) > before
    b.listen("inbox")
    world.run(2.0)
    assert b.bodies == [b"hello"]
    assert a.receipt(ident) is Sent.STORED


def test_decision_1_links_a_lost_tail_is_noticed_by_ping() -> None:
    world, a, b = two()
    world.drop.append(losing(Data, a))
    ident = a.send("inbox@b")
    world.settle()
    world.drop.clear()
    assert b.bodies == []
    world.run(2 * PING_FIRST)
    assert b.bodies == [b"hello"]
    assert a.states(ident)[-1] is Sent.STORED
    assert world.now - 1000 < PING_MAX


def test_decision_1_links_resets_are_few() -> None:
    world, _, b = two()
    stray = encode(b"unknown!", Ping(1, (0,) * 5, (0,) * 5, 0))
    for _ in range(100):
        world.inject(b, stray, b.device, b"path")
    assert [decode(answer.parts)[1] for answer in world.answers] == [Reset()]


def test_decision_1_links_a_store_stays_with_its_device() -> None:
    world, a, b = two()
    forger = world.add("a", store=a.store, device=OTHER_DEVICE)
    forger.disk = a.disk.copy()
    forger.open("me")
    forger.command(Sighted(b.store, b.name, b.device, (b.endpoint,)))
    world.run(3.0)
    forger.send("inbox@b", b"forged")
    world.run(5.0)
    assert b.bodies == []
    assert b.audits("forged-store")
    a.send("inbox@b", b"genuine")
    world.run(5.0)
    assert b.bodies == [b"genuine"]


@pytest.mark.parametrize("how", ["a HELLO", "a sighting", "both"])
def test_decision_1_links_a_store_is_claimed_in_vain_before_its_owner_is_heard(how: str) -> None:
    world = World()
    a, b = world.add("a"), world.add("b")
    a.open("me")
    b.open("inbox")
    b.listen("inbox")
    if how != "a HELLO":
        a.command(Sighted(b.store, b.name, OTHER_DEVICE, ("tcp://192.0.2.66:1",)))
    forger = world.add("b", store=b.store, device=OTHER_DEVICE)
    if how != "a sighting":
        b.kill()
        forger.command(Sighted(a.store, a.name, a.device, (a.endpoint,)))
        world.run(5.0)
        assert a.audits("forged-store")
        b.start()
        b.listen("inbox")
    forger.kill()
    assert a.core.node.remotes == {}
    world.meet(a, b)
    ident = a.send("inbox@b", b"for the owner")
    world.run(5.0)
    assert b.bodies == [b"for the owner"]
    assert a.receipt(ident) is Sent.STORED


def test_decision_1_links_a_sender_is_of_the_peer_that_sent_it() -> None:
    """What an envelope says of its sender is compared with the peer that CURVE knows."""
    world, a, b = two()
    a.core.node.outbox._name = "b"  # noqa: SLF001 - a peer that lies
    ident = a.send("inbox@b")
    world.run(1.0)
    assert b.bodies == []
    assert a.receipt(ident) is Sent.REFUSED
    assert b.audits("forged-sender")


# --- 2. streams ---


def test_decision_2_streams() -> None:
    """The urgent overtakes, no class makes gaps in another, and within a class the order is kept."""
    world, a, b = two()
    a.holding = True
    for number in range(20):
        for priority in reversed(Priority):
            a.send("inbox@b", b"%d/%d" % (priority, number), priority=priority)
    a.commit_held()
    world.run(5.0)
    assert len(b.bodies) == 100
    for priority in Priority:
        mine = [body for body in b.bodies if body.startswith(b"%d/" % priority)]
        assert mine == [b"%d/%d" % (priority, number) for number in range(20)]
    assert b.bodies[:20] == [b"0/%d" % number for number in range(20)]


def test_decision_2_streams_the_number_of_a_failed_commit_is_void_and_never_used_again() -> None:
    world, a, b = two()
    a.failing = "disk full"
    failed = a.send("inbox@b", b"lost")
    a.failing = ""
    world.run(1.0)
    assert a.failures[a.tickets].reason == "disk full"
    kept = a.send("inbox@b", b"kept")
    world.run(1.0)
    assert b.bodies == [b"kept"]
    assert b.inserted(failed) == []
    row = next(row for row in a.disk.out_rows() if row.id == kept)
    assert row.number == 2
    items = [item for frame in world.frames(Data, "a") if isinstance(frame, Data) for item in frame.items]
    assert items[0] == Item(NO_ID, None, b"", b"")
    a.restart()
    world.run(1.0)
    assert a.remote(b).outs[Priority.NORMAL].next_number == 3


def test_decision_2_streams_nobody_sends_beyond_the_credit() -> None:
    world, a, b = two()
    b.holding = True
    for _ in range(WINDOW_MESSAGES + 100):
        a.send("inbox@b", b"")
    world.run(1.0)
    sent = [frame.first + len(frame.items) - 1 for frame in world.frames(Data, "a") if isinstance(frame, Data)]
    assert max(sent) == WINDOW_MESSAGES
    b.commit_held()
    world.run(5.0)
    assert len(b.bodies) == 1000
    assert max(row.number for row in a.disk.out_rows() if row.state is Sent.STORED) == WINDOW_MESSAGES + 100


# --- 3. endings ---


def test_decision_3_endings() -> None:
    """A refused message is never reported stored, although the ACK with its ending was lost."""
    world, a, b = two()
    a.core.node.outbox._name = "b"  # noqa: SLF001 - the receiver will refuse this one
    refused = a.send("inbox@b", b"refused")
    a.core.node.outbox._name = "a"  # noqa: SLF001
    world.drop.append(losing(Ack, b))
    world.settle()
    stored = a.send("inbox@b", b"stored")
    world.run(0.2)
    assert a.states(refused) == []
    world.drop.clear()
    world.run(5.0)
    assert a.states(refused) == [Sent.REFUSED]
    assert a.states(stored) == [Sent.STORED]
    assert b.bodies == [b"stored"]


def test_decision_3_endings_survive_the_receivers_restart() -> None:
    world, a, b = two()
    a.core.node.outbox._name = "b"  # noqa: SLF001
    refused = a.send("inbox@b", b"refused")
    a.core.node.outbox._name = "a"  # noqa: SLF001
    world.drop.append(losing(Ack, b))
    world.settle()
    assert b.remote(a).ins[Priority.NORMAL].cursor == 1
    b.restart()
    world.drop.clear()
    world.run(5.0)
    assert a.receipt(refused) is Sent.REFUSED
    world.run(10.0)
    assert b.disk.snapshot().endings == (), "a confirmed ending is forgotten"


def test_decision_3_endings_an_ack_beyond_what_was_sent_is_an_error_and_no_evidence() -> None:
    world, a, b = two()
    world.drop.append(losing(Data, a))
    ident = a.send("inbox@b")
    world.settle()
    lie = Ack(1, (0, 0, 7, 0, 0), (WINDOW_MESSAGES,) * 5, (), (), 0, 0)
    world.inject(a, encode(b.remote(a).link.id, lie), b.device, b.store)
    assert a.audits("ack-beyond")
    assert last(world.frames(Bye, "a")).code == "ack-beyond"
    assert a.states(ident) == []
    world.drop.clear()
    world.run(10.0)
    assert b.bodies == [b"hello"]
    assert a.receipt(ident) is Sent.STORED


def test_decision_3_endings_an_ack_leaves_after_the_commit() -> None:
    world, a, b = two()
    b.holding = True
    ident = a.send("inbox@b")
    world.run(1.0)
    assert a.states(ident) == []
    b.kill()
    b.holding = False
    b.start()
    b.listen("inbox")
    world.run(5.0)
    assert b.bodies == [b"hello"]
    assert a.receipt(ident) is Sent.STORED


# --- 4. duplicates ---


def test_decision_4_dedup() -> None:
    """Within an epoch the cursor knows duplicates, for as long as it takes."""
    world, a, b = two()
    world.drop.append(losing(Ack, b))
    ident = a.send("inbox@b")
    world.settle()
    again = last(world.frames(Data, "a"))
    for _ in range(3):
        world.run(200.0)
        world.inject(b, encode(a.remote(b).link.id, again), a.device, a.store)
    world.drop.clear()
    world.run(60.0)
    assert b.inserted(ident) == [Received.STORED]
    assert b.bodies == [b"hello"]
    assert a.receipt(ident) is Sent.STORED


def test_decision_4_dedup_across_epochs_by_id_ended_ones_included() -> None:
    world, a, b = two()
    old = a.disk.copy()
    world.drop.append(losing(Ack, b))
    ident = a.send("inbox@b")
    world.settle()
    b.done()
    a.restart(old)  # the message is not in this copy; its application sends it again under the same id
    world.drop.clear()
    assert a.send("inbox@b", ident=ident) == ident
    world.run(5.0)
    assert b.inserted(ident) == [Received.HANDLED]
    assert len(b.bodies) == 1
    assert a.receipt(ident) is Sent.HANDLED


def test_decision_4_dedup_the_same_id_is_the_same_message() -> None:
    world, a, b = two()
    ident = a.send("inbox@b", b"once")
    a.send("inbox@b", b"twice", ident=ident)
    world.run(1.0)
    a.send("inbox@b", b"thrice", ident=ident)
    world.run(1.0)
    assert b.bodies == [b"once"]
    assert set(a.settled) >= {2, 3, 4}


# --- 5. rollback ---


def test_decision_5_rollback() -> None:
    """A receiver whose disk went back in time: GONE; both ends record what is lost, and nothing else stops."""
    world, a, b = two()
    kept = a.send("inbox@b", b"kept")
    world.run(1.0)
    copy = b.disk.copy()
    lost = [a.send("inbox@b", b"lost"), a.send("inbox@b", b"lost too")]
    world.run(1.0)
    assert [a.receipt(i) for i in (kept, *lost)] == [Sent.STORED] * 3
    b.restart(copy)
    b.listen("inbox")
    later = a.send("inbox@b", b"later")
    world.run(10.0)
    assert [a.receipt(i) for i in (kept, *lost, later)] == [Sent.STORED, Sent.LOST, Sent.LOST, Sent.STORED]
    assert world.frames(Gone, "a") == [Gone(1, Priority.NORMAL, 2, 3, lost[1])]
    assert len(a.audits("lost")) == len(b.audits("lost")) == 1
    b.done()  # what came back is leased alone
    world.run(1.0)
    assert sorted(b.bodies) == [b"kept", b"later"]
    assert a.remote(b).epoch == 1


def test_decision_5_rollback_of_the_sender_that_queued_new_messages_under_old_numbers() -> None:
    """Its cursor looks valid to a comparison of numbers; the id at the number shows that it is another message."""
    world, a, b = two()
    copy = a.disk.copy()
    old = [a.send("inbox@b", b"old %d" % n) for n in range(3)]
    world.run(1.0)
    assert len(b.bodies) == 3
    b.kill()
    a.restart(copy)
    new = [a.send("inbox@b", b"new %d" % n, ident=b"new %d" % n + bytes(11)) for n in range(5)]
    b.start()
    b.listen("inbox")
    world.run(10.0)
    assert [a.receipt(ident) for ident in new] == [Sent.STORED] * 5
    while b"new 4" not in b.bodies:
        b.done()  # what came back is leased alone
        world.run(1.0)
    assert [body for body in b.bodies if body.startswith(b"new")] == [b"new %d" % n for n in range(5)]
    assert [len(b.inserted(ident)) for ident in (*old, *new)] == [1] * 8
    assert a.audits("rollback")
    assert a.remote(b).epoch == b.remote(a).source_epoch == 2


def test_decision_5_rollback_of_the_sender_while_the_receiver_is_writing() -> None:
    """What is accepted and not yet on disk is in no cursor: the number is given again, and means another message."""
    world, a, b = two()
    copy = a.disk.copy()
    b.holding = True
    a.send("inbox@b", b"old")
    world.settle()
    a.restart(copy)
    new = a.send("inbox@b", b"new")
    world.run(1.0)
    b.commit_held()
    world.run(10.0)
    assert (a.receipt(new), b.inserted(new)) == (Sent.STORED, [Received.STORED])
    assert b.bodies == [b"old", b"new"]
    assert a.remote(b).epoch == 2


def test_decision_5_rollback_of_the_sender_whose_old_frames_come_late() -> None:
    """They come on another connection than the new greeting, and after it: the link they belong to is no more."""
    world, a, b = two()
    copy = a.disk.copy()
    old_link, hello = a.remote(b).link.id, last(world.frames(Hello, "a"))
    world.drop.append(losing(Data, a))
    a.send("inbox@b", b"old")
    world.settle()
    world.drop.clear()
    a.kill()
    a.disk = copy
    a.start()
    world.carry(1)  # the connection is there, and a greets
    world.now += 0.02
    world.carry(1)  # b greets, and will not greet again for a moment
    for late in (hello, last(world.frames(Data, "a"))):
        world.inject(b, encode(old_link, late), a.device, a.store)
    world.carry(1)
    assert a.remote(b).up
    new = a.send("inbox@b", b"new")
    world.run(10.0)
    assert (a.receipt(new), b.inserted(new)) == (Sent.STORED, [Received.STORED])


def test_decision_5_rollback_of_the_sender_concerns_that_peer_only() -> None:
    world, a, b = two()
    c = world.add("c")
    c.open("inbox")
    world.meet(a, c)
    copy = a.disk.copy()
    a.send("inbox@b", b"1")
    world.run(1.0)
    a.restart(copy)
    world.run(10.0)
    assert a.remote(b).epoch == 2
    assert a.remote(c).epoch == 1


def test_decision_5_rollback_of_both_ends_to_one_moment_needs_nothing() -> None:
    world, a, b = two()
    a.send("inbox@b", b"1")
    world.run(1.0)
    then = a.disk.copy(), b.disk.copy()
    a.send("inbox@b", b"2")
    world.run(1.0)
    a.kill()
    b.restart(then[1])
    a.restart(then[0])
    b.listen("inbox")
    a.send("inbox@b", b"3")
    world.run(10.0)
    while b.bodies[-1] != b"3":
        b.done()
        world.run(1.0)
    assert b.bodies in ([b"1", b"3"], [b"3"])
    assert a.remote(b).epoch == 1
    assert not world.frames(Gone)


def test_decision_5_rollback_is_not_believed_of_a_late_hello() -> None:
    """A HELLO of before, that comes when the stream is further on, causes no epoch and no loss."""
    world, a, b = two()
    a.send("inbox@b", b"1")
    world.run(1.0)
    link = a.remote(b).link
    world.drop.append(lambda *_: True)
    a.core.ready(b.store, world.now)
    a.flush()
    late = Hello(
        1,
        1,
        b.store,
        "b",
        (b.endpoint,),
        link.id,
        up=False,
        epoch=1,
        cursors=(Cursor(0, NO_ID),) * 5,
        limits=(1024,) * 5,
    )
    world.inject(a, encode(b.remote(a).link.id, late), b.device, b.store)
    world.drop.clear()
    world.run(10.0)
    assert a.remote(b).up
    assert not world.frames(Gone)
    assert not a.audits("lost")
    assert a.remote(b).epoch == 1


def test_decision_5_rollback_a_copy_of_a_store_takes_a_new_id() -> None:
    """The copy's old streams are not continued: under its new id it is another store, and both are served."""
    world, a, b = two()
    first = a.send("inbox@b", b"original")
    world.run(1.0)
    copy = world.add("a2", device=OTHER_DEVICE)
    copy.open("me")
    world.meet(copy, b)
    second = copy.send("inbox@b", b"copied", ident=first)
    a.send("inbox@b", b"original again")
    world.run(5.0)
    assert sorted(b.bodies) == [b"copied", b"original", b"original again"]
    assert copy.receipt(second) is Sent.STORED
    assert a.remote(b).epoch == copy.remote(b).epoch == 1


# --- 6. expiry and cancelling ---


def test_decision_6_expiry_and_cancel() -> None:
    """A message that may have arrived is `expiring` until the receiver has spoken, whatever the clock says."""
    world, a, b = two()
    world.drop.append(losing(Ack, b))
    ident = a.send("inbox@b", ttl=1.0)
    world.run(20.0)
    assert a.states(ident) == [Sent.EXPIRING]
    assert a.receipt(ident) is Sent.EXPIRING
    a.restart()
    world.run(20.0)
    assert a.receipt(ident) is Sent.EXPIRING
    world.drop.clear()
    world.run(20.0)
    assert a.receipt(ident) is Sent.STORED
    assert b.bodies == [b"hello"]


def test_decision_6_expiry_and_cancel_an_expiring_message_that_never_arrived() -> None:
    world, a, b = two()
    world.drop.append(losing(Data, a))
    ident = a.send("inbox@b", ttl=1.0)
    world.run(20.0)
    assert a.states(ident) == [Sent.EXPIRING]
    world.drop.clear()
    world.run(20.0)
    assert a.states(ident) == [Sent.EXPIRING, Sent.EXPIRED]
    assert b.bodies == []
    items = [item for frame in world.frames(Data, "a") if isinstance(frame, Data) for item in frame.items]
    assert items[-1] == Item(ident, None, b"", b"")


def test_decision_6_expiry_and_cancel_are_final_before_the_hand_over() -> None:
    world, a, b = two()
    b.kill()
    world.run(60.0)
    expired, cancelled = a.send("inbox@b", b"x", ttl=1.0), a.send("inbox@b", b"y")
    kept = a.send("inbox@b", b"z")
    a.command(CancelSend(cancelled))
    world.run(2.0)
    assert a.receipt(expired) is a.receipt(cancelled) is Sent.EXPIRED
    b.start()
    b.listen("inbox")
    world.run(60.0)
    assert b.bodies == [b"z"]
    assert a.receipt(kept) is Sent.STORED


def test_decision_6_expiry_and_cancel_end_what_nobody_took() -> None:
    world, a, b = two(listening=False)
    expired, cancelled = a.send("inbox@b", b"x", ttl=5.0), a.send("inbox@b", b"y")
    world.run(1.0)
    assert a.receipt(expired) is a.receipt(cancelled) is Sent.STORED
    world.inject(b, encode(a.remote(b).link.id, Cancel((cancelled,))), a.device, a.store)
    world.run(10.0)
    assert a.receipt(expired) is a.receipt(cancelled) is Sent.EXPIRED
    b.listen("inbox")
    world.run(1.0)
    assert b.bodies == []


def test_decision_6_expiry_and_cancel_leave_alone_what_was_leased() -> None:
    world, a, b = two()
    ident = a.send("inbox@b", ttl=5.0)
    world.run(1.0)
    world.inject(b, encode(a.remote(b).link.id, Cancel((ident,))), a.device, a.store)
    world.run(60.0)
    assert a.receipt(ident) is Sent.STORED
    b.done()
    world.run(1.0)
    assert a.receipt(ident) is Sent.HANDLED


def test_decision_6_expiry_and_cancel_the_wire_carries_what_remains() -> None:
    world, a, b = two()
    b.kill()
    a.send("inbox@b", ttl=100.0)
    world.run(60.0)
    b.start()
    world.run(10.0)
    data = last(world.frames(Data, "a"))
    assert isinstance(data, Data)
    assert 30_000 <= (data.items[0].ttl_ms or 0) <= 40_000


# --- 7. outcomes ---


def test_decision_7_outcomes() -> None:
    """`handled` is repeated until it is confirmed, across restarts of both ends, and is told once it is on disk."""
    world, a, b = two()
    ident = a.send("inbox@b")
    world.run(1.0)
    world.drop.append(losing(Outcome, b))
    b.done()
    world.run(10.0)
    assert a.states(ident) == [Sent.STORED]
    b.restart()
    a.restart()
    world.run(10.0)
    assert a.receipt(ident) is Sent.STORED
    world.drop.clear()
    world.run(10.0)
    assert a.receipt(ident) is Sent.HANDLED
    assert a.states(ident) == [Sent.HANDLED]
    world.run(10.0)
    assert b.disk.snapshot().outcomes == (), "confirmed outcomes are forgotten"


def test_decision_7_outcomes_whose_confirmation_is_lost_change_nothing_the_second_time() -> None:
    world, a, b = two()
    ident = a.send("inbox@b")
    world.run(1.0)
    world.drop.append(losing(Ack, a))
    b.done()
    world.run(2.0)
    assert a.receipt(ident) is Sent.HANDLED
    b.restart()
    world.drop.clear()
    world.run(10.0)
    assert a.receipt(ident) is Sent.HANDLED
    assert b.disk.snapshot().outcomes == ()


def test_decision_7_outcomes_wait_for_the_lost_ack_of_their_message() -> None:
    world, a, b = two()
    world.drop.append(losing(Ack, b))
    ident = a.send("inbox@b")
    world.settle()
    b.done()
    world.settle()
    assert a.states(ident) == []
    world.drop.clear()
    world.run(10.0)
    assert a.states(ident) == [Sent.STORED, Sent.HANDLED]


# --- 8. leases ---


def test_decision_8_leases() -> None:
    """A lease lives while its holder is attached, however long that takes, and returns when the holder is gone."""
    world, a, b = two()
    ident = a.send("inbox@b")
    world.run(900.0)
    assert len(b.deliveries) == 1
    b.command(Attach("inbox", 2))
    b.command(Take(2, 10))
    b.command(Detach(1, 5.0))
    world.run(4.0)
    assert len(b.deliveries) == 1
    world.run(2.0)
    assert [(d.holder, d.attempt) for d in b.deliveries] == [(1, 1), (2, 2)]
    b.done()
    world.run(1.0)
    assert a.receipt(ident) is Sent.HANDLED


def test_decision_8_leases_are_kept_for_a_holder_that_comes_back() -> None:
    world, a, b = two()
    a.send("inbox@b")
    world.run(1.0)
    b.command(Detach(1, 5.0))
    world.run(4.0)
    b.command(Attach("inbox", 1))
    world.run(60.0)
    assert len(b.deliveries) == 1
    b.done()
    assert b.inserted(b.deliveries[0].id) == [Received.HANDLED]


def test_decision_8_leases_attempts_are_counted_across_crashes_and_have_an_end() -> None:
    """A message that kills its process each time is dead after the limit of attempts."""
    world, a, b = two()
    ident = a.send("inbox@b")
    world.run(1.0)
    attempts = [delivery.attempt for delivery in b.deliveries]
    while attempts[-1] < MAX_ATTEMPTS:
        b.restart()
        b.listen("inbox")
        world.run(2 * REDELIVERY_MAX)
        attempts += [delivery.attempt for delivery in b.deliveries]
    assert attempts == [*range(1, MAX_ATTEMPTS + 1)]
    b.restart()
    b.listen("inbox")
    world.run(2 * REDELIVERY_MAX)
    assert b.deliveries == []
    assert b.inserted(ident) == [Received.DEAD]
    assert a.receipt(ident) is Sent.DEAD


def test_decision_8_leases_given_back_too_often_are_dead() -> None:
    world, a, b = two()
    ident = a.send("inbox@b")
    for attempt in range(1, MAX_ATTEMPTS + 1):
        world.run(2 * REDELIVERY_MAX)
        assert b.deliveries[-1].attempt == attempt
        b.command(Nack(b.ticket(), 1, b.deliveries[-1].row))
    world.run(2 * REDELIVERY_MAX)
    assert len(b.deliveries) == MAX_ATTEMPTS
    assert a.receipt(ident) is Sent.DEAD
    assert b.disk.fetch_in([b.deliveries[0].row]), "a dead message is kept"


def test_decision_8_leases_a_repeated_reply_is_one_reply() -> None:
    """The process dies after `done(reply=...)` was committed but not confirmed to it, or before it: one reply."""
    world, a, b = two()
    a.listen("me")
    b.open("me")
    request = a.send("inbox@b", b"question")
    world.run(1.0)

    def reply() -> Send:
        return Send(b.ticket(), b"reply to".ljust(16), "me@a", "inbox", Priority.NORMAL, None, "text", b"", request, 0,
                    packed=False, body=b"answer")  # fmt: skip

    b.holding = True
    b.done(reply=reply())
    b.kill()  # neither the reply nor the end of the request is on disk
    b.holding = False
    b.start()
    b.listen("inbox")
    world.run(5.0)
    assert b.bodies == [b"question"]
    b.done(reply=reply())
    b.send("me@a", b"answer", sender="inbox", ident=b"reply to".ljust(16))
    world.run(5.0)
    assert a.bodies == [b"answer"]
    assert a.receipt(request) is Sent.HANDLED


def test_decision_8_leases_nothing_is_delivered_before_its_lease_is_on_disk() -> None:
    world, a, b = two()
    b.holding = True
    a.send("inbox@b")
    world.run(1.0)
    assert b.deliveries == []
    b.commit_held()
    assert len(b.deliveries) == 1


# --- 9. unknown mailbox ---


def test_decision_9_unknown_mailbox() -> None:
    """It waits at the sender, which is warned with near names, until the roster shows the mailbox."""
    world, a, b = two()
    ident = a.send("inbix@b")
    settled = a.settled[a.tickets]
    assert settled.state is Sent.WAITING
    assert "inbox@b" in settled.warning
    world.run(60.0)
    a.restart()
    world.run(60.0)
    assert a.receipt(ident) is Sent.WAITING
    assert world.frames(Data, "a") == []
    b.open("inbix")
    b.listen("inbix", holder=2)
    world.run(5.0)
    assert b.bodies == [b"hello"]
    assert a.receipt(ident) is Sent.STORED


def test_decision_9_unknown_mailbox_of_an_unknown_peer() -> None:
    world = World()
    a = world.add("a")
    ident = a.send("inbox@b")
    assert a.settled[1].state is Sent.WAITING
    assert "'b'" in a.settled[1].warning
    b = world.add("b")
    b.open("inbox")
    world.meet(a, b)
    world.run(5.0)
    assert a.receipt(ident) is Sent.STORED


def test_decision_9_unknown_mailbox_that_appears_while_the_message_is_being_committed() -> None:
    world, a, b = two()
    a.holding = True
    ident = a.send("later@b")
    b.open("later")
    world.run(1.0)
    a.commit_held()
    world.run(60.0)
    assert a.receipt(ident) is Sent.STORED


def test_decision_9_unknown_mailbox_until_the_ttl_ends() -> None:
    world, a, b = two()
    ident = a.send("nobody@b", ttl=10.0)
    world.run(11.0)
    assert a.states(ident) == [Sent.EXPIRED]
    b.open("nobody")
    world.run(5.0)
    assert b.disk.in_rows() == []


def test_decision_9_unknown_mailbox_is_refused_when_strict() -> None:
    _, a, _ = two()
    with pytest.raises(UnknownAgent, match="did you mean inbox@b"):
        a.send("inbix@b", strict=True)
    assert a.disk.out_rows() == []


def test_decision_9_unknown_mailbox_that_went_away_meanwhile() -> None:
    """The receiver refuses for the time being; the message waits again, and others are not held up."""
    world, a, b = two()
    b.send("me@a")
    gone = b.core.node.inbox.mailboxes.pop("inbox")
    b.open("other")
    b.listen("other", holder=2)
    world.settle()
    waiting, other = a.send("inbox@b"), a.send("other@b", b"other")
    world.run(1.0)
    assert a.receipt(waiting) in (Sent.WAITING, Sent.QUEUED)
    assert a.receipt(other) is Sent.STORED
    assert b.bodies == [b"other"]
    b.core.node.inbox.mailboxes["inbox"] = gone
    b.open("inbox")
    world.run(60.0)
    assert a.receipt(waiting) is Sent.STORED


def test_decision_9_unknown_mailbox_a_full_one_does_not_stall_its_stream() -> None:
    """A temporary refusal: the message comes again under a new number; the other mailboxes go on."""
    world, a, b = two(listening=False)
    limit(b, mailbox_messages=2)
    b.open("other")
    b.listen("other", holder=2)
    world.run(1.0)
    idents = [a.send("inbox@b", b"%d" % n) for n in range(3)]
    other = a.send("other@b", b"other")
    world.run(1.0)
    assert b.bodies == [b"other"]
    assert a.receipt(other) is Sent.STORED
    assert a.receipt(idents[2]) is Sent.QUEUED
    b.listen("inbox")
    b.done(-1)
    b.done(-2)
    world.run(60.0)
    assert [a.receipt(ident) for ident in idents[2:]] == [Sent.STORED]
    assert b.bodies == [b"other", b"0", b"1", b"2"]
    assert a.remote(b).link.state is Link.UP
    assert next(row.number for row in a.disk.out_rows() if row.id == idents[2]) > 4
