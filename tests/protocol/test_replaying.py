"""Dead messages that come again: once, as new, and their senders hear of it."""

import pytest

from tests.protocol.pair import Node, World, limit, nack, one, received, two
from zmesh.errors import AddressError, MeshFull
from zmesh.protocol.bounds import MAX_ATTEMPTS
from zmesh.protocol.effects import Detach, MoveMail, Replay
from zmesh.protocol.journal import InRow
from zmesh.protocol.states import Received, Sent


def kill(node: Node, name: str = "in") -> None:
    """Take what is in a mailbox and give it back until it is dead, and leave."""
    node.listen(name, 1)
    for _ in range(MAX_ATTEMPTS):
        nack(node, delay=0.0)
        node.world.run(0.2)
    node.command(Detach(1, 0.0))


def dead(node: Node) -> tuple[InRow, ...]:
    """What a shell reads of the dead messages."""
    return tuple(
        InRow(row.row, row.id, row.source, row.mailbox, row.klass, row.attempts, row.due, 1.0, 5)
        for row in node.disk.in_rows()
        if row.state is Received.DEAD
    )


def replay(node: Node, name: str = "in", rows: tuple[InRow, ...] | None = None) -> int:
    ticket = node.ticket()
    node.command(Replay(ticket, name, dead(node) if rows is None else rows))
    return ticket


def with_a_dead_one() -> tuple[World, Node, bytes]:
    world, node = one()
    ident = node.send("in@a", b"hello", ttl=1.0)
    kill(node)
    assert received(node) == [Received.DEAD]
    assert node.receipt(ident) is Sent.DEAD
    return world, node, ident


def test_a_dead_message_comes_again_as_if_nobody_had_taken_it_and_its_ttl_is_over() -> None:
    world, node, ident = with_a_dead_one()
    world.run(5.0)
    assert replay(node) in node.settled
    assert node.receipt(ident) is Sent.STORED
    world.run(100.0)
    assert received(node) == [Received.STORED]
    node.listen("in", 2)
    assert (node.deliveries[-1].body, node.deliveries[-1].attempt) == (b"hello", 1)
    node.done()
    assert node.receipt(ident) is Sent.HANDLED
    assert node.states(ident)[-3:] == [Sent.DEAD, Sent.STORED, Sent.HANDLED]
    assert node.core.node.inbox.mailboxes["in"].count == 0


def test_it_is_so_after_a_restart_too() -> None:
    _, node, _ = with_a_dead_one()
    replay(node)
    node.restart()
    node.listen("in", 2)
    assert [delivery.attempt for delivery in node.deliveries] == [1]


def test_its_sender_elsewhere_hears_that_it_is_stored_and_then_what_becomes_of_it() -> None:
    world, a, b = two(listening=False)
    ident = a.send("inbox@b", b"hello")
    world.settle()
    kill(b, "inbox")
    world.run(1.0)
    assert a.receipt(ident) is Sent.DEAD
    replay(b, "inbox")
    world.run(1.0)
    assert a.receipt(ident) is Sent.STORED
    b.listen("inbox", 2)
    b.done()
    world.run(1.0)
    assert a.receipt(ident) is Sent.HANDLED
    assert a.states(ident) == [Sent.STORED, Sent.DEAD, Sent.STORED, Sent.HANDLED]


def test_it_can_die_again() -> None:
    _, node, ident = with_a_dead_one()
    replay(node)
    kill(node)
    assert received(node) == [Received.DEAD]
    assert node.receipt(ident) is Sent.DEAD


def test_one_that_is_asked_for_twice_comes_once_and_one_of_another_mailbox_not_at_all() -> None:
    _, node, _ = with_a_dead_one()
    node.open("other")
    replay(node, "other")
    assert received(node) == [Received.DEAD]
    rows = dead(node)
    node.holding = True
    replay(node, rows=rows)
    replay(node, rows=rows)
    assert len(node.deliveries) == MAX_ATTEMPTS, "not before it is on disk"
    node.command(MoveMail(node.ticket(), "in", "other", tuple(row.row for row in rows)))
    node.holding = False
    node.commit_held()
    assert [row.mailbox for row in node.disk.in_rows()] == ["in"], "nor is it moved before that"
    node.listen("in", 2)
    assert len(node.deliveries) == MAX_ATTEMPTS + 1
    node.done()
    assert node.core.node.inbox.mailboxes["in"].count == 0


def test_where_there_is_no_room_or_no_mailbox_it_stays_dead() -> None:
    _, node, _ = with_a_dead_one()
    with pytest.raises(AddressError, match="'nobody'"):
        replay(node, "nobody")
    limit(node, mailbox_messages=1)
    node.send("in@a", b"newer")
    with pytest.raises(MeshFull, match="no room for 1 more messages"):
        replay(node)
    assert received(node) == [Received.DEAD, Received.STORED]


def test_a_replay_that_cannot_be_written_down_is_none() -> None:
    world, node, ident = with_a_dead_one()
    node.failing = "the disk is full"
    assert replay(node) in node.failures
    node.failing = ""
    world.run(2.0)
    assert (received(node), node.receipt(ident)) == ([Received.DEAD], Sent.DEAD)
    assert node.core.node.inbox.mailboxes["in"].count == 0
    assert node.core.node.inbox.mailboxes["in"].arriving == 0
    replay(node)
    node.listen("in", 2)
    assert node.deliveries[-1].attempt == 1
