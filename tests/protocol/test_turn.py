"""The journal: ops of a turn share a transaction, what follows from it waits for its commit, failures void a suffix."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.pair import SeededEntropy
from zmesh.protocol.effects import Failed, Notice, Persist, Settled
from zmesh.protocol.journal import NOTHING_SPECIAL, Op, PutAudit, PutMailbox, Written
from zmesh.protocol.states import Received, Sent
from zmesh.protocol.turn import Turn

unhurried = settings(deadline=None)  # a busy machine is no reason to fail

OP = PutMailbox("code", "", ())


def make(now: float = 5.0) -> Turn:
    return Turn(SeededEntropy(0), now)


def persists(turn: Turn) -> list[Persist]:
    return [effect for effect in turn.drain() if isinstance(effect, Persist)]


# --- one transaction --------------------------------------------------------------------------------------------------


def test_a_turn_without_ops_is_no_transaction() -> None:
    turn = make()
    turn.emit(Settled(1))
    assert not turn.open
    turn.seal()
    assert turn.drain() == [Settled(1)]
    assert turn.drain() == []


def test_ops_share_one_transaction_in_their_order() -> None:
    turn = make()
    other = PutMailbox("browser", "", ())
    turn.persist(OP)
    turn.persist(other)
    assert turn.open
    turn.seal()
    assert turn.drain() == [Persist(1, 0, (OP, other))]
    assert not turn.open


def test_older_ops_go_before_all_others_of_the_turn() -> None:
    turn = make()
    older: list[Op] = [PutMailbox("first", "", ()), PutMailbox("second", "", ())]
    turn.persist(OP)
    turn.persist_first(older)
    turn.seal()
    assert turn.drain() == [Persist(1, 0, (*older, OP))]


def test_what_follows_without_ops_still_waits_for_the_transactions_before_it() -> None:
    turn = make()
    turn.then(lambda: turn.emit(Settled(1)))
    turn.seal()
    assert turn.drain() == [Persist(1, 0, ())]
    turn.committed(1)
    assert turn.drain() == [Settled(1)]


def test_tokens_are_never_used_twice() -> None:
    turn = make()
    for _ in range(5):
        turn.persist(OP)
        turn.seal()
    assert [effect.token for effect in persists(turn)] == [1, 2, 3, 4, 5]


def test_nothing_follows_before_the_commit_and_nothing_follows_twice() -> None:
    turn = make()
    turn.persist(OP)
    turn.then(lambda: turn.emit(Settled(1)), lambda _: turn.emit(Settled(2)))
    turn.seal()
    assert persists(turn)
    assert turn.drain() == []
    turn.committed(1)
    assert turn.drain() == [Settled(1)]
    with pytest.raises(KeyError):
        turn.committed(1)


def test_what_a_commit_brings_about_joins_the_next_transaction() -> None:
    turn = make()
    turn.then(lambda: turn.persist(OP))
    turn.seal()
    turn.committed(1)
    turn.seal()
    assert [effect.ops for effect in persists(turn)] == [(), (OP,)]


def test_what_the_store_tells_is_seen_while_the_commit_is_reported_and_no_longer() -> None:
    turn = make()
    seen: list[Written] = []
    turn.then(lambda: seen.append(turn.written))
    turn.seal()
    written = Written({3: Sent.HANDLED}, {4: Received.STORED}, (b"lost",))
    turn.committed(1, written)
    assert seen == [written]
    assert turn.written is NOTHING_SPECIAL


def test_a_command_is_answered_when_its_transaction_is_on_disk_or_is_not() -> None:
    turn = make()
    for ticket in (7, 8):
        turn.settle(ticket)
        turn.seal()
    assert [type(effect) for effect in turn.drain()] == [Persist, Persist]
    turn.committed(1)
    turn.failed(2, "disk full")
    assert turn.drain() == [Settled(7), Failed(8, "disk full")]


def test_nothing_may_follow_from_a_commit_and_something_from_its_failure() -> None:
    turn = make()
    for token in (1, 2):
        turn.then(None, lambda reason: turn.emit(Notice("error", reason)))
        turn.seal()
        turn.drain()
        if token == 1:
            turn.committed(token)
            assert turn.drain() == []
    turn.failed(2, "disk full")
    assert turn.drain() == [Notice("error", "disk full")]


# --- notices ----------------------------------------------------------------------------------------------------------


def test_a_notice_is_said_at_once_and_kept_only_as_an_audit() -> None:
    turn = make(now=8.0)
    turn.notice("warning", "hm")
    assert not turn.open
    turn.notice("error", "a disk went back", audit="rollback")
    turn.seal()
    assert turn.drain() == [
        Notice("warning", "hm"),
        Notice("error", "a disk went back"),
        Persist(1, 0, (PutAudit(8.0, "rollback", "a disk went back"),)),
    ]


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_failure_gives_the_reason_to_those_who_ask_for_it() -> None:
    turn = make()
    reasons: list[str] = []
    turn.then(lambda: reasons.append("committed"), reasons.append)
    turn.then(lambda: reasons.append("committed"))
    turn.seal()
    assert turn.failed(1, "disk full")
    assert reasons == ["disk full"]


def test_only_the_first_failure_of_a_generation_is_news() -> None:
    turn = make()
    for _ in range(3):
        turn.persist(OP)
        turn.seal()
    assert [turn.failed(token, "disk full") for token in (1, 2, 3)] == [True, False, False]
    turn.persist(OP)
    turn.seal()
    assert persists(turn)[-1].generation == 1
    assert turn.failed(4, "disk full")


def test_the_first_failure_takes_back_all_that_is_not_committed_oldest_first() -> None:
    turn = make()
    reasons: list[str] = []
    for name in ("one", "two", "three"):
        turn.then(lambda: None, lambda reason, name=name: reasons.append(f"{name}: {reason}"))  # type: ignore[misc]
        turn.seal()
    turn.committed(1)
    assert turn.failed(2, "disk full")
    assert reasons == ["two: disk full", "three: disk full"]
    assert not turn.failed(3, "an earlier commit failed")
    assert len(reasons) == 2


def test_what_was_being_collected_when_a_commit_failed_fails_with_it() -> None:
    turn = make()
    turn.persist(OP)
    turn.seal()
    turn.persist(OP)
    turn.failed(1, "disk full")
    turn.persist(OP)
    turn.seal()
    assert [(effect.token, effect.generation) for effect in persists(turn)] == [(1, 0), (2, 0), (3, 1)]


def test_what_an_abort_persists_belongs_to_the_new_generation() -> None:
    turn = make()
    turn.then(lambda: None, lambda _: turn.persist(OP))
    turn.seal()
    turn.failed(1, "disk full")
    turn.seal()
    assert persists(turn)[-1] == Persist(2, 1, (OP,))


@unhurried
@given(st.lists(st.sampled_from(["work", "report", "break", "mend"]), max_size=60))
def test_the_committed_are_a_prefix_of_each_generation(events: list[str]) -> None:
    """The store fails all of a generation after its first failure; the turn must file every op accordingly."""
    turn = make()
    queue: list[Persist] = []
    committed: list[tuple[int, int]] = []
    failed: list[tuple[int, int]] = []
    known_failed: set[int] = set()
    broken = False
    told = -1  # the generation whose failure the core knows
    for event in [*events, "mend", *["report"] * 100]:
        if event == "work":
            turn.persist(OP)
            turn.seal()
        elif event == "break":
            broken = True
        elif event == "mend":
            broken = False
        elif queue:
            effect = queue.pop(0)
            entry = (effect.generation, effect.token)
            if broken or effect.generation in known_failed:
                known_failed.add(effect.generation)
                assert turn.failed(effect.token, "no") == (effect.generation > told)
                told = max(told, effect.generation)
                failed.append(entry)
            else:
                turn.committed(effect.token)
                committed.append(entry)
        queue += persists(turn)
    for generation in {generation for generation, _ in committed + failed}:
        good = [token for g, token in committed if g == generation]
        bad = [token for g, token in failed if g == generation]
        assert not good or not bad or max(good) < min(bad)
    assert len(committed) + len(failed) == events.count("work")


@pytest.mark.parametrize("end", [Turn.committed, Turn.failed])
def test_a_token_that_was_never_given_is_a_bug_of_the_shell(end: Callable[..., object]) -> None:
    with pytest.raises(KeyError):
        end(make(), 1, *([] if end is Turn.committed else ["no"]))
