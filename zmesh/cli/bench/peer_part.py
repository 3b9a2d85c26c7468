"""A real peer as a part of measurements: it uses nothing of zmesh but the public API, with default settings."""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import zmesh
from zmesh.cli.bench.scale import IN_FLIGHT, START_SECONDS, STEP_SECONDS, beats, now, percentiles, stamp, stamped

LOOK: Final = 0.005  # seconds between two looks at what is still queued
SAMPLE: Final = 100  # of a backlog, each how-manieth receipt is asked in the end what became of its message


class PeerPart:
    """One peer with its agents."""

    def __init__(self) -> None:
        self._peer: zmesh.Peer | None = None
        self._agents: dict[str, zmesh.Agent] = {}
        self._sample: list[zmesh.Receipt] = []

    def verbs(self) -> dict[str, Callable[..., Awaitable[dict[str, Any]]]]:
        """Return what this part can do."""
        return {
            "open": self.open,
            "shut": self.shut,
            "meet": self.meet,
            "send": self.send,
            "receive": self.receive,
            "send_paced": self.send_paced,
            "receive_paced": self.receive_paced,
            "queue": self.queue,
            "drained": self.drained,
            "memory": self.memory,
        }

    async def close(self) -> None:
        """Close the peer."""
        if self._peer is not None:
            await self._peer.close()

    # --- life ---

    async def open(self, name: str, agents: list[str]) -> dict[str, Any]:
        """Start the peer and its agents; `at` is when that began."""
        at = now()
        self._peer = zmesh.Peer(name)
        await self._peer.start()
        self._agents = {agent: await self._peer.agent(agent) for agent in agents}
        return {"at": at}

    async def shut(self) -> dict[str, Any]:
        """Close the peer; `open` may follow."""
        await self.close()
        return {}

    async def meet(self, name: str, agent: str) -> dict[str, Any]:
        """Wait until a peer is linked and its agent known."""
        assert self._peer is not None
        await _until(lambda info: info.linked and agent in info.agents, self._peer, name, START_SECONDS)
        return {}

    # --- throughput ---

    async def send(self, to: str, count: int) -> dict[str, Any]:
        """Send `count` messages with `IN_FLIGHT` of them not yet stored; seconds until all are stored, and handled."""
        agent = self._agents["source"]
        window: deque[Awaitable[zmesh.Receipt]] = deque()
        receipts: list[zmesh.Receipt] = []
        async with asyncio.timeout(STEP_SECONDS):
            start = now()
            for number in range(count):
                if len(window) >= IN_FLIGHT:
                    await self._oldest_stored(window, receipts)
                window.append(agent.send(to, stamped(number)))
            while window:
                await self._oldest_stored(window, receipts)
            stored = now()
            for receipt in receipts:
                await receipt.handled()
            handled = now()
        return {"stored_s": (stored - start) / 1e9, "handled_s": (handled - start) / 1e9}

    @staticmethod
    async def _oldest_stored(window: deque[Awaitable[zmesh.Receipt]], receipts: list[zmesh.Receipt]) -> None:
        receipt = await window.popleft()
        await receipt.stored()
        receipts.append(receipt)

    async def receive(self, count: int) -> dict[str, Any]:
        """Take and finish `count` messages; says how many numbers came, each how often, and whether in order."""
        numbers: list[int] = []
        last: Awaitable[object] | None = None
        async with asyncio.timeout(STEP_SECONDS):
            async for message in self._agents["sink"].inbox():
                numbers.append(stamp(message.body))
                last = message.done()
                if len(numbers) == count:
                    break
            assert last is not None
            await last
        return {"count": len(numbers), "distinct": len(set(numbers)), "ordered": numbers == sorted(numbers)}

    # --- latency ---

    async def send_paced(self, to: str, count: int, rate: float) -> dict[str, Any]:
        """Send one message at a time; percentiles of the time until send() has returned, on disk here."""
        agent = self._agents["source"]
        spent: list[int] = []
        for wait in beats(count, rate):
            await asyncio.sleep(wait)
            start = now()
            await agent.send(to, stamped(start))
            spent.append(now() - start)
        return percentiles("send", spent)

    async def receive_paced(self, count: int) -> dict[str, Any]:
        """Take messages; percentiles of the time from the call of send() to the inbox loop."""
        spent: list[int] = []
        async with asyncio.timeout(STEP_SECONDS):
            async for message in self._agents["sink"].inbox():
                spent.append(now() - stamp(message.body))
                await message.done()
                if len(spent) == count:
                    break
        return percentiles("inbox", spent)

    # --- a backlog ---

    async def queue(self, to: list[str], count: int) -> dict[str, Any]:
        """Queue messages for mailboxes in turn, awaiting the disk with `IN_FLIGHT` at once; seconds it took."""
        agent = self._agents["source"]
        window: deque[Awaitable[zmesh.Receipt]] = deque()
        self._sample = []
        async with asyncio.timeout(STEP_SECONDS):
            start = now()
            for number in range(count):
                if len(window) >= IN_FLIGHT:
                    await window.popleft()
                window.append(agent.send(to[number % len(to)], stamped(number)))
                if number % SAMPLE == 0:
                    self._sample.append(await window[-1])
            while window:
                await window.popleft()
        return {"queue_s": (now() - start) / 1e9}

    async def drained(self, name: str) -> dict[str, Any]:
        """Wait until the peer has stored everything; `at` is when that was seen."""
        assert self._peer is not None
        await _until(lambda info: not info.queued, self._peer, name, STEP_SECONDS)
        at = now()
        for receipt in self._sample:
            await receipt.stored(START_SECONDS)
        return {"at": at, "sampled": len(self._sample)}

    async def memory(self) -> dict[str, Any]:
        """Return the memory this process has in use."""
        return {"rss_mib": resident_bytes() / 2**20}


async def _until(condition: Callable[[zmesh.PeerInfo], bool], peer: zmesh.Peer, name: str, seconds: float) -> None:
    """Wait until what is known of the peer of that name meets a condition."""
    async with asyncio.timeout(seconds):
        while not any(condition(info) for info in peer.peers() if info.name == name):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(LOOK)


def resident_bytes() -> int:
    """Return the resident set of this process in bytes; where the system does not tell, its peak so far."""
    with_pages = Path("/proc/self/statm")
    if with_pages.exists():
        return int(with_pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "win32":
        return 0
    import resource  # noqa: PLC0415 - POSIX only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
