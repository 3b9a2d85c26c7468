"""A store's id is its own: a copy, or a store whose machine or device has changed, takes a new one; its mail stays."""

import logging
import shutil
from pathlib import Path

import pytest

from tests.store.support import DEST, DEVICE, driven, end_out, put_in, put_out
from zmesh.peer import store_identity
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.peer.store_identity import machine_name
from zmesh.protocol.journal import (
    InStreamRow,
    MoveOut,
    OutStreamRow,
    PutEnding,
    PutMailbox,
    PutOutcome,
    PutPeer,
    SetIn,
)
from zmesh.protocol.ownership import owns
from zmesh.protocol.states import Received, Sent

PEER = PutPeer(DEST, "studio", "device", ("tcp://10.0.0.2:7666",), 3, (), 5.0)


def fill(directory: Path) -> bytes:
    """Make a store with some of everything; return its id."""
    with driven(directory, machine="here") as it:
        it.commit(
            *(put_out(row) for row in range(1, 8)),
            end_out(1, 1),
            MoveOut(2, DEST, 1, 2, Sent.EXPIRING),
            MoveOut(5, b"", 0, 0, Sent.WAITING),
            MoveOut(6, DEST, 0, 0, Sent.QUEUED),
            MoveOut(7, DEST, 3, 0, Sent.QUEUED),
            put_in(1),
            put_in(2),
            SetIn(2, Received.HANDLED, 1, 0.0),
            OutStreamRow(DEST, 2, 1, 5, 4, 1, b"f" * 16),
            InStreamRow(DEST, 2, 1, 2, b"c" * 16),
            PutEnding(DEST, 2, 1, "refused", ""),
            PutOutcome(1, DEST, b"i" * 16, "handled", ""),
            PutMailbox("code", "coder", ("python",)),
            PEER,
        )
        return it.snapshot.store


def check_adopted(
    directory: Path,
    old: bytes,
    why: str,
    caplog: pytest.LogCaptureFixture,
    *,
    machine: str = "here",
    device: str = DEVICE,
) -> None:
    with caplog.at_level(logging.WARNING, "zmesh.peer"), driven(directory, device, machine=machine) as it:
        snapshot = it.snapshot
        assert it.store.adopted
        assert owns(device, snapshot.store)
        assert snapshot.store != old
        assert [(out.row, out.state, out.dest, out.epoch, out.number) for out in snapshot.outs] == [
            (row, Sent.WAITING, b"", epoch, 0) for row, epoch in ((3, 2), (4, 2), (5, 0), (6, 0), (7, 2))
        ], "what had a number, or was in doubt already, is in doubt: an epoch above the first one says so"
        assert [out.envelope for out in snapshot.outs] == [b"envelope"] * 5
        [(state, detail)] = it.ask("SELECT state, detail FROM outbox WHERE row = 2")
        assert state == Sent.LOST, "nobody has said that it did not arrive"
        assert detail == "it was expiring when the store took a new id: it may have arrived"
        assert it.ask("SELECT row FROM outbody ORDER BY row") == [(row,) for row in range(3, 8)]
        assert [received.row for received in snapshot.ins] == [1]
        assert (snapshot.out_streams, snapshot.in_streams) == ((), ())
        assert (snapshot.endings, snapshot.outcomes) == ((), ())
        assert snapshot.peers == (PEER,)
        assert snapshot.mailboxes == (PutMailbox("code", "coder", ("python",)),)
        [(kind, text)] = it.ask("SELECT kind, text FROM audit")
        assert kind == "adopted"
        assert old.hex() in text
        assert why in text
    assert why in caplog.text
    with driven(directory, device, machine=machine) as it:
        assert not it.store.adopted, "the second start changes nothing any more"
        assert it.snapshot == snapshot


def test_a_store_keeps_its_id(tmp_path: Path) -> None:
    old = fill(tmp_path)
    assert owns(DEVICE, old)
    with driven(tmp_path, machine="here") as it:
        assert it.snapshot.store == old
        assert not it.store.adopted
        assert len(it.snapshot.out_streams) == 1


def test_a_copy_takes_a_new_id_and_keeps_its_mail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = fill(tmp_path / "original")
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    check_adopted(tmp_path / "copy", old, "a copy of the file", caplog)
    with driven(tmp_path / "original", machine="here") as it:
        assert it.snapshot.store == old


def test_a_store_on_another_machine_takes_a_new_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = fill(tmp_path)
    check_adopted(tmp_path, old, "on another machine", caplog, machine="there")


def test_a_store_whose_device_has_a_new_key_takes_a_new_id_and_keeps_its_mail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = fill(tmp_path)
    check_adopted(tmp_path, old, "made with another device key", caplog, device="e" * 32)


def test_two_stores_of_a_device_have_two_ids(tmp_path: Path) -> None:
    assert fill(tmp_path / "one") != fill(tmp_path / "other")


def test_a_moved_directory_is_no_copy(tmp_path: Path) -> None:
    old = fill(tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    with driven(tmp_path / "after", machine="here") as it:
        assert it.snapshot.store == old


def test_the_machine_has_a_name_and_the_store_knows_it_only_as_a_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "machine-id"
    monkeypatch.setattr(store_identity, "_MACHINE_ID", file)
    assert machine_name().startswith("node-")
    file.write_text("0123456789abcdef\n")
    assert machine_name() == "0123456789abcdef"
    with driven(tmp_path / "peer") as it:
        assert len(it.store.meta["machine"]) == 32
        assert b"0123456789abcdef" not in b"".join(it.store.meta.values())


def test_own_values_in_meta_stay(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        it.store.put_meta("clock", b"12").result(30)
        it.store.put_meta("clock", b"13").result(30)
        assert it.store.meta["clock"] == b"13"
        with pytest.raises(ValueError, match="'store' belongs to the store"):
            it.store.put_meta("store", b"x" * 16)
    store = SqliteStore(tmp_path, DEVICE)
    store.open()
    assert store.meta["clock"] == b"13"
    store.close()
