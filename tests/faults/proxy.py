"""A TCP proxy between two peers that can cut its connections at any moment."""

import asyncio
import contextlib
from typing import Final, Self

from zmesh.peer.zmq_link import ZmqLink

_CHUNK: Final = 16 * 1024


class Proxy:
    """Forwards connections to one port of this host.

    Attributes:
        target: The port; set before the first connection comes.
        forwarded: Bytes that went either way.
        cuts: Connections that were cut while they were open.
    """

    def __init__(self) -> None:
        self.target = 0
        self.forwarded = 0
        self.cuts = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.endpoint = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.endpoint = f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        while self._tasks:
            self.cut()
            await asyncio.wait(set(self._tasks))
        await self._server.wait_closed()

    def cut(self) -> None:
        """End all connections at once, in the middle of whatever they carry."""
        self.cuts += len(self._writers) // 2
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers |= {writer, far}
            await asyncio.gather(self._pump(reader, far), self._pump(far_reader, writer))
        except OSError:
            pass  # the peer is not there: nor is this connection
        finally:
            for end in (writer, far):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                sink.write(data)
                self.forwarded += len(data)
                await sink.drain()
        sink.transport.abort()


class ProxiedLink(ZmqLink):
    """A link that names the proxy as its own address, in its rendezvous file and in every HELLO."""

    proxies: list[Proxy]
    """Unused ones; each link takes the next."""
    _proxy: Proxy | None = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where others may dial: the proxy."""
        (own,) = super().endpoints
        if self._proxy is None:
            self._proxy = self.proxies.pop(0)
            self._proxy.target = int(own.rpartition(":")[2])
        return (self._proxy.endpoint,)
