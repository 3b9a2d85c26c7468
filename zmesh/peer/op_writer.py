"""Turns the ops of many `Persist`s into few statements, keeping the meaning of their order.

Ops that touch different tables, or different rows, may trade places; only these do. It must never begin or end a
transaction, and never look at a clock: the same ops give the same statements. In what is written often, blobs are bound
as bytearrays: sqlite3 takes five times as long to bind bytes, for which it first looks for an adapter.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from zmesh.peer.commands import (
    COMMANDS,
    DROP_ENDINGS,
    DROP_MAILBOX,
    DROP_META,
    DROP_OUTCOMES,
    DROP_PEER,
    END_OUT,
    FATE_OUT,
    HALT_KEY,
    IN_STREAM,
    LOSE_OUT,
    LOST,
    MERGE_MAILBOX,
    MOVE_IN,
    MOVE_OUT,
    NO_DEADLINE,
    OUT_STREAM,
    PADDING,
    PUT_AUDIT,
    PUT_ENDING,
    PUT_IN,
    PUT_MAILBOX,
    PUT_META,
    PUT_OUT,
    PUT_OUTCOME,
    PUT_PEER,
    REVIVE_IN,
    SET_IN,
    CommandView,
    PutCommand,
)
from zmesh.peer.connection import Connection
from zmesh.protocol.bounds import MIB
from zmesh.protocol.journal import (
    NOTHING_SPECIAL,
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

ROWS: Final = 256  # of one statement; 11 columns of them stay far below SQLite's 32,766 parameters
STATEMENT_BYTES: Final = 1 * MIB  # of bodies in one statement, which SQLite copies once
_SIZES: Final = tuple(1 << power for power in range(ROWS.bit_length()))
_PUT_WIDTH: Final = 10
_BODY_WIDTH: Final = 3
_STATEMENTS: Final = {command.name: {size: command.statement(size) for size in _SIZES} for command in COMMANDS}


class _Run:
    """Rows for one command, to be carried out together."""

    __slots__ = ("params", "rows", "statements", "width")

    def __init__(self, command: CommandView) -> None:
        self.width = len(command.columns)
        self.statements = _STATEMENTS[command.name]
        self.params: list[Any] = []
        self.rows = 0

    def flush(self, connection: Connection) -> None:
        """Carry out what is there."""
        if self.rows:
            params, rows, self.params, self.rows = self.params, self.rows, [], 0
            _carry_out(connection, self.statements, params, rows, self.width)


class _PutRun:
    """New messages of one direction, which the database ignores when their id is there already."""

    __slots__ = (
        "_bodies", "_body_statements", "_keys", "_known", "_params", "_select", "_statements",
        "highest", "ignored", "lowest", "rows", "size",
    )  # fmt: skip

    def __init__(self, command: PutCommand) -> None:
        self._statements = {size: command.statement(size) for size in _SIZES}
        self._body_statements = {size: command.body_statement(size) for size in _SIZES}
        self._select = f"SELECT row FROM {command.table} WHERE row IN ("  # noqa: S608 - one of our own two
        self._known, self._keys = command.known, command.keys
        self.ignored: dict[int, int] = {}
        self._clear()

    def _clear(self) -> None:
        self._params: list[Any] = []
        self._bodies: list[Any] = []
        self.rows = self.size = self.highest = 0
        self.lowest = 1 << 63

    def add(self, values: tuple[Any, ...], envelope: bytes, body: bytes | None) -> None:
        """Take a message: its ten columns, and a body unless it has ended."""
        row = values[0]
        self._params += values
        if body is not None:
            self._bodies += (row, bytearray(envelope), bytearray(body))
            self.size += len(body)
        self.rows += 1
        self.highest = max(self.highest, row)
        self.lowest = min(self.lowest, row)

    def flush(self, connection: Connection) -> None:
        """Carry out what is there; find out which rows were ignored, which costs nothing unless some were."""
        if not self.rows:
            return
        params, bodies, rows = self._params, self._bodies, self.rows
        self._clear()
        before = connection.total_changes
        _carry_out(connection, self._statements, params, rows, _PUT_WIDTH)
        if connection.total_changes - before != rows:
            bodies = self._ignore(connection, params[: rows * _PUT_WIDTH], bodies)
        if bodies:
            _carry_out(connection, self._body_statements, bodies, len(bodies) // _BODY_WIDTH, _BODY_WIDTH)

    def _ignore(self, connection: Connection, params: list[Any], bodies: list[Any]) -> list[Any]:
        """Note which rows are not there, and what is there in their place; return the bodies of those that are."""
        rows = params[::_PUT_WIDTH]
        there = {row for (row,) in connection.execute(f"{self._select}{', '.join('?' * len(rows))})", rows)}
        for start, row in zip(range(0, len(params), _PUT_WIDTH), rows, strict=True):
            if row not in there:
                key = params[start + 1 : start + 1 + self._keys]
                self.ignored[row] = connection.execute(self._known, key)[0][0]
        starts = range(0, len(bodies), _BODY_WIDTH)
        return [value for start in starts if bodies[start] in there for value in bodies[start : start + _BODY_WIDTH]]


def _carry_out(connection: Connection, statements: dict[int, str], params: list[Any], rows: int, width: int) -> None:
    """Execute the statement for these rows, padded to a size that stays prepared."""
    size = 1 << (rows - 1).bit_length()
    params.extend([PADDING] * (width * (size - rows)))
    connection.execute(statements[size], params)


class _Lane:
    """Ops that may not pass each other, unless they are puts and changes of other rows.

    The pending puts and the pending changes never touch the same row, so their order does not matter.
    """

    __slots__ = ("_connection", "change", "changed", "puts")

    def __init__(self, connection: Connection, puts: _PutRun | None = None) -> None:
        self._connection = connection
        self.puts = puts
        self.change: _Run | None = None
        self.changed = 0  # the highest row that a pending change touches

    def turn_to(self, run: _Run, first: int, last: int) -> None:
        """Get ready for an op of `run` that touches rows first..last."""
        puts = self.puts
        if puts is not None and puts.rows and first <= puts.highest and last >= puts.lowest:
            puts.flush(self._connection)
        if self.change is not run or run.rows >= ROWS:
            self.flush_changes()
            self.change = run
        self.changed = max(self.changed, last)

    def make_room(self, run: _PutRun, row: int, size: int) -> None:
        """Get ready for a put of `row`."""
        if row <= self.changed:
            self.flush_changes()
        if run.rows >= ROWS or run.size + size > STATEMENT_BYTES:
            run.flush(self._connection)

    def flush_changes(self) -> None:
        if self.change is not None:
            self.change.flush(self._connection)
            self.change = None
            self.changed = 0

    def flush(self) -> None:
        if self.puts is not None:
            self.puts.flush(self._connection)
        self.flush_changes()


_EVERY_ROW: Final = (0, (1 << 63) - 1)


class OpWriter:
    """Writes ops through one connection, inside a transaction that somebody else began."""

    def __init__(self, connection: Connection) -> None:
        """Take the connection; its command views are installed."""
        self._connection = connection
        self.reset()

    def reset(self) -> None:
        """Forget what is pending: the transaction was rolled back."""
        connection = self._connection
        self._put_outs = _PutRun(PUT_OUT)
        self._put_ins = _PutRun(PUT_IN)
        self._out = _Lane(connection, self._put_outs)
        self._in = _Lane(connection, self._put_ins)
        self._endings, self._outcomes, self._rest = (_Lane(connection) for _ in range(3))
        self._runs = {command.name: _Run(command) for command in COMMANDS}
        self._lost: list[bytes] = []  # by the ops of the present `add`
        self._out_streams: dict[tuple[bytes, int], OutStreamRow] = {}
        self._in_streams: dict[tuple[bytes, int], InStreamRow] = {}

    def add(self, ops: Sequence[Op]) -> tuple[bytes, ...]:
        """Take the ops of one `Persist`, after those of the ones before it.

        Returns:
            Ids of the messages that a `LoseOut` among them marks.

        Raises:
            StoreError: The database refused a statement; roll back and `reset`.
        """
        takers = self._takers
        for op in ops:
            takers[type(op)](self, op)
        if not self._lost:
            return ()
        lost, self._lost = tuple(self._lost), []
        return lost

    def finish(self) -> Written:
        """Carry out what is pending.

        Returns:
            Which rows of all that was added were ignored.

        Raises:
            StoreError: As for `add`.
        """
        self._flush_streams()
        for lane in (self._out, self._in, self._endings, self._outcomes, self._rest):
            lane.flush()
        outs, ins = self._put_outs.ignored, self._put_ins.ignored
        if not (outs or ins):
            return NOTHING_SPECIAL
        self._put_outs.ignored, self._put_ins.ignored = {}, {}
        return Written(
            {row: Sent(state) for row, state in outs.items()},
            {row: Received(state) for row, state in ins.items()},
        )

    # --- one op -----------------------------------------------------------------------------------------------------

    def _change(self, lane: _Lane, command: CommandView, values: tuple[Any, ...], span: tuple[int, int]) -> None:
        run = self._runs[command.name]
        lane.turn_to(run, *span)
        run.params += values
        run.rows += 1

    def _put_out(self, op: PutOut) -> None:
        size = len(op.body)
        self._out.make_room(self._put_outs, op.row, size)
        values = (
            op.row, bytearray(op.id), bytearray(op.dest), op.address, op.klass, op.epoch, op.number, int(op.state),
            NO_DEADLINE if op.deadline is None else op.deadline, size,
        )  # fmt: skip
        self._put_outs.add(values, op.envelope, op.body if op.state in SENDER_LIVE else None)

    def _put_in(self, op: PutIn) -> None:
        size = len(op.body)
        self._in.make_room(self._put_ins, op.row, size)
        values = (
            op.row, bytearray(op.id), op.device, bytearray(op.source), op.mailbox, op.klass, op.attempts, op.due,
            NO_DEADLINE if op.deadline is None else op.deadline, size,
        )  # fmt: skip
        self._put_ins.add(values, op.envelope, op.body)

    def _end_out(self, op: EndOut) -> None:
        lane = self._out
        run = self._runs[END_OUT.name]
        lane.turn_to(run, op.first, op.last)
        params = run.params
        if run.rows and params[-3] + 1 == op.first and params[-2] == op.state and params[-1] == op.detail:
            params[-3] = op.last
            return
        params += (op.first, op.last, int(op.state), op.detail)
        run.rows += 1

    def _fate_out(self, op: FateOut) -> None:
        dest = bytearray(op.dest)
        for ident in op.ids:
            self._change(self._out, FATE_OUT, (bytearray(ident), dest, int(op.state), op.detail), _EVERY_ROW)

    def _lose_out(self, op: LoseOut) -> None:
        values = (op.dest, op.epoch, op.klass, op.first, op.last)
        self._out.flush()
        self._lost += [ident for (ident,) in self._connection.execute(LOST, values)]
        self._change(self._out, LOSE_OUT, values, _EVERY_ROW)

    def _out_stream(self, op: OutStreamRow) -> None:
        self._out_streams[op.dest, op.klass] = op

    def _in_stream(self, op: InStreamRow) -> None:
        self._in_streams[op.source, op.klass] = op

    def _put_mailbox(self, op: PutMailbox) -> None:
        values = (op.name, op.role, json.dumps(op.capabilities), op.project, op.seen)
        self._change(self._rest, PUT_MAILBOX, values, _EVERY_ROW)

    def _merge_mailbox(self, op: MergeMailbox) -> None:
        self._in.flush()  # what is in that mailbox must be there
        self._rest.flush()
        self._change(self._rest, MERGE_MAILBOX, (op.name, op.into), _EVERY_ROW)
        self._rest.flush()  # and what comes into it later, if it is made anew, must not be moved

    def _put_peer(self, op: PutPeer) -> None:
        agents = json.dumps([(agent.name, *agent.lasting, agent.since_ms) for agent in op.agents])
        values = (op.store, op.name, op.device, json.dumps(op.endpoints), op.roster, agents, op.last_seen)
        self._change(self._rest, PUT_PEER, values, _EVERY_ROW)

    def _drop_peer(self, op: DropPeer) -> None:
        self._flush_streams()
        self._endings.flush()
        self._outcomes.flush()
        self._rest.flush()
        self._change(self._rest, DROP_PEER, (op.store,), _EVERY_ROW)
        self._rest.flush()

    def _put_halt(self, op: PutHalt) -> None:
        values = (HALT_KEY + op.store.hex(), json.dumps([op.since, op.by]).encode())
        self._change(self._rest, PUT_META, values, _EVERY_ROW)

    def _flush_streams(self) -> None:
        for command, rows in ((OUT_STREAM, self._out_streams), (IN_STREAM, self._in_streams)):
            for op in rows.values():
                values = tuple(getattr(op, column) for column in command.columns)
                self._change(self._rest, command, values, _EVERY_ROW)
            rows.clear()

    _takers: ClassVar[dict[type[Any], Callable[["OpWriter", Any], None]]] = {
        PutOut: _put_out,
        PutIn: _put_in,
        EndOut: _end_out,
        FateOut: _fate_out,
        OutStreamRow: _out_stream,
        InStreamRow: _in_stream,
        PutMailbox: _put_mailbox,
        MergeMailbox: _merge_mailbox,
        PutPeer: _put_peer,
        DropPeer: _drop_peer,
        PutHalt: _put_halt,
        DropHalt: lambda self, op: self._change(self._rest, DROP_META, (HALT_KEY + op.store.hex(),), _EVERY_ROW),
        MoveOut: lambda self, op: self._change(
            self._out, MOVE_OUT, (op.row, op.dest, op.epoch, op.number, int(op.state)), (op.row, op.row)
        ),
        LoseOut: _lose_out,
        SetIn: lambda self, op: self._change(
            self._in, SET_IN, (op.row, int(op.state), op.attempts, op.due), (op.row, op.row)
        ),
        DropMailbox: lambda self, op: self._change(self._rest, DROP_MAILBOX, (op.name,), _EVERY_ROW),
        MoveIn: lambda self, op: self._change(self._in, MOVE_IN, (op.row, op.into), (op.row, op.row)),
        ReviveIn: lambda self, op: self._change(self._in, REVIVE_IN, (op.row,), (op.row, op.row)),
        PutEnding: lambda self, op: self._change(
            self._endings, PUT_ENDING, (op.source, op.klass, op.number, op.code, op.text), _EVERY_ROW
        ),
        DropEndings: lambda self, op: self._change(
            self._endings, DROP_ENDINGS, (op.source, op.klass, op.upto), _EVERY_ROW
        ),
        PutOutcome: lambda self, op: self._change(
            self._outcomes, PUT_OUTCOME, (bytearray(op.dest), op.number, bytearray(op.id), op.code, op.text), _EVERY_ROW
        ),
        DropOutcomes: lambda self, op: self._change(self._outcomes, DROP_OUTCOMES, (op.dest, op.upto), _EVERY_ROW),
        PutAudit: lambda self, op: self._change(self._rest, PUT_AUDIT, (op.kind, op.at, op.text), _EVERY_ROW),
    }
