"""What the others are told of our mailboxes: when a version is due, what is in it, and what each of them needs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.pair import SeededEntropy, losing, two
from zmesh.protocol import own_roster as module
from zmesh.protocol.bounds import AGENTS_PER_PAGE, ROSTER_GAP, STATUS_LASTS
from zmesh.protocol.commands import Attach, Detach, SetStatus
from zmesh.protocol.deadlines import NEVER
from zmesh.protocol.frames import Changes, Data, Peers
from zmesh.protocol.journal import InRow, PutMailbox
from zmesh.protocol.mailbox import Holder, Mailbox
from zmesh.protocol.messages import InMessage
from zmesh.protocol.own_roster import OwnRoster
from zmesh.protocol.remote import Roster
from zmesh.protocol.turn import Turn

NOW = 50.0

unhurried = settings(deadline=None)  # a busy machine is no reason to fail


def make(*names: str) -> tuple[OwnRoster, Turn, dict[str, Mailbox]]:
    """A roster that was told once."""
    turn = Turn(SeededEntropy(0), NOW)
    roster = OwnRoster(turn)
    mailboxes = {name: Mailbox(PutMailbox(name, "", ())) for name in names}
    for mailbox in mailboxes.values():
        roster.note(mailbox)
    roster.renew()
    return roster, turn, mailboxes


def hold(mailbox: Mailbox, *, here: bool = True) -> Holder:
    holder = mailbox.holders[1] = Holder(1, mailbox)
    holder.here = here
    return holder


def lease(holder: Holder) -> None:
    holder.leases[1] = InMessage(InRow(1, b"i" * 16, b"s" * 16, holder.mailbox.name, 2, 0, 0.0, None, 1))


# --- when -------------------------------------------------------------------------------------------------------------


def test_without_mailboxes_there_is_one_empty_page() -> None:
    roster, _, _ = make()
    assert roster.due == NEVER
    assert roster.frames(0) == [Peers(1, 0, 1, ())]


def test_what_somebody_did_is_told_at_once_and_then_after_a_gap() -> None:
    roster, turn, mailboxes = make("a")
    turn.now += ROSTER_GAP
    roster.note(mailboxes["a"])
    assert roster.due == turn.now
    hold(mailboxes["a"])
    assert roster.renew()
    turn.now += 0.01
    roster.note(mailboxes["a"])
    assert roster.due == pytest.approx(NOW + 2 * ROSTER_GAP)


def test_what_lasts_only_for_a_message_is_not_told() -> None:
    roster, turn, mailboxes = make("a")
    holder = hold(mailboxes["a"])
    roster.note(mailboxes["a"])
    roster.renew()
    roster.stir(mailboxes["a"])
    assert roster.due == NOW + STATUS_LASTS
    turn.now += 0.1
    roster.stir(mailboxes["a"])
    assert roster.due == NOW + STATUS_LASTS, "it is not put off"
    version = roster.version
    assert not roster.renew()
    lease(holder)
    roster.stir(mailboxes["a"])
    assert roster.renew()
    assert (roster.version, roster.due) == (version + 1, NEVER)


def test_what_must_be_told_does_not_wait_for_what_may_pass() -> None:
    roster, turn, mailboxes = make("a")
    roster.stir(mailboxes["a"])
    turn.now += ROSTER_GAP
    roster.note(mailboxes["a"])
    assert roster.due == turn.now
    roster.stir(mailboxes["a"])
    assert roster.due == turn.now


def test_who_came_and_went_within_the_gap_was_there() -> None:
    roster, _, mailboxes = make("a")
    holder = hold(mailboxes["a"])
    roster.note(mailboxes["a"])
    holder.here, mailboxes["a"].seen = False, NOW
    assert roster.renew()
    assert roster.frames(1)[0].agents[0].since_ms == 0


# --- what -------------------------------------------------------------------------------------------------------------


def test_a_long_roster_has_pages_and_every_mailbox_once() -> None:
    roster, _, mailboxes = make(*[f"m{n}" for n in range(2 * AGENTS_PER_PAGE + 1)])
    frames = roster.frames(0)
    assert [(frame.page, frame.pages) for frame in frames if isinstance(frame, Peers)] == [(0, 3), (1, 3), (2, 3)]
    assert sorted(agent.name for frame in frames for agent in frame.agents) == sorted(mailboxes)


def test_who_knows_a_version_gets_what_is_new_since() -> None:
    roster, _, mailboxes = make("a", "b", "c")
    first = roster.version
    for name in ("b", "a", "b"):
        mailboxes[name].seen = (mailboxes[name].seen or 0.0) + 1
        roster.note(mailboxes[name])
        assert roster.renew()
    told = [[(type(frame), frame.version, sorted(agent.name for agent in frame.agents)) for frame in roster.frames(v)]
            for v in (first, first + 1, first + 2, 0)]  # fmt: skip
    assert told == [
        [(Changes, first + 3, ["a", "b"])],
        [(Changes, first + 3, ["a", "b"])],
        [(Changes, first + 3, ["b"])],
        [(Peers, first + 3, ["a", "b", "c"])],
    ]


def test_when_too_much_is_new_it_is_all_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGENTS_PER_PAGE", 2)
    roster, _, mailboxes = make("a", "b", "c")
    known = roster.version
    kinds = []
    for name in mailboxes:
        hold(mailboxes[name])
        roster.note(mailboxes[name])
        roster.renew()
        kinds.append({type(frame) for frame in roster.frames(known)})
    assert kinds == [{Changes}, {Changes}, {Peers}]


def test_how_long_nobody_was_there_is_as_of_when_it_is_sent() -> None:
    roster, turn, mailboxes = make("never", "now", "once")
    hold(mailboxes["now"])
    mailboxes["now"].seen = mailboxes["once"].seen = NOW - 1.0
    for mailbox in mailboxes.values():
        roster.note(mailbox)
    roster.renew()
    turn.now = NOW + 2.5
    (frame,) = roster.frames(0)
    assert {agent.name: agent.since_ms for agent in frame.agents} == {"never": None, "now": None, "once": 3500}


steps = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.booleans()), max_size=30)


@unhurried
@given(steps)
def test_whoever_misses_some_has_the_same_in_the_end(steps: list[tuple[str, int, bool]]) -> None:
    """Changes that come and changes that are lost, for a reader that confirms what it has."""
    roster, turn, mailboxes = make(*"abc")
    reader, known = Roster(0, (), NOW), 0
    for name, what, arrives in [*steps, ("a", 3, True), ("a", 0, True)]:
        turn.now += 1.0
        mailbox = mailboxes.setdefault(name, Mailbox(PutMailbox(name, "", ())))
        holder = hold(mailbox, here=what < 3)
        if what == 1:
            lease(holder)
        mailbox.say(1, "away" if what == 2 else "")
        mailbox.seen = None if holder.here else turn.now
        roster.note(mailbox)
        if not roster.renew() or not arrives:
            continue
        for frame in roster.frames(known):
            news = reader.page(frame, turn.now) if isinstance(frame, Peers) else reader.change(frame, turn.now)
            assert news is not None
        known = reader.version
        assert reader.agents == {name: told.record for name, told in mailboxes.items()}


# --- between two peers ------------------------------------------------------------------------------------------------


def test_thousands_of_turns_a_second_are_few_rosters() -> None:
    world, a, b = two()
    a.command(Attach("me", 1))
    world.run(1.0)
    before = len(world.log)
    for number in range(2000):
        a.command(SetStatus("me", 1, ("busy", "idle")[number % 2]))
        world.run(0.001)
    told = [frame for name, _, frame in world.log[before:] if name == "a" and isinstance(frame, Peers | Changes)]
    assert 5 <= len(told) <= 2.0 / ROSTER_GAP + 1
    assert all(isinstance(frame, Changes) for frame in told)
    world.run(ROSTER_GAP)
    assert b.remote(a).roster.agents["me"].status == "idle"


def test_messages_that_are_done_at_once_make_no_roster() -> None:
    world, a, b = two()
    world.run(1.0)
    before = len(world.log)
    for _ in range(500):
        a.send("inbox@b")
        world.settle()
        b.done()
        world.run(0.01)
    world.run(STATUS_LASTS)
    told = [frame for name, _, frame in world.log[before:] if name == "b" and isinstance(frame, Peers | Changes)]
    assert told == []


def test_who_works_on_a_message_is_busy_for_others_within_a_second_and_idle_again() -> None:
    world, a, b = two()
    seen = []
    for what in (lambda: a.send("inbox@b"), b.done, lambda: b.command(Detach(1, 0.0))):
        what()
        world.run(0.9)
        agent = a.remote(b).roster.agents["inbox"]
        seen.append((agent.status, agent.attached, agent.reach))
    assert seen == [("busy", True, "program"), ("idle", True, "program"), ("away", False, "")]
    world.run(30.0)
    assert world.now - a.remote(b).roster.seen["inbox"] == pytest.approx(30.9, abs=0.01)


def test_a_lease_that_came_to_nothing_leaves_nobody_busy() -> None:
    world, a, b = two()
    b.holding = True
    a.send("inbox@b")
    world.run(0.9)
    assert a.remote(b).roster.agents["inbox"].status == "busy"
    world.drop.append(losing(Data, a))
    b.failing = "disk full"
    b.commit_held()
    world.run(0.9)
    assert a.remote(b).roster.agents["inbox"].status == "idle"


def test_a_roster_that_is_lost_comes_again() -> None:
    world, a, b = two()
    world.drop += [losing(Peers, b), losing(Changes, b)]
    b.command(Detach(1, 0.0))
    world.run(5.0)
    assert a.remote(b).roster.agents["inbox"].attached
    world.drop.clear()
    b.command(Attach("inbox", 2))
    b.command(Detach(2, 0.0))
    world.run(5.0)
    assert not a.remote(b).roster.agents["inbox"].attached


def test_who_knew_a_mailbox_that_is_no_more_is_told_everything() -> None:
    roster, turn, mailboxes = make("a", "b")
    before = roster.version
    turn.now += ROSTER_GAP
    roster.note(mailboxes["b"])
    roster.forget("b")
    assert roster.due == turn.now
    assert roster.renew() is True
    assert not roster.renew()
    assert roster.version == before + 1
    (frame,) = roster.frames(before)
    assert isinstance(frame, Peers)
    assert [agent.name for agent in frame.agents] == ["a"]
    hold(mailboxes["a"])
    roster.note(mailboxes["a"])
    roster.renew()
    assert [type(frame) for frame in roster.frames(before + 1)] == [Changes]
    assert [type(frame) for frame in roster.frames(before)] == [Peers]


def test_forgetting_what_was_never_told_is_no_news() -> None:
    roster, _, _ = make("a")
    roster.note(Mailbox(PutMailbox("new", "", ())))
    roster.forget("new")
    assert roster.renew() is False
