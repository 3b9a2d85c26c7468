"""The examination against real doors: what their clocks say, what they refuse, and that it leaves nothing behind."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.stores import store_of
from tests.trust.support import bring_in, exchange, open_store
from zmesh.discovery import examination, meeting
from zmesh.discovery.address_book import AddressBook
from zmesh.discovery.diagnosis import Finding, diagnose
from zmesh.discovery.examination import Examination
from zmesh.discovery.meeting import Meetings
from zmesh.discovery.observation import Observed, Reach
from zmesh.discovery.sighting import Sighting
from zmesh.discovery.visits import Named
from zmesh.errors import TrustError
from zmesh.trust.door import Door
from zmesh.trust.trust_store import TrustStore

HOST = "127.0.0.1"
HOUR = 3600


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[TrustStore, TrustStore]]:
    """Ada, who founded, and bob."""
    with open_store(tmp_path, 0) as ada, open_store(tmp_path, 1) as bob:
        ada.found("ada")
        bring_in(ada, bob)
        exchange(ada, bob)
        yield ada, bob


@contextlib.asynccontextmanager
async def at_home(store: TrustStore) -> AsyncIterator[tuple[Named, AddressBook]]:
    """Let a member be at home: a listener in place of its peer, and its door at the next port."""
    book = AddressBook(store, lambda *_: None)
    me = store.me()
    assert me is not None
    door = Door(store, meet=Meetings(store, book, lambda: None).receive)
    with await two_ports(door) as peer:
        port = peer.getsockname()[1]
        own = Sighting(store_of(me.device, 1), me.name, me.device, (f"tcp://{HOST}:{port}",), "own", port + 1)
        await book.start(own, lambda _: None)
        try:
            yield Named(HOST, port), book
        finally:
            await door.close()


async def two_ports(door: Door) -> socket.socket:
    """Listen at a port of which the next one is free, too, and open the door there."""
    for _ in range(20):
        peer = socket.create_server((HOST, 0))
        with contextlib.suppress(TrustError):
            await door.open(HOST, peer.getsockname()[1] + 1)
            return peer
        peer.close()
    raise AssertionError("no two ports side by side are free")


def examine(work: Callable[[], Coroutine[Any, Any, Observed]]) -> tuple[Observed, dict[str, Finding]]:
    """Run an examination; return what it saw, and the findings by check."""
    observed = asyncio.run(asyncio.wait_for(work(), 30))
    return observed, {finding.check: finding for finding in diagnose(observed)}


def look(stores: tuple[TrustStore, TrustStore], tmp_path: Path) -> tuple[Observed, dict[str, Finding]]:
    """Let bob look for ada."""

    async def work() -> Observed:
        async with at_home(stores[0]) as (named, book):
            observed = await Examination(stores[1], tmp_path / "rendezvous", [named]).run()
            assert [record.sighting.name for record in book.records()][1:] == [], "bob's examination is no peer"
            return observed

    return examine(work)


def test_a_member_at_a_named_address(stores: tuple[TrustStore, TrustStore], tmp_path: Path) -> None:
    observed, found = look(stores, tmp_path)
    (ada,) = observed.members
    (spot,) = ada.spots
    assert (ada.name, spot.peer, spot.at_door) == ("ada", Reach.REACHED, Reach.REACHED)
    assert spot.visit is not None
    assert (spot.visit.back, spot.visit.seen, spot.visit.trouble) == ("reached", HOST, "")
    assert found["reached"].member == "ada"
    assert found["clock"].level == "ok"
    assert found["member"].what == "this device is bob, in a mesh with ada"


@pytest.mark.parametrize(("ahead", "said"), [(HOUR, "3600 seconds ahead of"), (-HOUR, "3600 seconds behind")])
def test_a_clock_that_is_wrong(
    stores: tuple[TrustStore, TrustStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int, said: str
) -> None:
    shifted = SimpleNamespace(time=time.time, time_ns=lambda: time.time_ns() + ahead * 10**9)
    monkeypatch.setattr(meeting, "time", shifted)  # `time_ns` is asked at the door, `time` by who knocks
    _, found = look(stores, tmp_path)
    assert found["clock"].level == "warning"
    assert said in found["clock"].what or said.replace("3600", "3599") in found["clock"].what


def test_who_was_revoked_and_does_not_know_it(stores: tuple[TrustStore, TrustStore], tmp_path: Path) -> None:
    ada, bob = stores
    ada.say(ada.revocation(bob.device.public, reason="lost"))
    _, found = look(stores, tmp_path)
    assert found["revoked"].level == "trouble"
    assert "says that this device was revoked" in found["revoked"].what


def test_who_was_revoked_and_knows_it(stores: tuple[TrustStore, TrustStore], tmp_path: Path) -> None:
    ada, bob = stores
    ada.say(ada.revocation(bob.device.public, reason="lost"))
    exchange(ada, bob)
    observed, found = look(stores, tmp_path)
    assert observed.standing is not None
    assert (observed.standing.revoked, observed.standing.by, observed.standing.reason) == (True, "ada", "lost")
    assert "by ada: lost" in found["revoked"].what


def test_a_stranger_at_the_address(stores: tuple[TrustStore, TrustStore], tmp_path: Path) -> None:
    with open_store(tmp_path, 2) as other:
        other.found("cid")
        _, found = look((other, stores[1]), tmp_path)
    assert found["stranger"].level == "trouble"


def test_a_name_that_is_none_and_nobody_to_look_for(tmp_path: Path) -> None:
    async def work() -> Observed:
        return await Examination(None, tmp_path / "rendezvous", [Named("a" * 64, 7420)]).run()

    observed, found = examine(work)
    assert observed.standing is None
    assert found["no-such-name"].level == "trouble"


def test_what_is_not_over_in_time_is_counted(
    stores: tuple[TrustStore, TrustStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(host: str, port: int) -> Reach:  # noqa: ARG001 - as `dial`
        await asyncio.Event().wait()
        return Reach.REACHED

    monkeypatch.setattr(examination, "dial", never)
    monkeypatch.setattr(examination, "LONGEST", 0.3)

    async def work() -> Observed:
        return await Examination(stores[1], tmp_path / "rendezvous", [Named(HOST, 7420)]).run()

    observed, found = examine(work)
    assert observed.unfinished >= 1
    assert found["unfinished"].level == "warning"


def test_addresses_beyond_the_bound_are_counted(
    stores: tuple[TrustStore, TrustStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "MAX_ADDRESSES", 1)

    async def work() -> Observed:
        names = [Named(HOST, port) for port in (1, 2, 3)]
        return await Examination(stores[1], tmp_path / "rendezvous", names).run()

    observed, _ = examine(work)
    assert observed.unfinished == 2
