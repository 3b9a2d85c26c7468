"""A connection to the daemon in an asyncio event loop: requests of any number of tasks, and one task that reads.

When the daemon goes away, that task has it started again, in a thread, and goes on where things stood. This module must
never block the loop, nor leave a message leased that nobody has seen.
"""

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from zmesh.daemon.conversation import Answer, Conversation
from zmesh.daemon.place import Place
from zmesh.daemon.road import CLOSED, READ, Road
from zmesh.daemon.silence import LOOK_EVERY
from zmesh.errors import DaemonError, DaemonUnreachable, MeshError, PeerClosed, WrongLoop

_ELSEWHERE = "this client lives in another event loop, or in the process before a fork: connect here, too"
_NOT_OPEN = "this client is not connected: use it in `async with`, or call start()"
_log = logging.getLogger("zmesh.daemon")


class AsyncConnection:
    """One client's connection."""

    def __init__(self, place: Place, start: Callable[[], None], **said: Any) -> None:
        """Describe it; nothing is opened before `open`. Arguments as of `Connection`."""
        self._place, self._start, self._said = place, start, said
        self._talk = Conversation()
        self._waiting: dict[int, tuple[str, asyncio.Future[Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._next_look: asyncio.TimerHandle | None = None
        self._fault: MeshError = PeerClosed(CLOSED)
        self._road: Road
        self._loop: asyncio.AbstractEventLoop
        self._welcome: asyncio.Future[None]

    @property
    def told(self) -> dict[str, Any]:
        """What the daemon has said of itself and of the mailbox."""
        return self._talk.told

    @property
    def closed(self) -> bool:
        """True once it was closed, or the daemon is out of reach."""
        return self._task is None or self._road.closed

    @property
    def fault(self) -> MeshError | None:
        """Why it has ended, unless by `close`."""
        if self._task is None:
            return PeerClosed(_NOT_OPEN)
        return None if isinstance(self._fault, PeerClosed) else self._fault

    async def open(self) -> None:
        """Connect, unless it is connected; the daemon is started if it is not running. Errors as of `Connection`."""
        if self._task is not None and not self._task.done():
            self._check()
            await asyncio.shield(self._welcome)
            return
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._road = Road(self._place, self._start, lambda: self._talk.urgent)
        self._talk = Conversation(pid=self._pid, **self._said)
        self._welcome = self._loop.create_future()
        self._task = self._loop.create_task(self._run(), name="zmesh")
        self._look_soon()
        try:
            await self._welcome
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Leave the daemon: what was taken and not finished goes to others. May be called twice."""
        if self._task is None or os.getpid() != self._pid:
            return
        self._check()
        self._road.closed = True
        self._task.cancel()
        await asyncio.wait({self._task})

    async def call(self, verb: str, arguments: dict[str, Any] | None = None) -> Any:
        """Put a request to the daemon, and wait for the answer; who is cancelled meanwhile has taken nothing.

        Raises:
            PeerClosed: The client is not connected.
            WrongLoop: It lives elsewhere.
            MeshError: What the daemon says, or that there is none.
        """
        if self._task is None:
            raise PeerClosed(_NOT_OPEN)
        self._check()
        if self._road.closed:
            raise PeerClosed(CLOSED if self.fault is None else f"this client has ended: {self.fault}")
        number, data = self._talk.request(verb, arguments or {}, self._loop.time())
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[number] = verb, answer
        self._look_soon()
        self._say(data)
        try:
            return await answer
        except asyncio.CancelledError:
            if self._waiting.pop(number, None) is not None:
                self._say(self._talk.forget(number))
            elif not answer.cancelled() and answer.exception() is None:  # it came in the same turn of the loop
                self._say(self._talk.give_back(verb, answer.result()))
            raise

    def _check(self) -> None:
        if os.getpid() != self._pid or asyncio.get_running_loop() is not self._loop:
            raise WrongLoop(_ELSEWHERE)

    def _say(self, data: bytes) -> None:
        if data and self._writer is not None:
            self._writer.write(data)

    def _look_soon(self) -> None:
        if self._next_look is None:
            self._next_look = self._loop.call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Somebody may wait still: see that the daemon is there, and who has waited long enough."""
        self._next_look = None
        if self._road.closed:
            return
        if self._waiting or not self._welcome.done():
            self._look_soon()
            self._take(self._talk.look(self._loop.time(), self._road.blame))
        if self._talk.hung(None) and not self._welcome.done():
            self._welcome.set_exception(DaemonUnreachable(self._road.blame()))

    # --- the task ---

    async def _run(self) -> None:
        fault: MeshError = PeerClosed(CLOSED)
        again = False
        try:
            while not self._road.closed:
                welcome = await self._converse(await self._reach(again=again))
                self._road.lost(welcome=welcome)
                again = not welcome
        except MeshError as error:
            fault = error
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            _log.exception("an error in zmesh has ended this client; please report it")
            fault = DaemonError(f"an error in zmesh has ended this client ({error!r}): connect again, and report it")
        finally:
            self._end(fault)

    async def _reach(self, *, again: bool) -> socket.socket:
        """Take the road in a thread of its own: the loop's would be waited for, also by who has given up."""
        reached: asyncio.Future[socket.socket] = self._loop.create_future()
        threading.Thread(target=self._take_road, args=(reached, again), name="zmesh", daemon=True).start()
        try:
            return await reached
        except asyncio.CancelledError:
            self._road.closed = True
            reached.add_done_callback(_close_unused)
            raise

    def _take_road(self, reached: "asyncio.Future[socket.socket]", again: bool) -> None:  # noqa: FBT001 - a thread's
        taken, fault = None, None
        try:
            taken = self._road.take(again=again)
        except Exception as error:  # noqa: BLE001 - the task hears of it
            fault = error
        try:
            self._loop.call_soon_threadsafe(_bring, reached, taken, fault)
        except RuntimeError:  # the loop is closed
            if taken is not None:
                taken.close()

    async def _converse(self, connection: socket.socket) -> bool:
        """Talk until the connection is lost; return whether the daemon has welcomed it."""
        connection.setblocking(False)  # noqa: FBT003 - socket's own
        welcome = False
        try:
            if connection.family == socket.AF_INET:
                reader, self._writer = await asyncio.open_connection(sock=connection)
            else:
                reader, self._writer = await asyncio.open_unix_connection(sock=connection)
            self._say(self._talk.connected())
            while data := await reader.read(READ):
                self._hear(data)
        except OSError:
            pass  # the daemon has gone
        finally:
            welcome = self._talk.ready
            self._talk.lost()
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.transport.abort()
            else:
                connection.close()
        return welcome

    def _take(self, told: Iterable[Answer | bytes]) -> None:
        for each in told:
            if isinstance(each, bytes):
                self._say(each)
                continue
            verb, answer = self._waiting.pop(each.number, ("", None))
            if answer is not None and not answer.done():
                _settle(answer, each)
            elif each.error is None:  # who asked was cancelled, and has not come to know of it yet
                self._say(self._talk.give_back(verb, each.value))

    def _hear(self, data: bytes) -> None:
        self._take(self._talk.received(data, self._loop.time()))
        if self._talk.ready:
            self._road.welcomed()
            if not self._welcome.done():
                self._welcome.set_result(None)

    def _end(self, fault: MeshError) -> None:
        self._road.closed, self._fault = True, fault
        if self._next_look is not None:
            self._next_look.cancel()
        waiting, self._waiting = list(self._waiting.values()), {}
        for each in (*[answer for _, answer in waiting], self._welcome):
            if not each.done():
                each.set_exception(fault)


def _bring(reached: "asyncio.Future[socket.socket]", taken: socket.socket | None, fault: Exception | None) -> None:
    if fault is not None:
        if not reached.done():
            reached.set_exception(fault)
    elif taken is not None:
        if reached.done():  # nobody waits any more
            taken.close()
        else:
            reached.set_result(taken)


def _close_unused(reached: "asyncio.Future[socket.socket]") -> None:
    with contextlib.suppress(MeshError, asyncio.CancelledError):
        reached.result().close()


def _settle(waiting: "asyncio.Future[Any]", heard: Answer) -> None:
    if heard.error is not None:
        waiting.set_exception(heard.error)
    else:
        waiting.set_result(heard.value)
