"""The ladder: one merged picture from several sources, told about only when it changes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests.stores import store_of
from zmesh.discovery import ladder
from zmesh.discovery.ladder import Discovery
from zmesh.discovery.sighting import Sighting
from zmesh.protocol.bounds import MAX_ENDPOINTS, MAX_STORES

OWN = Sighting(store_of("a" * 32, 0), "own", "a" * 32, ("tcp://127.0.0.1:1",), "own")


class Fake:
    """A source that says what the test tells it to."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.trouble: str | None = "broken" if broken else None
        self.own: list[Sighting] = []
        self.stopped = 0
        self.say: Callable[[Sighting], None] = lambda _: None

    async def start(self, own: Sighting, found: Callable[[Sighting], None]) -> None:
        self._fail()
        self.own.append(own)
        self.say = found

    async def update(self, own: Sighting) -> None:
        self._fail()
        self.own.append(own)

    async def stop(self) -> None:
        self.stopped += 1
        self._fail()

    def _fail(self) -> None:
        if self.broken:
            raise RuntimeError("broken")


def sighting(source: str, *ports: int, store: int = 2, name: str = "peer") -> Sighting:
    endpoints = tuple(f"tcp://192.0.2.1:{port}" for port in ports)
    return Sighting(store_of("a" * 32, store), name, "a" * 32, endpoints, source)


def ports(found: Sighting) -> list[int]:
    return [int(endpoint.rpartition(":")[2]) for endpoint in found.endpoints]


def run(sources: list[Fake], test: Callable[[Discovery, list[Sighting]], Awaitable[None]]) -> None:
    async def body() -> None:
        seen: list[Sighting] = []
        discovery = Discovery(sources, seen.append)
        await discovery.start(OWN)
        await test(discovery, seen)
        await discovery.stop()

    asyncio.run(body())


def test_what_several_sources_say_is_merged_latest_first() -> None:
    one, two = Fake(), Fake()

    async def test(discovery: Discovery, seen: list[Sighting]) -> None:
        one.say(sighting("rendezvous", 1, 2))
        two.say(sighting("mdns", 2, 3))
        assert [ports(found) for found in seen] == [[1, 2], [2, 3, 1]]
        assert seen[-1].source == "mdns+rendezvous"
        one.say(sighting("rendezvous", 9))
        assert ports(seen[-1]) == [9, 1, 2, 3]
        assert discovery.known() == (seen[-1],)

    run([one, two], test)


def test_only_a_change_is_told() -> None:
    one = Fake()

    async def test(_: Discovery, seen: list[Sighting]) -> None:
        for _repetition in range(3):
            one.say(sighting("mdns", 1))
        assert len(seen) == 1
        one.say(sighting("mdns", 1, name="renamed"))
        assert [found.name for found in seen] == ["peer", "renamed"]
        one.say(sighting("mdns", 1, store=3))
        assert len(seen) == 3

    run([one], test)


def test_the_own_store_is_not_news() -> None:
    one = Fake()

    async def test(_: Discovery, seen: list[Sighting]) -> None:
        one.say(replace(OWN, source="mdns"))
        assert not seen

    run([one], test)


def test_the_own_store_elsewhere_is_a_hint_of_a_copy() -> None:
    async def body() -> None:
        one, hints = Fake(), list[Sighting]()
        discovery = Discovery([one], lambda _: None, hints.append)
        await discovery.start(OWN)
        one.say(replace(OWN, source="mdns"))
        assert not hints
        one.say(replace(OWN, source="mdns", endpoints=(*OWN.endpoints, "tcp://192.0.2.9:1")))
        await discovery.stop()
        one.say(replace(OWN, source="mdns", endpoints=("tcp://192.0.2.10:1",)))
        assert [hint.endpoints for hint in hints] == [("tcp://192.0.2.9:1",)]
        assert not discovery.known()

    asyncio.run(body())


def test_lies_in_one_source_do_not_push_out_what_another_knows() -> None:
    one, two = Fake(), Fake()

    async def test(_: Discovery, seen: list[Sighting]) -> None:
        one.say(sighting("rendezvous", 1, 2))
        for base in range(100, 2000, MAX_ENDPOINTS):
            two.say(sighting("mdns", *range(base, base + MAX_ENDPOINTS)))
        assert len(seen[-1].endpoints) == MAX_ENDPOINTS
        assert {1, 2} <= set(ports(seen[-1]))

    run([one, two], test)


def test_a_broken_source_keeps_no_other_from_working(caplog: pytest.LogCaptureFixture) -> None:
    broken, good = Fake(broken=True), Fake()

    async def test(discovery: Discovery, seen: list[Sighting]) -> None:
        assert discovery.troubles == ("broken",)
        good.say(sighting("rendezvous", 1))
        assert seen
        moved = replace(OWN, endpoints=("tcp://127.0.0.1:2",))
        await discovery.update(moved)
        assert good.own == [OWN, moved]

    run([broken, good], test)
    assert (broken.stopped, good.stopped) == (1, 1)
    for text in ("failed to start", "did not take the new address", "failed to stop"):
        assert text in caplog.text


def test_a_reader_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    one, seen = Fake(), []

    def fail(found: Sighting) -> None:
        seen.append(found)
        raise RuntimeError("no")

    async def body() -> None:
        discovery = Discovery([one], fail)
        await discovery.start(OWN)
        one.say(sighting("mdns", 1))
        one.say(sighting("mdns", 2))
        await discovery.stop()
        one.say(sighting("mdns", 3))

    asyncio.run(body())
    assert len(seen) == 2
    assert "could not be used" in caplog.text


def test_the_number_of_stores_is_bounded_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ladder, "MAX_PEERS", 3)
    one = Fake()

    async def test(discovery: Discovery, seen: list[Sighting]) -> None:
        for store in range(10, 20):
            one.say(sighting("mdns", 1, store=store))
        assert len(discovery.known()) == len(seen) == 3
        one.say(sighting("mdns", 2, store=10))
        assert len(seen) == 4

    run([one], test)
    assert caplog.text.count("more than 3 peers") == 1


def test_what_is_announced_in_one_devices_name_leaves_places_for_others() -> None:
    source = Fake()

    async def test(_: Discovery, seen: list[Sighting]) -> None:
        for number in range(MAX_STORES + 10):
            source.say(Sighting(store_of("z" * 32, number), "x", "z" * 32, ("tcp://192.0.2.1:1",), "mdns"))
        assert len(seen) == MAX_STORES
        source.say(Sighting(store_of("y" * 32, 1), "y", "y" * 32, ("tcp://192.0.2.2:1",), "mdns"))
        assert seen[-1].name == "y"

    run([source], test)


def test_the_door_is_the_one_said_last_by_who_names_one() -> None:
    one, two = Fake(), Fake()

    async def test(_: Discovery, seen: list[Sighting]) -> None:
        one.say(replace(sighting("rendezvous", 1), door=7421))
        two.say(sighting("mdns", 2))
        assert seen[-1].door == 7421
        two.say(replace(sighting("mdns", 2), door=7500))
        assert seen[-1].door == 7500

    run([one, two], test)


def test_what_is_known_is_told_again_when_asked_for() -> None:
    one = Fake()

    async def test(discovery: Discovery, seen: list[Sighting]) -> None:
        one.say(sighting("mdns", 1))
        one.say(sighting("mdns", 1, store=3))
        discovery.repeat()
        assert seen == seen[:2] * 2
        await discovery.stop()
        discovery.repeat()
        assert len(seen) == 4

    run([one], test)


def test_sources_come_and_go_while_it_runs() -> None:
    kept, gone, new = Fake(), Fake(), Fake()

    async def test(discovery: Discovery, seen: list[Sighting]) -> None:
        gone.say(sighting("gone", 1))
        gone.trouble = "gone"
        await discovery.change([new, kept])
        assert (kept.own, kept.stopped) == ([OWN], 0)
        assert (gone.own, gone.stopped) == ([OWN], 1)
        assert (new.own, new.stopped) == ([OWN], 0)
        assert discovery.troubles == ()
        new.say(sighting("new", 2))
        assert ports(seen[-1]) == [2, 1], "what was said stays a hint"
        await discovery.update(replace(OWN, name="other"))
        assert [len(source.own) for source in (kept, gone, new)] == [2, 1, 2]
        await discovery.stop()
        await discovery.change([gone])
        assert len(gone.own) == 1, "it was stopped: nothing is started any more"

    run([kept, gone], test)


def test_a_source_that_cannot_be_stopped_or_started_keeps_no_other_from_it() -> None:
    broken, good = Fake(broken=True), Fake()

    async def test(discovery: Discovery, _: list[Sighting]) -> None:
        await discovery.change([broken, good])
        assert good.own == [OWN]
        await discovery.change([good])
        assert broken.stopped == 1

    run([], test)
