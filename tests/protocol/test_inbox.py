"""The receiving half: who gets a message, when it comes again, and how it ends."""

import pytest

from tests.protocol.pair import World, one, received
from zmesh.errors import AddressError, MeshFull
from zmesh.protocol import inbox as module
from zmesh.protocol.bounds import (
    ARRIVALS_KEPT,
    MAILBOX_MESSAGES,
    MAX_CAPABILITIES,
    MAX_NAME,
)
from zmesh.protocol.commands import Attach, Close, Detach, OpenMailbox, SetStatus, Take
from zmesh.protocol.deadlines import NEVER
from zmesh.protocol.frames import Data
from zmesh.protocol.journal import PutMailbox
from zmesh.protocol.states import Received, Sent

# --- when what came ---


def test_it_is_remembered_when_a_message_was_on_disk_first_and_only_of_so_many() -> None:
    world, node = one()
    world.run(2.0)
    ident = node.send("in@a")
    node.send("in@a", ident=ident)
    arrivals = node.core.node.inbox.arrivals
    assert list(arrivals) == [(world.now, ident, node.store)]
    assert arrivals.maxlen == ARRIVALS_KEPT
    node.failing = "the disk is full"
    node.send("in@a")
    assert len(arrivals) == 1


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


def test_who_comes_and_goes_changes_the_roster() -> None:
    world, node = one()
    box = node.core.node.inbox
    world.run(1.0)
    seen = [(box.roster.due < NEVER, box.mailboxes["in"].attached)]
    for command in (Attach("in", 1), Detach(1, 0.0), Detach(1, 0.0)):
        box.roster.renew()
        node.core.command(command, world.now)
        seen.append((box.roster.due < NEVER, box.mailboxes["in"].attached))
    assert seen == [(False, False), (True, True), (True, False), (False, False)], "nobody goes twice"


def test_when_somebody_was_there_is_kept() -> None:
    world, node = one()
    node.command(Attach("in", 1))
    assert node.disk.snapshot().mailboxes[0].seen is None
    world.now += 5.0
    node.command(Detach(1, 0.0))
    left = world.now
    assert node.disk.snapshot().mailboxes[0].seen == left
    node.restart()
    world.now += 5.0
    assert node.core.node.inbox.mailboxes["in"].absent == left
    node.command(OpenMailbox(node.ticket(), "in", "coder", ()))
    assert node.disk.snapshot().mailboxes[0].seen == left, "to be described differently is not to be there"


def test_a_peer_that_closes_writes_down_who_was_there_until_then() -> None:
    world, node = one()
    node.open("other")
    node.command(Attach("in", 1))
    world.now += 5.0
    node.command(Close())
    assert {row.name: row.seen for row in node.disk.snapshot().mailboxes} == {"in": world.now, "other": None}


def test_a_mailbox_whose_opening_failed_is_written_as_it_is_by_then() -> None:
    world, node = one()
    node.failing = "disk full"
    node.command(OpenMailbox(node.ticket(), "new", "one", (), "zmesh"))
    node.failing = ""
    node.command(Attach("new", 1))
    world.now += 1.0
    node.command(Detach(1, 0.0))
    node.send("new@a", sender="in")
    assert node.disk.snapshot().mailboxes[-1] == PutMailbox("new", "one", (), "zmesh", world.now)


def test_a_holder_says_what_it_is_doing() -> None:
    _, node = one()
    mailbox = node.core.node.inbox.mailboxes["in"]
    node.command(Attach("in", 1, "push"))
    node.command(SetStatus("in", 1, "busy"))
    assert (mailbox.record.status, mailbox.record.reach) == ("busy", "push")
    node.command(SetStatus("in", 1, ""))
    assert mailbox.record.status == "idle"
    node.command(SetStatus("in", 1, "away"))
    node.command(Detach(1, 0.0))
    node.command(Attach("in", 1))
    assert mailbox.record.status == "idle", "what it said has gone with it"


@pytest.mark.parametrize("status", ["dozing", "Busy", "\x1b[2J"])
def test_a_status_is_one_of_three(status: str) -> None:
    _, node = one()
    node.command(Attach("in", 1))
    with pytest.raises(ValueError, match="a status is 'idle', 'busy' or 'away', not"):
        node.command(SetStatus("in", 1, status))
    with pytest.raises(AddressError, match="open it first"):
        node.command(SetStatus("out", 1, "busy"))


def test_how_it_is_reached_is_a_word() -> None:
    _, node = one()
    with pytest.raises(ValueError, match="a word of at most 16 letters"):
        node.command(Attach("in", 1, "two words"))
    assert not node.core.node.inbox.mailboxes["in"].attached


def test_a_project_that_a_roster_cannot_carry_is_refused() -> None:
    _, node = one()
    with pytest.raises(ValueError, match="a project is a text of at most 63 printable characters"):
        node.command(OpenMailbox(2, "other", "", (), "x" * 64))


# --- arrival ---


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
    assert (box.count, box.size, box.arriving, node.core.node.inbox.messages.cached) == (0, 0, 0, 0)
    node.send("in@a", b"again")
    assert node.bodies == [b"again"], "the demand is still there"


def test_the_sender_of_a_message_that_had_ended_is_told_so_again() -> None:
    """It asks because its disk went back in time: the outcome was confirmed, and is forgotten there."""
    world = World()
    a, b = world.add("a"), world.add("b")
    a.open("me")
    b.open("in")
    world.meet(a, b)
    world.run(1.0)
    b.listen("in")
    world.drop.append(lambda node, _, frame: node is a and isinstance(frame, Data))
    handled, waiting = a.send("in@b", b"handled"), a.send("in@b", b"waiting")
    world.settle()
    copy = a.disk.copy()
    world.drop.clear()
    a.send("in@b", b"later")
    world.run(5.0)
    b.done(0)
    world.run(5.0)
    a.restart(copy)
    world.run(60.0)
    assert a.remote(b).epoch == 2
    assert (a.receipt(handled), a.receipt(waiting)) == (Sent.HANDLED, Sent.STORED)
    assert b.bodies == [b"handled", b"waiting", b"later"]


def test_a_full_mailbox_says_so() -> None:
    _, node = one()
    node.core.node.inbox.mailboxes["in"].count = MAILBOX_MESSAGES
    with pytest.raises(MeshFull, match="mailbox 'in' is full"):
        node.send("in@a")
    assert node.core.node.inbox.refusal("out", 0) == ("unknown-mailbox", "there is no mailbox 'out'")


# --- expiry ---


def test_a_message_that_expires_while_it_is_written_is_expired_when_it_is() -> None:
    """Even if nobody ever comes for it, its sender must hear of it."""
    world, node = one()
    node.holding = True
    ident = node.send("in@a", ttl=1.0)
    world.run(5.0)
    node.commit_held()
    world.run(1.0)
    assert node.states(ident) == [Sent.STORED, Sent.EXPIRED]


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


def test_a_mailbox_that_is_no_more_can_be_put_back() -> None:
    _, node = one()
    inbox = node.core.node.inbox
    mailbox = inbox.opened("in")
    inbox.remove(mailbox)
    with pytest.raises(AddressError, match="no mailbox 'in'"):
        inbox.opened("in")
    inbox.put_back(mailbox)
    assert inbox.opened("in") is mailbox
