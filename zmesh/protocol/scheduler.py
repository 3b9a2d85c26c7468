"""Chooses which class of messages goes out next.

Critical messages go first, always: they have a budget of their own. The other four share the line by weight, so that
bulk moves slowly and never starves. Stride scheduling: each class has a clock that advances by what it sent divided by
its weight; the class that is furthest behind goes next.
"""

from collections.abc import Sequence
from typing import Final

from zmesh.protocol.bounds import CLASSES
from zmesh.protocol.priority import Priority

WEIGHTS: Final = (16, 8, 4, 2, 1)
"""Shares of the line, critical first; powers of two, so that high : bulk is 8 : 1."""

_ITEM_COST: Final = 64  # bytes of header per message: empty ones must advance the clock as well


class Scheduler:
    """The weighted pick of one peer."""

    __slots__ = ("_clocks", "_now")

    def __init__(self) -> None:
        """Start with all classes level."""
        self._clocks = [0.0] * CLASSES
        self._now = 0.0

    def pick(self, ready: Sequence[int]) -> int:
        """Return one of the ready classes.

        Args:
            ready: Classes with something to send, at least one.
        """
        if Priority.CRITICAL in ready:
            return Priority.CRITICAL
        # A class that was idle starts at the present, or it would hold the line until its clock has caught up.
        best = min(ready, key=lambda klass: (max(self._clocks[klass], self._now), klass))
        self._now = max(self._clocks[best], self._now)
        return best

    def sent(self, klass: int, messages: int, size: int) -> None:
        """Account for a batch that went out.

        Args:
            klass: Its class.
            messages: How many messages it held.
            size: Bytes of their bodies.
        """
        self._clocks[klass] = max(self._clocks[klass], self._now) + (size + messages * _ITEM_COST) / WEIGHTS[klass]
