"""The side that knocks at a door: to pair, to show that it is a member, or to ask as one.

Whoever opens is a stranger until it has proved itself. This module must never show a word of what a stranger wrote, nor
wait for it longer than its patience.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final

from zmesh.errors import PairingError
from zmesh.trust.device import Device
from zmesh.trust.entry import Entry
from zmesh.trust.frames import DONE, MEET, PAIR, PATIENCE, REFUSED, SHOW, pack_entries, receive, send
from zmesh.trust.invitation import Secret
from zmesh.trust.pairing import MAX_MESSAGE, Joiner, Welcome
from zmesh.trust.refusal import Refusal

DIAL: Final = 3.0  # seconds until somebody answers on a local network, two lost packets included


class Unreachable(PairingError):  # noqa: N818 - names the state
    """Nobody answers at that address, or whoever does breaks off."""


async def pair(
    host: str, port: int, secret: Secret, device: Device, name: str, *, patience: float = PATIENCE
) -> Welcome:
    """Knock at an inviter's door and pair.

    Args:
        host: Its address.
        port: The door's port.
        secret: The code or token.
        device: Own keys.
        name: What this device calls itself.
        patience: Seconds to wait for each answer.

    Raises:
        Unreachable: Nobody answers there.
        Refusal: The code is wrong, or the invitation is over.
        PairingError: Whoever is there does not pair as it should.
    """
    loop = asyncio.get_running_loop()
    run = await loop.run_in_executor(None, Joiner, secret, device, name, int(time.time()))
    hello = await loop.run_in_executor(None, run.hello)  # before the door opens: who is silent there is the first to go
    async with _connection(host, port, patience) as (reader, writer):
        await send(writer, PAIR, hello, patience)
        proof = await loop.run_in_executor(None, run.prove, await _answer(reader, PAIR, patience))
        await send(writer, PAIR, proof, patience)
        return run.welcome(await _answer(reader, PAIR, patience))


async def show(host: str, port: int, entries: Iterable[Entry], *, patience: float = PATIENCE) -> None:
    """Show membership entries at a member's door, so that it knows who is dialling.

    Raises:
        Unreachable: Nobody answers there.
        Refusal: They are not believed.
    """
    async with _connection(host, port, patience) as (reader, writer):
        for message in pack_entries(entries):
            await send(writer, SHOW, message, patience)
            await _answer(reader, DONE, patience)


async def ask(
    host: str, port: int, entries: Iterable[Entry], question: bytes, *, patience: float = PATIENCE
) -> tuple[bytes, str]:
    """Show membership entries at a member's door, and put a question there.

    Returns:
        The answer, and the numeric address it came from.

    Raises:
        Unreachable: Nobody answers there.
        Refusal: This device is not believed there, or nobody who lives there knows it.
        PairingError: Whoever is there does not speak as it should.
    """
    async with _connection(host, port, patience) as (reader, writer):
        for message in pack_entries(entries):
            await send(writer, SHOW, message, patience)
            await _answer(reader, DONE, patience)
        await send(writer, MEET, question, patience)
        address = str((writer.get_extra_info("peername") or [host])[0])
        return await _answer(reader, MEET, patience), address


@contextlib.asynccontextmanager
async def _connection(
    host: str, port: int, patience: float
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    where = f"{host} port {port}"
    known = False
    try:
        async with asyncio.timeout(min(DIAL, patience)):
            await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            known = True
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError, UnicodeError) as error:  # the last: a host name with an empty or endless label
        if not known:
            raise Unreachable(
                f"the name {host} leads nowhere from here ({str(error) or 'nobody knows it'}): write the address "
                "of that machine in its place"
            ) from error
        raise Unreachable(
            f"nobody answers at {where} ({str(error) or 'silence'}): see that both machines are on one network, and "
            "that no firewall is between them"
        ) from error
    try:
        yield reader, writer
    except (OSError, EOFError, TimeoutError) as error:
        raise Unreachable(f"the machine at {where} broke off: see what it says there") from error
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader, expected: bytes, patience: float) -> bytes:
    kind, message = await receive(reader, MAX_MESSAGE, patience)
    if kind == REFUSED:
        raise Refusal(message[:20].decode(errors="replace"))
    if kind != expected:
        raise PairingError("the other side does not speak zmesh's pairing")
    return message
