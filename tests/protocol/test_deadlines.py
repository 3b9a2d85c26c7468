"""What is due, the soonest first, and no memory of what has ended."""

from hypothesis import given
from hypothesis import strategies as st

from zmesh.protocol.deadlines import LONG_AGO, NEVER, SLACK, Deadlines

times = st.integers(0, 50).map(float)
rows = st.integers(1, 20)


def test_never_is_after_and_long_ago_before_every_time() -> None:
    assert LONG_AGO < -1e300 < 1e300 < NEVER


def test_nothing_is_due_where_nothing_was_added() -> None:
    deadlines = Deadlines({})
    assert deadlines.next == NEVER
    assert list(deadlines.due(1e300)) == []


def test_what_is_due_comes_out_in_its_order_and_once() -> None:
    deadlines = Deadlines({1: "", 2: "", 3: ""})
    for at, row in ((3.0, 1), (1.0, 2), (2.0, 3), (2.0, 1)):
        deadlines.add(at, row)
    assert deadlines.next == 1.0
    assert list(deadlines.due(0.5)) == []
    assert list(deadlines.due(2.0)) == [(1.0, 2), (2.0, 1), (2.0, 3)]
    assert (deadlines.next, len(deadlines)) == (3.0, 1)


def test_what_is_added_while_others_are_taken_out_counts() -> None:
    alive = {1: ""}
    deadlines = Deadlines(alive)
    deadlines.add(1.0, 1)
    seen = []
    for at, row in deadlines.due(5.0):
        seen.append(at)
        deadlines.add(at + 2.0, row)
    assert seen == [1.0, 3.0, 5.0]
    assert deadlines.next == 7.0


def test_what_has_ended_is_forgotten_once_it_is_much() -> None:
    alive: dict[int, str] = {}
    deadlines = Deadlines(alive)
    for row in range(1000):
        alive[row] = ""
        deadlines.add(1e6 - row, row)
        if row >= 10:
            del alive[row - 10]
        assert len(deadlines) <= 2 * len(alive) + SLACK + 2
    assert {row for _, row in deadlines.due(NEVER)} >= set(alive)


@given(st.lists(st.tuples(times, rows), max_size=300), st.sets(rows), times)
def test_nothing_alive_is_ever_forgotten_or_early(added: list[tuple[float, int]], alive: set[int], now: float) -> None:
    deadlines = Deadlines(alive)
    for at, row in added:
        deadlines.add(at, row)
    due = list(deadlines.due(now))
    assert due == sorted(due)
    assert all(at <= now for at, _ in due)
    assert [entry for entry in due if entry[1] in alive] == sorted(e for e in added if e[1] in alive and e[0] <= now)
