"""Receipts: what the sender knows about a message, and never more than that."""

import asyncio
from typing import TYPE_CHECKING, Final

from zmesh.errors import (
    MeshError,
    MessageDead,
    MessageExpired,
    MessageLost,
    MessageRefused,
    UnknownMessage,
    WaitTimeout,
)
from zmesh.peer.duration import parse_timeout
from zmesh.protocol.commands import CancelSend
from zmesh.protocol.effects import Progress, Settled
from zmesh.protocol.states import Sent

if TYPE_CHECKING:
    from zmesh.peer.driver import Driver
    from zmesh.peer.sqlite_store import ReceiptRow, SqliteStore

_FAILURES: Final[dict[Sent, tuple[type[MeshError], str]]] = {
    Sent.EXPIRED: (MessageExpired, "expired: send it again with a longer ttl, or see why its recipient was away"),
    Sent.REFUSED: (MessageRefused, "was refused"),
    Sent.DEAD: (
        MessageDead,
        "is dead: its recipient gave up on it, and keeps it; `zmesh mailbox replay` there delivers it again",
    ),
    Sent.LOST: (MessageLost, "may be lost: a disk went back in time; ask its recipient before sending it again"),
}
_CANCELLED: Final = "cancelled"  # the detail of an expiry that the sender wished for
_STORED: Final = frozenset({Sent.STORED, Sent.HANDLED, Sent.DEAD})
_HANDLED: Final = frozenset({Sent.HANDLED})
_FINAL: Final = frozenset({Sent.HANDLED, Sent.EXPIRED, Sent.REFUSED})  # the store does not change them, either


class Receipt:
    """What is known of one message.

    Attributes:
        id: The message's id, 16 bytes.
        address: `agent@peer` it was resolved to when it was sent.
        warning: What the sender should know, such as that nobody has this mailbox yet; empty when all is well.
    """

    def __init__(self, driver: "Driver", ident: bytes, address: str, state: Sent) -> None:
        self.id, self.address = ident, address
        self.warning = ""
        self._driver = driver
        self._detail = ""
        self._state = state
        self._dest = b""
        self._known = False  # something was heard of it: it is more than a number that somebody asked for
        self._waiters: list[asyncio.Future[None]] = []
        driver.observers[ident] = self

    def __repr__(self) -> str:
        return f"<Receipt {self.id.hex()[:12]} to {self.address}: {self.state}>"

    @property
    def state(self) -> str:
        """The state in words: waiting, queued, sent, stored, handled, expiring, expired, refused, dead or lost."""
        live = self._driver.core.node.outbox.by_id.get(self.id)
        if live is None or live.state in (Sent.EXPIRED, Sent.LOST):  # they are being written down
            return self._state.name.lower()
        return live.state.name.lower()

    @property
    def detail(self) -> str:
        """Why it ended as it did, was refused for now, or is kept here by an administrator, in words."""
        node = self._driver.core.node
        live = node.outbox.by_id.get(self.id)
        halted = node.halting.why(live.dest) if live is not None and live.dest else ""
        return halted or self._detail

    async def stored(self, timeout: float | str | None = None) -> None:  # noqa: ASYNC109 - the public name
        """Wait until the message is in the recipient's durable inbox.

        Args:
            timeout: Seconds to wait at most, or "5s"; 0 does not wait. None for ever.

        Raises:
            MessageRefused, MessageExpired, MessageLost: It never will be.
            WaitTimeout: It is not there yet; it goes on being delivered.
            PeerClosed: The peer was closed meanwhile; it goes on being delivered when the peer runs again.
            ValueError: The timeout is no time.
        """
        await self._reached(_STORED, "stored", timeout)

    async def handled(self, timeout: float | str | None = None) -> None:  # noqa: ASYNC109 - the public name
        """Wait until the recipient is done with the message.

        Args:
            timeout: As in `stored`.

        Raises:
            MessageRefused, MessageExpired, MessageDead, MessageLost: It never will be.
            WaitTimeout, PeerClosed: It is not done with it yet.
            ValueError: The timeout is no time.
        """
        await self._reached(_HANDLED, "handled", timeout)

    def cancel(self) -> None:
        """End the message now, as its ttl would, unless it is stored already; `state` tells how far it had got.

        Raises:
            PeerClosed: The peer is not running.
        """
        self._driver.tell(CancelSend(self.id))

    def settle(self, settled: Settled) -> None:
        """The message is on disk."""
        self.address, self.warning = settled.address, settled.warning
        self._known = True
        self._dest = self._dest or settled.dest
        if self._state is Sent.QUEUED:
            self._state = settled.state
            self._wake()

    def recall(self, row: "ReceiptRow") -> None:
        """Take over what the store remembers, unless news has come meanwhile."""
        self.address = self.address or row.address
        self._known = True
        if self._state in (Sent.QUEUED, row.state):
            self._state, self._detail, self._dest = row.state, row.detail, row.dest
            self._wake()

    @property
    def known(self) -> bool:
        """True once the message is known to be on disk."""
        return self._known

    def awaits(self, store: bytes) -> bool:
        """Say whether the message went to that store: only from there can its answer come."""
        live = self._driver.core.node.outbox.by_id.get(self.id)
        return (live.dest if live is not None else self._dest) == store

    def progressed(self, progress: Progress) -> None:
        """Take note of a state that was observed."""
        if self._state in _FINAL:
            return  # nothing undoes that, whatever its recipient says; a late repetition says nothing new
        if self._dest and progress.dest != self._dest:
            return  # somebody else claims to know what became of it
        self._known = True
        self._dest = progress.dest
        self._state, self._detail = progress.state, progress.detail
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _reached(self, wanted: frozenset[Sent], name: str, timeout: float | str | None) -> None:  # noqa: ASYNC109
        seconds = parse_timeout(timeout)
        if self._state in wanted:
            return
        try:
            async with asyncio.timeout(seconds):
                while self._state not in wanted:
                    self._raise_failure()
                    await self._change()
        except TimeoutError:
            why = f" ({self.detail})" if self.detail else ""
            raise WaitTimeout(
                f"the message to {self.address} is {self.state}, not {name}, after {seconds:g} s{why}; "
                "it goes on being delivered, and the receipt can be asked again"
            ) from None

    def _raise_failure(self) -> None:
        failure = _FAILURES.get(self._state)
        if failure is not None:
            kind, text = failure
            if self._state is Sent.EXPIRED and self._detail == _CANCELLED:
                raise kind(f"the message to {self.address} was cancelled before anybody took it")
            raise kind(f"the message to {self.address} {text}" + (f" ({self._detail})" if self._detail else ""))

    async def _change(self) -> None:
        waiter: asyncio.Future[None] = self._driver.promise()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)


async def recalled(ident: bytes, driver: "Driver", store: "SqliteStore") -> Receipt:
    """Return the receipt of a message that was sent earlier; errors as in `Agent.receipt`."""
    driver.check()
    known = driver.observers.get(ident)
    if isinstance(known, Receipt) and known.known:
        return known
    # It observes from now on: what happens while the store is asked must not be missed.
    receipt = known if isinstance(known, Receipt) else Receipt(driver, ident, "", Sent.QUEUED)
    row = await asyncio.wrap_future(store.receipt(ident))
    if row is None:
        raise UnknownMessage(f"no message {ident.hex()} is remembered by this peer")
    receipt.recall(row)
    return receipt
