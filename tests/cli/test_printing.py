"""What is printed: nothing in it steers a terminal, and everything in it can be read back."""

import json
import math
import unicodedata
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.cli.printing import MAX_DEPTH, body_text, duration, harmless, to_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9) | st.binary(), inner),
)


@given(st.text())
def test_harmless_text_has_nothing_that_is_not_seen(text: str) -> None:
    shown = harmless(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")]
    assert harmless(shown) == shown
    assert "\n" not in shown
    kept = harmless(text, lines=True)
    assert kept.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\rb", "a\\rb"),
        ("\u202eabc\u2069", "\\u202eabc\\u2069"),
        ("\x9b31m", "\\x9b31m"),
        ("\U000e0041", "\\U000e0041"),
        ("10\u202f000 gr\xfc\xdfe \U0001f600\xa0", "10\u202f000 gr\xfc\xdfe \U0001f600\xa0"),
    ],
)
def test_what_would_steer_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_a_body_that_is_nested_to_break_its_reader_is_cut_off_and_says_so() -> None:
    deep: Any = "core"
    for _ in range(450):
        deep = [{"a": deep}]
    shallow: Any = "core"
    for _ in range(MAX_DEPTH):
        shallow = [shallow]
    assert f"(more than {MAX_DEPTH} values in each other)" in json.dumps(to_json(deep))
    assert "core" not in body_text(deep)
    assert json.loads(json.dumps(to_json(shallow))) == shallow
    assert "more than" in json.dumps(to_json([shallow]))


@given(VALUES)
def test_every_body_can_be_written_as_strict_json(value: Any) -> None:
    arrived = msgpack.unpackb(msgpack.packb(value), strict_map_key=False)
    text = json.dumps(to_json(arrived), allow_nan=False)
    assert "\x1b" not in text
    json.loads(text)
    assert isinstance(body_text(arrived), str)


def test_what_json_has_no_word_for_is_a_text() -> None:
    assert to_json(math.nan) == "nan"
    assert to_json({1: b"\xff", b"k": (1,)}) == {"1": {"base64": "/w=="}, '{"base64": "aw=="}': [1]}
    assert to_json(msgpack.ExtType(5, b"x")) == [5, {"base64": "eA=="}]
    assert to_json(msgpack.Timestamp(0)) == "Timestamp(seconds=0, nanoseconds=0)"


def test_a_body_that_is_a_text_is_shown_as_one() -> None:
    assert body_text({"text": "a\nb"}) == "a\nb"
    assert body_text("a") == "a"
    assert json.loads(body_text({"text": "a", "more": 1})) == {"text": "a", "more": 1}
    assert body_text({"text": 5}) == '{\n  "text": 5\n}'


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.9, "0s"), (59, "59s"), (61, "1m 1s"), (7300, "2h 1m"), (200_000, "2d 7h")]
)
def test_times_are_written_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
