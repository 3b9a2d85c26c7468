"""Disks that are full or read-only: a clear reason, nothing lost, and work goes on when there is space again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.support import DEVICE, driven, end_out, put_out
from zmesh.errors import StoreError
from zmesh.peer.connection import Connection, sqlite_connect
from zmesh.peer.sqlite_store import SqliteStore

ROOT = Path(__file__).parent.parent.parent
CAN_MOUNT = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("unshare") is not None
real_disk = pytest.mark.skipif(not CAN_MOUNT, reason="only root can mount a small file system (Linux)")

MOUNT = 'mount -t tmpfs -o size=3m none "$2"; head -c 1048576 /dev/zero > "$2/ballast"'
RUN = 'exec "$0" -m tests.store.full_disk "$1" "$2"'


def in_own_namespace(script: str, what: str, directory: Path) -> None:
    """Run a shell script where it can mount what it likes; the mounts go with it."""
    command = ["unshare", "--mount", "sh", "-ec", script, sys.executable, what, str(directory)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 0, f"{ended.stdout}{ended.stderr}"


@real_disk
def test_a_full_disk(tmp_path: Path) -> None:
    in_own_namespace(f"{MOUNT}; {RUN}", "full", tmp_path)


@real_disk
def test_a_read_only_disk(tmp_path: Path) -> None:
    make = '"$0" -m tests.store.full_disk make "$2"'
    in_own_namespace(f'{MOUNT}; {make}; mount -o remount,ro "$2"; {RUN}', "read-only", tmp_path)


def test_a_store_at_its_size_limit_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """The same without root: SQLite reports a limit of pages as it does a full disk."""
    connections: list[Connection] = []

    def connect(path: Path) -> Connection:
        connections.append(sqlite_connect(path))
        return connections[-1]

    with driven(tmp_path, connect=connect) as it:
        it.commit(put_out(1, body=bytes(100_000)))
        it.store.query(lambda connection: connection.execute("PRAGMA max_page_count=60")).result(30)
        before = it.submit(put_out(2), generation=1)
        reason = it.refuse(put_out(3, body=bytes(1_000_000)), generation=1)
        assert reason == f"the disk is full: {tmp_path / 'store.db'} cannot grow. Free some space on its file system"
        assert before in it.recorder.committed_tokens
        assert it.refuse(put_out(4), generation=1) == reason
        it.commit(end_out(1, 1), generation=2)
        it.commit(put_out(5, body=bytes(100_000)), generation=2)
        it.store.query(lambda connection: connection.execute("PRAGMA max_page_count=10000")).result(30)
        it.commit(put_out(6, body=bytes(1_000_000)), generation=2)
        assert it.ask("SELECT row FROM outbox") == [(1,), (2,), (5,), (6,)]


def test_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without root, whom no permission stops."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError, match=r"cannot write .*store\.lock: Permission denied.*ZMESH_HOME"):
        SqliteStore(tmp_path, DEVICE).open()
