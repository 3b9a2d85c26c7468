"""Many agents on one daemon, as parts of a measurement: the daemon, and a process with some hundreds of its clients.

The daemon here is the one that programs start, in a process that ends with the benchmark. Nothing of zmesh is used by
the clients but the public API.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import zmesh
from zmesh.cli.bench.peer_part import resident_bytes
from zmesh.cli.bench.scale import STEP_SECONDS, now
from zmesh.daemon.host import Daemon
from zmesh.peer.home import home_directory

AT_ONCE: Final = 50  # clients of one process that connect at the same time
_STRIDE: Final = 37  # so far from each other are those to whom one agent sends


class DaemonPart:
    """The daemon of a home."""

    def __init__(self) -> None:
        self._daemon: Daemon | None = None
        self._task: asyncio.Task[None] | None = None

    def verbs(self) -> dict[str, Callable[..., Awaitable[dict[str, Any]]]]:
        """Return what this part can do."""
        return {"open": self.open, "memory": self.memory}

    async def open(self) -> dict[str, Any]:
        """Start it, and return when programs can connect."""
        up = asyncio.Event()
        self._daemon = Daemon(home_directory(None), "bench", port=0)
        self._task = asyncio.create_task(self._daemon.run(lambda _: up.set()))
        coming = asyncio.create_task(up.wait())
        await asyncio.wait({self._task, coming}, return_when=asyncio.FIRST_COMPLETED)
        if not up.is_set():
            coming.cancel()
            await self._task
        return {}

    async def memory(self) -> dict[str, Any]:
        """Return the memory of this process: what it has in use, and the most it had."""
        return {"rss_mb": resident_bytes() / 1e6, "peak_mb": peak_bytes() / 1e6}

    async def close(self) -> None:
        """End it."""
        if self._daemon is not None and self._task is not None:
            self._daemon.over.set()
            await asyncio.wait({self._task})


class AgentsPart:
    """Some of the agents, each with a connection of its own."""

    def __init__(self) -> None:
        self._clients: dict[int, zmesh.AsyncClient] = {}

    def verbs(self) -> dict[str, Callable[..., Awaitable[dict[str, Any]]]]:
        """Return what this part can do."""
        return {"open": self.open, "exchange": self.exchange}

    async def open(self, first: int, count: int) -> dict[str, Any]:
        """Connect the agents of these numbers."""
        room = asyncio.Semaphore(AT_ONCE)
        self._clients = {number: zmesh.connect_async(_name(number)) for number in range(first, first + count)}

        async def start(client: zmesh.AsyncClient) -> None:
            async with room:
                await client.start()

        start_at = now()
        async with asyncio.timeout(STEP_SECONDS):
            await asyncio.gather(*map(start, self._clients.values()))
        return {"connect_s": (now() - start_at) / 1e9}

    async def exchange(self, agents: int, each: int) -> dict[str, Any]:
        """Let each agent send `each` messages to others, and take as many, each once; says how many came."""
        start = now()
        async with asyncio.timeout(STEP_SECONDS):
            sending = [self._send(number, agents, each) for number in self._clients]
            taking = [self._take(number, agents, each) for number in self._clients]
            *_, taken = await asyncio.gather(asyncio.gather(*sending), asyncio.gather(*taking))
        return {"seconds": (now() - start) / 1e9, "received": sum(map(len, taken)), "agents": len(taken)}

    async def _send(self, number: int, agents: int, each: int) -> None:
        client = self._clients[number]
        for turn in range(each):
            await client.send(f"{_name((number + 1 + turn * _STRIDE) % agents)}@bench", [number, turn])

    async def _take(self, number: int, agents: int, each: int) -> set[tuple[int, int]]:
        expected = {((number - 1 - turn * _STRIDE) % agents, turn) for turn in range(each)}
        taken: set[tuple[int, int]] = set()
        while taken != expected:
            for message in await self._clients[number].take(each, STEP_SECONDS):
                sent = tuple(message.body)
                if sent in taken or sent not in expected:
                    raise RuntimeError(f"{_name(number)} got {sent} twice, or wrongly")
                taken.add(sent)
                await message.done()
        if await self._clients[number].take(1):
            raise RuntimeError(f"{_name(number)} got more than was sent to it")
        return taken

    async def close(self) -> None:
        """Leave the daemon."""
        await asyncio.gather(*(client.close() for client in self._clients.values()))


def _name(number: int) -> str:
    return f"agent-{number}"


def peak_bytes() -> int:
    """Return the most memory this process has had in use; what it has now where the system does not tell."""
    if sys.platform == "win32":
        return resident_bytes()
    import resource  # noqa: PLC0415 - POSIX only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
