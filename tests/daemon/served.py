"""A daemon's server in this process, and raw clients that may say to it whatever they like."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import zmesh
from tests.conftest import new_peer
from zmesh.daemon.place import Place, place_of
from zmesh.daemon.server import LocalServer
from zmesh.daemon.wire import HELLO, OK, VERSION, Frames, pack
from zmesh.errors import DaemonError

SOON = 20.0
_open: list["Raw"] = []


async def no_control(verb: str, arguments: dict[str, Any]) -> Any:
    """A daemon that has no verbs of its own."""
    raise DaemonError(f"does not know {verb!r} {len(arguments)}")


@asynccontextmanager
async def serving(home: Path) -> AsyncIterator[tuple[zmesh.Peer, LocalServer, Place]]:
    """Run a peer and its server."""
    async with new_peer("laptop", home) as peer:
        place = place_of(home)
        server = LocalServer(peer, place, no_control)
        await server.open()
        try:
            yield peer, server, place
        finally:
            for raw in _open:
                raw.writer.transport.abort()
            _open.clear()
            await server.close()
            await asyncio.sleep(0)


class Raw:
    """A client that says what the test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._frames = Frames()
        self._heard: list[list[Any]] = []
        self._number = 0
        _open.append(self)

    @classmethod
    async def connect(cls, place: Place) -> Self:
        """Connect, and say nothing."""
        connection = place.connect(5.0)
        connection.setblocking(False)  # noqa: FBT003 - socket's own
        opening = asyncio.open_connection if place.socket_path is None else asyncio.open_unix_connection
        return cls(*await opening(sock=connection))

    @classmethod
    async def greeted(cls, place: Place, mailbox: str | None = "code", **said: Any) -> Self:
        """Connect, and be welcome."""
        raw = await cls.connect(place)
        number, status, _ = await raw.ask("hello", {"v": VERSION, "mailbox": mailbox, **said}, HELLO)
        assert (number, status) == (HELLO, OK)
        return raw

    def say(self, verb: Any, arguments: Any, number: Any = None) -> int:
        """Send a request; return its number."""
        if number is None:
            self._number += 1
            number = self._number
        self.writer.write(pack([number, verb, arguments]))
        return int(number)

    async def heard(self) -> list[Any]:
        """The next answer; empty at the end of the connection."""
        async with asyncio.timeout(SOON):
            while not self._heard:
                data = await self.reader.read(65536)
                if not data:
                    return []
                self._heard += self._frames.feed(data)
        return self._heard.pop(0)

    async def ask(self, verb: Any, arguments: Any, number: Any = None) -> list[Any]:
        """Send a request and return its answer, which must be the next."""
        number = self.say(verb, arguments, number)
        answer = await self.heard()
        assert answer[:1] == [number], answer
        return answer

    async def close(self) -> None:
        """Hang up."""
        self.writer.transport.abort()
        await asyncio.sleep(0)
