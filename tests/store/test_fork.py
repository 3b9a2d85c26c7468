"""A process that forks keeps its store: whatever the child does, and however it ends, nothing of it is touched."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.cli.commands import until
from tests.store.support import PATIENCE, driven, ident
from tests.waiting import ENOUGH, killed_in_the_end
from zmesh.errors import PeerRunning
from zmesh.peer.connection import SqliteConnection
from zmesh.peer.lock_file import LockFile
from zmesh.trust.forking import forks

FORKING = """
import os, signal, sys
os.register_at_fork(after_in_child=lambda: signal.alarm(60))  # none is left behind, wherever it hangs
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
    with (
        subprocess.Popen(
            [sys.executable, "-c", FORKING, str(tmp_path), way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as parent,
        killed_in_the_end(parent),
    ):
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


# SQLite's own mutexes are inherited as they are: whoever forked while the writer thread was inside hung in 3 of 100
# children. Statements that are prepared anew keep it there nearly all the time.
BUSY = """
import os, signal, sqlite3, sys
os.register_at_fork(after_in_child=lambda: signal.alarm(60))
from pathlib import Path
from tests.store.support import DEVICE, Driven
from zmesh.peer.sqlite_store import SqliteStore

def work(connection):
    global over
    number = 0
    while not over:
        number += 1
        connection.execute(f"SELECT {number}, name FROM sqlite_schema WHERE name <> 'x{number}' ORDER BY name")

over = False
it = Driven(SqliteStore(Path(sys.argv[1]), DEVICE))
done = it.store.query(work)
for _ in range(150):
    child = os.fork()
    if child == 0:
        sqlite3.connect(sys.argv[2]).execute("PRAGMA user_version")  # as a store of its own would begin
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
over = True
done.result()
it.store.close()
print("all came through", flush=True)
"""


def test_a_child_that_was_forked_while_the_store_was_at_work_can_use_sqlite(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUSY, str(tmp_path / "parent"), str(tmp_path / "child.db")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ENOUGH)
    assert (ended.stdout, ended.stderr) == ("all came through\n", "")


def test_a_fork_waits_for_the_statement_under_way(tmp_path: Path) -> None:
    order: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        inside.set()
        assert go_on.wait(PATIENCE)
        order.append("the statement is over")

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        order.append("forked")
        os.waitpid(child, 0)

    connection = SqliteConnection(tmp_path / "store.db")
    connection._connection.create_function("slow", 0, slow)  # type: ignore[union-attr]  # noqa: SLF001
    at_work = threading.Thread(target=connection.execute, args=("SELECT slow()",))
    forking = threading.Thread(target=fork)
    at_work.start()
    assert inside.wait(PATIENCE)
    forking.start()
    until(lambda: forks.under_way, PATIENCE)
    go_on.set()
    for thread in (at_work, forking):
        thread.join(PATIENCE)
    assert order == ["the statement is over", "forked"]
    connection.close()
