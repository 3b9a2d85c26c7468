"""Outcomes: numbered without gaps, sent in order, repeated until confirmed, and believed once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zmesh.protocol import outcomes as module
from zmesh.protocol.bounds import OUTCOMES_PER_FRAME
from zmesh.protocol.frames import Fate, Outcome
from zmesh.protocol.journal import PutOutcome
from zmesh.protocol.outcomes import OutcomeReceiver, OutcomeSender

DEST = b"d" * 16

unhurried = settings(deadline=None)  # a busy machine is no reason to fail


def ident(number: int) -> bytes:
    return number.to_bytes(16, "big")


def add(sender: OutcomeSender, count: int, code: str = "handled", *, committed: bool = True) -> list[PutOutcome]:
    rows = [sender.add(DEST, ident(sender.committed + at + 1), code, "") for at in range(count)]
    if committed:
        sender.committed = rows[-1].number
    return rows


def frame(first: int, count: int, base: int = 1) -> Outcome:
    return Outcome(base, first, (Fate("handled", "", tuple(ident(first + at) for at in range(count))),))


# --- the side that tells ----------------------------------------------------------------------------------------------


def test_there_is_nothing_to_tell_at_first() -> None:
    sender = OutcomeSender([])
    assert (sender.base, sender.sent, sender.committed) == (1, 0, 0)
    assert not sender.pending
    assert not sender.unconfirmed
    assert sender.take() is None
    assert not sender.confirm(0)


def test_numbers_have_no_gaps() -> None:
    sender = OutcomeSender([])
    assert [row.number for row in add(sender, 3)] == [1, 2, 3]
    assert sender.add(DEST, b"i" * 16, "dead", "why") == PutOutcome(4, DEST, b"i" * 16, "dead", "why")


def test_only_what_is_committed_is_told() -> None:
    sender = OutcomeSender([])
    rows = add(sender, 3, committed=False)
    assert sender.pending
    assert sender.take() is None
    sender.committed = rows[1].number
    assert sender.take() == Outcome(1, 1, (Fate("handled", "", (rows[0].id, rows[1].id)),))
    assert sender.take() is None


def test_equal_outcomes_in_a_row_are_told_together_and_the_order_stays() -> None:
    sender = OutcomeSender([])
    said = [("handled", ""), ("handled", ""), ("dead", "a"), ("dead", "b"), ("handled", "")]
    for at, (code, text) in enumerate(said, 1):
        sender.add(DEST, ident(at), code, text)
    sender.committed = len(said)
    taken = sender.take()
    assert taken is not None
    assert taken.fates == (
        Fate("handled", "", (ident(1), ident(2))),
        Fate("dead", "a", (ident(3),)),
        Fate("dead", "b", (ident(4),)),
        Fate("handled", "", (ident(5),)),
    )


def test_a_frame_holds_a_bounded_number() -> None:
    sender = OutcomeSender([])
    add(sender, OUTCOMES_PER_FRAME + 1)
    first, second = sender.take(), sender.take()
    assert first == frame(1, OUTCOMES_PER_FRAME)
    assert second == frame(OUTCOMES_PER_FRAME + 1, 1)
    assert sender.take() is None


def test_it_goes_on_with_what_the_store_kept() -> None:
    sender = OutcomeSender([PutOutcome(number, DEST, ident(number), "handled", "") for number in (4, 5)])
    assert (sender.base, sender.sent, sender.committed) == (4, 3, 5)
    assert sender.add(DEST, ident(6), "dead", "").number == 6
    assert sender.take() == frame(4, 2, base=4)


def test_what_is_confirmed_is_told_no_more() -> None:
    sender = OutcomeSender([])
    add(sender, 3)
    sender.take()
    assert (sender.base, sender.unconfirmed) == (1, True)
    assert sender.confirm(2)
    assert (sender.base, sender.unconfirmed) == (3, True)
    assert sender.confirm(3)
    assert (sender.base, sender.unconfirmed, sender.pending) == (4, False, False)
    assert not sender.confirm(3)
    sender.rewind()
    assert sender.take() is None


def test_a_new_link_tells_again_what_is_not_confirmed() -> None:
    sender = OutcomeSender([])
    add(sender, 3)
    sender.take()
    sender.confirm(1)
    sender.rewind()
    assert not sender.unconfirmed
    assert sender.take() == frame(2, 2, base=2)


@pytest.mark.parametrize("upto", [0, 4, 5, 1 << 62])
def test_a_confirmation_of_what_was_not_sent_changes_nothing(upto: int) -> None:
    sender = OutcomeSender([])
    add(sender, 3)
    sender.take()
    add(sender, 2)
    assert not sender.confirm(upto)
    assert (sender.base, sender.sent) == (1, 3)


def test_a_confirmation_of_an_older_link_changes_nothing() -> None:
    sender = OutcomeSender([])
    add(sender, 3)
    sender.take()
    sender.rewind()
    assert not sender.confirm(3)
    assert sender.pending


def test_numbers_whose_commit_failed_are_given_again() -> None:
    sender = OutcomeSender([])
    add(sender, 2)
    lost = add(sender, 2, committed=False)
    sender.take_back(lost[0].number)
    sender.take_back(lost[1].number)  # each of them is told of its failure
    assert sender.add(DEST, b"i" * 16, "dead", "").number == 3
    assert sender.take() == frame(1, 2)


def test_there_is_room_for_a_bounded_number_and_the_oldest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_ENDED", 3)
    sender = OutcomeSender([])
    add(sender, 2)
    assert sender.make_room() == 0
    add(sender, 1)
    assert sender.make_room() == 1
    assert (sender.base, sender.sent) == (2, 1)
    add(sender, 1)
    assert sender.take() == frame(2, 3, base=2)
    assert sender.make_room() == 2
    assert (sender.base, sender.sent) == (3, 4)
    assert sender.confirm(4)
    assert not sender.pending


def test_taking_back_all_leaves_nothing() -> None:
    sender = OutcomeSender([])
    add(sender, 2, committed=False)
    sender.take_back(1)
    assert not sender.pending
    assert sender.add(DEST, b"i" * 16, "dead", "").number == 1


# --- the side that hears ----------------------------------------------------------------------------------------------


def test_outcomes_are_believed_in_order_and_once() -> None:
    receiver = OutcomeReceiver()
    assert receiver.accept(frame(1, 2))
    assert not receiver.accept(frame(1, 2))
    assert not receiver.accept(frame(4, 1))  # 3 was lost
    assert receiver.accept(frame(3, 2))
    assert (receiver.seen, receiver.saved) == (4, 0)


def test_a_frame_that_brings_some_news_is_believed() -> None:
    receiver = OutcomeReceiver()
    receiver.accept(frame(1, 2))
    assert receiver.accept(frame(1, 3))
    assert receiver.seen == 3


def test_what_is_confirmed_already_is_not_waited_for() -> None:
    receiver = OutcomeReceiver()
    assert receiver.accept(frame(8, 1, base=8))
    assert receiver.seen == 8
    assert not OutcomeReceiver().accept(frame(9, 1, base=8))


def test_an_empty_frame_brings_nothing() -> None:
    assert not OutcomeReceiver().accept(Outcome(1, 1, ()))


def test_after_a_failed_commit_it_must_come_again() -> None:
    receiver = OutcomeReceiver()
    receiver.accept(frame(1, 2))
    receiver.saved = receiver.seen
    receiver.accept(frame(3, 2))
    receiver.take_back()
    assert (receiver.seen, receiver.saved) == (2, 2)
    assert receiver.accept(frame(3, 2))


# --- both -------------------------------------------------------------------------------------------------------------


class OutcomeLaw(RuleBasedStateMachine):
    """Frames and confirmations that are lost, commits that fail, links that are replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.sender, self.receiver = OutcomeSender([]), OutcomeReceiver()
        self.count = 0
        self.committed: list[bytes] = []  # the truth at the sender: ids by number
        self.open: list[PutOutcome] = []
        self.heard: list[tuple[int, bytes]] = []  # accepted and not committed
        self.known: dict[int, bytes] = {}  # committed at the receiver

    @rule()
    def add(self) -> None:
        self.count += 1
        row = self.sender.add(DEST, ident(self.count), "handled", "")
        assert row.number == len(self.committed) + len(self.open) + 1
        self.open.append(row)

    @rule()
    def commit(self) -> None:
        if self.open:
            row = self.open.pop(0)
            self.committed.append(row.id)
            self.sender.committed = row.number

    @rule()
    def fail(self) -> None:
        for row in self.open:
            self.sender.take_back(row.number)
        self.open.clear()

    @rule(lost=st.booleans())
    def tell(self, lost: bool) -> None:  # noqa: FBT001
        taken = self.sender.take()
        if taken is None:
            assert self.sender.sent == len(self.committed)
            return
        ids = [one for fate in taken.fates for one in fate.ids]
        assert ids == self.committed[taken.first - 1 : taken.first - 1 + len(ids)]
        if not lost and self.receiver.accept(taken):
            self.heard += enumerate(ids, taken.first)

    @rule()
    def save(self) -> None:
        self.known |= dict(self.heard)
        self.heard.clear()
        self.receiver.saved = self.receiver.seen

    @rule()
    def forget(self) -> None:
        self.heard.clear()
        self.receiver.take_back()

    @rule()
    def confirm(self) -> None:
        self.sender.confirm(self.receiver.saved)

    @rule()
    def ping(self) -> None:
        self.sender.rewind()

    @rule()
    def new_link(self) -> None:
        self.receiver = OutcomeReceiver()
        self.heard.clear()
        self.sender.rewind()

    @invariant()
    def what_is_dropped_is_known_there(self) -> None:
        for number in range(1, self.sender.base):
            assert self.known[number] == self.committed[number - 1]

    @invariant()
    def what_is_known_there_is_true(self) -> None:
        assert all(one == self.committed[number - 1] for number, one in self.known.items())
        assert self.sender.sent <= len(self.committed)

    def teardown(self) -> None:
        """Nothing is lost for good: one ping later all is told."""
        self.forget()
        self.ping()
        while (taken := self.sender.take()) is not None:
            if self.receiver.accept(taken):
                self.heard += enumerate([one for fate in taken.fates for one in fate.ids], taken.first)
        self.save()
        self.confirm()
        assert not self.sender.unconfirmed
        assert self.known == dict(enumerate(self.committed, 1))


TestOutcomeLaw = OutcomeLaw.TestCase
TestOutcomeLaw.settings = settings(deadline=None, max_examples=60)


@unhurried
@given(st.integers(1, 2000), st.integers(1, 2000))
def test_all_of_it_is_told_in_contiguous_frames(count: int, kept: int) -> None:
    sender = OutcomeSender([PutOutcome(kept + at, DEST, ident(at), "handled", "") for at in range(count)])
    told: list[bytes] = []
    while (taken := sender.take()) is not None:
        assert taken.first == kept + len(told)
        told += taken.fates[0].ids
    assert told == [ident(at) for at in range(count)]
