"""One DEALER: a socket that connects to one endpoint, and what is known about how that goes.

It says when it becomes writable, hands over what is read back, and tells why it does not get there, if it is watched.
It must never reconnect elsewhere, decide what to do about trouble, or keep a monitor that nobody reads.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from zmesh.peer.zmq_reader import Intake, Reader

MAX_PARTS: Final = 2  # header and body

_TROUBLES: Final[dict[int, str]] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the peer at {} refuses this device for good: it was revoked there",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "what answers at {} is not a zmesh peer",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake with {} fails: another device or program answers there, or it "
    "does not know this device",
}
_NO_ANSWER: Final = "nothing answers at {}: the peer is down, or a firewall or another network lies between"
_WATCHED: Final = zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_RETRIED | sum(_TROUBLES)

Socket = zmq.Socket[bytes]


class Dealer:
    """One outgoing connection.

    Attributes:
        socket: To send on.
        writable: It is connected, and has room.
    """

    def __init__(
        self,
        socket: Socket,
        endpoint: str,
        *,
        on_ready: "Callable[[Dealer], None]",
        on_answer: Callable[[list[bytes]], None],
    ) -> None:
        """Take a socket with all its options set; nothing is connected before `connect`.

        Args:
            socket: The DEALER, which is closed by `close`.
            endpoint: Where to connect.
            on_ready: Called when it turns from not writable to writable.
            on_answer: Takes the parts (1 or 2) of each message read back.
        """
        self.socket = socket
        self.writable = False
        self._endpoint = endpoint
        self._on_ready, self._on_answer = on_ready, on_answer
        self._intake = Intake(socket, MAX_PARTS)
        self._reader = Reader(asyncio.get_running_loop(), socket, self._turn)
        self._monitor: Socket | None = None
        self._monitor_reader: Reader | None = None
        self._connected = False  # TCP, since the last retry; known only while there is a monitor

    def connect(self) -> None:
        """Begin.

        Raises:
            zmq.ZMQError: libzmq does not take the endpoint.
        """
        self.socket.connect(self._endpoint)
        self._reader.start()

    def poke(self) -> None:
        """Look at the socket in the next turn of the loop; needed after every send on it."""
        self._reader.poke()

    def close(self, linger: int) -> None:
        """Close it; what it holds may take `linger` ms to leave."""
        self._reader.stop()
        self.unwatch()
        self.socket.close(linger)

    def _turn(self) -> None:
        """Read one answer; with none left, see whether the connection has come or gone."""
        events = int(self.socket.getsockopt(zmq.EVENTS))
        writable = bool(events & zmq.POLLOUT)
        if writable != self.writable:
            self.writable = writable
            if writable:
                self.unwatch()
                self._on_ready(self)
            return
        if not events & zmq.POLLIN:
            raise zmq.Again
        if (frames := self._intake.read()) is not None:
            self._on_answer([frame.bytes for frame in frames])

    # --- why it does not come about ---

    def watch(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called with each trouble, in words, until it is writable; call this before `connect`.

        A monitor must be there before: a refusal for good (ZAP 400) is told once and never again. Only DEALERs that
        fail get one, because a monitor that nobody reads can hang the I/O thread (libzmq #3575).
        """
        monitor = self._monitor = self.socket.get_monitor_socket(_WATCHED)
        monitor.setsockopt(zmq.LINGER, 0)
        self._monitor_reader = Reader(asyncio.get_running_loop(), monitor, lambda: self._take_event(monitor, tell))
        self._monitor_reader.start()

    def unwatch(self) -> None:
        """Close the monitor, before the socket and in this order: else it can hang (pyzmq #1554)."""
        monitor, self._monitor = self._monitor, None
        if monitor is None:
            return
        if self._monitor_reader is not None:
            self._monitor_reader.stop()
            self._monitor_reader = None
        self.socket.disable_monitor()
        monitor.close(0)

    def _take_event(self, monitor: Socket, tell: Callable[[str], None]) -> None:
        event = int(parse_monitor_message(monitor.recv_multipart(zmq.DONTWAIT))["event"])
        if event == zmq.EVENT_CONNECTED:
            self._connected = True
        elif event in _TROUBLES:
            tell(_TROUBLES[event].format(self._endpoint))
        elif event == zmq.EVENT_CONNECT_RETRIED:
            if not self._connected:
                tell(_NO_ANSWER.format(self._endpoint))
            self._connected = False
