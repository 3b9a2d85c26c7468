"""A token bucket: how much of something may come at once, and how much a second in the long run.

Time is an argument. A bucket must never refuse for good: what is larger than all it can hold passes when it is full,
and is paid off afterwards.
"""


class Bucket:
    """One bucket, which is full at first.

    Args:
        rate: What flows in, per second; above 0.
        burst: What it can hold; above 0.
        now: Seconds.
    """

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """Begin full."""
        self._rate, self._burst = rate, burst
        self._level, self._at = burst, now

    def holds(self, amount: float, now: float) -> bool:
        """Say whether so much may be taken now; taking it is another step.

        Args:
            amount: 0 or more; of what exceeds the burst, the burst has to be there.
            now: Seconds; an earlier time than the last counts as the last.
        """
        if now > self._at:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
            self._at = now
        return self._level >= min(amount, self._burst)

    def used(self, now: float) -> float:
        """Return how much was taken and has not flowed in again."""
        self.holds(0, now)
        return self._burst - self._level

    def take(self, amount: float) -> None:
        """Take what it holds; it may then lack some."""
        self._level -= amount
