"""Bodies: what goes in comes out, and what a peer made up is an error of its own."""

import contextlib
import datetime as dt
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.errors import BodyError
from zmesh.peer.body import pack_body, unpack_body

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)
KEYS = st.text(st.characters(exclude_categories=["Cs"])) | st.integers(-(2**63), 2**64 - 1) | st.binary()
BODIES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)


@given(BODIES)
def test_what_is_packed_is_unpacked_again(body: Any) -> None:
    data, packed = pack_body(body)
    again = unpack_body(data, packed=packed)
    assert again == body
    assert type(again) is type(body)


def test_bytes_travel_as_they_are() -> None:
    assert pack_body(b"\xc1 no msgpack") == (b"\xc1 no msgpack", False)
    assert unpack_body(b"\xc1 no msgpack", packed=False) == b"\xc1 no msgpack"
    assert pack_body(b"") == (b"", False)


def test_tuples_arrive_as_lists_and_byte_arrays_as_bytes() -> None:
    data, packed = pack_body({"pair": (1, 2), "raw": bytearray(b"x")})
    assert unpack_body(data, packed=packed) == {"pair": [1, 2], "raw": b"x"}


def _endless() -> list[Any]:
    body: list[Any] = []
    body.append(body)
    return body


@pytest.mark.parametrize(
    "body",
    [
        object(),
        {1, 2},
        2**64,
        -(2**63) - 1,
        "\ud800",
        [dt.datetime.now(dt.UTC)],
        {"f": print},
        _endless(),
        {(1, 2): 3},
        [{"a": {(): 1}}],
    ],
    ids=[
        "object",
        "set",
        "too large",
        "too small",
        "surrogate",
        "datetime",
        "function",
        "endless",
        "tuple as key",
        "empty tuple as key, deep",
    ],
)
def test_what_msgpack_cannot_carry_is_an_error_that_names_the_type(body: Any) -> None:
    with pytest.raises(BodyError, match="Use None, bool, int") as caught:
        pack_body(body)
    assert f"type {type(body).__name__} " in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x92\x01", b"\x01\x02", b"\xa2\xff\xfe", b"\x81\x90\x01", b"\xdf\xff\xff\xff\xff", b"\x91" * 5000],
    ids=["empty", "unused", "short", "long", "not utf-8", "list as key", "four billion", "deep"],
)
def test_a_body_that_is_not_what_it_says_is_an_error_of_the_sender(data: bytes) -> None:
    with pytest.raises(BodyError, match="the sender says this body is msgpack"):
        unpack_body(data, packed=True)


@given(st.binary())
def test_nothing_that_a_peer_sends_raises_anything_else(data: bytes) -> None:
    with contextlib.suppress(BodyError):
        unpack_body(data, packed=True)


ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(SCALARS | st.tuples(SCALARS), inner),
    max_leaves=10,
)


@given(ANYTHING)
def test_what_is_sent_can_be_read(body: Any) -> None:
    try:
        data, packed = pack_body(body)
    except BodyError:
        return  # the sender hears of it, who can do something about it
    unpack_body(data, packed=packed)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(SCALARS, inner), max_leaves=10))
def test_keys_of_any_kind_are_taken(body: Any) -> None:
    assert unpack_body(msgpack.packb(body), packed=True) == body
