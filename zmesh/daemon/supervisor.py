"""Looks at the parts of the daemon, restarts those that do not work, and tells how they are.

It must never take the daemon down with a part, nor look so often that the looking is work.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from zmesh.daemon.health import Condition, Health, worst
from zmesh.peer.parts import Part

LOOK_EVERY: Final = 30.0  # seconds while all is well: a look commits to the disk, which should be let sleep
LOOK_AGAIN: Final = 1.0  # seconds while something is not
_log = logging.getLogger("zmesh.daemon")


class Supervisor:
    """Looks after the parts."""

    def __init__(self, parts: Sequence[Part], clock: Callable[[], float] = time.monotonic) -> None:
        """Take the parts, each just started."""
        self._parts = tuple(parts)
        self._clock = clock
        self._conditions = {part.name: Condition(clock()) for part in parts}
        self._looking = asyncio.Lock()

    async def run(self) -> None:
        """Look after them until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY if self.health is Health.HEALTHY else LOOK_AGAIN)

    async def look(self) -> None:
        """Look at all parts now, and restart those for which it is time."""
        async with self._looking:
            await asyncio.gather(*[self._look_at(part) for part in self._parts])

    @property
    def health(self) -> Health:
        """How the worst part is."""
        return worst(condition.state for condition in self._conditions.values())

    def report(self) -> list[dict[str, Any]]:
        """Return how each part is: its name, state, seconds since when, trouble, and restarts in vain.

        Programs beside the peer have more to tell, see `zmesh.daemon.adapters`.
        """
        now = self._clock()
        return [
            {
                "part": name,
                "kind": "peer",
                "state": condition.state.value,
                "for": round(now - condition.since, 3),
                "trouble": condition.trouble,
                "restarts": condition.restarts,
                "says": "",
                "pid": None,
            }
            for name, condition in self._conditions.items()
        ]

    async def _look_at(self, part: Part) -> None:
        condition = self._conditions[part.name]
        try:
            trouble = await part.look()
        except Exception as error:  # noqa: BLE001 - a look that fails is a trouble of the part
            _log.exception("the look at the %s failed", part.name)
            trouble = f"an error in zmesh: {type(error).__name__}: {error}"
        if condition.seen(trouble, self._clock()):
            level = logging.INFO if trouble is None else logging.WARNING
            _log.log(level, "%s: %s%s", part.name, condition.state.value, f": {trouble}" if trouble else "")
        if condition.due(self._clock()):
            await self._restart(part, condition)

    async def _restart(self, part: Part, condition: Condition) -> None:
        try:
            restarted = await part.restart()
        except Exception:  # noqa: BLE001 - the others must be looked after
            _log.exception("the %s could not be restarted", part.name)
            restarted = True
        if restarted:
            condition.restarted(self._clock())
            _log.warning("%s: restarted, for the %d. time", part.name, condition.restarts)
