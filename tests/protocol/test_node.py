"""What the parts of a peer share: other stores, addresses, sending, and the end of a turn."""

import pytest

from tests.protocol.pair import World, losing, two
from zmesh.errors import AmbiguousAddress
from zmesh.protocol import node as module
from zmesh.protocol.bounds import AGENTS_PER_PAGE, STORE_RETRY
from zmesh.protocol.effects import Close, Dial, Hangup, OpenMailbox, Sighted
from zmesh.protocol.frames import Ack, Data, Outcome, Peers, Ping
from zmesh.protocol.journal import InRow, PutPeer
from zmesh.protocol.link import Act
from zmesh.protocol.messages import InMessage
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Link, Received, Sent

FULL = 1 << 40


# --- restore ---


def test_a_restarted_peer_dials_whom_it_knows_and_goes_on() -> None:
    world, a, b = two()
    a.send("inbox@b")
    b.kill()
    a.send("inbox@b", b"second")
    a.restart()
    assert a.remote(b).link.state is Link.DIALING
    b.start()
    b.listen("inbox")
    world.run(10.0)
    assert b.bodies[-1] == b"second"


# --- other stores ---


def test_the_store_unseen_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PEERS", 2)
    world = World()
    a = world.add("a")
    stores = [bytes([n]) * 16 for n in range(1, 5)]
    for store in stores[:2]:
        world.now += 1.0
        a.command(Sighted(store, "x", a.device, ("tcp://192.0.2.1:1",)))
    world.now += 1.0
    assert a.core.node.admit(stores[1], a.device, "x") is a.core.node.remotes[stores[1]]
    a.command(Sighted(stores[2], "x", a.device, ()))
    assert list(a.core.node.remotes) == stores[1:3]
    assert [peer.store for peer in a.disk.snapshot().peers] == stores[1:3]


def test_nobody_who_is_owed_anything_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    world, a, b = two()
    monkeypatch.setattr(module, "MAX_PEERS", 1)
    b.kill()
    a.send("inbox@b")
    world.run(60.0)
    a.command(Sighted(b"x" * 16, "x", a.device, ()))
    assert list(a.core.node.remotes) == [b.store]
    assert any("too-many-peers" in notice.text for notice in a.notices)


def test_a_store_that_was_forgotten_while_a_commit_was_under_way_stays_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_PEERS", 1)
    world = World()
    a = world.add("a")
    a.holding = True
    a.command(Sighted(b"x" * 16, "x", a.device, ()))
    forgotten = a.core.node.remotes[b"x" * 16]
    a.command(Sighted(b"y" * 16, "y", a.device, ()))
    a.core.node.touch(forgotten)
    assert a.core.node.touched == {}
    a.commit_held()
    assert [peer.store for peer in a.disk.snapshot().peers] == [b"y" * 16]
    assert world.now


def test_what_is_known_of_a_store_is_written_before_its_streams_however_often_it_fails() -> None:
    world = World()
    a, b = world.add("a"), world.add("b")
    b.open("inbox")
    a.failing = "disk full"
    world.meet(a, b)
    world.run(3.0)
    assert a.disk.snapshot().peers == ()
    a.failing = ""
    a.send("inbox@b")
    world.run(STORE_RETRY)
    assert [type(peer) for peer in a.disk.snapshot().peers] == [PutPeer]
    a.restart()
    assert a.remote(b).device == b.device


# --- finding ---


def test_an_address_is_resolved_once_and_not_all_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    _, a, _ = two()
    node = a.core.node
    assert node.find("inbox") is node.find("inbox")
    for n in range(5):
        node.find(f"x{n}@b")
    assert len(node._resolved) <= 2  # noqa: SLF001


def test_a_message_for_two_peers_of_one_name_waits_until_there_is_one() -> None:
    world = World()
    a = world.add("a")
    ident = a.send("inbox@b")
    one, other = (world.add("b", store=bytes([number]) * 16) for number in (1, 2))
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
    assert a.core.node.place_of(message) is None
    message.dest = b.store
    assert a.core.node.place_of(message) is a.remote(b)


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


# --- outcomes ---


def test_an_outcome_of_a_message_to_ourselves_needs_no_network() -> None:
    _, a, _ = two()
    ident = a.send("me@a")
    a.listen("me")
    a.done()
    assert a.states(ident) == [Sent.STORED, Sent.HANDLED]
    assert a.receipt(ident) is Sent.HANDLED


def test_an_outcome_for_a_store_that_was_forgotten_is_told_to_nobody() -> None:
    _, a, _ = two()
    row = InRow(1, b"i" * 16, b"forgotten".ljust(16), "me", 2, 1, 0.0, None, 1)
    a.core.node.report(InMessage(row), "handled", "")
    assert not a.core.node.turn.open


def test_an_outcome_whose_commit_failed_is_taken_back() -> None:
    world, a, b = two()
    ident = a.send("inbox@b")
    world.run(1.0)
    b.failing = "disk full"
    b.done()
    assert not b.remote(a).outcomes.pending
    b.failing = ""
    world.run(2.0)
    b.done()
    world.run(2.0)
    assert a.receipt(ident) is Sent.HANDLED
    assert [f.first for f in world.frames(Outcome) if isinstance(f, Outcome)] == [1]


# --- sending ---


def test_what_the_link_wants_is_done() -> None:
    _, a, b = two()
    remote, node = a.remote(b), a.core.node
    node.act(remote, Act(dial="tcp://192.0.2.1:1", hangup=True))
    effects = node.turn.drain()
    assert effects == [Hangup(b.store), Dial(b.store, b.device, "tcp://192.0.2.1:1")]


def test_a_ping_repeats_the_roster_until_it_is_known() -> None:
    world, a, b = two()
    world.drop.append(losing(Peers, a))
    a.open("new")
    world.run(1.0)
    assert "new" not in b.remote(a).roster.agents
    world.drop.clear()
    world.run(5.0)
    assert "new" in b.remote(a).roster.agents
    pings = len(world.frames(Ping, "a"))
    peers = len(world.frames(Peers, "a"))
    world.run(30.0)
    assert len(world.frames(Ping, "a")) > pings
    assert len(world.frames(Peers, "a")) == peers


def test_a_long_roster_goes_in_pages_and_not_for_every_change() -> None:
    world, a, b = two()
    before = len(world.frames(Peers, "a"))
    a.open(*[f"m{n}" for n in range(AGENTS_PER_PAGE)])
    world.run(1.0)
    pages = [f for f in world.frames(Peers, "a")[before:] if isinstance(f, Peers)]
    assert len(b.remote(a).roster.agents) == AGENTS_PER_PAGE + 1
    assert len(pages) <= 3
    assert pages[-1].page == pages[-1].pages - 1 == 1


def test_a_roster_is_not_sent_where_nobody_listens() -> None:
    world, a, b = two()
    b.kill()
    world.run(30.0)
    before = len(world.frames(Peers, "a"))
    a.open("new")
    world.run(1.0)
    assert len(world.frames(Peers, "a")) == before


def test_the_log_is_not_filled_by_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    world, a, _ = two()
    node = a.core.node
    for _ in range(5):
        node.say("warning", "d", "code", "text")
    assert len([n for n in a.core.node.turn.drain()]) == 1  # noqa: C416
    for number in range(5):
        node.say("warning", "d", f"code{number}", "text", audit=True)
    a.flush()
    assert len(a.audits("code0")) == 1
    world.now += 60.0
    a.core.wake(world.now)
    node.say("warning", "d", "code4", "text", audit=True)
    a.flush()
    assert len(a.audits("code4")) == 2


# --- the end of a turn ---


def test_a_full_disk_is_not_hammered_and_nothing_is_lost() -> None:
    world, a, b = two()
    tries = []
    commit = b.commit
    b.commit = lambda effect: (tries.append(effect), commit(effect))[1]  # type: ignore[func-returns-value,method-assign]
    b.failing = "disk full"
    idents = [a.send("inbox@b", b"%d" % n) for n in range(10)]
    world.run(30.0)
    assert len(tries) < 200
    assert [a.states(ident) for ident in idents] == [[]] * 10
    b.failing = ""
    world.run(10.0)
    assert b.bodies == [b"%d" % n for n in range(10)]
    assert [a.receipt(ident) for ident in idents] == [Sent.STORED] * 10


def test_a_stream_whose_row_was_not_written_is_written_with_the_next_one() -> None:
    """A new epoch of theirs fails to commit: after a restart no class may be left in the old one."""
    world, a, b = two()
    for priority in Priority:
        a.send("inbox@b", priority=priority)
    world.run(1.0)
    copy = a.disk.copy()
    a.send("inbox@b", b"ahead")
    world.run(1.0)
    b.kill()
    a.restart(copy)
    b.start()
    b.listen("inbox")
    b.failing = "disk full"
    a.send("inbox@b", b"new", ident=b"new".ljust(16))
    world.run(5.0)
    b.failing = ""
    world.run(5.0)
    rows = b.disk.snapshot().in_streams
    assert {row.epoch for row in rows} == {2}
    b.restart()
    world.run(5.0)
    assert not b.audits("lost")
    assert a.remote(b).epoch == 2


def test_bodies_are_read_back_once_while_the_answer_is_under_way() -> None:
    world, a, b = two()
    b.kill()
    world.run(30.0)
    for number in range(100):
        a.send("inbox@b", b"%d" % number)
    a.restart()
    b.start()
    b.listen("inbox")
    world.run(10.0)
    assert b.bodies == [b"%d" % number for number in range(100)]
    assert all(isinstance(frame, Data) for frame in world.frames(Data, "a"))


def test_a_body_that_is_lost_holds_nobody_up() -> None:
    world, a, b = two()
    b.kill()
    a.send("inbox@b", b"damaged")
    a.send("inbox@b", b"whole")
    a.restart()
    a.damaged = {a.disk.out_rows()[0].row}
    b.start()
    b.listen("inbox")
    world.run(10.0)
    assert b.bodies == [b"whole"]


def test_what_flies_unconfirmed_is_bounded_and_critical_messages_pass_it() -> None:
    world, a, b = two()
    world.drop.append(losing(Ack, b))
    for number in range(5):
        a.send("inbox@b", bytes([number]) * 60_000)
    world.settle()
    assert len(b.bodies) == 4
    a.send("inbox@b", b"urgent", priority=Priority.CRITICAL)
    world.settle()
    assert b.bodies[-1] == b"urgent"
    world.drop.clear()
    world.run(10.0)
    assert len(b.bodies) == 6


def test_two_stores_of_one_name_are_told_apart_in_the_log() -> None:
    _, a, b = two()
    assert a.core.node.describe(a.remote(b)).startswith("b~")


def test_all_links_end_with_the_peer() -> None:
    world, a, b = two()
    a.command(Close())
    world.settle()
    assert b.remote(a).link.state is Link.IDLE
    assert b.inserted(b"none") == list[Received]()
