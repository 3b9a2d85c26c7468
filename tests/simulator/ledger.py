"""The oracle's own books of one store: what its disk holds, rebuilt from the commits and independent of the model.

A ledger believes nobody: it applies committed ops itself, so a store that breaks its rules is seen to break them. It
checks what concerns one store alone; what concerns two is the oracle's.
"""

from copy import copy

from zmesh.protocol.bounds import NO_ID
from zmesh.protocol.journal import (
    DropEndings,
    DropOutcomes,
    EndOut,
    FateOut,
    InStreamRow,
    LoseOut,
    MoveIn,
    MoveOut,
    Op,
    OutStreamRow,
    PutEnding,
    PutIn,
    PutMailbox,
    PutOut,
    PutOutcome,
    ReviveIn,
    SetIn,
    Written,
)
from zmesh.protocol.states import Received, Sent

Place = tuple[bytes, int, int, int]
"""Destination, class, epoch and number."""

KEPT = frozenset({Sent.HANDLED, Sent.REFUSED, Sent.EXPIRED})
ENDED = KEPT | {Sent.DEAD, Sent.LOST}
LIVE = frozenset({Sent.WAITING, Sent.QUEUED, Sent.SENT, Sent.EXPIRING})


class Violation(Exception):  # noqa: N818 - what the simulator is there to find
    """The mesh lost, doubled, reordered or lied."""


class OutRecord:
    """An outgoing message on disk."""

    __slots__ = ("body", "dest", "envelope", "epoch", "id", "klass", "moved", "number", "row", "state")

    def __init__(self, op: PutOut) -> None:
        self.row, self.id, self.dest, self.klass = op.row, op.id, op.dest, op.klass
        self.epoch, self.number, self.state = op.epoch, op.number, op.state
        self.envelope, self.body = op.envelope, op.body
        self.moved = False

    @property
    def place(self) -> Place:
        return self.dest, self.klass, self.epoch, self.number


class InRecord:
    """An incoming message on disk."""

    __slots__ = ("attempts", "body", "device", "envelope", "id", "klass", "mailbox", "row", "source", "state")

    def __init__(self, op: PutIn) -> None:
        self.row, self.id, self.device, self.source = op.row, op.id, op.device, op.source
        self.mailbox, self.klass, self.attempts = op.mailbox, op.klass, op.attempts
        self.envelope, self.body = op.envelope, op.body
        self.state = Received.STORED

    @property
    def key(self) -> tuple[str, bytes]:
        return self.device, self.id


class Change:
    """What one transaction did, for the oracle: messages that came in, changed or ended, streams that advanced."""

    def __init__(self) -> None:
        self.inserted: list[InRecord] = []
        self.received: list[tuple[InRecord, Received]] = []
        self.revived: list[InRecord] = []
        self.sent: list[tuple[OutRecord, Sent]] = []
        self.cursors: list[tuple[InStreamRow, InStreamRow | None]] = []
        self.streams: list[tuple[OutStreamRow, OutStreamRow | None]] = []
        self.dropped: list[DropEndings] = []


class Ledger:
    """The books of one store."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.outs: dict[int, OutRecord] = {}
        self.out_ids: dict[bytes, OutRecord] = {}
        self.places: dict[Place, OutRecord] = {}
        self.tops: dict[tuple[bytes, int, int], int] = {}
        self.ins: dict[int, InRecord] = {}
        self.in_keys: dict[tuple[str, bytes], InRecord] = {}
        self.out_streams: dict[tuple[bytes, int], OutStreamRow] = {}
        self.in_streams: dict[tuple[bytes, int], InStreamRow] = {}
        self.endings: dict[tuple[bytes, int], dict[int, str]] = {}
        self.outcomes: dict[bytes, dict[int, PutOutcome]] = {}
        self.mailboxes: set[str] = set()
        self.ignored_in: set[int] = set()

    def copy(self) -> "Ledger":
        """Return books that hold the same and change by themselves."""
        twin = Ledger(self.name)
        twin.outs = {row: copy(record) for row, record in self.outs.items()}
        twin.out_ids = {record.id: record for record in twin.outs.values()}
        twin.places = {record.place: record for record in twin.outs.values() if record.number}
        twin.tops = dict(self.tops)
        twin.ins = {row: copy(record) for row, record in self.ins.items()}
        twin.in_keys = {record.key: record for record in twin.ins.values()}
        twin.out_streams = dict(self.out_streams)
        twin.in_streams = dict(self.in_streams)
        twin.endings = {stream: dict(rows) for stream, rows in self.endings.items()}
        twin.outcomes = {dest: dict(rows) for dest, rows in self.outcomes.items()}
        twin.mailboxes = set(self.mailboxes)
        twin.ignored_in = set(self.ignored_in)
        return twin

    def apply(self, ops: tuple[Op, ...], written: Written) -> Change:
        """Write a committed transaction into the books.

        Raises:
            Violation: It breaks a rule of one store.
        """
        change = Change()
        for op in ops:
            match op:
                case PutOut():
                    if op.row not in written.ignored_out:
                        self._put_out(op, change)
                    elif op.id not in self.out_ids:
                        raise Violation(f"{self.name}: the new message {op.id.hex()} was ignored")
                case PutIn():
                    if op.row not in written.ignored_in:
                        self._put_in(op, change)
                    elif (op.device, op.id) in self.in_keys:
                        self.ignored_in.add(op.row)
                    else:
                        raise Violation(f"{self.name}: the first {op.id.hex()} was ignored as a duplicate")
                case _:
                    self._change(op, change)
        return change

    def _put_out(self, op: PutOut, change: Change) -> None:
        if op.id in self.out_ids:
            raise Violation(f"{self.name}: {op.id.hex()} is twice in the outbox")
        record = OutRecord(op)
        self.outs[op.row] = self.out_ids[op.id] = record
        self._placed(record)
        change.sent.append((record, Sent.WAITING))

    def _placed(self, record: OutRecord) -> None:
        if not record.number:
            return
        stream = (record.dest, record.klass, record.epoch)
        if record.number <= self.tops.get(stream, 0):
            raise Violation(
                f"{self.name}: number {record.number} of class {record.klass} is given out of order or again"
            )
        self.tops[stream] = record.number
        self.places[record.place] = record

    def _put_in(self, op: PutIn, change: Change) -> None:
        if (op.device, op.id) in self.in_keys:
            raise Violation(f"{self.name}: {op.id.hex()} is twice in the inbox")
        record = InRecord(op)
        self.ins[op.row] = self.in_keys[record.key] = record
        change.inserted.append(record)

    def _change(self, op: Op, change: Change) -> None:  # noqa: C901, PLR0912 - one case for each op
        match op:
            case MoveOut():
                self._move(op, change)
            case EndOut():
                for row in range(op.first, op.last + 1):
                    if row in self.outs:
                        self._end(self.outs[row], op.state, change)
            case FateOut():
                for ident in op.ids:
                    record = self.out_ids.get(ident)
                    if record is not None and record.dest == op.dest and record.state not in KEPT:
                        self._end(record, op.state, change)
            case LoseOut():
                for number in range(op.first, min(op.last, self.tops.get((op.dest, op.klass, op.epoch), 0)) + 1):
                    record = self.places.get((op.dest, op.klass, op.epoch, number))
                    if record is not None and record.state is Sent.STORED:
                        self._end(record, Sent.LOST, change)
            case SetIn():
                self._set_in(op, change)
            case OutStreamRow():
                change.streams.append((op, self.out_streams.get((op.dest, op.klass))))
                self.out_streams[op.dest, op.klass] = op
            case InStreamRow():
                change.cursors.append((op, self.in_streams.get((op.source, op.klass))))
                self.in_streams[op.source, op.klass] = op
            case PutEnding():
                self.endings.setdefault((op.source, op.klass), {})[op.number] = op.code
            case DropEndings():
                change.dropped.append(op)
                rows = self.endings.get((op.source, op.klass), {})
                self.endings[op.source, op.klass] = {n: c for n, c in rows.items() if n > op.upto}
            case PutOutcome():
                self.outcomes.setdefault(op.dest, {})[op.number] = op
            case DropOutcomes():
                left = self.outcomes.get(op.dest, {})
                self.outcomes[op.dest] = {n: o for n, o in left.items() if n > op.upto}
            case PutMailbox():
                self.mailboxes.add(op.name)
            case MoveIn():
                self._move_in(op)
            case ReviveIn():
                self._revive_in(op, change)
            case _:
                pass

    def _move(self, op: MoveOut, change: Change) -> None:
        record = self.outs.get(op.row)
        if record is None:
            return
        old = record.state
        if old in KEPT and op.state is not old:
            raise Violation(f"{self.name}: {record.id.hex()} was {old.name} and is moved")
        if self.places.get(record.place) is record:
            del self.places[record.place]
        changed = (op.dest, record.klass, op.epoch, op.number) != record.place
        record.dest, record.epoch, record.number, record.state = op.dest, op.epoch, op.number, op.state
        if changed:
            record.moved = True
            self._placed(record)
        elif record.number:
            self.places[record.place] = record
        change.sent.append((record, old))

    def _end(self, record: OutRecord, state: Sent, change: Change) -> None:
        old = record.state
        if old in KEPT and state is not old:
            raise Violation(f"{self.name}: {record.id.hex()} was {old.name} and becomes {state.name}")
        record.state = state
        change.sent.append((record, old))

    def _set_in(self, op: SetIn, change: Change) -> None:
        record = self.ins.get(op.row)
        if record is None:
            if op.row not in self.ignored_in:
                raise Violation(f"{self.name}: inbox row {op.row} changes and is not there")
            return  # it was leased in the transaction that found it to be a duplicate, and given back
        old = record.state
        if old in (Received.HANDLED, Received.EXPIRED):
            raise Violation(f"{self.name}: {record.id.hex()} was {old.name} and becomes {op.state.name}")
        record.state, record.attempts = op.state, op.attempts
        change.received.append((record, old))

    def _move_in(self, op: MoveIn) -> None:
        record = self.ins.get(op.row)
        if record is None or record.state not in (Received.STORED, Received.DEAD) or op.into not in self.mailboxes:
            raise Violation(f"{self.name}: inbox row {op.row} is moved into {op.into!r}, as if it were there")
        record.mailbox = op.into

    def _revive_in(self, op: ReviveIn, change: Change) -> None:
        record = self.ins.get(op.row)
        if record is None or record.state is not Received.DEAD:
            raise Violation(f"{self.name}: inbox row {op.row} is replayed and is not dead")
        record.state, record.attempts = Received.STORED, 0
        change.revived.append(record)

    def id_at(self, place: Place) -> bytes:
        """Return the id of the message at a place, `NO_ID` when there is none."""
        record = self.places.get(place)
        return record.id if record else NO_ID
