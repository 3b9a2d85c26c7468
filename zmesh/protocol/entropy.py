"""Where randomness comes from: an argument of the core, so that a simulated run repeats to the byte."""

from typing import Protocol


class Entropy(Protocol):
    """A source of randomness. The real one is `secrets`; the simulator's is seeded."""

    def token(self, size: int) -> bytes:
        """Return `size` random bytes."""
        ...

    def fraction(self) -> float:
        """Return a number in [0, 1), for jitter."""
        ...
