"""Where a peer is: a door that opens where it should or says so, and addresses that come and go."""

import asyncio
import gc
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stores import store_of
from tests.trust.support import DEVICES, open_store
from tests.waiting import until
from zmesh.discovery.ladder import Discovery
from zmesh.discovery.sighting import Sighting
from zmesh.peer import surroundings as module
from zmesh.peer.surroundings import Surroundings
from zmesh.trust.door import Door
from zmesh.trust.trust_store import TrustStore

LOOPBACK = "tcp://127.0.0.1:7000"
LAN, VPN = "tcp://192.0.2.1:7000", "tcp://198.51.100.1:7000"
STORE = store_of(DEVICES[0].id, 1)


class Link:
    """Listens at what the test says."""

    def __init__(self) -> None:
        self.now: tuple[str, ...] = (LOOPBACK, LAN)
        self.error: Exception | None = None
        self.blind: str | None = None
        self.looks = 0

    @property
    def endpoints(self) -> tuple[str, ...]:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self.now


class Source:
    """A source that keeps what it is told."""

    trouble: str | None = None

    def __init__(self) -> None:
        self.told: list[Sighting] = []
        self.stopped = 0

    async def start(self, own: Sighting, _: Callable[[Sighting], None]) -> None:
        self.told.append(own)

    async def update(self, own: Sighting) -> None:
        self.told.append(own)

    async def stop(self) -> None:
        self.stopped += 1


class Place:
    """A peer's surroundings, with a real door."""

    def __init__(self, store: TrustStore, bind: str = "tcp://*:*") -> None:
        self.link, self.source, self.door = Link(), Source(), Door(store)
        self.moves: list[tuple[str, ...]] = []
        if bind.startswith("tcp://127"):
            self.link.now = (LOOPBACK,)
        own = Sighting(STORE, "ada", DEVICES[0].id, self.link.now, "own")
        self.around = Surroundings(
            own,
            bind=bind,
            link=self.link,  # type: ignore[arg-type]
            door=self.door,
            discovery=Discovery([self.source], lambda _: None),
            moved=self.moves.append,
        )

    @property
    def last(self) -> Sighting:
        return self.source.told[-1]

    async def look(self) -> None:
        """Wait until it has looked at the interfaces, from beginning to end."""
        looks = self.link.looks
        await until(lambda: self.link.looks >= looks + 2, what="a look")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TrustStore]:
    """Of a device in no mesh."""
    with open_store(tmp_path, 0) as opened:
        yield opened


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks every few milliseconds."""
    monkeypatch.setattr(module, "LOOK_EVERY", 0.005)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"

    asyncio.run(limited())
    gc.collect()  # a socket that was left behind says so here


def free_port(host: str = "127.0.0.1") -> int:
    """A port whose next one is free too."""
    while True:
        with socket.create_server((host, 0)) as one:
            port: int = one.getsockname()[1]
            try:
                socket.create_server((host, port + 1)).close()
            except OSError:
                continue
            return port


def test_the_door_is_at_the_next_port_of_the_same_address(store: TrustStore) -> None:
    port = free_port()

    async def test() -> None:
        place = Place(store, f"tcp://127.0.0.1:{port}")
        await place.around.start()
        assert place.around.own == place.last
        assert (place.last.door, place.door.port) == (port + 1, port + 1)
        (listening,) = place.door._server.sockets  # type: ignore[union-attr]  # noqa: SLF001
        assert listening.getsockname()[0] == "127.0.0.1"
        await place.around.stop()
        assert place.source.stopped == 1
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port + 1), 5).close()

    run(test)


@pytest.mark.parametrize("bind", ["tcp://*:*", "tcp://0.0.0.0:*", "tcp://[::]:*", "tcp://*:65535"])
def test_where_no_port_is_named_any_will_do(store: TrustStore, bind: str) -> None:
    async def test() -> None:
        place = Place(store, bind)
        await place.around.start()
        assert place.last.door == place.door.port > 0
        assert place.around.trouble is None
        await place.around.stop()

    run(test)


def test_a_door_that_is_taken_is_open_elsewhere_until_it_is_free(
    store: TrustStore, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()

    async def test() -> None:
        place = Place(store, f"tcp://127.0.0.1:{port}")
        with socket.create_server(("127.0.0.1", port + 1)):
            await place.around.start()
            elsewhere = place.last.door
            assert elsewhere not in (0, port + 1)
            assert f"port {port + 1}" in str(place.around.trouble)
            for _ in range(5):
                await place.look()
        await until(lambda: place.last.door == port + 1, what="the door at its place")
        assert place.around.trouble is None
        await place.around.stop()
        assert place.moves == [], "the addresses are what they were"

    run(test)
    assert caplog.text.count("the door: ") == 1, "said once, not every second"


def test_a_door_that_opens_nowhere_keeps_nobody_from_running(
    store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("zmesh.trust.door._listen", full)

    async def test() -> None:
        place = Place(store)
        await place.around.start()
        assert place.last.door == 0
        assert "Too many open files" in str(place.around.trouble)
        await place.look()
        await place.around.stop()

    run(test)


def test_a_change_of_addresses_is_told_to_all(store: TrustStore) -> None:
    async def test() -> None:
        place = Place(store)
        await place.around.start()
        door = place.last.door
        place.link.now = (LOOPBACK, VPN)
        await until(lambda: len(place.source.told) == 2)
        assert place.moves == [(VPN,)]
        assert (place.last.endpoints, place.last.door) == ((LOOPBACK, VPN), door)
        assert place.around.own == place.last
        await place.look()
        assert len(place.moves) == 1
        await place.around.stop()
        place.link.now = (LOOPBACK, LAN)
        looks = place.link.looks
        await asyncio.sleep(0)
        assert place.link.looks == looks

    run(test)


def test_without_any_interface_the_loopback_is_what_there_is(store: TrustStore) -> None:
    async def test() -> None:
        place = Place(store)
        await place.around.start()
        place.link.now = (LOOPBACK,)
        await until(lambda: place.moves == [(LOOPBACK,)])
        place.link.now = (LOOPBACK, LAN)
        await until(lambda: place.moves == [(LOOPBACK,), (LAN,)])
        await place.around.stop()

    run(test)


def test_while_it_is_bound_anew_nothing_has_changed(store: TrustStore, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        place = Place(store)
        await place.around.start()
        place.link.now = ()
        await place.look()
        assert len(place.source.told) == 1
        assert "cannot be followed" not in caplog.text
        place.link.now = (LOOPBACK, VPN)
        await until(lambda: place.moves == [(VPN,)])
        await place.around.stop()

    run(test)


@pytest.mark.parametrize("error", [OSError(97, "Address family not supported"), RuntimeError("ctypes")])
def test_interfaces_that_cannot_be_listed_are_said_once_and_looked_at_again(
    store: TrustStore, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def test() -> None:
        place = Place(store)
        place.link.error = error
        await place.around.start()
        assert place.last.endpoints == (LOOPBACK, LAN), "as they were when it was made"
        for _ in range(5):
            await place.look()
        assert caplog.text.count("cannot be followed") == 1
        place.link.error, place.link.now = None, (LOOPBACK, VPN)
        await until(lambda: place.moves == [(VPN,)])
        place.link.error = error
        await place.look()
        assert caplog.text.count("cannot be followed") == 2
        await place.around.stop()

    run(test)


def test_addresses_that_cannot_be_read_are_a_trouble_until_they_can(
    store: TrustStore, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        place = Place(store)
        place.link.blind = "Too many open files"
        await place.around.start()
        assert any("cannot be read (Too many open files)" in trouble for trouble in place.around.troubles)
        await place.look()
        assert caplog.text.count("cannot be followed") == 1
        place.link.blind, place.link.now = None, (LOOPBACK, VPN)
        await until(lambda: place.moves == [(VPN,)])
        assert place.around.troubles == ()
        await place.around.stop()

    run(test)


def test_it_may_be_stopped_before_it_was_started_and_twice(store: TrustStore) -> None:
    async def test() -> None:
        place = Place(store)
        await place.around.stop()
        await place.around.start()
        await place.around.stop()
        await place.around.stop()
        assert place.door.guests == 0

    run(test)
