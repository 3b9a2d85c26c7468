"""What time does to sent messages: expired, cancelled, parked and tried again."""

import pytest

from tests.protocol.pair import forgotten, losing, offline, two
from zmesh.protocol.bounds import STORE_RETRY
from zmesh.protocol.commands import CancelSend
from zmesh.protocol.frames import Ack, Data
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Received, Sent

ID = b"i" * 16


# --- a temporary refusal ---


def test_a_mailbox_that_is_gone_and_comes_back() -> None:
    world, a, b = two(listening=False)
    gone = b.core.node.inbox.mailboxes.pop("inbox")
    ident = a.send("inbox@b", ttl=100.0)
    world.run(0.2)
    b.open("other")  # the next roster says that it is gone
    assert a.receipt(ident) is Sent.WAITING
    world.run(10.0)
    b.core.node.inbox.mailboxes["inbox"] = gone
    b.open("inbox")
    world.run(60.0)
    assert a.receipt(ident) is Sent.STORED


def test_a_full_mailbox_is_tried_again_after_a_restart() -> None:
    world, a, b = two(listening=False)
    b.core.node.inbox.mailboxes["inbox"].size = 1 << 40
    ident = a.send("inbox@b")
    world.run(1.0)
    assert a.receipt(ident) is Sent.QUEUED
    assert not a.remote(b).outs[Priority.NORMAL].entries
    a.restart()
    b.core.node.inbox.mailboxes["inbox"].size = 0
    world.run(5.0)
    assert a.receipt(ident) is Sent.STORED


def test_a_refused_message_that_expires_before_its_turn_is_expired() -> None:
    world, a, b = two(listening=False)
    b.core.node.inbox.mailboxes["inbox"].size = 1 << 40
    ident = a.send("inbox@b", ttl=0.3)
    world.run(0.2)
    assert a.receipt(ident) is Sent.QUEUED
    world.run(10.0)
    assert a.states(ident) == [Sent.QUEUED, Sent.EXPIRED]
    assert a.receipt(ident) is Sent.EXPIRED


# --- expiry and cancelling ---


@pytest.mark.parametrize("address", ["inbox@b", "nobody@b", "inbox@nowhere"])
def test_an_end_that_cannot_be_written_is_not_told_and_comes_later(address: str) -> None:
    world, a, _ = offline()
    ident = a.send(address)
    a.failing = "disk full"
    a.command(CancelSend(ident))
    world.run(10.0)
    assert a.states(ident) == []
    a.failing = ""
    world.run(2 * STORE_RETRY)
    assert a.states(ident) == [Sent.EXPIRED]
    assert a.receipt(ident) is Sent.EXPIRED
    assert not a.core.node.outbox.by_id
    assert not a.core.node.outbox.waiting


def test_a_message_whose_end_is_being_written_does_nothing_else() -> None:
    world, a, b = offline()
    queued, waiting = a.send("inbox@b", ttl=1000.0), a.send("later@b", ttl=1000.0)
    a.holding = True
    for ident in (queued, waiting, queued, waiting):
        a.command(CancelSend(ident))
    b.start()
    b.open("later")
    world.run(2000.0)
    a.commit_held()
    world.run(10.0)
    assert a.states(queued) == a.states(waiting) == [Sent.EXPIRED]
    assert b.disk.in_rows() == []
    assert a.remote(b).queued == 0


def test_a_parked_message_whose_end_is_being_written_stays_where_it_is() -> None:
    world, a, b = two(listening=False)
    b.core.node.inbox.mailboxes["inbox"].size = 1 << 40
    ident = a.send("inbox@b")
    world.run(0.2)
    a.holding = True
    a.command(CancelSend(ident))
    world.run(5.0)
    a.commit_held()
    world.run(5.0)
    assert a.states(ident) == [Sent.QUEUED, Sent.EXPIRED]
    assert len([f for f in world.frames(Data, "a") if isinstance(f, Data)]) == 1


def test_there_is_nothing_to_cancel_in_what_has_gone_or_is_not_there_yet() -> None:
    world, a, _ = two()
    a.command(CancelSend(ID))
    stored = a.send("inbox@b")
    world.run(1.0)
    a.command(CancelSend(stored))
    assert a.states(stored) == [Sent.STORED]
    a.holding = True
    fresh = a.send("inbox@b")
    a.command(CancelSend(fresh))
    a.commit_held()
    world.run(1.0)
    assert a.states(fresh) == [Sent.STORED]


def test_a_ttl_that_ends_before_the_commit_is_looked_at_after_it() -> None:
    world, a, _ = offline()
    a.holding = True
    ident = a.send("inbox@b", ttl=0.5)
    world.run(5.0)
    a.commit_held()
    world.run(2.0)
    assert a.states(ident) == [Sent.EXPIRED]


def test_what_may_have_arrived_is_expiring_and_asked_about_once() -> None:
    world, a, b = two()
    world.drop.append(losing(Ack, b))
    ident = a.send("inbox@b", ttl=100.0)
    world.settle()
    a.command(CancelSend(ident))
    a.command(CancelSend(ident))
    world.run(200.0)
    assert a.states(ident) == [Sent.EXPIRING]
    assert a.progress[-1].detail == "cancelled"


# --- places ---


def test_a_message_for_a_full_mailbox_of_ours_is_tried_again() -> None:
    world, a, _ = two()
    a.holding = True
    ident = a.send("later@a")
    a.open("later")
    a.core.node.inbox.mailboxes["later"].size = 1 << 40
    a.commit_held()
    world.run(5.0)
    assert a.receipt(ident) is Sent.WAITING
    tried = a.core.node.outbox.by_id[ident].refusals
    a.open("later")
    assert a.core.node.outbox.by_id[ident].refusals == tried, "it is parked already: its delay is as it was"
    a.core.node.inbox.mailboxes["later"].size = 0
    world.run(60.0)
    assert a.receipt(ident) is Sent.STORED
    assert a.core.node.outbox.messages.waiter(1) is None
    a.holding = True
    a.send("later@a")
    assert not a.core.node.placing.waits_here("later")


@pytest.mark.parametrize("restarted", [False, True])
def test_what_our_disk_has_forgotten_is_lost_to_us_when_its_ttl_ends_and_not_expired(*, restarted: bool) -> None:
    world, a, b, ident = forgotten(confirmed=True)
    if restarted:
        a.restart()
        assert a.core.node.outbox.by_id[ident].doubt
    world.run(100.0)
    assert a.receipt(ident) is Sent.LOST
    assert a.states(ident)[-1] is Sent.LOST
    assert "went back in time" in a.progress[-1].detail
    assert b.inserted(ident) == [Received.HANDLED]


def test_a_doubtful_message_that_cannot_be_ended_is_ended_later() -> None:
    world, a, _, ident = forgotten(confirmed=True)
    a.failing = "disk full"
    world.run(60.0)
    assert a.receipt(ident) is Sent.QUEUED
    a.failing = ""
    world.run(60.0)
    assert a.receipt(ident) is Sent.LOST
