"""Address records: what a device has signed is read by everybody, and whatever else there is, is a ValueError."""

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stores import store_of
from tests.trust.support import DEVICES
from zmesh.discovery.address_record import (
    MAX_RECORD,
    MAX_VERSION,
    AddressRecord,
    dialled,
    pack_records,
    read_record,
    sign_record,
    unpack_records,
)
from zmesh.discovery.sighting import Sighting
from zmesh.protocol.bounds import MAX_ENDPOINTS

ADA, BOB = DEVICES[:2]
MESH = b"m" * 32
STORE = store_of(ADA.id, 1)
DOMAIN = b"zmesh address 1 "


def own(*endpoints: str, door: int = 7421) -> Sighting:
    return Sighting(STORE, "ada", ADA.id, endpoints or ("tcp://192.0.2.1:7420",), "own", door)


def record(version: int = 1, *endpoints: str) -> AddressRecord:
    return sign_record(ADA, MESH, own(*endpoints), version)


def forged(*fields: object) -> tuple[bytes, bytes]:
    """Signed as it should be, whatever it says."""
    payload: bytes = msgpack.packb(list(fields))
    return payload, ADA.sign(DOMAIN + payload)


GOOD: list[Any] = [1, MESH, ADA.public, 5, STORE, "ada", ["tcp://192.0.2.1:7420"], 7421]


class Nested:
    """Lists within each other, deeper than msgpack would pack or Python can show."""

    def __init__(self, depth: int) -> None:
        self.packed = b"\x91" * depth + b"\x01"


def packed(value: object) -> bytes:
    if isinstance(value, Nested):
        return value.packed
    if isinstance(value, list) and len(value) < 16:
        return bytes([0x90 + len(value)]) + b"".join(map(packed, value))
    plain: bytes = msgpack.packb(value)
    return plain


def test_what_was_signed_is_read() -> None:
    made = record(7, "tcp://127.0.0.1:7420", "tcp://192.0.2.1:7420", "tcp://[2001:db8::1]:7420")
    assert read_record(made.payload, made.signature) == made
    assert (made.mesh, made.public, made.version) == (MESH, ADA.public, 7)
    assert made.sighting == Sighting(
        STORE, "ada", ADA.id, ("tcp://192.0.2.1:7420", "tcp://[2001:db8::1]:7420"), "exchange", 7421
    )


def test_the_loopback_is_named_only_if_there_is_nothing_else() -> None:
    assert record(1, "tcp://127.0.0.1:1").sighting.endpoints == ("tcp://127.0.0.1:1",)


def test_the_longest_record_has_room() -> None:
    address = "tcp://[2001:1db8:1111:1111:1111:1111:1111:{:x}]:65535"
    full = Sighting(STORE, "n" * 63, ADA.id, tuple(map(address.format, range(0xF000, 0xF000 + MAX_ENDPOINTS))), "own")
    made = sign_record(ADA, MESH, full, MAX_VERSION - 1)
    assert len(made.sighting.endpoints) == MAX_ENDPOINTS
    assert len(made.payload) + len(made.signature) < MAX_RECORD


def test_later_fields_are_ignored() -> None:
    assert read_record(*forged(*GOOD, "later", [1, 2])).sighting.name == "ada"


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, 2), (0, "1"), (0, None), (1, b"m" * 31), (1, "m" * 32), (2, BOB.public), (2, b"k"), (2, None), (3, 0),
        (3, -1), (3, MAX_VERSION), (3, True), (3, 1.5), (3, "1"), (4, b"short"), (4, "s" * 16), (5, ""), (5, "No Name"),
        (5, None), (5, "\u202eada"), (6, []), (6, "tcp://192.0.2.1:1"), (6, [1]), (6, ["tcp://host:1"]), (6, None),
        (6, ["tcp://0.0.0.0:1"]), (6, [f"tcp://192.0.2.1:{port}" for port in range(1, MAX_ENDPOINTS + 2)]),
        (7, -1), (7, 65536), (7, None), (7, True), (7, "7421"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_refused_however_well_it_is_signed(position: int, value: object) -> None:
    fields = [*GOOD]
    fields[position] = value
    with pytest.raises(ValueError, match=r"\S") as refused:
        read_record(*forged(*fields))
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("position", range(len(GOOD)))
def test_what_is_nested_without_end_is_an_error_and_no_more(position: int) -> None:
    """Quoting it in an error would exhaust the stack: that would end the peer that reads it."""
    fields = [*GOOD]
    fields[position] = Nested(1015)
    for value in (fields, [*GOOD[:6], [Nested(1015)], 0], Nested(1015), Nested(5000)):
        payload = packed(value)
        with pytest.raises(ValueError, match=r"\S"):
            read_record(payload, bytes(64))


@pytest.mark.parametrize(
    ("payload", "signature"),
    [(b"", bytes(64)), (b"\xc1", bytes(64)), (msgpack.packb({}), bytes(64)), (msgpack.packb(GOOD), b""),
     (msgpack.packb(GOOD), bytes(65)), (msgpack.packb(GOOD), bytes(64)), (bytes(MAX_RECORD), bytes(64)),
     (msgpack.packb(GOOD[:-1]), bytes(64)), (msgpack.packb(GOOD) + b"\0", bytes(64))],
)  # fmt: skip
def test_what_is_no_record_is_refused(payload: bytes, signature: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_record(payload, signature)


def test_a_signature_by_another_device_or_over_something_else_is_none() -> None:
    payload: bytes = msgpack.packb(GOOD)
    for signature in (BOB.sign(DOMAIN + payload), ADA.sign(payload), ADA.sign(b"zmesh member 1 " + payload)):
        with pytest.raises(ValueError, match="has not signed"):
            read_record(payload, signature)


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(max_size=20),
        st.binary(max_size=40),
    ),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=300) | values.map(msgpack.packb), st.binary(max_size=70) | st.just(bytes(64)))
def test_hostile_bytes_are_a_value_error_and_nothing_else(payload: bytes, signature: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_record(payload, signature)


@given(st.lists(values, min_size=8, max_size=9), st.data())
def test_hostile_fields_are_a_value_error_and_nothing_else(changed: list[Any], data: st.DataObject) -> None:
    keep = data.draw(st.sets(st.integers(0, 7), max_size=7))
    fields = [GOOD[at] if at in keep else value for at, value in enumerate(changed)]
    try:
        made = read_record(*forged(*fields))
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either is right
    else:
        assert made.public == ADA.public


@given(st.data())
def test_a_flipped_bit_never_verifies(data: st.DataObject) -> None:
    made = record(3)
    whole = bytearray(made.payload + made.signature)
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ValueError, match=r"\S"):
        read_record(bytes(whole[:-64]), bytes(whole[-64:]))


# --- on the way ---


def test_records_travel_in_messages_of_a_bounded_size() -> None:
    made = [record(version) for version in range(1, 21)]
    messages = list(pack_records(made, 1000))
    assert len(messages) >= 4
    assert max(map(len, messages)) <= 1000
    assert [each for message in messages for each in unpack_records(message, 20)] == made
    assert list(pack_records([], 1000)) == []


@pytest.mark.parametrize(
    "make",
    [lambda: b"", lambda: b"\xc1", lambda: msgpack.packb({}), lambda: msgpack.packb("x"), lambda: msgpack.packb([1]),
     lambda: msgpack.packb([[b"", b"", b""]]), lambda: msgpack.packb([["a", "b"]]), lambda: msgpack.packb([[[], []]]),
     lambda: msgpack.packb([[b"", b""]] * 4), lambda: packed([Nested(1015)]), lambda: b"\x91" * 5000,
     lambda: b"\xdd\xff\xff\xff\xff", lambda: msgpack.packb([[b"", b""]])],
)  # fmt: skip
def test_what_is_no_list_of_records_is_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        list(unpack_records(make(), 3))


@given(st.binary(max_size=200) | values.map(msgpack.packb))
def test_any_message_is_read_or_refused(message: bytes) -> None:
    try:
        assert list(unpack_records(message, 5)) == []
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either is right


def test_what_comes_before_a_forged_record_is_kept() -> None:
    good = record(1)
    rows = [(good.payload, good.signature), (good.payload, bytes(64))]
    found = []
    with pytest.raises(ValueError, match="has not signed"):  # noqa: PT012 - the second one raises
        for each in unpack_records(msgpack.packb(rows), 5):
            found.append(each)  # noqa: PERF402 - what came before counts
    assert found == [good]


# --- where somebody was just reached ---


@pytest.mark.parametrize(
    ("host", "port", "first"),
    [
        ("198.51.100.7", 7420, "tcp://198.51.100.7:7420"),
        ("198.51.100.7", 0, "tcp://198.51.100.7:7000"),
        ("::ffff:198.51.100.7", 9, "tcp://198.51.100.7:9"),
        ("2001:db8::9", 9, "tcp://[2001:db8::9]:9"),
    ],
)
def test_the_address_that_answered_comes_first(host: str, port: int, first: str) -> None:
    seen = dialled(own("tcp://192.0.2.1:7000"), host, port)
    assert seen.endpoints == (first, "tcp://192.0.2.1:7000")


@pytest.mark.parametrize("host", ["fe80::1", "fe80::1%eth0", "224.0.0.1", "0.0.0.0", "studio.local", "", "?"])  # noqa: S104
def test_an_address_that_cannot_be_dialled_is_left_out(host: str) -> None:
    assert dialled(own(), host, 0) == own()


def test_the_number_of_endpoints_stays_bounded() -> None:
    full = own(*(f"tcp://192.0.2.1:{port}" for port in range(1, MAX_ENDPOINTS + 1)))
    seen = dialled(full, "198.51.100.7", 1)
    assert len(seen.endpoints) == MAX_ENDPOINTS
    assert seen.endpoints[0] == "tcp://198.51.100.7:1"
