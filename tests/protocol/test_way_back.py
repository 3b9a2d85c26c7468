"""On which of their connections somebody may be answered, and when."""

from zmesh.protocol.bounds import ANSWER_AFTER, DIAL_PATIENCE, HELLO_MAX, ONE_WAY_MEMORY
from zmesh.protocol.deadlines import NEVER
from zmesh.protocol.way_back import WayBack

ONE, TWO = b"\0one.", b"\0two."
NOW = 1000.0


def called() -> WayBack:
    way = WayBack()
    way.called(ONE, NOW)
    return way


def test_who_has_not_called_has_no_way() -> None:
    way = WayBack()
    assert way.due() == NEVER
    assert way.take(NOW) == b""
    way.called(b"", NOW)  # a frame on our own connection
    assert way.due() == NEVER


def test_dialling_is_given_time_from_the_first_call_and_the_newest_path_is_taken() -> None:
    way = called()
    way.called(TWO, NOW + 1)
    assert way.due() == NOW + ANSWER_AFTER
    assert way.take(NOW + ANSWER_AFTER) == TWO


def test_who_dials_is_answered_before_its_patience_ends() -> None:
    assert ANSWER_AFTER < 0.75 * DIAL_PATIENCE


def test_a_path_on_which_nothing_came_for_long_is_none() -> None:
    way = called()
    assert way.take(NOW + DIAL_PATIENCE) == ONE
    assert way.take(NOW + DIAL_PATIENCE + 0.1) == b""
    assert way.due() == NEVER


def test_who_calls_again_soon_is_answered_at_once() -> None:
    way = called()
    way.called(TWO, NOW + ONE_WAY_MEMORY)
    assert way.due() == NOW + ANSWER_AFTER
    way.called(TWO, NOW + 2 * ONE_WAY_MEMORY + 1)
    assert way.due() == NOW + 2 * ONE_WAY_MEMORY + 1 + ANSWER_AFTER


def test_a_path_that_failed_is_not_taken_again_at_once() -> None:
    way = called()
    way.failed(ONE, NOW + 100)
    assert way.due() == NEVER
    way.called(ONE, NOW + 100.1)
    assert way.due() == NEVER
    way.called(ONE, NOW + 100 + HELLO_MAX)
    assert way.take(NOW + 100 + HELLO_MAX) == ONE
    assert way.due() == NOW + ANSWER_AFTER, "it is known that they cannot be dialled"


def test_another_path_is() -> None:
    way = called()
    way.called(TWO, NOW + 1)
    way.failed(ONE, NOW + 1)
    assert way.take(NOW + 1) == TWO


def test_what_is_forgotten_begins_anew() -> None:
    way = called()
    way.forget()
    assert way.due() == NEVER
    way.called(ONE, NOW + 10)
    assert way.due() == NOW + 10 + ANSWER_AFTER
