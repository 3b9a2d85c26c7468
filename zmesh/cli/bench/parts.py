"""One part of a measurement, in a process of its own: `python -m zmesh.cli.bench.parts ROLE`.

It reads one JSON object per line from standard input (`{"verb": ..., ...}`), does what the verb says and writes one
line back. The end of its input is its end, so that nothing outlives the benchmark, however that went away. What it
measures it must measure itself, never the time of this conversation.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, Protocol

from zmesh.cli.bench.scale import STOP_SECONDS

ROLES: Final = {
    "peer": "zmesh.cli.bench.peer_part:PeerPart",
    "agents": "zmesh.cli.bench.agents_part:AgentsPart",
    "daemon": "zmesh.cli.bench.agents_part:DaemonPart",
    "floor": "zmesh.cli.bench.floor_part:FloorPart",
    "nats": "zmesh.cli.bench.nats_part:ClientPart",
    "nats-server": "zmesh.cli.bench.nats_part:ServerPart",
}
"""Where the class of each role is, as `module:class`."""


class Part(Protocol):
    """What a part can be told: the coroutine methods it lists, each with the arguments of the request."""

    def verbs(self) -> dict[str, Callable[..., Awaitable[dict[str, Any]]]]:
        """Return what it can do, by name."""
        ...

    async def close(self) -> None:
        """Release everything; called once, at the end."""
        ...


async def converse(part: Part) -> None:
    """Carry out requests until the input ends; what is being done then is broken off."""
    requests: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.current_task()
    assert task is not None
    threading.Thread(target=_read, args=(asyncio.get_running_loop(), requests, task), daemon=True).start()
    verbs = part.verbs()
    try:
        while True:
            request = json.loads(await requests.get())
            try:
                answer = await verbs[request.pop("verb")](**request)
            except Exception as error:  # noqa: BLE001 - whatever it is, the benchmark must hear of it
                answer = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        await part.close()


def _read(loop: asyncio.AbstractEventLoop, requests: asyncio.Queue[str], task: asyncio.Task[None]) -> None:
    """Feed the loop with lines; at their end cancel the conversation, and see that the process ends."""
    with suppress(RuntimeError):  # the loop has ended before the input did
        for line in sys.stdin:
            loop.call_soon_threadsafe(requests.put_nowait, line)
        loop.call_soon_threadsafe(task.cancel)
    time.sleep(STOP_SECONDS)
    os._exit(1)  # a blocking call, or a goodbye to somebody who is gone: nobody waits for this process any more


def main() -> None:
    """Play the role named on the command line."""
    module, _, name = ROLES[sys.argv[1]].partition(":")
    part: Part = getattr(import_module(module), name)()
    with suppress(asyncio.CancelledError):
        asyncio.run(converse(part))


if __name__ == "__main__":
    main()
