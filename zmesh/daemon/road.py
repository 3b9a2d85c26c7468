"""The road to the daemon: a connection to it, and the daemon started where that is right.

The blocking and the async connection take it, the latter in a thread. This module must never start a daemon again that
somebody has ended on purpose, unless a program begins that needs it.
"""

import time
from collections.abc import Callable
from socket import socket
from typing import Final

from zmesh.daemon.place import Place, owner
from zmesh.errors import DaemonUnreachable, PeerClosed

PATIENCE: Final = 30.0  # seconds in which the daemon comes back; its start takes half a second, and longer when crowded
RETRY: Final = 0.05  # seconds between attempts to connect
CONNECT: Final = 5.0  # seconds for one
READ: Final = 256 * 1024  # bytes at a time
CLOSED: Final = "this client was closed: connect again"


class Road:
    """How one client comes to its daemon.

    Attributes:
        closed: Set when the client is closed: whoever is under way turns back.
        end: Until when the daemon may be away, on the monotonic clock.
    """

    def __init__(self, place: Place, start: Callable[[], None], urgent: Callable[[], bool]) -> None:
        """Take what the road leads to.

        Args:
            place: Where the daemon listens.
            start: Starts it; returns when it listens, or raises.
            urgent: Says whether something is asked for which a daemon is started that was ended on purpose.
        """
        self.closed = False
        self.end = time.monotonic() + PATIENCE
        self._place, self._start, self._urgent = place, start, urgent
        self._welcomed = False

    def welcomed(self) -> None:
        """The daemon is there, and serves this client."""
        self._welcomed = True
        self.end = float("inf")

    def lost(self, *, welcome: bool) -> None:
        """The connection was lost; `welcome` says whether the daemon had answered on it.

        Raises:
            DaemonUnreachable: It has not answered for too long.
        """
        if welcome:
            self.end = time.monotonic() + PATIENCE
        elif time.monotonic() > self.end:
            raise DaemonUnreachable(self._silence("it hangs up"))

    def take(self, *, again: bool) -> socket:
        """Return a connection to the daemon; this blocks.

        Args:
            again: The last connection came to nothing: see first that it is the daemon who is there.

        Raises:
            DaemonUnreachable: It does not come up, or was ended on purpose.
            PeerClosed: The client was closed meanwhile.
        """
        if again:
            time.sleep(RETRY)
            self._bring_up()
        while True:
            if self.closed:
                raise PeerClosed(CLOSED)
            try:
                return self._place.connect(CONNECT)
            except OSError as error:
                if time.monotonic() > self.end:
                    raise DaemonUnreachable(self._silence(error)) from error
            self._bring_up()
            time.sleep(RETRY)

    def _bring_up(self) -> None:
        if not self._welcomed or self._urgent() or not self._place.ended.exists():
            self._start()

    def blame(self) -> str:
        """Return what is the matter with a daemon that has taken a connection, and says nothing."""
        return (
            f"the daemon of this machine{self._process()} does not answer: it is stopped, or hangs. `zmesh down` ends "
            "it, by force if it must, and loses nothing; whether it has done what was asked is not known"
        )

    def _process(self) -> str:
        pid = owner(self._place)
        return f", process {pid}," if pid else ""

    def _silence(self, error: object) -> str:
        if self._place.ended.exists():
            return "the daemon of this machine was ended: `zmesh up` starts it again, and so does the next program"
        return (
            f"the daemon of this machine{self._process()} does not answer ({error}): its log is in "
            f"{self._place.directory}, and `zmesh down` ends it"
        )
