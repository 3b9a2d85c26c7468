"""One program of the storm: it sends through the daemon, takes what comes to the mailbox that all receivers share, or
is an administrator, who does whatever comes to his mind.

What it was promised and given it writes into its outside log, with the time. The order `drain` ends the sending, `quit`
the program; it ends at once when nobody is there to tell it anything.
"""

import asyncio
import contextlib
import logging
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import zmesh
from tests.storm.journal import DONE, GOT, LIFE, QUIET, SENT, Journal
from zmesh.daemon.connecting import connected

MAILBOX = "sink"
ANNEX = "annex"  # where an administrator moves what is in it, and back
PEER = "laptop"
TO = f"{MAILBOX}@{PEER}"
NUMBERS = 10_000_000  # a life's numbers begin at its own multiple
TASKS = 4  # of an async program
IN_FLIGHT = 32  # every so many messages one is waited for until it is handled
ASKED = 10  # every so many messages one is a question
REPLIED = 7  # every so many messages one gets an answer beside its end
ANSWERED = "A"  # an answer came: ANSWERED number answer
REPLY = "P"  # an answer came to the mailbox: REPLY id question
LEASE_LOST = "X"  # done() said that another one has it: LEASE_LOST id
PURGED = "F"  # a purge was asked for, which may forget the receipts of what has ended: PURGED
ACTED = "K"  # an administrator did something: ACTED verb
PRIORITIES = ("critical", "high", "normal", "low", "bulk")
PAUSE = 0.02  # seconds at most that a message is held
SHORT = 0.05  # seconds at most after which an async receiver gives a poll up
FULL = 0.05  # seconds until something is tried again for which there was no room
REST = 0.1  # seconds at most between two whims of an administrator
QUOTAS = ("1", "20", "300", "20000")  # messages in one mailbox
_log = logging.getLogger("storm")


class Orders:
    """What this process is told to do."""

    def __init__(self, handle: int) -> None:
        self.drain = threading.Event()
        self.quit = threading.Event()
        threading.Thread(target=self._read, args=(handle,), daemon=True).start()

    def _read(self, handle: int) -> None:
        while text := os.read(handle, 4096).decode():
            for word in text.split():
                getattr(self, word).set()
        os._exit(3)


class Sending:
    """The numbers of one program's messages, and its log."""

    def __init__(self, journal: Journal, life: int) -> None:
        self.journal = journal
        self.number = life * NUMBERS
        self.random = random.Random(life)

    def next(self) -> tuple[int, dict[str, Any]]:
        self.number += 1
        return self.number, {"n": self.number, "pad": bytes(self.random.randrange(400))}

    def priority(self) -> str:
        return self.random.choice(PRIORITIES)

    def answered(self, number: int, answer: Any) -> None:
        self.journal.write(SENT, answer.reply_to.hex(), "ask", number)
        self.journal.write(ANSWERED, number, answer.body["n"])


def received(journal: Journal, message: Any) -> int:
    """Write down what was given; return its number."""
    number: int = message.body["n"]
    journal.write(GOT, message.id.hex(), message.attempt, number, time.monotonic_ns())
    return number


# --- blocking ---


def send(client: zmesh.Client, orders: Orders, sending: Sending) -> None:
    """Send until it is time to drain."""
    while not orders.drain.is_set():
        number, body = sending.next()
        if number % ASKED == 0:
            try:
                with contextlib.suppress(zmesh.MessageDead):  # its receivers were killed so often
                    sending.answered(number, client.ask(TO, body, timeout=120, priority="high"))
            except zmesh.MeshFull:
                time.sleep(FULL)
            continue
        priority = sending.priority()
        try:
            receipt = client.send(TO, body, priority=priority, ttl=None)
        except zmesh.MeshFull:
            time.sleep(FULL)
            continue
        sending.journal.write(SENT, receipt.id.hex(), priority, number)
        if number % IN_FLIGHT == 0:
            with contextlib.suppress(zmesh.MessageDead, zmesh.UnknownMessage):  # the latter was purged: it has ended
                receipt.handled()
            for message in client.poll(100):
                sending.journal.write(REPLY, message.id.hex(), message.reply_to.hex())
    sending.journal.write(QUIET)
    orders.quit.wait()


def receive(client: zmesh.Client, orders: Orders, journal: Journal, chance: random.Random) -> None:
    """Take and finish messages until told to quit."""
    while not orders.quit.is_set():
        for message in client.take(4, 0.2):
            number = received(journal, message)
            try:
                if number % REPLIED == 0 and message.type != "ask":
                    message.reply({"n": number})
                if chance.random() < 0.1:
                    time.sleep(chance.random() * PAUSE)  # kills shall hit who holds something
                message.done({"n": -number} if message.type == "ask" else None)
            except zmesh.LeaseLost:
                journal.write(LEASE_LOST, message.id.hex())
                continue
            except zmesh.MeshFull:  # there is no room for the answer
                with contextlib.suppress(zmesh.LeaseLost):
                    message.nack(FULL, counted=False)
                continue
            journal.write(DONE, message.id.hex(), time.monotonic_ns())


# --- an administrator ---


def administer(client: zmesh.Client, orders: Orders, journal: Journal, chance: random.Random) -> None:
    """Do this and that until it is time to drain; then leave everything as it was."""
    while not orders.drain.is_set():
        with contextlib.suppress(zmesh.MeshFull):  # nothing was moved, or brought back
            journal.write(ACTED, _whim(client, journal, chance))
        orders.drain.wait(chance.random() * REST)
    client.call("admin.resume")
    client.call("admin.set", key="quotas.mailbox.messages", value=QUOTAS[-1])
    journal.write(QUIET)
    while not orders.quit.wait(FULL):  # what was leased when a daemon was killed cannot be moved at once
        client.call("mailbox.move", name=ANNEX, into=MAILBOX)


def _whim(client: zmesh.Client, journal: Journal, chance: random.Random) -> str:
    there, into = chance.sample((MAILBOX, ANNEX), 2)
    whims: list[tuple[str, dict[str, Any]]] = [
        (chance.choice(("admin.pause", "admin.resume")), {}),
        ("admin.compact", {}),
        ("admin.purge", {"kinds": ["ended", "dead", "expired"]}),
        ("admin.purgeable", {"kinds": ["ended"], "mailbox": MAILBOX}),
        ("admin.set", {"key": "quotas.mailbox.messages", "value": chance.choice(QUOTAS)}),
        ("mailbox.replay", {"name": there, "ident": None}),
        ("mailbox.move", {"name": there, "into": into}),
        ("mailbox.move", {"name": MAILBOX, "into": ANNEX}),
    ]
    verb, arguments = chance.choice(whims)
    if verb == "admin.purge":
        journal.write(PURGED)
    client.call(verb, **arguments)
    if verb == "mailbox.move":
        client.call(verb, name=ANNEX, into=MAILBOX)
    return verb


# --- async ---


async def send_async(client: zmesh.AsyncClient, orders: Orders, sending: Sending) -> None:
    """As `send`, in several tasks."""

    async def one() -> None:
        while not orders.drain.is_set():
            number, body = sending.next()
            try:
                if number % ASKED == 0:
                    with contextlib.suppress(zmesh.MessageDead):
                        sending.answered(number, await client.ask(TO, body, timeout=120, priority="high"))
                    continue
                receipt = await client.send(TO, body, priority=sending.priority(), ttl=None)
            except zmesh.MeshFull:
                await asyncio.sleep(FULL)
                continue
            sending.journal.write(SENT, receipt.id.hex(), "any", number)
            if number % IN_FLIGHT == 0:
                with contextlib.suppress(zmesh.MessageDead, zmesh.UnknownMessage):
                    await receipt.handled()
                for message in await client.take(100):
                    sending.journal.write(REPLY, message.id.hex(), message.reply_to.hex())
                    with contextlib.suppress(zmesh.LeaseLost):
                        await message.done()

    await asyncio.gather(*(one() for _ in range(TASKS)))
    sending.journal.write(QUIET)
    await asyncio.to_thread(orders.quit.wait)


async def receive_async(client: zmesh.AsyncClient, orders: Orders, journal: Journal, chance: random.Random) -> None:
    """As `receive`, in several tasks that give their polls up now and then."""

    async def finish(message: Any) -> None:
        number = received(journal, message)
        try:
            if number % REPLIED == 0 and message.type != "ask":
                await message.reply({"n": number})
            await asyncio.sleep(chance.random() * PAUSE if chance.random() < 0.1 else 0)
            await message.done({"n": -number} if message.type == "ask" else None)
        except zmesh.LeaseLost:
            journal.write(LEASE_LOST, message.id.hex())
        except zmesh.MeshFull:
            with contextlib.suppress(zmesh.LeaseLost):
                await message.nack(FULL, counted=False)
        else:
            journal.write(DONE, message.id.hex(), time.monotonic_ns())

    async def one() -> None:
        while not orders.quit.is_set():
            messages = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(chance.random() * SHORT):
                    messages = await client.take(2, 1.0)
            for message in messages:
                await finish(message)

    await asyncio.gather(*(one() for _ in range(TASKS)))


async def play_async(role: str, name: str, home: str, orders: Orders, journal: Journal, life: int) -> None:  # noqa: PLR0917
    """Be an async sender or receiver."""
    async with zmesh.connect_async(name if role == "send" else MAILBOX, home=home) as client:
        if role == "send":
            await send_async(client, orders, Sending(journal, life))
        else:
            await receive_async(client, orders, journal, random.Random(life))


def main(kind: str, role: str, name: str, life: str, home: str, log: str, handle: int) -> None:  # noqa: PLR0917
    """Be a worker for the rest of this process's life."""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {name}.{life} %(levelname)s %(message)s")
    orders = Orders(handle)
    journal = Journal(Path(log))
    journal.write(LIFE, life)
    try:
        if kind == "async":
            asyncio.run(play_async(role, name, home, orders, journal, int(life)))
            return
        if role == "administer":
            with connected(Path(home)) as client:
                administer(client, orders, journal, random.Random(int(life)))
            return
        with zmesh.connect(name if role == "send" else MAILBOX, home=home) as client:
            if role == "send":
                send(client, orders, Sending(journal, int(life)))
            else:
                receive(client, orders, journal, random.Random(int(life)))
    except BaseException:  # noqa: BLE001 - whoever runs it will show why
        _log.exception("it failed")
        os._exit(4)
