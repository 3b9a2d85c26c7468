"""The parts of a running peer, as a supervisor looks at them: does each one work, and can it be restarted?

A look is a real one: a commit on the disk, a connection to the own socket. It must never raise for what it finds, nor
wait longer than its bound.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from zmesh.discovery.ladder import Discovery
from zmesh.discovery.sighting import parse_endpoint
from zmesh.errors import MeshError
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.peer.surroundings import Surroundings
from zmesh.peer.zmq_link import ZmqLink

PATIENCE: Final = 5.0  # seconds for one look
SLOW: Final = 1.0  # seconds of a commit from which on the disk is called slow: it takes a millisecond, or ten
PROBE: Final = "probe"  # name of the value that is written
GREETING: Final = 10  # octets of the signature that ZMTP begins with


class Part(Protocol):
    """One part.

    Attributes:
        name: What it is called.
    """

    name: str

    async def look(self) -> str | None:
        """Return what is wrong with it, in words; None when it works."""

    async def restart(self) -> bool:
        """Start it anew; return False if there is nothing that could be."""


class StorePart:
    """The store: does a commit reach the disk?"""

    name = "store"

    def __init__(self, store: SqliteStore) -> None:
        """Take the store."""
        self._store = store

    async def look(self) -> str | None:
        """Write a value, and wait for the disk."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wrap_future(self._store.put_meta(PROBE, str(time.time()).encode()))
        except TimeoutError:
            return f"a commit is not done after {PATIENCE:g} s: the disk does not answer"
        except MeshError as error:
            return str(error)
        took = time.monotonic() - began
        return f"a commit took {took:.1f} s: the disk is slow, or busy" if took > SLOW else None

    async def restart(self) -> bool:
        """Nothing: every commit opens what it needs, and the disk is not ours to mend."""
        return False


class LinkPart:
    """The socket at which others reach this peer."""

    name = "link"

    def __init__(self, link: ZmqLink) -> None:
        """Take the link."""
        self._link = link

    async def look(self) -> str | None:
        """Connect as another peer would, and see that ZeroMQ answers."""
        endpoints = self._link.endpoints
        if not endpoints:
            return "nothing listens: the socket is being bound anew"
        at = parse_endpoint(endpoints[0])
        return await _answers(str(at.ip), at.port, lambda reader: reader.readexactly(GREETING))

    async def restart(self) -> bool:
        """Bind it anew; whoever was connected comes back by itself."""
        await self._link.rebind()
        return True


class DoorPart:
    """The door, at which machines ask that cannot come in yet."""

    name = "door"

    def __init__(self, surroundings: Surroundings) -> None:
        """Take what has opened it."""
        self._surroundings = surroundings

    async def look(self) -> str | None:
        """Connect to it; one that is open, but not where it should be, is told of, too."""
        return await self._silence() or self._surroundings.trouble

    async def restart(self) -> bool:
        """Open it anew; where it should be it is tried for every second anyway."""
        if await self._silence() is None:
            return False
        await self._surroundings.reopen()
        return True

    async def _silence(self) -> str | None:
        at = parse_endpoint(self._surroundings.own.endpoints[0])
        return await _answers(str(at.ip), self._surroundings.port, None)


class DiscoveryPart:
    """All ways in which other peers are found."""

    name = "discovery"

    def __init__(self, discovery: Discovery) -> None:
        """Take the ladder."""
        self._discovery = discovery

    async def look(self) -> str | None:
        """Ask each source."""
        return "; ".join(self._discovery.troubles) or None

    async def restart(self) -> bool:
        """Stop and start the sources that do not work."""
        await self._discovery.revive()
        return True


async def _answers(host: str, port: int, hear: Callable[[asyncio.StreamReader], Awaitable[bytes]] | None) -> str | None:
    """Connect to a socket of this peer, and hear what it says first."""
    where = f"{host} port {port}"
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                if hear is not None:
                    await hear(reader)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        return f"{where} does not answer within {PATIENCE:g} s"
    except (OSError, EOFError) as error:
        return f"{where} does not answer: {error}"
    return None
