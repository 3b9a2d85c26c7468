"""Agent keys: the same from the same device, others from anything else; a certificate is for what it says alone."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trust.support import DEVICES, founding
from zmesh.errors import TrustError
from zmesh.protocol.bounds import MAX_NAME
from zmesh.trust import agent_key as module
from zmesh.trust.agent_key import MAX_CERTIFICATE, AgentCertificate, certify, derive_key, verify_certificate
from zmesh.trust.device import Device, verify

ADA, BOB = DEVICES[0], DEVICES[1]
MESH = founding().mesh
STORE = bytes(range(16))
KEY = derive_key(ADA, STORE, "coder")
CERTIFICATE = certify(ADA, MESH, KEY)

unhurried = settings(deadline=None)  # a busy machine is no reason to fail
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
stores = st.binary(min_size=16, max_size=16)
meshes = st.binary(min_size=32, max_size=32) | st.just(b"")
seeds = st.binary(min_size=32, max_size=32)


def check(data: object, **changes: Any) -> AgentCertificate:
    arguments: dict[str, Any] = {"device": ADA.public, "mesh": MESH, "store": STORE, "name": "coder"} | changes
    return verify_certificate(data, **arguments)


def craft(*fields: object, device: Device = ADA) -> bytes:
    """Anything, with a signature that holds."""
    said = list(fields)
    packed: bytes = msgpack.packb([*said, device.sign(module._signed(said))])  # noqa: SLF001 - as nobody honest would
    return packed


# --- keys -------------------------------------------------------------------------------------------------------------


@unhurried
@given(seeds, stores, names)
def test_a_key_follows_from_device_store_and_name_alone(seed: bytes, store: bytes, name: str) -> None:
    key = derive_key(Device.from_seed(seed), store, name)
    assert derive_key(Device.from_seed(seed), store, name) == key
    assert verify(key.public, b"data", key.sign(b"data"))
    assert key.seed != seed


@unhurried
@given(st.lists(st.tuples(seeds, stores, names), min_size=2, max_size=4, unique=True))
def test_no_two_agents_have_one_key(agents: list[tuple[bytes, bytes, str]]) -> None:
    keys = {derive_key(Device.from_seed(seed), store, name).public for seed, store, name in agents}
    assert len(keys) == len(agents)


def test_a_key_is_as_it_always_was() -> None:
    """What was signed once must be signed by the same author after an upgrade."""
    assert KEY.public.hex() == "0c9861a29fc5fff5677c648c37a03b276e876096d8a3b6dc938f14919bbd46d8"


def test_no_secret_is_shown() -> None:
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY.seed) not in repr(KEY)


@pytest.mark.parametrize("store", [b"", bytes(15), bytes(17), "s" * 16, None])
def test_a_store_without_an_id_has_no_keys(store: Any) -> None:
    with pytest.raises(TrustError, match="the id of a store has 16 bytes"):
        derive_key(ADA, store, "coder")


@pytest.mark.parametrize("name", ["", "Coder", "a b", "x" * (MAX_NAME + 1), None, b"coder"])
def test_what_is_no_name_has_no_key(name: Any) -> None:
    with pytest.raises(TrustError, match="the name of an agent"):
        derive_key(ADA, STORE, name)


# --- certificates -----------------------------------------------------------------------------------------------------


@unhurried
@given(seeds, meshes, stores, names)
def test_what_a_device_certifies_is_what_is_checked(seed: bytes, mesh: bytes, store: bytes, name: str) -> None:
    device = Device.from_seed(seed)
    key = derive_key(device, store, name)
    certificate = certify(device, mesh, key)
    assert verify_certificate(certificate.packed, device.public, mesh=mesh, store=store, name=name) == certificate
    assert certificate.public == key.public


def test_the_longest_certificate_fits() -> None:
    packed = certify(ADA, MESH, derive_key(ADA, STORE, "x" * MAX_NAME)).packed
    assert len(packed) == 219
    assert len(packed) < MAX_CERTIFICATE


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"device": BOB.public}, "was not signed by device"),
        ({"device": b"short"}, "was not signed by device"),
        ({"mesh": founding(BOB).mesh}, "is for another mesh"),
        ({"mesh": b""}, "is for another mesh"),
        ({"store": bytes(16)}, "is for another store"),
        ({"name": "browser"}, "is for another agent"),
    ],
)
def test_a_certificate_for_something_else_is_refused(changes: dict[str, Any], why: str) -> None:
    assert check(CERTIFICATE.packed) == CERTIFICATE
    with pytest.raises(TrustError, match=why):
        check(CERTIFICATE.packed, **changes)


def test_one_that_another_device_made_for_itself_is_refused() -> None:
    forged = certify(BOB, MESH, derive_key(BOB, STORE, "coder"))
    with pytest.raises(TrustError, match="was not signed by device"):
        check(forged.packed)


def test_a_signature_over_the_same_fields_for_another_purpose_does_not_hold() -> None:
    said = [1, MESH, STORE, "coder", KEY.public]
    with pytest.raises(TrustError, match="was not signed by device"):
        check(msgpack.packb([*said, ADA.sign(msgpack.packb(said))]))
    with pytest.raises(TrustError, match="was not signed by device"):
        check(msgpack.packb([*said, ADA.sign(b"zmesh membership 1\0" + msgpack.packb(said))]))


@unhurried
@given(st.integers(0, len(CERTIFICATE.packed) - 1), st.integers(1, 255))
def test_a_certificate_in_which_anything_was_changed_is_refused(place: int, flip: int) -> None:
    data = bytearray(CERTIFICATE.packed)
    data[place] ^= flip
    with pytest.raises(TrustError):
        check(bytes(data))


@unhurried
@given(st.binary(max_size=300) | st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.binary(max_size=64) | st.text(max_size=8),
    lambda values: st.lists(values, max_size=7), max_leaves=10,
).map(msgpack.packb))  # fmt: skip
def test_whatever_comes_is_a_certificate_or_refused(data: bytes) -> None:
    with pytest.raises(TrustError):
        check(data)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ((2, MESH, STORE, "coder", KEY.public), "not of version 1"),
        ((True, MESH, STORE, "coder", KEY.public), "not of version 1"),
        ((1, MESH, STORE, "coder"), "has not 6 fields"),
        ((1, MESH, STORE, "coder", KEY.public, 0), "array|fields"),
        ((1, MESH[:31], STORE, "coder", KEY.public), "the id of a mesh"),
        ((1, MESH, STORE[:15], "coder", KEY.public), "the id of a store"),
        ((1, MESH, STORE, "Coder", KEY.public), "the name of an agent"),
        ((1, MESH, STORE, b"coder", KEY.public), "the name of an agent"),
        ((1, MESH, STORE, "coder", KEY.public[:31]), "the public key of an agent"),
        ((1, MESH, STORE, "coder", None), "the public key of an agent"),
    ],
)
def test_what_a_device_should_not_have_signed_is_refused(fields: tuple[object, ...], why: str) -> None:
    with pytest.raises(TrustError, match=why):
        check(craft(*fields))


@pytest.mark.parametrize("signature", [None, "s" * 64, bytes(63), bytes(65)])
def test_without_a_signature_it_is_none(signature: object) -> None:
    with pytest.raises(TrustError, match="has no signature"):
        check(msgpack.packb([1, MESH, STORE, "coder", KEY.public, signature]))


@pytest.mark.parametrize("data", [None, "text", bytes(MAX_CERTIFICATE + 1), b""])
def test_what_is_not_bytes_or_too_many_is_refused(data: object) -> None:
    with pytest.raises(TrustError, match="certificate of an agent"):
        check(data)


def test_a_certificate_that_is_not_canonical_is_refused() -> None:
    data = CERTIFICATE.packed
    assert data[1] == 1
    with pytest.raises(TrustError, match="canonical"):
        check(data[:1] + b"\xcc\x01" + data[2:])


def test_who_is_in_no_mesh_certifies_for_none() -> None:
    certificate = certify(ADA, b"", KEY)
    assert check(certificate.packed, mesh=b"") == certificate
    with pytest.raises(TrustError, match="another mesh"):
        check(certificate.packed)
    with pytest.raises(TrustError, match="the id of a mesh"):
        certify(ADA, b"mesh", KEY)
