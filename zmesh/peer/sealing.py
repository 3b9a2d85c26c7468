"""Sealing what goes back on a connection that somebody else has made, so that only the device it is for can read it.

Where a ROUTER sends is decided by a routing id, and a member can take over that of a connection that is gone. A sealed
frame is a NaCl box from our device's key to the recipient's; the keys are those of CURVE. This module must never
send to, nor open for, a device whose key the membership does not know, and must never let anything else that comes back
unsealed count for more than the two frames that carry nothing: RESET, and BYE for a version.
"""

import logging
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from zmesh.protocol.bounds import MAX_PEERS

if TYPE_CHECKING:
    from nacl.public import Box

    from zmesh.trust.device import Device

SEAL: Final = b"ZS\x01"
"""Part 0 of a sealed frame: these letters and the version of the seal."""
_HEAD: Final = struct.Struct(">BI")  # how many parts, and the length of the first one
_NONCE_AND_TAG: Final = 24 + 16  # bytes, of XSalsa20-Poly1305
SEAL_OVERHEAD: Final = _NONCE_AND_TAG + _HEAD.size
_SEALED_PARTS: Final = 2
_log = logging.getLogger("zmesh.link")  # which says the same only now and then


def is_sealed(parts: Sequence[bytes]) -> bool:
    """Say whether these parts want to be a sealed frame, of whatever version."""
    return parts[0][:2] == SEAL[:2]


class Sealer:
    """Seals and opens with one device's key."""

    def __init__(self, device: "Device", key_of: Callable[[str], bytes | None]) -> None:
        """Take the device, and what tells the CURVE key of another one; None for who is no member."""
        self._device, self._key_of = device, key_of
        self._boxes: dict[bytes, Box] = {}  # the shared keys cost 300 us each

    def seal(self, device: str, parts: Sequence[bytes]) -> list[bytes] | None:
        """Return the parts (1 or 2) of a frame as only `device` can read them; None when it is no member."""
        box = self._box(device)
        if box is None:
            return None
        plain = b"".join([_HEAD.pack(len(parts), len(parts[0])), *parts])
        return [SEAL, bytes(box.encrypt(plain))]

    def open(self, device: str, parts: Sequence[bytes]) -> list[bytes] | None:
        """Return the parts of a frame that `device` has sealed for us; None when it has not, with a line in the log."""
        opened = self._open(device, parts)
        if opened is None:
            _log.warning("a frame that came back and was not sealed to this device by the one dialled is dropped")
        return opened

    def _open(self, device: str, parts: Sequence[bytes]) -> list[bytes] | None:
        from nacl.exceptions import CryptoError  # noqa: PLC0415 - see Device.from_seed

        box = self._box(device)
        if box is None or len(parts) != _SEALED_PARTS or parts[0] != SEAL or len(parts[1]) < SEAL_OVERHEAD:
            return None
        try:
            plain = box.decrypt(parts[1])
        except CryptoError:
            return None
        count, first = _HEAD.unpack_from(plain)
        cut = _HEAD.size + first
        if count == 1 and cut == len(plain):
            return [plain[_HEAD.size :]]
        return [plain[_HEAD.size : cut], plain[cut:]] if count == _SEALED_PARTS and cut <= len(plain) else None

    def _box(self, device: str) -> "Box | None":
        key = self._key_of(device)
        if key is None:
            return None
        box = self._boxes.get(key)
        if box is None:
            from nacl.public import Box, PrivateKey, PublicKey  # noqa: PLC0415

            if len(self._boxes) >= MAX_PEERS:
                self._boxes.clear()
            box = self._boxes[key] = Box(PrivateKey(self._device.curve_secret), PublicKey(key))
        return box
