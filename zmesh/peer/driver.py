"""The shell around the core: carries its effects out on real sockets, a real store and a real clock.

Everything here runs in the peer's event loop, except the writer thread of the store, which reports through it. The
driver decides nothing about messages; it must never send what the core has not released, nor swallow what it reports.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Final, Protocol
from weakref import WeakValueDictionary

from zmesh.discovery import interfaces
from zmesh.errors import MeshError, PeerClosed, PeerFailed, StoreError, TransportError
from zmesh.peer.ages import note_ages
from zmesh.peer.awaited import Awaited
from zmesh.peer.backlog import Backlog
from zmesh.peer.clock import CLOCK_KEY, SAVE_EVERY, StoreClock
from zmesh.peer.entropy import SystemEntropy
from zmesh.peer.gate import Gate
from zmesh.peer.guard import MemberGuard
from zmesh.peer.place import Place
from zmesh.peer.sealing import Sealer, is_sealed
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.peer.zmq_link import Origin, ZmqLink
from zmesh.protocol.commands import Close, Command, SetQuotas
from zmesh.protocol.core import Core
from zmesh.protocol.effects import (
    Answer,
    Delivery,
    Dial,
    Failed,
    FetchIn,
    FetchOut,
    Hangup,
    Inquired,
    Linked,
    Notice,
    Persist,
    Progress,
    SendBack,
    Settled,
    Told,
    Transmit,
)
from zmesh.protocol.journal import Snapshot, Written
from zmesh.protocol.quotas import Quotas
from zmesh.trust.device import Device

_log = logging.getLogger("zmesh.peer")
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Observer(Protocol):
    """Whoever wants to know how a message gets on."""

    def progressed(self, progress: Progress) -> None:
        """The message reached a state."""


class Driver:
    """Runs one core.

    Attributes:
        core: The core.
        link: The ZeroMQ link.
        place: The process and the event loop it runs in.
        entropy: Randomness for ids.
        guard: What other devices may send.
        observers: Who wants to know about which message, by message id; gone when nobody holds them any more.
    """

    def __init__(self, store: SqliteStore, clock: StoreClock, device: Device, gate: Gate) -> None:
        """Take the parts; `run` sets them going.

        Args:
            store: Opened, not started.
            clock: The store's clock.
            device: Own keys.
            gate: Whose keys to expect where we dial.
        """
        self.observers: WeakValueDictionary[bytes, Observer] = WeakValueDictionary()
        self.entropy = SystemEntropy()
        self.place = Place()
        self.core: Core
        self.link: ZmqLink
        self._store, self._clock, self._device, self._gate = store, clock, device, gate
        self.guard = MemberGuard(gate)
        self._sealer = Sealer(device, gate.server_key)
        self.on_linked: Callable[[Linked], None] = lambda _: None
        self.on_told: Callable[[Told], None] = lambda _: None
        self.on_inquired: Callable[[Inquired], None] = lambda _: None
        self.on_progress: Callable[[Progress], None] = lambda _: None
        self._loop = asyncio.get_running_loop()
        self._awaited = Awaited(self._loop)
        self._consumers: dict[int, Callable[[Delivery], None]] = {}
        self._changes = 0
        self._numbers = 0
        self._flushing = False
        self._closed = False
        self._draining = False  # closed, and the last commits are under way
        self._fault: MeshError = PeerClosed(
            "the peer was closed: what was awaited and is on disk goes on when it is opened again; look at the receipt"
        )
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._clock_timer: asyncio.TimerHandle | None = None
        self._backlog = Backlog()

    def run(
        self, snapshot: Snapshot, name: str, link: ZmqLink, grace: float = 0.0, quotas: Quotas | None = None
    ) -> None:
        """Begin: start the writer thread and the core on the opened link; `grace` and `quotas` as in `Core`."""
        self.link = link
        self._store.start(self._loop.call_soon_threadsafe, self)
        self._save_clock()
        self.core = Core(
            store=snapshot.store,
            name=name,
            device=self._device.id,
            endpoints=interfaces.far(link.endpoints),
            entropy=self.entropy,
            snapshot=snapshot,
            now=self._clock.now(),
            guard=self.guard,
            grace=grace,
            quotas=quotas,
        )
        self._follow_rates()
        self._soon()

    async def close(self) -> None:
        """Say goodbye, fail what is still awaited, and release everything; the store is drained first."""
        if self._closed:
            return
        self._enter(lambda now: self.core.command(Close(), now))
        self._flush()
        if not self._closed:  # and has not stopped because of an error
            await self._drain()

    async def _drain(self) -> None:
        """Stop, see what is submitted onto the disk, and tell those who wait for that."""
        with suppress(StoreError):  # its thread has ended, and has said why
            self._store.put_meta(CLOCK_KEY, self._clock.state())
        self._silence()
        self._draining = True
        await self._loop.run_in_executor(None, self._store.close)
        self._draining = False
        try:
            for effect in self.core.effects():
                if isinstance(effect, Settled | Failed | Progress):  # what the last commits have brought
                    self._carriers[type(effect)](self, effect)
        finally:
            self._awaited.fail(self._fault)

    # --- commands ---

    def check(self) -> None:
        """See that the caller is where the peer runs, and that it does.

        Raises:
            WrongLoop: It is another thread, another event loop or a forked process.
            PeerClosed: The peer is not running.
        """
        self.place.check_process()
        if self._closed:
            raise self._fault
        self.place.check_loop()

    def now(self) -> float:
        """Return the time on the store's clock, in seconds."""
        return self._clock.now()

    def number(self) -> int:
        """Return a new ticket or holder number."""
        self._numbers += 1
        return self._numbers

    def submit(self, ticket: int, command: Command) -> asyncio.Future[Settled]:
        """Carry out a command that is answered after its commit.

        Returns:
            A future of what was settled; it fails with `StoreError` when the commit failed.

        Raises:
            MeshError: It cannot be done; nothing of it was.
        """
        future: asyncio.Future[Settled] = self._loop.create_future()
        self.submit_then(ticket, command, future.set_result, future)
        return future

    def carry_out(self, ticket: int, command: Command) -> asyncio.Future[None]:
        """As `submit`, for a command of which nothing is to be known but that it is on disk."""
        future: asyncio.Future[None] = self._loop.create_future()
        self.submit_then(ticket, command, lambda _: future.set_result(None), future)
        return future

    def submit_then(
        self, ticket: int, command: Command, settle: Callable[[Settled], None], future: asyncio.Future[Any]
    ) -> None:
        """Carry out a command; `settle` is called with what was settled, unless `future` is done before.

        Raises:
            MeshError: It cannot be done; nothing of it was.
        """
        self.tell(command)
        self._awaited.add(ticket, settle, future)

    def tell(self, command: Command) -> None:
        """Carry out a command that has no answer.

        Raises:
            MeshError: It cannot be done; nothing of it was.
        """
        self.check()
        try:
            self.core.command(command, self._clock.now())
        except (MeshError, ValueError):
            raise
        except Exception as error:
            self._die(error)
            raise self._fault from error
        self._soon()

    def limit(self, quotas: Quotas) -> None:
        """Keep and take as much as these quotas say from now on.

        Raises:
            ValueError: One of them is out of its range.
            PeerClosed, WrongLoop: As in `check`.
        """
        self.tell(SetQuotas(quotas))
        self._follow_rates()

    def _follow_rates(self) -> None:
        quotas = self.core.node.quotas
        self.guard.limit(quotas.device_messages, quotas.device_bytes)

    def promise(self) -> asyncio.Future[Any]:
        """Return a future for something that may happen; it fails with `PeerClosed` when the peer is closed first.

        Raises:
            PeerClosed, WrongLoop: As in `check`.
        """
        self.check()
        return self._awaited.promise()

    def consume(self, holder: int, take: Callable[[Delivery], None]) -> None:
        """Say who takes the deliveries of a holder."""
        self._consumers[holder] = take

    def unconsume(self, holder: int) -> None:
        """The holder takes nothing any more."""
        self._consumers.pop(holder, None)

    async def change(self) -> None:
        """Wait until a roster, a name or a link has changed; errors as in `promise`."""
        self.check()
        await self._awaited.change()

    # --- what happens: the link ---

    def inbound(self, origin: Origin, parts: list[bytes]) -> None:
        """A frame came in on the ROUTER."""
        self._backlog.take(parts)
        self._enter(lambda now: self.core.receive(parts, origin.device, origin.path, now))

    def answered(self, store: bytes, parts: list[bytes]) -> None:
        """A frame came back on our DEALER."""
        if not is_sealed(parts):
            self._enter(lambda now: self.core.answered(store, parts, now))
            return
        remote = self.core.node.remotes.get(store)
        opened = self._sealer.open(remote.device, parts) if remote is not None else None
        if opened is not None and not self._backlog.full:  # DEALERs are not paused: what is dropped is sent again
            self._backlog.take(opened)
            self._enter(lambda now: self.core.returned(store, opened, now))

    def ready(self, store: bytes) -> None:
        """A DEALER became writable."""
        self._enter(lambda now: self.core.ready(store, now))

    # --- what happens: the store (called in the loop) ---

    def committed(self, token: int, written: Written) -> None:
        """A `Persist` is on disk."""
        if self._backlog.settle(token):
            self.link.resume()
        self._enter(lambda now: self.core.committed(token, now, written))

    def failed(self, token: int, reason: str) -> None:
        """A `Persist` is not on disk."""
        if self._backlog.settle(token):
            self.link.resume()
        self._enter(lambda now: self.core.failed(token, reason, now))

    def fetched_out(self, bodies: dict[int, bytes]) -> None:
        """Bodies were read back."""
        self._enter(lambda now: self.core.fetched_out(bodies, now))

    def fetched_in(self, messages: dict[int, tuple[bytes, bytes]]) -> None:
        """Messages were read back."""
        self._enter(lambda now: self.core.fetched_in(messages, now))

    def unreadable(self, reason: str) -> None:
        """The store cannot be read: stop, with everything in it as it is."""
        _log.critical("the store cannot be read, the peer stops: %s", reason)
        self._fault = PeerFailed(f"the peer has stopped, because its store cannot be read: {reason}")
        self._end_in_failure()

    # --- effects ---

    def _enter(self, event: Callable[[float], None]) -> None:
        """Tell the core of an event, and see to its effects soon."""
        if self._closed and not self._draining:
            return
        try:
            event(self._clock.now())
        except Exception as error:  # noqa: BLE001 - see `_die`
            self._die(error)
        self._soon()

    def _die(self, error: Exception) -> None:
        """The core broke its own rules: stop at once. A peer that is there and does nothing would be worse.

        Whatever it had in memory is on disk or was never acknowledged; the next start goes on from there.
        """
        if self._closed:
            return
        _log.critical("an error in zmesh has stopped this peer; please report it", exc_info=error)
        self._fault = PeerFailed(
            f"an error in zmesh has stopped this peer ({type(error).__name__}: {error}). What was acknowledged is "
            "safe: close it and open it again, and please report this with the log"
        )
        self._end_in_failure()

    def _end_in_failure(self) -> None:
        if not self._closed:
            self._silence()
            self._awaited.fail(self._fault)
            self._loop.run_in_executor(None, self._store.close)

    def _silence(self) -> None:
        """Take no more commands and close the link: from now on nothing comes in or goes out."""
        self._closed = True
        for timer in (self._timer, self._clock_timer):
            if timer is not None:
                timer.cancel()
        self.link.shutdown()

    def _soon(self) -> None:
        """Carry out effects once this turn of the loop is over: what comes in meanwhile shares a commit."""
        if not self._flushing and not self._closed:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._closed:
            return
        try:
            effects = self.core.effects()
            while effects:
                for effect in effects:
                    self._carriers[type(effect)](self, effect)
                effects = self.core.effects()
        except Exception as error:  # noqa: BLE001 - see `_die`
            self._die(error)
            return
        if self.core.node.changes != self._changes:
            self._changes = self.core.node.changes
            self._awaited.changed()
        self._arm()

    def _arm(self) -> None:
        due = self.core.timer()
        if due is None or due == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(0.0, due - self._clock.now()), self._wake)

    def _wake(self) -> None:
        self._timer_at = float("inf")
        self._enter(self.core.wake)
        self._flush()

    def _persist(self, effect: Persist) -> None:
        if self._backlog.submit(effect.token):
            self.link.pause()
        try:
            self._store.submit(effect)
        except StoreError as error:  # its thread has ended, and has said why
            self._loop.call_soon(self.failed, effect.token, str(error))

    def _transmit(self, effect: Transmit) -> None:
        if not self.link.send(effect.store, effect.parts):
            self.core.undeliverable(effect.store, self._clock.now())

    def _send_back(self, effect: SendBack) -> None:
        sealed = self._sealer.seal(effect.device, effect.parts)
        if sealed is None or not self.link.answer(effect.path, sealed):
            self.core.undeliverable(effect.store, self._clock.now(), effect.path)

    def _dial(self, effect: Dial) -> None:
        key = self._gate.server_key(effect.device)
        if key is None:
            return  # it is no member any more, and nobody else may answer in its place
        try:
            self.link.dial(effect.store, effect.endpoint, key)
        except TransportError as error:
            _log.warning("%s", error)

    def _progress(self, effect: Progress) -> None:
        self.on_progress(effect)
        observer = self.observers.get(effect.id)
        if observer is not None:
            observer.progressed(effect)

    def _deliver(self, effect: Delivery) -> None:
        consumer = self._consumers.get(effect.holder)
        if consumer is not None:
            consumer(effect)

    def _notice(self, effect: Notice) -> None:
        _log.log(_LEVELS[effect.level], "%s", effect.text)

    _carriers: ClassVar[dict[type[Any], Callable[["Driver", Any], object]]] = {
        Persist: _persist,
        FetchOut: lambda self, effect: self._store.fetch_out(effect.rows),
        FetchIn: lambda self, effect: self._store.fetch_in(effect.rows),
        Transmit: _transmit,
        SendBack: _send_back,
        Answer: lambda self, effect: self.link.answer(effect.path, effect.parts),
        Dial: _dial,
        Hangup: lambda self, effect: self.link.close(effect.store),
        Delivery: _deliver,
        Settled: lambda self, effect: self._awaited.settled(effect),
        Failed: lambda self, effect: self._awaited.failed(effect),
        Progress: _progress,
        Linked: lambda self, effect: self.on_linked(effect),
        Told: lambda self, effect: self.on_told(effect),
        Inquired: lambda self, effect: self.on_inquired(effect),
        Notice: _notice,
    }

    # --- the clock ---

    def _save_clock(self) -> None:
        self._store.put_meta(CLOCK_KEY, self._clock.state())
        self._store.change(lambda connection: note_ages(connection, self._clock.now))
        self._clock_timer = self._loop.call_later(SAVE_EVERY, self._save_clock)
