"""A race of connections to one peer: while none is ready, another one sets out now and then, and the first is kept.

A network that loses packets delays each connection by itself: TCP repeats a lost SYN after 1 s, and anything else after
0.2 s, 0.4 s and so on. What has set out is never given up in favour of what sets out later, so over a long way, where
every answer takes its time, the first one still arrives. This module must never run a race without an end, nor keep
more than one connection of those that got ready.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import zmq

from zmesh.errors import TransportError
from zmesh.peer.zmq_dealer import Dealer

RIVAL_AFTER: Final = 0.1  # seconds without a ready connection until the next sets out; on a LAN one takes 0.03
RIVALS: Final = 7  # in one race: at 30 % loss one of these sixteen, of both sides, is ready within half a second
MAX_RIVALS: Final = 64  # in all races of a link: who finds hundreds of peers at once is held up by its own work

Make = Callable[[Callable[[Dealer], None], bool], Dealer]
"""Makes a connection, not yet connected: takes what it calls when it is ready, and whether it is a rival.

Raises `TransportError` when file descriptors run out, `zmq.ZMQError` when sockets do.
"""


class Places:
    """How many rivals there may still be, in all races of a link."""

    def __init__(self) -> None:
        """Begin with `MAX_RIVALS`."""
        self.free = MAX_RIVALS


class Race:
    """The connections to one endpoint: one, and while none is ready its rivals.

    Attributes:
        leader: The one that got ready first; until then the one that set out first.
    """

    def __init__(self, make: Make, on_ready: Callable[[], None], tell: Callable[[str], None], places: Places) -> None:
        """Take what is needed, and make the first connection.

        Args:
            make: Makes connections; its errors leave this.
            on_ready: Called when the leader is ready, for the first time or again.
            tell: Takes the reason, in words, why the first connection does not get ready.
            places: What all races of a link share.
        """
        self._make, self._on_ready, self._tell, self._places = make, on_ready, tell, places
        self._loop = asyncio.get_running_loop()
        self._rivals: list[Dealer] = []
        self._added = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.leader = make(self._ready, False)  # noqa: FBT003 - see Make

    def start(self, patience: float) -> None:
        """Set out. The race lasts for `patience` seconds; then, or at once if it is used up, the first one is watched.

        Raises:
            zmq.ZMQError: libzmq does not take the endpoint.
        """
        if patience > 0:
            self._timers["watch"] = self._loop.call_later(patience, self._watch)
            self._timers["rival"] = self._loop.call_later(RIVAL_AFTER, self._add)
        else:
            self.leader.watch(self._tell)
        self.leader.connect()

    def close(self, linger: int = 0) -> None:
        """Close all; what the leader holds may take `linger` ms to leave."""
        self._end()
        self.leader.close(linger)

    def _ready(self, dealer: Dealer) -> None:
        if dealer is not self.leader:
            self._rivals.remove(dealer)
            self._places.free += 1
            self.leader.close(0)
            self.leader = dealer
        self._end()
        self._on_ready()

    def _end(self) -> None:
        """Let nobody set out any more, and call the rivals back."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for rival in self._rivals:
            rival.close(0)
        self._places.free += len(self._rivals)
        self._rivals.clear()

    def _add(self) -> None:
        if self._places.free > 0:
            try:
                rival = self._make(self._ready, True)  # noqa: FBT003 - see Make
            except (TransportError, zmq.ZMQError):
                return  # the first one is there; this one would have been a luxury
            self._rivals.append(rival)
            self._places.free -= 1
            rival.connect()
        self._added += 1
        if self._added < RIVALS:
            self._timers["rival"] = self._loop.call_later(RIVAL_AFTER, self._add)

    def _watch(self) -> None:
        """Replace the first connection, which does not get ready, by one that is watched."""
        self._timers.pop("rival", None)
        try:
            watched = self._make(self._ready, False)  # noqa: FBT003 - see Make
        except (TransportError, zmq.ZMQError) as error:
            self._tell(str(error))
            return
        self.leader.close(0)
        self.leader = watched
        watched.watch(self._tell)
        watched.connect()
