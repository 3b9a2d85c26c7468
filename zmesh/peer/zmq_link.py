"""The ZeroMQ link: one ROUTER for all that comes in, one DEALER per remote store for all that goes out, CURVE always.

A link moves frames while it can. It must never block, queue for somebody who is not connected, promise delivery (a
send that returns True means nothing), set or trust a routing id, or report who sent a frame otherwise than CURVE and
ZAP established it. It belongs to the thread and the loop in which it was opened.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import zmq

from zmesh.discovery import interfaces
from zmesh.discovery.sighting import Endpoint, parse_endpoint
from zmesh.errors import TransportError
from zmesh.peer import descriptors
from zmesh.peer.race import MAX_RIVALS, Places, Race
from zmesh.peer.sealing import SEAL_OVERHEAD
from zmesh.peer.zap import Admit, ZapHandler
from zmesh.peer.zmq_dealer import MAX_PARTS, Dealer
from zmesh.peer.zmq_reader import Intake, Reader
from zmesh.protocol.bounds import MAX_FRAME, MAX_PEERS
from zmesh.trust.device import Device

ZAP_DOMAIN: Final = b"zmesh"
TROUBLE_AFTER: Final = 3.0  # seconds without a first success before a DEALER is watched: one handshake timeout and more
FAREWELL: Final = 100  # ms that a BYE may take to leave: a peer that is told need not find out by silence
KEY_BYTES: Final = 32  # a Curve25519 public key
REBIND_PATIENCE: Final = 2.0  # seconds for libzmq to close the old ROUTER; it takes some milliseconds
REBIND_PAUSE: Final = 0.01
CURVE_OVERHEAD: Final = 33  # bytes per part in CURVE's MESSAGE (RFC 26): name 8, nonce 8, tag 16, flags 1

# Every option of every socket. Facts: libzmq 4.3.5, measured unless the documentation is named.
OPTIONS: Final[dict[int, int]] = {
    zmq.LINGER: 0,  # what must not be lost is in the store; lingering only hangs exits
    zmq.IPV6: 1,  # both families with one socket
    zmq.SNDHWM: 1000,  # messages; what is in ZeroMQ is volatile and unsorted, flow control keeps it far below
    zmq.RCVHWM: 1000,  # messages per connection, as above
    zmq.HANDSHAKE_IVL: 2000,  # ms; a stranger (ZAP 300) tries again after this, by default only after 30 s
    zmq.HEARTBEAT_IVL: 5000,  # ms; finds half-open TCP
    zmq.HEARTBEAT_TIMEOUT: 15_000,  # ms; two lost heartbeats are no failure
    zmq.HEARTBEAT_TTL: 15_000,  # ms; what we ask of the other side; wraps above 65,535
}
DEALER_OPTIONS: Final[dict[int, int]] = OPTIONS | {
    zmq.IMMEDIATE: 1,  # not writable before the handshake is done: nothing is queued for the absent
    zmq.CONNECT_TIMEOUT: 1000,  # ms; after 60 s of silent loss traffic resumed in 2 s, by default in 25 s
    zmq.RECONNECT_IVL: 100,  # ms
    zmq.RECONNECT_IVL_MAX: 1000,  # ms; by default there is no back-off
}
RIVAL_OPTIONS: Final[dict[int, int]] = DEALER_OPTIONS | {
    zmq.CONNECT_TIMEOUT: 300,  # ms; a lost SYN costs so much and not 1 s; who is farther away is left to the first one
    zmq.RECONNECT_IVL: 200,  # ms; where nobody listens, so many at once need not ask so often
}
ROUTER_OPTIONS: Final[dict[int, int]] = OPTIONS | {
    zmq.ROUTER_MANDATORY: 1,  # an answer to a connection that is gone is an error, not silence
    zmq.BACKLOG: 1024,  # connections; 500 at once took 0.34 s, with the default of 100 1.5 s
    zmq.CURVE_SERVER: 1,
    zmq.ZAP_ENFORCE_DOMAIN: 1,  # no handler, no entry (documentation)
}
# Left out on purpose: routing ids and ROUTER_HANDOVER, by which an admitted peer takes over another one's answers.

_LOOPBACK: Final = IPv4Address("127.0.0.1")
_log = logging.getLogger("zmesh.link")

Socket = zmq.Socket[bytes]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an inbound frame came from.

    Attributes:
        device: The User-Id of the connection, as CURVE and ZAP established it.
        path: Routing id of the connection: only ever used to answer on it.
    """

    device: str
    path: bytes


@dataclass(slots=True)
class _Failure:
    """A store that was dialled and has not become ready since."""

    since: float  # loop time of the first dial
    trouble: str | None = field(default=None)


class ZmqLink:
    """See the module. Callbacks run in the loop; what they raise is logged.

    Attributes:
        blind: Why the addresses of this host cannot be read, as of the last look at `endpoints`; None when they can.
    """

    def __init__(
        self,
        device: Device,
        *,
        admit: Admit,
        on_inbound: Callable[[Origin, list[bytes]], None],
        on_answer: Callable[[bytes, list[bytes]], None],
        on_ready: Callable[[bytes], None],
        bind: str = "tcp://*:*",
        max_frame: int = MAX_FRAME,
    ) -> None:
        """Take what the link needs; nothing is opened before `open`.

        Args:
            device: Whose key the sockets use.
            admit: Decides about the key of each client that connects.
            on_inbound: Takes the parts (1 or 2) of each message that comes in on the ROUTER.
            on_answer: Takes the store dialled and the parts (1 or 2) read back from its connection.
            on_ready: Takes a store whose connection turned from not writable to writable.
            bind: ZeroMQ endpoint to listen at; "*" as the port lets the system choose.
            max_frame: Largest part in bytes; a peer that sends a larger one is disconnected.
        """
        self._device = device
        self._admit = admit
        self._on_inbound = on_inbound
        self._on_answer = on_answer
        self._on_ready = on_ready
        self._bind = bind
        self._max_frame = max_frame
        self._races: dict[bytes, Race] = {}
        self._places = Places()
        self._failures: dict[bytes, _Failure] = {}
        self._context: zmq.Context[Socket] | None = None
        self._zap: ZapHandler | None = None
        self._router: Socket | None = None
        self._reader: Reader | None = None
        self._bound = ""  # where it listens, or did until it was to listen anew
        self._binding = False
        self._addresses: tuple[str, ...] = ()  # as they were last seen
        self.blind: str | None = None

    # --- listening ---

    def open(self) -> None:
        """Bind and begin to read; call it in the running loop, once.

        Raises:
            TransportError: The endpoint cannot be bound, or the loop cannot watch sockets.
        """
        descriptors.raise_limit()
        self._context = zmq.Context()
        self._context.max_sockets = 2 * MAX_PEERS + MAX_RIVALS + 16  # a DEALER and perhaps a monitor per peer; our own
        try:
            self._zap = ZapHandler(self._context, self._admit, ZAP_DOMAIN)
            self._listen(self._bind)
        except (zmq.ZMQError, NotImplementedError) as error:
            self.shutdown()
            way_out = "choose another port, or stop the program that has it"
            if isinstance(error, NotImplementedError):
                way_out = "this event loop cannot watch sockets; on Windows, run it with asyncio.SelectorEventLoop"
            raise TransportError(f"cannot listen at {self._bind}: {error}; {way_out}") from error

    def _listen(self, endpoint: str) -> None:
        router = self._new_socket(zmq.ROUTER, ROUTER_OPTIONS)
        try:
            router.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
            router.bind(endpoint)
        except zmq.ZMQError:
            router.close(0)
            raise
        intake = Intake(router, 1 + MAX_PARTS)
        self._router, self._bound = router, router.get_string(zmq.LAST_ENDPOINT)
        self._reader = Reader(asyncio.get_running_loop(), router, lambda: self._take_inbound(intake))
        self._reader.start()

    async def rebind(self) -> None:
        """End all inbound connections and listen again at the same port: ZAP is asked only when a connection begins.

        A ROUTER cannot close one connection. The others come back by themselves, and what was under way is sent again.

        Raises:
            TransportError: Another program has taken the port meanwhile.
        """
        router, reader = self._router, self._reader
        if self._binding or not self._bound:
            return
        self._router = self._reader = None
        if router is not None and reader is not None:  # else the last attempt has failed
            reader.stop()
            router.close(0)
        self._binding = True
        try:
            await self._listen_again(self._bound)
        finally:
            self._binding = False

    async def _listen_again(self, endpoint: str) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + REBIND_PATIENCE
        while self._context is not None:
            try:
                self._listen(endpoint)
            except zmq.ZMQError as error:
                if loop.time() > end:
                    raise TransportError(f"cannot listen at {endpoint} again: {error.strerror}") from error
                await asyncio.sleep(REBIND_PAUSE)  # libzmq closes the old one in its own time
            else:
                return

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What others may dial, at most 16: this host's loopback first, then the addresses of present interfaces.

        Where the system does not tell them, those it told last, or else the loopback: see `blind`.
        """
        if self._router is None:
            return ()
        host, _, port = self._router.get_string(zmq.LAST_ENDPOINT).removeprefix("tcp://").rpartition(":")
        ip = ip_address(host.strip("[]"))
        if isinstance(ip, IPv6Address):
            ip = ip.ipv4_mapped or ip  # what a dual-stack socket calls an IPv4 address
        if ip.is_unspecified:
            try:
                self._addresses = interfaces.endpoints(int(port), ipv6=isinstance(ip, IPv6Address))
                self.blind = None
            except OSError as error:
                self.blind = error.strerror or str(error)
            return self._addresses or (str(Endpoint(_LOOPBACK, int(port))),)
        return (str(Endpoint(ip, int(port))),)

    def pause(self) -> None:
        """Stop reading the ROUTER: ZeroMQ's and then TCP's buffers fill, and senders notice."""
        if self._reader:
            self._reader.stop()

    def resume(self) -> None:
        """Read the ROUTER again."""
        if self._reader is not None:
            self._reader.start()

    def _take_inbound(self, intake: Intake) -> None:
        frames = intake.read()
        if frames is None:
            return
        try:
            device = frames[0].get("User-Id")
        except zmq.ZMQError:
            device = ""
        if not device or len(frames) == 1:
            _log.warning("a message without a sender or without content is dropped")
            return
        self._on_inbound(Origin(str(device), frames[0].bytes), [frame.bytes for frame in frames[1:]])

    # --- dialling ---

    def dial(self, store: bytes, endpoint: str, server_key: bytes) -> None:
        """Connect a new DEALER to `endpoint`, in place of an earlier one to the same store.

        Args:
            store: What to call the connection.
            endpoint: tcp://IP:PORT with a numeric IP.
            server_key: Curve25519 public key of the device expected there, 32 bytes.

        Raises:
            TransportError: The endpoint or key is malformed, the link is not open, or file descriptors run out.
        """
        try:
            endpoint = str(parse_endpoint(endpoint))
        except ValueError as error:
            raise TransportError(str(error)) from error
        if len(server_key) != KEY_BYTES:
            raise TransportError(f"a server key has {KEY_BYTES} bytes, not {len(server_key)}")
        if self._context is None:
            raise TransportError("the link is not open")
        self.close(store)
        now = asyncio.get_running_loop().time()
        failure = self._failures.pop(store, None) or _Failure(now)
        self._failures[store] = failure  # the latest dialled is the last
        if len(self._failures) > MAX_PEERS:
            self._failures.pop(next(iter(self._failures)))
        try:
            race = self._races[store] = Race(
                lambda ready, rival: self._dealer(store, endpoint, server_key, ready, rival=rival),
                lambda: self._ready(store),
                lambda trouble: self._note(store, trouble),
                self._places,
            )
            race.start(failure.since + TROUBLE_AFTER - now)
        except zmq.ZMQError as error:
            self.close(store)
            raise TransportError(f"cannot dial {endpoint}: {error.strerror}") from error

    def close(self, store: bytes) -> None:
        """Close the connection to `store`, if there is one; last words get `FAREWELL`, what is in it else is lost."""
        race = self._races.pop(store, None)
        if race is not None:
            race.close(FAREWELL if race.leader.writable else 0)

    def trouble(self, store: bytes) -> str | None:
        """Say why the connection to `store` does not come about, once it has not for 3 s; None when it is well."""
        return self._failures[store].trouble if store in self._failures else None

    def _dealer(
        self, store: bytes, endpoint: str, server_key: bytes, ready: Callable[[Dealer], None], *, rival: bool
    ) -> Dealer:
        descriptors.check_left(f"a connection to {endpoint}")
        socket = self._new_socket(zmq.DEALER, RIVAL_OPTIONS if rival else DEALER_OPTIONS)
        socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
        return Dealer(socket, endpoint, on_ready=ready, on_answer=lambda parts: self._on_answer(store, parts))

    def _ready(self, store: bytes) -> None:
        """The connection has come about: forget that it was in trouble."""
        self._failures.pop(store, None)
        self._on_ready(store)

    def _note(self, store: bytes, trouble: str) -> None:
        failure = self._failures.get(store)
        if failure is not None and failure.trouble != trouble:
            failure.trouble = trouble
            _log.info("%s", trouble)

    # --- sending ---

    def send(self, store: bytes, parts: Sequence[bytes]) -> bool:
        """Hand a message to the connection to `store`; False when it is not connected or is full."""
        race = self._races.get(store)
        if race is None:
            return False
        sent = _send(race.leader.socket, parts)
        race.leader.poke()
        return sent

    def answer(self, path: bytes, parts: Sequence[bytes]) -> bool:
        """Hand a message to the inbound connection `path`; False when it is gone or full."""
        if self._router is None or self._reader is None:
            return False
        sent = _send(self._router, [path, *parts])
        self._reader.poke()
        return sent

    # --- the end ---

    def shutdown(self) -> None:
        """Close everything; the last words to those who are connected get `FAREWELL`. May be called twice.

        What is in the sockets otherwise is lost; callbacks may call this.
        """
        for race in self._races.values():
            race.close(FAREWELL if race.leader.writable else 0)
        self._races.clear()
        if self._reader is not None:
            self._reader.stop()
        if self._router is not None:
            self._router.close(FAREWELL)
        if self._zap is not None:
            self._zap.close()  # after the ROUTER, which would let in anybody without it
        if self._context is not None:
            self._context.destroy(0)  # also closes what a failed `open` left behind, for which term would wait
        self._reader = self._router = self._zap = self._context = None
        self._failures.clear()

    def _new_socket(self, kind: int, options: dict[int, int]) -> Socket:
        assert self._context is not None
        socket = self._context.socket(kind)
        for option, value in options.items():
            socket.setsockopt(option, value)
        overhead = CURVE_OVERHEAD + (SEAL_OVERHEAD if kind == zmq.DEALER else 0)
        socket.setsockopt(zmq.MAXMSGSIZE, self._max_frame + overhead)  # by default there is no bound
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self._device.curve_public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._device.curve_secret)
        return socket


def _send(socket: Socket, parts: Sequence[bytes]) -> bool:
    """Send all parts or none; ZeroMQ decides at the first."""
    last = len(parts) - 1
    try:
        for number, part in enumerate(parts):
            socket.send(part, zmq.DONTWAIT if number == last else zmq.DONTWAIT | zmq.SNDMORE)
    except zmq.ZMQError as error:
        if error.errno not in {zmq.EAGAIN, zmq.EHOSTUNREACH}:
            raise
        return False
    return True
