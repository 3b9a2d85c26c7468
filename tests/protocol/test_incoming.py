"""The records of received messages: what they fill, and how those end that nobody took."""

from typing import Any

import pytest

from tests.protocol.pair import nack, one, received, two
from zmesh.protocol import incoming as module
from zmesh.protocol.bounds import (
    STORE_RETRY,
)
from zmesh.protocol.commands import Take
from zmesh.protocol.messages import InMessage
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Received, Sent

# --- arrival ---


def test_bodies_beyond_memory_are_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_BODY_BYTES", 10)
    _, node = one()
    for number in range(200):
        node.send("in@a", b"%d" % number, priority=Priority(number % 2 + 1))
    held = node.core.node.inbox
    assert held.messages.cached <= 10
    node.listen("in")
    assert node.bodies == [b"%d" % n for n in range(0, 200, 2)] + [b"%d" % n for n in range(1, 200, 2)]


def test_a_body_that_was_given_back_does_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_BODY_BYTES", 10)
    world, node = one()
    for number in range(10):
        node.send("in@a", b"body %d" % number)
    node.listen("in", count=10)
    held = node.core.node.inbox
    assert held.messages.cached == 60
    for at in range(10):
        nack(node, at, delay=100.0)
    assert held.messages.cached <= 10
    node.command(Take(1, 10))
    world.run(200.0)
    assert node.bodies[10:] == [b"body %d" % number for number in range(10)]


# --- expiry ---


def test_a_message_expires_that_nobody_took() -> None:
    world, node = one()
    ident = node.send("in@a", ttl=10.0)
    kept = node.send("in@a", b"kept", ttl=100.0)
    world.run(11.0)
    assert node.states(ident) == [Sent.STORED, Sent.EXPIRED]
    node.listen("in")
    assert node.bodies == [b"kept"]
    world.run(100.0)
    assert node.states(kept) == [Sent.STORED]


def test_an_end_that_cannot_be_written_comes_a_little_later() -> None:
    world, node = one()
    ident = node.send("in@a", ttl=10.0)
    node.failing = "disk full"
    world.run(30.0)
    assert received(node) == [Received.STORED]
    node.failing = ""
    world.run(2 * STORE_RETRY)
    assert received(node) == [Received.EXPIRED]
    assert node.states(ident) == [Sent.STORED, Sent.EXPIRED]


def test_an_end_that_cannot_be_written_of_a_message_read_from_disk() -> None:
    world, node = one()
    node.send("in@a", ttl=10.0)
    node.restart()
    node.failing = "disk full"
    world.run(30.0)
    node.failing = ""
    world.run(2 * STORE_RETRY)
    assert received(node) == [Received.EXPIRED]
    assert node.core.node.inbox.messages.cached == 0


def test_cancelling_ends_only_what_nobody_ever_took() -> None:
    _, node = one()
    box = node.core.node.inbox
    waiting, other = node.send("in@a"), node.send("in@a")
    box.messages.cancel(b"another store".ljust(16), [waiting])
    assert received(node) == [Received.STORED, Received.STORED]
    node.listen("in", count=1)
    box.messages.cancel(node.store, [waiting, other])
    node.flush()
    assert received(node) == [Received.STORED, Received.EXPIRED]
    node.holding = True
    node.send("in@a", ident=b"uncommitted".ljust(16))
    box.messages.cancel(node.store, [b"uncommitted".ljust(16)])
    node.commit_held()
    assert node.inserted(b"uncommitted".ljust(16)) == [Received.STORED]


class Unwalked(dict[int, InMessage]):
    """Messages that nobody may look through."""

    def values(self) -> Any:
        pytest.fail("all messages are looked at")


def test_cancelling_looks_at_no_other_message() -> None:
    _, node = one()
    kept, ended = node.send("in@a"), node.send("in@a")
    messages = node.core.node.inbox.messages
    messages.by_row = Unwalked(messages.by_row)
    messages.cancel(node.store, [ended, b"unknown".ljust(16), ended])
    node.flush()
    assert node.inserted(kept) == [Received.STORED]
    assert node.inserted(ended) == [Received.EXPIRED]


def test_what_comes_a_second_time_can_be_cancelled_as_before() -> None:
    """In a new epoch a message comes again, and is known to be there only when it is written."""
    world, a, b = two(listening=False)
    copy = a.disk.copy()
    ident = a.send("inbox@b")
    world.run(1.0)
    a.restart(copy)
    b.holding = True
    a.send("inbox@b", ident=ident)
    world.run(5.0)
    messages = b.core.node.inbox.messages
    assert [message.id for message in messages.by_row.values()] == [ident] * 2
    b.commit_held()
    assert [message.id for message in messages.by_row.values()] == [ident]
    messages.cancel(a.store, [ident])
    b.flush()
    assert b.inserted(ident) == [Received.EXPIRED]


def test_the_deadlines_of_ended_messages_leave_the_memory() -> None:
    _, node = one()
    box = node.core.node.inbox
    node.listen("in", count=10_000)
    for _ in range(500):
        node.send("in@a", ttl=1e6)
        node.done()
    assert len(box.messages.expiry) < 100
