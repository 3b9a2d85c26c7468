"""A message's life across two peers: asks the store at its other end what that knows, and answers who asks us.

What may be told to whom is said by `zmesh.protocol.tracing`. Times are ages, placed on this machine's clock by whoever
shows them: nothing may depend on them. This module must never keep anybody waiting for longer than `TRACE_PATIENCE`,
nor look up more than `TRACES_ANSWERED` messages at a time.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from zmesh.errors import MeshError, StoreError
from zmesh.peer.clock import steady
from zmesh.peer.driver import Driver
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.peer.store_reader import InTrace, OutTrace, read_trace
from zmesh.protocol.bounds import TRACE_AGAIN, TRACE_PATIENCE, TRACES_ANSWERED
from zmesh.protocol.commands import Share
from zmesh.protocol.effects import Inquired
from zmesh.protocol.frames import Step, Trace, Traced
from zmesh.protocol.tracing import Life, answer

_HERE: Final = b""  # what happened to a message here, whoever it goes to
_log = logging.getLogger("zmesh.peer")

Seen = Callable[[bytes, tuple[bytes, ...]], list[tuple[str, float]]]
"""Returns what was seen of a message that came from or went to one of these stores: words, and seconds ago."""

Found = tuple[OutTrace | None, list[InTrace]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What another peer has said of a message.

    Attributes:
        frame: What it has said; `state` is empty when it knows of no such message.
        within: The ages in it were true this many seconds before it was returned, give or take as many.
    """

    frame: Traced
    within: float


@dataclass(slots=True)
class _Asking:
    """A question that is under way, since when, and who waits for its answer."""

    since: float
    waiters: list[asyncio.Future[Answer]] = field(default_factory=list)


class Tracing:
    """The questions of one peer, and its answers.

    Attributes:
        seen: Of what was seen here of messages, by whoever remembers that; the peer itself only knows when they came.
    """

    def __init__(self, driver: Driver, store: SqliteStore) -> None:
        """Take the driver, whose questions are answered from now on, and the store, which knows the answers."""
        self.seen: Seen = lambda _ident, _stores: []
        self._driver, self._store = driver, store
        self._asked: dict[tuple[bytes, bytes, bool], _Asking] = {}
        self._answering = 0
        driver.on_inquired = self._inquired

    # --- asking ---

    async def ask(self, store: bytes, ident: bytes, *, sent: bool) -> Answer | None:
        """Ask a store what it knows of a message; None when it does not say: frames may be lost, and it may be older.

        Args:
            store: Where the message went, or came from; linked.
            ident: The message.
            sent: True when this peer has sent it, False when it has received it.
        """
        key = store, ident, sent
        asking = self._asked.setdefault(key, _Asking(steady()))
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        asking.waiters.append(waiter)
        try:
            for patience in (TRACE_AGAIN, TRACE_PATIENCE - TRACE_AGAIN):
                self._driver.tell(Share(store, Trace(ident, sent)))
                await asyncio.wait({waiter}, timeout=patience)
                if waiter.done():
                    return waiter.result()
            return None
        finally:
            asking.waiters.remove(waiter)
            if not asking.waiters and self._asked.get(key) is asking:
                del self._asked[key]

    def _inquired(self, effect: Inquired) -> None:
        if isinstance(effect.frame, Trace):
            self._look_up(effect, effect.frame)
            return
        asking = self._asked.pop((effect.store, effect.frame.id, effect.frame.sent), None)
        if asking is None:
            return  # nobody asks, or not any more
        told = Answer(effect.frame, (steady() - asking.since) / 2)
        for waiter in asking.waiters:
            if not waiter.done():
                waiter.set_result(told)

    # --- answering ---

    def _look_up(self, effect: Inquired, question: Trace) -> None:
        if self._answering >= TRACES_ANSWERED:
            _log.info("a question about a message is left unanswered: %d are being looked up", self._answering)
            return
        try:
            found = self._store.query(lambda connection: read_trace(connection, question.id))
        except StoreError:  # it is being closed
            return
        self._answering += 1
        asyncio.wrap_future(found).add_done_callback(lambda looked: self._answer(effect, question, looked))

    def _answer(self, effect: Inquired, question: Trace, looked: "asyncio.Future[Found]") -> None:
        self._answering -= 1
        if looked.cancelled() or looked.exception() is not None:
            return  # the store has said why
        with suppress(MeshError):  # the peer is being closed
            told = answer(question, effect.device, self._lives(question.id, *looked.result()))
            self._driver.tell(Share(effect.store, told))

    def _lives(self, ident: bytes, out: OutTrace | None, ins: list[InTrace]) -> Iterator[Life]:
        node = self._driver.core.node
        for one in ins:
            held = node.inbox.messages.by_row.get(one.row)
            state = one.state if held is None else held.state
            seen = self.arrived(ident, one.source) + self.seen(ident, (one.source,))
            yield Life(one.source, sent=True, state=state.name.lower(), attempts=one.attempts, steps=_steps(seen))
        if out is not None:
            live = node.outbox.by_id.get(ident)
            gone = out.receipt.state if live is None else live.state
            dest = out.receipt.dest
            steps = _steps(self.seen(ident, (_HERE, dest)))
            yield Life(dest, sent=False, state=gone.name.lower(), attempts=0, steps=steps)

    def arrived(self, ident: bytes, source: bytes) -> list[tuple[str, float]]:
        """Return how many seconds ago a message from a store came, if that is remembered."""
        arrivals, now = self._driver.core.node.inbox.arrivals, self._driver.now()
        return [("stored", now - at) for at, came, store in arrivals if came == ident and store == source]


def _steps(seen: list[tuple[str, float]]) -> tuple[Step, ...]:
    """Return what was seen as it travels, the oldest first."""
    oldest_first = sorted(seen, key=lambda step: -step[1])
    return tuple([Step(what.replace(" ", "-"), max(0, round(age * 1000))) for what, age in oldest_first])
