"""Copies of a store that run: told apart from hints, forgeries and our own door."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from tests.stores import store_of
from tests.waiting import until
from zmesh.discovery import doubles as module
from zmesh.discovery.doubles import MAX_HOSTS, Doubles
from zmesh.discovery.meeting import Meeting
from zmesh.discovery.sighting import Sighting
from zmesh.errors import PairingError

DEVICE = "a" * 32
OWN, OTHER = store_of(DEVICE, 1), store_of(DEVICE, 2)


def hint(*hosts: str, door: int = 7421) -> Sighting:
    return Sighting(OWN, "ada", DEVICE, tuple(f"tcp://{host}:7420" for host in hosts), "mdns", door)


class Doors:
    """Doors at addresses, and who has been visited."""

    def __init__(self) -> None:
        self.at: dict[str, Meeting | Exception] = {}
        self.visited: list[tuple[str, int]] = []

    async def visit(self, host: str, door: int) -> Meeting:
        self.visited.append((host, door))
        found = self.at.get(host, PairingError("nobody answers"))
        if isinstance(found, Exception):
            raise found
        return found


def meeting(store: bytes = OWN, *, ourselves: bool = False) -> Meeting:
    return Meeting(store, DEVICE, "ada", 0.0, "", "", ourselves)


def run(test: Callable[[Doors, Doubles], Awaitable[None]]) -> None:
    async def body() -> None:
        doors = Doors()
        doubles = Doubles(doors.visit, lambda: OWN)
        async with asyncio.timeout(20):
            await test(doors, doubles)
        await doubles.close()
        doubles.hinted(hint("192.0.2.1"))
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"

    asyncio.run(body())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks every few milliseconds."""
    monkeypatch.setattr(module, "PAUSE", 0.005)


@pytest.mark.usefixtures("quick")
def test_a_copy_is_told_once_and_for_as_long_as_it_is_there(caplog: pytest.LogCaptureFixture) -> None:
    async def test(doors: Doors, doubles: Doubles) -> None:
        doors.at["192.0.2.2"] = meeting()
        doubles.hinted(hint("192.0.2.1", "192.0.2.2"))
        await until(lambda: len(doors.visited) > 4)
        assert doubles.trouble is not None
        assert "192.0.2.2" in doubles.trouble
        assert "device.key" in doubles.trouble
        assert doors.visited[:3] == [("192.0.2.1", 7421), ("192.0.2.2", 7421), ("192.0.2.2", 7421)]
        del doors.at["192.0.2.2"]
        await until(lambda: doubles.trouble is None)

    with caplog.at_level(logging.WARNING):
        run(test)
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "found",
    [meeting(OTHER), meeting(ourselves=True), PairingError("no member"), OSError(), ValueError(), ZeroDivisionError()],
    ids=["another store", "our own door", "no member", "no network", "no address", "an error"],
)
def test_what_is_no_copy_is_not_told_and_the_next_hint_is_heard(found: Meeting | Exception) -> None:
    async def test(doors: Doors, doubles: Doubles) -> None:
        doors.at["192.0.2.1"] = found
        doubles.hinted(hint("192.0.2.1", door=0))
        assert doors.visited == []
        doubles.hinted(hint("192.0.2.1"))
        await until(lambda: doors.visited)
        await asyncio.sleep(0)
        assert doubles.trouble is None
        doors.at["192.0.2.1"] = meeting()
        while doubles.trouble is None:
            doubles.hinted(hint("192.0.2.1"))
            await asyncio.sleep(0)

    run(test)


def test_a_flood_of_hints_is_one_look() -> None:
    async def test(doors: Doors, doubles: Doubles) -> None:
        for number in range(100):
            doubles.hinted(hint(*[f"198.51.100.{each}" for each in range(number, number + 10)]))
        await until(lambda: len(doors.visited) == MAX_HOSTS)
        await asyncio.sleep(0)
        doubles.hinted(hint("192.0.2.9"))
        assert len(doors.visited) == MAX_HOSTS

    run(test)
