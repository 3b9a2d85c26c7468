"""The end of a turn: what goes out, what is written down, and how much at once."""

import pytest

from tests.protocol.pair import losing, two
from zmesh.protocol.bounds import AGENTS_PER_PAGE, OUTCOMES_PER_FRAME
from zmesh.protocol.commands import Attach
from zmesh.protocol.frames import Ack, Changes, Data, Hello, Outcome, Peers
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Sent

# --- sending ---


def test_a_long_roster_goes_in_pages_and_not_for_every_change() -> None:
    world, a, b = two()
    before = len(world.frames(Peers, "a"))
    a.open(*[f"m{n}" for n in range(AGENTS_PER_PAGE + 2)])
    world.run(1.0)
    pages = [f for f in world.frames(Peers, "a")[before:] if isinstance(f, Peers)]
    assert len(b.remote(a).roster.agents) == AGENTS_PER_PAGE + 3
    assert len(pages) == 2
    assert len(world.frames(Changes, "a")) == 1, "the first one was told at once"
    assert pages[-1].page == pages[-1].pages - 1 == 1


def test_a_roster_is_not_sent_where_nobody_listens() -> None:
    world, a, b = two()
    b.kill()
    world.run(30.0)
    before = len(world.frames(Peers, "a"))
    a.open("new")
    world.run(1.0)
    assert len(world.frames(Peers, "a")) == before
    assert not world.frames(Changes, "a")


def test_one_change_among_many_agents_travels_alone() -> None:
    world, a, b = two()
    a.open(*[f"m{n}" for n in range(1000)])
    world.run(1.0)
    before = len(world.log)
    a.command(Attach("m500", 1))
    world.run(1.0)
    told = [frame for name, _, frame in world.log[before:] if name == "a" and isinstance(frame, Peers | Changes)]
    assert [type(frame) for frame in told] == [Changes]
    assert [agent.name for agent in told[0].agents] == ["m500"]
    assert b.remote(a).roster.agents["m500"].status == "idle"
    assert len(b.remote(a).roster.agents) == 1001


# --- the end of a turn ---


@pytest.mark.parametrize(("failing", "cursor"), [("", 1), ("disk full", 0)])
def test_a_greeting_that_waits_for_the_disk_goes_out_with_the_end_of_the_commit(failing: str, cursor: int) -> None:
    world, a, b = two()
    b.holding = True
    ident = a.send("inbox@b")
    world.settle()
    a.kill()
    before = len(world.frames(Hello, "b"))
    a.restart()
    world.run(0.5)
    assert not a.remote(b).up
    assert len(world.frames(Hello, "b")) == before
    b.failing = failing
    b.commit_held()
    hellos = [frame for frame in world.frames(Hello, "b") if isinstance(frame, Hello)]
    assert [hello.cursors[Priority.NORMAL].number for hello in hellos[before:]] == [cursor]
    b.failing = ""
    world.run(5.0)
    assert (a.receipt(ident), b.bodies) == (Sent.STORED, [b"hello"])


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


def test_what_became_of_messages_goes_out_with_everything_else() -> None:
    world, a, b = two()
    idents = [a.send("inbox@b") for _ in range(OUTCOMES_PER_FRAME + 1)]
    world.run(1.0)
    b.holding = True
    for at in range(len(idents)):
        b.done(at)
    assert world.frames(Outcome) == []
    b.commit_held()
    told = [frame for frame in world.frames(Outcome, "b") if isinstance(frame, Outcome)]
    assert [sum([len(fate.ids) for fate in frame.fates]) for frame in told] == [OUTCOMES_PER_FRAME, 1]
    world.run(1.0)
    assert {a.receipt(ident) for ident in idents} == {Sent.HANDLED}


def test_an_urgent_class_goes_first_however_much_is_queued() -> None:
    world, a, b = two()
    b.kill()
    world.run(30.0)
    for priority in (Priority.BULK, Priority.NORMAL, Priority.CRITICAL):
        for number in range(3):
            a.send("inbox@b", b"%d.%d" % (priority, number), priority=priority)
    b.start()
    world.run(10.0)
    sent = [frame.klass for frame in world.frames(Data, "a") if isinstance(frame, Data)]
    assert sent[0] == Priority.CRITICAL
    assert sent.index(Priority.NORMAL) < sent.index(Priority.BULK)
