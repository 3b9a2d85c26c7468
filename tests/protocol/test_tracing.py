"""Questions about a message: how often they may come, and that only sender and recipient learn anything."""

import pytest

from zmesh.protocol import tracing
from zmesh.protocol.bounds import STEPS_PER_TRACE, TRACES_AT_ONCE, TRACES_PER_SECOND
from zmesh.protocol.frames import Step, Trace, Traced
from zmesh.protocol.ownership import store_of
from zmesh.protocol.tracing import Life, Questions, answer

ANN, BOB, EVE = "a" * 32, "b" * 32, "e" * 32
ID = b"m" * 16
STEPS = (Step("stored", 20), Step("taken", 10))


def life(device: str, *, sent: bool = True) -> Life:
    """What is known of a message that came from a store of that device, or went there."""
    return Life(store_of(device, b"12345678"), sent, "leased", 1, STEPS)


def asked(questions: Questions, device: str, now: float) -> int:
    """How many questions a device may ask at once."""
    count = 0
    while questions.allow(device, now):
        count += 1
    return count


def test_a_device_may_ask_many_at_once_and_then_at_a_rate_and_others_are_not_held_back() -> None:
    questions = Questions()
    assert asked(questions, ANN, 10.0) == TRACES_AT_ONCE
    assert asked(questions, ANN, 11.0) == TRACES_PER_SECOND
    assert asked(questions, BOB, 11.0) == TRACES_AT_ONCE


def test_who_has_not_asked_for_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MAX_PEERS", 2)
    questions = Questions()
    for device in (ANN, BOB, ANN, EVE):
        asked(questions, device, 1.0)
    assert not questions.allow(ANN, 1.0)
    assert questions.allow(BOB, 1.0)


@pytest.mark.parametrize("sent", [True, False])
def test_sender_and_recipient_are_told_what_is_known(sent: bool) -> None:  # noqa: FBT001 - a parameter
    known = [life(EVE, sent=sent), life(ANN, sent=not sent), life(ANN, sent=sent)]
    assert answer(Trace(ID, sent), ANN, known) == Traced(ID, sent, "leased", 1, STEPS)


def test_who_is_neither_is_told_the_same_as_of_what_never_was() -> None:
    nothing = Traced(ID, sent=True, state="", attempts=0, steps=())
    assert answer(Trace(ID, sent=True), ANN, []) == nothing
    assert answer(Trace(ID, sent=True), EVE, [life(ANN)]) == nothing
    assert answer(Trace(ID, sent=True), ANN, [life(ANN, sent=False)]) == nothing
    waiting = Life(b"", sent=True, state="waiting", attempts=0, steps=STEPS)
    assert answer(Trace(ID, sent=True), ANN, [waiting]) == nothing


def test_no_more_steps_are_told_than_a_frame_takes() -> None:
    many = tuple(Step("taken", age) for age in range(3 * STEPS_PER_TRACE, 0, -1))
    known = Life(store_of(ANN, b"12345678"), sent=True, state="stored", attempts=3, steps=many)
    assert answer(Trace(ID, sent=True), ANN, [known]).steps == many[-STEPS_PER_TRACE:]
