"""`zmesh mailbox` as a process: what is listed, moved, replayed and removed, and what is refused with a way out."""

import os

import pytest

import zmesh
from tests.cli.commands import Machine
from zmesh.errors import MessageDead
from zmesh.protocol.bounds import MAX_ATTEMPTS

SOON = 20.0


def kill(code: zmesh.Client) -> None:
    """Give the next message back until it is dead."""
    for _ in range(MAX_ATTEMPTS):
        (message,) = code.take(1, SOON)
        message.nack(0.0)


def test_mailboxes_are_listed_with_what_is_in_them_and_who_has_them(laptop: Machine) -> None:
    assert laptop.run("mailbox", "list").stdout.startswith("there is no mailbox yet")
    with zmesh.connect("ann") as ann, zmesh.connect("code") as code:
        for n in range(3):
            ann.send("code", n)
        code.take(1, SOON)
        empty, full = laptop.json("mailbox", "list")
        assert (empty["name"], empty["waiting"], empty["programs"]) == ("ann", 0, [{"pid": os.getpid(), "holds": 0}])
        assert (full["name"], full["waiting"], full["leased"], full["dead"]) == ("code", 2, 1, 0)
        assert full["programs"] == [{"pid": os.getpid(), "holds": 1}]
        assert [(each["reach"], each["leased"]) for each in full["holders"]] == [("client", 1)]
        heads, _, line = laptop.run("mailbox", "list").stdout.splitlines()
        assert heads.split() == ["MAILBOX", "WAITING", "LEASED", "DEAD", "BYTES", "HOLDERS"]
        assert line.split() == ["code", "2", "1", "0", "3", "1", "(process", f"{os.getpid()})"]


def test_mail_is_moved_with_its_ids_and_its_receipts_go_on(laptop: Machine) -> None:
    with zmesh.connect("ann") as ann, zmesh.connect("code") as code, zmesh.connect("other") as other:
        receipts = [ann.send("code", n) for n in range(3)]
        (held,) = code.take(1, SOON)
        assert laptop.json("mailbox", "move", "code", "other") == {"from": "code", "to": "other", "moved": 2, "dead": 0}
        noted = [line["text"] for line in laptop.json("admin", "log") if line["kind"] == "mailbox.move"]
        assert noted == [f"process {os.getpid()} asks: name='code' into='other'", "done: moved=2 dead=0"]
        assert laptop.run("mailbox", "move", "code", "other").stdout == "0 messages moved from code to other\n"
        moved = other.take(10, SOON)
        assert [message.id for message in moved] == [receipt.id for receipt in receipts[1:]]
        for message in (held, *moved):
            message.done()
        for receipt in receipts:
            receipt.handled(SOON)


def test_dead_mail_is_replayed_and_its_sender_sees_it(laptop: Machine) -> None:
    with zmesh.connect("ann") as ann, zmesh.connect("code") as code:
        receipts = [ann.send("code", n) for n in range(3)]
        for _ in receipts:
            kill(code)
        with pytest.raises(MessageDead):
            receipts[0].handled(SOON)
        assert laptop.json("mailbox", "replay", "code", receipts[1].id.hex()) == {"mailbox": "code", "replayed": 1}
        assert ann.receipt(receipts[1].id).state == "stored"
        assert laptop.run("mailbox", "replay", "code").stdout == "2 messages of code are delivered again\n"
        assert laptop.run("mailbox", "replay", "code").stdout == "nothing in code is dead\n"
        assert "has no dead message" in laptop.fails(1, "mailbox", "replay", "code", receipts[1].id.hex())
        taken = [message for _ in receipts for message in code.take(1, SOON)]
        assert {message.id for message in taken} == {receipt.id for receipt in receipts}
        assert [message.attempt for message in taken] == [1, 1, 1]
        for message in taken:
            message.done()
        for receipt in receipts:
            receipt.handled(SOON)


def test_a_mailbox_is_removed_only_when_nothing_is_in_it_and_nobody_has_it(laptop: Machine) -> None:
    with zmesh.connect("ann") as ann, zmesh.connect("code") as code:
        ann.send("code", "poison")
        kill(code)
        ann.send("code", "x")
        assert "1 dead messages are in it" in laptop.fails(1, "mailbox", "remove", "code")
        assert laptop.run("mailbox", "move", "code", "ann").stdout == (
            "1 message moved from code to ann, and 1 message that is dead\n"
        )
        assert "is in use" in laptop.fails(1, "mailbox", "remove", "code")
    assert laptop.json("mailbox", "remove", "code") == {"removed": "code"}
    assert [info["name"] for info in laptop.json("mailbox", "list")] == ["ann"]
    assert "1 dead messages are in it" in laptop.fails(1, "mailbox", "remove", "ann")


def test_what_cannot_be_is_said_with_the_way_out(laptop: Machine) -> None:
    zmesh.connect("code").close()
    assert "there is no mailbox 'nobody'" in laptop.fails(2, "mailbox", "move", "code", "nobody")
    assert "there is no mailbox 'nobody'" in laptop.fails(2, "mailbox", "replay", "nobody")
    assert "is there already" in laptop.fails(2, "mailbox", "move", "code", "code")
    assert "cannot be moved to another peer" in laptop.misuses("mailbox", "move", "code", "code@studio")
    assert "is not a valid agent name" in laptop.misuses("mailbox", "remove", "a b")
