"""Many ops become few statements."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.store.support import DEST, end_out, ident, put_in, put_out
from zmesh.peer.commands import LOST
from zmesh.peer.connection import Row
from zmesh.peer.op_writer import ROWS, STATEMENT_BYTES, OpWriter
from zmesh.protocol.journal import (
    NOTHING_SPECIAL,
    DropMailbox,
    DropPeer,
    FateOut,
    InStreamRow,
    LoseOut,
    MergeMailbox,
    MoveIn,
    MoveOut,
    Op,
    OutStreamRow,
    PutMailbox,
    ReviveIn,
    SetIn,
)
from zmesh.protocol.states import Received, Sent


class Paper:
    """A connection that only writes down which views get how many rows."""

    in_transaction = True

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.total_changes = 0

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        if sql.startswith("INSERT"):
            rows = sql.count("?") // sql.split("VALUES (")[1].split(")", maxsplit=1)[0].count("?")
            self.statements.append(f"{sql.split()[2]} {rows}")
            width = len(params) // rows
            self.total_changes += list(params[::width]).count(-1) * -1 + rows
        return []

    def close(self) -> None: ...


def write(*ops: Op) -> list[str]:
    paper = Paper()
    writer = OpWriter(paper)
    writer.add(ops)
    writer.finish()
    return [statement for statement in paper.statements if "body" not in statement]


def test_traffic_of_a_sender() -> None:
    ops: list[Op] = []
    for row in range(1001, 1101):
        ops += [put_out(row), OutStreamRow(DEST, 2, 1, row + 1, row, 0, b""), end_out(row - 1000, row - 1000)]
    assert sorted(write(*ops)) == ["do_end_out 1", "do_out_stream 1", "outbox 128"]


def test_traffic_of_a_receiver() -> None:
    ops: list[Op] = []
    for row in range(1001, 1065):
        ops += [put_in(row), InStreamRow(DEST, 2, 1, row, b""), SetIn(row - 64, Received.HANDLED, 1, 0.0)]
    assert sorted(write(*ops)) == ["do_in_stream 1", "do_set_in 64", "inbox 64"]


@pytest.mark.parametrize(
    ("ops", "statements"),
    [
        ((put_out(1), end_out(1, 1)), ["outbox 1", "do_end_out 1"]),
        ((put_out(5), end_out(1, 4), put_out(6)), ["outbox 2", "do_end_out 1"]),
        ((end_out(1, 9), put_out(5)), ["do_end_out 1", "outbox 1"]),
        ((put_out(5), MoveOut(5, DEST, 1, 1, Sent.QUEUED)), ["outbox 1", "do_move_out 1"]),
        ((end_out(1, 1), MoveOut(1, DEST, 1, 1, Sent.QUEUED)), ["do_end_out 1", "do_move_out 1"]),
        ((end_out(1, 1), end_out(2, 4), end_out(5, 5, Sent.EXPIRED)), ["do_end_out 2"]),
        ((FateOut(DEST, (ident(5),), Sent.HANDLED, ""), put_out(5)), ["do_fate_out 1", "outbox 1"]),
        ((put_out(5), LoseOut(DEST, 1, 2, 1, 9)), ["outbox 1", "do_lose_out 1"]),
        ((put_in(5), SetIn(5, Received.HANDLED, 1, 0.0), put_in(6)), ["inbox 1", "inbox 1", "do_set_in 1"]),
        ((put_in(5), SetIn(4, Received.HANDLED, 1, 0.0), put_in(6)), ["inbox 2", "do_set_in 1"]),
    ],
)
def test_only_what_touches_other_rows_trades_places(ops: Sequence[Op], statements: list[str]) -> None:
    assert write(*ops) == statements


def test_what_a_loss_marks_is_asked_after_all_that_came_before_it() -> None:
    """And is said once, by the `add` that it came with."""
    paper = Paper()
    execute = paper.execute

    def answer(sql: str, params: Sequence[Any] = ()) -> list[Row]:
        if sql == LOST:
            paper.statements.append("asked")
            return [(ident(5),)]
        return execute(sql, params)

    paper.execute = answer  # type: ignore[method-assign]
    writer = OpWriter(paper)
    assert writer.add([put_out(5), end_out(5, 5)]) == ()
    assert writer.add([LoseOut(DEST, 1, 2, 1, 9)]) == (ident(5),)
    assert writer.add([put_out(6)]) == ()
    assert writer.finish() is NOTHING_SPECIAL
    assert [s for s in paper.statements if "body" not in s] == [
        "outbox 1", "do_end_out 1", "asked", "do_lose_out 1", "outbox 1",
    ]  # fmt: skip


def test_a_forgotten_peer_gets_its_streams_back_if_they_come_later() -> None:
    stream = OutStreamRow(DEST, 2, 1, 1, 0, 0, b"")
    assert write(stream, DropPeer(DEST), stream) == ["do_out_stream 1", "do_drop_peer 1", "do_out_stream 1"]


def test_a_mailbox_is_merged_between_what_comes_before_and_after_it() -> None:
    merged = MergeMailbox("in.2", "in")
    mailbox = PutMailbox("in.2", "", ())
    assert [s for s in write(put_in(1), mailbox, merged, mailbox, put_in(2)) if "body" not in s] == [
        "inbox 1", "do_mailbox 1", "do_merge_mailbox 1", "inbox 1", "do_mailbox 1",
    ]  # fmt: skip


def test_messages_are_moved_and_revived_in_one_statement_each_and_in_order() -> None:
    moved = [MoveIn(row, "out") for row in (1, 2, 3)]
    assert write(*moved, ReviveIn(1), ReviveIn(2), SetIn(2, Received.HANDLED, 1, 0.0), DropMailbox("in")) == [
        "do_move_in 4", "do_revive_in 2", "do_set_in 1", "do_drop_mailbox 1",
    ]  # fmt: skip


def test_statements_have_bounds() -> None:
    assert write(*(put_out(row) for row in range(1, ROWS + 3))) == [f"outbox {ROWS}", "outbox 2"]
    large = bytes(STATEMENT_BYTES // 2)
    assert write(*(put_out(row, body=large) for row in range(1, 6))) == ["outbox 2", "outbox 2", "outbox 1"]
    fates = FateOut(DEST, tuple(ident(number) for number in range(ROWS + 1)), Sent.HANDLED, "")
    assert write(fates) == [f"do_fate_out {ROWS}", "do_fate_out 1"]
