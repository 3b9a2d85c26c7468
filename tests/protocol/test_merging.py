"""The end of a mailbox: everything in it goes into another one, and nothing is told twice or lost."""

import pytest

from tests.protocol.pair import Node, World, limit, nack, one, two
from zmesh.errors import AddressError, MailboxBusy, MeshFull
from zmesh.protocol.bounds import ALONE_PATIENCE
from zmesh.protocol.commands import Attach, Detach, Done, MergeMailbox, Take
from zmesh.protocol.states import Sent


def pair_of_mailboxes() -> tuple[World, Node]:
    world, node = one()
    node.open("in.2")
    return world, node


def merge(node: Node, name: str = "in.2", into: str = "in") -> int:
    ticket = node.ticket()
    node.command(MergeMailbox(ticket, name, into))
    return ticket


def test_everything_goes_over_in_the_order_in_which_it_came() -> None:
    _, node = pair_of_mailboxes()
    ids = [node.send(f"{name}@a", name.encode() + b"%d" % at) for at in range(2) for name in ("in.2", "in")]
    assert merge(node) in node.settled
    node.listen("in")
    assert node.bodies == [b"in.20", b"in0", b"in.21", b"in1"]
    assert [delivery.id for delivery in node.deliveries] == ids
    assert [mailbox.name for mailbox in node.disk.snapshot().mailboxes] == ["in"]
    for delivery in list(node.deliveries):
        node.command(Done(node.ticket(), 1, delivery.row))
    assert [node.receipt(ident) for ident in ids] == [Sent.HANDLED] * 4
    assert node.core.node.inbox.mailboxes["in"].count == 0


def test_it_is_so_after_a_restart_too() -> None:
    _, node = pair_of_mailboxes()
    node.send("in.2@a", b"kept")
    merge(node)
    node.kill()
    node.restart()
    assert list(node.core.node.inbox.mailboxes) == ["in"]
    node.listen("in")
    assert node.bodies == [b"kept"]


def test_what_was_given_back_comes_again_from_the_other_one_and_keeps_its_attempts() -> None:
    world, node = pair_of_mailboxes()
    node.listen("in.2", 1, 1)
    node.send("in.2@a", b"again")
    nack(node, delay=5.0)
    node.command(Detach(1, 0.0))
    merge(node)
    node.listen("in", 2)
    assert len(node.deliveries) == 1
    world.run(6.0)
    assert [(delivery.holder, delivery.attempt) for delivery in node.deliveries] == [(1, 1), (2, 2)]


def test_a_suspect_message_waits_no_longer_in_the_other_one_to_be_leased_alone() -> None:
    world, node = pair_of_mailboxes()
    node.listen("in.2", 1, 1)
    node.send("in.2@a", b"suspect")
    node.command(Detach(1, 0.0))
    node.listen("in", 2)
    node.send("in@a", b"busy with this")
    merge(node)
    world.run(ALONE_PATIENCE + 1)
    assert (node.deliveries[-1].body, node.deliveries[-1].holder) == (b"suspect", 2)


def test_who_waits_there_gets_it_at_once() -> None:
    _, node = pair_of_mailboxes()
    node.listen("in", 2)
    node.send("in.2@a", b"kept")
    merge(node)
    assert node.bodies == [b"kept"]


def test_others_see_that_it_is_gone_and_what_they_send_waits() -> None:
    world, left, right = two()
    right.open("in", "in.2")
    world.run(2.0)
    assert "in.2" in left.remote(right).roster.agents
    merge(right)
    world.run(2.0)
    assert "in.2" not in left.remote(right).roster.agents
    ident = left.send("in.2@b", b"late")
    world.run(2.0)
    assert left.receipt(ident) is Sent.WAITING
    right.open("in.2")
    world.run(2.0)
    assert left.receipt(ident) is Sent.STORED


def test_it_is_refused_while_somebody_is_there_or_something_arrives() -> None:
    _, node = pair_of_mailboxes()
    node.command(Attach("in.2", 1))
    with pytest.raises(MailboxBusy, match=r"'in\.2' is in use: detach"):
        merge(node)
    node.command(Detach(1, 0.0))
    node.holding = True
    node.send("in.2@a", b"arriving")
    with pytest.raises(MailboxBusy):
        merge(node)
    node.holding = False
    node.commit_held()
    merge(node)


def test_names_that_are_none_or_one_are_refused() -> None:
    _, node = pair_of_mailboxes()
    for name, into in (("nobody", "in"), ("in", "nobody")):
        with pytest.raises(AddressError, match="'nobody'"):
            merge(node, name, into)
    with pytest.raises(ValueError, match="into itself"):
        merge(node, "in", "in")


def test_a_full_mailbox_takes_nothing_over() -> None:
    _, node = pair_of_mailboxes()
    limit(node, mailbox_messages=2)
    for name in ("in", "in.2", "in.2"):
        node.send(f"{name}@a")
    with pytest.raises(MeshFull, match="no room for the 2 messages"):
        merge(node)
    assert node.core.node.inbox.mailboxes["in.2"].count == 2


def test_an_end_that_cannot_be_written_down_is_none() -> None:
    world, node = pair_of_mailboxes()
    for at in range(3):
        node.send("in.2@a", b"%d" % at)
    node.listen("in", 2, 1)
    node.holding = True
    ticket = merge(node)
    node.holding = False
    node.failing = "the disk is full"
    node.commit_held()
    assert ticket in node.failures
    node.failing = ""
    world.run(60.0)
    mailboxes = node.core.node.inbox.mailboxes
    assert set(mailboxes) == {"in", "in.2"}
    node.command(Detach(2, 0.0))
    node.listen("in.2", 3)
    world.run(60.0)
    node.command(Attach("in", 4))
    node.command(Take(4, 10))
    world.run(60.0)
    assert {delivery.body for delivery in node.deliveries} == {b"0", b"1", b"2"}
    assert mailboxes["in"].count + mailboxes["in.2"].count == 3
