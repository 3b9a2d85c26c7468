"""What the parts of a peer share: other stores, addresses, sending, and the end of a turn."""

from dataclasses import replace

import pytest

from tests.protocol.pair import DEVICE, World, losing, one_way, two
from tests.stores import store_of
from zmesh.protocol import admission
from zmesh.protocol import node as module
from zmesh.protocol.bounds import STORE_RETRY
from zmesh.protocol.codec import encode
from zmesh.protocol.commands import Close, Halt, Sighted
from zmesh.protocol.effects import Dial, Hangup, Persist, SendBack
from zmesh.protocol.frames import Changes, Outcome, Peers, Ping
from zmesh.protocol.journal import InRow, PutPeer
from zmesh.protocol.link import Act
from zmesh.protocol.messages import InMessage
from zmesh.protocol.quotas import default_quotas
from zmesh.protocol.states import Link, Received, Sent

X, Y = store_of(DEVICE, 1), store_of(DEVICE, 2)

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


def test_a_second_device_that_owns_a_store_is_not_admitted_to_it() -> None:
    """Whoever has searched for such a key gains nothing where the owner is known."""
    _, a, b = two()
    assert a.core.node.admit(b.store, "e" * 32, "b", greets=True) is None
    assert a.remote(b).device == b.device


def test_a_store_that_was_forgotten_while_a_commit_was_under_way_stays_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "MAX_PEERS", 1)
    world = World()
    a = world.add("a")
    a.holding = True
    a.command(Sighted(X, "x", a.device, ()))
    forgotten = a.core.node.remotes[X]
    a.command(Sighted(Y, "y", a.device, ()))
    a.core.node.touch(forgotten)
    assert a.core.node.touched == {}
    a.commit_held()
    assert [peer.store for peer in a.disk.snapshot().peers] == [Y]
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


def test_a_link_that_is_held_ends_and_is_not_dialled_until_it_is_free() -> None:
    world, a, b = two()
    node = a.core.node
    node.hold_link(a.remote(b))
    assert [type(effect) for effect in a.core.effects() if isinstance(effect, Hangup | Dial)] == [Hangup]
    assert node.by_link == {}
    node.act(a.remote(b), a.remote(b).link.free(world.now))
    assert [effect.store for effect in a.core.effects() if isinstance(effect, Dial)] == [b.store]


def test_halts_are_restored_before_anybody_is_dialled() -> None:
    world, a, b = two()
    a.command(Halt(a.ticket(), b.store, "process 7"))
    a.kill()
    a.start()
    assert a.remote(b).link.held
    assert world.now


# --- finding ---


def test_an_address_is_resolved_once_and_not_all_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    _, a, _ = two()
    node = a.core.node
    assert node.find("inbox") is node.find("inbox")
    for n in range(5):
        node.find(f"x{n}@b")
    assert len(node._resolved) <= 2  # noqa: SLF001


# --- outcomes ---


def test_outcomes_that_nobody_comes_for_are_bounded_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.protocol.outcomes.KEPT_ENDED", 3)
    world, a, b = two()
    idents = [a.send("inbox@b") for _ in range(5)]
    world.run(1.0)
    a.kill()
    for at in range(5):
        b.done(at)
    assert [row.id for row in b.disk.snapshot().outcomes] == idents[2:]
    a.start()
    world.meet(a, b)
    world.run(10.0)
    assert [a.receipt(ident) for ident in idents] == [Sent.STORED] * 2 + [Sent.HANDLED] * 3
    assert not b.remote(a).outcomes.pending


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


def test_a_greeting_waits_for_what_came_on_earlier_links_and_no_other() -> None:
    world, a, b = two()
    b.holding = True
    a.send("inbox@b")
    world.settle()
    node, remote = b.core.node, b.remote(a)
    node.greet(remote)
    assert len(node.turn.drain()) == 1, "it came on the present link"
    remote.new_link(b"new link")
    node.greet(remote)
    assert (remote.hello_due, node.turn.drain()) == (True, [])
    b.commit_held()
    node.greet(remote)
    assert (remote.hello_due, len(node.turn.drain())) == (False, 1)


def test_a_ping_repeats_the_roster_until_it_is_known() -> None:
    world, a, b = two()
    world.drop += [losing(Peers, a), losing(Changes, a)]
    a.open("new")
    world.run(1.0)
    assert "new" not in b.remote(a).roster.agents
    world.drop.clear()
    world.run(5.0)
    assert "new" in b.remote(a).roster.agents
    pings = len(world.frames(Ping, "a"))
    assert world.frames(Changes, "a")
    peers = len(world.frames(Peers, "a"))
    world.run(30.0)
    assert len(world.frames(Ping, "a")) > pings
    assert len(world.frames(Peers, "a")) == peers


def test_when_a_store_was_heard_last_is_kept_once_it_is_gone() -> None:
    world, a, b = two()
    writes: list[PutPeer] = []
    commit = a.commit

    def watched(effect: Persist) -> None:
        writes.extend(op for op in effect.ops if isinstance(op, PutPeer))
        commit(effect)

    a.commit = watched  # type: ignore[method-assign]
    world.run(20.0)
    heard = a.remote(b).link.heard
    b.kill()
    world.run(300.0)
    assert [op.last_seen for op in writes] == [heard], "however often it is dialled in vain"
    a.restart()
    assert a.remote(b).link.heard == heard


def test_a_store_that_closes_knows_until_when_it_heard_others() -> None:
    world, a, b = two()
    world.run(20.0)
    a.command(Close())
    (row,) = a.disk.snapshot().peers
    assert row.last_seen == a.remote(b).link.heard > 1005.0


def test_the_log_is_not_filled_by_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    world, a, _ = two()
    node = a.core.node
    for _ in range(5):
        node.say("warning", "d", "code", "text")
    assert len(a.core.node.turn.drain()) == 1
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


def test_two_stores_of_one_name_are_told_apart_in_the_log() -> None:
    _, a, b = two()
    assert a.core.node.describe(a.remote(b)).startswith("b~")


def test_all_links_end_with_the_peer() -> None:
    world, a, b = two()
    a.command(Close())
    world.settle()
    assert b.remote(a).link.state is Link.IDLE
    assert b.inserted(b"none") == list[Received]()


# --- who cannot be dialled ---


def test_frames_for_who_cannot_be_dialled_go_back_on_its_connection_sealed_to_its_device() -> None:
    world, a, b = one_way()
    assert b.core.node.ways == {a.store: a.device}
    b.core.command(Close(), world.now)
    (bye,) = [effect for effect in b.core.effects() if isinstance(effect, SendBack)]
    assert (bye.store, bye.device, bye.path) == (a.store, a.device, a.store)
    assert a.core.node.ways == {}


def test_a_way_that_another_device_took_over_is_left() -> None:
    world, a, b = one_way()
    c = world.add("c")
    world.meet(b, c)
    world.run(1.0)
    world.inject(b, encode(b"whoever ", Ping(1, (0,) * 5, (0,) * 5, 1)), "e" * 32, a.store)
    assert b.remote(c).up
    assert not b.remote(a).up
    assert b.core.node.ways == {}
    assert any("way-taken" in notice.text for notice in b.notices)
    before = len(world.frames(Ping, "b"))
    world.run(0.5)
    assert len(world.frames(Ping, "b")) == before, "nothing more goes there"
    world.run(30.0)
    assert b.remote(a).up, "they have called again"


def test_a_frame_of_the_same_device_takes_nothing_over() -> None:
    world, a, b = one_way()
    world.inject(b, encode(b"whoever ", Ping(1, (0,) * 5, (0,) * 5, 1)), DEVICE, a.store)
    world.inject(b, encode(b"whoever ", Ping(1, (0,) * 5, (0,) * 5, 1)), "e" * 32, b"another path")
    assert b.remote(a).link.via == a.store


def test_once_it_can_be_dialled_its_way_is_forgotten() -> None:
    world, a, b = one_way()
    world.walled.clear()
    world.run(60.0)
    assert b.remote(a).up
    assert b.remote(a).link.via == b""
    assert b.core.node.ways == {}


def test_what_was_confirmed_and_could_not_be_dropped_is_dropped_later() -> None:
    world, a, b = two()
    remote = b.remote(a)
    b.failing = "disk full"
    b.core.node.drop_outcomes(remote)
    b.flush()
    assert remote.outcomes.undropped
    b.failing = ""
    world.run(5.0)
    assert not remote.outcomes.undropped


def test_who_finds_no_place_is_not_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_PEERS", 0)
    a = World().add("a")
    assert a.core.node.admit(X, a.device, "x", greets=True) is None


# --- quotas ---


def test_quotas_hold_for_both_halves_and_after_a_restore() -> None:
    _, a, _ = two()
    quotas = replace(default_quotas(), peer_messages=7, mailbox_messages=8)
    a.core.node.limit(quotas)
    a.core.node.restore(a.disk.snapshot())
    assert a.core.node.quotas is a.core.node.inbox.quotas is a.core.node.outbox.quotas is quotas
