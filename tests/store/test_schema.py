"""Settings that hold, migrations that keep data, and files that are not ours."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import DEVICE, driven, put_in, put_out
from zmesh.errors import StoreError
from zmesh.peer.connection import Connection, Row, SqliteConnection, sqlite_connect
from zmesh.peer.schema import APPLICATION_ID, INCREMENTAL, MIGRATIONS, configure, migrate, pragma
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.peer.store_reader import read_snapshot
from zmesh.protocol.frames import AgentRecord
from zmesh.protocol.journal import PutMailbox


def opened(path: Path) -> Connection:
    connection = sqlite_connect(path)
    configure(connection, path)
    return connection


def test_the_settings_of_a_new_store_and_of_one_that_was_there(tmp_path: Path) -> None:
    for _ in range(2):
        with driven(tmp_path) as it:
            assert it.ask("PRAGMA journal_mode") == [("wal",)]
            assert it.ask("PRAGMA synchronous") == [(2,)]
            assert it.ask("PRAGMA locking_mode") == [("exclusive",)]
            assert it.ask("PRAGMA auto_vacuum") == [(INCREMENTAL,)]
            assert it.ask("PRAGMA page_size") == [(8192,)]
            assert it.ask("PRAGMA secure_delete") == [(0,)]
            assert it.ask("PRAGMA user_version") == [(len(MIGRATIONS),)]
            assert it.ask("PRAGMA application_id") == [(APPLICATION_ID,)]
            it.commit(put_out(it.snapshot.next_out))
            assert not (tmp_path / "store.db-shm").exists(), (
                "the index of the WAL is shared: a second writer could come"
            )
            assert (tmp_path / "store.db-wal").exists()
    assert not (tmp_path / "store.db-wal").exists()


class NoWal(SqliteConnection):
    """A file system that cannot do WAL."""

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        return super().execute(sql.replace("journal_mode=WAL", "journal_mode=DELETE"), params)


class NoSync(SqliteConnection):
    """Somebody's build that will not sync."""

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        return super().execute(sql.replace("synchronous=FULL", "synchronous=OFF"), params)


@pytest.mark.parametrize(("kind", "setting"), [(NoWal, "journal_mode=wal"), (NoSync, "synchronous=2")])
def test_a_setting_that_does_not_hold_is_an_error(tmp_path: Path, kind: type[SqliteConnection], setting: str) -> None:
    with pytest.raises(StoreError, match=rf"store\.db: SQLite does not keep {setting}.*local disk"):
        SqliteStore(tmp_path, DEVICE, connect=kind).open()


def test_migrations_keep_what_was_there(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        it.commit(put_out(1), put_in(1))
        before = it.ask("SELECT * FROM outbox"), it.ask("SELECT * FROM inbody")
    newer = (*MIGRATIONS, ("ALTER TABLE outbox ADD COLUMN room TEXT NOT NULL DEFAULT ''", "CREATE TABLE room (id)"))
    path = tmp_path / "store.db"
    connection = opened(path)
    assert not migrate(connection, path, newer)
    assert pragma(connection, "user_version") == len(newer)
    assert connection.execute("SELECT * FROM outbox") == [(*row, "") for row in before[0]]
    assert connection.execute("SELECT * FROM inbody") == before[1]
    connection.close()
    with pytest.raises(StoreError, match=rf"store\.db is of schema version {len(newer)}, made by a newer zmesh"):
        SqliteStore(tmp_path, DEVICE).open()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connection = opened(path)
    with pytest.raises(StoreError):
        migrate(connection, path, (*MIGRATIONS, ("CREATE TABLE room (id)", "CREATE TABLE room (id)")))
    assert pragma(connection, "user_version") == len(MIGRATIONS)
    assert not connection.in_transaction
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'room'") == []
    connection.close()


def test_version_1_is_as_it_was_released(tmp_path: Path) -> None:
    """Its tables may only change by further migrations."""
    connection = opened(tmp_path / "store.db")
    migrate(connection, tmp_path / "store.db", MIGRATIONS[:1])
    tables = {
        name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if not name.startswith("sqlite_")
    }
    connection.close()
    assert {name: " ".join(columns) for name, columns in tables.items()} == {
        "meta": "key value",
        "outbox": "row id dest address klass epoch number state deadline size detail",
        "outbody": "row envelope body",
        "inbox": "row id device source mailbox klass state attempts due deadline size",
        "inbody": "row envelope body",
        "out_stream": "dest klass epoch next_number mark floor floor_id",
        "in_stream": "source klass epoch cursor cursor_id confirmed",
        "ending": "source klass number code text",
        "outcome": "number dest id code text",
        "mailbox": "name role capabilities",
        "peer": "store name device endpoints roster agents last_seen",
        "audit": "entry at kind text",
    }


def test_version_2_keeps_mailboxes_and_what_was_known_of_others(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connection = opened(path)
    migrate(connection, path, MIGRATIONS[:1])
    connection.execute("INSERT INTO mailbox VALUES ('code', 'coder', '[\"python\"]')")
    old = '[["browser", "gr\\u00f6\u00dfer", ["search", "\\"read\\""], true], ["archive", "", [], false]]'
    for store, agents in ((b"A" * 16, old), (b"B" * 16, "[]")):
        row = (store, "studio", "device", "[]", 7, agents, 5.0)
        connection.execute("INSERT INTO peer VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    migrate(connection, path, MIGRATIONS[:2])
    snapshot = read_snapshot(connection, b"S" * 16)
    connection.close()
    assert snapshot.mailboxes == (PutMailbox("code", "coder", ("python",), "", None),)
    assert [peer.agents for peer in snapshot.peers] == [
        (AgentRecord("browser", "gr\u00f6\u00dfer", ("search", '"read"')), AgentRecord("archive")),
        (),
    ]
    assert snapshot.peers[0].roster == 7


def test_garbage_is_not_a_store_and_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"these are not the pages you are looking for" * 1000)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"store\.db is not a zmesh store\. Move it away"):
        SqliteStore(tmp_path, DEVICE).open()
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE diary (entry)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"store\.db is the database of another program"):
        SqliteStore(tmp_path, DEVICE).open()
    assert path.read_bytes() == before


def test_a_damaged_page_is_found(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        it.commit(*(put_out(row, body=bytes(2000)) for row in range(1, 200)))
    path = tmp_path / "store.db"
    data = bytearray(path.read_bytes())
    for page in range(8192 * 8, len(data), 8192):
        data[page : page + 64] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"store\.db is damaged .*backup"):
        SqliteStore(tmp_path, DEVICE).open()


def test_a_store_in_use_by_another_program(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        it.commit(put_out(1))
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"store\.db is in use by another program"):
        SqliteStore(tmp_path, DEVICE).open()
    other.close()
    with driven(tmp_path) as it:
        assert len(it.snapshot.outs) == 1
