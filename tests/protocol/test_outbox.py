"""The sending half: where a message waits, what its sender is told of it, and how it ends."""

import pytest

from tests.protocol.pair import Node, World, losing, two
from zmesh.errors import BodyTooLarge, MeshFull, UnknownAgent
from zmesh.protocol import outbox as module
from zmesh.protocol.bounds import MAX_BODY, MAX_TTL, NO_ID, STORE_RETRY
from zmesh.protocol.effects import CancelSend, Send
from zmesh.protocol.frames import Ack, Data, Ending, Outcome
from zmesh.protocol.journal import EndOut, MoveOut, OutRow, OutStreamRow, PutMailbox, PutOut, PutPeer
from zmesh.protocol.out_stream import Settlement
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Received, Sent

ID = b"i" * 16
B = b"b".ljust(16, b"\0")


def command(**changes: object) -> Send:
    fields: dict[str, object] = {
        "ticket": 99, "id": ID, "address": "inbox@b", "sender": "me", "priority": Priority.NORMAL, "ttl": None,
        "type": "text", "thread": b"", "reply_to": b"", "sent_at": 0, "packed": False, "body": b"x",
    }  # fmt: skip
    return Send(**fields | changes)  # type: ignore[arg-type]


def offline() -> tuple[World, Node, Node]:
    """As `two`, but b is away, and a has noticed."""
    world, a, b = two(listening=False)
    b.kill()
    world.run(30.0)
    return world, a, b


# --- what may be sent ---


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"body": bytes(MAX_BODY + 1)}, BodyTooLarge, "send a reference"),
        ({"id": b"short"}, ValueError, "16 bytes"),
        ({"id": NO_ID}, ValueError, "16 bytes"),
        ({"type": "a\nb"}, ValueError, "printable"),
        ({"thread": b"x"}, ValueError, "thread and reply_to"),
        ({"reply_to": b"x"}, ValueError, "thread and reply_to"),
        ({"ttl": 0.0}, ValueError, "a ttl is between"),
        ({"ttl": MAX_TTL + 1}, ValueError, "a ttl is between"),
        ({"ttl": float("nan")}, ValueError, "a ttl is between"),
        ({"address": "inbix@b", "strict": True}, UnknownAgent, "did you mean inbox@b"),
        ({"address": "inbox@c", "strict": True}, UnknownAgent, "no peer 'c' is known yet$"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is_written(
    changes: dict[str, object], error: type[Exception], words: str
) -> None:
    _, a, _ = two()
    with pytest.raises(error, match=words):
        a.command(command(**changes))
    assert a.disk.out_rows() == []
    assert a.core.node.outbox.by_id == {}


@pytest.mark.parametrize("address", ["inbox@b", "inbox@nowhere"])
@pytest.mark.parametrize("bound", ["QUOTA_MESSAGES", "QUOTA_BYTES"])
def test_too_much_for_one_peer_is_refused(monkeypatch: pytest.MonkeyPatch, address: str, bound: str) -> None:
    world, a, b = offline()
    monkeypatch.setattr(module, bound, 5 if bound == "QUOTA_BYTES" else 1)
    ident = a.send(address)
    with pytest.raises(MeshFull, match="already wait"):
        a.send(address)
    a.command(CancelSend(ident))
    a.send(address)
    b.start()
    world.run(10.0)


# --- settled ---


def test_a_send_is_settled_when_it_is_on_disk() -> None:
    _, a, _ = two()
    a.holding = True
    ident = a.send("inbox@b")
    assert a.tickets not in a.settled
    a.commit_held()
    settled = a.settled[a.tickets]
    assert (settled.id, settled.address, settled.state, settled.warning) == (ident, "inbox@b", Sent.QUEUED, "")


def test_the_same_id_is_settled_with_the_first_one_and_fails_with_it() -> None:
    _, a, _ = offline()
    a.holding = True
    a.command(command(ticket=50))
    a.command(command(ticket=51, body=b"another"))
    a.command(command(ticket=52, address="me@a"))
    a.commit_held()
    assert {a.settled[ticket].address for ticket in (50, 51, 52)} == {"inbox@b"}
    assert len(a.disk.out_rows()) == 1
    assert a.disk.in_rows() == [], "the same message does not go to two places"
    a.failing = "disk full"
    a.command(command(ticket=53))
    assert a.failures[53].reason == "disk full"


@pytest.mark.parametrize("address", ["inbox@b", "inbox@nowhere"])
def test_a_send_that_failed_leaves_nothing_behind(address: str) -> None:
    world, a, b = two()
    a.failing = "disk full"
    ident = a.send(address)
    assert a.failures[a.tickets].reason == "disk full"
    a.failing = ""
    world.run(10.0)
    assert not a.core.node.outbox.by_id
    assert not a.core.node.outbox.waiting
    assert a.remote(b).queued == 0
    assert a.send(address, ident=ident) == ident
    world.run(1.0)
    assert b.bodies == ([b"hello"] if address == "inbox@b" else [])


def test_the_id_of_an_ended_message_is_not_sent_again() -> None:
    world, a, b = two()
    ident = a.send("inbox@b")
    world.run(1.0)
    a.send("inbox@b", ident=ident)
    other = a.send("inbox@b", b"other")
    world.run(1.0)
    assert b.bodies == [b"hello", b"other"]
    assert a.remote(b).queued == 0
    assert a.receipt(other) is Sent.STORED


def test_a_message_to_ourselves_is_stored_at_once_and_tells_of_it_once() -> None:
    _, a, _ = two()
    a.listen("me")
    ident = a.send("me@a")
    assert a.settled[a.tickets].state is Sent.STORED
    a.send("me@a", ident=ident)
    assert a.bodies == [b"hello"]
    assert a.states(ident) == [Sent.STORED]
    a.failing = "disk full"
    a.send("me@a")
    assert a.failures[a.tickets].reason == "disk full"


# --- bodies ---


def test_bodies_beyond_memory_are_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_BODY_BYTES", 10)
    world, a, b = offline()
    for number in range(300):
        a.send("inbox@b", b"%d" % number)
    assert a.core.node.outbox._cached <= 10  # noqa: SLF001
    b.start()
    b.listen("inbox")
    world.run(10.0)
    assert b.bodies == [b"%d" % number for number in range(300)]
    assert a.core.node.outbox._cached == 0  # noqa: SLF001


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
    box.fetched({12345: b"gone"})
    box.lose_body(12345, a.remote(b))
    b.kill()
    a.send("inbox@b")
    row = a.disk.out_rows()[-1].row
    box.fetched({row: b"other"})
    box.lose_body(row, a.remote(b))
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
    box._owe(move)  # noqa: SLF001
    a.failing = "disk full"
    a.flush()
    box._owe(end)  # noqa: SLF001
    a.flush()  # both fail now, in one transaction
    a.failing = ""
    turn.then(lambda: None)
    a.flush()
    assert a.disk.out_rows()[-1].state is Sent.STORED


def test_a_run_of_confirmations_is_one_op_and_gaps_are_kept() -> None:
    _, a, b = offline()
    idents = [a.send("inbox@b", priority=p) for p in (2, 2, 3, 2, 2)]  # type: ignore[arg-type]
    box = a.core.node.outbox
    messages = [box.by_id[ident] for ident in idents]
    settled = [Settlement(number, messages[at], None) for number, at in ((1, 0), (2, 1), (3, 3), (4, 4))]
    settled.insert(2, Settlement(9, None, Ending(2, 9, "skipped", "")))
    box.settle(a.remote(b), settled)
    a.core.node.turn.seal()
    persist = a.core.node.turn.drain()[-1]
    first = messages[0].row
    assert persist.ops == (  # type: ignore[union-attr]
        EndOut(first, first + 1, Sent.STORED, ""), EndOut(first + 3, first + 4, Sent.STORED, ""),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "state", "detail"),
    [
        ("denied", Sent.REFUSED, "denied: why"),
        ("skipped", Sent.EXPIRED, "skipped: why"),
        ("new", Sent.REFUSED, "new: why"),
    ],
)
def test_endings_are_final_unless_they_are_temporary(code: str, state: Sent, detail: str) -> None:
    _, a, b = offline()
    ident = a.send("inbox@b")
    box = a.core.node.outbox
    stream = a.remote(b).outs[Priority.NORMAL]
    message = stream.entries.pop(1)
    box.settle(a.remote(b), [Settlement(1, message, Ending(2, 1, code, "why"))])
    a.flush()
    assert a.receipt(ident) is state
    assert a.progress[-1].detail == detail
    assert a.progress[-1].dest == b.store


def test_what_became_of_a_stored_message_is_told_after_its_commit() -> None:
    world, a, b = two()
    ident = a.send("inbox@b")
    world.run(1.0)
    a.holding = True
    b.done()
    world.run(1.0)
    assert a.states(ident) == [Sent.STORED]
    a.commit_held()
    assert a.states(ident) == [Sent.STORED, Sent.HANDLED]
    assert a.receipt(ident) is Sent.HANDLED
    assert a.core.node.outbox.awaits_cursor(b.store, (ident, ID)) is False


def test_a_fate_of_an_unknown_code_is_ignored() -> None:
    _, a, b = two()
    a.core.node.outbox.fate(b.store, (ID,), "painted green", "")
    a.flush()
    assert a.progress == []


# --- a temporary refusal ---


def test_a_mailbox_that_is_gone_and_comes_back() -> None:
    world, a, b = two(listening=False)
    gone = b.core.node.inbox.mailboxes.pop("inbox")
    ident = a.send("inbox@b", ttl=100.0)
    world.run(0.2)
    b.open("other")  # the next roster says that it is gone
    assert a.receipt(ident) is Sent.WAITING
    world.run(10.0)
    b.core.node.inbox.mailboxes["inbox"] = gone
    b.open("inbox")
    world.run(60.0)
    assert a.receipt(ident) is Sent.STORED


def test_a_full_mailbox_is_tried_again_after_a_restart() -> None:
    world, a, b = two(listening=False)
    b.core.node.inbox.mailboxes["inbox"].size = 1 << 40
    ident = a.send("inbox@b")
    world.run(1.0)
    assert a.receipt(ident) is Sent.QUEUED
    assert not a.remote(b).outs[Priority.NORMAL].entries
    a.restart()
    b.core.node.inbox.mailboxes["inbox"].size = 0
    world.run(5.0)
    assert a.receipt(ident) is Sent.STORED


def test_a_refused_message_that_expires_before_its_turn_is_expired() -> None:
    world, a, b = two(listening=False)
    b.core.node.inbox.mailboxes["inbox"].size = 1 << 40
    ident = a.send("inbox@b", ttl=0.3)
    world.run(0.2)
    assert a.receipt(ident) is Sent.QUEUED
    world.run(10.0)
    assert a.states(ident) == [Sent.EXPIRED]
    assert a.receipt(ident) is Sent.EXPIRED


# --- expiry and cancelling ---


@pytest.mark.parametrize("address", ["inbox@b", "nobody@b", "inbox@nowhere"])
def test_an_end_that_cannot_be_written_is_not_told_and_comes_later(address: str) -> None:
    world, a, _ = offline()
    ident = a.send(address)
    a.failing = "disk full"
    a.command(CancelSend(ident))
    world.run(10.0)
    assert a.states(ident) == []
    a.failing = ""
    world.run(2 * STORE_RETRY)
    assert a.states(ident) == [Sent.EXPIRED]
    assert a.receipt(ident) is Sent.EXPIRED
    assert not a.core.node.outbox.by_id
    assert not a.core.node.outbox.waiting


def test_a_message_whose_end_is_being_written_does_nothing_else() -> None:
    world, a, b = offline()
    queued, waiting = a.send("inbox@b", ttl=1000.0), a.send("later@b", ttl=1000.0)
    a.holding = True
    for ident in (queued, waiting, queued, waiting):
        a.command(CancelSend(ident))
    b.start()
    b.open("later")
    world.run(2000.0)
    a.commit_held()
    world.run(10.0)
    assert a.states(queued) == a.states(waiting) == [Sent.EXPIRED]
    assert b.disk.in_rows() == []
    assert a.remote(b).queued == 0


def test_a_parked_message_whose_end_is_being_written_stays_where_it_is() -> None:
    world, a, b = two(listening=False)
    b.core.node.inbox.mailboxes["inbox"].size = 1 << 40
    ident = a.send("inbox@b")
    world.run(0.2)
    a.holding = True
    a.command(CancelSend(ident))
    world.run(5.0)
    a.commit_held()
    world.run(5.0)
    assert a.states(ident) == [Sent.EXPIRED]
    assert len([f for f in world.frames(Data, "a") if isinstance(f, Data)]) == 1


def test_there_is_nothing_to_cancel_in_what_has_gone_or_is_not_there_yet() -> None:
    world, a, _ = two()
    a.command(CancelSend(ID))
    stored = a.send("inbox@b")
    world.run(1.0)
    a.command(CancelSend(stored))
    assert a.states(stored) == [Sent.STORED]
    a.holding = True
    fresh = a.send("inbox@b")
    a.command(CancelSend(fresh))
    a.commit_held()
    world.run(1.0)
    assert a.states(fresh) == [Sent.STORED]


def test_a_ttl_that_ends_before_the_commit_is_looked_at_after_it() -> None:
    world, a, _ = offline()
    a.holding = True
    ident = a.send("inbox@b", ttl=0.5)
    world.run(5.0)
    a.commit_held()
    world.run(2.0)
    assert a.states(ident) == [Sent.EXPIRED]


def test_what_may_have_arrived_is_expiring_and_asked_about_once() -> None:
    world, a, b = two()
    world.drop.append(losing(Ack, b))
    ident = a.send("inbox@b", ttl=100.0)
    world.settle()
    a.command(CancelSend(ident))
    a.command(CancelSend(ident))
    world.run(200.0)
    assert a.states(ident) == [Sent.EXPIRING]
    assert a.progress[-1].detail == "cancelled"


def test_the_deadlines_of_ended_messages_leave_the_memory() -> None:
    world, a, b = two(listening=False)
    b.listen("inbox", count=10_000)
    for _ in range(40):
        for _ in range(10):
            a.send("inbox@b", ttl=1e6)
        world.run(0.1)
    assert len(a.core.node.outbox._expiry) < 100  # noqa: SLF001


# --- places ---


def test_a_message_for_a_peer_that_was_not_known_counts_for_it_once_it_is() -> None:
    world = World()
    a = world.add("a")
    ident = a.send("inbox@b")
    b = world.add("b")
    b.open("inbox")
    b.core.node.inbox.mailboxes["inbox"].size = 1 << 40
    world.meet(a, b)
    world.run(1.0)
    assert a.remote(b).queued == 1
    assert a.receipt(ident) is Sent.QUEUED


def test_a_message_for_a_mailbox_of_ours_that_appears() -> None:
    world, a, _ = offline()
    ident = a.send("later@a")
    assert a.receipt(ident) is Sent.WAITING
    a.failing = "disk full"
    a.open("later")
    assert a.states(ident) == []
    a.failing = ""
    a.open("later")
    assert a.states(ident) == [Sent.STORED]
    a.listen("later")
    world.run(1.0)
    assert a.bodies == [b"hello"]


def test_a_message_for_a_full_mailbox_of_ours_is_tried_again() -> None:
    world, a, _ = two()
    a.holding = True
    ident = a.send("later@a")
    a.open("later")
    a.core.node.inbox.mailboxes["later"].size = 1 << 40
    a.commit_held()
    world.run(5.0)
    assert a.receipt(ident) is Sent.WAITING
    a.core.node.inbox.mailboxes["later"].size = 0
    world.run(60.0)
    assert a.receipt(ident) is Sent.STORED
    assert a.core.node.outbox.waiter(1) is None
    a.holding = True
    a.send("later@a")
    assert not a.core.node.waits_here("later")


def test_a_new_epoch_takes_everything_along() -> None:
    """What flies, what is expiring and what was never sent: in the old order, under new numbers."""
    world, a, b = two()
    old = a.disk.copy()
    a.send("inbox@b", b"1")
    a.send("inbox@b", b"2")
    world.run(1.0)
    a.restart(old)
    world.drop.append(lambda *_: True)
    idents = [a.send("inbox@b", b"new %d" % n, ident=b"new %d" % n + bytes(11)) for n in range(4)]
    remote = a.remote(b)
    stream = remote.outs[Priority.NORMAL]
    stream.mark = stream.saved_mark = 2
    stream.entries[1].step("handed over")
    stream.entries[1].flying = 64
    a.command(CancelSend(idents[1]))
    assert a.receipt(idents[1]) is Sent.EXPIRING
    world.drop.clear()
    world.run(20.0)
    assert remote.epoch == 2
    assert [body for body in b.bodies if body.startswith(b"new")] == [b"new 0", b"new 1", b"new 2", b"new 3"]
    assert [a.receipt(ident) for ident in idents] == [Sent.STORED] * 4


def forgotten(monkeypatch: pytest.MonkeyPatch, *, confirmed: bool) -> tuple[World, Node, Node, bytes]:
    """b has handled a message, then a's disk goes back to before it was sent, and b's mailbox is full."""
    world, a, b = two()
    world.drop.append(losing(Data, a))
    ident = a.send("inbox@b", ttl=60.0)
    world.settle()
    copy = a.disk.copy()
    world.drop.clear()
    a.send("inbox@b", b"later")
    world.run(1.0)
    if not confirmed:
        world.drop.append(losing(Outcome, b))
    b.done(0)
    b.done(1)
    world.run(1.0)
    assert b.inserted(ident) == [Received.HANDLED]
    monkeypatch.setattr("zmesh.protocol.mailbox.MAILBOX_MESSAGES", 1)
    b.send("inbox@b", b"in the way")
    a.restart(copy)
    world.run(10.0)
    assert a.remote(b).epoch == 2
    assert a.core.node.outbox.by_id[ident].number == 0, "it was refused, and waits for room"
    return world, a, b, ident


@pytest.mark.parametrize("restarted", [False, True])
def test_what_our_disk_has_forgotten_is_lost_to_us_when_its_ttl_ends_and_not_expired(
    monkeypatch: pytest.MonkeyPatch, *, restarted: bool
) -> None:
    world, a, b, ident = forgotten(monkeypatch, confirmed=True)
    if restarted:
        a.restart()
        assert a.core.node.outbox.by_id[ident].doubt
    world.run(100.0)
    assert a.receipt(ident) is Sent.LOST
    assert a.states(ident)[-1] is Sent.LOST
    assert "went back in time" in a.progress[-1].detail
    assert b.inserted(ident) == [Received.HANDLED]


def test_a_doubtful_message_that_cannot_be_ended_is_ended_later(monkeypatch: pytest.MonkeyPatch) -> None:
    world, a, _, ident = forgotten(monkeypatch, confirmed=True)
    a.failing = "disk full"
    world.run(60.0)
    assert a.receipt(ident) is Sent.QUEUED
    a.failing = ""
    world.run(60.0)
    assert a.receipt(ident) is Sent.LOST


def test_what_our_disk_has_forgotten_is_stored_when_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world, a, b, ident = forgotten(monkeypatch, confirmed=True)
    b.done()
    world.run(40.0)
    assert a.receipt(ident) is Sent.HANDLED, "its outcome was told, and told again to who has forgotten it"
    assert b.inserted(ident) == [Received.HANDLED]


def test_an_outcome_proves_what_our_disk_has_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    world, a, _, ident = forgotten(monkeypatch, confirmed=False)
    world.drop.clear()
    world.run(10.0)
    assert a.receipt(ident) is Sent.HANDLED
    assert a.states(ident) == [Sent.STORED, Sent.HANDLED]
    assert ident not in a.core.node.outbox.by_id


def test_what_waits_for_room_when_our_disk_goes_back_is_in_doubt_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not what goes to another store."""
    world, a, b, ident = forgotten(monkeypatch, confirmed=True)
    c = world.add("c")
    c.open("inbox")
    world.meet(a, c)
    c.kill()
    copy = a.disk.copy()
    b.done()
    world.run(40.0)
    a.send("inbox@b", b"handled, then forgotten")
    world.run(1.0)
    b.done()
    b.send("inbox@b", b"in the way again")
    a.restart(copy)
    other, nowhere = a.send("inbox@c"), a.send("inbox@nowhere")
    world.run(3.0)
    live = a.core.node.outbox.by_id
    assert a.remote(b).epoch == 3
    assert [live[each].doubt for each in (ident, other, nowhere)] == [True, False, True]
    assert next(row.epoch for row in a.disk.out_rows() if row.id == ident) == 3


def test_what_has_no_number_when_an_epoch_begins_is_in_doubt_after_a_restart_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, a, b, ident = forgotten(monkeypatch, confirmed=True)
    row = a.core.node.outbox.by_id[ident].row
    a.core.node.outbox.new_epoch(a.remote(b), 3)
    a.flush()
    assert [(move.epoch, move.number) for move in a.disk.out_rows() if move.row == row] == [(3, 0)]
    a.restart()
    assert a.core.node.outbox.by_id[ident].doubt
    world.run(1.0)


def test_an_outcome_before_its_ack_waits_for_it() -> None:
    world, a, b = two()
    world.drop.append(losing(Ack, b))
    ident = a.send("inbox@b")
    world.settle()
    assert a.core.node.outbox.awaits_cursor(b.store, [b"unknown".ljust(16), ident])
    assert not a.core.node.outbox.awaits_cursor(b"another store".ljust(16), [ident])


def test_a_doubtful_message_that_is_refused_while_it_expires_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """It travels whole, so that its id can tell; but a full mailbox is looked at first."""
    world, a, _, ident = forgotten(monkeypatch, confirmed=True)
    world.drop.append(losing(Data, a))
    world.run(40.0)
    assert a.core.node.outbox.by_id[ident].number
    world.run(20.0)
    assert a.receipt(ident) is Sent.EXPIRING
    world.drop.clear()
    world.run(20.0)
    assert a.receipt(ident) is Sent.LOST


# --- restart ---


def test_what_was_queued_under_another_name_of_ours_is_sent_under_the_present_one() -> None:
    world, a, b = offline()
    ident = a.send("inbox@b")
    a.kill()
    a.name = "renamed"
    a.start()
    b.start()
    b.listen("inbox")
    world.run(10.0)
    assert a.receipt(ident) is Sent.STORED
    assert b.deliveries[0].envelope.sender == "me@renamed"


def test_a_store_that_contradicts_itself_loses_nothing() -> None:
    """No crash leaves such rows; a damaged disk may. Whatever has no place gets one."""
    world = World()
    a, b = world.add("a"), world.add("b")
    b.open("inbox")
    world.run(1.0)

    def put(row: int, dest: bytes, epoch: int, number: int) -> PutOut:
        return PutOut(
            row, b"%d" % row * 16, dest, "inbox@b", 2, epoch, number, Sent.QUEUED, None, envelope, b"%d" % row
        )

    a.send("inbox@b", b"0")
    envelope = a.core.node.outbox.waiting[1].envelope
    a.disk.apply([
        PutMailbox("me", "", ()),
        PutPeer(B, "b", b.device, (b.endpoint,), 0, (), 0.0),
        OutStreamRow(B, 2, 1, 5, 0, 1, NO_ID),
        put(2, B, 1, 1),
        put(3, B, 7, 3),
        put(4, b"nobody".ljust(16), 1, 1),
        put(5, B, 1, 3),
    ])  # fmt: skip
    a.restart()
    assert [type(row) for row in a.disk.snapshot().outs] == [OutRow] * 5
    b.listen("inbox")
    world.run(60.0)
    assert sorted(b.bodies) == [b"0", b"2", b"3", b"4", b"5"]
    assert a.core.node.outbox.by_id == {}
    assert a.remote(b).queued == 0
