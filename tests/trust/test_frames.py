"""Frames: bounded, in order, and whatever comes is read or refused."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust.support import DEVICES, Scribe, rows
from zmesh.errors import TrustError
from zmesh.trust.entry import Rename
from zmesh.trust.frames import MAX_KNOCK, pack_entries, unpack_entries


def test_entries_travel_in_order_in_frames_of_bounded_size() -> None:
    scribe = Scribe()
    for number in range(100):
        scribe.sign(DEVICES[0], Rename(DEVICES[0].public, f"a{number}"))
    messages = list(pack_entries(scribe.entries))
    assert max(map(len, messages)) <= MAX_KNOCK
    assert len(messages) < 12
    assert [row for message in messages for row in unpack_entries(message)] == rows(scribe.entries)
    assert list(pack_entries([])) == []


@pytest.mark.parametrize("value", [1, None, [1], [[1, 2]], [[b""]], [[b"", b"", b""]], [["a", b"b"]], [[10**15, b""]]])
def test_what_is_no_list_of_pairs_is_refused(value: object) -> None:
    with pytest.raises(TrustError):
        unpack_entries(msgpack.packb(value))


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    try:
        pairs = unpack_entries(message)
    except TrustError:
        return
    assert all(isinstance(part, bytes) for pair in pairs for part in pair)
