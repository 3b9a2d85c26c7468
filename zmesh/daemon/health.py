"""How each part of the daemon is: healthy, degraded, recovering or failed, as a table; and when it is restarted.

A part that has a trouble is restarted with growing pauses, for ever; after several restarts in vain it is called
failed, and is healthy again as soon as it works. This module must never call a part healthy that was not seen to work.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final

from zmesh.protocol.backoff import delay_of

RESTART_FIRST: Final = 1.0  # seconds from a trouble to the first restart: most are over by then
RESTART_MAX: Final = 60.0  # seconds between two restarts
FAILED_AFTER: Final = 4  # restarts in vain; some 15 s


class Health(Enum):
    """How a part is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    RECOVERING = "recovering"
    FAILED = "failed"


TABLE: Final[dict[Health, dict[str, Health]]] = {
    Health.HEALTHY: {
        "well": Health.HEALTHY, "trouble": Health.DEGRADED, "in vain": Health.DEGRADED, "ended": Health.RECOVERING,
    },
    Health.DEGRADED: {
        "well": Health.HEALTHY, "trouble": Health.DEGRADED, "restart": Health.RECOVERING, "in vain": Health.FAILED,
        "ended": Health.RECOVERING,
    },
    Health.RECOVERING: {
        "well": Health.HEALTHY, "trouble": Health.DEGRADED, "restart": Health.RECOVERING, "in vain": Health.FAILED,
        "ended": Health.RECOVERING,
    },
    Health.FAILED: {
        "well": Health.HEALTHY, "trouble": Health.FAILED, "in vain": Health.FAILED, "restart": Health.RECOVERING,
        "ended": Health.FAILED,
    },
}  # fmt: skip
"""What becomes of a part: by what was seen, or done about it. "in vain": a trouble after `FAILED_AFTER` restarts.
"ended": it is not there at all, and is started again."""


def worst(states: Iterable[Health]) -> Health:
    """Return the worst of these; healthy where there are none."""
    return max(states, key=list(Health).index, default=Health.HEALTHY)


class Condition:
    """How one part is, and since when.

    Attributes:
        state: Of `Health`.
        since: When it came to be so, on the caller's clock.
        trouble: What keeps it from working, in words; empty while it works.
        restarts: In vain so far.
    """

    def __init__(self, now: float) -> None:
        """Begin with a part that has just been started."""
        self.state, self.since = Health.RECOVERING, now
        self.trouble = ""
        self.restarts = 0
        self._due = now + RESTART_FIRST

    def seen(self, trouble: str | None, now: float) -> bool:
        """Take note of what a look at the part has shown; return True if that is another state than before."""
        self.trouble = trouble or ""
        if trouble is None:
            self.restarts = 0
            self._due = now + RESTART_FIRST
            return self._go("well", now)
        if self.state is Health.HEALTHY:
            self._due = now + RESTART_FIRST
        return self._go("in vain" if self.restarts >= FAILED_AFTER else "trouble", now)

    def ended(self, trouble: str, now: float) -> bool:
        """It has ended by itself, and is to be started again; return True if that is another state than before."""
        self.trouble = trouble
        self._due = now + delay_of(self.restarts, RESTART_FIRST, RESTART_MAX)
        return self._go("in vain" if self.restarts >= FAILED_AFTER else "ended", now)

    def left(self, now: float) -> float:
        """Return how many seconds are left until it is to be restarted."""
        return max(0.0, self._due - now)

    def due(self, now: float) -> bool:
        """Say whether it is to be restarted now."""
        return bool(self.trouble) and "restart" in TABLE[self.state] and now >= self._due

    def restarted(self, now: float) -> None:
        """It was restarted, whatever came of it: the next look tells."""
        self._due = now + delay_of(self.restarts, 2 * RESTART_FIRST, RESTART_MAX)
        self.restarts += 1
        self._go("restart", now)

    def _go(self, event: str, now: float) -> bool:
        before, self.state = self.state, TABLE[self.state][event]
        if self.state is before:
            return False
        self.since = now
        return True
