"""The bounds: sane by themselves, consistent with each other, and the same in the specification."""

import re
from pathlib import Path

import pytest

from zmesh.protocol import bounds

SPECIFICATION = Path(__file__).parents[2] / "docs" / "PROTOCOL.md"
NUMBERS = {name: value for name, value in vars(bounds).items() if isinstance(value, (int, float))}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_bound_is_above_zero(name: str) -> None:
    assert name.isupper()
    assert NUMBERS[name] > 0


def test_no_id_is_the_id_of_zeros() -> None:
    assert bytes(bounds.ID_BYTES) == bounds.NO_ID


def test_the_versions_are_a_range_of_one_octet() -> None:
    assert 1 <= bounds.PROTOCOL_MIN <= bounds.PROTOCOL_MAX <= 255


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("DEFAULT_TTL", "MAX_TTL"),
        ("BATCH_BYTES", "IN_FLIGHT_BYTES"),
        ("MAX_BODY", "IN_FLIGHT_BYTES"),
        ("MAX_BODY", "IN_FLIGHT_CRITICAL_BYTES"),
        ("IN_FLIGHT_BYTES", "MAX_FRAME"),
        ("MAX_FRAME", "UNCOMMITTED_BYTES"),
        ("MAX_BODY", "CACHED_BODY_BYTES"),
        ("BATCH_MESSAGES", "MARK_AHEAD"),
        ("BATCH_MESSAGES", "WINDOW_MESSAGES"),
        ("MARK_AHEAD", "WINDOW_MESSAGES"),
        ("WINDOW_MESSAGES", "MAILBOX_MESSAGES"),
        ("MAILBOX_MESSAGES", "QUOTA_MESSAGES"),
        ("MAILBOX_BYTES", "QUOTA_BYTES"),
        ("AGENTS_PER_PAGE", "MAX_AGENTS"),
        ("REDELIVERY_FIRST", "REDELIVERY_MAX"),
        ("HELLO_FIRST", "HELLO_MAX"),
        ("HELLO_MAX", "DIAL_PATIENCE"),
        ("ANSWER_AFTER", "GREET_PATIENCE"),
        ("GREET_PATIENCE", "DIAL_PATIENCE"),
        ("REDIAL_FIRST", "REDIAL_MAX"),
        ("REDIAL_MAX", "ABSENT_REDIAL"),
        ("ABSENT_REDIAL", "ABSENT_AFTER"),
        ("PING_FIRST", "PING_MAX"),
        ("IDLE_PING", "SILENCE"),
        ("STALLED", "SILENCE"),
        ("RESET_INTERVAL", "HELLO_MAX"),
        ("REWIND_INTERVAL", "STALLED"),
        ("REQUEUE_FIRST", "REQUEUE_MAX"),
        ("OUTCOMES_PER_FRAME", "MAX_ARRAY"),
        ("CANCELS_PER_FRAME", "MAX_ARRAY"),
        ("AGENTS_PER_PAGE", "MAX_ARRAY"),
        ("MAX_ENVELOPE", "MAX_ARRAYS"),
        ("OUTCOMES_WINDOW", "KEPT_ENDED"),
        ("MAX_WORD", "MAX_NAME"),
        ("ROSTER_GAP", "STATUS_LASTS"),
        ("STEPS_PER_TRACE", "MAX_ARRAY"),
        ("TRACES_PER_SECOND", "TRACES_AT_ONCE"),
        ("TRACE_AGAIN", "TRACE_PATIENCE"),
    ],
)
def test_one_bound_does_not_exceed_the_other(less: str, more: str) -> None:
    assert NUMBERS[less] <= NUMBERS[more]


def test_two_pings_are_missed_before_a_link_is_silent() -> None:
    assert 2 * bounds.IDLE_PING < bounds.SILENCE


def test_a_change_is_told_within_a_second_even_when_it_must_be_asked_for() -> None:
    assert bounds.STATUS_LASTS + bounds.ROSTER_GAP + bounds.PING_FIRST < 1


def test_a_batch_with_the_largest_message_and_full_envelopes_fits_in_a_frame() -> None:
    header = 64 + bounds.BATCH_MESSAGES * (bounds.MAX_ENVELOPE + bounds.ID_BYTES + 32)
    assert header + bounds.BATCH_BYTES + bounds.MAX_BODY <= bounds.MAX_FRAME


@pytest.mark.parametrize(
    ("field", "bound", "names"),
    [
        ("endpoints", "{} of {}", ("MAX_ENDPOINTS", "MAX_ENDPOINT")),
        ("items", "1 to {}", ("BATCH_MESSAGES",)),
        ("envelope", "{}", ("MAX_ENVELOPE",)),
        ("size", "0 to {:,}", ("MAX_BODY",)),
        ("endings", "{}", ("ENDINGS_PER_ACK",)),
        ("rewinds", "{}; from 1", ("CLASSES",)),
        ("fates", "{0}; {0} ids in all", ("OUTCOMES_PER_FRAME",)),
        ("agents", "{}", ("AGENTS_PER_PAGE",)),
        ("role", "{}", ("MAX_NAME",)),
        ("project", "{}", ("MAX_NAME",)),
        ("status", "{}", ("MAX_WORD",)),
        ("state", "{}", ("MAX_WORD",)),
        ("what", "{}", ("MAX_WORD",)),
        ("steps", "{}", ("STEPS_PER_TRACE",)),
        ("reach", "{}", ("MAX_WORD",)),
        ("capabilities", "{} of {}", ("MAX_CAPABILITIES", "MAX_NAME")),
        ("code", "{}", ("MAX_CODE",)),
        ("text", "{}", ("MAX_TEXT",)),
    ],
)
def test_the_tables_of_fields_have_these_bounds(field: str, bound: str, names: tuple[str, ...]) -> None:
    text = SPECIFICATION.read_text(encoding="utf-8")
    rows = re.findall(rf"^\| \d+ \| `{field}` \| [^|]* \| ([^|]*) \|", text, re.MULTILINE)
    assert set(rows) == {bound.format(*(NUMBERS[name] for name in names))}


def test_the_bounds_in_the_specification_are_these() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([\d,.]+) \|", SPECIFICATION.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 30
    assert {name: float(value.replace(",", "")) for name, value in rows} == {name: NUMBERS[name] for name, _ in rows}
