"""Entries: what is signed is what is read; whatever else comes is a `TrustError` and nothing worse."""

# ruff: noqa: SLF001 - what no honest device does is done from inside

import dataclasses
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trust.support import AT, DEVICES, founding
from zmesh.errors import TrustError
from zmesh.trust import entry as module
from zmesh.trust.device import Device
from zmesh.trust.entry import (
    MAX_PAYLOAD,
    MAX_SEQ,
    NO_HASH,
    Body,
    Certificate,
    Entry,
    Genesis,
    Joining,
    Rename,
    Revocation,
    Unknown,
    read,
    sign,
)

ADA, BOB = DEVICES[0], DEVICES[1]
GENESIS = founding()
MESH = GENESIS.mesh


def craft(*, device: Device = ADA, **changes: Any) -> tuple[bytes, bytes]:
    """A payload with anything in it, and a signature that holds."""
    fields = {
        "version": 1,
        "mesh": MESH,
        "author": device.public,
        "seq": 2,
        "prev": GENESIS.hash,
        "at": AT,
        "kind": 1,
        "fields": [BOB.public, "bob"],
    } | changes
    payload: bytes = msgpack.packb(list(fields.values()))
    return payload, device.sign(module._DOMAIN + payload)


@pytest.mark.parametrize(
    "body",
    [
        Certificate(BOB.public, "bob"),
        Revocation(BOB.public, 3, b"h" * 32, "lost on a train"),
        Revocation(BOB.public, 0, NO_HASH, ""),
        Rename(BOB.public, "b.o-b_2"),
    ],
)
def test_what_is_signed_is_what_is_read(body: Body) -> None:
    entry = sign(ADA, MESH, GENESIS, body, AT)
    assert (entry.seq, entry.prev, entry.body, entry.device) == (2, GENESIS.hash, body, ADA.id)
    assert read(entry.payload, entry.signature) == entry
    assert len(entry.payload) < MAX_PAYLOAD // 2


def test_a_genesis_is_the_mesh_and_a_joining_the_first_entry() -> None:
    assert GENESIS.mesh == GENESIS.hash == read(GENESIS.payload, GENESIS.signature).mesh
    joining = sign(BOB, MESH, None, Joining(ADA.public), AT)
    assert (joining.seq, joining.prev) == (1, NO_HASH)
    with pytest.raises(TrustError, match="founds or joins"):
        sign(BOB, MESH, joining, Joining(ADA.public), AT)
    with pytest.raises(TrustError, match="of no mesh"):
        sign(BOB, MESH, None, Genesis("bob", b"r" * 32, b"n" * 32), AT)


def test_the_longest_entry_fits() -> None:
    longest = Revocation(BOB.public, MAX_SEQ, b"h" * 32, "\u4e16" * 66)
    assert len(sign(ADA, MESH, GENESIS, longest, AT).payload) < MAX_PAYLOAD // 2


@pytest.mark.parametrize(
    "body",
    [
        Certificate(BOB.public, "Bob"),
        Certificate(BOB.public, "x" * 64),
        Certificate(BOB.public[:31], "bob"),
        Rename(BOB.public, ""),
        Revocation(BOB.public, 0, NO_HASH, "x" * 201),
        Revocation(BOB.public, 0, NO_HASH, "\u4e16" * 67),
        Revocation(BOB.public, 0, NO_HASH, "two\nlines"),
        Revocation(BOB.public, 0, NO_HASH, "\x1b[31mred"),
        Revocation(BOB.public, 0, NO_HASH, "\u202ebackwards"),
        Revocation(BOB.public, 1, NO_HASH, ""),
        Revocation(BOB.public, 0, b"h" * 32, ""),
        Revocation(BOB.public, -1, b"h" * 32, ""),
        Revocation(BOB.public, MAX_SEQ + 1, b"h" * 32, ""),
    ],
)
def test_what_others_could_not_read_is_not_signed(body: Body) -> None:
    with pytest.raises(TrustError):
        sign(ADA, MESH, GENESIS, body, AT)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"version": 2}, "upgrade zmesh"),
        ({"version": "1"}, "upgrade zmesh"),
        ({"mesh": MESH[:31]}, "wrong length"),
        ({"author": "a" * 32}, "wrong length"),
        ({"prev": b""}, "wrong length"),
        ({"seq": 0}, "out of bounds"),
        ({"seq": -1}, "out of bounds"),
        ({"seq": True}, "in place of a number"),
        ({"seq": 2.0}, "in place of a number"),
        ({"seq": MAX_SEQ + 1}, "at most 2048"),
        ({"seq": 1}, "lost the one before"),
        ({"prev": NO_HASH}, "lost the one before"),
        ({"at": -1}, "out of bounds"),
        ({"at": 1 << 53}, "out of bounds"),
        ({"at": None}, "in place of a number"),
        ({"kind": 128}, "out of bounds"),
        ({"kind": b"1"}, "in place of a number"),
        ({"fields": 1}, "no fields"),
        ({"fields": []}, "0 fields, not 2"),
        ({"fields": [BOB.public, 1]}, "a name that is none"),
        ({"fields": [BOB.public, "bob", 0]}, "3 fields, not 2"),
        ({"mesh": NO_HASH}, "of no mesh"),
        ({"kind": 0, "fields": ["a", b"r" * 32, b"n" * 32]}, "of no mesh"),
        ({"kind": 2, "fields": [BOB.public, True, b"h" * 32, ""]}, "out of bounds"),
        ({"extra": 1}, "eight fields"),
        ({"fields": {1: 2}}, "cannot be read"),
        ({"fields": [[[[[]]]]]}, "1 fields"),
    ],
)
def test_what_is_malformed_is_refused_though_it_is_signed(changes: dict[str, Any], what: str) -> None:
    assert read(*craft()).seq == 2
    with pytest.raises(TrustError, match=what):
        read(*craft(**changes))


def test_a_kind_of_a_later_version_keeps_its_place_and_says_nothing() -> None:
    entry = read(*craft(kind=77, fields=["whatever", 1]))
    assert (entry.body, entry.seq) == (Unknown(77), 2)
    assert sign(ADA, MESH, entry, Rename(ADA.public, "a"), AT).prev == entry.hash


def test_a_forged_signature_is_refused_and_names_who_is_said_to_have_signed() -> None:
    payload, _ = craft()
    for signature in (bytes(64), BOB.sign(module._DOMAIN + payload), ADA.sign(payload)):
        with pytest.raises(TrustError, match=f"names {ADA.id} was not signed by it"):
            read(payload, signature)


@pytest.mark.parametrize(
    ("payload", "signature"),
    [("text", b"s" * 64), (None, b""), (10**12, b"s" * 64), (b"", "s" * 64), (b"x" * 1025, b"s" * 64), (b"x", b"s")],
)
def test_what_is_no_bytes_or_too_long_is_refused_at_once(payload: Any, signature: Any) -> None:
    with pytest.raises(TrustError):
        read(payload, signature)


def test_another_way_of_writing_the_same_is_refused() -> None:
    payload, _ = craft()
    for other in (payload.replace(b"\x98", b"\xdc\x00\x08", 1), payload + b"\xc0"):
        with pytest.raises(TrustError, match="cannot be read"):
            read(other, ADA.sign(module._DOMAIN + other))


@given(st.binary(max_size=1200), st.binary(max_size=70))
def test_any_bytes_are_refused(payload: bytes, signature: bytes) -> None:
    with pytest.raises(TrustError):
        read(payload, signature)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_changed_octet_is_refused(place: int, change: int) -> None:
    payload, signature = craft()
    whole = bytearray(payload + signature)
    whole[place % len(whole)] ^= change
    with pytest.raises(TrustError):
        read(bytes(whole[: len(payload)]), bytes(whole[len(payload) :]))


@settings(max_examples=30)
@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(), st.lists))
def test_any_signed_fields_are_read_or_refused(value: object) -> None:
    for kind in (0, 1, 2, 3, 4):
        payload: bytes = msgpack.packb([1, MESH, ADA.public, 2, GENESIS.hash, AT, kind, value])
        with pytest.raises(TrustError):
            read(payload, ADA.sign(module._DOMAIN + payload))


def test_an_entry_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GENESIS.seq = 2  # type: ignore[misc]
    assert isinstance(GENESIS, Entry)
