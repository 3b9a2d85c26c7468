"""One msgpack array from hostile octets: read within its bounds, or refused with a ValueError."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgpack import fallback

from zmesh.protocol.bounds import MAX_ARRAY, MAX_ARRAYS, MAX_DEPTH, MAX_ENVELOPE
from zmesh.protocol.packed import unpack_array

unhurried = settings(deadline=None)  # a busy machine is no reason to fail
UNPACKERS = {"C": msgpack.unpackb, "Python": fallback.unpackb}
scalars = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False)
values = st.recursive(scalars | st.text() | st.binary(), lambda inner: st.lists(inner, max_size=5), max_leaves=20)


@pytest.fixture(params=UNPACKERS, autouse=True)
def _unpacker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without a compiler reads with the slower one: both must refuse the same."""
    monkeypatch.setattr(msgpack, "unpackb", UNPACKERS[request.param])


def nested(depth: int) -> list[Any]:
    array: list[Any] = []
    for _ in range(depth - 1):
        array = [1, array]
    return array


def test_what_was_packed_is_read() -> None:
    assert unpack_array(msgpack.packb([1, "text"])) == [1, "text"]
    fields = [None, True, -1, 1.5, "text", b"octets", [[], [[1]]]]
    assert unpack_array(msgpack.packb(fields)) == fields
    assert unpack_array(memoryview(msgpack.packb(fields))) == fields


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "."),
        (b"\xc1", "."),
        (b"\x90\x90", "."),
        (b"\x91", "."),
        (b"\x91\xa1\xff", "."),
        (b"\x01", "not an array"),
        (b"\x80", "map"),
        (b"\x91\x81\xa1a\x01", "map"),
        (b"\x91\xc7\x00\x05", "extension"),
        (b"\x91\xd4\x05x", "ext"),
        (b"\x91\xd6\xff\x00\x00\x00\x01", "ext"),
        (b"\xdd\xff\xff\xff\xff", "."),
        (msgpack.packb([0] * (MAX_ARRAY + 1)), "exceeds"),
        (b"\x91" * 100_000, "."),
    ],
)
def test_anything_else_is_refused_with_a_reason(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        unpack_array(data)


@pytest.mark.parametrize("wide", [False, True])
def test_the_depth_is_bounded(*, wide: bool) -> None:
    more: list[Any] = [[[]] * 100] * 5 if wide else []
    assert unpack_array(msgpack.packb([nested(MAX_DEPTH - 1), *more]))
    with pytest.raises(ValueError, match="nested too deep"):
        unpack_array(msgpack.packb([nested(MAX_DEPTH), *more]))


def test_the_number_of_arrays_is_bounded() -> None:
    rows: list[Any] = [[[]] * (MAX_ARRAY - 1)] * 3 + [[[]] * (MAX_ARRAYS - 3 * MAX_ARRAY - 2)]
    assert unpack_array(msgpack.packb(rows)) == rows
    with pytest.raises(ValueError, match="too many arrays"):
        unpack_array(msgpack.packb([*rows, []]))


def test_what_is_too_short_for_too_many_arrays_is_not_counted() -> None:
    """An envelope is always so short, and it comes with every message."""
    assert MAX_ENVELOPE <= MAX_ARRAYS
    most: list[Any] = [[[]] * 500] * 4
    data = msgpack.packb(most)
    assert len(data) <= MAX_ARRAYS
    assert unpack_array(data) == most


@unhurried
@given(st.lists(values, max_size=9))
def test_whatever_is_packed_is_read_unless_it_is_too_deep(fields: list[Any]) -> None:
    try:
        assert unpack_array(msgpack.packb(fields)) == fields
    except ValueError as error:
        assert "nested too deep" in str(error)  # noqa: PT017 - both ends are right


@unhurried
@given(st.binary(max_size=200))
def test_arbitrary_octets_are_an_array_or_a_value_error(data: bytes) -> None:
    try:
        assert isinstance(unpack_array(data), list)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - both ends are right
