"""Durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.peer.arguments import SHOWN
from zmesh.peer.duration import parse_timeout, parse_ttl
from zmesh.protocol.bounds import DEFAULT_TTL, MAX_TTL

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90.0),
        (0.25, 0.25),
        ("90", 90.0),
        ("250ms", 0.25),
        ("30s", 30.0),
        ("15m", 900.0),
        ("1.5h", 5400.0),
        ("7d", 604800.0),
        ("2w", 1209600.0),
        (" 7 d ", 604800.0),
        ("366d", MAX_TTL),
        (DEFAULT_TTL, DEFAULT_TTL),
    ],
)
def test_a_number_with_or_without_a_unit(written: float | str, seconds: float) -> None:
    assert parse_ttl(written) == pytest.approx(seconds)
    assert isinstance(parse_ttl(written), float)


@pytest.mark.parametrize("never", [None, "never"])
def test_a_message_may_live_for_ever(never: str | None) -> None:
    assert parse_ttl(never) is None


@pytest.mark.parametrize(
    "wrong",
    ["", "soon", "7 days", "d7", "-1s", "1e3", "1.", ".5s", "7d 2h", "7D", True, [], b"7d", object()],
)
def test_what_is_no_duration_is_refused_with_what_was_written(wrong: object) -> None:
    with pytest.raises(ValueError, match="'7d'") as caught:
        parse_ttl(wrong)  # type: ignore[arg-type]
    assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize("outside", [0, -1, "0s", "367d", MAX_TTL + 1, float("inf"), float("nan"), 10**400, "9" * 400])
def test_a_ttl_lies_between_nothing_and_a_year(outside: float | str) -> None:
    with pytest.raises(ValueError, match="ttl is more than 0 and at most 31622400 seconds") as caught:
        parse_ttl(outside)
    assert len(str(caught.value)) < 70 + SHOWN


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (None, None),
        ("never", None),
        (float("inf"), None),
        (10**400, None),
        (0, 0.0),
        (-1, 0.0),
        ("250ms", 0.25),
        (3, 3.0),
    ],
)
def test_a_timeout_may_be_over_before_it_begins(written: float | str | None, seconds: float | None) -> None:
    assert parse_timeout(written) == seconds


@pytest.mark.parametrize("wrong", [float("nan"), "soon", True, [], b"5"])
def test_what_is_no_timeout_is_refused_by_its_name(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"^patience"):
        parse_timeout(wrong, "patience")  # type: ignore[arg-type]


@given(st.integers(1, 300), st.sampled_from(sorted(SECONDS)), st.sampled_from(["", " ", "\t"]))
def test_every_unit_multiplies(count: int, unit: str, gap: str) -> None:
    seconds = count * SECONDS[unit]
    if seconds <= MAX_TTL:
        assert parse_ttl(f"{count}{gap}{unit}") == pytest.approx(seconds)
    else:
        with pytest.raises(ValueError, match="more than 0 and at most"):
            parse_ttl(f"{count}{gap}{unit}")


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_ttl(text)
    except ValueError:
        return
    assert seconds is None or 0 < seconds <= MAX_TTL
