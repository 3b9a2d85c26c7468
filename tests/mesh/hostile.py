"""What means harm, on a machine of its own, at full speed until its input ends.

    python -m tests.mesh.hostile KIND COUNT ADDRESS PORT SERVER_KEY

KIND is one of

    keys       COUNT connections with keys of their own, a new one as soon as the last was tried, each with frames to
               send as soon as it is let in
    garbage    COUNT connections over which random bytes come as fast as they are taken
    half       COUNT connections that begin a handshake, announce a frame as large as may be, send most of it, and wait
    hello      one connection with this machine's own key, a member's, that says HELLO in the name of ever new stores
    links      the same, with ever new links of one store

SERVER_KEY is the CURVE key of what is attacked, in hex. Each line of the input is answered by the number of attempts.
"""

import asyncio
import contextlib
import itertools
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import zmq

from zmesh.peer.home import device_key_path
from zmesh.protocol.bounds import CLASSES, LINK_ID_BYTES, MAX_FRAME, NO_ID
from zmesh.protocol.codec import encode
from zmesh.protocol.frames import Cursor, Hello
from zmesh.trust.device import Device

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE".ljust(23, b"\0") + bytes(32)
"""ZMTP 3.1, mechanism CURVE, as a client: 64 octets."""
BULK = 64 * 1024  # bytes at a time
_CURSORS = (Cursor(0, NO_ID),) * CLASSES

Attempts = Iterator[int]


def dealer(context: "zmq.Context[zmq.Socket[bytes]]", own: tuple[bytes, bytes], server: bytes) -> "zmq.Socket[bytes]":
    """Make a socket with a key pair, for a server."""
    made = context.socket(zmq.DEALER)
    for option, value in ((zmq.LINGER, 0), (zmq.HANDSHAKE_IVL, 1000), (zmq.RECONNECT_IVL, 1), (zmq.SNDHWM, 0)):
        made.setsockopt(option, value)
    made.setsockopt(zmq.CURVE_SERVERKEY, server)
    made.setsockopt(zmq.CURVE_PUBLICKEY, own[0])
    made.setsockopt(zmq.CURVE_SECRETKEY, own[1])
    return made


async def keys(count: int, address: str, port: int, server: bytes, attempts: Attempts) -> None:
    """Knock with one key after the other."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.max_sockets = 1024  # closed ones count until they are reaped

    async def knock() -> None:
        while True:
            stranger = Device.from_seed(secrets.token_bytes(32))
            try:
                socket = dealer(context, (stranger.curve_public, stranger.curve_secret), server)
            except zmq.ZMQError:  # libzmq has not closed those before yet
                await asyncio.sleep(0.02)
                continue
            socket.connect(f"tcp://{address}:{port}")
            for _ in range(4):
                socket.send_multipart([bytes(12), bytes(BULK)], zmq.DONTWAIT)
            await asyncio.sleep(0.02)  # a handshake takes less
            socket.close(0)
            next(attempts)

    await asyncio.gather(*[knock() for _ in range(count)])


async def garbage(count: int, address: str, port: int, _: bytes, attempts: Attempts) -> None:
    """Talk nonsense, and come back when hung up on."""
    nonsense = os.urandom(BULK)

    async def talk() -> None:
        while True:
            next(attempts)
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(address, port)
                try:
                    while not writer.transport.is_closing():
                        writer.write(nonsense)
                        await writer.drain()
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0)

    await asyncio.gather(*[talk() for _ in range(count)])


async def half(count: int, address: str, port: int, _: bytes, attempts: Attempts) -> None:
    """Begin handshakes and end none."""
    announced = b"\x02" + (MAX_FRAME - 1).to_bytes(8, "big") + bytes(MAX_FRAME - BULK)

    async def begin() -> None:
        while True:
            next(attempts)
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(address, port)
                try:
                    writer.write(GREETING + announced)
                    await writer.drain()
                    while await reader.read(BULK):
                        pass
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0)

    await asyncio.gather(*[begin() for _ in range(count)])


async def hello(count: int, address: str, port: int, server: bytes, attempts: Attempts) -> None:
    """Greet for ever new stores, at addresses where nobody is."""
    await _greet(address, port, server, attempts, itertools.repeat(b""), count)


async def links(count: int, address: str, port: int, server: bytes, attempts: Attempts) -> None:
    """Greet for one store, with ever new links."""
    await _greet(address, port, server, attempts, itertools.repeat(secrets.token_bytes(16)), count)


async def _greet(
    address: str, port: int, server: bytes, attempts: Attempts, stores: Iterator[bytes], _count: int
) -> None:
    device = Device.load_or_create(device_key_path(Path(os.environ["ZMESH_HOME"])))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = dealer(context, (device.curve_public, device.curve_secret), server)
    socket.setsockopt(zmq.SNDHWM, 1000)
    socket.connect(f"tcp://{address}:{port}")
    for number, store in enumerate(stores):
        frame = Hello(
            proto_min=1, proto_max=1, store=store or secrets.token_bytes(16), name=f"nobody{number}",
            endpoints=(f"tcp://{address}:{1 + number % 1000}",), echo=b"", up=False, epoch=0, cursors=_CURSORS,
            limits=(0,) * CLASSES,
        )  # fmt: skip
        while True:
            try:
                socket.send_multipart(encode(secrets.token_bytes(LINK_ID_BYTES), frame), zmq.DONTWAIT)
            except zmq.Again:
                await asyncio.sleep(0.001)
            else:
                break
        next(attempts)


KINDS: dict[str, Callable[..., object]] = {each.__name__: each for each in (keys, garbage, half, hello, links)}


def main(kind: str, count: str, address: str, port: str, server: str) -> None:
    """Attack until the input ends."""
    attempts = 0

    def counted() -> Iterator[int]:
        nonlocal attempts
        while True:
            attempts += 1
            yield attempts

    def report() -> None:
        for _ in sys.stdin:
            print(attempts, flush=True)
        os._exit(0)

    os.nice(19)  # another machine's processor is not ours
    threading.Thread(target=report, daemon=True).start()
    asyncio.run(KINDS[kind](int(count), address, int(port), bytes.fromhex(server), counted()))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
