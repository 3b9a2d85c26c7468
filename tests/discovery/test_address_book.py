"""Address books: who is linked hears of everybody; nothing old replaces what is newer, and nobody fills a book."""

import asyncio
import random
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import stores
from tests.trust.support import DEVICES, Scribe, bring_in, open_store, rows
from zmesh.discovery import address_book as module
from zmesh.discovery.address_book import AddressBook
from zmesh.discovery.address_record import MAX_VERSION, AddressRecord, pack_records, sign_record, unpack_records
from zmesh.discovery.sighting import Sighting
from zmesh.trust.trust_store import TrustStore

BIG = 1 << 17


def store_of(number: int, at: int = 0) -> bytes:
    return stores.store_of(DEVICES[number].id, at)


NUMBERS = {store_of(number): number for number in range(len(DEVICES))}
"""Whose a store is."""


def sighting(number: int, port: int = 7000, store: bytes | None = None) -> Sighting:
    device = DEVICES[number].id
    return Sighting(
        store or store_of(number), f"peer{number}", device, (f"tcp://192.0.2.{number + 1}:{port}",), "own", 7421
    )


def signed(number: int, mesh: bytes, version: int, store: bytes | None = None, port: int = 7000) -> AddressRecord:
    return sign_record(DEVICES[number], mesh, sighting(number, port, store), version)


def claimed(number: int, mesh: bytes, version: int, store: bytes) -> bytes:
    """A record of any store, properly signed, as `pack_records` would write it."""
    device = DEVICES[number]
    payload: bytes = msgpack.packb([1, mesh, device.public, version, store, "x", ["tcp://192.0.2.66:6666"], 0])
    message: bytes = msgpack.packb([[payload, device.sign(b"zmesh address 1 " + payload)]])
    return message


def packed(*records: AddressRecord) -> bytes:
    (message,) = pack_records(records, BIG)
    return message


class Book:
    """The book of one device, what it reports, and what it says."""

    def __init__(self, store: TrustStore, number: int, *, start: bool = True) -> None:
        self.number, self.store = number, store
        self.said: list[tuple[bytes, bytes]] = []
        self.found: list[Sighting] = []
        self.down: set[bytes] = set()
        self.queue: deque[tuple[int, int, bytes]] = deque()
        self.book = AddressBook(store, self.say, lambda store: store not in self.down)
        if start:
            asyncio.run(self.book.start(sighting(number), self.found.append))

    def say(self, to: bytes, message: bytes) -> None:
        self.said.append((to, message))
        self.queue.append((self.number, NUMBERS.get(to, -1), message))

    def knows(self, number: int) -> list[int]:
        """Which versions it has of the records of a device."""
        return [each.version for each in self.book.records() if each.public == DEVICES[number].public]


def mesh_of(directory: Path, count: int) -> list[TrustStore]:
    """Stores of devices that are members of one mesh and know it."""
    scribe = Scribe()
    for guest in range(1, count):
        scribe.invite(0, guest)
    stores = [open_store(directory, number) for number in range(count)]
    for store in stores:
        store.join(scribe.mesh, scribe.entries)
    return stores


def books(directory: Path, count: int) -> list[Book]:
    return [Book(store, number) for number, store in enumerate(mesh_of(directory, count))]


# --- the own record ---


def test_who_is_in_no_mesh_has_no_record_until_it_is(tmp_path: Path) -> None:
    with open_store(tmp_path, 0) as store:
        ada = Book(store, 0)
        ada.book.linked(store_of(1))
        assert (ada.book.record, ada.said) == (None, [])
        store.found("ada")
        ada.book.recheck()
        assert ada.book.record
        assert ada.book.record.mesh == store.mesh
        assert [to for to, _ in ada.said] == [store_of(1)]


def test_a_change_of_address_is_a_newer_record_for_all_who_are_linked(tmp_path: Path) -> None:
    ada = books(tmp_path, 3)[0]
    for number in (1, 2):
        ada.book.linked(store_of(number))
    before = ada.book.record
    ada.said.clear()
    asyncio.run(ada.book.update(sighting(0, 7777)))
    assert before
    for to, message in ada.said:
        (record,) = unpack_records(message, 9)
        assert record.version > before.version
        assert record.sighting.endpoints == ("tcp://192.0.2.1:7777",)
        assert to in (store_of(1), store_of(2))
    assert len(ada.said) == 2


def test_versions_rise_when_the_clock_stands_or_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = books(tmp_path, 1)[0]
    first = ada.book.record
    assert first
    for now in (first.version * 10**6, 0, 1 << 80):
        monkeypatch.setattr("time.time_ns", lambda now=now: now)
        before = ada.book.record
        ada.book.renew()
        assert before
        assert ada.book.record
        assert before.version < ada.book.record.version < MAX_VERSION


def test_who_leaves_or_was_revoked_says_nothing_more(tmp_path: Path) -> None:
    ada, bob, cid = books(tmp_path, 3)
    cid.store.leave()
    cid.book.recheck()
    assert cid.book.record is None
    entry = ada.store.say(ada.store.revocation(DEVICES[1].public))
    bob.store.take(rows([entry]))
    bob.book.recheck()
    assert bob.book.record is None
    bob.book.linked(store_of(0))
    assert bob.said == []


def test_who_leaves_and_joins_again_says_so_and_believes_only_the_new_mesh(tmp_path: Path) -> None:
    ada, bob = books(tmp_path, 2)
    bob.book.linked(store_of(0))
    old = signed(0, ada.store.mesh, 5)
    bob.book.received(store_of(0), packed(old))
    assert bob.knows(0) == [5]
    ada.store.leave()
    ada.store.found("ada")
    bob.store.leave()
    bob.book.recheck()
    assert bob.book.records() == []
    bring_in(ada.store, bob.store)
    bob.said.clear()
    bob.book.recheck()
    (record,) = unpack_records(bob.said[0][1], 9)
    assert record.mesh == ada.store.mesh
    bob.book.received(store_of(0), packed(old))
    assert bob.knows(0) == []
    bob.book.received(store_of(0), packed(signed(0, ada.store.mesh, 1)))
    assert bob.knows(0) == [1]


# --- those of others ---


def test_what_a_linked_peer_says_is_reported_once(tmp_path: Path) -> None:
    ada, _ = books(tmp_path, 2)
    record = signed(1, ada.store.mesh, 5)
    for _ in range(3):
        ada.book.received(store_of(1), packed(record))
    assert ada.found == [record.sighting]
    assert ada.found[0].source == "exchange"


def test_records_of_who_is_no_member_are_neither_kept_nor_reported_nor_passed_on(tmp_path: Path) -> None:
    ada, bob, cid = books(tmp_path, 3)
    ada.book.linked(store_of(2))
    ada.said.clear()
    ada.store.say(ada.store.revocation(DEVICES[1].public))
    foreign = [signed(1, ada.store.mesh, 5), signed(4, ada.store.mesh, 5), signed(2, b"m" * 32, 5)]
    ada.book.received(store_of(2), packed(*foreign))
    for record in foreign:
        assert not ada.book.take(record, direct=True)
    assert (ada.found, ada.said) == ([], [])
    assert [record.public for record in ada.book.records()] == [DEVICES[0].public]
    assert bob.store.mesh == cid.store.mesh == ada.store.mesh


def test_who_was_revoked_is_forgotten_and_the_others_are_reported_again(tmp_path: Path) -> None:
    ada = books(tmp_path, 3)[0]
    for number in (1, 2):
        ada.book.take(signed(number, ada.store.mesh, 5))
    ada.found.clear()
    ada.store.say(ada.store.revocation(DEVICES[1].public))
    assert [record.public for record in ada.book.records()] == [DEVICES[0].public, DEVICES[2].public], "at once"
    ada.book.recheck()
    assert [seen.device for seen in ada.found] == [DEVICES[2].id]


def test_an_old_record_passed_on_changes_nothing_and_one_from_its_own_peer_does(tmp_path: Path) -> None:
    ada = books(tmp_path, 3)[0]
    ada.book.received(store_of(1), packed(signed(1, ada.store.mesh, 5)))
    ada.book.received(store_of(2), packed(signed(1, ada.store.mesh, 4)))
    ada.book.received(store_of(2), packed(signed(1, ada.store.mesh, 5, port=9)))
    assert ada.knows(1) == [5]
    assert ada.found[-1].endpoints == ("tcp://192.0.2.2:7000",)
    ada.book.received(store_of(1), packed(signed(1, ada.store.mesh, 4)))
    assert ada.knows(1) == [4], "its clock has gone back, but it must know"


def test_nobody_speaks_for_another_ones_store(tmp_path: Path) -> None:
    """A malicious member claims the store of another one, with the highest version there is."""
    ada = books(tmp_path, 3)[0]
    ada.book.received(store_of(1), packed(signed(1, ada.store.mesh, 5)))
    with pytest.raises(ValueError, match="does not belong to the device"):
        ada.book.received(store_of(2), claimed(2, ada.store.mesh, MAX_VERSION - 1, store_of(1)))
    assert ada.knows(1) == [5]
    ada.book.received(store_of(1), packed(signed(1, ada.store.mesh, 6)))
    assert ada.knows(1) == [6]
    with pytest.raises(ValueError, match="does not belong to the device"):
        ada.book.received(store_of(2), claimed(2, ada.store.mesh, MAX_VERSION - 1, store_of(0)))


def test_what_is_forged_or_malformed_keeps_only_what_came_before(tmp_path: Path) -> None:
    ada = books(tmp_path, 3)[0]
    ada.book.linked(store_of(2))
    ada.said.clear()
    good, other = signed(1, ada.store.mesh, 5), signed(2, ada.store.mesh, 5)
    message = msgpack.packb([(good.payload, good.signature), (other.payload, bytes(64))])
    with pytest.raises(ValueError, match="has not signed"):
        ada.book.received(store_of(1), message)
    assert [seen.device for seen in ada.found] == [DEVICES[1].id]
    assert [to for to, _ in ada.said] == [store_of(2)], "and that is passed on"


# --- passing on ---


def test_news_goes_to_a_few_who_are_linked_now_and_to_nobody_twice(tmp_path: Path) -> None:
    ada = books(tmp_path, 2)[0]
    linked = [bytes([number]) * 16 for number in range(100, 120)]
    for store in linked:
        ada.book.linked(store)
    ada.down = set(linked[2:])
    ada.said.clear()
    record = signed(1, ada.store.mesh, 5)
    ada.book.received(linked[0], packed(record))
    assert [to for to, _ in ada.said] == [linked[1]], "not to who said it, not to who is gone"
    ada.book.received(linked[1], packed(record))
    assert len(ada.said) == 1
    ada.down.clear()
    ada.book.received(linked[1], packed(signed(1, ada.store.mesh, 6)))
    assert len(ada.said) == 1 + module.RELAYS


def test_a_link_that_comes_up_again_is_given_all_again(tmp_path: Path) -> None:
    ada = books(tmp_path, 3)[0]
    ada.book.take(signed(1, ada.store.mesh, 5))
    for _ in range(2):
        ada.said.clear()
        ada.book.linked(store_of(2))
        (said,) = ada.said
        assert {each.sighting.store for each in unpack_records(said[1], 9)} == {store_of(0), store_of(1)}


def test_nobody_is_told_of_itself(tmp_path: Path) -> None:
    ada = books(tmp_path, 2)[0]
    ada.book.take(signed(1, ada.store.mesh, 5))
    ada.book.linked(store_of(1))
    assert [each.public for each in unpack_records(ada.said[0][1], 9)] == [DEVICES[0].public]


def test_after_the_end_nothing_is_reported(tmp_path: Path) -> None:
    ada = books(tmp_path, 2)[0]
    asyncio.run(ada.book.stop())
    ada.book.received(store_of(1), packed(signed(1, ada.store.mesh, 5)))
    ada.book.report(sighting(1))
    assert ada.found == []


def test_a_book_that_was_not_started_says_nothing_of_itself(tmp_path: Path) -> None:
    ada = Book(mesh_of(tmp_path, 2)[0], 0, start=False)
    ada.book.recheck()
    ada.book.linked(store_of(1))
    ada.book.received(store_of(1), packed(signed(1, ada.store.mesh, 5)))
    assert (ada.book.record, ada.said, ada.found) == (None, [], [])


# --- bounds ---


def entries(ada: Book) -> int:
    """How much it remembers in all."""
    return len(ada.book._records) + sum(map(len, ada.book._told.values()))  # noqa: SLF001


def test_a_member_that_signs_no_end_of_stores_fills_its_own_places_only(tmp_path: Path) -> None:
    ada = books(tmp_path, 3)[0]
    ada.book.received(store_of(1), packed(signed(1, ada.store.mesh, 5)))
    for number in range(3 * module.MAX_OF_DEVICE):
        ada.book.received(store_of(2), packed(signed(2, ada.store.mesh, 5, store_of(2, number))))
    assert len(ada.knows(2)) == module.MAX_OF_DEVICE
    assert ada.knows(1) == [5]
    assert entries(ada) <= 3 * (module.MAX_OF_DEVICE + 1), "the book, and what two links know"


def test_strangers_records_cost_no_memory(tmp_path: Path) -> None:
    ada = books(tmp_path, 2)[0]
    before = entries(ada)
    for number in range(50):
        ada.book.received(store_of(1), packed(signed(5, ada.store.mesh, 5, store_of(5, number))))
    assert entries(ada) == before


def test_a_full_book_makes_room_where_there_is_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PEERS", 4)
    ada = books(tmp_path, 4)[0]
    for number in range(3):
        ada.book.take(signed(2, ada.store.mesh, 5, store_of(2, 200 + number)))
    ada.book.take(signed(1, ada.store.mesh, 5))
    ada.book.take(signed(3, ada.store.mesh, 5))
    assert (ada.knows(1), ada.knows(2), ada.knows(3)) == ([5], [5, 5], [5])
    assert store_of(2, 200) not in {each.sighting.store for each in ada.book.records()}, "the oldest has gone"


def test_the_number_of_links_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PEERS", 4)
    ada = books(tmp_path, 2)[0]
    for number in range(9):
        ada.book.linked(bytes([100 + number]) * 16)
        ada.book.received(bytes([200 + number]) * 16, packed(signed(1, ada.store.mesh, number + 1)))
    assert len(ada.book._told) == 4  # noqa: SLF001


# --- a mesh of books ---


class Net:
    """Books of a whole mesh, joined by links that are queues."""

    def __init__(self, directory: Path, count: int, seed: int) -> None:
        self.books = books(directory, count)
        self.queue: deque[tuple[int, int, bytes]] = deque()
        self.random = random.Random(seed)
        for each in self.books:
            each.queue = self.queue

    def link(self, one: int, other: int) -> None:
        self.books[one].book.linked(store_of(other))
        self.books[other].book.linked(store_of(one))

    def move(self, number: int, port: int) -> None:
        asyncio.run(self.books[number].book.update(sighting(number, port)))

    def arrive(self, count: int) -> None:
        """Some messages arrive, of whichever link; those of one link in their order."""
        for _ in range(min(count, len(self.queue))):
            source, target, _ = self.random.choice(self.queue)
            at = next(at for at, each in enumerate(self.queue) if each[:2] == (source, target))
            message = self.queue[at][2]
            del self.queue[at]
            before = self._ports(target)
            self.books[target].book.received(store_of(source), message)
            after = self._ports(target)
            for device in before.keys() - {DEVICES[source].id}:  # of itself a peer may say what it likes: see `take`
                assert after[device] >= before[device], "an old record took the place of a newer one"

    def _ports(self, number: int) -> dict[str, int]:
        records = [record.sighting for record in self.books[number].book.records()]
        return {seen.device: int(seen.endpoints[0].rpartition(":")[2]) for seen in records}

    def settle(self) -> None:
        while self.queue:
            self.arrive(1)


steps = st.one_of(
    st.tuples(st.just("link"), st.integers(0, 4), st.integers(0, 4)),
    st.tuples(st.just("move"), st.integers(0, 4), st.just(0)),
    st.tuples(st.just("arrive"), st.integers(1, 9), st.just(0)),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, max_size=25), st.integers(0, 99))
def test_after_all_links_have_come_up_everybody_knows_the_newest_of_each(
    script: list[tuple[str, int, int]], seed: int
) -> None:
    with TemporaryDirectory() as directory:
        net = Net(Path(directory), 5, seed)
        ports = dict.fromkeys(range(5), 7000)
        for number in range(5):
            net.move(number, 7000)
        for what, one, other in script:
            if what == "link" and one != other:
                net.link(one, other)
            elif what == "move":
                ports[one] += 1
                net.move(one, ports[one])
            elif what == "arrive":
                net.arrive(one)
        pairs = [(one, other) for one in range(5) for other in range(one)]
        net.random.shuffle(pairs)
        for pair in pairs:
            net.link(*pair)
            net.arrive(net.random.randrange(9))
        net.settle()
        for each in net.books:
            known = {record.public: record.sighting.endpoints for record in each.book.records()}
            assert known == {
                DEVICES[number].public: (f"tcp://192.0.2.{number + 1}:{port}",) for number, port in ports.items()
            }
            assert all(seen.device in {device.id for device in DEVICES[:5]} for seen in each.found)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99))
def test_who_is_linked_with_one_alone_hears_of_everybody(seed: int) -> None:
    """A chain: what is new at one end reaches the other by being passed on."""
    with TemporaryDirectory() as directory:
        net = Net(Path(directory), 5, seed)
        order = [*range(4)]
        net.random.shuffle(order)
        for at in order:
            net.link(at, at + 1)
            net.arrive(net.random.randrange(5))
        net.settle()
        net.move(0, 7777)
        net.settle()
        for each in net.books[1:]:
            assert len(each.book.records()) == 5
            (record,) = [each for each in each.book.records() if each.public == DEVICES[0].public]
            assert record.sighting.endpoints == ("tcp://192.0.2.1:7777",)
