"""One part of a measurement, in a process of its own: `python -m zmesh.cli.bench.parts ROLE`.

It reads one JSON object per line from standard input (`{"verb": ..., ...}`), does what the verb says and writes one
line back. The end of its input is its end, so that nothing outlives the benchmark, however that went away. What it
measures it must measure itself, never the time of this conversation.
"""

import asyncio
import json
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, Protocol

ROLES: Final = {
    "peer": "zmesh.cli.bench.peer_part:PeerPart",
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
    """Carry out requests until the input ends."""
    requests: asyncio.Queue[str] = asyncio.Queue()
    threading.Thread(target=_read, args=(asyncio.get_running_loop(), requests), daemon=True).start()
    verbs = part.verbs()
    try:
        while line := await requests.get():
            request = json.loads(line)
            try:
                answer = await verbs[request.pop("verb")](**request)
            except Exception as error:  # noqa: BLE001 - whatever it is, the benchmark must hear of it
                answer = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        await part.close()


def _read(loop: asyncio.AbstractEventLoop, requests: asyncio.Queue[str]) -> None:
    """Feed the loop with lines; an empty one is the end."""
    with suppress(RuntimeError):  # the loop has ended before the input did
        for line in sys.stdin:
            loop.call_soon_threadsafe(requests.put_nowait, line)
        loop.call_soon_threadsafe(requests.put_nowait, "")


def main() -> None:
    """Play the role named on the command line."""
    module, _, name = ROLES[sys.argv[1]].partition(":")
    part: Part = getattr(import_module(module), name)()
    asyncio.run(converse(part))


if __name__ == "__main__":
    main()
