"""What is read of mailboxes for people, and what moving and reviving do to real rows."""

from dataclasses import replace
from pathlib import Path

from tests.store.support import PATIENCE, Driven, driven, ident, put_in
from zmesh.peer.mail_reader import count_dead, read_dead, read_glances
from zmesh.peer.store_reader import read_snapshot
from zmesh.protocol.journal import DropMailbox, InRow, MoveIn, PutMailbox, ReviveIn, SetIn
from zmesh.protocol.states import Received


def filled(it: Driven) -> None:
    """Three messages: one dead, with a deadline, one that waits, one that is handled."""
    it.commit(*(replace(put_in(row), mailbox="in", deadline=99.0, attempts=1, body=b"0123456789") for row in (1, 2, 3)))
    it.commit(SetIn(1, Received.DEAD, 8, 5.0), SetIn(3, Received.HANDLED, 1, 0.0))


def test_a_look_reads_the_beginnings_of_what_is_still_there_in_the_order_asked_for(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        filled(it)
        glances = it.store.query(lambda connection: read_glances(connection, (2, 9, 3, 1), 4)).result(PATIENCE)
        assert [(each.row, each.id, each.size, each.beginning) for each in glances] == [
            (2, ident(2), 10, b"0123"), (1, ident(1), 10, b"0123"),
        ]  # fmt: skip
        assert glances[0].envelope == put_in(2).envelope


def test_dead_messages_are_found_by_mailbox_and_id(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        filled(it)
        dead = InRow(1, ident(1), put_in(1).source, "in", put_in(1).klass, 8, 5.0, 99.0, 10)
        ask = it.store.query
        assert ask(lambda connection: read_dead(connection, "in", 9)).result(PATIENCE) == [dead]
        assert ask(lambda connection: read_dead(connection, "in", 9, ident(1))).result(PATIENCE) == [dead]
        assert ask(lambda connection: read_dead(connection, "in", 9, ident(2))).result(PATIENCE) == []
        assert ask(lambda connection: read_dead(connection, "out", 9)).result(PATIENCE) == []
        assert ask(count_dead).result(PATIENCE) == {"in": 1}


def test_what_is_revived_begins_anew_and_only_what_is_dead_is_revived(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        filled(it)
        it.commit(MoveIn(1, "out"), *(ReviveIn(row) for row in (1, 2, 3)), PutMailbox("in", "", ()), DropMailbox("in"))
        snapshot = it.store.query(lambda connection: read_snapshot(connection, bytes(16))).result(PATIENCE)
        rows = [(each.row, each.mailbox, each.attempts, each.due, each.deadline) for each in snapshot.ins]
        assert rows == [(1, "out", 0, 0.0, None), (2, "in", 1, put_in(2).due, 99.0)]
        assert snapshot.mailboxes == ()
