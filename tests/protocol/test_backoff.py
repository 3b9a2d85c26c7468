"""Delays that double up to a bound, with jitter around each."""

from hypothesis import given, settings
from hypothesis import strategies as st

from zmesh.protocol.backoff import Backoff, delay_of, redelivery_delay, return_delay
from zmesh.protocol.bounds import REDELIVERY_FIRST, REDELIVERY_MAX

unhurried = settings(deadline=None)  # a busy machine is no reason to fail

firsts = st.floats(0.001, 10.0)
factors = st.floats(1.0, 10_000.0)
fractions = st.floats(0.0, 1.0, exclude_max=True)


def test_delays_double_until_the_bound() -> None:
    assert [delay_of(tries, 0.5, 30.0) for tries in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@unhurried
@given(st.integers(0, 10**9), firsts, factors)
def test_a_delay_is_never_below_the_first_nor_above_the_bound(tries: int, first: float, factor: float) -> None:
    assert first <= delay_of(tries, first, first * factor) <= first * factor
    assert delay_of(tries, first, first * factor) <= delay_of(tries + 1, first, first * factor)


def test_the_first_delay_is_bounded_too() -> None:
    assert delay_of(0, 5.0, 2.0) == 2.0


@unhurried
@given(firsts, factors, st.lists(fractions, max_size=60))
def test_jitter_is_a_quarter_of_the_nominal_delay(first: float, factor: float, jitters: list[float]) -> None:
    backoff = Backoff(first, first * factor)
    for tries, fraction in enumerate(jitters):
        nominal = delay_of(tries, first, first * factor)
        assert 0.75 * nominal <= backoff.next(fraction) <= 1.25 * nominal


def test_the_middle_of_the_jitter_is_the_nominal_delay() -> None:
    backoff = Backoff(1.0, 4.0)
    assert [backoff.next(0.5) for _ in range(4)] == [1.0, 2.0, 4.0, 4.0]


@unhurried
@given(st.integers(0, 200))
def test_a_reset_begins_anew(tries: int) -> None:
    backoff = Backoff(0.1, 2.0)
    for _ in range(tries):
        backoff.next(0.0)
    backoff.reset()
    assert [backoff.next(0.5), backoff.next(0.5)] == [0.1, 0.2]


def test_two_sequences_know_nothing_of_each_other() -> None:
    one, other = Backoff(1.0, 8.0), Backoff(1.0, 8.0)
    assert [one.next(0.5) for _ in range(3)][-1] == 4.0
    assert other.next(0.5) == 1.0


def test_a_message_that_came_back_waits_longer_each_time_and_not_the_first_time_its_holder_went() -> None:
    assert [redelivery_delay(attempts) for attempts in (0, 1, 2)] == [
        REDELIVERY_FIRST, REDELIVERY_FIRST, 2 * REDELIVERY_FIRST,
    ]  # fmt: skip
    assert redelivery_delay(1000) == REDELIVERY_MAX
    assert [return_delay(attempts) for attempts in (0, 1, 2, 3)] == [0.0, 0.0, REDELIVERY_FIRST, 2 * REDELIVERY_FIRST]
