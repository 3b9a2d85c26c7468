"""Where waiting messages go once there is a place for them."""

import pytest

from tests.protocol.pair import DEVICE, Node, World, two
from tests.stores import store_of
from zmesh.errors import AmbiguousAddress
from zmesh.protocol.commands import CancelSend, OpenMailbox
from zmesh.protocol.states import Sent

FULL = 1 << 40


# --- finding ---


def test_a_message_for_two_peers_of_one_name_waits_until_there_is_one() -> None:
    world = World()
    a = world.add("a")
    ident = a.send("inbox@b")
    one, other = (world.add("b", store=store_of(DEVICE, number)) for number in (1, 2))
    world.meet(a, one, other)
    world.run(5.0)
    with pytest.raises(AmbiguousAddress):
        a.core.node.find("inbox@b")
    a.open("unrelated")
    a.open("inbox")  # one of ours, which is not meant either
    other.kill()
    world.run(60.0)
    assert a.receipt(ident) is Sent.WAITING
    one.open("inbox")
    world.run(60.0)
    assert a.receipt(ident) is Sent.STORED


def test_a_message_that_was_refused_goes_to_no_other_store_of_that_name() -> None:
    world, a, b = two(listening=False)
    gone = b.core.node.inbox.mailboxes.pop("inbox")
    ident = a.send("inbox@b")
    b.open("other")
    world.run(1.0)
    assert a.receipt(ident) is Sent.WAITING
    message = a.core.node.outbox.by_id[ident]
    message.dest = b"another".ljust(16)
    b.core.node.inbox.mailboxes["inbox"] = gone
    b.open("inbox")
    world.run(5.0)
    assert a.core.node.placing.place_of(message) is None
    message.dest = b.store
    assert a.core.node.placing.place_of(message) is a.remote(b)


def test_a_message_to_a_mailbox_of_ours_that_is_full_waits_on_and_nothing_overtakes_it() -> None:
    world, a, _ = two()
    a.holding = True
    idents = [a.send("later@a", b"1")]
    a.open("later")
    idents.append(a.send("later@a", b"2"))
    a.core.node.inbox.mailboxes["later"].size = FULL
    a.commit_held()
    world.run(5.0)
    assert [a.receipt(ident) for ident in idents] == [Sent.WAITING] * 2
    a.core.node.inbox.mailboxes["later"].size = 0
    world.run(60.0)
    assert [a.receipt(ident) for ident in idents] == [Sent.STORED] * 2
    idents.append(a.send("later@a", b"3"))
    a.listen("later")
    world.run(1.0)
    assert a.bodies == [b"1", b"2", b"3"]


def test_a_message_that_was_refused_is_placed_again_when_it_is_due() -> None:
    """The roster says that the mailbox is there, and has said so all the time."""
    world, a, b = two(listening=False)
    gone = b.core.node.inbox.mailboxes.pop("inbox")
    ident = a.send("inbox@b")
    world.run(0.1)
    assert a.receipt(ident) is Sent.WAITING
    b.core.node.inbox.mailboxes["inbox"] = gone
    world.run(5.0)
    assert a.receipt(ident) is Sent.STORED


def test_the_id_of_an_ended_message_does_not_wait_for_a_mailbox() -> None:
    world, a, _ = two()
    ident = a.send("inbox@b")
    world.run(1.0)
    a.send("nobody@b", ident=ident)
    assert a.core.node.outbox.by_id == {}


@pytest.mark.parametrize("where", ["here", "there", "nowhere", "ended"])
def test_a_mailbox_that_appears_while_a_message_for_it_is_written(where: str) -> None:
    world, a, b = two()
    a.holding = True
    ident = a.send("later@a" if where == "here" else "later@b")
    if where == "here":
        a.open("later")
    if where == "there":
        b.open("later")
    world.run(1.0)
    if where == "ended":
        a.core.node.outbox.waiting.clear()
    a.commit_held()
    world.run(5.0)
    assert a.receipt(ident) is (Sent.STORED if where in ("here", "there") else Sent.WAITING)


def test_a_mailbox_of_ours_that_is_opened_twice_gets_what_waited_once() -> None:
    world, a, _ = two()
    ident = a.send("later@a")
    for ticket in (50, 51):
        a.core.command(OpenMailbox(ticket, "later", "", ()), world.now)
    a.flush()
    a.listen("later")
    assert a.bodies == [b"hello"]
    assert a.states(ident) == [Sent.STORED]


def landing(*bodies: bytes) -> tuple[World, Node]:
    """A peer where messages wait for a mailbox of its own, and a disk that fails just when it is opened."""
    world = World()
    a = world.add("a")
    for body in bodies:
        a.send("later@a", body)
    a.holding = True
    a.open("later")
    a.commit_one()
    a.failing = "disk full"
    a.commit_held()
    a.failing = ""
    return world, a


def test_mail_for_our_own_mailbox_lands_once_the_disk_has_recovered() -> None:
    world, a = landing(b"1", b"2")
    a.listen("later")
    world.run(5.0)
    assert a.bodies == [b"1", b"2"]
    assert {row.state for row in a.disk.out_rows()} == {Sent.STORED}


def test_nothing_overtakes_mail_that_could_not_land() -> None:
    world, a = landing(b"1", b"2")
    a.send("later@a", b"3")
    a.send("later@a", b"4")
    a.listen("later")
    world.run(5.0)
    assert a.bodies == [b"1", b"2", b"3", b"4"]


def test_mail_that_could_not_land_goes_with_a_mailbox_that_is_opened_again() -> None:
    world, a = landing(b"1")
    a.command(OpenMailbox(a.ticket(), "later", "coder", ()))
    a.listen("later")
    assert a.bodies == [b"1"]
    world.run(5.0)
    assert a.bodies == [b"1"]


def test_once_all_has_landed_or_ended_nothing_is_waited_for() -> None:
    world, a = landing(b"1", b"2")
    placing = a.core.node.placing
    assert placing.waits_here("later")
    assert not placing.waits_here("another")
    for row in a.disk.out_rows():
        a.command(CancelSend(row.id))
    assert not placing.waits_here("later")
    a.send("later@a", b"3")
    a.listen("later")
    world.run(5.0)
    assert a.bodies == [b"3"]
