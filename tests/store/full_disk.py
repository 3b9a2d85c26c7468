"""What a store does on a small file system; run by test_full_disk.py where that is mounted.

`python -m tests.store.full_disk full|make|read-only DIRECTORY`; the directory's file system has 3 MiB and holds a file
`ballast` of 1 MiB beside it.
"""

import os
import sys
from pathlib import Path

from tests.store.support import DEVICE, driven, put_out
from zmesh.errors import StoreError
from zmesh.peer.sqlite_store import SqliteStore

BODY = bytes(32 * 1024)


def full(directory: Path) -> None:
    """Fill the disk, fail, make room, go on; then open the store on a disk without a free byte."""
    with driven(directory) as it:
        row = 1
        token = it.submit(put_out(row, body=BODY))
        it.recorder.wait(lambda: it.recorder.settled([token]))
        while token in it.recorder.committed_tokens:
            row += 1
            token = it.submit(put_out(row, body=BODY))
            it.recorder.wait(lambda: it.recorder.settled([token]))  # noqa: B023 - waited for within the loop
        reason = it.recorder.failures[token]
        assert "the disk is full" in reason, reason
        assert str(directory / "store.db") in reason, reason
        assert row > 10
        assert "the disk is full" in it.refuse(put_out(row, body=BODY), generation=2)
        assert it.ask("SELECT count(*) FROM outbox") == [(row - 1,)], "what was stored is still there"
        (directory.parent / "ballast").unlink()
        it.commit(put_out(row, body=BODY), generation=3)
    with (directory.parent / "more").open("wb", buffering=0) as ballast:
        while True:
            try:
                ballast.write(bytes(4096))
            except OSError:
                break
    with driven(directory) as it:
        assert len(it.snapshot.outs) == row
        assert "the disk is full" in it.refuse(put_out(row + 1, body=BODY * 8))
        it.store.fetch_out([row])
        it.recorder.wait(lambda: it.recorder.bodies)
        assert it.recorder.bodies == [{row: BODY}]


def make(directory: Path) -> None:
    """Make a store with one message."""
    with driven(directory) as it:
        it.commit(put_out(1))


def read_only(directory: Path) -> None:
    """Open a store that was made before the file system became read-only."""
    try:
        SqliteStore(directory, DEVICE).open()
    except StoreError as error:
        assert "Read-only file system" in str(error), error  # noqa: PT017 - this is no test function
        assert str(directory) in str(error), error  # noqa: PT017
        return
    raise AssertionError("a store that cannot be written was opened")


if __name__ == "__main__":
    assert os.statvfs(sys.argv[2]).f_blocks, "nothing is mounted"
    {"full": full, "make": make, "read-only": read_only}[sys.argv[1]](Path(sys.argv[2]) / "peer")
