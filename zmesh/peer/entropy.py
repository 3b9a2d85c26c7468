"""Randomness of the system, for ids and jitter. It must never be seeded, nor give out the same bytes twice."""

import secrets
from typing import Final

_POOL_BYTES: Final = 4096


class SystemEntropy:
    """Randomness of the system, fetched in bulk: one call to the system per message would be dear."""

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0

    def token(self, size: int) -> bytes:
        """Return `size` random bytes, at most 4096, each used once."""
        if self._used + size > len(self._pool):
            self._pool, self._used = secrets.token_bytes(_POOL_BYTES), 0
        start, self._used = self._used, self._used + size
        return self._pool[start : self._used]

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        return secrets.randbelow(1 << 30) / (1 << 30)
