"""Times at which something about a message is due, the soonest first.

A message that has ended stays among them until its time comes, or until there are too many such: so ending one costs
nothing, and what has ended never fills the memory. It must never say what is to happen when the time has come.
"""

from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush
from typing import Final

NEVER: Final = float("inf")
LONG_AGO: Final = float("-inf")
SLACK: Final = 64  # entries of ended messages that a heap or queue may hold beyond as many as are alive


class Deadlines:
    """A heap of (time, row)."""

    __slots__ = ("_alive", "_heap")

    def __init__(self, alive: Collection[int]) -> None:
        """Begin empty.

        Args:
            alive: The rows of the messages that have not ended, as they come and go.
        """
        self._alive = alive
        self._heap: list[tuple[float, int]] = []

    def __len__(self) -> int:
        """Return how many times are remembered."""
        return len(self._heap)

    @property
    def next(self) -> float:
        """The soonest time; `NEVER` when there is none."""
        return self._heap[0][0] if self._heap else NEVER

    def add(self, at: float, row: int) -> None:
        """Remember that something about `row` is due then."""
        heappush(self._heap, (at, row))
        if len(self._heap) > 2 * len(self._alive) + SLACK:
            self._heap = [entry for entry in self._heap if entry[1] in self._alive]
            heapify(self._heap)

    def due(self, now: float) -> Iterator[tuple[float, int]]:
        """Take out what is due by now, the soonest first; what is added meanwhile counts too."""
        while self._heap and self._heap[0][0] <= now:
            yield heappop(self._heap)
