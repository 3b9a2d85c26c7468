"""A peer in a process of its own, with one simple thing to do.

    python -m tests.faults.puppet ROLE NAME HOME LOG [OPTION ...]

Every event is a line in the log (see `tests.storm.journal`), the time of CLOCK_MONOTONIC last. The process ends in an
orderly way when its input says `quit`, and at once when its input ends.
"""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import zmesh
from tests.storm.journal import DONE, GOT, LIFE, QUIET, SENT, STORED, Journal
from tests.storm.worker import Orders

MAILBOX = "box"
PULSE = 0.02  # seconds between two messages of `pulse`

Role = Callable[[zmesh.Agent, Journal, list[str]], Awaitable[None]]


async def hold(agent: zmesh.Agent, journal: Journal, _: list[str]) -> None:
    """Take messages and never finish one."""
    async for message in agent.inbox():
        journal.write(GOT, message.id.hex(), message.attempt, message.body, time.monotonic())


async def consume(agent: zmesh.Agent, journal: Journal, _: list[str]) -> None:
    """Take messages and finish each."""
    finishing: set[asyncio.Future[None]] = set()
    async for message in agent.inbox():
        journal.write(GOT, message.id.hex(), message.attempt, message.body, time.monotonic())
        task = asyncio.ensure_future(message.done())
        finishing.add(task)
        task.add_done_callback(finishing.discard)


async def answer(agent: zmesh.Agent, journal: Journal, _: list[str]) -> None:
    """Answer questions."""
    async for message in agent.inbox(prefetch=1):
        journal.write(GOT, message.id.hex(), message.attempt, message.body, time.monotonic())
        await message.done(reply={"answer": message.body})
        journal.write(DONE, message.id.hex(), time.monotonic())


async def ask(agent: zmesh.Agent, journal: Journal, options: list[str]) -> None:
    """Ask TO an address who is there."""
    await agent.ask(options[0], "who?")
    journal.write(DONE, time.monotonic())


async def send(agent: zmesh.Agent, journal: Journal, options: list[str]) -> None:
    """Send COUNT messages of SIZE bytes TO an address, all at once."""
    to, count, size = options[0], int(options[1]), int(options[2])

    async def one(number: int) -> None:
        receipt = await agent.send(to, {"n": number, "pad": bytes(size)})
        journal.write(SENT, receipt.id.hex(), "normal", number, time.monotonic())
        await receipt.stored()
        journal.write(STORED, number, time.monotonic())

    await asyncio.gather(*[one(number) for number in range(count)])
    journal.write(QUIET)


async def pulse(agent: zmesh.Agent, journal: Journal, options: list[str]) -> None:
    """Send a number TO an address every 20 ms."""
    number = 0
    while True:
        number += 1
        receipt = await agent.send(options[0], number)
        journal.write(SENT, receipt.id.hex(), "normal", number, time.monotonic())
        await asyncio.sleep(PULSE)


async def idle(_agent: zmesh.Agent, _journal: Journal, _options: list[str]) -> None:
    """Do nothing: the peer alone is what is wanted."""


ROLES: dict[str, Role] = {role.__name__: role for role in (hold, consume, answer, ask, send, pulse, idle)}


async def play(role: Role, name: str, home: str, journal: Journal, options: list[str]) -> None:
    """Run the peer and play the role until told to quit."""
    orders = Orders()
    bind = next((option.removeprefix("bind=") for option in options if option.startswith("bind=")), "tcp://127.0.0.1:*")
    async with zmesh.Peer(name, home=home, discovery=["rendezvous"], bind=bind) as peer:
        agent = await peer.agent(MAILBOX)
        journal.write(LIFE, *peer.endpoints)
        playing = asyncio.ensure_future(role(agent, journal, options))
        quitting = asyncio.create_task(orders.quit.wait())
        await asyncio.wait({playing, quitting}, return_when=asyncio.FIRST_COMPLETED)
        if playing.done():
            playing.result()
            await quitting
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing


def main() -> None:
    """Read the command line."""
    role, name, home, log, *options = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {name} %(levelname)s %(message)s")
    asyncio.run(play(ROLES[role], name, home, Journal(Path(log)), options))


if __name__ == "__main__":
    main()
