"""One process of the storm: a peer that sends as fast as it can, or one that takes what comes.

    python -m tests.storm.worker sender NAME LIFE HOME LOG
    python -m tests.storm.worker receiver NAME LIFE HOME LOG

A line `drain` on the standard input makes a sender stop and wait until everything is handled; `quit` ends the process
in an orderly way; the end of the input ends it at once: nobody is there any more.
"""

import asyncio
import contextlib
import logging
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import zmesh
from tests.storm.journal import DONE, GOT, LIFE, QUIET, SENT, STORED, Journal
from zmesh.protocol.states import Sent

TARGET = "sink"
MAILBOX = "drain"
IN_FLIGHT = 256  # messages of one life that are not handled yet: the mailbox of the receiver must never be full
NUMBERS = 10_000_000  # a life's numbers begin at its own multiple
PRIORITIES = ("critical", "high", "normal", "low", "bulk")
BODY = 400  # bytes of a body at most
LOOK = 0.05  # seconds between two questions to the store


class Orders:
    """What the standard input asks for."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.quit = asyncio.Event()
        asyncio.get_running_loop().add_reader(0, self._read)

    def _read(self) -> None:
        text = os.read(0, 4096).decode()
        if not text:
            os._exit(3)  # whoever started this process is gone
        for word in text.split():
            getattr(self, word).set()
        if self.quit.is_set():
            asyncio.get_running_loop().remove_reader(0)


@contextlib.asynccontextmanager
async def peer(name: str, home: str) -> AsyncIterator[zmesh.Peer]:
    """Run a peer that knows of no network but this host."""
    async with zmesh.Peer(name, home=home, discovery=["rendezvous"], bind="tcp://127.0.0.1:*") as running:
        yield running


class Sender:
    """Sends, and writes down what it was promised."""

    def __init__(self, agent: zmesh.Agent, journal: Journal, life: int) -> None:
        self._agent = agent
        self._journal = journal
        self._number = life * NUMBERS
        self._random = random.Random(life)
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, orders: Orders) -> None:
        """Send until it is time to drain."""
        while not orders.drain.is_set():
            await self._room.acquire()
            self._number += 1
            task = asyncio.create_task(self._send(self._number, self._random.choice(PRIORITIES)))
            self._tasks.add(task)
            task.add_done_callback(self._over)

    async def _send(self, number: int, priority: str) -> None:
        body = {"n": number, "pad": bytes(self._random.randrange(BODY))}
        receipt = await self._agent.send(f"{MAILBOX}@{TARGET}", body, priority=priority, ttl=None)
        self._journal.write(SENT, receipt.id.hex(), priority, number)
        await receipt.stored()
        self._journal.write(STORED, number)
        with contextlib.suppress(zmesh.MessageDead):  # its receiver was killed so often
            await receipt.handled()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logging.error("a message failed", exc_info=error)
            os._exit(4)


async def send(name: str, home: str, life: int, journal: Journal) -> None:
    """Be a sender."""
    orders = Orders()
    async with peer(name, home) as here:
        await Sender(await here.agent("source"), journal, life).run(orders)
        while any(count for state, count in await states(here) if state not in (Sent.HANDLED, Sent.DEAD)):
            await asyncio.sleep(LOOK)
        journal.write(QUIET)
        await orders.quit.wait()


async def states(here: zmesh.Peer) -> list[tuple[Sent, int]]:
    """Count what was ever sent, by what became of it."""
    question = "SELECT state, count(*) FROM outbox GROUP BY state"
    rows = await asyncio.wrap_future(here.store.query(lambda connection: connection.execute(question)))
    return [(Sent(state), count) for state, count in rows]


async def receive(name: str, home: str, journal: Journal) -> None:
    """Be a receiver."""
    orders = Orders()
    tasks: set[asyncio.Task[None]] = set()

    async def finish(message: zmesh.Message) -> None:
        await message.done()
        journal.write(DONE, message.id.hex())

    async def consume(agent: zmesh.Agent) -> None:
        async for message in agent.inbox():
            journal.write(GOT, message.id.hex(), message.attempt, message.body["n"])
            task = asyncio.create_task(finish(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async with peer(name, home) as here:
        consumer = asyncio.create_task(consume(await here.agent(MAILBOX)))
        quitting = asyncio.create_task(orders.quit.wait())
        await asyncio.wait({consumer, quitting}, return_when=asyncio.FIRST_COMPLETED)
        consumer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await consumer


def main() -> None:
    """Read the command line."""
    role, name, life, home, log = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {name}.{life} %(levelname)s %(message)s")
    journal = Journal(Path(log))
    journal.write(LIFE, life)
    asyncio.run(send(name, home, int(life), journal) if role == "sender" else receive(name, home, journal))


if __name__ == "__main__":
    main()
