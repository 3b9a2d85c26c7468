"""A race of connections over real sockets: what hangs is overtaken, what is slow arrives, and a race ends."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest
import zmq

from tests.peer.test_zmq_link import ALICE, REMOTE, Probe, Proxy, run, unused_port
from tests.waiting import until
from zmesh.errors import TransportError
from zmesh.peer import race
from zmesh.peer.race import MAX_RIVALS, RIVALS, Places, Race
from zmesh.peer.zmq_dealer import Dealer


class Turnstile(Proxy):
    """A proxy that holds each connection until it is let through."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.doors: list[asyncio.Event] = []
        self.shut = 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.doors.append(door := asyncio.Event())
        await door.wait()
        if reader.at_eof():
            writer.close()
        else:
            await super()._accept(reader, writer)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        await super()._pump(source, sink)
        self.shut += 1

    async def stop(self) -> None:
        for door in self.doors:
            door.set()
        await super().stop()


def turnstile(test: Callable[[Probe, Probe, Turnstile, str], Awaitable[None]]) -> None:
    """Run a test with two links, and a turnstile before the second one."""

    async def body() -> None:
        one, two = Probe(), Probe()
        gate = Turnstile(two.link.endpoints[0])
        try:
            await test(one, two, gate, await gate.start())
        finally:
            one.link.shutdown()
            two.link.shutdown()
            await gate.stop()

    run(body)


def test_a_connection_that_hangs_is_overtaken_and_the_one_that_got_ready_is_kept() -> None:
    async def test(one: Probe, two: Probe, gate: Turnstile, endpoint: str) -> None:
        one.link.dial(REMOTE, endpoint, ALICE.curve_public)
        await until(lambda: len(gate.doors) == 3, what="the first and two rivals")
        gate.doors[1].set()
        gate.doors[2].set()
        await until(lambda: one.ready, what="a rival")
        one.link.send(REMOTE, [b"h", b"through"])
        await until(lambda: two.bodies == [b"through"], what="the message")
        await until(lambda: gate.shut == 2, what="the end of the other one, both ways")
        assert one.ready == [REMOTE]
        assert one.link.trouble(REMOTE) is None

    turnstile(test)


def test_a_slow_first_connection_is_not_given_up_for_later_ones() -> None:
    """Over a long way every one of them is slow: if later ones took its place, none would ever arrive."""

    async def test(one: Probe, two: Probe, gate: Turnstile, endpoint: str) -> None:
        one.link.dial(REMOTE, endpoint, ALICE.curve_public)
        await until(lambda: len(gate.doors) == 1 + RIVALS, what="all rivals")
        gate.doors[0].set()
        await until(lambda: one.ready, what="the first one")
        one.link.send(REMOTE, [b"h", b"through"])
        await until(lambda: two.bodies == [b"through"], what="the message")

    turnstile(test)


def test_who_is_ready_at_once_has_no_rivals() -> None:
    async def test(one: Probe, _: Probe, gate: Turnstile, endpoint: str) -> None:
        one.link.dial(REMOTE, endpoint, ALICE.curve_public)
        await until(lambda: gate.doors, what="the first one")
        gate.doors[0].set()
        await until(lambda: one.ready, what="the connection")
        one.link.dial(b"another store", f"tcp://127.0.0.1:{unused_port()}", ALICE.curve_public)
        await until(lambda: one.link.trouble(b"another store"), what="longer than any race lasts")
        assert len(gate.doors) == 1

    turnstile(test)


class Track:
    """Makes connections to where nobody answers, and counts them."""

    def __init__(self) -> None:
        self.silent = socket.socket()
        self.silent.bind(("127.0.0.1", 0))
        self.silent.listen()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.kinds: list[bool] = []
        self.full = False
        self.said: list[str] = []

    def make(self, ready: Callable[[Dealer], None], rival: bool) -> Dealer:  # noqa: FBT001 - see Make
        if self.full:
            raise TransportError("no file descriptors left")
        self.kinds.append(rival)
        endpoint = f"tcp://127.0.0.1:{self.silent.getsockname()[1]}"
        return Dealer(self.context.socket(zmq.DEALER), endpoint, on_ready=ready, on_answer=lambda _: None)

    def race(self, places: Places, patience: float) -> Race:
        made = Race(self.make, lambda: None, self.said.append, places)
        made.start(patience)
        return made

    @property
    def rivals(self) -> int:
        return sum(self.kinds)

    @property
    def watched(self) -> bool:
        """The first one was replaced."""
        return self.kinds.count(False) == 2


@pytest.fixture
def track(monkeypatch: pytest.MonkeyPatch) -> Iterator[Track]:
    """A track on which rivals follow each other quickly."""
    monkeypatch.setattr(race, "RIVAL_AFTER", 0.001)
    # A DEALER without IMMEDIATE is writable before it is connected: these must not be.
    monkeypatch.setattr(Dealer, "_turn", _nothing)
    made = Track()
    yield made
    made.silent.close()
    made.context.destroy(0)


def _nothing(_: Dealer) -> None:
    raise zmq.Again


def test_a_race_ends_with_the_first_connection_watched_and_all_places_free_again(track: Track) -> None:
    async def test() -> None:
        places = Places()
        made = track.race(places, 0.1)
        await until(lambda: track.watched, what="the end")
        assert track.rivals == RIVALS
        assert places.free == MAX_RIVALS - RIVALS
        made.close()
        assert places.free == MAX_RIVALS

    run(test)


def test_all_races_together_have_so_many_rivals_and_no_more(track: Track) -> None:
    async def test() -> None:
        places = Places()
        places.free = 2
        races = [track.race(places, 0.1) for _ in range(2)]
        await until(lambda: track.kinds.count(False) == 4, what="the end of both")
        assert track.rivals == 2
        for each in races:
            each.close()
        assert places.free == 2

    run(test)


def test_where_no_more_can_be_opened_the_first_one_goes_on(track: Track) -> None:
    async def test() -> None:
        made = track.race(Places(), 0.01)
        track.full = True
        first = made.leader
        await until(lambda: track.said, what="the reason why it is not watched")
        assert track.said == ["no file descriptors left"]
        assert made.leader is first
        assert not first.socket.closed
        made.close()

    run(test)


def test_after_its_time_a_race_is_run_by_one_that_is_watched(track: Track) -> None:
    async def test() -> None:
        made = track.race(Places(), 0)
        other = track.race(Places(), 0.05)
        await until(lambda: track.kinds.count(False) == 3, what="longer than a rival takes to set out")
        rivals = track.rivals
        made.close()
        other.close()
        assert 0 < rivals <= RIVALS, "of the other one only"

    run(test)
