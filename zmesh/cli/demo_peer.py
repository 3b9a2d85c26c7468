"""One of the two peers of `zmesh demo`, as a process of its own that can be killed: `python -m zmesh.cli.demo_peer`.

It talks to the demo in JSON lines: commands on standard input, events on standard output. `sent` is printed only after
`send()` has returned, so that what the demo has read is what was acknowledged; it must never print more than it knows.
"""

import asyncio
import json
import sys
import time
from typing import Any, Final

import zmesh

CLASSES: Final = ("critical", "high", "normal", "low", "bulk")
IN_FLIGHT: Final = 200  # sends that wait for their receipt at a time


def emit(event: str, **fields: Any) -> None:
    """Print one event."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


async def studio(home: str) -> None:
    """Answer questions and take work until the process ends."""
    async with zmesh.Peer("studio", home=home) as peer:
        research = await peer.agent("research", role="researcher", capabilities=["search"])
        emit("up")
        taken = 0
        async for message in research.inbox():
            if message.type == "ask":
                await message.done(
                    reply={"text": f"{message.body['text'].rstrip('?')}: three papers, one of them good"}
                )
                emit("answered", text=message.body["text"])
                continue
            message.done()  # its commit is shared with those that follow
            taken += 1
            if taken % 50 == 0:
                emit("taken", count=taken, attempt=message.attempt)


async def laptop(home: str) -> None:
    """Find the studio, then do as the demo says."""
    started = time.monotonic()
    async with zmesh.Peer("laptop", home=home) as peer:
        code = await peer.agent("code", role="coder", capabilities=["python"])
        emit("up")
        await peer.wait_for("research@studio", timeout=60)
        emit("found", seconds=time.monotonic() - started)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            command = json.loads(line)
            if "ask" in command:
                await ask(code, command["ask"])
            else:
                await burst(code, command["burst"])


async def ask(code: zmesh.Agent, text: str) -> None:
    """Ask the studio one question."""
    started = time.monotonic()
    answer = await code.ask("research@studio", {"text": text}, timeout=30)
    emit("answer", text=answer.body["text"], sender=answer.sender, seconds=time.monotonic() - started)


async def burst(code: zmesh.Agent, count: int) -> None:
    """Send messages of all five priorities, and say of each when it was acknowledged and when it was stored."""
    room = asyncio.Semaphore(IN_FLIGHT)
    stored = 0

    async def follow(receipt: zmesh.Receipt) -> None:
        nonlocal stored
        await receipt.stored()
        room.release()
        stored += 1
        if stored % 20 == 0 or stored == count:
            emit("stored", count=stored)

    async with asyncio.TaskGroup() as tasks:
        for n in range(count):
            await room.acquire()
            priority = CLASSES[n % len(CLASSES)]
            receipt = await code.send("research@studio", {"job": n}, type="work", priority=priority)
            emit("sent", id=receipt.id.hex(), klass=n % len(CLASSES))
            tasks.create_task(follow(receipt))
    emit("finished")


def main() -> None:
    """Run the peer that the arguments name."""
    name, home = sys.argv[1:3]
    asyncio.run({"laptop": laptop, "studio": studio}[name](home))


if __name__ == "__main__":
    main()
