"""Power cuts: what was reported as committed is there afterwards, and nothing half.

Each cut happens at a random call of the disk: in a commit, a checkpoint, the closing, or the making of the store. A
failure names the seed: `pytest tests/store/test_power_cut.py -k 'seed0'` repeats a hundred cuts.
"""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.simulator.model import StoreModel
from tests.store.power_cut import Machine
from tests.store.support import DEVICE, Driven
from zmesh.errors import StoreError
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.protocol.journal import EndOut, InStreamRow, Op, OutStreamRow, PutIn, PutOut, SetIn, Snapshot
from zmesh.protocol.states import Received, Sent

CUTS = 100  # per seed
DEST = b"D" * 16
MACHINE = "the machine"


class Life:
    """A store that lives through many cuts, and what it must remember."""

    def __init__(self, directory: Path, seed: str, *, full: bool) -> None:
        self.seed = seed
        self.rng = random.Random(f"{seed}/life")
        self.directory = directory  # of the lock file and of an empty store.db: the content is on the machine's disk
        self.machine = Machine(seed, full=full)
        self.model: StoreModel | None = None
        self.possible: list[list[Op]] = []  # submitted, not known to be committed, in order
        self.acknowledged = self.lost = self.mid_commit = 0
        self.next_row = 1

    def turn(self) -> None:
        """Boot, look at what is there, work until the power goes."""
        store = SqliteStore(self.directory, DEVICE, connect=self.machine.connect, machine=MACHINE)
        it = Driven(store)
        try:
            self.check(it.snapshot)
            if not self.lost:
                self.work(it)
        finally:
            store.close()
        self.machine.disk.cut()

    def work(self, it: Driven) -> None:
        """Submit groups until one fails, for the power has gone; or leave it to the closing to be cut."""
        disk = self.machine.disk
        if self.rng.random() < 0.2:
            self.submit_group(it)
            disk.cut_in(self.rng.randrange(1, 40))
            return
        disk.cut_in(self.rng.randrange(1, 120))
        while not disk.dark:
            self.submit_group(it)
        self.mid_commit += bool(self.possible)

    def submit_group(self, it: Driven) -> None:
        assert self.model is not None
        group = [self.persist() for _ in range(self.rng.choice((1, 1, 3, 10)))]
        self.possible += group
        with it.held():
            tokens = [it.submit(*ops, generation=1) for ops in group]
        it.recorder.wait(lambda: it.recorder.settled(tokens))
        for ops, token in zip(group, tokens, strict=True):
            if token in it.recorder.committed_tokens:
                assert self.possible[0] is ops
                self.model.apply(self.possible.pop(0))
                self.acknowledged += 1

    def check(self, snapshot: Snapshot) -> None:
        """The store holds what was acknowledged, and of the rest a prefix; that is the truth from now on."""
        if self.model is None:
            self.model = StoreModel(snapshot.store)
        hoped = self.model.copy()
        for count in range(len(self.possible) + 1):
            if hoped.snapshot() == snapshot:
                for ops in self.possible[:count]:
                    self.model.apply(ops)
                break
            if count < len(self.possible):
                hoped.apply(self.possible[count])
        else:
            self.lost += 1
        self.possible = []

    def persist(self) -> list[Op]:
        """Return ops as the core makes them."""
        rng = self.rng
        ops: list[Op] = []
        for _ in range(rng.choice((1, 1, 4))):
            row, self.next_row = self.next_row, self.next_row + 1
            ident, body = rng.randbytes(16), rng.randbytes(rng.choice((10, 1000, 20_000)))
            if rng.random() < 0.5:
                ops.append(PutOut(row, ident, DEST, "a@b", 2, 1, row, Sent.QUEUED, None, b"env", body))
                ops.append(OutStreamRow(DEST, 2, 1, row + 1, row, 0, ident))
            else:
                ops.append(PutIn(row, ident, "device", DEST, "a", 2, 0, 0.0, None, b"env", body))
                ops.append(InStreamRow(DEST, 2, 1, row, ident))
        end = rng.randrange(self.next_row)
        ops += [EndOut(max(0, end - 5), end, Sent.STORED, ""), SetIn(end, Received.HANDLED, 1, 0.0)]
        return ops


@contextmanager
def life(seed: str, *, full: bool) -> Iterator[Life]:
    memory = Path("/dev/shm")  # noqa: S108 - nothing of value is in there, and real fsyncs would cost most of the time
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        it = Life(Path(directory), seed, full=full)
        try:
            yield it
        finally:
            it.machine.close()


@pytest.mark.parametrize("seed", [f"seed{number}" for number in range(10)])
def test_nothing_acknowledged_is_lost_in_a_hundred_cuts(seed: str) -> None:
    with life(seed, full=True) as it:
        for cut in range(CUTS):
            it.turn()
            assert not it.lost, f"{seed}, cut {cut}: what the store holds is no prefix of what was acknowledged to it"
        disk = it.machine.disk
        print(f"{seed}: {CUTS} cuts, {it.mid_commit} in a commit, {disk.torn_main} in a checkpoint; ", end="")
        print(f"{it.acknowledged} commits acknowledged, {disk.lost} unsynced writes at stake, 0 lost")
        assert it.acknowledged > CUTS
        assert it.mid_commit > CUTS // 2
        assert disk.torn_main > CUTS // 20
        assert disk.lost > CUTS


def test_the_same_cuts_do_find_a_store_that_does_not_sync() -> None:
    with life("liar", full=False) as it:
        for _ in range(CUTS):
            it.turn()
            if it.lost:
                return
    pytest.fail(f"{CUTS} power cuts at synchronous=NORMAL lost nothing: the disk is too kind")


def test_a_cut_at_any_moment_of_its_making_leaves_a_store_that_opens() -> None:
    cut, finished = 0, False
    while not finished:
        cut += 1
        with life(f"making{cut}", full=True) as it:
            it.machine.disk.cut_in(cut)
            store = SqliteStore(it.directory, DEVICE, connect=it.machine.connect, machine=MACHINE)
            try:
                store.open()
                finished = not it.machine.disk.dark
            except StoreError as error:
                assert "failed" in str(error), error  # noqa: PT017 - opening may also succeed
            store.close()
            it.machine.disk.cut()
            for _ in range(3):
                it.turn()
            assert not it.lost, f"cut {cut}"
    assert cut > 20
