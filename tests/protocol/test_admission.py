"""Which stores are remembered: who makes room for whom, and that no device takes the places of another."""

import pytest

from tests.protocol.pair import DEVICE, World, two
from tests.stores import store_of
from zmesh.protocol import admission as module
from zmesh.protocol.bounds import MAX_STORES
from zmesh.protocol.commands import Halt, Sighted

OTHER = "o" * 32
X = store_of(DEVICE, 1)
PLACE = ("tcp://192.0.2.1:1",)


def test_the_store_unseen_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PEERS", 2)
    world = World()
    a = world.add("a")
    stores = [store_of(DEVICE, n) for n in range(1, 5)]
    for store in stores[:2]:
        world.now += 1.0
        a.command(Sighted(store, "x", a.device, ("tcp://192.0.2.1:1",)))
    world.now += 1.0
    assert a.core.node.admit(stores[1], a.device, "x", greets=False) is a.core.node.remotes[stores[1]]
    a.command(Sighted(stores[2], "x", a.device, ()))
    assert list(a.core.node.remotes) == stores[1:3]
    assert [peer.store for peer in a.disk.snapshot().peers] == stores[1:3]


def test_who_was_disconnected_makes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it did, nobody would know of it any more that it is not to be linked."""
    monkeypatch.setattr(module, "MAX_PEERS", 2)
    world = World()
    a = world.add("a")
    stores = [store_of(DEVICE, n) for n in range(1, 4)]
    for store in stores[:2]:
        world.now += 1.0
        a.command(Sighted(store, "x", a.device, PLACE))
    a.command(Halt(a.ticket(), stores[0], "process 7"))
    a.command(Sighted(stores[2], "x", a.device, ()))
    assert list(a.core.node.remotes) == [stores[0], stores[2]]


def test_nobody_who_is_owed_anything_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    world, a, b = two()
    monkeypatch.setattr(module, "MAX_PEERS", 1)
    b.kill()
    a.send("inbox@b")
    world.run(60.0)
    a.command(Sighted(X, "x", a.device, ()))
    assert list(a.core.node.remotes) == [b.store]
    assert any("too-many-peers" in notice.text for notice in a.notices)


def test_who_has_not_heard_what_became_of_its_mail_makes_room_after_those_who_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Short-lived peers that are gone for good must not hold their places for ever."""
    world = World()
    a = world.add("a")
    a.open("inbox")
    a.listen("inbox")
    jobs = [world.add(f"job{number}") for number in range(3)]
    for job in jobs:
        job.open("me")
        world.meet(a, job)
        world.run(1.0)
        if job is not jobs[1]:
            job.send("inbox@a")
            world.run(1.0)
        job.kill()
        if job is not jobs[1]:
            a.done()
    world.run(60.0)
    monkeypatch.setattr(module, "MAX_PEERS", 3)
    assert [remote.outcomes.pending for remote in a.core.node.remotes.values()] == [True, False, True]
    for number in range(2):
        new = world.add(f"new{number}")
        new.open("me")
        world.meet(a, new)
        world.run(5.0)
        assert a.remote(new).up
        names = {remote.name for remote in a.core.node.remotes.values()}
        assert names == ({"job2", "new0", "new1"} if number else {"job0", "job2", "new0"})
    assert {row.dest for row in a.disk.snapshot().outcomes} == {jobs[2].store}


def owned(number: int, device: str = OTHER) -> bytes:
    return store_of(device, number)


def test_what_is_only_said_of_a_device_takes_so_many_places_and_no_more() -> None:
    world = World()
    a = world.add("a")
    for number in range(MAX_STORES + 5):
        a.command(Sighted(owned(number), "x", OTHER, PLACE))
    assert list(a.core.node.remotes) == [owned(number) for number in range(MAX_STORES)]
    assert any("too-many-stores" in notice.text for notice in a.notices)
    a.command(Sighted(store_of("p" * 32, 1), "y", "p" * 32, PLACE))
    assert store_of("p" * 32, 1) in a.core.node.remotes, "another device has its own places"


def test_who_greets_takes_the_place_of_what_is_only_said_and_of_its_own_oldest() -> None:
    world = World()
    a = world.add("a")
    node = a.core.node
    for number in range(MAX_STORES):
        a.command(Sighted(owned(number), "x", OTHER, PLACE))
        world.now += 1.0
    for number in range(100, 100 + MAX_STORES):
        world.now += 1.0
        node.turn.now = world.now
        remote = node.admit(owned(number), OTHER, "x", greets=True)
        assert remote is not None
        remote.greeted = True
        remote.link.heard = world.now
    assert set(node.remotes) == {owned(number) for number in range(100, 100 + MAX_STORES)}
    assert node.admit(owned(1), OTHER, "x", greets=False) is None, "hearsay takes the place of nobody who greeted"
    world.now += 10.0
    node.turn.now = world.now
    assert node.admit(owned(200), OTHER, "x", greets=True) is not None
    assert owned(100) not in node.remotes


def test_a_device_that_makes_stores_without_end_is_slowed_down_and_others_are_not() -> None:
    world = World()
    a = world.add("a")
    node = a.core.node
    admitted = [node.admit(owned(number), OTHER, "x", greets=True) is not None for number in range(200)]
    assert admitted == [True] * MAX_STORES + [False] * (200 - MAX_STORES)
    assert node.admit(store_of("p" * 32, 1), "p" * 32, "y", greets=True) is not None
    world.now += 3.0
    node.turn.now = world.now
    again = [node.admit(owned(number), OTHER, "x", greets=True) is not None for number in range(300, 310)]
    assert again == [True] * 3 + [False] * 7
    assert len([remote for remote in node.remotes.values() if remote.device == OTHER]) == MAX_STORES


def test_devices_that_are_remembered_for_their_haste_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PEERS", 2)
    world = World()
    a = world.add("a")
    for letter in "pqr":
        a.core.node.admit(store_of(letter * 32, 1), letter * 32, "x", greets=True)
    assert len(a.core.node.admission._new) == 2  # noqa: SLF001 - its memory is what this is about


def test_programs_of_ones_own_device_are_not_limited() -> None:
    world = World()
    a = world.add("a")
    for number in range(3 * MAX_STORES):
        assert a.core.node.admit(store_of(DEVICE, number + 1000), DEVICE, "x", greets=True) is not None
