"""The store stays small: a bound of ended messages, and space that comes back."""

import time
from pathlib import Path

import pytest

from tests.store.support import PATIENCE, Driven, driven, end_out, put_in, put_out
from zmesh.peer import sqlite_store, upkeep
from zmesh.peer.connection import Connection
from zmesh.peer.upkeep import KEPT_AUDIT, SPARE_PAGES, Upkeep
from zmesh.protocol.journal import PutAudit, SetIn
from zmesh.protocol.states import Received, Sent

KEEP = 100


def rest(it: Driven, keep: Upkeep) -> None:
    """Do all housekeeping that an idle store does."""

    def work(connection: Connection) -> None:
        connection.execute("PRAGMA query_only=OFF")
        for _ in range(1000):
            if not keep.idle_step(connection):
                return
        pytest.fail("housekeeping does not end")

    it.store.query(work).result(PATIENCE)


@pytest.fixture(autouse=True)
def never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's own idle time would get in the way."""
    monkeypatch.setattr(sqlite_store, "IDLE_AFTER", 3600.0)


def test_the_oldest_ended_messages_go_and_the_others_stay(tmp_path: Path) -> None:
    with driven(tmp_path, keep=KEEP) as it:
        for first in range(1, 1001, 50):
            rows = range(first, first + 50)
            it.commit(*map(put_out, rows), *map(put_in, rows))
            # Every 50th stays as it is.
            it.commit(end_out(first + 1, first + 49), *(SetIn(row, Received.HANDLED, 1, 0.0) for row in rows[1:]))
            for table in ("outbox", "inbox"):
                [[ended]] = it.ask(f"SELECT count(*) FROM {table} WHERE row % 50 <> 1")  # noqa: S608 - one of two names
                assert ended <= KEEP + 2 * 50, "the bound, and what came since housekeeping last looked"
        keep = Upkeep(KEEP)
        rest(it, keep)
        for table in ("outbox", "inbox"):
            rows_left = [row for (row,) in it.ask(f"SELECT row FROM {table} ORDER BY row")]  # noqa: S608
            ended_left = [row for row in rows_left if row % 50 != 1]
            assert KEEP // 2 <= len(ended_left) <= KEEP
            assert ended_left == [row for row in range(ended_left[0], 1001) if row % 50 != 1], "the newest"
            assert [row for row in rows_left if row % 50 == 1] == list(range(1, 1001, 50)), "what has not ended"


def test_dead_messages_count_as_ended_and_take_their_bodies_along(tmp_path: Path) -> None:
    with driven(tmp_path, keep=KEEP) as it:
        it.commit(*map(put_in, range(1, 301)))
        it.commit(*(SetIn(row, Received.DEAD, 8, 0.0) for row in range(1, 301)))
        rest(it, Upkeep(KEEP))
        [[rows]] = it.ask("SELECT count(*) FROM inbox")
        assert KEEP // 2 <= rows <= KEEP
        assert it.ask("SELECT count(*) FROM inbody") == [(rows,)]


def test_a_backlog_prunes_nothing(tmp_path: Path) -> None:
    with driven(tmp_path, keep=KEEP) as it:
        it.commit(*(put_out(row, state=Sent.WAITING) for row in range(1, 501)))
        keep = Upkeep(KEEP)
        rest(it, keep)
        assert not keep.outs.due
        assert it.ask("SELECT count(*) FROM outbox") == [(500,)]


def test_space_comes_back(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        for first in range(1, 401, 40):
            it.commit(*(put_out(row, body=bytes(100_000)) for row in range(first, first + 40)))
        keep = Upkeep()
        rest(it, keep)
        full = it.store.path.stat().st_size
        it.commit(end_out(1, 400))
        keep.added(0, 0)
        rest(it, keep)
        [[free]] = it.ask("PRAGMA freelist_count")
        assert free <= SPARE_PAGES
        it.store.query(lambda connection: connection.execute("PRAGMA wal_checkpoint(PASSIVE)")).result(PATIENCE)
        assert it.store.path.stat().st_size < full / 5


def test_the_audit_log_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "KEPT_AUDIT", 10)
    assert KEPT_AUDIT > 10
    with driven(tmp_path) as it:
        it.commit(*(PutAudit(float(number), "loss", str(number)) for number in range(25)))
        rest(it, Upkeep())
        assert it.ask("SELECT text FROM audit ORDER BY entry") == [(str(number),) for number in range(15, 25)]


def test_an_idle_store_does_all_that_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "IDLE_AFTER", 0.0)
    with driven(tmp_path, keep=KEEP) as it:
        it.commit(*map(put_out, range(1, 1001)), end_out(1, 1000))
        deadline = time.monotonic() + PATIENCE
        while it.ask("SELECT count(*) FROM outbox")[0][0] > KEEP:
            assert time.monotonic() < deadline, "housekeeping never came"


def test_the_audit_log_is_cut_in_a_store_that_is_never_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "KEPT_AUDIT", 10)
    monkeypatch.setattr(upkeep, "AUDIT_CUT_EVERY", 5)
    with driven(tmp_path) as it:
        for number in range(60):
            it.commit(PutAudit(float(number), "test", f"line {number}"))
        [[lines]] = it.ask("SELECT count(*) FROM audit")
        assert 10 <= lines <= 10 + 5
        assert it.ask("SELECT text FROM audit ORDER BY entry DESC LIMIT 1") == [("line 59",)]
