"""The sending half: where a message waits, what its sender is told of it, and how it ends."""

import pytest

from tests.protocol.pair import World, forgotten, limit, losing, offline, two
from zmesh.errors import BodyTooLarge, MeshFull, UnknownAgent
from zmesh.protocol.bounds import MAX_BODY, MAX_TTL, NO_ID, RATE_BURST, REQUEUE_MAX
from zmesh.protocol.commands import CancelSend, Send
from zmesh.protocol.frames import Ack, Data, Ending
from zmesh.protocol.journal import EndOut, OutRow, OutStreamRow, PutMailbox, PutOut, PutPeer
from zmesh.protocol.out_stream import Settlement
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Received, Sent

ID = b"i" * 16


def command(**changes: object) -> Send:
    fields: dict[str, object] = {
        "ticket": 99, "id": ID, "address": "inbox@b", "sender": "me", "priority": Priority.NORMAL, "ttl": None,
        "type": "text", "thread": b"", "reply_to": b"", "sent_at": 0, "packed": False, "body": b"x",
    }  # fmt: skip
    return Send(**fields | changes)  # type: ignore[arg-type]


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
@pytest.mark.parametrize("quota", [{"peer_messages": 1}, {"peer_bytes": 5}])
def test_too_much_for_one_peer_is_refused(address: str, quota: dict[str, int]) -> None:
    world, a, b = offline()
    limit(a, **quota)
    ident = a.send(address)
    with pytest.raises(MeshFull, match="already wait"):
        a.send(address)
    a.command(CancelSend(ident))
    a.send(address)
    b.start()
    world.run(10.0)


@pytest.mark.parametrize("quota", [{"peer_messages": 1}, {"peer_bytes": 5}])
def test_what_waits_for_nobody_takes_no_room_from_mail_that_has_a_mailbox(quota: dict[str, int]) -> None:
    world, a, b = two()
    limit(a, **quota)
    a.send("inbox@mistyped")
    with pytest.raises(MeshFull, match="for peers and mailboxes that are not there yet"):
        a.send("inbox@unknown")
    assert a.receipt(a.send("me@a")) is Sent.STORED
    ident = a.send("inbox@b")
    world.run(1.0)
    assert a.receipt(ident) is Sent.STORED
    assert b.bodies == [b"hello"]


# --- settled ---


def test_a_send_is_settled_when_it_is_on_disk() -> None:
    _, a, _ = two()
    a.holding = True
    ident = a.send("inbox@b")
    assert a.tickets not in a.settled
    a.commit_held()
    settled = a.settled[a.tickets]
    assert (settled.id, settled.address, settled.state, settled.warning) == (ident, "inbox@b", Sent.QUEUED, "")


def test_what_is_settled_says_where_it_goes_as_far_as_that_is_known() -> None:
    _, a, b = two()
    dests = []
    for address in ("inbox@b", "me@a", "nobody@nowhere"):
        ident = a.send(address)
        dests.append(a.settled[a.tickets].dest)
        a.send(address, ident=ident)
        assert a.settled[a.tickets].dest == dests[-1], "and again, when it is sent again"
    assert dests == [b.store, a.store, b""]


def test_an_id_that_is_there_already_is_settled_with_the_state_of_what_is_there() -> None:
    world, a, b = two()
    handled, here = a.send("inbox@b"), a.send("me@a")
    world.run(1.0)
    b.done()
    a.listen("me")
    a.done()
    world.run(1.0)
    for ident, address in ((handled, "inbox@b"), (here, "me@a")):
        a.send(address, ident=ident)
        assert a.settled[a.tickets].state is Sent.HANDLED
        assert a.states(ident).count(Sent.STORED) == 1


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


# --- what the receiver says ---


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


@pytest.mark.parametrize(
    ("code", "state", "most"),
    [
        ("unknown-mailbox", Sent.WAITING, REQUEUE_MAX),
        ("mailbox-full", Sent.QUEUED, REQUEUE_MAX),
        ("rate-limited", Sent.QUEUED, RATE_BURST),
    ],
)
def test_a_temporary_refusal_is_told_with_its_reason_and_tried_again(code: str, state: Sent, most: float) -> None:
    _, a, b = offline()
    ident = a.send("inbox@b")
    box = a.core.node.outbox
    message = a.remote(b).outs[Priority.NORMAL].entries.pop(1)
    message.refusals = 20
    box.settle(a.remote(b), [Settlement(1, message, Ending(2, 1, code, "why"))])
    a.flush()
    assert a.receipt(ident) is state
    assert (a.progress[-1].state, a.progress[-1].detail, a.progress[-1].dest) == (state, f"{code}: why", b.store)
    assert box.expiry.timer() == box._turn.now + most  # noqa: SLF001 - when it is tried again


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


def test_nobody_says_what_became_of_a_message_that_goes_to_another_store() -> None:
    """Ids are no secrets: any member can name one."""
    world, a, b = two()
    b.kill()
    mine, other = a.send("inbox@b"), a.send("inbox@c")
    box = a.core.node.outbox
    for code in ("handled", "dead", "expired"):
        box.fate(b"another store".ljust(16), (mine, other), code, "")
    assert not a.core.node.turn.open, "nothing is even written down"
    assert a.states(mine) == a.states(other) == []
    world.run(1.0)
    assert a.receipt(mine) is Sent.QUEUED


def test_what_is_lost_is_told_after_its_commit_and_names_no_other_message() -> None:
    world, a, b = two()
    first = a.send("inbox@b")
    world.run(1.0)
    b.done()
    world.run(1.0)
    copy = b.disk.copy()
    second, third = a.send("inbox@b"), a.send("inbox@b")
    world.run(1.0)
    a.holding = True
    b.restart(copy)
    world.run(1.0)
    assert a.states(second) == [Sent.STORED]
    a.commit_held()
    assert a.states(first) == [Sent.STORED, Sent.HANDLED]
    assert a.states(second) == a.states(third) == [Sent.STORED, Sent.LOST]
    assert [(p.detail, p.dest) for p in a.progress[-2:]] == [("its recipient's disk went back in time", b.store)] * 2


def test_a_fate_of_an_unknown_code_is_ignored() -> None:
    _, a, b = two()
    a.core.node.outbox.fate(b.store, (ID,), "painted green", "")
    a.flush()
    assert a.progress == []


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
    world.run(1.0)
    assert a.states(ident) == [Sent.STORED]
    a.listen("later")
    world.run(1.0)
    assert a.bodies == [b"hello"]


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


def test_what_our_disk_has_forgotten_is_stored_when_there_is_room_again() -> None:
    world, a, b, ident = forgotten(confirmed=True)
    b.done()
    world.run(40.0)
    assert a.receipt(ident) is Sent.HANDLED, "its outcome was told, and told again to who has forgotten it"
    assert b.inserted(ident) == [Received.HANDLED]


def test_an_outcome_proves_what_our_disk_has_forgotten() -> None:
    world, a, _, ident = forgotten(confirmed=False)
    world.drop.clear()
    world.run(10.0)
    assert a.receipt(ident) is Sent.HANDLED
    assert [state for state in a.states(ident) if state is not Sent.QUEUED] == [Sent.STORED, Sent.HANDLED]
    assert ident not in a.core.node.outbox.by_id


def test_what_waits_for_room_when_our_disk_goes_back_is_in_doubt_too() -> None:
    """But not what goes to another store."""
    world, a, b, ident = forgotten(confirmed=True)
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


def test_what_has_no_number_when_an_epoch_begins_is_in_doubt_after_a_restart_too() -> None:
    world, a, b, ident = forgotten(confirmed=True)
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


def test_a_doubtful_message_that_is_refused_while_it_expires_is_lost() -> None:
    """It travels whole, so that its id can tell; but a full mailbox is looked at first."""
    world, a, _, ident = forgotten(confirmed=True)
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
        PutPeer(b.store, "b", b.device, (b.endpoint,), 0, (), 0.0),
        OutStreamRow(b.store, 2, 1, 5, 0, 1, NO_ID),
        put(2, b.store, 1, 1),
        put(3, b.store, 7, 3),
        put(4, b"nobody".ljust(16), 1, 1),
        put(5, b.store, 1, 3),
    ])  # fmt: skip
    a.restart()
    assert [type(row) for row in a.disk.snapshot().outs] == [OutRow] * 5
    b.listen("inbox")
    world.run(60.0)
    assert sorted(b.bodies) == [b"0", b"2", b"3", b"4", b"5"]
    assert a.core.node.outbox.by_id == {}
    assert a.remote(b).queued == 0
