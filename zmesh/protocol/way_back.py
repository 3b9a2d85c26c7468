"""The way back: the connection of theirs on which a peer that cannot be dialled may be answered.

Behind NAT, a firewall or a container's wall a peer reaches us and we do not reach it. Which of its connections it was
heard on, for how long that has been so, and which one has just failed is remembered here. This module must never
choose: what arrives on our own connection is sure to reach the right device, so a link tries that first.
"""

from zmesh.protocol.bounds import ANSWER_AFTER, DIAL_PATIENCE, HELLO_MAX, ONE_WAY_MEMORY
from zmesh.protocol.deadlines import LONG_AGO, NEVER


class WayBack:
    """The connections that one store has made.

    Attributes:
        path: The one it was heard on last; empty when there is none to be answered on.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.path = b""
        self._since = NEVER  # it has called and was not reached for so long
        self._heard = LONG_AGO
        self._left = b""  # the path that failed last
        self._left_at = LONG_AGO

    def called(self, path: bytes, now: float) -> None:
        """A frame came on `path`, or on our own connection if that is empty, while the store is not reached."""
        if not path:
            return
        if now > self._heard + ONE_WAY_MEMORY:
            self._since = now
        self._heard = now
        if path != self._left or now >= self._left_at + HELLO_MAX:  # frames of a dead connection may come late
            self.path = path

    def due(self) -> float:
        """Return when dialling has had its time."""
        return self._since + ANSWER_AFTER if self.path else NEVER

    def take(self, now: float) -> bytes:
        """Return the path to answer on; empty when nothing came on it lately."""
        if now > self._heard + DIAL_PATIENCE:
            self.path = b""
        return self.path

    def failed(self, path: bytes, now: float) -> None:
        """Answers on `path` do not arrive."""
        self._left, self._left_at = path, now
        self._heard = now  # that they cannot be dialled is still true
        if self.path == path:
            self.path = b""

    def forget(self) -> None:
        """The store is reached directly, or has left."""
        self.path = b""
        self._heard = LONG_AGO
