"""One process per store, and the second one is told who the first is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import killed_in_the_end
from zmesh.errors import PeerRunning, StoreError
from zmesh.peer.lock_file import LockFile

HOLDER = """
import sys
from pathlib import Path
from zmesh.peer.lock_file import LockFile
LockFile(Path(sys.argv[1])).acquire()
print("locked", flush=True)
sys.stdin.read()
"""


def test_another_process_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder,
        killed_in_the_end(holder),
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(PeerRunning, match=rf"process {holder.pid} .*another name") as refused:
            LockFile(path).acquire()
        assert refused.value.pid == holder.pid
        holder.kill()
        holder.wait(30)
    LockFile(path).acquire()


def test_another_peer_of_this_process_is_refused_until_the_lock_is_released(tmp_path: Path) -> None:
    first, second = LockFile(tmp_path / "store.lock"), LockFile(tmp_path / "store.lock")
    first.acquire()
    with pytest.raises(PeerRunning, match=str(os.getpid())):
        second.acquire()
    with pytest.raises(PeerRunning):
        first.acquire()
    first.release()
    first.release()
    second.acquire()


def test_an_owner_whose_pid_cannot_be_read_is_still_an_owner(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    LockFile(path).acquire()  # its descriptor stays open, and with it the lock
    path.write_bytes(b"?")
    with pytest.raises(PeerRunning, match="another process") as refused:
        LockFile(path).acquire()
    assert refused.value.pid is None


def test_a_longer_pid_of_an_earlier_owner_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    path.write_bytes(b"99999999999\n")
    LockFile(path).acquire()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "store.lock"
    with pytest.raises(StoreError, match=r"cannot write .*missing/store\.lock: No such file.*ZMESH_HOME"):
        LockFile(path).acquire()
