"""The token bucket: a burst, then the rate, whatever is asked for and whenever."""

from hypothesis import example, given
from hypothesis import strategies as st

from zmesh.protocol.bucket import Bucket


def drain(bucket: Bucket, amount: float, now: float) -> int:
    """Take as often as it lets one."""
    taken = 0
    while bucket.holds(amount, now):
        bucket.take(amount)
        taken += 1
    return taken


def test_a_burst_then_the_rate() -> None:
    bucket = Bucket(10.0, 50.0, 100.0)
    assert drain(bucket, 1, 100.0) == 50
    assert drain(bucket, 1, 100.05) == 0
    assert drain(bucket, 1, 101.0) == 10
    assert drain(bucket, 1, 1000.0) == 50, "it holds no more than the burst"


def test_asking_takes_nothing() -> None:
    bucket = Bucket(1.0, 1.0, 0.0)
    assert [bucket.holds(1, 0.0) for _ in range(3)] == [True] * 3


def test_what_is_larger_than_the_burst_passes_when_it_is_full_and_is_paid_off() -> None:
    bucket = Bucket(10.0, 20.0, 0.0)
    assert bucket.holds(100, 0.0)
    bucket.take(100)
    assert not bucket.holds(0.5, 8.0)
    assert bucket.holds(0.5, 8.1)
    assert not bucket.holds(100, 9.9)
    assert bucket.holds(100, 10.0)


def test_a_clock_that_stands_or_steps_back_brings_and_takes_nothing() -> None:
    bucket = Bucket(10.0, 10.0, 50.0)
    assert bucket.holds(10, 10.0)
    assert drain(bucket, 1, 50.0) == 10
    assert drain(bucket, 1, 10.0) == 0
    assert drain(bucket, 1, 50.0) == 0
    assert drain(bucket, 1, 50.1) == 1


def test_it_tells_what_has_not_flowed_in_again() -> None:
    bucket = Bucket(2.0, 10.0, 0.0)
    assert bucket.used(0.0) == 0
    bucket.take(6)
    assert [bucket.used(at) for at in (0.0, 1.0, 3.0, 9.0)] == [6, 4, 0, 0]


@given(
    st.floats(0.1, 1e4),
    st.floats(0.1, 1e5),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1e4)), min_size=1, max_size=60),
)
@example(0.1, 0.1, [(0.0, 0.0)])
def test_never_more_than_the_burst_and_the_rate_and_one_that_is_too_large(
    rate: float, burst: float, asked: list[tuple[float, float]]
) -> None:
    bucket = Bucket(rate, burst, 0.0)
    now = taken = 0.0
    largest = max(amount for _, amount in asked)
    for pause, amount in asked:
        now += pause
        if bucket.holds(amount, now):
            bucket.take(amount)
            taken += amount
    assert taken <= (burst + now * rate + max(0.0, largest - burst)) * (1 + 1e-9)
