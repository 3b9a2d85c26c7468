"""Mail that goes into another mailbox, and mailboxes that are removed: nothing is lost or doubled."""

import pytest

from tests.protocol.pair import Node, World, limit, nack, one, received, two
from zmesh.errors import AddressError, LeaseLost, MailboxBusy, MeshFull
from zmesh.protocol.bounds import ALONE_PATIENCE, MAX_ATTEMPTS
from zmesh.protocol.effects import Attach, Detach, Done, Expect, MoveMail, Reclaim, RemoveMailbox, Take
from zmesh.protocol.states import Received, Sent


def mailboxes() -> tuple[World, Node]:
    """A peer with the mailboxes `in` and `out`."""
    world, node = one()
    node.open("out")
    return world, node


def move(node: Node, name: str = "in", into: str = "out", dead: tuple[int, ...] = ()) -> int:
    ticket = node.ticket()
    node.command(MoveMail(ticket, name, into, dead))
    return ticket


def remove(node: Node, name: str) -> int:
    ticket = node.ticket()
    node.command(RemoveMailbox(ticket, name))
    return ticket


def where(node: Node) -> dict[bytes, str]:
    """In which mailbox each message is, as the disk has it."""
    return {row.id: row.mailbox for row in node.disk.in_rows()}


def counts(node: Node) -> dict[str, tuple[int, int]]:
    """Messages and octets of each mailbox, as they are counted in memory."""
    return {name: (mailbox.count, mailbox.size) for name, mailbox in node.core.node.inbox.mailboxes.items()}


def test_what_nobody_has_goes_over_with_its_id_and_in_its_order_and_what_is_leased_stays() -> None:
    _, node = mailboxes()
    node.listen("in", 1, 1)
    ids = [node.send("in@a", b"%d" % at) for at in range(3)]
    newer = node.send("out@a", b"3")
    assert move(node) in node.settled
    assert where(node) == {ids[0]: "in", ids[1]: "out", ids[2]: "out", newer: "out"}
    assert counts(node) == {"in": (1, 1), "out": (3, 3)}
    node.listen("out", 2)
    assert node.bodies == [b"0", b"1", b"2", b"3"]
    for delivery in list(node.deliveries):
        node.command(Done(node.ticket(), delivery.holder, delivery.row))
    assert [node.receipt(ident) for ident in (*ids, newer)] == [Sent.HANDLED] * 4
    assert counts(node) == {"in": (0, 0), "out": (0, 0)}


def test_who_waits_at_the_other_mailbox_has_it_at_once_and_who_holds_the_first_goes_on() -> None:
    _, node = mailboxes()
    node.send("in@a", b"old")
    node.listen("out", 2)
    move(node)
    node.listen("in", 1)
    node.send("in@a", b"new")
    assert [(delivery.holder, delivery.body) for delivery in node.deliveries] == [(2, b"old"), (1, b"new")]


def test_it_is_so_after_a_restart_too() -> None:
    _, node = mailboxes()
    node.send("in@a", b"kept")
    move(node)
    node.restart()
    node.listen("in", 1)
    assert node.bodies == []
    node.listen("out", 2)
    assert node.bodies == [b"kept"]


def test_what_was_given_back_waits_in_the_other_one_as_long_and_keeps_its_attempts() -> None:
    world, node = mailboxes()
    node.listen("in", 1, 1)
    node.send("in@a", b"again")
    nack(node, delay=5.0)
    move(node)
    node.listen("out", 2)
    world.run(4.0)
    assert len(node.deliveries) == 1
    world.run(2.0)
    assert [(delivery.holder, delivery.attempt) for delivery in node.deliveries] == [(1, 1), (2, 2)]


def test_a_suspect_message_waits_no_longer_there_to_be_leased_alone() -> None:
    world, node = mailboxes()
    node.listen("in", 1, 1)
    node.send("in@a", b"suspect")
    node.command(Detach(1, 0.0))
    node.listen("out", 2)
    node.send("out@a", b"busy with this")
    move(node)
    world.run(ALONE_PATIENCE - 1)
    assert len(node.deliveries) == 2
    world.run(2.0)
    assert (node.deliveries[-1].body, node.deliveries[-1].holder) == (b"suspect", 2)


def test_what_is_being_written_stays() -> None:
    _, node = mailboxes()
    node.holding = True
    ident = node.send("in@a", b"arriving")
    move(node)
    node.holding = False
    node.commit_held()
    assert where(node) == {ident: "in"}


def test_what_its_holder_may_come_back_for_stays_until_it_has_not() -> None:
    world, node = mailboxes()
    node.listen("in", 1, 1)
    node.send("in@a", b"mine")
    (lease,) = node.deliveries
    node.grace = 10.0
    node.restart()
    move(node)
    assert list(where(node).values()) == ["in"]
    world.run(11.0)
    move(node)
    assert list(where(node).values()) == ["out"]
    node.command(Attach("in", 3))
    with pytest.raises(LeaseLost):
        node.command(Reclaim(3, lease.row, lease.id))
    node.listen("out", 4)
    assert [(each.holder, each.body) for each in node.deliveries] == [(4, b"mine")]


def test_an_answer_that_somebody_expects_goes_with_the_rest_and_not_past_the_queue_any_more() -> None:
    _, node = mailboxes()
    node.open("asker")
    ident = node.send("asker@a", b"answer", reply_to=b"q" * 16)
    node.listen("asker", 2, 1)
    node.command(Attach("asker", 1))
    node.command(Expect(1, b"q" * 16, ident))
    nack(node, delay=5.0)
    move(node, "asker")
    node.command(Take(1, 1))
    assert [delivery.holder for delivery in node.deliveries] == [2]
    node.world.run(6.0)
    node.listen("out", 3)
    assert [delivery.holder for delivery in node.deliveries] == [2, 3]


def test_dead_messages_go_along_and_stay_dead() -> None:
    _, node = mailboxes()
    node.listen("in", 1)
    ident = node.send("in@a", b"poison")
    for _ in range(MAX_ATTEMPTS):
        nack(node, delay=0.0)
        node.world.run(0.1)
    assert received(node) == [Received.DEAD]
    alive = node.send("in@a", b"leased")
    rows = tuple(row.row for row in node.disk.in_rows())
    move(node, dead=rows)
    assert where(node) == {ident: "out", alive: "in"}, "a row that is not dead any more is not one of them"
    assert received(node) == [Received.DEAD, Received.STORED]


def test_names_that_are_none_or_one_are_refused() -> None:
    _, node = mailboxes()
    for name, into in (("nobody", "in"), ("in", "nobody")):
        with pytest.raises(AddressError, match="'nobody'"):
            move(node, name, into)
    with pytest.raises(ValueError, match="is there already"):
        move(node, "in", "in")
    with pytest.raises(AddressError):
        remove(node, "nobody")


def test_a_full_mailbox_takes_nothing_over() -> None:
    _, node = mailboxes()
    limit(node, mailbox_messages=2)
    for name in ("out", "in", "in"):
        node.send(f"{name}@a")
    with pytest.raises(MeshFull, match="no room for the 2 messages"):
        move(node)
    assert sorted(where(node).values()) == ["in", "in", "out"]


def test_a_move_that_cannot_be_written_down_is_none() -> None:
    world, node = mailboxes()
    for at in range(3):
        node.send("in@a", b"%d" % at)
    node.listen("out", 2, 1)
    node.holding = True
    ticket = move(node)
    node.holding = False
    node.failing = "the disk is full"
    node.commit_held()
    assert ticket in node.failures
    node.failing = ""
    assert set(where(node).values()) == {"in"}
    node.command(Detach(2, 0.0))
    node.listen("in", 3)
    world.run(60.0)
    node.listen("out", 4)
    world.run(60.0)
    assert {delivery.body for delivery in node.deliveries} == {b"0", b"1", b"2"}
    for delivery in list(node.deliveries):
        node.command(Done(node.ticket(), delivery.holder, delivery.row))
    assert counts(node) == {"in": (0, 0), "out": (0, 0)}


# --- the end of an empty mailbox ---


def test_an_empty_mailbox_is_removed_and_others_see_that() -> None:
    world, left, right = two()
    right.open("out")
    world.run(2.0)
    assert remove(right, "out") in right.settled
    world.run(2.0)
    assert "out" not in left.remote(right).roster.agents
    right.restart()
    assert set(right.core.node.inbox.mailboxes) == {"inbox"}


def test_one_that_is_held_or_holds_something_stays() -> None:
    _, node = mailboxes()
    node.command(Attach("out", 1))
    with pytest.raises(MailboxBusy, match="is in use"):
        remove(node, "out")
    node.command(Detach(1, 0.0))
    node.holding = True
    node.send("out@a", b"arriving")
    with pytest.raises(MailboxBusy, match="is not empty"):
        remove(node, "out")
    node.holding = False
    node.commit_held()
    with pytest.raises(MailboxBusy, match="1 messages are in it"):
        remove(node, "out")
    node.listen("out", 2)
    node.done()
    node.command(Detach(2, 0.0))
    remove(node, "out")
    assert "out" not in node.core.node.inbox.mailboxes


def test_a_removal_that_cannot_be_written_down_is_none() -> None:
    _, node = mailboxes()
    node.failing = "the disk is full"
    ticket = remove(node, "out")
    assert ticket in node.failures
    node.failing = ""
    node.world.run(2.0)
    assert "out" in node.core.node.inbox.mailboxes
    ident = node.send("out@a")
    assert where(node) == {ident: "out"}
