"""How a part is: by what was seen of it, and what was done about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.daemon.health import FAILED_AFTER, RESTART_FIRST, RESTART_MAX, TABLE, Condition, Health, worst


def test_a_part_is_healthy_only_once_it_was_seen_to_work() -> None:
    condition = Condition(5.0)
    assert (condition.state, condition.since) == (Health.RECOVERING, 5.0)
    assert condition.seen(None, 6.0)
    assert (condition.state, condition.since) == (Health.HEALTHY, 6.0)
    assert not condition.seen(None, 7.0)
    assert condition.since == 6.0


def test_a_trouble_is_restarted_after_a_moment_and_each_time_later_until_it_works() -> None:
    condition = Condition(0.0)
    condition.seen(None, 0.0)
    now, pauses = 100.0, []
    condition.seen("it is broken", now)
    assert (condition.state, condition.trouble) == (Health.DEGRADED, "it is broken")
    assert not condition.due(now)
    for _ in range(10):
        began = now
        while not condition.due(now):
            now += 0.25
            condition.seen("it is broken", now)
        pauses.append(now - began)
        condition.restarted(now)
        assert condition.state is Health.RECOVERING
        condition.seen("it is broken", now)
        assert condition.state is (Health.FAILED if condition.restarts >= FAILED_AFTER else Health.DEGRADED)
    assert pauses[0] == RESTART_FIRST
    assert pauses == sorted(pauses)
    assert pauses[-1] == RESTART_MAX
    condition.seen(None, now)
    assert (condition.state, condition.trouble, condition.restarts) == (Health.HEALTHY, "", 0)
    condition.seen("again", now + 1)
    assert condition.state is Health.DEGRADED


def test_what_works_is_never_restarted() -> None:
    condition = Condition(0.0)
    condition.seen(None, 0.0)
    assert not condition.due(1e9)


@given(st.lists(st.tuples(st.sampled_from(["well", "trouble", "restart"]), st.floats(0, 100)), max_size=60))
def test_it_is_healthy_exactly_after_it_was_seen_to_work(events: list[tuple[str, float]]) -> None:
    condition, now, last = Condition(0.0), 0.0, "trouble"
    for event, passed in events:
        now += passed
        if event == "restart":
            if not condition.due(now):
                continue
            condition.restarted(now)
        else:
            condition.seen(None if event == "well" else "broken", now)
        last = event
        assert (condition.state is Health.HEALTHY) == (last == "well")
        assert condition.since <= now


@pytest.mark.parametrize("state", Health)
def test_every_state_can_be_left_by_working(state: Health) -> None:
    assert TABLE[state]["well"] is Health.HEALTHY
    assert set(TABLE[state]) >= {"well", "trouble", "in vain", "ended"}


def test_what_ends_again_and_again_recovers_until_it_has_failed_and_waits_longer_each_time() -> None:
    condition, now, waits = Condition(0.0), 0.0, []
    for _ in range(10):
        condition.ended("gone", now)
        failed = condition.restarts >= FAILED_AFTER
        assert (condition.state, condition.trouble) == (Health.FAILED if failed else Health.RECOVERING, "gone")
        waits.append(condition.left(now))
        now += waits[-1]
        assert condition.left(now) == 0
        condition.restarted(now)
        assert condition.state is Health.RECOVERING
        now += 1000
        assert condition.left(now) == 0
    assert waits[:3] == [RESTART_FIRST, 2 * RESTART_FIRST, 4 * RESTART_FIRST]
    assert waits[-1] == RESTART_MAX
    condition.seen(None, now)
    condition.ended("gone", now)
    assert (condition.state, condition.left(now)) == (Health.RECOVERING, RESTART_FIRST)


def test_the_worst_of_none_is_healthy() -> None:
    assert worst([]) is Health.HEALTHY
    assert worst([Health.DEGRADED, Health.FAILED, Health.RECOVERING]) is Health.FAILED
    assert worst([Health.DEGRADED, Health.RECOVERING]) is Health.RECOVERING
