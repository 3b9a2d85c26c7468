"""kill -9 while commits run: every commit that was reported is there at the next start."""

import random
import subprocess
import sys
from pathlib import Path

from tests.store.support import driven
from tests.waiting import killed_in_the_end

KILLS = 20
ROOT = Path(__file__).parent.parent.parent

# Commits in a loop and writes each row to standard output once it is committed; what is in flight is never told.
WRITER = """
import os, sys
from pathlib import Path
from tests.store.support import DEVICE, put_in, put_out, end_out
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.protocol.effects import Persist
import threading

class Teller:
    def __init__(self): self.room = threading.Semaphore(64)
    def committed(self, token, written):
        os.write(1, b"%d\\n" % token)
        self.room.release()
    def failed(self, token, reason): os._exit(3)

store, teller = SqliteStore(Path(sys.argv[1]), DEVICE), Teller()
row = store.open().next_out
store.start(lambda tell: tell(), teller)
while True:
    teller.room.acquire()
    store.submit(Persist(row, 1, (put_out(row, body=bytes(1024)), put_in(row), end_out(row - 100, row - 100))))
    row += 1
"""


def test_nothing_reported_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    highest = in_flight = 0
    for kill in range(KILLS):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer, killed_in_the_end(writer):
            assert writer.stdout is not None
            for _ in range(rng.randrange(1, 300)):
                assert writer.stdout.readline()
            writer.kill()
            lines = writer.stdout.read().splitlines(keepends=True)
        reported = [int(line) for line in lines if line.endswith(b"\n")]
        highest = max(highest, *reported) if reported else highest
        with driven(tmp_path) as it:
            found = [row for (row,) in it.ask("SELECT row FROM outbox ORDER BY row")]
            assert it.ask("SELECT row FROM inbox ORDER BY row") == [(row,) for row in found]
            assert found == list(range(1, len(found) + 1)), f"seed {seed}, kill {kill}: no prefix"
            assert len(found) >= highest, f"seed {seed}, kill {kill}: {highest} was reported, {len(found)} are there"
            in_flight += len(found) > highest
            highest = len(found)
    print(f"{KILLS} kills, {highest} commits, {in_flight} of the kills in a commit that nobody heard of")
