"""Frames: whatever the cut points, the same arrays; whatever is malformed, an error, and never more than the bound."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.daemon.wire import HEAD, MAX_FRAME, Frames, pack
from zmesh.errors import DaemonError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.tuples(st.integers(0, 2**40), VALUES, VALUES).map(list)


def framed(packed: bytes) -> bytes:
    return len(packed).to_bytes(HEAD, "big") + packed


@given(st.lists(MESSAGES, max_size=5), st.lists(st.integers(0, 200), max_size=12))
def test_frames_are_the_same_wherever_they_are_cut(messages: list[list[Any]], cuts: list[int]) -> None:
    data = b"".join(map(pack, messages))
    frames, heard, start = Frames(), [], 0
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        heard += list(frames.feed(data[start:end]))
        start = end
    assert heard == messages


@given(st.binary(max_size=300))
def test_garbage_is_an_error_or_waits_for_more(data: bytes) -> None:
    try:
        heard = list(Frames().feed(data))
    except DaemonError:
        return
    assert all(type(message[0]) is int and len(message) >= 3 for message in heard)


@pytest.mark.parametrize(
    "value", [None, 7, "text", {}, [], [1], [1, "a"], ["1", "a", {}], [None, "a", {}], [True, "a", {}], [1.0, "a", {}]]
)
def test_what_is_no_array_of_a_number_and_two_fields_is_refused(value: Any) -> None:
    with pytest.raises(DaemonError, match="no array"):
        list(Frames().feed(framed(msgpack.packb(value))))


def test_a_frame_that_ends_too_early_or_is_nested_too_deep_is_refused() -> None:
    for packed in (b"", b"\x93\x01", b"\xc1", b"\x91" * 100_000, b"\x93\x01\xa1\xff\xc0", b"\x93\x01\x02\x03\x04"):
        with pytest.raises(DaemonError, match="cannot be read"):
            list(Frames().feed(framed(packed)))


def test_an_oversized_frame_is_refused_by_its_length_alone() -> None:
    frames = Frames()
    with pytest.raises(DaemonError, match=f"more than {MAX_FRAME}"):
        list(frames.feed((MAX_FRAME + 1).to_bytes(HEAD, "big")))
    assert list(Frames().feed(MAX_FRAME.to_bytes(HEAD, "big"))) == []


def test_what_is_too_long_is_not_sent() -> None:
    with pytest.raises(DaemonError, match="make it smaller"):
        pack([1, "send", {"body": bytes(MAX_FRAME)}])
    assert len(pack([1, "send", bytes(MAX_FRAME - 100)])) <= MAX_FRAME + HEAD
