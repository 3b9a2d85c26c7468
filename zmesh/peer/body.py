"""Message bodies: any msgpack value, or plain bytes as they are.

What comes from a peer is hostile until it is unpacked here; it is unpacked when it is looked at, not before. What could
not be unpacked again must never be sent: it would be an error at its recipient, who cannot help it.
"""

from dataclasses import dataclass
from typing import Any

import msgpack

from zmesh.errors import BodyError
from zmesh.protocol.bounds import MAX_BODY


@dataclass(frozen=True, slots=True)
class PackedBody:
    """A body that another process has packed, as `pack_body` does.

    Attributes:
        data: Its bytes.
        packed: Whether they are msgpack.
    """

    data: bytes
    packed: bool


def pack_body(body: Any) -> tuple[bytes, bool]:
    """Return the bytes of a body, and whether they are msgpack.

    Args:
        body: None, bool, int, float, str, bytes, or lists and dicts of these; keys of dicts are no lists. Or one that
            is packed already.

    Raises:
        BodyError: The value cannot be packed, or not be unpacked again; the message names its type.
    """
    if isinstance(body, bytes):
        return body, False
    if isinstance(body, PackedBody):
        if len(body.data) <= MAX_BODY:
            unpack_body(body.data, packed=body.packed)
        return body.data, body.packed
    try:
        packed: bytes = msgpack.packb(body)
        if isinstance(body, dict | list | tuple) and len(packed) <= MAX_BODY:  # a larger one is refused anyway
            msgpack.unpackb(packed, strict_map_key=False)  # a key that was a tuple would come back as a list
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BodyError(
            f"a body of type {type(body).__name__} cannot be sent: {error}. "
            "Use None, bool, int, float, str, bytes, and lists and dicts of these"
        ) from None
    return packed, True


def unpack_body(body: bytes, *, packed: bool) -> Any:
    """Return the value of a body.

    Raises:
        BodyError: The bytes are no msgpack value, although the sender says so.
    """
    if not packed:
        return body
    try:
        return msgpack.unpackb(body, strict_map_key=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise BodyError(f"the sender says this body is msgpack, and it is not: {error}") from None
