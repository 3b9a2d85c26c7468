"""Frames between a client and the daemon: four octets of length, then one msgpack array.

Both ends belong to one user, so nothing here is secret; but a client may be of another version, or mad. This module
must never read more than its bound, nor let anything malformed past it.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgpack

from zmesh.errors import DaemonError
from zmesh.protocol.bounds import KIB, MAX_BODY, MAX_ENVELOPE, MAX_PEEKED, MIB, PEEKED_BYTES

VERSION: Final = 1
MAX_FRAME: Final = (
    4 * MIB
)  # a poll's worth: bodies of `POLL_BYTES` and one more, and what `MAX_POLL` messages say of themselves
POLL_BYTES: Final = MIB  # bodies of one poll; the rest comes with the next
MAX_POLL: Final = 500  # messages of one poll
MAX_HELD: Final = 1000  # messages a client has taken and not finished: a hello tells of all of them
HEAD: Final = 4  # octets of length
HELLO: Final = 0
"""The number of the first request of each connection."""
WAITING: Final = frozenset({"poll", "ask", "wait", "find"})
"""Verbs whose answer may take long: they never hold up the others."""
OK, FAILED = 0, 1
"""The second field of an answer."""

assert POLL_BYTES + MAX_BODY + MAX_POLL * (MAX_ENVELOPE + KIB) <= MAX_FRAME
assert MAX_HELD * (MAX_ENVELOPE + KIB) <= MAX_FRAME
assert MAX_PEEKED * (PEEKED_BYTES + MAX_ENVELOPE + KIB) <= MAX_FRAME


def pack(message: list[Any]) -> bytes:
    """Write a frame.

    Raises:
        DaemonError: It is too long.
        TypeError, ValueError, OverflowError: Something in it cannot be packed.
    """
    packed: bytes = msgpack.packb(message)
    if len(packed) > MAX_FRAME:
        raise DaemonError(f"a request or answer of {len(packed)} bytes, more than {MAX_FRAME}: make it smaller")
    return len(packed).to_bytes(HEAD, "big") + packed


class Frames:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """Take what has arrived; yield each array that is complete.

        Raises:
            DaemonError: It is no frame; the connection is of no use any more.
        """
        self._data += data
        while len(self._data) >= HEAD:
            size = int.from_bytes(self._data[:HEAD], "big")
            if size > MAX_FRAME:
                raise DaemonError(f"a frame of {size} bytes, more than {MAX_FRAME}")
            if len(self._data) < HEAD + size:
                return
            packed = bytes(self._data[HEAD : HEAD + size])
            del self._data[: HEAD + size]
            yield _read(packed)


def _read(packed: bytes) -> list[Any]:
    try:
        message = msgpack.unpackb(packed)
    except (ValueError, TypeError, RecursionError) as error:
        raise DaemonError(f"a frame that cannot be read: {error}") from None
    if not isinstance(message, list) or len(message) < 3 or type(message[0]) is not int:  # noqa: PLR2004
        raise DaemonError("a frame that is no array of a number and two fields more")
    return message
