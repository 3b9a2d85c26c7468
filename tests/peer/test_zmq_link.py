"""The ZeroMQ link over real sockets: who sent it is never a claim, nobody blocks anybody, and connections come back."""

import asyncio
import contextlib
import logging
import os
import resource
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
import zmq

from tests.waiting import until
from zmesh.errors import TransportError
from zmesh.peer import descriptors
from zmesh.peer.log_filter import Sparing
from zmesh.peer.zap import REVOKED, STRANGER, Admission
from zmesh.peer.zmq_dealer import MAX_PARTS
from zmesh.peer.zmq_link import DEALER_OPTIONS, Origin, ZmqLink
from zmesh.peer.zmq_reader import SECONDS_PER_TURN
from zmesh.trust.device import SEED_BYTES, Device

ALICE = Device.from_seed(b"a" * SEED_BYTES)
BOB = Device.from_seed(b"b" * SEED_BYTES)
MALLORY = Device.from_seed(b"m" * SEED_BYTES)
LOCAL = "tcp://127.0.0.1:*"
REMOTE = b"remote store 016"


class Probe:
    """A link that remembers what its callbacks were given."""

    def __init__(self, device: Device = ALICE, bind: str = LOCAL, max_frame: int = 1 << 20) -> None:
        self.verdicts = {ALICE.curve_public: Admission.member(ALICE.id), BOB.curve_public: Admission.member(BOB.id)}
        self.inbound: list[tuple[Origin, list[bytes]]] = []
        self.answers: list[tuple[bytes, list[bytes]]] = []
        self.ready: list[bytes] = []
        self.on_inbound: Callable[[Origin, list[bytes]], None] = lambda _origin, _parts: None
        self.link = ZmqLink(
            device,
            admit=lambda key: self.verdicts.get(key, STRANGER),
            on_inbound=self._take,
            on_answer=lambda store, parts: self.answers.append((store, parts)),
            on_ready=self.ready.append,
            bind=bind,
            max_frame=max_frame,
        )
        self.link.open()

    def _take(self, origin: Origin, parts: list[bytes]) -> None:
        self.inbound.append((origin, parts))
        self.on_inbound(origin, parts)

    @property
    def bodies(self) -> list[bytes]:
        return [parts[-1] for _, parts in self.inbound]

    def dial(self, other: "Probe", store: bytes = REMOTE) -> None:
        self.link.dial(store, other.link.endpoints[0], ALICE.curve_public)

    async def connect(self, other: "Probe", store: bytes = REMOTE) -> None:
        self.dial(other, store)
        await until(lambda: store in self.ready, what="the connection")


class Proxy:
    """A TCP proxy whose connections can be cut, and which can be made to swallow or refuse everything."""

    def __init__(self, target: str) -> None:
        self.target = int(target.rpartition(":")[2])
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.accepted = 0
        self.opening = 0

    async def start(self) -> str:
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"tcp://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.append(writer)
        self.opening += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers.append(far_writer)
        self.opening -= 1
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def stop(self) -> None:
        self.server.close()
        await until(lambda: not self.opening, what="the proxy's last connection")
        self.cut()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.server.wait_closed()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def probes(test: Callable[[Probe, Probe], Awaitable[None]]) -> None:
    """Run a test with two links of one device and shut them down, within a second, whatever happens."""

    async def body() -> None:
        one, two = Probe(), Probe()
        try:
            await test(one, two)
        finally:
            began = time.monotonic()
            one.link.shutdown()
            two.link.shutdown()
            assert time.monotonic() - began < 1, "shutdown hangs"

    run(body)


def raw_dealer(context: "zmq.Context[zmq.Socket[bytes]]", device: Device) -> "zmq.Socket[bytes]":
    """Make a client that obeys nobody's rules, only CURVE's."""
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.CURVE_SERVERKEY, ALICE.curve_public)
    dealer.setsockopt(zmq.CURVE_PUBLICKEY, device.curve_public)
    dealer.setsockopt(zmq.CURVE_SECRETKEY, device.curve_secret)
    return dealer


@contextlib.contextmanager
def outsiders() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    """Give a context for clients of the test's own, and close them all."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        yield context
    finally:
        context.destroy(0)


# --- frames and identities ---


def test_two_links_exchange_frames_with_the_true_sender() -> None:
    async def test(one: Probe, two: Probe) -> None:
        await one.connect(two)
        await two.connect(one)
        assert one.link.send(REMOTE, [b"header", b"body"])
        assert two.link.send(REMOTE, [b"alone"])
        await until(lambda: one.inbound and two.inbound, what="both messages")
        assert [(origin.device, parts) for origin, parts in two.inbound] == [(ALICE.id, [b"header", b"body"])]
        assert [(origin.device, parts) for origin, parts in one.inbound] == [(ALICE.id, [b"alone"])]

    probes(test)


def test_an_answer_comes_back_on_the_connection_it_is_for() -> None:
    async def test(one: Probe, two: Probe) -> None:
        await one.connect(two)
        one.link.send(REMOTE, [b"question"])
        await until(lambda: two.inbound, what="the question")
        path = two.inbound[0][0].path
        assert two.link.answer(path, [b"reset"])
        await until(lambda: one.answers, what="the answer")
        assert one.answers == [(REMOTE, [b"reset"])]
        assert not two.link.answer(b"nobody", [b"reset"])
        one.link.close(REMOTE)
        await until(lambda: not two.link.answer(path, [b"reset"]), what="an answer to a gone connection is refused")

    probes(test)


def test_ten_thousand_messages_arrive_in_order() -> None:
    async def test(one: Probe, two: Probe) -> None:
        await one.connect(two)
        for number in range(10_000):
            await until(lambda number=number: one.link.send(REMOTE, [b"h", b"%d" % number]), what="room")  # type: ignore[misc]
        await until(lambda: len(two.inbound) == 10_000, what="all of them")
        assert two.bodies == [b"%d" % number for number in range(10_000)]

    probes(test)


def test_the_user_id_is_that_of_the_key_not_of_a_claim() -> None:
    async def test(one: Probe, _: Probe) -> None:
        with outsiders() as context:
            dealer = raw_dealer(context, BOB)
            dealer.setsockopt(zmq.METADATA, b"X-User-Id:" + ALICE.id.encode())
            dealer.setsockopt(zmq.ROUTING_ID, ALICE.id.encode())
            dealer.connect(one.link.endpoints[0])
            dealer.send(b"I am alice")
            await until(lambda: one.inbound, what="the message")
            assert one.inbound[0][0].device == BOB.id

    probes(test)


def test_a_stranger_never_reaches_the_callback() -> None:
    async def test(one: Probe, two: Probe) -> None:
        with outsiders() as context:
            stranger = raw_dealer(context, MALLORY)
            stranger.connect(one.link.endpoints[0])
            stranger.send(b"let me in")
            plain = context.socket(zmq.DEALER)
            plain.connect(one.link.endpoints[0])
            plain.send(b"no curve at all")
            with socket.create_connection(("127.0.0.1", int(one.link.endpoints[0].rpartition(":")[2]))) as raw:
                raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 1000)
            await two.connect(one)
            two.link.send(REMOTE, [b"a member"])
            await until(lambda: one.inbound, what="the member's message")
            await asyncio.sleep(DEALER_OPTIONS[zmq.HANDSHAKE_IVL] / 1000 + 0.5)  # one more try of the stranger's
            assert one.bodies == [b"a member"]

    probes(test)


def test_rebinding_asks_again_who_may_come_in() -> None:
    """Whoever was connected is out until it has shown its key again; the port stays."""

    async def test(one: Probe, two: Probe) -> None:
        three = Probe(MALLORY)
        try:
            two.verdicts[MALLORY.curve_public] = Admission.member(MALLORY.id)
            await one.connect(two)
            await three.connect(two)
            before = two.link.endpoints
            two.verdicts[MALLORY.curve_public] = REVOKED
            await two.link.rebind()
            assert two.link.endpoints == before
            one.ready.clear()
            await until(lambda: one.ready, what="the member is back")
            one.link.send(REMOTE, [b"a member's"])
            three.link.send(REMOTE, [b"a revoked one's"])
            await until(lambda: b"a member's" in two.bodies, what="the member's message")
            assert b"a revoked one's" not in two.bodies
        finally:
            three.link.shutdown()

    probes(test)


def test_rebinding_a_link_that_is_closed_does_nothing() -> None:
    async def test(one: Probe, _: Probe) -> None:
        one.link.shutdown()
        await one.link.rebind()
        assert one.link.endpoints == ()

    probes(test)


def test_nobody_gets_another_ones_answers_by_its_routing_id() -> None:
    async def test(one: Probe, two: Probe) -> None:
        await one.connect(two)
        one.link.send(REMOTE, [b"question"])
        await until(lambda: two.inbound, what="the question")
        path = two.inbound[0][0].path
        with outsiders() as context:
            thief = raw_dealer(context, BOB)
            thief.setsockopt(zmq.ROUTING_ID, path)
            thief.connect(two.link.endpoints[0])
            thief.send(b"I am that connection")
            other = raw_dealer(context, BOB)
            other.connect(two.link.endpoints[0])
            other.send(b"a later one")
            await until(lambda: b"a later one" in two.bodies, what="a connection made after the thief's")
            for number in range(100):
                assert two.link.answer(path, [b"%d" % number])
            await until(lambda: len(one.answers) == 100, what="all answers, at the right place")
            assert not thief.poll(0)

    probes(test)


def test_messages_of_too_many_parts_are_dropped_whole() -> None:
    async def test(one: Probe, _: Probe) -> None:
        with outsiders() as context:
            dealer = raw_dealer(context, BOB)
            dealer.connect(one.link.endpoints[0])
            dealer.send_multipart([b"three"] * (MAX_PARTS + 1))
            dealer.send_multipart([b"many"] * 5000)
            dealer.send_multipart([b"h", b"good"])
            await until(lambda: one.inbound, what="the good one")
            assert [parts for _, parts in one.inbound] == [[b"h", b"good"]]

    probes(test)


def test_a_frame_above_the_bound_never_arrives_and_costs_its_sender_the_connection() -> None:
    async def test() -> None:
        big, small = Probe(), Probe(max_frame=1000)
        await big.connect(small)
        big.link.send(REMOTE, [b"h", bytes(1000)])
        await until(lambda: small.inbound, what="a frame at the bound")
        big.link.send(REMOTE, [b"h", bytes(1001)])
        await until(lambda: big.ready.count(REMOTE) == 2, what="the new connection after the oversize frame")
        big.link.send(REMOTE, [b"h", b"after"])
        await until(lambda: len(small.inbound) > 1, what="the frame after it")
        assert small.bodies == [bytes(1000), b"after"]
        big.link.shutdown()
        small.link.shutdown()

    run(test)


def test_a_callback_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def test(one: Probe, two: Probe) -> None:
        def fail(_origin: Origin, parts: list[bytes]) -> None:
            raise RuntimeError(parts[0])

        two.on_inbound = fail
        await one.connect(two)
        one.link.send(REMOTE, [b"one"])
        one.link.send(REMOTE, [b"two"])
        await until(lambda: len(two.inbound) == 2, what="the message after the exception")

    for sparing in logging.getLogger("zmesh.link").filters:
        assert isinstance(sparing, Sparing)
        sparing.forget()
    # Not `set_level` inside `at_level`: it would put the inner level back at the end of the test, for all later ones.
    with caplog.at_level(logging.CRITICAL), caplog.at_level(logging.ERROR, logger="zmesh.link"):
        probes(test)
    assert len([record for record in caplog.records if record.name == "zmesh.link" and record.exc_info]) == 1


# --- back-pressure ---


def test_a_receiver_that_does_not_read_blocks_nobody() -> None:
    async def test(one: Probe, two: Probe) -> None:
        deaf = Probe()
        await one.connect(deaf, b"deaf")
        await one.connect(two)
        deaf.link.pause()
        body, sent, slowest, refused = bytes(65_536), 0, 0.0, 0

        def fill() -> bool:
            """Send; true when it was refused at once twenty times: until then the system's own buffers still fill."""
            nonlocal sent, slowest, refused
            before, began = sent, time.monotonic()
            while accepted := one.link.send(b"deaf", [b"h", body]):
                sent += 1
                slowest, began = max(slowest, time.monotonic() - began), time.monotonic()
                if sent % 100 == 0:
                    break
            refused = 0 if accepted or sent > before else refused + 1
            return refused == 20

        await until(fill, seconds=30, what="the deaf one's queue is full")
        assert slowest < 0.5
        for _ in range(100):
            assert one.link.send(REMOTE, [b"h", b"others"])
        await until(lambda: len(two.inbound) == 100, what="the others' messages")
        assert not deaf.inbound
        one.ready.clear()
        deaf.link.resume()
        await until(lambda: len(deaf.inbound) == sent, seconds=30, what="all that was accepted")
        # It turns writable once: if that was before `clear`, when the system took a last message, it is still.
        await until(lambda: b"deaf" in one.ready or one.link.send(b"deaf", [b"h", b"more"]), what="writable again")
        deaf.link.shutdown()

    probes(test)


def test_a_flood_starves_neither_timers_nor_others() -> None:
    async def test(one: Probe, two: Probe) -> None:
        await one.connect(two)
        two.on_inbound = lambda _origin, _parts: time.sleep(0.001)  # a callback that takes long
        two.link.pause()
        for _ in range(900):
            one.link.send(REMOTE, [b"h", b"b"])
        two.link.resume()
        most, last = 0, 0
        while len(two.inbound) < 900:
            await asyncio.sleep(0)
            most, last = max(most, len(two.inbound) - last), len(two.inbound)
        assert most <= SECONDS_PER_TURN / 0.001 + 1, f"{most} slow messages in one turn of the loop"

    probes(test)


# --- connections that come, go and come back ---


def test_nothing_is_accepted_for_somebody_who_is_not_connected() -> None:
    async def test(one: Probe, two: Probe) -> None:
        assert not one.link.send(b"never dialled", [b"x"])
        two.link.shutdown()
        one.link.dial(REMOTE, f"tcp://127.0.0.1:{unused_port()}", ALICE.curve_public)
        assert not one.link.send(REMOTE, [b"x"])
        one.link.close(REMOTE)
        one.link.close(REMOTE)
        assert not one.link.send(REMOTE, [b"x"])

    probes(test)


def test_ready_fires_again_when_the_listener_is_back_on_its_port() -> None:
    async def test(one: Probe, two: Probe) -> None:
        await one.connect(two)
        endpoint = two.link.endpoints[0]
        two.link.shutdown()
        await until(lambda: not one.link.send(REMOTE, [b"x"]), what="the connection is seen to be gone")
        again = Probe(bind=endpoint)
        await until(lambda: one.ready == [REMOTE, REMOTE], what="ready again")
        assert one.link.send(REMOTE, [b"hello again"])
        await until(lambda: b"hello again" in again.bodies, what="traffic")
        again.link.shutdown()

    probes(test)


def test_a_connection_cut_in_mid_stream_comes_back() -> None:
    async def test(one: Probe, two: Probe) -> None:
        proxy = Proxy(two.link.endpoints[0])
        one.link.dial(REMOTE, await proxy.start(), ALICE.curve_public)
        await until(lambda: one.ready, what="the first connection")
        for number in range(1, 4):
            for _ in range(200):
                one.link.send(REMOTE, [b"h", bytes(10_000)])
            proxy.cut()
            await until(lambda number=number: proxy.accepted > number, what="a new connection")  # type: ignore[misc]
            mark = b"after cut %d" % number
            await until(lambda mark=mark: send_seen(one, two, mark), what="traffic after the cut")  # type: ignore[misc]
        assert len({origin.path for origin, _ in two.inbound}) >= 3, "each connection has its own path"
        assert {origin.device for origin, _ in two.inbound} == {ALICE.id}
        one.link.close(REMOTE)
        await proxy.stop()

    probes(test)


def send_seen(one: Probe, two: Probe, mark: bytes) -> bool:
    one.link.send(REMOTE, [b"h", mark])
    return mark in two.bodies


def test_dialling_again_replaces_the_connection() -> None:
    async def test(one: Probe, two: Probe) -> None:
        third = Probe()
        await one.connect(two)
        one.ready.clear()
        await one.connect(third)
        one.link.send(REMOTE, [b"to the third"])
        await until(lambda: third.inbound, what="the message")
        assert not two.inbound
        third.link.shutdown()

    probes(test)


# --- trouble ---


def test_the_last_words_before_a_connection_is_closed_arrive() -> None:
    async def test(one: Probe, two: Probe) -> None:
        await two.connect(one)
        last = 0
        while two.link.send(REMOTE, [b"h", last.to_bytes(4, "big") + bytes(60_000)]) and last < 40:
            last += 1
        assert two.link.send(REMOTE, [b"h", b"goodbye"])
        two.link.close(REMOTE)
        await until(lambda: one.bodies[-1:] == [b"goodbye"], what="the last words")

    probes(test)


def test_a_wrong_key_a_dead_port_and_a_revocation_are_told_apart() -> None:
    async def test(one: Probe, two: Probe) -> None:
        wrong, dead, revoked = b"wrong key", b"dead port", b"revoked"
        judge = Probe()
        judge.verdicts[ALICE.curve_public] = REVOKED
        one.link.dial(wrong, two.link.endpoints[0], BOB.curve_public)
        one.link.dial(dead, f"tcp://127.0.0.1:{unused_port()}", ALICE.curve_public)
        one.dial(judge, revoked)
        assert [one.link.trouble(store) for store in (wrong, dead, revoked, b"unknown")] == [None] * 4
        await until(lambda: all(map(one.link.trouble, (wrong, dead, revoked))), what="all three troubles")
        assert "another device" in str(one.link.trouble(wrong))
        assert "nothing answers" in str(one.link.trouble(dead))
        assert "revoked" in str(one.link.trouble(revoked))
        judge.verdicts[ALICE.curve_public] = Admission.member(ALICE.id)
        await one.connect(judge, revoked)
        one.link.dial(wrong, two.link.endpoints[0], ALICE.curve_public)
        assert one.link.trouble(wrong), "dialling again is no success"
        await until(lambda: wrong in one.ready, what="the right key")
        assert one.link.trouble(wrong) is None is one.link.trouble(revoked)
        judge.link.shutdown()

    probes(test)


def test_a_stranger_that_is_admitted_later_needs_no_new_socket() -> None:
    async def test(one: Probe, two: Probe) -> None:
        del two.verdicts[ALICE.curve_public]
        one.dial(two)
        await until(lambda: one.link.trouble(REMOTE), what="the trouble")
        assert "does not know this device" in str(one.link.trouble(REMOTE))
        two.verdicts[ALICE.curve_public] = Admission.member(ALICE.id)
        await until(lambda: one.ready, what="the connection after the admission")

    probes(test)


def test_shutdown_is_quick_with_everything_half_open_and_may_be_repeated() -> None:
    async def test(one: Probe, two: Probe) -> None:
        silent = socket.socket()
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        targets = [
            f"tcp://127.0.0.1:{silent.getsockname()[1]}",
            f"tcp://127.0.0.1:{unused_port()}",
            "tcp://192.0.2.9:9",
        ]
        for number, endpoint in enumerate([*targets, two.link.endpoints[0]]):
            one.link.dial(b"%d" % number, endpoint, ALICE.curve_public)
        await until(lambda: one.ready, what="the one that works")
        await until(lambda: one.link.trouble(b"1"), what="the monitors are there")
        one.link.send(b"3", [b"h", bytes(500_000)])
        before = time.monotonic()
        one.link.shutdown()
        one.link.shutdown()
        assert time.monotonic() - before < 1
        assert not one.link.send(b"3", [b"x"])
        assert not one.link.answer(b"path", [b"x"])
        assert one.link.endpoints == ()
        one.link.pause()
        one.link.resume()
        silent.close()

    probes(test)


def test_a_callback_may_shut_the_link_down() -> None:
    async def test(one: Probe, two: Probe) -> None:
        two.on_inbound = lambda _origin, _parts: two.link.shutdown()
        await one.connect(two)
        one.link.send(REMOTE, [b"one"])
        one.link.send(REMOTE, [b"two"])
        await until(lambda: two.inbound, what="the message")
        await until(lambda: not one.link.send(REMOTE, [b"x"]), what="the end of the connection")
        assert len(two.inbound) == 1

    probes(test)


# --- endpoints, errors and limits ---


def test_endpoints_begin_with_the_loopback_and_can_all_be_dialled() -> None:
    async def test() -> None:
        everywhere, one = Probe(bind="tcp://*:*"), Probe()
        endpoints = everywhere.link.endpoints
        assert endpoints[0].startswith("tcp://127.0.0.1:")
        assert not any("fe80" in endpoint or "[::1]" in endpoint for endpoint in endpoints)
        for endpoint in endpoints:
            one.link.dial(endpoint.encode(), endpoint, ALICE.curve_public)
        await until(lambda: len(one.ready) == len(endpoints), what=f"all of {endpoints}")
        everywhere.link.shutdown()
        one.link.shutdown()

    run(test)


def test_where_the_system_does_not_tell_its_addresses_the_last_ones_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> frozenset[tuple[str, str]]:
        raise OSError(24, "Too many open files")

    async def test() -> None:
        monkeypatch.setattr("zmesh.discovery.interfaces.addresses", fail)
        link = Probe(bind="tcp://*:*").link
        port = link.endpoints[0].rpartition(":")[2]
        assert (link.endpoints, link.blind) == ((f"tcp://127.0.0.1:{port}",), "Too many open files")
        here = frozenset({("eth0", "192.0.2.7")})
        monkeypatch.setattr("zmesh.discovery.interfaces.addresses", lambda: here)
        assert (link.endpoints[1], link.blind) == (f"tcp://192.0.2.7:{port}", None)
        monkeypatch.setattr("zmesh.discovery.interfaces.addresses", fail)
        assert (link.endpoints[1], link.blind) == (f"tcp://192.0.2.7:{port}", "Too many open files")
        link.shutdown()

    run(test)


def test_a_port_in_use_is_named() -> None:
    async def test(one: Probe, _: Probe) -> None:
        with pytest.raises(TransportError, match=f"cannot listen at {one.link.endpoints[0]}.*another port"):
            Probe(bind=one.link.endpoints[0])

    probes(test)


def test_a_loop_that_cannot_watch_sockets_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError

    async def test() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
        with pytest.raises(TransportError, match="SelectorEventLoop"):
            Probe()

    run(test)


def test_what_cannot_be_dialled_is_refused() -> None:
    async def test(one: Probe, _: Probe) -> None:
        for endpoint in ("tcp://localhost:1", "ipc:///tmp/x", "tcp://127.0.0.1:0", "tcp://127.0.0.1:*"):
            with pytest.raises(TransportError):
                one.link.dial(REMOTE, endpoint, ALICE.curve_public)
        with pytest.raises(TransportError, match="32 bytes, not 5"):
            one.link.dial(REMOTE, "tcp://127.0.0.1:1", b"short")
        one.link.shutdown()
        with pytest.raises(TransportError, match="not open"):
            one.link.dial(REMOTE, "tcp://127.0.0.1:1", ALICE.curve_public)

    probes(test)


def test_a_dial_is_refused_before_the_descriptors_run_out() -> None:
    async def test(one: Probe, two: Probe) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + descriptors.SPARE // 2, hard))
            with pytest.raises(TransportError, match="no file descriptors left"):
                one.dial(two)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await one.connect(two)

    probes(test)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
