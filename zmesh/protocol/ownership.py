"""Whose a store is: the id of a store says which device it was made on, so that no other device can claim it.

The id holds a hash over the device's id, which is itself the fingerprint of the key that CURVE has checked. So whoever
hears of a store can tell whether it belongs to the device that speaks for it, without having met either. This module
must never draw randomness: the nonce comes from outside.
"""

from hashlib import blake2b
from typing import Final

from zmesh.protocol.bounds import ID_BYTES

NONCE_BYTES: Final = 8  # 64 bits: one device makes a store now and then, so its own never meet
TAG_BYTES: Final = ID_BYTES - NONCE_BYTES  # 64 bits: a device key that fits another's store takes 2^64 attempts
_PREFIX: Final = b"zmesh store"  # no hash over anything else is one over this


def store_of(device: str, nonce: bytes) -> bytes:
    """Return the id of a store: the hash that binds it to the device, and the nonce.

    The hash comes first, because people tell namesakes apart by the first characters of the id.

    Args:
        device: The id of the device it is made on.
        nonce: 8 random bytes.

    Raises:
        ValueError: The nonce has another length.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a store's nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    return blake2b(_PREFIX + nonce + device.encode()).digest()[:TAG_BYTES] + nonce


def owns(device: str, store: bytes) -> bool:
    """Say whether the store with this id (16 bytes) was made on this device."""
    return len(store) == ID_BYTES and store_of(device, store[TAG_BYTES:]) == store
