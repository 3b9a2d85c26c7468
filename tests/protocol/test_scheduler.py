"""Who goes next: critical first, the others by weight, and none of them starves."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmesh.protocol.bounds import BATCH_BYTES, CLASSES, MAX_BODY
from zmesh.protocol.priority import Priority
from zmesh.protocol.scheduler import WEIGHTS, Scheduler

unhurried = settings(deadline=None)  # a busy machine is no reason to fail

SHARING = [int(klass) for klass in Priority if klass is not Priority.CRITICAL]
LARGEST = MAX_BODY + BATCH_BYTES  # of one batch

batches = st.tuples(st.integers(1, 64), st.integers(0, LARGEST))
ready_sets = st.lists(st.sampled_from(range(CLASSES)), min_size=1, unique=True)


def run(scheduler: Scheduler, rounds: int, size: int, ready: list[int]) -> Counter[int]:
    """Serve batches of one size; return the bytes each class has sent."""
    sent: Counter[int] = Counter()
    for _ in range(rounds):
        klass = scheduler.pick(ready)
        scheduler.sent(klass, 1, size)
        sent[klass] += size
    return sent


def test_every_class_has_a_weight_and_the_urgent_ones_weigh_more() -> None:
    assert len(WEIGHTS) == CLASSES
    assert list(WEIGHTS) == sorted(WEIGHTS, reverse=True)
    assert WEIGHTS[Priority.HIGH] / WEIGHTS[Priority.BULK] == 8


@unhurried
@given(ready_sets, st.lists(batches, max_size=50))
def test_the_choice_is_one_of_the_ready(ready: list[int], sizes: list[tuple[int, int]]) -> None:
    scheduler = Scheduler()
    for messages, size in sizes:
        klass = scheduler.pick(ready)
        assert klass in ready
        scheduler.sent(klass, messages, size)
    assert scheduler.pick(ready) == scheduler.pick(ready)  # asking changes nothing


@unhurried
@given(st.lists(batches, max_size=50))
def test_critical_goes_first_whatever_it_has_sent(sizes: list[tuple[int, int]]) -> None:
    scheduler = Scheduler()
    for messages, size in sizes:
        assert scheduler.pick([*SHARING, Priority.CRITICAL]) is Priority.CRITICAL
        scheduler.sent(Priority.CRITICAL, messages, size)
    assert run(scheduler, 15, BATCH_BYTES, SHARING).keys() == set(SHARING)


@pytest.mark.parametrize("size", [0, 100, BATCH_BYTES, MAX_BODY])
def test_shares_follow_the_weights(size: int) -> None:
    scheduler = Scheduler()
    picks = Counter(dict.fromkeys(SHARING, 0))
    for _ in range(15 * 100):
        klass = scheduler.pick(SHARING)
        scheduler.sent(klass, 1, size)
        picks[klass] += 1
    assert {klass: round(picks[klass] / 100) for klass in SHARING} == {klass: WEIGHTS[klass] for klass in SHARING}


@unhurried
@given(st.lists(st.lists(st.integers(1, LARGEST), min_size=20, max_size=20), min_size=4, max_size=4))
def test_no_class_falls_behind_its_share_by_more_than_one_batch(sizes: list[list[int]]) -> None:
    scheduler = Scheduler()
    queues = {klass: iter(queue * 40) for klass, queue in zip(SHARING, sizes, strict=True)}
    clocks = dict.fromkeys(SHARING, 0.0)  # what each has sent, over its weight
    for _ in range(100):
        klass = scheduler.pick(SHARING)
        size = next(queues[klass])
        scheduler.sent(klass, 1, size)
        clocks[klass] += (size + 64) / WEIGHTS[klass]
        for one in SHARING:
            assert max(clocks.values()) - clocks[one] <= max(
                (LARGEST + 64) / WEIGHTS[other] for other in SHARING if other != one
            )


@unhurried
@given(st.integers(0, 2000), st.sampled_from(SHARING), st.sampled_from(SHARING))
def test_idleness_is_not_saved_up(rounds: int, busy: int, idle: int) -> None:
    scheduler = Scheduler()
    run(scheduler, rounds, 1000, [busy])
    served = run(scheduler, 9 * 20, 1000, [busy, idle])
    if idle != busy:
        share = WEIGHTS[idle] / (WEIGHTS[idle] + WEIGHTS[busy])
        assert served[idle] <= share * 9 * 20 * 1000 + 2000
        assert served[busy] > 0


def test_bulk_goes_within_fifteen_equal_batches_of_all_others() -> None:
    scheduler = Scheduler()
    run(scheduler, 10_000, BATCH_BYTES, [Priority.HIGH, Priority.NORMAL, Priority.LOW])
    assert run(scheduler, 15, BATCH_BYTES, SHARING)[Priority.BULK] > 0


def test_empty_messages_are_not_free() -> None:
    scheduler = Scheduler()
    assert [scheduler.pick(SHARING)] == [Priority.HIGH]
    scheduler.sent(Priority.HIGH, 64, 0)
    assert scheduler.pick(SHARING) == Priority.NORMAL
