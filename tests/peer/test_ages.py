"""How old the messages of a store are: never older than they are, and known well enough."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.support import PATIENCE, Driven, driven, put_in, put_out
from zmesh.peer.ages import AGES, EVERY, FINENESS, Mark, note_ages, read_marks, rows_before, thinned

HOUR = 3600.0


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Driven]:
    with driven(tmp_path) as driven_store:
        yield driven_store


def note(it: Driven, at: float) -> list[Mark]:
    it.store.change(lambda connection: note_ages(connection, lambda: at)).result(PATIENCE)
    return it.store.query(read_marks).result(PATIENCE)


def test_a_mark_an_hour_says_which_rows_were_there(it: Driven) -> None:
    assert note(it, 10.0) == [Mark(10.0, 0, 0)]
    it.commit(put_out(1), put_out(2), put_in(1))
    assert note(it, 10.0 + EVERY - 1) == [Mark(10.0, 0, 0)]
    marks = note(it, 10.0 + EVERY)
    assert marks == [Mark(10.0, 0, 0), Mark(10.0 + EVERY, 2, 1)]
    it.commit(put_out(3))
    assert rows_before(marks, 10.0 + EVERY) == marks[1]
    assert rows_before(marks, 9.0 + EVERY) == marks[0]
    assert rows_before(marks, 9.0) == Mark(9.0, 0, 0), "nothing is known to be that old"
    assert rows_before([], 9.0) == Mark(9.0, 0, 0)


def test_marks_of_a_clock_that_was_lost_count_no_more(it: Driven) -> None:
    note(it, 10 * HOUR)
    assert note(it, 1.0) == [Mark(1.0, 0, 0)]


@pytest.mark.parametrize("value", [b"", b"\xc1", msgpack.packb(7), msgpack.packb([[1.0, 2]]),
                                   msgpack.packb([[float("nan"), 1, 1]]), msgpack.packb([["x", 1, 1]])])  # fmt: skip
def test_what_cannot_be_read_is_no_mark(it: Driven, value: bytes) -> None:
    it.store.put_meta(AGES, value).result(PATIENCE)
    assert it.store.query(read_marks).result(PATIENCE) == []
    assert note(it, 5.0) == [Mark(5.0, 0, 0)]


@given(st.lists(st.floats(0, 40 * 24.0), min_size=1, max_size=80))
def test_no_message_is_ever_made_older_than_it_is(hours: list[float]) -> None:
    """A message comes in with each mark; afterwards no mark dates one before it came."""
    times = sorted({hour * HOUR for hour in hours})
    marks: list[Mark] = []
    for row, at in enumerate(times, 1):
        marks = thinned([*marks, Mark(at, row, row)])
        assert (marks[0].at, marks[-1].at) == (times[0], at)
    for moment in times:
        there = rows_before(marks, moment).out
        assert there <= times.index(moment) + 1


def test_ten_years_of_marks_stay_few_and_fine_enough() -> None:
    marks: list[Mark] = []
    days = 365 * 10
    for day in range(days):
        for hour in (0.0, 8.0, 16.0):
            marks = thinned([*marks, Mark(day * 24 * HOUR + hour * HOUR, day, day)])
    assert len(marks) < 400
    now = marks[-1].at
    for mark, following in pairwise(marks):
        assert following.at - mark.at <= max(16 * HOUR, 2 * (now - mark.at) / FINENESS), "too wide for its age"
