"""A peer on a machine, driven by lines of its input.

    python -m tests.mesh.program NAME DISCOVERY

It has one agent, `box`, which answers every question by its own address. Each line of the input is a command; each
answer is one line of JSON on the output, after those of the commands before. Times are CLOCK_MONOTONIC, in seconds,
which all machines of one host share.

    ask ADDRESS             ask, and say who answered
    send ADDRESS COUNT      send numbers, and say when all are stored there
    queue COUNT ADDRESS...  send numbers to each address, and say when all are on disk here
    settle SECONDS          say when all that was queued is stored there; fail if it is not in that time
    pulse ADDRESS           send a number every 20 ms from now on
    hush                    stop that; say how many it were
    got, count              say what the box has taken; how much that is
    arrived AFTER           say when the first message came after a time, once one has
    pause AFTER             say how long, at most, no message came since a time
    latency ADDRESS COUNT   say how long each of so many messages took to be stored there, one after the other
    peers, until COUNT      say who is linked; say when so many peers are
    ways                    say on whose connection frames go to each
    started                 say when the program began, and when its peer was up
"""

import asyncio
import itertools
import json
import logging
import sys
import time
from typing import Any

import zmesh

BOX = "box"
BEAT = 0.02  # seconds between two messages of `pulse`
PATIENCE = 100  # seconds that a command may take
_BEGAN = time.monotonic()


class Program:
    """The peer, its agent, and what the agent has taken."""

    def __init__(self, peer: zmesh.Peer, agent: zmesh.Agent, up: float) -> None:
        self.peer, self.agent, self.up = peer, agent, up
        self.taken: list[Any] = []
        self.times: list[float] = []
        self._came = asyncio.Event()
        self._receipts: list[zmesh.Receipt] = []
        self._pulse: asyncio.Task[None] | None = None
        self._beats = 0

    async def answer(self) -> None:
        """Take messages; answer questions. Many are finished at once, in one commit."""
        finishing: set[asyncio.Future[None]] = set()
        async for message in self.agent.inbox():
            if message.type == "ask":
                await message.done(reply=self.agent.address)
            else:
                self.taken.append([message.sender, message.body])
                self.times.append(time.monotonic())
                self._came.set()
                finished = asyncio.ensure_future(message.done())
                finishing.add(finished)
                finished.add_done_callback(finishing.discard)

    async def obey(self, command: str, *words: str) -> object:
        """Carry out one command."""
        answer: object = None
        match command:
            case "ask":
                answer = (await self.agent.ask(words[0], "who?", timeout=20)).body
            case "send":
                receipts = [await self.agent.send(words[0], number) for number in range(int(words[1]))]
                await asyncio.gather(*[receipt.stored(60) for receipt in receipts])
                answer = len(receipts)
            case "queue":
                answer = await self._queue(int(words[0]), words[1:])
            case "settle":
                settled, self._receipts = self._receipts, []
                await asyncio.gather(*[receipt.stored(float(words[0])) for receipt in settled])
                answer = len(settled)
            case "pulse":
                self._pulse = asyncio.create_task(self._beat(words[0]))
            case "hush":
                assert self._pulse is not None
                self._pulse.cancel()
                await asyncio.wait({self._pulse})
                answer = self._beats
            case "ways":
                remotes = self.peer.driver.core.node.remotes.values()
                answer = {remote.name: "theirs" if remote.link.via else "ours" for remote in remotes}
            case _:
                answer = await self._tell(command, *words)
        return answer

    async def _tell(self, command: str, *words: str) -> object:
        answer: object = None
        match command:
            case "got":
                answer = self.taken
            case "count":
                answer = len(self.taken)
            case "arrived":
                answer = await self._arrived(float(words[0]))
            case "pause":
                moments = [float(words[0]), *(moment for moment in self.times if moment > float(words[0]))]
                answer = max((later - earlier for earlier, later in itertools.pairwise(moments)), default=0.0)
            case "latency":
                answer = [await self._latency(words[0]) for _ in range(int(words[1]))]
            case "peers":
                answer = {info.name: info.linked for info in self.peer.peers()}
            case "until" | "met":  # in the second case their mailboxes are known, too
                met = command == "met"
                while sum(info.linked and (not met or bool(info.agents)) for info in self.peer.peers()) < int(words[0]):
                    await self.peer.driver.change()
                answer = time.monotonic()
            case "started":
                answer = [_BEGAN, self.up]
            case _:
                raise ValueError(command)
        return answer

    async def _queue(self, count: int, addresses: tuple[str, ...]) -> int:
        sends = [self.agent.send(address, number) for number in range(count) for address in addresses]
        self._receipts += await asyncio.gather(*sends)
        return len(sends)

    async def _beat(self, address: str) -> None:
        while True:
            await self.agent.send(address, self._beats)
            self._beats += 1
            await asyncio.sleep(BEAT)

    async def _arrived(self, after: float) -> float:
        while not self.times or self.times[-1] <= after:
            self._came.clear()
            await self._came.wait()
        return next(moment for moment in self.times if moment > after)

    async def _latency(self, address: str) -> float:
        began = time.monotonic()
        await (await self.agent.send(address, "quick")).stored(20)
        return time.monotonic() - began


async def main(name: str, discovery: str) -> None:
    """Run until the input ends."""
    loop = asyncio.get_running_loop()
    async with zmesh.Peer(name, bind="tcp://*:7420", discovery=discovery.split(",")) as peer:
        up = time.monotonic()
        program = Program(peer, await peer.agent(BOX), up)
        answering = asyncio.ensure_future(program.answer())
        print(json.dumps(list(peer.endpoints)), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                answer: object = await asyncio.wait_for(program.obey(*line.split()), PATIENCE)
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
        answering.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(main(*sys.argv[1:]))
