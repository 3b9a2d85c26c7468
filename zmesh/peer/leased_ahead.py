"""What is leased to one agent ahead of its loops: deliveries that came and wait, and loops that wait for deliveries.

The fewer commits there are for leases, the more there are for messages, so more is leased than was asked for. This
module must never keep what nobody takes: it goes back, uncounted, as soon as the last loop has ended.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final

from zmesh.errors import MeshError
from zmesh.protocol.commands import Nack, Take, Untake
from zmesh.protocol.effects import Delivery

if TYPE_CHECKING:
    from zmesh.peer.driver import Driver

PROMPT: Final = 2.0  # seconds within which what is there already comes, once its lease is on disk


class LeasedAhead:
    """The deliveries of one holder."""

    def __init__(self, mailbox: str, holder: int, driver: "Driver", attach: Callable[[], None]) -> None:
        """Begin with nothing.

        Args:
            mailbox: Its name.
            holder: As in `Attach`.
            driver: Of the peer.
            attach: Sees that the holder is attached.
        """
        self._mailbox, self._holder, self._driver, self._attach = mailbox, holder, driver, attach
        self._takers = 0  # loops and polls that are under way
        self._waiting: deque[asyncio.Future[Delivery | None]] = deque()
        self._ready: deque[Delivery] = deque()
        self._demand = 0

    # --- those who take ---

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """Somebody takes deliveries; what was leased ahead goes back with the last one, unless others are there."""
        self._takers += 1
        try:
            yield
        finally:
            self._takers -= 1
            if not self._takers:
                self.give_back()

    async def next(self, ahead: int) -> Delivery | None:
        """Return the next delivery, with `ahead` leased at a time; None when the agent was detached."""
        self._driver.check()
        self._lease_ahead(ahead)
        if self._ready:
            return self._ready.popleft()
        waiter: asyncio.Future[Delivery | None] = self._driver.promise()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and (delivery := waiter.result()) is not None:
                self.hand_over(delivery, first=True)
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    async def take(self, most: int, seconds: float | None, most_bytes: float = inf) -> list[Delivery]:
        """Return what is there, at most so many; wait so long for the first one, None for ever.

        Args:
            most: How many at most.
            seconds: How long to wait for the first one.
            most_bytes: No further one once their bodies have so many bytes.
        """
        deliveries: list[Delivery] = []
        with self.taking():
            self._lease_ahead(most)
            if seconds is not None and self._coming:
                seconds = max(seconds, PROMPT)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    first = await self.next(most)
                    deliveries += [] if first is None else [first]
            size = sum(len(delivery.body) for delivery in deliveries)
            while self._ready and len(deliveries) < most and size < most_bytes:
                deliveries.append(self._ready.popleft())
                size += len(deliveries[-1].body)
        return deliveries

    # --- what comes ---

    def paid(self, delivery: Delivery) -> None:
        """A delivery has come: one less is on its way, unless it was asked for beside the others."""
        if not delivery.asked:
            self._demand = max(0, self._demand - 1)

    def hand_over(self, delivery: Delivery, *, first: bool = False) -> None:
        """Give a delivery to who waits, or keep it for who takes; `first`: before those that are kept already."""
        if self._wake(delivery):
            return
        if not self._takers:
            self._return(delivery)
        elif first:
            self._ready.appendleft(delivery)
        else:
            self._ready.append(delivery)

    def end(self) -> None:
        """The agent is detached: who waits is told that nothing comes."""
        while self._waiting:
            self._wake(None)

    def _wake(self, delivery: Delivery | None) -> bool:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(delivery)
                return True
        return False

    # --- leases ---

    @property
    def _coming(self) -> bool:
        """True when something is being leased to this holder, or will be once it is on disk."""
        mailbox = self._driver.core.node.inbox.mailboxes[self._mailbox]
        return mailbox.fetching or mailbox.arriving > 0 or mailbox.holders[self._holder].demand < self._demand

    def _lease_ahead(self, ahead: int) -> None:
        there = self._demand + len(self._ready) - len(self._waiting)  # the last: others that wait here
        if there < max(1, ahead // 2):
            self._attach()
            self._driver.tell(Take(self._holder, ahead - there))
            self._demand += ahead - there

    def give_back(self) -> None:
        """Return what was leased ahead and nobody has looked at."""
        with suppress(MeshError):
            self._demand = 0
            self._driver.tell(Untake(self._holder))
            while self._ready:
                self._return(self._ready.popleft())

    def _return(self, delivery: Delivery) -> None:
        with suppress(MeshError):
            ticket = self._driver.number()
            future = self._driver.submit(ticket, Nack(ticket, delivery.holder, delivery.row, 0.0, count=False))
            future.add_done_callback(_seen)


def _seen(task: "asyncio.Future[Any]") -> None:
    """Take note of how a task ended whose result may not be needed any more."""
    if not task.cancelled():
        task.exception()
