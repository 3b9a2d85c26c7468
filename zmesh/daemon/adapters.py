"""The adapters of the configuration: each is kept running, started again when it ends, and its state told.

An adapter that ends is started again with the pauses of any other part; it counts as healthy when it runs, and after it
has ended by itself only when it has run for a while. This module must never have two processes of one adapter, nor end
the daemon because of one.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from zmesh.daemon.guarded import Guarded
from zmesh.daemon.health import Condition, Health, worst
from zmesh.daemon.reports import Report, Reports, trouble_of
from zmesh.peer.adapter_settings import AdapterSettings

MOMENT: Final = 1.0  # seconds an adapter runs until it is called healthy: one that cannot work ends at once
STEADY: Final = 10.0  # seconds instead, after it has ended by itself: then its restarts were not in vain
_log = logging.getLogger("zmesh.daemon")

Values = dict[str, Any]


class Adapters:
    """All adapters of one daemon."""

    def __init__(self, home: Path, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none.

        Args:
            home: Of the daemon's state.
            directory: For logs and locks.
            clock: Seconds that never step.
        """
        self._home, self._directory, self._clock = home, directory, clock
        self._wanted: dict[str, AdapterSettings] = {}
        self._running: dict[str, _Adapter] = {}
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()
        self._closed = False

    def take(self, wanted: Iterable[AdapterSettings]) -> None:
        """Run these from now on, and no others; those that stay as they are run on. Returns at once."""
        self._wanted = {settings.name: settings for settings in wanted}
        change = asyncio.get_running_loop().create_task(self._change())
        self._changes.add(change)
        change.add_done_callback(self._changes.discard)

    async def close(self) -> None:
        """End all; returns when nothing of them is there any more."""
        self._closed = True
        await asyncio.gather(*[self._stop(name) for name in self._running], return_exceptions=True)
        await asyncio.gather(*self._changes, return_exceptions=True)

    def report(self, reports: Reports) -> list[Values]:
        """Return how each adapter is, and each other program that says so, as `Supervisor.report` does.

        Besides it is told what the program itself says, and its process.
        """
        now = self._clock()
        rows = [adapter.report(now, reports.of_adapter(name)) for name, adapter in sorted(self._running.items())]
        return rows + reports.of_others(self._running)

    async def _change(self) -> None:
        async with self._changing:
            self._start_missing()
            other = [name for name, adapter in self._running.items() if adapter.settings != self._wanted.get(name)]
            await asyncio.gather(*[self._stop(name) for name in other])
            self._start_missing()

    def _start_missing(self) -> None:
        for name, settings in self._wanted.items():
            if name not in self._running and not self._closed:
                _log.info("adapter %s: started", name)
                self._running[name] = _Adapter(settings, self._home, self._directory, self._clock)

    async def _stop(self, name: str) -> None:
        adapter = self._running.get(name)
        if adapter is not None:
            await adapter.stop()
            if self._running.pop(name, None) is not None:
                _log.info("adapter %s: ended", name)


class _Adapter:
    """One adapter, kept running.

    Attributes:
        settings: What it is.
    """

    def __init__(self, settings: AdapterSettings, home: Path, directory: Path, clock: Callable[[], float]) -> None:
        """Start it."""
        self.settings = settings
        self._home, self._directory, self._clock = home, directory, clock
        self._condition = Condition(clock())
        self._run: Guarded | None = None
        self._stopping = False
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """End it; returns when nothing of it is there. May be called again meanwhile."""
        self._stopping = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._run is not None:
            await self._run.end()

    def report(self, now: float, said: Report | None) -> Values:
        """Return how it is, as it was seen and as it says."""
        condition, run = self._condition, self._run
        state, since, trouble = condition.state, condition.since, condition.trouble
        if state is Health.RECOVERING and not trouble:
            trouble = "it is being started"
        running = run is not None and run.begun.done() and not run.over.done()
        if said is not None and worst((state, said.state)) is not state:
            state, since, trouble = said.state, said.since, trouble_of(said)
        if self._stopping:
            trouble = "it is being ended"
        elif run is not None and run.waits:
            trouble = "what is left of an earlier run is still being ended"
        return {
            "part": self.settings.name, "kind": "adapter", "state": state.value, "for": round(now - since, 3),
            "trouble": trouble, "restarts": condition.restarts, "says": said.text if said is not None else "",
            "pid": run.begun.result() if running and run is not None else None,
        }  # fmt: skip

    async def _keep(self) -> None:
        while True:
            try:
                why = await self._live()
            except Exception as error:  # noqa: BLE001 - it is tried again, as what ends by itself
                _log.exception("adapter %s could not be looked after", self.settings.name)
                why = f"an error in zmesh: {type(error).__name__}: {error}"
            if self._condition.ended(why, self._clock()):
                self._tell(logging.WARNING)
            await asyncio.sleep(self._condition.left(self._clock()))
            self._condition.restarted(self._clock())

    async def _live(self) -> str:
        """Run it once; return why it has ended."""
        run = self._run = Guarded(self.settings, self._home, self._directory)
        first: set[asyncio.Future[Any]] = {run.begun, run.over}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not run.over.done():
            await asyncio.wait({run.over}, timeout=STEADY if self._condition.restarts else MOMENT)
        if not run.over.done():
            if self._condition.seen(None, self._clock()):
                self._tell(logging.INFO)
            await asyncio.wait({run.over})
        return run.over.result()

    def _tell(self, level: int) -> None:
        state, trouble = self._condition.state, self._condition.trouble
        _log.log(level, "adapter %s: %s%s", self.settings.name, state.value, f": {trouble}" if trouble else "")


def health_of(rows: Iterable[Values]) -> Health:
    """Return how the worst of all parts is."""
    return worst(Health(row["state"]) for row in rows)
