"""A process that forks keeps its store: whatever the child does, and however it ends, nothing of it is touched."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.store.support import driven, ident
from zmesh.errors import PeerRunning
from zmesh.peer.lock_file import LockFile

FORKING = """
import os, sys
from pathlib import Path
from tests.store.support import DEVICE, Driven, put_out
from zmesh.peer.sqlite_store import SqliteStore

it = Driven(SqliteStore(Path(sys.argv[1]), DEVICE))
it.commit(put_out(1))
child = os.fork()
if child == 0:
    if sys.argv[2] == "close":
        it.store.close()
    if sys.argv[2] == "close the connection":
        it.store._connection.close()
    if sys.argv[2] == "stay":
        sys.stdin.read()
    sys.exit(0)
if sys.argv[2] != "stay":
    assert os.waitpid(child, 0)[1] == 0
it.commit(put_out(2))
print("committed", flush=True)
os.kill(os.getpid(), 9)
"""


def locked(directory: Path) -> bool:
    """Say whether somebody holds the store."""
    lock = LockFile(directory / "store.lock")
    try:
        lock.acquire()
    except PeerRunning:
        return True
    lock.release()
    return False


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.mark.parametrize("way", ["close", "close the connection", "end", "stay"])
def test_what_is_committed_beside_a_forked_child_is_there_after_a_kill(tmp_path: Path, way: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, str(tmp_path), way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert parent.stdout.readline() == "committed\n"
        assert parent.wait(30) == -signal.SIGKILL
        end = time.monotonic() + 20
        while locked(tmp_path):  # a child that is still there lets go of the lock as soon as it runs
            assert time.monotonic() < end, "the lock outlives its owner"
        with driven(tmp_path) as it:
            assert [row.id for row in it.snapshot.outs] == [ident(1), ident(2)]
        parent.stdin.close()
