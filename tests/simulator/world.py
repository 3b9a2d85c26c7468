"""The simulated world: one heap of events, virtual time, a clock per store, and a digest of everything that happened.

All randomness comes from `random.Random` seeded with texts, so a seed repeats to the byte in any process. Nothing in
the simulator may read the real time, the global random generator or the order of a set.
"""

import heapq
from collections.abc import Callable
from hashlib import blake2b
from random import Random
from typing import Any

MAX_EVENTS = 2_000_000  # of one run: beyond it something spins
MAX_SPIN = 20_000  # events at one instant of virtual time: beyond it something spins


class SimulatorError(Exception):
    """The simulated run itself went wrong: something spins or was left behind."""


class Trace:
    """A running digest over texts, and the texts themselves on standard output when `verbose`."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._hash = blake2b(digest_size=16)
        self._verbose = verbose

    def add(self, line: str) -> None:
        """Take one line into the digest."""
        self._hash.update(line.encode())
        if self._verbose:
            print(line)

    def digest(self) -> str:
        """Return the digest of all lines so far."""
        return self._hash.hexdigest()


class World:
    """Virtual time and the events to come.

    Attributes:
        now: Virtual time in seconds; it only rises.
        seed: What everything is drawn from.
        trace: Where events are written, or None when nobody asked.
        events: How many were carried out.
    """

    def __init__(self, seed: int, trace: Trace | None = None) -> None:
        self.now = 0.0
        self.seed = seed
        self.trace = trace
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def random(self, what: str) -> Random:
        """Return the generator of one part of the world; parts do not disturb each other."""
        return Random(f"{self.seed}/{what}")

    def after(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        """Carry out `action(*arguments)` in `delay` seconds; what is due at one instant keeps its order."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, action, arguments))

    def note(self, who: str, what: object) -> None:
        """Write a line of the trace."""
        if self.trace is not None:
            self.trace.add(f"{self.now:.6f} {who} {what}")

    def run(self, until: float) -> None:
        """Carry out events up to the time `until`."""
        heap, pop, spin = self._heap, heapq.heappop, 0
        while heap and heap[0][0] <= until:
            due, _, action, arguments = pop(heap)
            spin = spin + 1 if due <= self.now else 0
            self.now = max(self.now, due)
            self.events += 1
            if spin > MAX_SPIN or self.events > MAX_EVENTS:
                raise SimulatorError(f"something spins at {self.now:.6f}: {action}")
            action(*arguments)
        self.now = max(self.now, until)


class Clock:
    """The clock of one store: it never goes back, but it may start anywhere and jump ahead."""

    def __init__(self, world: World, offset: float) -> None:
        self._world = world
        self._offset = offset

    def read(self) -> float:
        """Return the store's time in seconds."""
        return self._world.now + self._offset

    def jump(self, seconds: float) -> None:
        """Step ahead, as after a suspended machine wakes."""
        self._offset += seconds

    def delay(self, local: float) -> float:
        """Return how many seconds of the world it is until the clock shows `local`."""
        return max(0.0, local - self._world.now - self._offset)


class SeededEntropy:
    """The core's source of randomness in the simulator."""

    def __init__(self, source: Random) -> None:
        self._source = source

    def __repr__(self) -> str:
        """Say the same in every run: it stands in traces."""
        return "<SeededEntropy>"

    def token(self, size: int) -> bytes:
        """Return `size` bytes."""
        return self._source.randbytes(size)

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        return self._source.random()
