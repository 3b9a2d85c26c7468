"""The life of a store: opened, started, asked, closed, forgotten, in the wrong order, in the wrong place."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.store.support import DEVICE, PATIENCE, Driven, Recorder, driven, end_out, ident, put_in, put_out
from zmesh.errors import PeerRunning, StoreError
from zmesh.peer.connection import Connection
from zmesh.peer.sqlite_store import ReceiptRow, SqliteStore
from zmesh.peer.store_queue import BATCH_BYTES, BATCH_PERSISTS
from zmesh.protocol.effects import Persist
from zmesh.protocol.journal import FateOut
from zmesh.protocol.states import Sent

FORGETFUL = """
import os, sys
from pathlib import Path
from tests.store.support import DEVICE, Driven, put_out
from zmesh.peer.sqlite_store import SqliteStore
it = Driven(SqliteStore(Path(sys.argv[1]), DEVICE))
for row in range(1, 1001):
    it.submit(put_out(row))
"""


def test_a_new_store_is_empty_private_and_has_an_id(tmp_path: Path) -> None:
    directory = tmp_path / "some" / "where"
    with driven(directory) as it:
        assert len(it.snapshot.store) == 16
        assert any(it.snapshot.store)
        assert (it.snapshot.next_out, it.snapshot.next_in, it.snapshot.outs, it.snapshot.ins) == (1, 1, (), ())
        assert not it.store.adopted
        assert directory.stat().st_mode & 0o777 == 0o700
        it.commit(put_out(1))
        for file in directory.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file.name


def test_receipts_and_questions_from_any_thread(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        it.commit(put_out(1), put_out(2), end_out(1, 1))
        it.commit(FateOut(put_out(1).dest, (ident(1),), Sent.DEAD, "given up"))
        answers: list[object] = []
        asker = threading.Thread(
            target=lambda: answers.extend(it.store.receipt(ident(number)).result(PATIENCE) for number in (1, 2, 3))
        )
        asker.start()
        asker.join(PATIENCE)
        dest = put_out(1).dest
        assert answers == [
            ReceiptRow(ident(1), "code@studio", dest, Sent.DEAD, "given up"),
            ReceiptRow(ident(2), "code@studio", dest, Sent.QUEUED, ""),
            None,
        ]
        with pytest.raises(StoreError, match="read-only"):
            it.ask("DELETE FROM outbox")
        it.commit(put_out(3))
        with pytest.raises(ZeroDivisionError):
            it.store.query(lambda _: 1 // 0).result(PATIENCE)
        cancelled = it.store.receipt(ident(1))
        cancelled.cancel()
        assert it.ask("SELECT count(*) FROM outbox") == [(3,)]


def test_what_is_fetched_is_what_is_there(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        it.commit(*(put_out(row, body=b"out%d" % row) for row in range(1, 201)), end_out(1, 10))
        it.commit(*(put_in(row, body=b"in%d" % row) for row in range(1, 101)))
        it.store.fetch_out(range(1, 300))
        it.store.fetch_in([5, 500])
        it.store.fetch_in([])
        it.recorder.wait(lambda: it.recorder.bodies and len(it.recorder.messages) == 2)
        assert it.recorder.bodies == [{row: b"out%d" % row for row in range(11, 201)}]
        assert it.recorder.messages == [{5: (b"envelope", b"in5")}, {}]


def test_what_was_committed_in_one_batch_can_be_fetched_in_it(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        with it.held():
            it.submit(put_out(1))
            it.store.fetch_out([1])
        it.recorder.wait(lambda: it.recorder.bodies)
        assert it.recorder.bodies == [{1: b"body"}]


def test_a_batch_has_bounds(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        before = it.recorder.batches
        with it.held():
            tokens = [it.submit(put_out(row)) for row in range(1, BATCH_PERSISTS + 2)]
        it.recorder.wait(lambda: it.recorder.settled(tokens))
        assert it.recorder.batches == before + 2
        large = bytes(BATCH_BYTES // 4)
        with it.held():
            tokens = [it.submit(put_in(row, body=large)) for row in range(1, 6)]
        it.recorder.wait(lambda: it.recorder.settled(tokens))
        assert it.recorder.batches == before + 4


def test_the_loop_is_posted_to(tmp_path: Path) -> None:
    async def main() -> None:
        store, recorder, heard = SqliteStore(tmp_path, DEVICE), Recorder(), asyncio.Event()
        store.open()
        loop = asyncio.get_running_loop()
        recorder.committed = lambda *_: heard.set()  # type: ignore[method-assign]
        store.start(loop.call_soon_threadsafe, recorder)
        store.submit(Persist(1, 1, (put_out(1),)))
        async with asyncio.timeout(PATIENCE):
            await heard.wait()
            await loop.run_in_executor(None, store.close)

    asyncio.run(main())


def test_a_closed_loop_does_not_stop_the_writer(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    store = SqliteStore(tmp_path, DEVICE)
    store.open()
    store.start(loop.call_soon_threadsafe, Recorder())
    store.submit(Persist(1, 1, (put_out(1),)))
    assert store.receipt(ident(1)).result(PATIENCE) is not None
    store.close()


def test_closing_commits_what_was_submitted(tmp_path: Path) -> None:
    with driven(tmp_path) as it, it.held():
        tokens = [it.submit(put_out(row)) for row in range(1, 2001)]
        closer = threading.Thread(target=it.store.close)
        closer.start()
    closer.join(PATIENCE)
    assert list(it.recorder.committed_tokens) == tokens
    with driven(tmp_path) as again:
        assert len(again.snapshot.outs) == 2000
        assert again.snapshot.next_out == 2001


def test_after_close_there_is_a_clear_error(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        pass
    it.store.close()
    for ask in (lambda: it.submit(put_out(1)), lambda: it.store.receipt(ident(1)), lambda: it.store.fetch_out([1])):
        with pytest.raises(StoreError, match=r"store\.db is closed"):
            ask()
    with pytest.raises(StoreError, match="opened before"):
        it.store.open()


def test_the_wrong_order_is_a_clear_error(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, DEVICE)
    with pytest.raises(StoreError, match="is not open"):
        store.start(Recorder().post, Recorder())
    with pytest.raises(StoreError, match="is not started"):
        store.receipt(ident(1))
    store.open()
    with pytest.raises(StoreError, match="opened before"):
        store.open()
    store.close()
    SqliteStore(tmp_path, DEVICE).close()


def test_two_peers_of_one_process_do_not_share_a_store(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        with pytest.raises(PeerRunning, match=rf"process {os.getpid()} already runs the peer"):
            SqliteStore(tmp_path, DEVICE).open()
        it.commit(put_out(1))


def test_a_store_that_did_not_open_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"garbage" * 5000)
    for _ in range(2):
        with pytest.raises(StoreError, match="is not a zmesh store"):
            SqliteStore(tmp_path, DEVICE).open()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*file/peer: Not a directory.*ZMESH_HOME"):
        SqliteStore(tmp_path / "file" / "peer", DEVICE).open()


def test_a_bug_in_the_writer_is_logged_and_releases_the_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("zmesh.peer.sqlite_store.read_bodies", bug)
    with driven(tmp_path) as it:
        it.store.fetch_out([1])
        it.store.close()
    deadline = time.monotonic() + 30
    while "an error in zmesh ended the store" not in caplog.text:  # the thread says so in its own time
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    with pytest.raises(StoreError, match="is closed"):
        it.submit(put_out(1))
    with driven(tmp_path):
        pass


def test_a_read_that_fails_is_no_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(connection: Connection, _: object) -> None:
        connection.execute("SELECT * FROM nowhere")

    monkeypatch.setattr("zmesh.peer.sqlite_store.read_bodies", fails)
    monkeypatch.setattr("zmesh.peer.sqlite_store.read_messages", fails)
    with driven(tmp_path) as it:
        it.store.fetch_out([1])
        it.store.fetch_in([1])
        it.recorder.wait(lambda: len(it.recorder.troubles) == 2)
        assert all("nowhere" in reason for reason in it.recorder.troubles)
        assert not it.recorder.bodies
        assert not it.recorder.messages


def test_a_program_that_forgets_to_close_ends_and_keeps_what_it_submitted(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", FORGETFUL, str(tmp_path)], cwd=root, check=True, timeout=60)
    with driven(tmp_path) as it:
        assert len(it.snapshot.outs) == 1000


def test_a_store_that_is_forgotten_unstarted_can_be_opened_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, DEVICE)
    first = store.open()
    store.close()
    again = Driven(SqliteStore(tmp_path, DEVICE))
    assert again.snapshot == first
    again.store.close()
