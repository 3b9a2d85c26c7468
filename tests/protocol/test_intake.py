"""What the frames on a link mean, and what happens to claims that cannot be true."""

from typing import TYPE_CHECKING

import msgpack
import pytest

from tests.protocol.pair import DEVICE, Node, World, losing, two
from zmesh.protocol.bounds import (
    MAX_EPOCH,
    NO_ID,
    REST_REDIAL,
    STORE_RETRY,
    TRACES_AT_ONCE,
    WINDOW_MESSAGES,
)
from zmesh.protocol.codec import MAGIC, encode
from zmesh.protocol.commands import Attach, Close, SetStatus
from zmesh.protocol.envelope import Envelope
from zmesh.protocol.frames import (
    Ack,
    AgentRecord,
    Bye,
    Cancel,
    Changes,
    Data,
    Ending,
    Fate,
    Frame,
    Gone,
    Have,
    Item,
    Kind,
    Ops,
    Outcome,
    Peers,
    Ping,
    Trace,
    Traced,
    Unknown,
)
from zmesh.protocol.guard import Refusal
from zmesh.protocol.intake import take_in
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Link, Received, Sent

if TYPE_CHECKING:
    from zmesh.protocol.effects import Persist

LIMITS = (WINDOW_MESSAGES,) * 5
NORMAL = Priority.NORMAL


def say(world: World, source: Node, target: Node, frame: Frame) -> None:
    """Let a frame arrive as if `source` had sent it."""
    world.inject(target, encode(source.remote(target).link.id, frame), source.device, source.store)


def ack(number: int, **changes: object) -> Ack:
    fields: dict[str, object] = {
        "epoch": 1, "cursors": (0, 0, number, 0, 0), "limits": LIMITS, "endings": (), "rewinds": (), "outcomes": 0,
        "roster": 0,
    }  # fmt: skip
    return Ack(**fields | changes)  # type: ignore[arg-type]


def data(first: int, *items: Item, epoch: int = 1, floor: int = 0) -> Data:
    return Data(epoch, NORMAL, floor, first, items or (Item(NO_ID, None, b"", b""),))


def endings(node: Node) -> list[tuple[int, str]]:
    return [(row.number, row.code) for row in node.disk.snapshot().endings]


def test_a_frame_without_a_rule_changes_nothing() -> None:
    _, a, b = two()
    take_in(a.core.node, a.remote(b), Unknown(0x42))
    assert not a.core.node.turn.open


# --- DATA ---


def test_messages_are_taken_in_order_and_a_gap_asks_for_a_rewind_once() -> None:
    world, a, b = two()
    say(world, a, b, data(3))
    say(world, a, b, data(4))
    world.settle()
    asked = [f.rewinds for f in world.frames(Ack, "b") if isinstance(f, Ack) and f.rewinds]
    assert asked == [((NORMAL, 1),)]
    say(world, a, b, data(1))
    assert b.remote(a).ins[NORMAL].cursor == 1


def test_a_duplicate_is_acknowledged_and_not_stored_again() -> None:
    world, a, b = two()
    ident = a.send("inbox@b")
    world.run(1.0)
    before = len(world.frames(Ack, "b"))
    say(world, a, b, data(1))
    assert len(world.frames(Ack, "b")) == before + 1
    assert b.inserted(ident) == [Received.STORED]


def test_an_empty_place_ends_as_skipped_until_the_floor_covers_it() -> None:
    world, a, b = two()
    world.drop.append(lambda *_: True)
    say(world, a, b, data(1))
    say(world, a, b, data(2))
    assert endings(b) == [(1, "skipped"), (2, "skipped")]
    say(world, a, b, data(3, floor=1))
    assert endings(b) == [(2, "skipped"), (3, "skipped")]
    say(world, a, b, Ping(1, (0, 0, 3, 0, 0), (0, 0, 2, 0, 0), 1))
    assert endings(b) == [(3, "skipped")]


@pytest.mark.parametrize(
    ("ident", "change", "code"),
    [
        (NO_ID, lambda envelope: envelope, "bad-envelope"),
        (b"i" * 16, lambda envelope: envelope[:-1], "bad-envelope"),
        (b"i" * 16, lambda envelope: envelope.replace(b"me@a", b"me@x"), "forged-sender"),
        (b"i" * 16, lambda envelope: envelope.replace(b"inbox", b"inbux"), "unknown-mailbox"),
    ],
)
def test_what_cannot_be_stored_ends_its_number_and_nothing_else(ident: bytes, change: object, code: str) -> None:
    world, a, b = two()
    a.holding = True
    good = a.send("inbox@b", b"good")
    envelope = a.core.node.outbox.by_id[good].envelope
    say(world, a, b, data(1, Item(ident, None, change(envelope), b""), Item(good, 9000, envelope, b"good")))  # type: ignore[operator]
    assert endings(b) == [(1, code)]
    assert b.bodies == [b"good"]
    assert b.remote(a).up


def test_while_the_disk_fails_nothing_is_taken_in_and_all_of_it_comes_again() -> None:
    world, a, b = two()
    b.failing = "disk full"
    a.send("inbox@b", b"1")
    world.settle()
    a.send("inbox@b", b"2")
    world.settle()
    assert b.remote(a).ins[NORMAL].seen == 0
    say(world, a, b, Outcome(1, 1, (Fate("handled", "", (b"i" * 16,)),)))
    say(world, a, b, Gone(1, NORMAL, 1, 5, NO_ID))
    assert b.remote(a).heard.seen == b.remote(a).ins[NORMAL].seen == 0
    b.failing = ""
    world.run(STORE_RETRY + 5.0)
    assert b.bodies == [b"1", b"2"]


def test_a_higher_epoch_begins_at_once_and_a_lower_one_is_ignored() -> None:
    world, a, b = two()
    world.drop.append(lambda *_: True)
    say(world, a, b, data(1))
    say(world, a, b, data(1, epoch=5))
    assert b.remote(a).source_epoch == 5
    assert endings(b) == [(1, "skipped")]
    say(world, a, b, data(1, epoch=4))
    say(world, a, b, Ping(4, (9,) * 5, (0,) * 5, 1))
    say(world, a, b, Gone(4, NORMAL, 1, 9, NO_ID))
    stream = b.remote(a).ins[NORMAL]
    assert (stream.cursor, stream.gap) == (1, False)
    say(world, a, b, Ping(6, (0,) * 5, (0,) * 5, 1))
    assert b.remote(a).source_epoch == 6


# --- the guard ---


class Strict:
    """Takes small messages, and a few of them; remembers what it was asked."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.asked: list[tuple[str, str, int]] = []
        self.charged: list[tuple[str, int, float]] = []

    def refusal(self, device: str, envelope: Envelope, size: int) -> Refusal | None:
        self.asked.append((device, envelope.sender, size))
        return ("denied", "too big for my taste") if size > 5 else None

    def charge(self, device: str, size: int, now: float) -> Refusal | None:
        if not self.left:
            return "rate-limited", "later"
        self.left -= 1
        self.charged.append((device, size, now))
        return None


def guarded(left: int, device: str = "o" * 32) -> tuple[World, Node, Node, Strict]:
    """As `two`, of two devices, b with a guard."""
    world = World()
    a, b = world.add("a", device=device), world.add("b")
    a.open("me")
    b.open("inbox")
    guard = Strict(left)
    b.core.node.guard = guard
    world.meet(a, b)
    world.run(1.0)
    b.listen("inbox")
    return world, a, b, guard


def test_what_the_guard_refuses_ends_with_its_words_and_the_rest_goes_on() -> None:
    world, a, b, guard = guarded(9)
    big, small = a.send("inbox@b", b"much too big"), a.send("inbox@b", b"small")
    world.run(2.0)
    assert (a.receipt(big), a.receipt(small)) == (Sent.REFUSED, Sent.STORED)
    assert [p.detail for p in a.progress if p.id == big] == ["denied: too big for my taste"]
    assert b.bodies == [b"small"]
    assert guard.asked == [(a.device, "me@a", 12), (a.device, "me@a", 5)]
    assert [charge[:2] for charge in guard.charged] == [(a.device, 5)], "what is refused is not counted"
    assert ["too big for my taste" in text for text in b.audits("denied")] == [True]


def test_what_comes_too_fast_comes_again_later_and_nothing_is_lost() -> None:
    world, a, b, guard = guarded(2)
    idents = [a.send("inbox@b", bytes([n])) for n in range(5)]
    world.run(0.4)
    assert sorted(b.bodies) == [b"\0", b"\1"]
    assert {p.detail for p in a.progress if p.state is Sent.QUEUED} == {"rate-limited: later"}
    urgent = a.send("inbox@b", b"!", priority=Priority.CRITICAL)
    guard.left = 1
    world.run(0.05)
    assert b.bodies[2:] == [b"!"], "the stream is not stalled by what waits"
    guard.left = 99
    world.run(30.0)
    assert sorted(b.bodies) == [b"\0", b"\1", b"\2", b"\3", b"\4", b"!"]
    assert {a.receipt(ident) for ident in (*idents, urgent)} == {Sent.STORED}


def test_what_its_mailbox_refuses_is_not_counted() -> None:
    world, a, b, guard = guarded(9)
    b.core.node.inbox.mailboxes["inbox"].size = 1 << 40
    a.send("inbox@b")
    world.run(0.2)
    assert len(guard.asked) == 1
    assert guard.charged == []
    assert b.audits("mailbox-full") == [], "nor is it an offence"


def test_of_its_own_device_the_guard_is_not_asked() -> None:
    world, a, b, guard = guarded(0, device=DEVICE)
    ident = a.send("inbox@b", b"as big as it likes")
    world.run(1.0)
    assert a.receipt(ident) is Sent.STORED
    assert (guard.asked, guard.charged, b.bodies) == ([], [], [b"as big as it likes"])


def test_a_copy_that_comes_again_is_not_counted_again() -> None:
    world, a, b, guard = guarded(9)
    a.send("inbox@b", b"once")
    world.run(2.0)
    (frame,) = (frame for frame in world.frames(Data, "a") if isinstance(frame, Data))
    say(world, a, b, frame)
    assert len(guard.asked) == len(guard.charged) == 1


# --- ACK ---


def test_an_ack_is_evidence_only_for_the_link_that_is_up_and_the_epoch_it_names() -> None:
    world, a, b = two()
    world.drop.append(losing(Ack, b))
    ident = a.send("inbox@b")
    world.settle()
    say(world, b, a, ack(1, epoch=7))
    assert a.states(ident) == []
    a.core.undeliverable(b.store, world.now)
    say(world, b, a, ack(1))
    assert a.states(ident) == []
    world.drop.clear()
    world.run(10.0)
    assert a.states(ident) == [Sent.STORED]


def test_an_ack_settles_and_its_endings_count_for_their_class_only() -> None:
    world, a, b = two()
    world.drop.append(losing(Ack, b))
    ident = a.send("inbox@b")
    world.settle()
    say(world, b, a, ack(1, endings=(Ending(Priority.HIGH, 1, "denied", "no"),)))
    assert a.states(ident) == [Sent.STORED]


def test_an_ack_beyond_what_was_sent_ends_the_link() -> None:
    world, a, b = two()
    say(world, b, a, ack(1))
    assert a.remote(b).link.state is Link.IDLE
    assert a.audits("ack-beyond")


def test_a_rewind_is_granted_above_the_floor_and_doubted_below_it() -> None:
    world, a, b = two()
    a.send("inbox@b", b"1")
    world.run(1.0)
    world.drop.append(losing(Ack, b))
    a.send("inbox@b", b"2")
    world.settle()
    before = len(world.frames(Data, "a"))
    say(world, b, a, ack(1, rewinds=((NORMAL, 2),)))
    assert len(world.frames(Data, "a")) == before + 1
    link = a.remote(b).link.id
    say(world, b, a, ack(1, rewinds=((NORMAL, 1), (NORMAL, 2))))
    assert a.remote(b).link.id != link, "its disk may have gone back in time: HELLO will tell"
    world.drop.clear()
    world.run(5.0)
    assert a.remote(b).up
    assert b.bodies == [b"1", b"2"]


# --- OUTCOME ---


def test_an_outcome_is_confirmed_after_its_commit_and_again_when_repeated() -> None:
    world, a, b = two()
    ident = a.send("inbox@b")
    world.run(1.0)
    world.drop.append(lambda *_: True)
    outcome = Outcome(1, 1, (Fate("handled", "", (ident,)),))
    a.holding = True
    before = len(world.frames(Ack, "a"))
    say(world, b, a, outcome)
    assert len(world.frames(Ack, "a")) == before
    a.commit_held()
    assert a.receipt(ident) is Sent.HANDLED
    say(world, b, a, outcome)
    assert [f.outcomes for f in world.frames(Ack, "a")[before:] if isinstance(f, Ack)] == [1, 1]
    assert a.states(ident) == [Sent.STORED, Sent.HANDLED]


def test_an_outcome_before_its_ack_waits_for_it() -> None:
    world, a, b = two()
    world.drop.append(losing(Ack, b))
    ident = a.send("inbox@b")
    world.settle()
    say(world, b, a, Outcome(1, 1, (Fate("handled", "", (ident,)),)))
    assert a.receipt(ident) is Sent.QUEUED
    assert a.remote(b).heard.seen == 0


def test_confirmed_outcomes_are_forgotten() -> None:
    world, a, b = two()
    a.send("inbox@b")
    world.run(1.0)
    b.done()
    world.run(1.0)
    assert b.disk.snapshot().outcomes == ()
    assert not b.remote(a).outcomes.pending


# --- CANCEL, PING, GONE, PEERS, BYE ---


def test_a_cancel_ends_what_its_sender_sent_and_nobody_took() -> None:
    world, a, b = two(listening=False)
    ident = a.send("inbox@b")
    world.run(1.0)
    say(world, a, b, Cancel((ident,)))
    world.run(1.0)
    assert a.receipt(ident) is Sent.EXPIRED


def test_a_ping_is_answered_by_an_ack_that_asks_for_a_lost_tail() -> None:
    world, a, b = two()
    say(world, a, b, Ping(1, (0, 0, 3, 0, 0), (0,) * 5, 1))
    asked = [f.rewinds for f in world.frames(Ack, "b") if isinstance(f, Ack) and f.rewinds]
    assert asked == [((NORMAL, 1),)]


def test_what_is_gone_is_jumped_over_only_if_it_is_what_comes_next() -> None:
    world, a, b = two()
    world.drop.append(lambda *_: True)
    say(world, a, b, data(1))
    say(world, a, b, Gone(1, NORMAL, 3, 5, b"5" * 16))
    say(world, a, b, Gone(1, NORMAL, 1, 1, b"1" * 16))
    assert b.remote(a).ins[NORMAL].cursor == 1
    assert b.audits("lost") == []
    say(world, a, b, Gone(1, NORMAL, 1, 5, b"5" * 16))
    stream = b.remote(a).ins[NORMAL]
    assert (stream.cursor, stream.cursor_id) == (5, b"5" * 16)
    assert "4 messages from b" not in b.audits("lost")[0]
    assert "(class 2, 2 to 5)" in b.audits("lost")[0]


def test_a_flood_of_losses_does_not_fill_the_log_and_the_store() -> None:
    world, a, b = two()
    for number in range(1, 100):
        say(world, a, b, Gone(1, NORMAL, number, number, b"i" * 16))
    assert b.remote(a).ins[NORMAL].cursor == 99
    assert len(b.audits("lost")) == len([n for n in b.notices if n.level == "error"]) == 1


@pytest.mark.parametrize("frame", [
    data(1, epoch=MAX_EPOCH + 1), Ping(MAX_EPOCH + 1, (0,) * 5, (0,) * 5, 1), Gone(MAX_EPOCH + 1, 2, 1, 5, NO_ID),
])  # fmt: skip
def test_an_epoch_beyond_all_is_a_lie(frame: Frame) -> None:
    """Whoever could name the highest number there is would leave no room for a new epoch."""
    world, a, b = two()
    say(world, a, b, frame)
    assert b.audits("bad-epoch")
    assert b.remote(a).source_epoch <= 1
    assert not b.remote(a).up


def test_a_roster_that_says_nothing_new_is_confirmed_and_changes_nothing() -> None:
    world, a, b = two()
    changes = b.core.node.changes
    commits: list[Persist] = []
    commit = b.commit
    b.commit = lambda effect: (commits.append(effect), commit(effect))[1]  # type: ignore[func-returns-value,method-assign]
    agents = tuple(b.remote(a).roster.agents.values())
    say(world, a, b, Peers(99, 0, 1, agents))
    assert b.remote(a).roster_fresh == 99
    assert b.core.node.changes == changes
    assert commits == []
    acks = [frame for frame in world.frames(Ack, "b") if isinstance(frame, Ack)]
    assert acks[-1].roster == 99


@pytest.mark.parametrize("kind", [Have, Ops])
def test_what_is_told_of_a_log_is_passed_on_while_the_link_is_up(kind: type[Have | Ops]) -> None:
    world, a, b = two()
    say(world, a, b, kind(b"log", b"content"))
    assert [(told.store, told.device, told.frame) for told in b.told] == [(a.store, a.device, kind(b"log", b"content"))]
    b.core.undeliverable(a.store, world.now)
    say(world, a, b, kind(b"log", b"more"))
    assert len(b.told) == 1


@pytest.mark.parametrize("frame", [Trace(b"m" * 16, sent=True), Traced(b"m" * 16, sent=False, state="stored")])
def test_a_question_about_a_message_and_its_answer_are_passed_on_while_the_link_is_up(frame: Frame) -> None:
    world, a, b = two()
    say(world, a, b, frame)
    assert [(each.store, each.device, each.frame) for each in b.inquired] == [(a.store, a.device, frame)]
    b.core.undeliverable(a.store, world.now)
    say(world, a, b, frame)
    assert len(b.inquired) == 1


def test_who_asks_about_too_many_messages_is_not_heard_and_that_is_said_once() -> None:
    world, a, b = two()
    for number in range(2 * int(TRACES_AT_ONCE)):
        say(world, a, b, Trace(number.to_bytes(16, "big"), sent=True))
    assert TRACES_AT_ONCE <= len(b.inquired) < 2 * TRACES_AT_ONCE
    assert ["asks about more messages" in notice.text for notice in b.notices].count(True) == 1
    heard = len(b.inquired)
    world.run(1.0)
    say(world, a, b, Trace(b"m" * 16, sent=True))
    assert len(b.inquired) == heard + 1


def test_a_roster_counts_when_all_its_pages_are_there() -> None:
    world, a, b = two()
    say(world, a, b, Peers(7, 0, 2, ()))
    assert "me" in b.remote(a).roster.agents
    say(world, a, b, Peers(7, 1, 2, ()))
    assert b.remote(a).roster.agents == {}
    assert b.remote(a).roster_fresh == 7


def test_a_goodbye_ends_the_link_and_only_errors_are_shown() -> None:
    world, a, b = two()
    say(world, a, b, Bye("closing", "the peer is closing"))
    assert b.remote(a).link.state is Link.IDLE
    assert b.remote(a).trouble == ""
    world.run(5.0)
    assert b.remote(a).up
    say(world, a, b, Bye("ack-beyond", "you are wrong"))
    assert b.remote(a).trouble == "you are wrong"
    assert any("hung up: ack-beyond" in notice.text for notice in b.notices)
    assert b.core.node.by_link == {}


def test_what_a_peer_says_forges_no_line_in_the_log() -> None:
    world, a, b = two()
    link = a.remote(b).link.id
    text = "all is well\nCRITICAL zmesh.peer all is lost \x1b[2J\u202e"
    frame = MAGIC + bytes([1, Kind.BYE]) + link + msgpack.packb(["x\n", text])
    world.inject(b, [frame], a.device, a.store)
    assert b.remote(a).trouble == "all is well?CRITICAL zmesh.peer all is lost ?[2J?"
    assert all(character.isprintable() for notice in b.notices for character in notice.text)


# --- changes of a roster ----------------------------------------------------------------------------------------------


def test_what_has_changed_is_taken_by_who_has_the_base_or_something_younger() -> None:
    world, a, b = two()
    remote = b.remote(a)
    say(world, a, b, Peers(7, 0, 1, (AgentRecord("me"),)))
    say(world, a, b, Changes(9, 7, (AgentRecord("code"),)))
    say(world, a, b, Changes(12, 8, (AgentRecord("me", attached=True, status="busy"),)))
    assert (remote.roster_fresh, set(remote.roster.agents), remote.roster.agents["me"].status) == (
        12, {"me", "code"}, "busy",
    )  # fmt: skip
    acks = [frame.roster for frame in world.frames(Ack, "b") if isinstance(frame, Ack)]
    assert acks[-3:] == [7, 9, 12]


@pytest.mark.parametrize(("version", "base"), [(9, 8), (7, 6), (6, 5), (9, 9)])
def test_what_does_not_follow_on_is_ignored_and_the_answer_says_so(version: int, base: int) -> None:
    world, a, b = two()
    remote = b.remote(a)
    say(world, a, b, Peers(7, 0, 1, (AgentRecord("me"),)))
    acks = len(world.frames(Ack, "b"))
    say(world, a, b, Changes(version, base, (AgentRecord("code"),)))
    assert (remote.roster_fresh, set(remote.roster.agents)) == (7, {"me"})
    told = [frame.roster for frame in world.frames(Ack, "b")[acks:] if isinstance(frame, Ack)]
    assert told == [7]


def test_nothing_follows_on_a_roster_of_another_link() -> None:
    world, a, b = two()
    remote = b.remote(a)
    remote.roster_fresh = 0  # as `new_link` leaves it
    say(world, a, b, Changes(9, 2, (AgentRecord("code"),)))
    assert "code" not in remote.roster.agents


def test_a_roster_that_would_grow_too_large_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    world, a, b = two()
    monkeypatch.setattr("zmesh.protocol.remote.MAX_AGENTS", 1)
    fresh = b.remote(a).roster_fresh
    say(world, a, b, Changes(99, fresh, (AgentRecord("code"),)))
    assert (b.remote(a).roster_fresh, set(b.remote(a).roster.agents)) == (fresh, {"me"})


def test_changes_that_are_lost_are_made_up_for_within_a_second() -> None:
    world, a, b = two()
    world.drop.append(losing(Changes, a))
    a.command(Attach("me", 1))
    world.run(1.0)
    assert b.remote(a).roster.agents["me"].attached
    assert a.remote(b).roster_known == a.remote(b).roster_sent


def test_who_does_not_know_changes_gets_rosters() -> None:
    """A peer of an older version skips the kind: the roster comes with a PING."""
    world, a, b = two()
    world.drop.append(losing(Changes, a))
    for number in range(3):
        a.open(f"new{number}")
        world.run(1.0)
        assert f"new{number}" in b.remote(a).roster.agents


def test_the_latest_ack_says_what_they_know() -> None:
    world, a, b = two()
    remote = a.remote(b)
    version = remote.roster_sent
    seen = []
    for claim in (version - 1, version, version + 1, 0):
        say(world, b, a, Ack(1, (0,) * 5, (1024,) * 5, (), (), 0, claim))
        seen.append(remote.roster_known)
    assert seen == [version - 1, version, version, 0]
    world.run(1.0)
    assert remote.roster_known == version


def test_a_status_is_no_reason_to_write_or_to_look_addresses_up_again() -> None:
    world, a, b = two()
    a.command(Attach("me", 1))
    world.run(1.0)
    commits: list[Persist] = []
    commit = b.commit
    b.commit = lambda effect: (commits.append(effect), commit(effect))[1]  # type: ignore[func-returns-value,method-assign]
    found, changes = b.core.node.find("me"), b.core.node.changes
    a.command(SetStatus("me", 1, "busy"))
    world.run(1.0)
    assert b.remote(a).roster.agents["me"].status == "busy"
    assert b.core.node.find("me") is found
    assert b.core.node.changes > changes, "but whoever watches is told"
    assert commits == []


@pytest.mark.parametrize("code", ["paused", "disconnected"])
def test_who_rests_is_dialled_rarely_and_spoken_of_once(code: str) -> None:
    world, a, b = two()
    say(world, a, b, Bye(code, "it rests"))
    assert b.remote(a).trouble == "it rests"
    assert b.remote(a).link.timer() == world.now + REST_REDIAL
    take_in(b.core.node, b.remote(a), Bye(code, "it rests"))
    b.flush()
    assert [notice.level for notice in b.notices if "it rests" in notice.text] == ["info"]


def test_who_says_goodbye_is_known_to_be_gone() -> None:
    world, a, b = two()
    assert not b.remote(a).closed
    a.command(Close())
    world.settle()
    assert b.remote(a).closed
    a.restart()
    world.meet(a, b)
    world.run(3.0)
    assert b.remote(a).up
    assert not b.remote(a).closed


def test_who_hangs_up_for_another_reason_may_be_there() -> None:
    world, a, b = two()
    say(world, a, b, Bye("ack-beyond", ""))
    assert not b.remote(a).closed


def test_outcomes_that_were_confirmed_while_the_disk_was_full_are_dropped_when_it_is_not() -> None:
    world, a, b = two()
    a.holding = True
    b.listen("inbox")
    a.holding = False
    a.send("inbox@b")
    world.run(1.0)
    a.kill()
    b.done()
    assert b.disk.snapshot().outcomes
    a.start()
    a.listen("me")
    world.drop.append(lambda _, target, frame: target is b and isinstance(frame, Ack))
    world.run(2.0)
    b.failing = "disk full"
    world.drop.clear()
    world.run(5.0)
    assert not b.remote(a).outcomes.pending
    assert b.disk.snapshot().outcomes, "that could not be written down"
    b.failing = ""
    world.run(5.0)
    assert not b.disk.snapshot().outcomes
