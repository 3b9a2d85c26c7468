"""A blocking connection to the daemon: requests of any number of threads, and one thread that reads.

When the daemon goes away, that thread starts it again and goes on where things stood. This module must never answer
for the daemon: what it returns, the daemon has said. Nor may a thread that asks ever wait for the daemon to read.
"""

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeVar
from weakref import WeakSet

from zmesh.daemon.conversation import Answer, Conversation
from zmesh.daemon.future import Future
from zmesh.daemon.place import Place
from zmesh.daemon.road import CLOSED, READ, Road
from zmesh.daemon.silence import LOOK_EVERY, NotHeard
from zmesh.errors import DaemonError, DaemonUnreachable, MeshError, PeerClosed, WrongLoop

GOODBYE: Final = 1.0  # seconds for the thread to end; one that waits for a daemon to come up goes on for longer
_FORKED = "this is a forked process, to which nothing of the client belongs: connect here, too"
Request = tuple[str, dict[str, Any]]
_Value = TypeVar("_Value")


class _Asked(NamedTuple):
    verb: str
    number: int
    answer: Future[Any]


class Connection:
    """One client's connection."""

    def __init__(self, place: Place, start: Callable[[], None], *, timeout: float | None = None, **said: Any) -> None:
        """Connect; the daemon is started if it is not running.

        Args:
            place: Where the daemon of the home listens.
            start: Starts it; returns when it listens, or raises.
            timeout: Seconds that the caller has; None or 0 for as long as is reasonable.
            said: What every hello says, see `Session`.

        Raises:
            DaemonUnreachable: It cannot be started, or does not answer.
            WaitTimeout: It does not answer, and the caller has no more time.
            MeshError: It does not take this client.
        """
        self._road = Road(place, start, lambda: self._talk.urgent)
        self._talk = Conversation(pid=os.getpid(), **said)
        self._pid, self._timeout = os.getpid(), timeout
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}
        self._fault: MeshError = PeerClosed(CLOSED)
        self._socket: socket.socket | None = None
        self._unsent = bytearray()
        self._welcome: Future[None] = Future()
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)  # noqa: FBT003 - socket's own
        _open.add(self)
        self._thread = threading.Thread(target=self._run, name="zmesh", daemon=True)
        self._thread.start()
        try:
            self._result(self._welcome)
        except BaseException:
            self.close()
            raise

    @property
    def told(self) -> dict[str, Any]:
        """What the daemon has said of itself and of the mailbox."""
        return self._talk.told

    @property
    def closed(self) -> bool:
        """True once it was closed, or the daemon is out of reach."""
        return self._road.closed

    @property
    def fault(self) -> MeshError | None:
        """Why it has ended, unless by `close`."""
        return None if isinstance(self._fault, PeerClosed) else self._fault

    def close(self) -> None:
        """Leave the daemon: what was taken and not finished goes to others. May be called twice."""
        if os.getpid() != self._pid:
            return
        self._road.closed = True
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(GOODBYE)

    def call(self, verb: str, arguments: dict[str, Any] | None = None) -> Any:
        """Put a request to the daemon, and wait for the answer.

        Raises:
            PeerClosed: The client was closed.
            WrongLoop: This is a forked process.
            MeshError: What the daemon says, or that there is none.
        """
        asked: list[_Asked] = []
        try:
            self._ask(verb, arguments or {}, asked)
            return self._result(asked[0].answer)
        except BaseException:
            self._forget(asked)
            raise

    def call_all(self, requests: Iterable[Request]) -> list[MeshError | None]:
        """Put requests to the daemon at once, and wait for all answers; return what went wrong with each."""
        asked: list[_Asked] = []
        try:
            for verb, arguments in requests:
                self._ask(verb, arguments, asked)
            return [self._error_of(each.answer) for each in asked]
        except BaseException:
            self._forget(asked)
            raise

    def _result(self, answer: "Future[_Value]") -> _Value:
        while not answer.wait(LOOK_EVERY):
            with self._lock:
                self._look()
        return answer.result()

    def _error_of(self, answer: "Future[Any]") -> MeshError | None:
        try:
            self._result(answer)
        except MeshError as error:
            return error
        return None

    def _look(self) -> None:
        """Somebody waits still: see that the daemon is there, and who has waited long enough; the lock is held."""
        self._take(self._talk.look(time.monotonic(), self._road.blame))
        if self._talk.hung(self._timeout) and not self._welcome.done():
            error = NotHeard if self._timeout else DaemonUnreachable
            self._welcome.set_exception(error(self._road.blame()))

    def _ask(self, verb: str, arguments: dict[str, Any], asked: "list[_Asked]") -> None:
        """Put a request; it is among those that were asked before it goes out: Ctrl-C may come at any moment."""
        answer: Future[Any] = Future()
        if os.getpid() != self._pid:
            raise WrongLoop(_FORKED)
        with self._lock:
            if self._road.closed:
                raise PeerClosed(CLOSED if self.fault is None else f"this client has ended: {self.fault}")
            number, data = self._talk.request(verb, arguments, time.monotonic())
            self._waiting[number] = answer
            asked.append(_Asked(verb, number, answer))
            self._say(data)

    def _forget(self, asked: "Iterable[_Asked]") -> None:
        """Who asked was interrupted, or has got an error."""
        with self._lock:
            for each in asked:
                if self._waiting.pop(each.number, None) is not None:
                    self._say(self._talk.forget(each.number))
                elif each.answer.done() and each.answer.exception() is None:  # nobody has looked at it
                    self._say(self._talk.give_back(each.verb, each.answer.result()))

    def _say(self, data: bytes) -> None:
        """Send what the daemon takes at once, and leave the rest to the thread; the lock is held."""
        if not data or self._socket is None:
            return
        sent = 0
        if not self._unsent:
            with contextlib.suppress(OSError):  # the thread notices, and what was asked is asked again
                sent = self._socket.send(data)
        if sent < len(data):
            self._unsent += data[sent:]
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is awake already, or has ended
            self._waker.send(b"\0")

    def abandon(self) -> None:
        """Close what a forked process has inherited: the daemon must see the end of the one it belongs to."""
        for each in (self._socket, self._woken, self._waker):
            if each is not None:
                each.close()

    # --- the thread ---

    def _run(self) -> None:
        fault: MeshError = PeerClosed(CLOSED)
        again = False
        try:
            while not self._road.closed:
                welcome = self._converse(self._road.take(again=again))
                self._road.lost(welcome=welcome)
                again = not welcome
        except MeshError as error:
            fault = error
        except Exception as error:
            import logging  # noqa: PLC0415 - 10 ms, which a short command need not wait for

            logging.getLogger("zmesh.daemon").exception("an error in zmesh has ended this client; please report it")
            fault = DaemonError(f"an error in zmesh has ended this client ({error!r}): connect again, and report it")
        finally:
            self._end(fault)

    def _converse(self, connection: socket.socket) -> bool:
        """Talk until the connection is lost or the client closed; return whether the daemon has welcomed it."""
        connection.setblocking(False)  # noqa: FBT003 - socket's own
        with self._lock:
            self._socket = connection
            self._unsent.clear()
            self._say(self._talk.connected())
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._woken, selectors.EVENT_READ)
                selector.register(connection, selectors.EVENT_READ)
                while not self._road.closed and self._turn(selector, connection):
                    pass
        except OSError:
            pass  # the daemon has gone
        finally:
            with self._lock:
                welcome = self._talk.ready
                self._talk.lost()
                self._socket = None
                connection.close()
        return welcome

    def _turn(self, selector: selectors.BaseSelector, connection: socket.socket) -> bool:
        """Read and write what there is; return False at the end of the connection."""
        writing = selectors.EVENT_WRITE if self._unsent else 0
        selector.modify(connection, selectors.EVENT_READ | writing)
        for key, ready in selector.select():
            if key.fileobj is self._woken:
                self._woken.recv(READ)
                continue
            if ready & selectors.EVENT_WRITE:
                with self._lock, contextlib.suppress(BlockingIOError):
                    del self._unsent[: connection.send(self._unsent)]
            if ready & selectors.EVENT_READ:
                data = connection.recv(READ)
                if not data:
                    return False
                with self._lock:
                    self._hear(data)
        return True

    def _take(self, told: Iterable[Answer | bytes]) -> None:
        for each in told:
            if isinstance(each, bytes):
                self._say(each)
                continue
            waiting = self._waiting.pop(each.number, None)
            if waiting is not None:
                _settle(waiting, each)

    def _hear(self, data: bytes) -> None:
        self._take(self._talk.received(data, time.monotonic()))
        if self._talk.ready:
            self._road.welcomed()
            if not self._welcome.done():
                self._welcome.set_result(None)

    def _end(self, fault: MeshError) -> None:
        with self._lock:
            self._road.closed, self._fault = True, fault
            waiting, self._waiting = list(self._waiting.values()), {}
            self._woken.close()
            self._waker.close()
        for each in (*waiting, self._welcome):
            if not each.done():
                each.set_exception(fault)


_open: WeakSet[Connection] = WeakSet()


def _abandon_inherited() -> None:
    for connection in list(_open):
        connection.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_inherited)


def _settle(waiting: "Future[Any]", heard: Answer) -> None:
    if heard.error is not None:
        waiting.set_exception(heard.error)
    else:
        waiting.set_result(heard.value)
