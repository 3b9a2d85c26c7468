"""Frames at the door, as both sides write and read them: four octets of length, one of kind, that many octets.

Entries travel in the same form between linked members. This module must never read more than it was told to expect,
nor wait longer.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

import msgpack

from zmesh.errors import PairingError, TrustError
from zmesh.trust.entry import Entry

MAX_KNOCK: Final = 4096  # bytes of a frame from a stranger
PATIENCE: Final = 10.0  # seconds for each frame: a person is not in this loop, only two programs
PAIR, SHOW, MEET, DONE, REFUSED = b"P", b"S", b"M", b"D", b"R"
_HEAD: Final = 5
_ARRAY: Final = 5  # bytes at most before a list of entries


async def send(writer: asyncio.StreamWriter, kind: bytes, message: bytes, patience: float) -> None:
    """Write a frame.

    Raises:
        OSError, TimeoutError: The other side is gone or does not read.
    """
    writer.write(len(message).to_bytes(4, "big") + kind + message)
    async with asyncio.timeout(patience):
        await writer.drain()


async def receive(reader: asyncio.StreamReader, most: int, patience: float) -> tuple[bytes, bytes]:
    """Read a frame of at most that many bytes: its kind and its message.

    Raises:
        PairingError: It is longer.
        OSError, EOFError, TimeoutError: The other side is gone or slow.
    """
    async with asyncio.timeout(patience):
        head = await reader.readexactly(_HEAD)
        size = int.from_bytes(head[:4], "big")
        if size > most:
            raise PairingError(f"a frame of {size} bytes, more than {most}")
        return head[4:], await reader.readexactly(size)


def pack_entries(entries: Iterable[Entry], most: int = MAX_KNOCK) -> Iterator[bytes]:
    """Write entries as they travel, in order, as many messages of at most `most` bytes as it takes."""
    rows: list[tuple[bytes, bytes]] = []
    size = _ARRAY
    for entry in entries:
        row = (entry.payload, entry.signature)
        long = len(msgpack.packb(row))
        if rows and size + long > most:
            yield msgpack.packb(rows)
            rows, size = [], _ARRAY
        rows.append(row)
        size += long
    if rows:
        yield msgpack.packb(rows)


def unpack_entries(message: bytes) -> list[tuple[bytes, bytes]]:
    """Read one message of `pack_entries`; the entries themselves are not checked here.

    Raises:
        TrustError: It is malformed.
    """
    try:
        rows = msgpack.unpackb(message, max_map_len=0, max_ext_len=0)
        pairs = [(payload, signature) for payload, signature in rows]
    except (ValueError, TypeError, RecursionError) as error:
        raise TrustError(f"membership entries cannot be read: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(part, bytes) for pair in pairs for part in pair):
        raise TrustError("membership entries that are not bytes")
    return pairs
