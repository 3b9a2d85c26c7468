"""One process of the storm: a peer that sends as fast as it can, or one that takes what comes.

The receiver answers every fourth message, and the senders take the answers. The order `drain` makes a worker send
nothing new and wait until everything it ever sent is handled; `quit` ends it in an orderly way.
"""

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import zmesh
import zmesh.peer.peer
from tests.storm.journal import DONE, GOT, LIFE, QUIET, SENT, STORED, Journal
from zmesh.protocol.states import Sent

TARGET = "sink"
MAILBOX = "drain"
ANSWERED = 4  # every so many messages one is answered
IN_FLIGHT = 256  # messages of one life that are not handled yet: the mailbox of the receiver must never be full
NUMBERS = 10_000_000  # a life's numbers begin at its own multiple
PRIORITIES: tuple[zmesh.PriorityName, ...] = ("critical", "high", "normal", "low", "bulk")
BODY = 400  # bytes of a body at most
LOOK = 0.05  # seconds between two questions to the store
_log = logging.getLogger("storm")


class Orders:
    """What this process is told to do; it ends at once when nobody is there to tell it anything."""

    def __init__(self, handle: int = 0) -> None:
        self.drain = asyncio.Event()
        self.quit = asyncio.Event()
        self._handle = handle
        asyncio.get_running_loop().add_reader(handle, self._read)

    def _read(self) -> None:
        text = os.read(self._handle, 4096).decode()
        if not text:
            os._exit(3)
        for word in text.split():
            getattr(self, word).set()
        if self.quit.is_set():
            asyncio.get_running_loop().remove_reader(self._handle)


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

    async def _send(self, number: int, priority: zmesh.PriorityName) -> None:
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
        _failed(task)


class Receiver:
    """Takes what comes, answers some of it, and writes down what it was given and what it has finished."""

    def __init__(self, agent: zmesh.Agent, journal: Journal, *, answers: bool) -> None:
        self._agent = agent
        self._journal = journal
        self._answers = answers
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take messages until cancelled."""
        async for message in self._agent.inbox():
            number = message.body["n"]
            self._journal.write(GOT, message.id.hex(), message.attempt, number)
            answer = {"n": -number} if self._answers and is_answered(number) else None
            task = asyncio.create_task(self._finish(message, answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _finish(self, message: zmesh.Message, answer: Any) -> None:
        await message.done(reply=answer)
        self._journal.write(DONE, message.id.hex())


def is_answered(number: int) -> bool:
    """Say whether the message of this number gets an answer."""
    return number % ANSWERED == 0


async def play(role: str, name: str, home: str, life: int, journal: Journal, handle: int) -> None:  # noqa: PLR0917
    """Be a sender or a receiver until told to quit."""
    orders = Orders(handle)
    sending = role == "sender"
    async with peer(name, home) as here:
        agent = await here.agent("source" if sending else MAILBOX)
        receiving = asyncio.create_task(Receiver(agent, journal, answers=not sending).run())
        receiving.add_done_callback(_failed)
        if sending:
            await Sender(agent, journal, life).run(orders)
        await orders.drain.wait()
        while not await settled(here):  # noqa: ASYNC110 - only the store knows, and it has no events
            await asyncio.sleep(LOOK)
        journal.write(QUIET)
        await orders.quit.wait()
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving


async def settled(here: zmesh.Peer) -> bool:
    """Say whether everything that was ever sent has come to its last state."""
    question = f"SELECT 1 FROM outbox WHERE state NOT IN ({int(Sent.HANDLED)}, {int(Sent.DEAD)}) LIMIT 1"  # noqa: S608
    return not await asyncio.wrap_future(here.store.query(lambda connection: connection.execute(question)))


def _failed(task: asyncio.Task[None]) -> None:
    """End the process when a task has failed: whoever runs it will show why."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _log.error("it failed", exc_info=error)
        os._exit(4)


def main(role: str, name: str, life: str, home: str, log: str, orders: int) -> None:  # noqa: PLR0917
    """Be a worker for the rest of this process's life; arguments as in the module, and where the orders come from."""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {name}.{life} %(levelname)s %(message)s")
    journal = Journal(Path(log))
    journal.write(LIFE, life)
    asyncio.run(play(role, name, home, int(life), journal, orders))
