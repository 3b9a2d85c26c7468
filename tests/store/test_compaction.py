"""A store gives back what is free, in steps between which it commits, and comes to an end."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import Driven, Flaky, driven, end_out, put_out
from zmesh.errors import StoreError
from zmesh.peer import sqlite_store
from zmesh.peer.compaction import Sizes, compact, sizes_of
from zmesh.peer.connection import Connection
from zmesh.peer.schema import PAGE_BYTES

ROWS = 400


@pytest.fixture(autouse=True)
def never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's own idle time would do some of it."""
    monkeypatch.setattr(sqlite_store, "IDLE_AFTER", 3600.0)


def fill(it: Driven) -> None:
    """Make a store of 40 MB, of which nothing is needed any more but the last message."""
    for first in range(1, ROWS + 1, 40):
        it.commit(*(put_out(row, body=bytes([row % 256]) * 100_000) for row in range(first, first + 40)))
    it.commit(end_out(1, ROWS - 1))


def intact(it: Driven) -> None:
    """The last message is there, and the file is sound."""
    assert it.ask("SELECT body FROM outbody") == [(bytes([ROWS % 256]) * 100_000,)]
    assert it.ask("PRAGMA integrity_check") == [("ok",)]


def test_everything_that_is_free_goes_back_to_the_file_system(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        fill(it)
        steps: list[tuple[int, int]] = []
        before, after = asyncio.run(compact(it.store, lambda done, total: steps.append((done, total))))
        assert before.free > 30_000_000
        assert (after.free, after.log) == (0, 0)
        assert after.file < 2_000_000
        assert [done for done, _ in steps] == sorted({done for done, _ in steps}), "each step brings it further"
        assert steps[-1] == (before.free // PAGE_BYTES,) * 2
        assert asyncio.run(compact(it.store)) == (after, after), "there is nothing more to do"
        assert asyncio.run(sizes_of(it.store)) == after == Sizes(it.store.path.stat().st_size, 0, 0)
        intact(it)


def test_commits_get_their_turn_between_two_steps(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        fill(it)
        tokens: list[int] = []
        seen: list[int] = []

        def told(*_: int) -> None:
            tokens.append(it.submit(put_out(ROWS + len(tokens) + 1, body=b"new")))
            seen.append(sum(it.recorder.settled([token]) for token in tokens[:-1]))

        asyncio.run(compact(it.store, told))
        assert len(tokens) > 5
        assert seen == list(range(len(tokens))), "what was submitted during a step is on disk before the next has ended"
        it.recorder.wait(lambda: it.recorder.settled(tokens))
        assert it.ask("SELECT count(*) FROM outbox") == [(ROWS + len(tokens),)]


def test_a_disk_that_refuses_loses_nothing_and_the_next_try_goes_on(tmp_path: Path) -> None:
    flaky = Flaky()
    with driven(tmp_path, connect=flaky) as it:
        fill(it)

        def told(done: int, total: int) -> None:
            if done > total // 2:
                flaky.connection.fuse = 3

        with pytest.raises(StoreError, match="made to fail"):
            asyncio.run(compact(it.store, told))
        flaky.connection.fuse = None
        before, after = asyncio.run(compact(it.store))
        assert 0 < before.free < 20_000_000, "half of it was done"
        assert after.free == 0
        it.commit(put_out(ROWS + 1))
        it.commit(end_out(ROWS + 1, ROWS + 1))
        intact(it)


def test_it_ends_although_others_take_what_was_free(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        fill(it)
        taken = False

        def take(connection: Connection) -> Any:
            connection.execute("DELETE FROM meta WHERE key = 'ballast'")
            connection.execute("REPLACE INTO meta VALUES ('ballast', zeroblob(30000000))")

        def told(*_: int) -> None:
            nonlocal taken
            if not taken:
                taken = True
                it.store.change(take)

        _, after = asyncio.run(compact(it.store, told))
        assert taken
        assert after.free < 10_000_000
        intact(it)
