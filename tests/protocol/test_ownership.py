"""Store ids: of one device, and of no other."""

from base64 import b32encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.vectors import generate
from zmesh.protocol.bounds import ID_BYTES
from zmesh.protocol.ownership import NONCE_BYTES, owns, store_of

DEVICES = st.binary(min_size=20, max_size=20).map(lambda digest: b32encode(digest).decode().lower())
NONCES = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)


@given(device=DEVICES, nonce=NONCES)
def test_a_device_owns_what_it_made(device: str, nonce: bytes) -> None:
    store = store_of(device, nonce)
    assert len(store) == ID_BYTES
    assert store[-NONCE_BYTES:] == nonce
    assert owns(device, store)


@given(device=DEVICES, other=DEVICES, nonce=NONCES)
def test_no_other_device_owns_it(device: str, other: str, nonce: bytes) -> None:
    assert owns(other, store_of(device, nonce)) == (other == device)
    assert not owns("", store_of(device, nonce))


@given(device=DEVICES, nonce=NONCES, bit=st.integers(0, 8 * ID_BYTES - 1))
def test_every_bit_of_the_id_counts(device: str, nonce: bytes, bit: int) -> None:
    changed = int.from_bytes(store_of(device, nonce), "big") ^ 1 << bit
    assert not owns(device, changed.to_bytes(ID_BYTES, "big"))


@given(device=DEVICES, store=st.binary(max_size=2 * ID_BYTES).filter(lambda store: len(store) != ID_BYTES))
def test_what_is_no_store_id_belongs_to_nobody(device: str, store: bytes) -> None:
    assert not owns(device, store)
    assert not owns(device, store_of(device, bytes(NONCE_BYTES))[:-1])


@pytest.mark.parametrize("size", [0, NONCE_BYTES - 1, NONCE_BYTES + 1])
def test_a_nonce_has_one_length(size: int) -> None:
    with pytest.raises(ValueError, match=f"8 bytes, not {size}"):
        store_of("a" * 32, bytes(size))


@pytest.mark.parametrize("vector", generate.load("stores.json"), ids=generate.name_of)
def test_a_vector_is_owned_as_it_says(vector: dict[str, Any]) -> None:
    assert owns(vector["device"], bytes.fromhex(vector["store"])) == vector["owned"]
