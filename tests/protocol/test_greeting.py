"""HELLO: whose link it is, and whether a disk went back in time."""

from dataclasses import replace

import pytest

from tests.protocol.pair import DEVICE, Node, World, losing, one_way, two
from tests.stores import store_of
from zmesh.protocol.address import store_text
from zmesh.protocol.bounds import MAX_EPOCH, NO_ID, WINDOW_MESSAGES
from zmesh.protocol.codec import decode, encode
from zmesh.protocol.commands import Halt, Sighted
from zmesh.protocol.frames import Ack, Bye, Cursor, Data, Gone, Hello, Reset
from zmesh.protocol.greeting import Evidence, examine
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Link, Sent

NORMAL = Priority.NORMAL
STRANGER = store_of(DEVICE, 1)
LINK = b"link of "


def hello(store: bytes = STRANGER, **changes: object) -> Hello:
    plain = Hello(1, 1, store, "s", (), b"", up=False, epoch=0, cursors=(Cursor(0, NO_ID),) * 5, limits=(9,) * 5)
    return replace(plain, **changes)  # type: ignore[arg-type]


def alone() -> tuple[World, Node]:
    world = World()
    return world, world.add("a")


# --- who it is ---


def test_a_stranger_of_an_admitted_device_is_remembered_and_dialled() -> None:
    world, a = alone()
    world.inject(a, encode(LINK, hello(endpoints=("tcp://192.0.2.1:1",))), DEVICE, b"path")
    assert a.core.node.remotes[STRANGER].name == "s"
    assert a.core.node.remotes[STRANGER].link.state is Link.DIALING
    assert [peer.store for peer in a.disk.snapshot().peers] == [STRANGER]
    assert a.core.node.by_link[DEVICE, LINK].store == STRANGER


@pytest.mark.parametrize(
    ("device", "named", "dialled"),
    [
        ("e" * 32, ("tcp://127.0.0.1:1", "tcp://[::1]:1", "tcp://192.0.2.1:1"), ("tcp://192.0.2.1:1",)),
        ("e" * 32, ("tcp://127.0.0.1:1",), ("tcp://127.0.0.1:1",)),
        (DEVICE, ("tcp://127.0.0.1:1", "tcp://192.0.2.1:1"), ("tcp://127.0.0.1:1", "tcp://192.0.2.1:1")),
    ],
    ids=["another device", "another device on this host", "our own device"],
)
def test_the_loopback_of_another_device_is_ours(device: str, named: tuple[str, ...], dialled: tuple[str, ...]) -> None:
    world, a = alone()
    store = store_of(device, 1)
    world.inject(a, encode(LINK, hello(store=store, endpoints=named)), device, b"path")
    assert a.core.node.remotes[store].link.endpoints == dialled


def test_a_hello_from_elsewhere_is_followed_and_a_lie_about_that_costs_a_link_no_message() -> None:
    world, a, b = two()
    lie = hello(store=b.store, endpoints=("tcp://192.0.2.66:1",), echo=a.remote(b).link.id, up=True)
    honest = replace(lie, endpoints=(b.endpoint,))
    for each in (honest, lie):
        world.inject(a, encode(a.remote(b).link.peer_id, each), b.device, b"path")
    world.run(1.5)
    assert "tcp://192.0.2.66:1" in a.remote(b).link.endpoints
    message = a.send("inbox@b")
    world.run(15.0)
    assert a.remote(b).up, "the address that answered has been tried again"
    assert a.receipt(message) is Sent.STORED


def test_our_own_store_is_nobody_else() -> None:
    world, a = alone()
    world.inject(a, encode(LINK, hello(store=a.store)), DEVICE, b"path")
    assert a.core.node.remotes == {}


def test_a_store_of_another_device_is_refused() -> None:
    world, a, b = two()
    before = dict(a.core.node.by_link)
    world.inject(a, encode(LINK, hello(store=b.store)), "e" * 32, b"path")
    assert "belongs to another device" in a.audits("forged-store")[0]
    assert a.core.node.by_link == before
    assert a.remote(b).up


def test_a_store_that_nobody_has_seen_is_refused_to_a_device_that_does_not_own_it() -> None:
    world, a = alone()
    world.inject(a, encode(LINK, hello()), "e" * 32, b"path")
    claim = f"'s' of device {'e' * 32} claims store {store_text(STRANGER)[:8]}"
    assert a.audits("forged-store") == [
        f"forged-store: {claim}, which belongs to another device: it is refused",
    ]
    assert (a.core.node.remotes, a.core.node.by_link, a.disk.snapshot().peers) == ({}, {}, ())
    world.inject(a, encode(LINK, hello()), DEVICE, b"path")
    assert a.core.node.remotes[STRANGER].device == DEVICE


def test_a_store_whose_device_is_not_known_belongs_to_its_owner_and_no_other() -> None:
    """Its streams survived on disk, the row that names its device did not."""
    world, a, b = two()
    a.send("inbox@b")
    world.run(1.0)
    b.kill()
    a.disk._peers.clear()  # noqa: SLF001
    a.restart()
    assert a.remote(b).device == ""
    world.inject(a, encode(LINK, hello(store=b.store)), "e" * 32, b"path")
    assert a.remote(b).device == ""
    b.start()
    b.command(Sighted(a.store, a.name, a.device, (a.endpoint,)))
    world.run(5.0)
    assert a.remote(b).device == b.device
    assert a.remote(b).up


def test_nobody_is_admitted_when_all_places_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    world, a, _ = two()
    monkeypatch.setattr("zmesh.protocol.admission.MAX_PEERS", 1)
    world.inject(a, encode(LINK, hello()), DEVICE, b"path")
    assert STRANGER not in a.core.node.remotes


def test_an_epoch_beyond_all_is_a_lie() -> None:
    world, a, b = two()
    world.inject(a, encode(LINK, hello(store=b.store, epoch=MAX_EPOCH + 1)), DEVICE, b"path")
    assert any(notice.text.startswith("bad-epoch") for notice in a.notices)
    assert a.remote(b).epoch == 1
    assert a.remote(b).up


def test_a_new_name_is_written_down() -> None:
    world, a, b = two()
    b.core.node.name = "renamed"
    b.core.ready(a.store, world.now)
    b.flush()
    world.run(1.0)
    assert a.remote(b).name == "renamed"
    assert a.disk.snapshot().peers[0].name == "renamed"


def test_a_new_link_replaces_the_old_one() -> None:
    world, a, b = two()
    old = a.remote(b).link.peer_id
    b.core.ready(a.store, world.now)
    b.flush()
    world.run(1.0)
    assert a.remote(b).link.peer_id != old
    assert list(a.core.node.by_link) == [(DEVICE, a.remote(b).link.peer_id)]
    assert a.remote(b).up
    assert b.remote(a).up


def test_a_greeting_of_a_link_that_was_replaced_is_answered_by_a_reset_and_changes_nothing() -> None:
    world, a = alone()
    for link in (LINK, b"link two", LINK):
        world.inject(a, encode(link, hello()), DEVICE, b"path")
    assert a.core.node.remotes[STRANGER].link.peer_id == b"link two"
    assert list(a.core.node.by_link) == [(DEVICE, b"link two")]
    assert [decode(answer.parts) for answer in world.answers] == [(LINK, Reset())]


def test_a_link_id_that_another_device_has_used_is_not_late() -> None:
    world, a = alone()
    for link in (LINK, b"link two"):
        world.inject(a, encode(link, hello()), DEVICE, b"path")
    world.inject(a, encode(LINK, hello()), "e" * 32, b"elsewhere")
    assert world.answers == []
    assert a.audits("forged-store")


def test_a_link_that_was_replaced_by_a_late_greeting_is_given_up_and_another_one_comes() -> None:
    """Of two greetings the first has come last: it can not be told from a newer one."""
    world, a, b = two()
    world.inject(a, encode(LINK, hello(store=b.store, name="b", endpoints=(b.endpoint,))), b.device, b.store)
    world.run(5.0)
    assert a.remote(b).up
    assert b.remote(a).up
    assert a.remote(b).link.peer_id == b.remote(a).link.id


@pytest.mark.parametrize(("oldest", "newest"), [(2, 9), (0x80, 0xFF)])
def test_a_version_that_is_not_spoken_is_answered_with_the_reason(oldest: int, newest: int) -> None:
    world, a = alone()
    world.inject(a, encode(LINK, hello(proto_min=oldest, proto_max=newest)), DEVICE, b"path")
    link, frame = decode(world.answers[0].parts)
    assert (link, world.answers[0].path) == (LINK, b"path")
    assert isinstance(frame, Bye)
    assert frame.code == "version"
    assert f"versions {oldest} to {newest}" in frame.text
    assert a.core.node.remotes == {}


@pytest.mark.parametrize("device", [DEVICE, "e" * 32])
def test_a_known_peer_that_was_upgraded_beyond_us_is_not_talked_to(device: str) -> None:
    world, a, b = two()
    world.inject(a, encode(LINK, hello(store=b.store, proto_min=2, proto_max=2)), device, b"path")
    assert (a.remote(b).link.state is Link.IDLE) == (device == DEVICE)
    assert ("upgrade the older one" in a.remote(b).trouble) == (device == DEVICE)
    world.run(5.0)
    assert a.remote(b).trouble == "", "it speaks our version after all"


def test_the_shell_is_told_of_every_link_that_comes_up() -> None:
    world, a, b = two()
    assert [(linked.store, linked.device) for linked in a.linked] == [(b.store, b.device)]
    a.core.ready(b.store, world.now)
    a.flush()
    world.run(1.0)
    assert len(a.linked) == 2


def test_links_that_end_because_of_a_version_are_forgotten() -> None:
    world, a = alone()
    for number in range(20):
        link = number.to_bytes(8, "big")
        for frame in (hello(), hello(proto_min=9, proto_max=9)):
            world.inject(a, encode(link, frame), DEVICE, b"path")
        assert a.core.node.by_link == {}


# --- where our streams stand there ---


def test_a_link_goes_on_behind_what_is_there() -> None:
    world, a, b = two()
    world.drop.append(losing(Ack, b))
    ident = a.send("inbox@b")
    world.settle()
    a.core.ready(b.store, world.now)
    a.flush()
    world.drop.clear()
    world.run(1.0)
    assert a.states(ident) == [Sent.STORED]
    assert len([f for f in world.frames(Data, "a") if isinstance(f, Data)]) == 1


@pytest.mark.parametrize(
    ("changes", "ours", "gone"),
    [
        ({}, False, ()),
        ({"epoch": 3}, True, ()),
        ({"epoch": 1}, False, ((2, 1, 5),)),
        ({"number": 5, "id": b"5" * 16}, False, ()),
        ({"number": 5, "id": b"x" * 16}, True, ()),
        ({"number": 3, "id": b"3" * 16}, False, ((2, 4, 5),)),
        ({"number": 6, "id": NO_ID}, False, ()),
        ({"number": 6, "id": b"x" * 16}, True, ()),
        ({"number": 8, "id": NO_ID}, True, ()),
    ],
)
def test_what_a_cursor_says_of_two_disks(
    changes: dict[str, object], *, ours: bool, gone: tuple[tuple[int, int, int], ...]
) -> None:
    """Our stream: epoch 2, floor 5 with its id, 6 and 7 void and marked, the mark of 8 not on disk."""
    world, a, b = two()
    remote = a.remote(b)
    remote.epoch = 2
    stream = remote.outs[NORMAL]
    stream.floor, stream.floor_id, stream.saved_mark, stream.next_number = 5, b"5" * 16, 7, 9
    stream.mark = 8
    number, ident = changes.get("number", 5), changes.get("id", b"5" * 16)
    cursors = [Cursor(0, NO_ID)] * 5
    cursors[NORMAL] = Cursor(int(str(number)), bytes(ident))  # type: ignore[call-overload]
    evidence = examine(remote, hello(epoch=changes.get("epoch", 2), cursors=tuple(cursors)))
    assert evidence == Evidence(ours, gone)
    assert bool(evidence) == (ours or bool(gone))
    assert world.now


def test_a_rollback_of_ours_begins_a_new_epoch_with_the_full_window() -> None:
    world, a, b = two()
    copy = a.disk.copy()
    a.send("inbox@b")
    world.run(1.0)
    a.restart(copy)
    world.run(5.0)
    assert a.remote(b).epoch == 2
    assert all(stream.limit == WINDOW_MESSAGES for stream in a.remote(b).outs)
    assert "epoch 2 begins" in a.audits("rollback")[0]


def test_who_claims_a_rollback_of_ours_again_and_again_does_not_fill_the_audit_log() -> None:
    world, a, b = two()
    world.run(1.0)
    for _ in range(5):
        b.remote(a).source_epoch = a.remote(b).epoch + 1
        b.core.node.end_link(b.remote(a), delay=0.0)
        b.flush()
        world.run(1.5)
    assert a.remote(b).epoch > 3
    assert len(a.audits("rollback")) == 1


def test_gone_leaves_when_the_loss_is_on_disk_and_nothing_before_it() -> None:
    world, a, b = two()
    copy = b.disk.copy()
    ident = a.send("inbox@b")
    world.run(1.0)
    b.restart(copy)
    a.holding = True
    world.run(1.0)
    assert world.frames(Gone) == []
    a.commit_held()
    assert world.frames(Gone) == [Gone(1, NORMAL, 1, 1, ident)]
    assert a.receipt(ident) is Sent.LOST
    assert a.states(ident) == [Sent.STORED, Sent.LOST]
    after = a.send("inbox@b")
    world.run(5.0)
    assert a.receipt(after) is Sent.STORED


def test_a_hello_that_knows_what_is_not_on_our_disk_yet_settles_nothing() -> None:
    """It is believed up to the mark that was committed; a new epoch costs only the liar."""
    world, a, b = two()
    b.kill()
    world.run(30.0)
    ident = a.send("inbox@b")
    remote = a.remote(b)
    world.drop.append(lambda *_: True)
    a.holding = True
    remote.outs[NORMAL].mark = 1  # wanted, and its commit is under way
    for number in (b"link one", b"link two"):
        a.core.ready(b.store, world.now)
        a.flush()
        for echo in (b"", remote.link.id):
            cursors = [Cursor(0, NO_ID)] * 5
            cursors[NORMAL] = Cursor(1, ident)
            frame = hello(store=b.store, name="b", echo=echo, up=bool(echo), epoch=1, cursors=tuple(cursors))
            world.inject(a, encode(number, frame), b.device, b.store)
            world.now += 0.1
    assert remote.outs[NORMAL].high <= remote.outs[NORMAL].saved_mark
    confirmation = Ack(1, (0, 0, 1, 0, 0), (9,) * 5, (), (), 0, 0)
    world.inject(a, encode(b"link two", confirmation), b.device, b.store)
    a.commit_held()
    assert a.states(ident) == []


def test_losses_of_one_class_are_told_once_in_a_while() -> None:
    world, a, b = two()
    copy = b.disk.copy()
    for _ in range(5):
        a.send("inbox@b")
        world.run(1.0)
        b.restart(copy.copy())
        world.run(0.5)
    assert len(a.audits("lost")) < 3


@pytest.mark.parametrize("how", ["the commit fails", "the link is another one"])
def test_gone_that_could_not_leave_comes_with_the_next_greeting(how: str) -> None:
    world, a, b = two()
    copy = b.disk.copy()
    ident = a.send("inbox@b")
    world.run(1.0)
    b.restart(copy)
    a.holding = True
    world.run(1.0)
    if how == "the commit fails":
        a.failing = "disk full"
    else:
        b.kill()
        world.run(30.0)
    a.commit_held()
    a.failing = ""
    assert world.frames(Gone) == []
    if not b.alive:
        b.start()
    after = a.send("inbox@b")
    world.run(30.0)
    assert a.receipt(ident) is Sent.LOST
    assert a.receipt(after) is Sent.STORED
    assert b.audits("lost")


def test_a_hello_that_came_back_is_refused_in_silence_when_its_version_is_not_spoken() -> None:
    world, a, b = two()
    a.core.returned(b.store, encode(LINK, hello(store=b.store, proto_min=9, proto_max=9)), world.now)
    a.flush()
    assert world.answers == []
    assert "upgrade the older one" in a.remote(b).trouble


def test_the_log_says_who_is_answered_on_its_own_connection() -> None:
    _, a, b = one_way()
    assert any("a~" in notice.text and "cannot be dialled from here" in notice.text for notice in b.notices)
    assert not any("cannot be dialled from here" in notice.text for notice in a.notices)


def test_a_device_that_calls_back_can_speak_for_its_own_stores_only() -> None:
    world = World()
    a, b, c = world.add("a"), world.add("b", device="e" * 32), world.add("c")
    world.meet(a, b, c)
    before = a.remote(c).link.peer_id
    a.core.returned(b.store, encode(LINK, hello(store=c.store)), world.now)
    a.flush()
    assert "belongs to another device" in a.audits("forged-store")[0]
    assert a.remote(c).link.peer_id == before


def test_who_is_not_to_be_linked_is_told_so_and_leaves_no_trace() -> None:
    world, a = alone()
    a.command(Halt(a.ticket(), b"", "process 7"))
    world.inject(a, encode(LINK, hello()), DEVICE, b"path")
    (answer,) = world.answers
    assert answer.path == b"path"
    assert decode(answer.parts) == (LINK, Bye("paused", "it is paused: mail for it waits until it is resumed there"))
    assert a.core.node.remotes == {}
