"""The file under the trust store: private, one change at a time, and its errors say where and what to do."""

import multiprocessing
import sqlite3
import stat
from pathlib import Path

import pytest

from zmesh.errors import TrustError
from zmesh.trust.trust_file import VERSION, TrustFile


def test_it_is_made_private_and_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "trust.db"
    for _ in range(2):
        file = TrustFile(path)
        with file.write():
            file.change("REPLACE INTO meta VALUES ('a', 'b')")
        for made in tmp_path.iterdir():
            assert stat.S_IMODE(made.stat().st_mode) == 0o600, made
        assert file.rows("PRAGMA user_version") == [(VERSION,)]
        assert file.rows("PRAGMA synchronous") == [(2,)]
        file.close()
        file.close()


def open_it(path: Path, start: "multiprocessing.synchronize.Event", said: "multiprocessing.Queue[str]") -> None:
    start.wait()
    try:
        TrustFile(path).close()
        said.put("")
    except TrustError as error:
        said.put(str(error))


def test_processes_that_open_a_new_file_at_once_all_succeed(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, said = spawn.Event(), spawn.Queue()
    racers = [spawn.Process(target=open_it, args=(tmp_path / "trust.db", start, said)) for _ in range(6)]
    for racer in racers:
        racer.start()
    start.set()
    assert [said.get(timeout=30) for _ in racers] == [""] * len(racers)
    for racer in racers:
        racer.join(30)


@pytest.mark.parametrize("mode", [0o640, 0o606, 0o660])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "trust.db"
    TrustFile(path).close()
    path.chmod(mode)
    with pytest.raises(TrustError, match=r"trust\.db .*is open to others .*chmod 600"):
        TrustFile(path)


def test_a_link_a_directory_and_rubbish_are_refused(tmp_path: Path) -> None:
    TrustFile(tmp_path / "real.db").close()
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    (tmp_path / "dir.db").mkdir()
    (tmp_path / "rubbish.db").write_bytes(b"rubbish" * 1000)
    (tmp_path / "rubbish.db").chmod(0o600)
    for name in ("link.db", "dir.db", "rubbish.db", "nowhere/x.db"):
        with pytest.raises(TrustError, match=rf"cannot use .*{name}, which holds who is trusted: .*backup"):
            TrustFile(tmp_path / name)


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "trust.db"
    TrustFile(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(TrustError, match="later zmesh: upgrade"):
        TrustFile(path)


def change_and_fail(file: TrustFile) -> None:
    with file.write():
        with file.write():
            assert file.change("INSERT INTO meta VALUES ('a', 'b')") == 1
        raise KeyError


def test_a_change_is_whole_or_nothing(tmp_path: Path) -> None:
    one, two = TrustFile(tmp_path / "trust.db"), TrustFile(tmp_path / "trust.db")
    version = two.version()
    with pytest.raises(KeyError):
        change_and_fail(one)
    assert two.rows("SELECT * FROM meta") == []
    assert two.version() == version
    with one.write():
        one.change("INSERT INTO meta VALUES ('a', 'b')")
    assert two.rows("SELECT * FROM meta") == [("a", "b")]
    assert two.version() != version
    with pytest.raises(TrustError, match="UNIQUE"), one.write():
        one.change("INSERT INTO meta VALUES ('a', 'b')")
    with one.write():
        pass
    one.close()
    two.close()
