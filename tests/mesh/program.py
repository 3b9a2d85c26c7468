"""A peer on a machine, driven by lines of its input.

    python -m tests.mesh.program NAME DISCOVERY

It has one agent, `box`, which answers every question by its own address. Each line of the input is a command; each
answer is one line of JSON on the output: `ask ADDRESS` asks, `send ADDRESS COUNT` sends numbers and says when all are
stored, `got` says what the box has taken, `peers` who is linked, `ways` on whose connection frames go to each,
`until COUNT` waits until so many peers are linked.
"""

import asyncio
import json
import logging
import sys
import time
from typing import Any

import zmesh

BOX = "box"


class Program:
    """The peer, its agent, and what the agent has taken."""

    def __init__(self, peer: zmesh.Peer, agent: zmesh.Agent) -> None:
        self.peer, self.agent = peer, agent
        self.taken: list[Any] = []

    async def answer(self) -> None:
        """Take messages; answer questions."""
        async for message in self.agent.inbox():
            if message.type == "ask":
                await message.done(reply=self.agent.address)
            else:
                self.taken.append([message.sender, message.body])
                await message.done()

    async def obey(self, command: str, *words: str) -> object:
        """Carry out one command."""
        match command:
            case "ask":
                return (await self.agent.ask(words[0], "who?", timeout=20)).body
            case "send":
                receipts = [await self.agent.send(words[0], number) for number in range(int(words[1]))]
                await asyncio.gather(*[receipt.stored(60) for receipt in receipts])
                return len(receipts)
            case "got":
                return self.taken
            case "peers":
                return {info.name: info.linked for info in self.peer.peers()}
            case "ways":
                remotes = self.peer.driver.core.node.remotes.values()
                return {remote.name: "theirs" if remote.link.via else "ours" for remote in remotes}
            case "until":
                while sum(info.linked for info in self.peer.peers()) < int(words[0]):
                    await self.peer.driver.change()
                return time.monotonic()
            case _:
                raise ValueError(command)


async def main(name: str, discovery: str) -> None:
    """Run until the input ends."""
    loop = asyncio.get_running_loop()
    async with zmesh.Peer(name, bind="tcp://*:7420", discovery=discovery.split(",")) as peer:
        program = Program(peer, await peer.agent(BOX))
        answering = asyncio.ensure_future(program.answer())
        print(json.dumps(list(peer.endpoints)), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                answer: object = await asyncio.wait_for(program.obey(*line.split()), 60)
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
        answering.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(main(*sys.argv[1:]))
