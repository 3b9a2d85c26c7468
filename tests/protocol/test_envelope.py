"""The envelope: what is written is read, and what is hostile is refused with one error."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.test_address import names
from tests.protocol.vectors import generate
from zmesh.protocol.bounds import ID_BYTES, MAX_ENVELOPE, MAX_NAME
from zmesh.protocol.envelope import Envelope, is_type, unpack_envelope
from zmesh.protocol.errors import ProtocolError

unhurried = settings(deadline=None)  # a busy machine is no reason to fail
types = st.text(min_size=1, max_size=MAX_NAME).filter(is_type)
ids_or_empty = st.sampled_from([b"", b"\x01" * ID_BYTES, bytes(ID_BYTES)])
envelopes = st.builds(
    Envelope,
    to=names,
    sender=st.builds("{}@{}".format, names, names),
    type=types,
    thread=ids_or_empty,
    reply_to=ids_or_empty,
    sent_at=st.integers(0, (1 << 63) - 1),
    packed=st.booleans(),
)

GOOD: list[Any] = ["inbox", "code@studio", "chat", b"", b"", 1_700_000_000_000, True]
WRONG: dict[int, list[Any]] = {
    0: ["", "Inbox", "a b", "a@b", "x" * 64, b"inbox", None, 1, ["inbox"], {"a": 1}],
    1: ["", "code", "code@", "@studio", "a@b@c", "Code@studio", "code@studio~abcd", b"code@studio", None, 5, []],
    2: ["", "x" * (MAX_NAME + 1), "a\nb", "\x1b[31m", "a\u202eb", "\ufeff", "\U000e0041", b"chat", None, 0, ["chat"]],
    3: [b"x", b"x" * 17, "", "x" * ID_BYTES, None, 0, []],
    4: [b"x" * 15, b"x" * 32, "", None, 0, False],
    5: [-1, 1 << 63, 1.0, "0", None, True, b"", msgpack.Timestamp(1), msgpack.ExtType(3, b"x")],
    6: [0, 1, None, "true", b"\x01", []],
}


def refused(data: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        unpack_envelope(data)
    assert caught.value.code == "bad-envelope"
    return caught.value.text


@unhurried
@given(envelopes)
def test_what_is_packed_is_unpacked(envelope: Envelope) -> None:
    data = envelope.pack()
    assert len(data) <= MAX_ENVELOPE
    assert unpack_envelope(data) == envelope


def test_the_longest_envelope_fits() -> None:
    name, ident = "x" * MAX_NAME, b"\xff" * ID_BYTES
    longest = Envelope(name, f"{name}@{name}", "\U0001f600" * MAX_NAME, ident, ident, (1 << 63) - 1, packed=True)
    assert unpack_envelope(longest.pack()) == longest
    assert longest.sender_peer == name


def test_a_text_of_a_subclass_is_packed_as_text() -> None:
    class Name(str):
        __slots__ = ()

    envelope = Envelope(Name("inbox"), Name("code@studio"), Name("chat"), b"", b"", 0, packed=False)
    assert unpack_envelope(envelope.pack()) == envelope


@pytest.mark.parametrize(("place", "value"), [(i, v) for i, values in WRONG.items() for v in values])
def test_every_field_refuses_what_it_must_not_hold(place: int, value: object) -> None:
    fields = [*GOOD]
    fields[place] = value
    assert refused(msgpack.packb(fields))


def test_trailing_fields_of_a_later_version_are_ignored() -> None:
    data = msgpack.packb([*GOOD, ["a", [1]], None, b"x", 1.5])
    assert unpack_envelope(data) == unpack_envelope(msgpack.packb(GOOD))


@pytest.mark.parametrize("later", [{"a": 1}, [{}], msgpack.ExtType(5, b"x"), msgpack.Timestamp(1)])
def test_what_no_version_may_hold_is_refused_in_later_fields_too(later: object) -> None:
    assert refused(msgpack.packb([*GOOD, later])).startswith("not one msgpack array: ")


@pytest.mark.parametrize("fields", [[], GOOD[:6]])
def test_fewer_than_seven_fields_are_refused(fields: object) -> None:
    assert refused(msgpack.packb(fields)) == "not an array of 7 fields"


@pytest.mark.parametrize("value", [None, 7, "text", b"bytes", {"to": "inbox"}])
def test_what_is_no_array_is_refused(value: object) -> None:
    assert refused(msgpack.packb(value)).startswith("not one msgpack array: ")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x97",
        b"\x90\x90",
        b"\x91" * MAX_ENVELOPE,
        b"\x81\x90\x01",
        b"\x81\x80\x01",
        b"\x81\x01\x01",
        b"\x91\xa1\xff",
        b"\x91\xa3\xed\xa0\x80",
        b"\x91\xc7\x0c\xff" + b"\xff" * 12,
        b"\x91\xd4\xff\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ],
)
def test_what_is_no_msgpack_is_refused(data: bytes) -> None:
    assert refused(data).startswith("not one msgpack array: ")


def test_a_long_envelope_is_refused_unread() -> None:
    assert refused(b"\x00" * (MAX_ENVELOPE + 1)) == f"{MAX_ENVELOPE + 1} bytes, more than {MAX_ENVELOPE}"


def assert_read_or_refused(data: bytes) -> None:
    try:
        envelope = unpack_envelope(data)
    except ProtocolError:
        assert refused(data)
    else:
        assert unpack_envelope(envelope.pack()) == envelope


@unhurried
@given(st.binary(max_size=MAX_ENVELOPE + 1))
def test_arbitrary_bytes_are_an_envelope_or_a_protocol_error(data: bytes) -> None:
    assert_read_or_refused(data)


@unhurried
@given(envelopes, st.data())
def test_a_damaged_envelope_is_an_envelope_or_a_protocol_error(envelope: Envelope, data: st.DataObject) -> None:
    octets = bytearray(envelope.pack())
    place = data.draw(st.integers(0, len(octets) - 1))
    octets[place] = data.draw(st.integers(0, 255))
    assert_read_or_refused(bytes(octets))
    assert_read_or_refused(bytes(octets[:place]))


@pytest.mark.parametrize("text", ["chat", "a b", "\u4f60\u597d", "e\u0301", "\U0001fae8", "\U0001f469\u200d\U0001f4bb"])
def test_words_in_any_language_are_types(text: str) -> None:
    assert is_type(text)


@pytest.mark.parametrize("text", ["", "x" * 64, "\t", "a\u2028b", "a\u200bb", "\ud800", "a\x7f", 7, None, b"chat"])
def test_hidden_long_and_foreign_things_are_no_types(text: object) -> None:
    assert not is_type(text)


@pytest.mark.parametrize("vector", generate.load("envelopes.json"), ids=generate.name_of)
def test_a_vector_is_read_or_refused_as_it_says(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["data"])
    if "error" in vector:
        assert refused(data)
        assert vector["error"] == "bad-envelope"
    else:
        envelope = unpack_envelope(data)
        assert generate.as_json(envelope) == vector["fields"]
        assert data.startswith(envelope.pack()[1:], 1)
        assert generate.from_json(Envelope, vector["fields"]) == envelope
