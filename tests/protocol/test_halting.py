"""What an administrator halts: all mail of a peer, mail with one store, new sends; each until it is released."""

from typing import TYPE_CHECKING, Any

import pytest

from tests.protocol.pair import Node, World, losing, one_way, two
from zmesh.errors import PeerHalted, UnknownAgent
from zmesh.protocol.bounds import MAX_TEXT, REST_REDIAL
from zmesh.protocol.codec import decode
from zmesh.protocol.commands import Done, Drain, Halt, Release, Send, Sighted
from zmesh.protocol.frames import Bye, Data, Frame, Hello
from zmesh.protocol.halting import EVERYBODY
from zmesh.protocol.journal import DropPeer
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Link, Sent

if TYPE_CHECKING:
    from zmesh.protocol.effects import Dial

WHO = "process 7"


def halt(node: Node, store: bytes = EVERYBODY, by: str = WHO) -> int:
    ticket = node.ticket()
    node.command(Halt(ticket, store, by))
    return ticket


def release(node: Node, store: bytes = EVERYBODY) -> int:
    ticket = node.ticket()
    node.command(Release(ticket, store))
    return ticket


def drain(node: Node, by: str = WHO) -> int:
    ticket = node.ticket()
    node.command(Drain(ticket, by))
    return ticket


def three() -> tuple[World, Node, Node, Node]:
    """As `two`, and c, which knows a."""
    world, a, b = two()
    c = world.add("c")
    c.open("inbox")
    c.listen("inbox")
    world.meet(a, c)
    world.run(1.0)
    assert a.remote(b).up
    assert a.remote(c).up
    return world, a, b, c


def byes(world: World, source: str = "") -> list[str]:
    """The codes of the BYEs that went out, on links and as answers."""
    said: list[Any] = world.frames(Bye, source)
    answered = [decode(answer.parts)[1] for answer in world.answers] if not source else []
    return [frame.code for frame in [*said, *answered] if isinstance(frame, Bye)]


# --- a pause ---


def test_a_pause_ends_all_links_with_a_bye_and_mail_waits_at_both_ends() -> None:
    world, a, b, c = three()
    a.open("box")
    ticket = halt(a)
    world.settle()
    assert ticket in a.settled
    assert byes(world, "a") == ["paused", "paused"]
    there, here = a.send("inbox@b"), b.send("box@a")
    world.run(3600.0)
    assert not any(one.remote(other).up for one, other in ((a, b), (b, a), (a, c), (c, a)))
    assert (a.receipt(there), b.receipt(here)) == (Sent.QUEUED, Sent.QUEUED)
    assert "paused" in b.remote(a).trouble
    assert a.core.node.halting.of(b.store) == a.core.node.halting.halts[EVERYBODY]


def test_mail_within_the_store_goes_on_during_a_pause() -> None:
    _, a, _ = two()
    a.open("box")
    a.listen("box")
    halt(a)
    a.send("box@a", b"here")
    assert a.bodies == [b"here"]


def test_who_is_paused_dials_nobody_whom_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    world, a, b = two()
    halt(a)
    dialled: list[Dial] = []
    monkeypatch.setattr(world, "dial", lambda node, effect: dialled.append(effect) if node is a else None)
    new = world.add("new")
    a.command(Sighted(b.store, "b", b.device, (b.endpoint,)))
    a.command(Sighted(new.store, "new", new.device, (new.endpoint,)))
    world.run(3600.0)
    assert not dialled
    release(a)
    assert {effect.store for effect in dialled} == {b.store, new.store}


def test_who_greets_is_told_that_the_peer_is_paused_and_does_not_ask_often() -> None:
    world, a, b = two()
    halt(a)
    world.settle()
    world.run(REST_REDIAL / 2)
    before = len(world.frames(Hello, "b"))
    world.run(10 * REST_REDIAL)
    asked = len(world.frames(Hello, "b")) - before
    assert 5 <= asked <= 11
    assert byes(world).count("paused") == 1 + asked
    assert len([notice for notice in b.notices if "hung up" in notice.text]) == 1


def test_whoever_has_not_heard_the_bye_hears_it_when_it_greets() -> None:
    world, a, b = two()
    world.run(20.0)  # nothing is under way any more
    world.drop.append(losing(Bye, a))
    halt(a)
    world.settle()
    assert b.remote(a).up
    world.run(20.0)
    assert not b.remote(a).up
    assert "paused" in b.remote(a).trouble


def test_a_stranger_that_greets_a_paused_peer_is_turned_away_too() -> None:
    world, a, _ = two()
    halt(a)
    new = world.add("new")
    world.meet(new, a)
    assert new.store not in a.core.node.remotes or not a.remote(new).up
    assert "paused" in new.remote(a).trouble


def test_a_resumed_peer_is_linked_again_at_once_and_mail_flows() -> None:
    world, a, b = two()
    a.open("box")
    a.listen("box", 2)
    halt(a)
    world.run(600.0)
    a.send("inbox@b", b"there")
    b.send("box@a", b"back")
    assert release(a) in a.settled
    world.run(0.5)
    assert (a.bodies, b.bodies) == ([b"back"], [b"there"])
    assert b.core.node.remotes[a.store].trouble == ""


def test_a_pause_lasts_over_a_restart() -> None:
    world, a, b = two()
    halt(a)
    said = a.core.node.halting.halts[EVERYBODY]
    a.restart()
    world.run(60.0)
    assert not a.remote(b).up
    assert a.core.node.halting.halts == {EVERYBODY: said}
    assert said.by == WHO
    release(a)
    world.run(1.0)
    assert a.remote(b).up
    a.restart()
    world.run(20.0)
    assert a.remote(b).up


def test_nothing_is_halted_and_nobody_told_before_it_is_on_disk() -> None:
    world, a, b = two()
    a.holding = True
    ticket = halt(a)
    world.settle()
    assert (byes(world), a.remote(b).up, ticket in a.settled) == ([], True, False)
    a.commit_held()
    world.settle()
    assert (byes(world, "a"), a.remote(b).up, ticket in a.settled) == (["paused"], False, True)


def test_what_cannot_be_written_is_not_halted_and_what_is_not_released_stays_so() -> None:
    world, a, b = two()
    a.failing = "the disk is full"
    ticket = halt(a)
    assert a.failures[ticket].reason == "the disk is full"
    assert a.remote(b).up
    a.failing = ""
    world.run(1.0)
    halt(a)
    a.failing = "the disk is full"
    ticket = release(a)
    assert ticket in a.failures
    world.run(60.0)
    assert not a.remote(b).up


def test_a_second_pause_changes_nothing_and_a_second_release_neither() -> None:
    world, a, b = two()
    halt(a)
    said = a.core.node.halting.halts[EVERYBODY]
    world.run(60.0)
    before = len(byes(world, "a"))
    assert halt(a, by="somebody else") in a.settled
    assert a.core.node.halting.halts[EVERYBODY] == said
    assert a.disk.snapshot().halts == (said,)
    assert len(byes(world, "a")) == before
    for _ in range(2):
        assert release(a) in a.settled
    world.run(1.0)
    assert a.remote(b).up
    assert a.disk.snapshot().halts == ()


def test_who_says_it_is_kept_in_so_many_characters() -> None:
    _, a, _ = two()
    halt(a, by="x" * 1000)
    assert a.core.node.halting.halts[EVERYBODY].by == "x" * MAX_TEXT


def test_a_link_on_the_connection_of_the_other_side_is_ended_as_well() -> None:
    world, a, b = one_way()
    assert b.remote(a).link.via
    halt(b)
    world.settle()
    assert not a.remote(b).up
    assert "paused" in a.remote(b).trouble
    release(b)
    world.run(2 * REST_REDIAL)  # b cannot dial: a does, when it is time
    assert b.remote(a).up


def test_a_hello_that_comes_back_late_on_our_own_connection_is_not_heeded() -> None:
    world, a, b = two()
    halt(a)
    world.settle()
    before = len(world.answers)
    assert a.core.node.halting.turns_away(b.store, b"x" * 8, b"")
    a.flush()
    assert len(world.answers) == before


def test_two_that_are_paused_meet_when_both_are_resumed() -> None:
    world, a, b = two()
    halt(a)
    halt(b)
    world.run(60.0)
    release(a)
    world.run(60.0)
    assert not a.remote(b).up
    release(b)
    world.run(1.0)
    assert a.remote(b).up


# --- one store ---


def test_one_store_is_disconnected_and_the_others_are_not() -> None:
    world, a, b, c = three()
    halt(a, b.store)
    world.run(60.0)
    assert not a.remote(b).up
    assert a.remote(c).up
    assert "disconnected" in byes(world, "a")
    assert "disconnected" in b.remote(a).trouble
    a.send("inbox@c", b"for c")
    ident = a.send("inbox@b", b"for b")
    world.run(1.0)
    assert (c.bodies, a.receipt(ident)) == ([b"for c"], Sent.QUEUED)
    release(a, b.store)
    world.run(1.0)
    assert b.bodies == [b"for b"]


def test_a_disconnection_lasts_over_a_restart_and_a_pause() -> None:
    world, a, b, c = three()
    halt(a, b.store)
    halt(a)
    a.restart()
    release(a)
    world.run(60.0)
    assert (a.remote(b).up, a.remote(c).up) == (False, True)


def test_a_store_that_was_disconnected_and_whose_row_is_gone_is_still_so() -> None:
    world, a, b, _ = three()
    halt(a, b.store)
    a.disk.apply([DropPeer(b.store)])
    b.kill()
    a.restart()
    assert a.remote(b).link.held
    b.start()
    world.meet(a, b)
    world.run(60.0)
    assert a.remote(b).link.held
    assert not a.remote(b).up


def test_a_store_that_is_not_known_cannot_be_disconnected() -> None:
    _, a, _ = two()
    with pytest.raises(UnknownAgent, match="zmesh peers"):
        halt(a, b"?" * 16)
    assert a.disk.snapshot().halts == ()


def test_a_store_is_disconnected_while_it_is_away() -> None:
    world, a, b = two()
    b.kill()
    world.run(20.0)
    halt(a, b.store)
    b.start()
    world.run(60.0)
    assert a.remote(b).link.state is Link.IDLE
    assert not b.remote(a).up


# --- what a sender is told ---


def test_a_sender_is_told_why_its_message_waits() -> None:
    _, a, b, _ = three()

    def warning(address: str) -> str:
        a.send(address)
        return a.settled[a.tickets].warning

    a.open("box")
    assert warning("inbox@b") == ""
    halt(a, b.store)
    assert f"zmesh admin reconnect b~{a.core.node.describe(a.remote(b))[2:]}" in warning("inbox@b")
    assert warning("inbox@c") == ""
    halt(a)
    assert "zmesh admin resume" in warning("inbox@b")
    assert "zmesh admin resume" in warning("inbox@c")
    assert "zmesh admin resume" in warning("x@nowhere")
    assert warning("box@a") == ""
    assert "no mailbox" in warning("other@a")


def test_a_sender_is_told_that_its_message_waits_for_a_halt_elsewhere() -> None:
    world, a, b = two()
    halt(b)
    world.run(5.0)
    assert a.remote(b).trouble == "it is paused: mail for it waits until it is resumed there"
    a.send("inbox@b")
    assert a.settled[a.tickets].warning == f"b: {a.remote(b).trouble}"
    a.remote(b).trouble = "it says something else"  # only what is known is taken for a reason
    a.send("inbox@b")
    assert a.settled[a.tickets].warning == ""


# --- draining ---


def test_a_peer_that_is_drained_takes_no_new_sends_until_it_is_resumed() -> None:
    world, a, b = two()
    assert drain(a) in a.settled
    drain(a, "somebody else")
    for address in ("inbox@b", "me@a"):
        with pytest.raises(PeerHalted, match="process 7 has it drained, until `zmesh admin resume`"):
            a.send(address)
    assert a.disk.out_rows() == []
    assert a.remote(b).up
    release(a)
    a.send("inbox@b")
    world.run(1.0)
    assert b.bodies == [b"hello"]


def test_what_was_accepted_before_goes_out_and_answers_still_do() -> None:
    world, a, b = two()
    a.open("box")
    a.listen("box", 2)
    b.send("box@a", b"question")
    world.run(1.0)
    a.holding = True
    a.send("inbox@b", b"before")
    ticket = drain(a)
    a.send("inbox@b", b"meanwhile")
    assert ticket not in a.settled
    a.commit_held()
    assert ticket in a.settled
    question = a.deliveries[0]
    a.send("inbox@b", b"an answer", reply_to=question.id)
    reply = Send(
        a.ticket(), b"r" * 16, "inbox@b", "box", Priority.NORMAL, None, "reply", b"", b"", 0, packed=False, body=b"end"
    )
    a.command(Done(a.ticket(), 2, question.row, reply))
    world.run(1.0)
    assert b.bodies == [b"before", b"meanwhile", b"an answer", b"end"]


def test_a_send_that_comes_a_second_time_is_the_same_one_also_while_draining() -> None:
    _, a, b = two()
    b.kill()
    ident = a.send("inbox@b")
    drain(a)
    assert a.send("inbox@b", ident=ident) == ident
    assert a.settled[a.tickets].id == ident
    assert len(a.disk.out_rows()) == 1


def test_a_drain_does_not_last_over_a_restart_nor_begin_when_its_commit_fails() -> None:
    world, a, b = two()
    a.failing = "the disk is full"
    assert drain(a) in a.failures
    a.failing = ""
    world.run(1.0)
    a.send("inbox@b", b"one")
    drain(a)
    a.restart()
    a.send("inbox@b", b"two")
    world.run(20.0)
    assert b.bodies == [b"one", b"two"]


def test_a_paused_peer_cannot_be_drained() -> None:
    _, a, _ = two()
    halt(a)
    with pytest.raises(PeerHalted, match="zmesh admin resume"):
        drain(a)


def test_no_frame_of_a_halted_store_is_taken_in() -> None:
    """What was under way when the halt came is dropped, and comes again afterwards."""
    world, a, b = two()
    a.open("box")
    a.listen("box", 2)
    world.run(1.0)
    kept: list[Frame] = []

    def keep(source: Node, _: Node, frame: Frame) -> bool:
        if source is b and isinstance(frame, Data):
            kept.append(frame)
        return False

    world.drop.append(keep)
    b.send("box@a", b"late")  # its DATA is in the queue
    a.holding = True
    halt(a)
    a.commit_held()
    world.settle()
    assert kept
    assert a.bodies == []
    release(a)
    world.run(2.0)
    assert a.bodies == [b"late"]
