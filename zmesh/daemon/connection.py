"""A blocking connection to the daemon: requests of any number of threads, and one thread that reads.

When the daemon goes away, that thread starts it again and goes on where things stood. This module must never answer
for the daemon: what it returns, the daemon has said.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from zmesh.daemon.conversation import Answer, Conversation
from zmesh.daemon.future import Future
from zmesh.daemon.place import Place
from zmesh.errors import DaemonUnreachable, MeshError, PeerClosed

PATIENCE: Final = 30.0  # seconds in which the daemon comes back; its start takes half a second, and longer when crowded
RETRY: Final = 0.05  # seconds between attempts to connect
CONNECT: Final = 5.0  # seconds for one
READ: Final = 256 * 1024  # bytes at a time
_CLOSED: Final = "this client was closed: connect again"


class Connection:
    """One client's connection."""

    def __init__(self, place: Place, start: Callable[[], None], **said: Any) -> None:
        """Connect; the daemon is started if it is not running.

        Args:
            place: Where the daemon of the home listens.
            start: Starts it; returns when it listens, or raises.
            said: What every hello says, see `Session`.

        Raises:
            DaemonUnreachable: It cannot be started, or does not answer.
            MeshError: It does not take this client.
        """
        self._place, self._start = place, start
        self._talk = Conversation(pid=os.getpid(), **said)
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}
        self._socket: socket.socket | None = None
        self._welcome: Future[None] = Future()
        self.closed = False
        self._thread = threading.Thread(target=self._run, name="zmesh", daemon=True)
        self._thread.start()
        try:
            self._welcome.result()
        except BaseException:
            self.close()
            raise

    @property
    def told(self) -> dict[str, Any]:
        """What the daemon has said of itself and of the mailbox."""
        return self._talk.told

    def close(self) -> None:
        """Leave the daemon: what was taken and not finished goes to others. May be called twice."""
        with self._lock:
            self.closed = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def call(self, verb: str, arguments: dict[str, Any] | None = None) -> Any:
        """Put a request to the daemon, and wait for the answer.

        Raises:
            PeerClosed: The client was closed.
            MeshError: What the daemon says, or that there is none.
        """
        answer: Future[Any] = Future()
        with self._lock:
            if self.closed:
                raise PeerClosed(_CLOSED)
            number, data = self._talk.request(verb, arguments or {}, time.monotonic())
            self._waiting[number] = answer
            self._say(data)
        try:
            return answer.result()
        except BaseException:
            with self._lock:
                if self._waiting.pop(number, None) is not None:  # interrupted: the answer is still to come
                    self._say(self._talk.forget(number))
            raise

    def _say(self, data: bytes) -> None:
        if data and self._socket is not None:
            with contextlib.suppress(OSError):  # the reader notices, and what was asked is asked again
                self._socket.sendall(data)

    # --- the thread that reads ---

    def _run(self) -> None:
        fault: MeshError = PeerClosed(_CLOSED)
        try:
            while not self.closed:
                self._connect()
                self._read()
        except MeshError as error:
            fault = error
        finally:
            self._end(fault)

    def _connect(self) -> None:
        connection = self._reach(time.monotonic() + PATIENCE)
        connection.settimeout(None)
        with self._lock:
            self._socket = connection
            self._say(self._talk.connected())
            if self.closed:
                connection.close()

    def _reach(self, end: float) -> socket.socket:
        while True:
            try:
                return self._place.connect(CONNECT)
            except OSError as error:
                if self.closed:
                    raise PeerClosed(_CLOSED) from error
                if time.monotonic() > end:
                    raise DaemonUnreachable(self._silence(error)) from error
            if not self._welcome.done() or not self._place.ended.exists():
                self._start()
            time.sleep(RETRY)

    def _silence(self, error: OSError) -> str:
        if self._place.ended.exists():
            return "the daemon of this machine was ended: `zmesh up` starts it again, and so does the next program"
        return f"the daemon of this machine does not answer ({error}): its log is in {self._place.directory}"

    def _read(self) -> None:
        connection = self._socket
        assert connection is not None
        try:
            while data := connection.recv(READ):
                with self._lock:
                    self._hear(data)
        except OSError:
            pass  # the daemon has gone: it is started again
        finally:
            with self._lock:
                self._talk.lost()
                self._socket = None
                connection.close()

    def _hear(self, data: bytes) -> None:
        for heard in self._talk.received(data, time.monotonic()):
            if isinstance(heard, bytes):
                self._say(heard)
                continue
            waiting = self._waiting.pop(heard.number, None)
            if waiting is not None:
                _settle(waiting, heard)
        if self._talk.ready and not self._welcome.done():
            self._welcome.set_result(None)

    def _end(self, fault: MeshError) -> None:
        with self._lock:
            self.closed = True
            waiting, self._waiting = list(self._waiting.values()), {}
        for each in (*waiting, self._welcome):
            if not each.done():
                each.set_exception(fault)


def _settle(waiting: "Future[Any]", heard: Answer) -> None:
    if heard.error is not None:
        waiting.set_exception(heard.error)
    else:
        waiting.set_result(heard.value)
