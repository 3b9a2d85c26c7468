"""The incoming stream: in order, nothing told before its commit, no ending forgotten before it is confirmed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zmesh.protocol.bounds import NO_ID, REWIND_INTERVAL, WINDOW_MESSAGES
from zmesh.protocol.frames import Ending
from zmesh.protocol.in_stream import InStream
from zmesh.protocol.journal import InStreamRow

SOURCE = b"s" * 16
KLASS, EPOCH = 2, 3

unhurried = settings(deadline=None)  # a busy machine is no reason to fail


def ident(number: int) -> bytes:
    return number.to_bytes(16, "big")


def ending(number: int) -> Ending:
    return Ending(KLASS, number, "refused", f"number {number}")


def accept(stream: InStream, *numbers: int, ended: tuple[int, ...] = ()) -> None:
    for number in numbers:
        assert stream.expects(number)
        stream.advance(ident(number), ending(number) if number in ended else None)


def save(stream: InStream) -> InStreamRow:
    row = stream.row(SOURCE, EPOCH)
    stream.saved(row)
    return row


# --- order ------------------------------------------------------------------------------------------------------------


def test_it_begins_before_the_first_number() -> None:
    stream = InStream(KLASS)
    assert (stream.cursor, stream.cursor_id, stream.seen, stream.limit) == (0, NO_ID, 0, WINDOW_MESSAGES)
    assert stream.row(SOURCE, EPOCH) == InStreamRow(SOURCE, KLASS, EPOCH, 0, NO_ID)
    assert not stream.dirty


def test_it_goes_on_where_its_row_ended() -> None:
    stream = InStream(KLASS, InStreamRow(SOURCE, KLASS, EPOCH, 7, ident(7)), {6: ending(6)})
    assert (stream.cursor, stream.cursor_id, stream.seen) == (7, ident(7), 7)
    assert stream.acknowledge(10) == (7, [ending(6)])
    assert stream.expects(8)


def test_only_the_next_number_is_expected() -> None:
    stream = InStream(KLASS)
    accept(stream, 1, 2)
    assert not stream.expects(2)
    assert not stream.expects(1)
    assert (stream.seen, stream.gap) == (2, False)  # a duplicate is none
    assert not stream.expects(4)
    assert (stream.seen, stream.gap) == (2, True)
    assert stream.expects(3)
    assert (stream.seen, stream.gap) == (2, False)  # asking takes nothing in


def test_a_number_beyond_the_credit_is_not_taken() -> None:
    stream = InStream(KLASS)
    accept(stream, *range(1, WINDOW_MESSAGES + 1))
    assert stream.limit == WINDOW_MESSAGES  # credit follows what is committed, not what was seen
    assert not stream.expects(WINDOW_MESSAGES + 1)
    save(stream)
    assert stream.expects(WINDOW_MESSAGES + 1)


@pytest.mark.parametrize("number", [0, 1, 3, 5])
def test_a_jump_counts_only_once_it_is_committed(number: int) -> None:
    stream = InStream(KLASS)
    accept(stream, 1, 2, 3)
    save(stream)
    stream.expects(9)
    stream.jump(max(number, 3), ident(50))
    assert (stream.seen, stream.seen_id, stream.gap, stream.dirty) == (max(number, 3), ident(50), False, True)
    assert (stream.cursor, stream.cursor_id) == (3, ident(3))
    assert stream.expects(max(number, 3) + 1)


# --- commits ----------------------------------------------------------------------------------------------------------


def test_only_what_is_committed_is_told() -> None:
    stream = InStream(KLASS)
    accept(stream, 1, 2)
    row = stream.row(SOURCE, EPOCH)
    accept(stream, 3)
    assert stream.acknowledge(10) == (0, [])
    stream.saved(row)
    assert stream.acknowledge(10) == (2, [])
    assert (stream.cursor_id, stream.dirty) == (ident(2), True)


def test_what_came_on_earlier_links_is_settled_when_it_is_committed_and_not_before() -> None:
    stream = InStream(KLASS, InStreamRow(SOURCE, KLASS, EPOCH, 7, ident(7)))
    stream.new_link()
    accept(stream, 8)
    early = stream.row(SOURCE, EPOCH)
    accept(stream, 9)
    said = [stream.settled]  # it came on the present link
    stream.new_link()
    said.append(stream.settled)
    stream.saved(early)
    said.append(stream.settled)
    save(stream)
    said.append(stream.settled)
    assert said == [True, False, False, True]


def test_what_came_on_earlier_links_is_settled_when_it_is_taken_back() -> None:
    stream = InStream(KLASS)
    accept(stream, 1, 2)
    stream.new_link()
    stream.take_back()
    assert stream.settled
    accept(stream, 1)
    assert stream.settled, "it comes again on the present link"


def test_a_late_commit_takes_nothing_back() -> None:
    stream = InStream(KLASS)
    accept(stream, 1)
    early = stream.row(SOURCE, EPOCH)
    accept(stream, 2)
    save(stream)
    stream.saved(early)
    assert (stream.cursor, stream.cursor_id) == (2, ident(2))


def test_after_a_failed_commit_all_that_was_not_committed_comes_again() -> None:
    stream = InStream(KLASS)
    accept(stream, 1, 2, ended=(2,))
    save(stream)
    accept(stream, 3, 4, ended=(4,))
    stream.take_back()
    assert (stream.seen, stream.seen_id, stream.gap) == (2, ident(2), True)
    assert stream.wants_rewind(0.0)
    accept(stream, 3, 4)
    save(stream)
    assert stream.acknowledge(10) == (4, [ending(2)])


def test_a_failed_commit_of_others_is_no_gap() -> None:
    stream = InStream(KLASS)
    accept(stream, 1)
    save(stream)
    stream.take_back()
    assert (stream.seen, stream.gap) == (1, False)


# --- endings ----------------------------------------------------------------------------------------------------------


def test_an_ending_is_repeated_until_the_floor_covers_it() -> None:
    stream = InStream(KLASS)
    accept(stream, 1, 2, 3, ended=(2,))
    save(stream)
    for _ in range(3):
        assert stream.acknowledge(10) == (3, [ending(2)])
    assert not stream.confirm(1)
    assert stream.acknowledge(10) == (3, [ending(2)])
    assert stream.confirm(2)
    assert stream.acknowledge(10) == (3, [])
    assert not stream.confirm(2)


def test_endings_that_are_not_confirmed_hold_the_credit() -> None:
    stream = InStream(KLASS)
    assert (stream.ended, stream.limit) == (False, WINDOW_MESSAGES)
    accept(stream, *range(1, 11), ended=(4,))
    save(stream)
    assert (stream.ended, stream.limit) == (True, 3 + WINDOW_MESSAGES)
    stream.confirm(4)
    assert (stream.ended, stream.limit) == (False, 10 + WINDOW_MESSAGES)


def test_a_floor_that_runs_ahead_of_the_cursor_confirms_nothing_uncommitted() -> None:
    stream = InStream(KLASS)
    accept(stream, 1, ended=(1,))
    assert not stream.confirm(1 << 62)
    save(stream)
    assert stream.acknowledge(10) == (1, [ending(1)])


@pytest.mark.parametrize(
    ("most", "cursor", "told"), [(0, 1, ()), (1, 3, (2,)), (2, 5, (2, 4)), (3, 7, (2, 4, 6)), (4, 7, (2, 4, 6))]
)
def test_the_cursor_stops_before_the_first_ending_that_does_not_fit(
    most: int, cursor: int, told: tuple[int, ...]
) -> None:
    stream = InStream(KLASS)
    accept(stream, *range(1, 8), ended=(2, 4, 6))
    save(stream)
    assert stream.acknowledge(most) == (cursor, [ending(number) for number in told])


# --- rewinds ----------------------------------------------------------------------------------------------------------


def test_a_rewind_is_asked_for_once_and_again_when_nothing_came_of_it() -> None:
    stream = InStream(KLASS)
    assert not stream.wants_rewind(100.0)
    stream.expects(5)
    assert stream.wants_rewind(100.0)
    stream.asked(100.0)
    assert not stream.wants_rewind(100.0 + REWIND_INTERVAL / 2)
    assert stream.wants_rewind(100.0 + REWIND_INTERVAL)


def test_progress_allows_the_next_rewind_at_once() -> None:
    stream = InStream(KLASS)
    stream.expects(5)
    stream.asked(100.0)
    accept(stream, 1)
    assert not stream.wants_rewind(100.0)  # no gap just now
    stream.expects(7)
    assert stream.wants_rewind(100.0)


# --- the law ----------------------------------------------------------------------------------------------------------


class InStreamLaw(RuleBasedStateMachine):
    """Frames in any order, commits that succeed or fail, restarts: what is told is what is on the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = InStream(KLASS)
        self.open: list[InStreamRow] = []  # rows in commits that are under way
        self.ended: dict[int, Ending] = {}  # what happened to each number, the truth
        self.disk = self.stream.row(SOURCE, EPOCH)
        self.floor = 0  # what the sender has confirmed
        self.told = 0

    @rule(number=st.integers(0, 3), ended=st.booleans())
    def data(self, number: int, ended: bool) -> None:  # noqa: FBT001
        at = self.stream.seen - 1 + number  # a duplicate, the next one, or one too far
        seen = self.stream.seen
        if self.stream.expects(at):
            assert at == seen + 1
            self.stream.advance(ident(at), ending(at) if ended else None)
            self.ended.pop(at, None)
            if ended:
                self.ended[at] = ending(at)
            assert self.stream.seen == at

    @rule()
    def seal(self) -> None:
        if self.stream.dirty:
            self.stream.dirty = False
            self.open.append(self.stream.row(SOURCE, EPOCH))

    @rule()
    def commit(self) -> None:
        if self.open:
            self.disk = self.open.pop(0)
            self.stream.saved(self.disk)

    @rule()
    def fail(self) -> None:
        self.open.clear()
        self.stream.take_back()
        assert self.stream.seen == self.stream.cursor

    @rule(most=st.integers(0, 5))
    def acknowledge(self, most: int) -> None:
        cursor, endings = self.stream.acknowledge(most)
        assert cursor <= self.disk.cursor
        assert len(endings) <= most
        listed = {one.number for one in endings}
        for number in range(self.floor + 1, cursor + 1):
            assert (number in listed) == (number in self.ended), number
        self.told = max(self.told, cursor)

    @rule(most=st.integers(1, 5))
    def confirm(self, most: int) -> None:
        self.floor = max(self.floor, self.stream.acknowledge(most)[0])
        self.stream.confirm(self.floor)

    @rule()
    def restart(self) -> None:
        self.open.clear()
        kept = {n: e for n, e in self.ended.items() if self.floor < n <= self.disk.cursor}
        self.stream = InStream(KLASS, self.disk, kept)

    @invariant()
    def the_cursor_is_what_is_on_the_disk(self) -> None:
        assert self.stream.cursor == self.disk.cursor <= self.stream.seen
        assert self.stream.cursor_id == self.disk.cursor_id == (ident(self.disk.cursor) if self.disk.cursor else NO_ID)

    @invariant()
    def confirming_makes_room_for_the_rest(self) -> None:
        cursor, endings = self.stream.acknowledge(1)
        assert cursor > self.floor or cursor == self.stream.cursor or not endings


TestInStreamLaw = InStreamLaw.TestCase
TestInStreamLaw.settings = settings(deadline=None, max_examples=60)


@unhurried
@given(st.lists(st.integers(1, 30), max_size=200))
def test_whatever_arrives_is_taken_in_order_and_once(arrivals: list[int]) -> None:
    stream = InStream(KLASS)
    taken: list[int] = []
    for number in arrivals:
        if stream.expects(number):
            stream.advance(ident(number), None)
            taken.append(number)
    assert taken == list(range(1, len(taken) + 1))
    assert stream.seen == len(taken)
