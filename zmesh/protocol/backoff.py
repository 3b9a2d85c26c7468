"""Delays that double, with jitter, so that many peers never try in step; and those of a message that came back."""

from zmesh.protocol.bounds import REDELIVERY_FIRST, REDELIVERY_MAX

_DOUBLINGS = 32  # beyond this every delay has met its bound; keeps the power small


class Backoff:
    """A sequence of delays in seconds.

    Args:
        first: The first delay.
        most: No delay is longer than this, jitter apart.
    """

    __slots__ = ("_first", "_most", "_tries")

    def __init__(self, first: float, most: float) -> None:
        """Start at the first delay."""
        self._first, self._most, self._tries = first, most, 0

    def next(self, fraction: float) -> float:
        """Return the next delay, between 75 % and 125 % of its nominal value.

        Args:
            fraction: A random number in [0, 1).
        """
        delay = delay_of(self._tries, self._first, self._most)
        self._tries = min(self._tries + 1, _DOUBLINGS)
        return delay * (0.75 + 0.5 * fraction)

    def reset(self) -> None:
        """Go back to the first delay."""
        self._tries = 0


def delay_of(tries: int, first: float, most: float) -> float:
    """Return the nominal delay after `tries` earlier ones, in seconds."""
    return float(min(most, first * 2 ** min(tries, _DOUBLINGS)))


def redelivery_delay(attempts: int) -> float:
    """Return the delay after so many deliveries of a message, in seconds."""
    return delay_of(max(0, attempts - 1), REDELIVERY_FIRST, REDELIVERY_MAX)


def return_delay(attempts: int) -> float:
    """Return the delay when a holder went away, in seconds.

    The first time there is none: most of what it had leased ahead it never looked at, and that keeps its order so.
    """
    return redelivery_delay(attempts - 1) if attempts > 1 else 0.0
