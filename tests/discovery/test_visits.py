"""When doors are visited: named ones until they are linked, members that do not link; few at a time, none for ever."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stores import store_of
from tests.waiting import until
from zmesh.discovery import visits as module
from zmesh.discovery.meeting import Meeting
from zmesh.discovery.sighting import Sighting
from zmesh.discovery.visits import AT_ONCE, MAX_NAMED, Named, Visits, read_named
from zmesh.errors import DeviceKeyError, PairingError
from zmesh.protocol.bounds import MAX_PEERS

OWN = Sighting(store_of("a" * 32, 1), "own", "a" * 32, ("tcp://127.0.0.1:1",), "own")
THERE = store_of("b" * 32, 0)
STUDIO = Named("studio", 7420)


def sighting(store: bytes = THERE, *hosts: str, door: int = 7421, device: str = "b" * 32) -> Sighting:
    endpoints = tuple(f"tcp://{host}:7420" for host in hosts or ("192.0.2.1",))
    return Sighting(store, "there", device, endpoints, "mdns", door)


def number(at: int) -> bytes:
    return store_of("b" * 32, at + 1)


class Doors:
    """Doors that answer as the test says, and what was asked of them."""

    def __init__(self, *named: Named) -> None:
        self.asked: list[tuple[str, int, int]] = []
        self.linked: set[bytes] = set()
        self.inside = self.most = 0
        self.answer: Callable[[str], Coroutine[Any, Any, bytes]] = self.there
        self.visits = Visits(self.visit, self.linked.__contains__, named)

    async def visit(self, host: str, door: int, dial: int) -> Meeting:
        self.asked.append((host, door, dial))
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            return Meeting(await self.answer(host), "b" * 32, "there", 0.0, "", "")
        finally:
            self.inside -= 1

    async def there(self, _: str) -> bytes:
        return THERE

    async def nobody(self, host: str) -> bytes:
        raise PairingError(f"nobody answers at {host}")

    async def hanging(self, _: str) -> bytes:
        await asyncio.sleep(3600)
        raise AssertionError

    def hosts(self) -> list[str]:
        return [host for host, _, _ in self.asked]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"

    asyncio.run(limited())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds."""
    for name, seconds in (("FIRST", 0.01), ("MOST", 0.05), ("CHECK", 0.02), ("GRACE", 0.02)):
        monkeypatch.setattr(module, name, seconds)


# --- what people write ---


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("tcp://192.0.2.1:7000", "192.0.2.1", 7000),
        ("192.0.2.1:7000", "192.0.2.1", 7000),
        ("192.0.2.1", "192.0.2.1", 7420),
        (" studio.local/ ", "studio.local", 7420),
        ("tcp://studio:1", "studio", 1),
        ("[2001:db8::1]:7000", "2001:db8::1", 7000),
        ("[2001:db8::1]", "2001:db8::1", 7420),
        ("2001:db8::1", "2001:db8::1", 7420),
        ("tcp://[fe80::1%eth0]:65534", "fe80::1%eth0", 65534),
    ],
)
def test_an_address_is_read_in_any_of_its_forms(text: str, host: str, port: int) -> None:
    named = read_named(text)
    assert named == Named(host, port)
    assert read_named(str(named)) == named


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ":", ":80", "tcp://", "tcp://:80", "[]:80", "studio:", "studio:0", "studio:65535", "studio:99999",
        "studio:" + "9" * 5000, "studio:-1", "studio:+1", "studio:0x50", "studio:http", "http://studio", "two words",
        "st\u00fcdio", "studio\n", "a;b", "$(id)", "1:2:3", "[1:2:3]:80", "::1:7420:9:9:9:9:9:9:9", "192.0.2.1%eth0",
        "x" * 254, "fe80::1%" + "x" * 300, "udp://studio:1", None, 7, b"studio", ["studio"],
    ],
)  # fmt: skip
def test_nonsense_is_no_address(text: object) -> None:
    if text == "studio\n":  # what is around it does not count
        assert read_named(text) == Named("studio", 7420)
        return
    with pytest.raises(ValueError, match="no address of a peer") as refused:
        read_named(text)
    assert len(str(refused.value)) < 400


@given(st.text(max_size=40) | st.text(alphabet="[]:%./tcp0123456789af", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        named = read_named(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either is right
    else:
        assert named.host.isascii()
        assert 0 < named.port < 65535
        assert read_named(str(named)) == named


# --- named addresses ---


def test_a_named_address_is_visited_until_its_peer_is_linked_and_again_when_it_is_not() -> None:
    async def test() -> None:
        doors = Doors(STUDIO)
        await doors.visits.start(OWN, lambda _: None)
        await until(lambda: len(doors.asked) >= 3, what="three visits")
        assert set(doors.asked) == {("studio", 7421, 7420)}
        doors.linked.add(THERE)
        await until(lambda: doors.inside == 0)
        place = doors.visits._places[STUDIO]  # noqa: SLF001
        due = place.due
        await until(lambda: place.due > due, what="a look at the link")
        asked = len(doors.asked)
        due = place.due
        await until(lambda: place.due > due, what="another look")
        assert len(doors.asked) == asked, "linked: nobody is visited"
        doors.linked.clear()
        await until(lambda: len(doors.asked) > asked, what="a visit after the link")
        await doors.visits.stop()

    run(test)


def test_addresses_named_anew_take_the_place_of_those_before() -> None:
    tower = Named("tower", 7420)

    async def test() -> None:
        doors = Doors(STUDIO)
        doors.answer = doors.hanging
        await doors.visits.start(OWN, lambda _: None)
        await until(lambda: doors.inside == 1)
        doors.visits.name_anew([tower, tower])
        await until(lambda: "tower" in doors.hosts() and doors.inside == 1, what="the visit to the first has ended")
        assert list(doors.visits._places) == [tower]  # noqa: SLF001
        doors.visits.name_anew([])
        await until(lambda: doors.inside == 0)
        await doors.visits.stop()
        doors.visits.name_anew([STUDIO])
        assert doors.hosts() == ["studio", "tower"], "nobody is visited that has not started"

    run(test)


def test_an_address_that_turns_out_to_be_our_own_is_left_alone() -> None:
    async def test() -> None:
        doors = Doors(STUDIO)

        async def ourselves(_: str) -> bytes:
            return OWN.store

        doors.answer = ourselves
        doors.linked.add(OWN.store)  # as `Member` says
        await doors.visits.start(OWN, lambda _: None)
        place = None
        await until(lambda: doors.visits._places[STUDIO].store == OWN.store)  # noqa: SLF001
        place = doors.visits._places[STUDIO]  # noqa: SLF001
        due = place.due
        await until(lambda: place.due > due, what="a look at the link")
        assert len(doors.asked) == 1
        assert doors.visits.trouble is None
        await doors.visits.stop()

    run(test)


def test_trouble_names_who_does_not_answer_and_ends_when_it_does(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def test() -> None:
        doors = Doors(STUDIO, Named("2001:db8::1", 7000))
        doors.answer = doors.nobody
        await doors.visits.start(OWN, lambda _: None)
        doors.visits.name(Named("inviter", 7420))  # nobody has written that one down
        await until(lambda: doors.hosts().count("inviter") >= 3)
        assert doors.visits.trouble == (
            "tcp://studio:7420: nobody answers at studio; tcp://[2001:db8::1]:7000: nobody answers at 2001:db8::1"
        )
        doors.answer = doors.there
        await until(lambda: doors.visits.trouble is None)
        await doors.visits.stop()
        assert doors.visits.trouble is None

    run(test)
    assert caplog.text.count("nobody answers at studio") == 1, "said once, not at each visit"


@pytest.mark.parametrize(
    "error", [DeviceKeyError("x"), UnicodeDecodeError("utf-8", b"", 0, 1, "x"), KeyError("x"), OSError()]
)
def test_an_error_in_a_visit_ends_neither_it_nor_the_others(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        doors = Doors(STUDIO, Named("other", 7420))

        async def broken(host: str) -> bytes:
            if host == "studio":
                raise error
            return THERE

        doors.answer = broken
        await doors.visits.start(OWN, lambda _: None)
        await until(lambda: min(doors.hosts().count(host) for host in ("studio", "other")) >= 3)
        assert "tcp://studio:7420: " in str(doors.visits.trouble)
        await doors.visits.stop()

    run(test)
    assert "Task exception was never retrieved" not in caplog.text


def test_a_door_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)

    async def test() -> None:
        doors = Doors(STUDIO)
        doors.answer = doors.hanging
        await doors.visits.start(OWN, lambda _: None)
        await until(lambda: len(doors.asked) >= 2, what="another visit")
        assert "studio port 7421 is too slow" in str(doors.visits.trouble)
        await doors.visits.stop()

    run(test)


def test_before_the_start_and_after_the_end_nothing_is_kept_and_nothing_breaks() -> None:
    """A peer that looks for others in its directory only has no visits, and is told of its inviter all the same."""

    async def test() -> None:
        doors = Doors()

        async def poke() -> None:
            doors.visits.name(STUDIO)
            doors.visits.hasten()
            doors.visits.sighted(sighting())
            doors.visits.forget({"b" * 32})
            await doors.visits.update(OWN)

        await poke()
        await doors.visits.stop()
        await doors.visits.start(OWN, lambda _: None)
        await doors.visits.stop()
        await poke()
        await doors.visits.stop()
        assert doors.asked == []
        assert doors.visits._places == {}  # noqa: SLF001

    run(test)


def test_stopping_ends_the_visits_under_way() -> None:
    async def test() -> None:
        doors = Doors(STUDIO)
        doors.answer = doors.hanging
        await doors.visits.start(OWN, lambda _: None)
        await until(lambda: doors.inside == 1)
        await doors.visits.stop()
        assert doors.inside == 0

    run(test)


# --- members that were sighted ---


def test_a_member_that_does_not_link_is_visited_at_all_its_addresses() -> None:
    async def test() -> None:
        doors = Doors()
        doors.answer = doors.nobody
        await doors.visits.start(OWN, lambda _: None)
        doors.visits.sighted(sighting(THERE, "192.0.2.1", "192.0.2.2"))
        await until(lambda: len(doors.asked) >= 2)
        assert doors.asked[:2] == [("192.0.2.1", 7421, 0), ("192.0.2.2", 7421, 0)]
        assert doors.visits.trouble is None, "only named addresses are somebody's wish"
        doors.visits.sighted(sighting(THERE, "192.0.2.3", door=7500))
        await until(lambda: ("192.0.2.3", 7500, 0) in doors.asked, what="its new address")
        await doors.visits.stop()

    run(test)


def test_who_answers_at_one_address_is_not_looked_for_at_the_others() -> None:
    async def test() -> None:
        doors = Doors()
        await doors.visits.start(OWN, lambda _: None)
        doors.visits.sighted(sighting(THERE, "192.0.2.1", "192.0.2.2"))
        await until(lambda: len(doors.asked) >= 3)
        assert set(doors.hosts()) == {"192.0.2.1"}
        await doors.visits.stop()

    run(test)


def test_who_links_by_itself_or_has_no_door_is_not_visited() -> None:
    async def test() -> None:
        doors = Doors()
        doors.linked.add(THERE)
        await doors.visits.start(OWN, lambda _: None)
        doors.visits.sighted(sighting())
        doors.visits.sighted(sighting(number(1), door=0))
        place = doors.visits._places[THERE]  # noqa: SLF001
        due = place.due
        await until(lambda: place.due > due, what="a look at the link")
        assert doors.asked == []
        assert len(doors.visits._places) == 1  # noqa: SLF001
        await doors.visits.stop()

    run(test)


def test_another_store_behind_a_door_is_not_taken_for_the_one_that_was_sighted() -> None:
    """Else whoever answers for a member that is looked for would end the search by being linked itself."""

    async def test() -> None:
        doors = Doors()
        doors.linked.add(THERE)
        await doors.visits.start(OWN, lambda _: None)
        doors.visits.sighted(sighting(number(7)))
        await until(lambda: len(doors.asked) >= 3, what="more visits")
        await doors.visits.stop()

    run(test)


def test_who_is_no_member_any_more_is_not_visited_any_more() -> None:
    async def test() -> None:
        doors = Doors(STUDIO)
        doors.answer = doors.hanging
        await doors.visits.start(OWN, lambda _: None)
        doors.visits.sighted(sighting())
        other = store_of("c" * 32, 1)
        doors.visits.sighted(sighting(other, device="c" * 32))
        await until(lambda: doors.inside == 3)
        doors.visits.forget({"b" * 32})
        await until(lambda: doors.inside == 2, what="the end of that visit")
        assert set(doors.visits._places) == {STUDIO, other}  # noqa: SLF001
        await doors.visits.stop()

    run(test)


def test_a_change_hastens_who_is_not_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", 3600.0)
    monkeypatch.setattr(module, "MOST", 3600.0)

    async def test() -> None:
        doors = Doors(STUDIO)
        doors.answer = doors.nobody
        await doors.visits.start(OWN, lambda _: None)
        doors.visits.sighted(sighting())
        await until(lambda: len(doors.asked) == 2 and doors.inside == 0)
        doors.visits.hasten()
        await until(lambda: len(doors.asked) == 4 and doors.inside == 0)
        await doors.visits.update(OWN)
        await until(lambda: len(doors.asked) == 6)
        await doors.visits.stop()

    run(test)


# --- floods ---


def test_few_are_visited_at_a_time_and_everybody_has_a_turn() -> None:
    """Many whose doors hang, as after a network has gone, and one that came last and answers."""

    async def test() -> None:
        doors = Doors()

        async def slow(host: str) -> bytes:
            if host != "192.0.2.1":
                await asyncio.sleep(0.02)
            raise PairingError(host)

        doors.answer = slow
        await doors.visits.start(OWN, lambda _: None)
        for at in range(20 * AT_ONCE):
            doors.visits.sighted(sighting(number(at), "198.51.100.1"))
        await until(lambda: len(doors.asked) > AT_ONCE)
        doors.visits.sighted(sighting(THERE, "192.0.2.1"))
        await until(lambda: "192.0.2.1" in doors.hosts(), what="a turn for the last one")
        assert doors.most == AT_ONCE
        await doors.visits.stop()

    run(test)


def test_the_number_of_places_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PEERS", 5)

    async def test() -> None:
        doors = Doors()
        doors.answer = doors.hanging
        await doors.visits.start(OWN, lambda _: None)
        for at in range(MAX_NAMED + 20):
            doors.visits.sighted(sighting(number(at)))
        doors.visits.name(STUDIO)
        assert len(doors.visits._places) == MAX_NAMED + 5  # noqa: SLF001
        assert MAX_PEERS > 5
        await doors.visits.stop()

    run(test)
