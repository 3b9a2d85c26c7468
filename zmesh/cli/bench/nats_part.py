"""The rival as a part of measurements: nats-server with a JetStream file store, and clients through nats-py.

The server runs on loopback with a port of the system's choice and is ended by its pid with this process, however that
ends. The clients use what nats-py has for speed: asynchronous publishing, with a bound on what is unacknowledged.
"""

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nats
from nats.js.api import StorageType, StreamConfig

from zmesh.cli.bench.scale import (
    IN_FLIGHT,
    START_SECONDS,
    STEP_SECONDS,
    STOP_SECONDS,
    beats,
    now,
    percentiles,
    stamp,
    stamped,
)

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

SUBJECT: Final = "bench"


class ServerPart:
    """One nats-server."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    def verbs(self) -> dict[str, Callable[..., Awaitable[dict[str, Any]]]]:
        """Return what this part can do."""
        return {"serve": self.serve, "accepts": self.accepts}

    async def close(self) -> None:
        """End the server by its pid."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS / 2):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def accepts(self, program: str, directory: str, sync: str) -> dict[str, Any]:
        """Say whether this version of the server knows the setting."""
        _, configuration = _configure(Path(directory), sync)
        tested = await asyncio.create_subprocess_exec(
            program, "-c", str(configuration), "-t", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return {"accepted": await tested.wait() == 0}

    async def serve(self, program: str, directory: str, sync: str) -> dict[str, Any]:
        """Start the server.

        Args:
            program: Path of the server.
            directory: Where its store, settings and log lie.
            sync: What `sync_interval` is set to; empty for the server's default.
        """
        place, configuration = _configure(Path(directory), sync)
        log = place / "log"
        self._process = await asyncio.create_subprocess_exec(program, "-c", str(configuration), "-l", str(log))
        ports = place / f"nats-server_{self._process.pid}.ports"
        async with asyncio.timeout(START_SECONDS):
            while not ports.exists() or not ports.read_text().strip():
                if self._process.returncode is not None:
                    raise RuntimeError(f"nats-server ended: {log.read_text()[-500:] if log.exists() else 'no log'}")
                await asyncio.sleep(0.02)
        return {"url": json.loads(ports.read_text())["nats"][0]}


class ClientPart:
    """A publisher or a consumer."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._stream: JetStreamContext
        self._subscription: JetStreamContext.PushSubscription

    def verbs(self) -> dict[str, Callable[..., Awaitable[dict[str, Any]]]]:
        """Return what this part can do."""
        return {
            "open": self.open,
            "send": self.send,
            "send_in_tasks": self.send_in_tasks,
            "send_paced": self.send_paced,
            "subscribe": self.subscribe,
            "receive_paced": self.receive_paced,
        }

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.close()

    async def open(self, url: str, *, stream: bool) -> dict[str, Any]:
        """Connect; with `stream`, make the stream, on file."""
        self._client = await nats.connect(url, connect_timeout=int(START_SECONDS))
        self._stream = self._client.jetstream(publish_async_max_pending=IN_FLIGHT, timeout=STEP_SECONDS)
        if stream:
            await self._stream.add_stream(StreamConfig(SUBJECT, subjects=[SUBJECT], storage=StorageType.FILE))
        return {}

    async def send(self, count: int) -> dict[str, Any]:
        """Publish `count` messages with `IN_FLIGHT` of them not acknowledged; seconds until all are."""
        async with asyncio.timeout(STEP_SECONDS):
            start = now()
            acknowledged = [await self._stream.publish_async(SUBJECT, stamped(number)) for number in range(count)]
            await asyncio.gather(*acknowledged)
            return {"stored_s": (now() - start) / 1e9}

    async def send_in_tasks(self, count: int) -> dict[str, Any]:
        """Publish `count` messages from `IN_FLIGHT` tasks, each of which awaits its acknowledgements one by one."""
        numbers = iter(range(count))

        async def publish() -> None:
            for number in numbers:
                await self._stream.publish(SUBJECT, stamped(number))

        async with asyncio.timeout(STEP_SECONDS):
            start = now()
            await asyncio.gather(*(publish() for _ in range(IN_FLIGHT)))
            return {"stored_s": (now() - start) / 1e9}

    async def send_paced(self, count: int, rate: float) -> dict[str, Any]:
        """Publish one message at a time; percentiles of the time until its acknowledgement."""
        spent: list[int] = []
        for wait in beats(count, rate):
            await asyncio.sleep(wait)
            start = now()
            await self._stream.publish(SUBJECT, stamped(start))
            spent.append(now() - start)
        return percentiles("send", spent)

    async def subscribe(self) -> dict[str, Any]:
        """Become a push consumer, which acknowledges each message."""
        self._subscription = await self._stream.subscribe(SUBJECT)
        return {}

    async def receive_paced(self, count: int) -> dict[str, Any]:
        """Take messages; percentiles of the time from the call of publish to the consumer's loop."""
        spent: list[int] = []
        async with asyncio.timeout(STEP_SECONDS):
            async for message in self._subscription.messages:
                spent.append(now() - stamp(message.data))
                await message.ack()
                if len(spent) == count:
                    break
        return percentiles("inbox", spent)


def _configure(place: Path, sync: str) -> tuple[Path, Path]:
    """Write the server's settings; returns its directory and the file."""
    place.mkdir(parents=True, exist_ok=True)
    interval = f"sync_interval: {sync}" if sync else ""
    configuration = place / "nats.conf"
    configuration.write_text(
        f"""
host: 127.0.0.1
port: -1
ports_file_dir: {json.dumps(str(place))}
jetstream {{
    store_dir: {json.dumps(str(place / "store"))}
    {interval}
}}
"""
    )
    return place, configuration
