"""One of the two peers of `zmesh demo`, as a process of its own that can be killed: `python -m zmesh.cli.demo_peer`.

It talks to the demo in JSON lines: commands on standard input, events on standard output. `sent` is printed only after
`send()` has returned, so that what the demo has read is what was acknowledged; it must never print more than it knows.
The end of its input is its end, so that it does not outlive the demo, however that went away.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import zmesh

CLASSES: Final[tuple[zmesh.PriorityName, ...]] = ("critical", "high", "normal", "low", "bulk")
IN_FLIGHT: Final = 200  # sends that wait for their receipt at a time
LAST_SECONDS: Final = 5.0  # for the peer to close when the demo is gone
_READ_BYTES: Final = 65536

Commands = asyncio.Queue[dict[str, Any]]


def emit(event: str, **fields: Any) -> None:
    """Print one event; nobody hears it when the demo is gone."""
    with suppress(BrokenPipeError):
        # Past sys.stdout, which would keep what it could not write, and fail with it again at the end.
        os.write(1, json.dumps({"event": event, **fields}).encode() + b"\n")


async def studio(home: str, _: Commands) -> None:
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


async def laptop(home: str, commands: Commands) -> None:
    """Find the studio, then do as the demo says."""
    started = time.monotonic()
    async with zmesh.Peer("laptop", home=home) as peer:
        code = await peer.agent("code", role="coder", capabilities=["python"])
        emit("up")
        await peer.wait_for("research@studio", timeout=60)
        emit("found", seconds=time.monotonic() - started)
        while True:
            command = await commands.get()
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


async def live(peer: Callable[[str, Commands], Awaitable[None]], home: str) -> None:
    """Run a peer until the input ends."""
    commands: Commands = asyncio.Queue()
    task = asyncio.current_task()
    assert task is not None
    threading.Thread(target=_listen, args=(asyncio.get_running_loop(), commands, task), daemon=True).start()
    with suppress(asyncio.CancelledError):
        await peer(home, commands)


def _listen(loop: asyncio.AbstractEventLoop, commands: Commands, task: "asyncio.Task[None]") -> None:
    """Feed the peer with commands; at their end cancel it, and see that the process ends."""
    rest = b""
    with suppress(RuntimeError):  # the loop has ended before the input did
        while received := os.read(0, _READ_BYTES):  # past sys.stdin, whose lock would be in the way at the end
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                loop.call_soon_threadsafe(commands.put_nowait, json.loads(line))
        loop.call_soon_threadsafe(task.cancel)
    time.sleep(LAST_SECONDS)
    os._exit(1)  # nobody waits for this process any more


def main() -> None:
    """Run the peer that the arguments name."""
    name, home = sys.argv[1:3]
    asyncio.run(live({"laptop": laptop, "studio": studio}[name], home))


if __name__ == "__main__":
    main()
