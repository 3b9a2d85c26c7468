"""How long the daemon has said nothing to a client that waits: whether it has much to do, or is stopped.

While somebody waits, the client asks now and then whether the daemon is there, which it answers whatever else it is
doing; so a wait may be as long as it likes. Time is counted in looks, so that a client that was stopped itself blames
nobody. This module must never look at a clock.
"""

from typing import Final

from zmesh.errors import WaitTimeout

LOOK_EVERY: Final = 2.0  # seconds between two looks of somebody who waits
PING_EVERY: Final = 10.0  # seconds: a thousand programs that wait are a hundred questions a second
HUNG: Final = 10.0  # seconds of silence after which a wait ends with its timeout; a daemon at work answers in 0.01 s
PATIENCE: Final = 30.0  # seconds of silence after which all others end, and seconds that an answer may be late


class NotHeard(WaitTimeout):
    """The time of a request is over, and the daemon has said nothing at all."""


class Silence:
    """Of one connection.

    Attributes:
        seconds: For how long nothing was heard since it was asked whether the daemon is there.
    """

    def __init__(self) -> None:
        """Begin with a connection that is to be made."""
        self.seconds = 0.0
        self._asked = False
        self._last_asked: float | None = None
        self._looked = 0.0

    def begin(self) -> None:
        """Another connection begins."""
        self.broken()
        self._last_asked = None

    def broken(self) -> None:
        """Something was heard."""
        self.seconds, self._asked = 0.0, False

    def look(self, now: float) -> bool:
        """Somebody waits still: return True if the daemon is to be asked now whether it is there.

        Args:
            now: Seconds on the caller's clock.
        """
        if self._asked:
            self.seconds += min(now - self._looked, LOOK_EVERY)
        self._looked = now
        if self._asked or (self._last_asked is not None and now - self._last_asked < PING_EVERY):
            return False
        self._asked, self._last_asked = True, now
        return True

    def enough(self, timeout: float | None) -> bool:
        """Say whether nobody need wait for a word any longer who has so many seconds for it; None for no such bound."""
        return self.seconds >= (PATIENCE if timeout is None else min(PATIENCE, max(HUNG, timeout)))
