"""A process that forks keeps what it knows of who is trusted; see also `tests/store/test_fork.py`."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cli.commands import until
from tests.waiting import ENOUGH, killed_in_the_end
from zmesh.errors import TrustError
from zmesh.trust.forking import forks
from zmesh.trust.trust_file import TrustFile

SOON = 20.0
FORKING = """
import gc, os, sys
os.register_at_fork(after_in_child=lambda: __import__("signal").alarm(60))
from pathlib import Path
from zmesh.trust.trust_file import TrustFile

def put(file, key):
    with file.write():
        file.change("INSERT INTO meta VALUES (?, x'00')", (key,))

file = TrustFile(Path(sys.argv[1]))
put(file, "before")
child = os.fork()
if child == 0:
    if sys.argv[2] == "close":
        file.close()
    del file
    gc.collect()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
put(file, "after")
print("written", flush=True)
os.kill(os.getpid(), 9)
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.mark.parametrize("way", ["close", "end"])
def test_what_is_written_beside_a_forked_child_is_there_after_a_kill(tmp_path: Path, way: str) -> None:
    path = tmp_path / "trust.db"
    with (
        subprocess.Popen([sys.executable, "-c", FORKING, str(path), way], stdout=subprocess.PIPE, text=True) as parent,
        killed_in_the_end(parent),
    ):
        assert parent.communicate(timeout=ENOUGH)[0] == "written\n"
        assert parent.returncode == -signal.SIGKILL
    file = TrustFile(path)
    assert file.rows("SELECT key FROM meta ORDER BY key") == [("after",), ("before",)]
    file.close()


def test_a_fork_waits_for_the_statement_under_way_and_the_child_has_no_part_in_the_file(tmp_path: Path) -> None:
    order: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        inside.set()
        assert go_on.wait(SOON)
        order.append("the statement is over")

    def fork() -> None:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                file.rows("SELECT 1")
            except TrustError:
                code = 0
            finally:
                os._exit(code)
        order.append("forked")
        assert os.waitpid(child, 0)[1] == 0
        order.append("and refused there")

    file = TrustFile(tmp_path / "trust.db")
    file._connection.create_function("slow", 0, slow)  # type: ignore[union-attr]  # noqa: SLF001
    at_work = threading.Thread(target=file.rows, args=("SELECT slow()",))
    forking = threading.Thread(target=fork)
    at_work.start()
    assert inside.wait(SOON)
    forking.start()
    until(lambda: forks.under_way, SOON)
    go_on.set()
    for thread in (at_work, forking):
        thread.join(SOON)
    assert order == ["the statement is over", "forked", "and refused there"]
    assert file.rows("SELECT 1") == [(1,)]
    file.close()
