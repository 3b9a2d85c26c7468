"""Errors of SQLite in words that a person can act on."""

import re
import sqlite3
from pathlib import Path

import pytest

from zmesh.errors import StoreError, StoreFull
from zmesh.peer.connection import explain, sqlite_connect

PATH = Path("/somewhere/store.db")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_FULL, "the disk is full: /somewhere/store.db cannot grow. Free"),
        (sqlite3.SQLITE_READONLY, "/somewhere/store.db is read-only. Mount"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "/somewhere/store.db is read-only. Mount"),
        (sqlite3.SQLITE_IOERR_WRITE, r"reading or writing /somewhere/store.db failed \(words of SQLite\)"),
        (sqlite3.SQLITE_BUSY, "/somewhere/store.db is in use by another program"),
        (sqlite3.SQLITE_CORRUPT, r"/somewhere/store.db is damaged \(words of SQLite\). Restore"),
        (sqlite3.SQLITE_NOTADB, "/somewhere/store.db is not a zmesh store"),
        (sqlite3.SQLITE_CANTOPEN, "/somewhere/store.db cannot be opened"),
        (sqlite3.SQLITE_ERROR, r"/somewhere/store.db could not be read or written \(words of SQLite\)"),
    ],
)
def test_each_code_has_its_words(code: int, words: str) -> None:
    error = explain(code, "words of SQLite", PATH)
    assert re.match(words, str(error))
    assert type(error) is (StoreFull if code == sqlite3.SQLITE_FULL else StoreError)


def test_errors_of_statements_are_store_errors(tmp_path: Path) -> None:
    connection = sqlite_connect(tmp_path / "store.db")
    with pytest.raises(StoreError, match="no such table: nowhere"):
        connection.execute("SELECT * FROM nowhere")
    connection.execute("CREATE TABLE t (x)")
    assert connection.execute("INSERT INTO t VALUES (?), (?)", (1, 2)) == []
    assert connection.total_changes == 2
    assert connection.execute("SELECT x FROM t") == [(1,), (2,)]
    states = [connection.in_transaction]
    for statement in ("BEGIN", "ROLLBACK"):
        connection.execute(statement)
        states.append(connection.in_transaction)
    assert states == [False, True, False]
    connection.close()
    connection.close()


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing/store\.db cannot be opened"):
        sqlite_connect(tmp_path / "missing" / "store.db")


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StoreError, match=r"too old for .*store\.db"):
        sqlite_connect(tmp_path / "store.db")
