"""The records of sent messages: their bodies, their counts, and what the store is owed."""

import pytest

from tests.protocol.pair import DEVICE, SeededEntropy, losing, offline, two
from zmesh.protocol import outgoing as module
from zmesh.protocol.effects import Persist
from zmesh.protocol.frames import Data
from zmesh.protocol.journal import EndOut, MoveOut, Op, OutRow
from zmesh.protocol.messages import OutMessage
from zmesh.protocol.outgoing import Outgoing
from zmesh.protocol.remote import Remote
from zmesh.protocol.states import Sent
from zmesh.protocol.turn import Turn

# --- bodies ---


def test_bodies_beyond_memory_are_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_BODY_BYTES", 10)
    world, a, b = offline()
    for number in range(300):
        a.send("inbox@b", b"%d" % number)
    assert a.core.node.outbox.messages.cached <= 10
    b.start()
    b.listen("inbox")
    world.run(10.0)
    assert b.bodies == [b"%d" % number for number in range(300)]
    assert a.core.node.outbox.messages.cached == 0


def test_a_body_that_the_store_lost_leaves_a_void_number() -> None:
    world, a, b = offline()
    a.send("inbox@b", b"damaged")
    a.send("inbox@b", b"whole")
    a.restart()
    a.damaged = {a.disk.out_rows()[0].row}
    b.start()
    b.listen("inbox")
    world.run(10.0)
    assert b.bodies == [b"whole"]
    assert a.remote(b).queued == 0


def test_what_is_read_back_too_late_changes_nothing() -> None:
    _, a, b = two()
    box = a.core.node.outbox
    box.messages.fetched({12345: b"gone"})
    box.messages.lose_body(12345, a.remote(b))
    b.kill()
    a.send("inbox@b")
    row = a.disk.out_rows()[-1].row
    box.messages.fetched({row: b"other"})
    box.messages.lose_body(row, a.remote(b))
    assert a.disk.fetch_out([row]) == {row: b"hello"}
    assert len(box.by_id) == 1


# --- what the receiver says ---


def test_what_was_confirmed_is_written_again_when_the_commit_failed() -> None:
    """Nobody confirms it twice: it is on disk before, or with, the floor that covers it."""
    world, a, b = two()
    world.drop.append(losing(Data, a))
    idents = [a.send("inbox@b") for _ in range(3)]
    a.core.node.outbox._name = "b"  # noqa: SLF001 - this one will be refused
    refused = a.send("inbox@b")
    a.failing = "disk full"
    world.drop.clear()
    world.run(5.0)
    assert {a.receipt(ident) for ident in (*idents, refused)} == {Sent.QUEUED}
    assert [a.states(ident) for ident in idents] == [[Sent.STORED]] * 3
    a.failing = ""
    world.run(5.0)
    assert [a.receipt(ident) for ident in idents] == [Sent.STORED] * 3
    assert a.receipt(refused) is Sent.REFUSED
    a.restart()
    world.run(5.0)
    assert a.core.node.outbox.by_id == {}
    assert a.remote(b).epoch == 1


def test_what_is_owed_stays_in_its_order_however_often_it_fails() -> None:
    """An older move must never undo a later end."""
    _, a, b = offline()
    a.send("inbox@b")
    row = a.disk.out_rows()[-1].row
    turn, box = a.core.node.turn, a.core.node.outbox
    move, end = MoveOut(row, b.store, 1, 7, Sent.QUEUED), EndOut(row, row, Sent.STORED, "")
    box.messages.owe(move)
    a.failing = "disk full"
    a.flush()
    box.messages.owe(end)
    a.flush()  # both fail now, in one transaction
    a.failing = ""
    turn.then(lambda: None)
    a.flush()
    assert a.disk.out_rows()[-1].state is Sent.STORED


# --- expiry and cancelling ---


def test_the_deadlines_of_ended_messages_leave_the_memory() -> None:
    world, a, b = two(listening=False)
    b.listen("inbox", count=10_000)
    for _ in range(40):
        for _ in range(10):
            a.send("inbox@b", ttl=1e6)
        world.run(0.1)
    assert len(a.core.node.outbox.messages.expiry) < 100


# --- the records ---


class Bench:
    """The records alone, with one other store and a journal whose ops can be looked at."""

    def __init__(self) -> None:
        self.turn = Turn(SeededEntropy(0), 0.0)
        self.remote = Remote(b"r" * 16, DEVICE, "studio", SeededEntropy(1), 0.0)
        self.touched: list[Remote] = []
        self.it = Outgoing(self.turn, {self.remote.store: self.remote}, self.touched.append)

    def message(
        self, row: int, *, dest: bytes = b"", state: Sent = Sent.WAITING, ttl: float | None = None
    ) -> OutMessage:
        fields = OutRow(row, row.to_bytes(16, "big"), dest, "a@studio", 2, 0, 0, state, ttl, b"e", 10)
        message = OutMessage(fields, bytes(10))
        self.it.keep(message, self.remote if dest else None)
        return message

    def written(self, *, fails: bool = False) -> list[Op]:
        """End the turn, and return what was to be written."""
        self.turn.seal()
        [persist] = [effect for effect in self.turn.drain() if isinstance(effect, Persist)]
        if fails:
            self.turn.failed(persist.token, "disk full")
        else:
            self.turn.committed(persist.token)
        return list(persist.ops)


def test_messages_are_counted_for_their_peer_or_for_those_whose_peer_is_not_known() -> None:
    bench = Bench()
    known, unknown = bench.message(1, dest=b"r" * 16), bench.message(2)
    it, remote = bench.it, bench.remote
    assert (remote.queued, remote.queued_bytes, it.nowhere, it.nowhere_bytes, it.cached) == (1, 10, 1, 10, 20)
    it.drop(known, remote)
    it.drop(unknown, None)
    assert (remote.queued, remote.queued_bytes, it.nowhere, it.nowhere_bytes, it.cached) == (0, 0, 0, 0, 0)
    assert not it.by_id
    assert not it.by_row


def test_a_waiter_is_a_message_that_waits_parked_or_not() -> None:
    bench = Bench()
    waiting = bench.message(1)
    bench.message(2, dest=b"r" * 16, state=Sent.QUEUED)
    assert [bench.it.waiter(row) for row in (1, 2, 3)] == [waiting, None, None]


def test_a_message_that_is_forgotten_leaves_a_void_number_in_the_present_epoch_only() -> None:
    bench = Bench()
    numbered, older = (bench.message(row, dest=b"r" * 16, state=Sent.QUEUED) for row in (1, 2))
    stream = bench.remote.outs[2]
    for message in (numbered, older):
        stream.append(message, bench.remote.epoch, handing_over=False)
    older.epoch += 1
    for message in (numbered, older):
        bench.it.forget(message, bench.remote)
    assert bench.touched == [bench.remote]
    assert list(stream.entries.values()) == [older]


@pytest.mark.parametrize(("doubt", "epoch"), [(False, 0), (True, 7)])
def test_a_message_without_a_number_keeps_its_epoch_only_as_a_doubt(*, doubt: bool, epoch: int) -> None:
    bench = Bench()
    message = bench.message(1, dest=b"r" * 16, state=Sent.QUEUED)
    message.epoch, message.doubt = 7, doubt
    bench.it.owe_number(message)
    assert bench.written() == [MoveOut(1, b"r" * 16, epoch, 0, Sent.QUEUED)]


def test_what_is_owed_is_paid_before_anything_newer_and_once() -> None:
    bench = Bench()
    older, newer = EndOut(1, 1, Sent.STORED, ""), EndOut(2, 2, Sent.STORED, "")
    bench.it.owe(older)
    assert bench.written(fails=True) == [older]
    bench.it.owe(newer)
    bench.it.pay()
    assert bench.written() == [older, newer]
    bench.it.pay()
    assert not bench.turn.open
