"""Store ids for tests: as many of a device as a test wants, the same every time."""

from zmesh.protocol import ownership


def store_of(device: str, number: int) -> bytes:
    """Return the id of a store of this device; ids of small numbers differ in their last eight bytes."""
    return ownership.store_of(device, number.to_bytes(ownership.NONCE_BYTES, "little"))
