"""What was received and is not yet on disk, in bytes: above a bound the peer stops reading.

This module must never count a byte twice, nor keep one that a commit, failed or not, has settled.
"""

from zmesh.protocol.bounds import UNCOMMITTED_BYTES


class Backlog:
    """Counts bytes from the socket to the commit.

    Attributes:
        full: No more should be read.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.full = False
        self._received = 0  # since the last `Persist`
        self._by_token: dict[int, int] = {}
        self._bytes = 0

    def take(self, parts: list[bytes]) -> None:
        """These parts were received."""
        self._received += sum(map(len, parts))

    def submit(self, token: int) -> bool:
        """What was received goes to disk with a `Persist`; return True when it is too much now."""
        if self._received:
            self._by_token[token] = self._received
            self._bytes += self._received
            self._received = 0
            self.full = self._bytes > UNCOMMITTED_BYTES
        return self.full

    def settle(self, token: int) -> bool:
        """A `Persist` was committed or has failed; return True when there is room again."""
        self._bytes -= self._by_token.pop(token, 0)
        was_full, self.full = self.full, self._bytes > UNCOMMITTED_BYTES
        return was_full and not self.full
