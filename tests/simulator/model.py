"""The store as plain dicts: what the ops of `zmesh.protocol.journal` mean, said as shortly as possible.

The simulator runs on it, and the SQLite store is compared with it. It must stay obvious rather than fast, must never
fail, and must never know more than the docstrings in `journal` say. Pruning of old endings is all it leaves out.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeVar

from zmesh.protocol.bounds import NO_ID
from zmesh.protocol.journal import (
    DropEndings,
    DropHalt,
    DropMailbox,
    DropOutcomes,
    DropPeer,
    EndOut,
    FateOut,
    InRow,
    InStreamRow,
    LoseOut,
    MergeMailbox,
    MoveIn,
    MoveOut,
    Op,
    OutRow,
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
    Snapshot,
    Written,
)
from zmesh.protocol.states import SENDER_LIVE, Received, Sent

K = TypeVar("K")
V = TypeVar("V")

FINAL: Final = frozenset({Sent.HANDLED, Sent.REFUSED, Sent.EXPIRED})
RESUMED: Final = frozenset({Sent.WAITING, Sent.QUEUED, Sent.EXPIRING})
EMPTIED: Final = frozenset({Received.HANDLED, Received.EXPIRED})


class _Out(NamedTuple):
    op: PutOut
    dest: bytes
    epoch: int
    number: int
    state: Sent
    detail: str
    body: bytes | None

    def ended(self, state: Sent, detail: str) -> "_Out":
        return self._replace(state=state, detail=detail, body=self.body if state in SENDER_LIVE else None)


class _In(NamedTuple):
    op: PutIn
    state: Received
    attempts: int
    due: float
    kept: tuple[bytes, bytes] | None


@dataclass(frozen=True, slots=True)
class OutView:
    """One outgoing message as it stands, ended or not."""

    row: int
    id: bytes
    dest: bytes
    address: str
    klass: int
    epoch: int
    number: int
    state: Sent
    detail: str


@dataclass(frozen=True, slots=True)
class InView:
    """One incoming message as it stands, ended or not."""

    row: int
    id: bytes
    device: str
    source: bytes
    mailbox: str
    klass: int
    state: Received
    attempts: int
    due: float


class StoreModel:
    """What a store holds. `copy` is cheap: rows are immutable, only the dicts are copied."""

    def __init__(self, store: bytes = NO_ID) -> None:
        self.store = store
        self.audit: list[PutAudit] = []
        self._outs: dict[int, _Out] = {}
        self._out_ids: dict[bytes, int] = {}
        self._ins: dict[int, _In] = {}
        self._in_ids: dict[tuple[bytes, str], int] = {}
        self._out_streams: dict[tuple[bytes, int], OutStreamRow] = {}
        self._in_streams: dict[tuple[bytes, int], InStreamRow] = {}
        self._endings: dict[tuple[bytes, int, int], PutEnding] = {}
        self._outcomes: dict[tuple[bytes, int], PutOutcome] = {}
        self._mailboxes: dict[str, PutMailbox] = {}
        self._peers: dict[bytes, PutPeer] = {}
        self._halts: dict[bytes, PutHalt] = {}

    def copy(self) -> "StoreModel":
        """Return a model that holds the same and changes by itself."""
        twin = StoreModel.__new__(StoreModel)
        for name, value in self.__dict__.items():
            setattr(twin, name, value if isinstance(value, bytes) else value.copy())
        return twin

    def apply(self, ops: Sequence[Op]) -> Written:
        """Apply the ops of one `Persist`; return what only a store can tell of it."""
        ignored_out: dict[int, Sent] = {}
        ignored_in: dict[int, Received] = {}
        lost: list[bytes] = []
        for op in ops:
            if isinstance(op, PutOut):
                if not self._put_out(op):
                    ignored_out[op.row] = self._outs[self._out_ids[op.id]].state
            elif isinstance(op, PutIn):
                if not self._put_in(op):
                    ignored_in[op.row] = self._ins[self._in_ids[op.id, op.device]].state
            else:
                if isinstance(op, LoseOut):
                    lost += [out.op.id for _, out in sorted(self._outs.items()) if _loses(op, out)]
                self._change(op)
        return Written(ignored_out, ignored_in, tuple(lost))

    def snapshot(self) -> Snapshot:
        """Return what a restarted core is given."""
        outs = [self._out_row(out) for _, out in sorted(self._outs.items()) if out.state in RESUMED]
        ins = [self._in_row(row) for _, row in sorted(self._ins.items()) if row.state is Received.STORED]
        return Snapshot(
            store=self.store,
            next_out=max(self._outs, default=0) + 1,
            next_in=max(self._ins, default=0) + 1,
            outs=tuple(outs),
            ins=tuple(ins),
            out_streams=_values(self._out_streams),
            in_streams=_values(self._in_streams),
            endings=_values(self._endings),
            outcomes=_values(self._outcomes),
            mailboxes=_values(self._mailboxes),
            peers=_values(self._peers),
            halts=_values(self._halts),
        )

    def fetch_out(self, rows: Iterable[int]) -> dict[int, bytes]:
        """Return the bodies that are still there."""
        found = ((row, self._outs[row].body) for row in rows if row in self._outs)
        return {row: body for row, body in found if body is not None}

    def fetch_in(self, rows: Iterable[int]) -> dict[int, tuple[bytes, bytes]]:
        """Return envelope and body of the rows that still have them."""
        found = ((row, self._ins[row].kept) for row in rows if row in self._ins)
        return {row: kept for row, kept in found if kept is not None}

    def out_rows(self) -> list[OutView]:
        """List every outgoing message, by row."""
        return [
            OutView(row, o.op.id, o.dest, o.op.address, o.op.klass, o.epoch, o.number, o.state, o.detail)
            for row, o in sorted(self._outs.items())
        ]

    def in_rows(self) -> list[InView]:
        """List every incoming message, by row."""
        return [
            InView(row, i.op.id, i.op.device, i.op.source, i.op.mailbox, i.op.klass, i.state, i.attempts, i.due)
            for row, i in sorted(self._ins.items())
        ]

    # --- one op -----------------------------------------------------------------------------------------------------

    def _put_out(self, op: PutOut) -> bool:
        if op.id in self._out_ids:
            return False
        assert op.row not in self._outs, f"outbox row {op.row} is used twice"
        self._out_ids[op.id] = op.row
        body = op.body if op.state in SENDER_LIVE else None
        self._outs[op.row] = _Out(op, op.dest, op.epoch, op.number, op.state, "", body)
        return True

    def _put_in(self, op: PutIn) -> bool:
        key = (op.id, op.device)
        if key in self._in_ids:
            return False
        assert op.row not in self._ins, f"inbox row {op.row} is used twice"
        self._in_ids[key] = op.row
        self._ins[op.row] = _In(op, Received.STORED, op.attempts, op.due, (op.envelope, op.body))
        return True

    def _change(self, op: Op) -> None:  # noqa: C901, PLR0912 - one line for each op is what makes it readable
        match op:
            case MoveOut() | EndOut() | FateOut() | LoseOut():
                self._change_outs(op)
            case SetIn():
                self._set_in(op)
            case OutStreamRow():
                self._out_streams[op.dest, op.klass] = op
            case InStreamRow():
                self._in_streams[op.source, op.klass] = op
            case PutEnding():
                self._endings[op.source, op.klass, op.number] = op
            case DropEndings():
                _drop(self._endings, lambda key: key[:2] == (op.source, op.klass) and key[2] <= op.upto)
            case PutOutcome():
                self._outcomes[op.dest, op.number] = op
            case DropOutcomes():
                _drop(self._outcomes, lambda key: key[0] == op.dest and key[1] <= op.upto)
            case PutMailbox():
                self._mailboxes[op.name] = op
            case MergeMailbox():
                self._merge(op)
            case DropMailbox():
                self._mailboxes.pop(op.name, None)
            case MoveIn() | ReviveIn():
                self._change_in(op)
            case PutPeer():
                self._peers[op.store] = op
            case DropPeer():
                self._drop_peer(op.store)
            case PutHalt():
                self._halts[op.store] = op
            case DropHalt():
                self._halts.pop(op.store, None)
            case PutAudit():
                self.audit.append(op)

    def _change_outs(self, op: MoveOut | EndOut | FateOut | LoseOut) -> None:
        outs = self._outs
        match op:
            case MoveOut():
                if op.row in outs:
                    moved = outs[op.row]._replace(dest=op.dest, epoch=op.epoch, number=op.number)
                    outs[op.row] = moved.ended(op.state, moved.detail)
            case EndOut():
                for row in _between(outs, op.first, op.last):
                    outs[row] = outs[row].ended(op.state, op.detail)
            case FateOut():
                self._fate_out(op)
            case LoseOut():
                for row, out in outs.items():
                    if _loses(op, out):
                        outs[row] = out.ended(Sent.LOST, out.detail)

    def _fate_out(self, op: FateOut) -> None:
        for row in [self._out_ids[id_] for id_ in op.ids if id_ in self._out_ids]:
            out = self._outs[row]
            if out.dest == op.dest and out.state not in FINAL:
                self._outs[row] = out._replace(state=op.state, detail=op.detail, body=None)

    def _set_in(self, op: SetIn) -> None:
        old = self._ins.get(op.row)
        if old is not None:
            kept = None if op.state in EMPTIED else old.kept
            self._ins[op.row] = _In(old.op, op.state, op.attempts, op.due, kept)

    def _merge(self, op: MergeMailbox) -> None:
        self._mailboxes.pop(op.name, None)
        for row, old in self._ins.items():
            if old.op.mailbox == op.name:
                self._ins[row] = old._replace(op=replace(old.op, mailbox=op.into))

    def _change_in(self, op: MoveIn | ReviveIn) -> None:
        old = self._ins.get(op.row)
        if old is not None and isinstance(op, MoveIn):
            self._ins[op.row] = old._replace(op=replace(old.op, mailbox=op.into))
        elif old is not None and old.state is Received.DEAD and old.kept is not None:
            self._ins[op.row] = _In(replace(old.op, deadline=None), Received.STORED, 0, 0.0, old.kept)

    def dead(self, mailbox: str) -> tuple[InRow, ...]:
        """Return the dead messages of a mailbox that can be replayed."""
        there = [each for _, each in sorted(self._ins.items()) if each.op.mailbox == mailbox and each.kept is not None]
        return tuple([self._in_row(each) for each in there if each.state is Received.DEAD])

    def _drop_peer(self, store: bytes) -> None:
        self._peers.pop(store, None)
        _drop(self._out_streams, lambda key: key[0] == store)
        _drop(self._in_streams, lambda key: key[0] == store)
        _drop(self._endings, lambda key: key[0] == store)
        _drop(self._outcomes, lambda key: key[0] == store)

    def purge(self, sent: Collection[Sent], *, dead_bodies: bool) -> int:
        """Forget sent messages in these states, but for the newest; and the bodies of dead ones. Return how many."""
        newest = max(self._outs, default=0)
        gone = [row for row, out in self._outs.items() if out.state in sent and row != newest]
        for row in gone:
            del self._out_ids[self._outs.pop(row).op.id]
        dead = [row for row, old in self._ins.items() if dead_bodies and old.state is Received.DEAD and old.kept]
        for row in dead:
            self._ins[row] = self._ins[row]._replace(kept=None)
        return len(gone) + len(dead)

    def _out_row(self, out: _Out) -> OutRow:
        op = out.op
        return OutRow(
            op.row, op.id, out.dest, op.address, op.klass, out.epoch, out.number, out.state, op.deadline, op.envelope,
            len(op.body),
        )  # fmt: skip

    def _in_row(self, row: _In) -> InRow:
        op = row.op
        return InRow(
            op.row, op.id, op.source, op.mailbox, op.klass, row.attempts, row.due, op.deadline,
            len(op.body),
        )  # fmt: skip


def _between(outs: dict[int, _Out], first: int, last: int) -> Iterator[int]:
    """Yield the rows of `outs` in first..last."""
    if last - first < len(outs):
        return (row for row in range(first, last + 1) if row in outs)
    return (row for row in list(outs) if first <= row <= last)


def _drop(rows: dict[K, V], doomed: Callable[[K], bool]) -> None:
    for key in [key for key in rows if doomed(key)]:
        del rows[key]


def _values(rows: dict[K, V]) -> tuple[V, ...]:
    """Return the rows in the order of their keys."""
    return tuple(rows[key] for key in sorted(rows))  # type: ignore[type-var]  # keys are tuples, texts or bytes


def _loses(op: LoseOut, out: _Out) -> bool:
    place = (op.dest, op.epoch, op.klass, Sent.STORED)
    return (out.dest, out.epoch, out.op.klass, out.state) == place and op.first <= out.number <= op.last
