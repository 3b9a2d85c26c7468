"""The SQLite store does what its model does: random ops in random groups, failed commits and restarts between them."""

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.simulator.model import StoreModel
from tests.store.support import DEVICE, PATIENCE, Driven, Flaky
from zmesh.peer.purging import KINDS, Wanted, purge
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.peer.store_reader import read_bodies, read_messages, read_snapshot
from zmesh.protocol.frames import AgentRecord
from zmesh.protocol.journal import (
    DropEndings,
    DropHalt,
    DropMailbox,
    DropOutcomes,
    DropPeer,
    EndOut,
    FateOut,
    InStreamRow,
    LoseOut,
    MergeMailbox,
    MoveIn,
    MoveOut,
    Op,
    OutStreamRow,
    PutAudit,
    PutEnding,
    PutHalt,
    PutIn,
    PutMailbox,
    PutOut,
    PutOutcome,
    PutPeer,
    ReviveIn,
    SetIn,
    Written,
)
from zmesh.protocol.states import SENDER_LIVE, Received, Sent

# Small domains, so that ops meet: the same ids, the same rows, the same streams.
stores = st.sampled_from([b"A" * 16, b"B" * 16])
idents = st.integers(1, 30).map(lambda number: number.to_bytes(16, "big"))
rows = st.integers(1, 40)
klasses = st.integers(0, 1)
epochs = st.integers(1, 2)
numbers = st.integers(1, 12)
times = st.floats(0, 1e6, allow_nan=False)
deadlines = st.none() | times
texts = st.sampled_from(["", "reason", "größer \N{SNOWMAN}"])
codes = st.sampled_from(["refused", "skipped"])
names = st.sampled_from(["code", "browser"])
devices = st.sampled_from(["device-1", "device-2"])
blobs = st.binary(max_size=40)
endings = st.sampled_from([state for state in Sent if state not in SENDER_LIVE])
live = st.sampled_from([Sent.WAITING, Sent.QUEUED])
anything = endings | live | st.just(Sent.EXPIRING)
name_lists = st.lists(names, max_size=2).map(tuple)
# What lasts of an agent is kept, and for how long nobody was there.
agents = st.lists(
    st.builds(AgentRecord, names, texts, name_lists, project=texts, since_ms=st.none() | st.integers(0, 1 << 40)),
    max_size=2,
).map(tuple)
spans = st.tuples(numbers, numbers).map(sorted)


def _spanned(first_last: list[int], state: Sent, text: str) -> EndOut:
    return EndOut(first_last[0], first_last[1], state, text)


put_outs = st.builds(
    PutOut, st.just(0), idents, stores, names, klasses, epochs, numbers, live | st.just(Sent.STORED), deadlines, blobs,
    blobs,
)  # fmt: skip
put_ins = st.builds(PutIn, st.just(0), idents, devices, stores, names, klasses, numbers, times, deadlines, blobs, blobs)
others = st.one_of(
    st.builds(MoveOut, rows, stores, epochs, numbers, anything),
    st.builds(_spanned, st.tuples(rows, rows).map(sorted), endings | st.just(Sent.EXPIRING), texts),
    st.builds(FateOut, stores, st.lists(idents, min_size=1, max_size=4).map(tuple), endings, texts),
    st.builds(lambda d, e, k, s: LoseOut(d, e, k, s[0], s[1]), stores, epochs, klasses, spans),
    st.builds(OutStreamRow, stores, klasses, epochs, numbers, numbers, numbers, idents),
    st.builds(SetIn, rows, st.sampled_from(Received), numbers, times),
    st.builds(InStreamRow, stores, klasses, epochs, numbers, idents),
    st.builds(PutEnding, stores, klasses, numbers, codes, texts),
    st.builds(DropEndings, stores, klasses, numbers),
    st.builds(PutOutcome, numbers, stores, idents, codes, texts),
    st.builds(DropOutcomes, stores, numbers),
    st.builds(MergeMailbox, names, names),
    st.builds(DropMailbox, names),
    st.builds(MoveIn, rows, names),
    st.builds(ReviveIn, rows),
    st.builds(PutMailbox, names, texts, name_lists, texts, st.none() | times),
    st.builds(PutPeer, stores, names, devices, name_lists, numbers, agents, times),
    st.builds(DropPeer, stores),
    st.builds(PutHalt, stores | st.just(b""), times, texts),
    st.builds(DropHalt, stores | st.just(b"")),
    st.builds(PutAudit, times, codes, texts),
)
persists = st.lists(st.one_of(put_outs, put_ins, others, others), min_size=1, max_size=12)
groups = st.lists(persists, min_size=1, max_size=5)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="zmesh-store-"))
        self.flaky = Flaky()
        self.next_out = self.next_in = 1
        self.generation = 1

    @initialize()
    def begin(self) -> None:
        self.open()
        self.model = StoreModel(self.it.snapshot.store)

    def open(self) -> None:
        self.it = Driven(SqliteStore(self.directory, DEVICE, connect=self.flaky))

    @rule(group=groups)
    def commit(self, group: list[list[Op]]) -> None:
        """Some Persists become one transaction."""
        assert self.run(group) == len(group)

    @rule(group=groups, fuse=st.integers(0, 12), once=st.booleans())
    def fail(self, group: list[list[Op]], fuse: int, once: bool) -> None:  # noqa: FBT001 - a drawn value
        """The disk fails after some statements, for good or once; afterwards it works again."""
        self.run(group, fuse, once=once)

    @rule(kinds=st.sets(st.sampled_from(sorted(KINDS)), min_size=1).map(frozenset))
    def purge(self, kinds: frozenset[str]) -> None:
        """Somebody has ended messages forgotten."""
        done = asyncio.run(purge(self.it.store, Wanted(kinds), self.model.store))
        sent = {state for kind in kinds for state in KINDS[kind][0]}
        assert done.messages == self.model.purge(sent, dead_bodies="dead" in kinds)

    @rule()
    def restart(self) -> None:
        self.it.store.close()
        self.open()
        assert not self.it.store.adopted
        assert self.it.snapshot == self.model.snapshot()

    def run(self, group: list[list[Op]], fuse: int | None = None, *, once: bool = False) -> int:
        """Submit the group as one batch, check every answer, and return how many were committed."""
        it, recorder = self.it, self.it.recorder
        ahead = self.model.copy()
        legal = [[new for op in ops if (new := self.numbered(ahead, op)) is not None] for ops in group]
        with it.held():
            tokens = [it.submit(*ops, generation=self.generation) for ops in legal]
            self.flaky.connection.once = once
            # The statement that ends the question of `held` comes first.
            self.flaky.connection.fuse = None if fuse is None else fuse + 1
        recorder.wait(lambda: recorder.settled(tokens))
        self.flaky.connection.fuse = None
        committed = [token in recorder.committed_tokens for token in tokens]
        assert committed == sorted(committed, reverse=True), "the committed ones are no prefix"
        for token, ops in zip(tokens, legal, strict=True):
            if token in recorder.committed_tokens:
                self.compare(recorder.committed_tokens[token], self.model.apply(ops))
            else:
                assert "made to fail" in recorder.failures[token]
        if not all(committed):
            self.generation += 1
        return sum(committed)

    def compare(self, told: Written, expected: Written) -> None:
        """The same rows are ignored and the same messages lost.

        The state of what is there instead of an ignored row may be that of the op's own time, as in the model, or any
        later one of its group: SQLite is asked when the row is written, and by then others of the group may have been.
        """
        assert told.ignored_out.keys() == expected.ignored_out.keys()
        assert told.ignored_in.keys() == expected.ignored_in.keys()
        assert all(type(state) is Sent for state in told.ignored_out.values())
        assert all(type(state) is Received for state in told.ignored_in.values())
        assert told.lost == expected.lost

    def numbered(self, ahead: StoreModel, op: Op) -> Op | None:
        """Give a new message its row; drop what would bring an ended message back, which the core never does."""
        if isinstance(op, PutOut):
            op = replace(op, row=self.next_out)
            self.next_out += 1
        elif isinstance(op, PutIn):
            op = replace(op, row=self.next_in)
            self.next_in += 1
        elif isinstance(op, MoveOut | EndOut) and op.state in SENDER_LIVE:
            first, last = (op.row, op.row) if isinstance(op, MoveOut) else (op.first, op.last)
            if any(row.state not in SENDER_LIVE for row in ahead.out_rows() if first <= row.row <= last):
                return None
        elif isinstance(op, SetIn) and op.state is not Received.HANDLED:
            ended = (Received.HANDLED, Received.EXPIRED)
            if any(row.state in ended for row in ahead.in_rows() if row.row == op.row):
                return None
        ahead.apply([op])
        return op

    @invariant()
    def same(self) -> None:
        """Whatever can be read is as the model has it."""
        if not hasattr(self, "model"):
            return
        model, everything = self.model, range(1, max(self.next_out, self.next_in) + 1)
        store = self.it.store
        assert store.query(lambda c: read_snapshot(c, model.store)).result(PATIENCE) == model.snapshot()
        assert store.query(lambda c: read_bodies(c, everything)).result(PATIENCE) == model.fetch_out(everything)
        assert store.query(lambda c: read_messages(c, everything)).result(PATIENCE) == model.fetch_in(everything)
        outs = self.it.ask(
            "SELECT row, id, dest, address, klass, epoch, number, state, detail FROM outbox ORDER BY row"
        )
        assert outs == [_columns(view) for view in model.out_rows()]
        ins = self.it.ask(
            "SELECT row, id, device, source, mailbox, klass, state, attempts, due FROM inbox ORDER BY row"
        )
        assert ins == [_columns(view) for view in model.in_rows()]
        audit = self.it.ask("SELECT at, kind, text FROM audit ORDER BY entry")
        assert audit == [_columns(line) for line in model.audit]

    def teardown(self) -> None:
        if hasattr(self, "it"):
            self.it.store.close()
        shutil.rmtree(self.directory)


def _columns(row: object) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in type(row).__dataclass_fields__)  # type: ignore[attr-defined]


StoreMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestStore = StoreMachine.TestCase
