"""What becomes of a group when one of its members cannot be committed."""

from pathlib import Path

from tests.store.support import DEST, Driven, Flaky, driven, ident, put_in, put_out
from zmesh.protocol.journal import NOTHING_SPECIAL, EndOut, FateOut, LoseOut, Op, SetIn, Written
from zmesh.protocol.states import Received, Sent

TOO_LARGE = 1 << 64  # a row that SQLite cannot hold: a bug in zmesh, which must fail alone


def tokens_of(it: Driven, *persists: tuple[int, Op]) -> list[int]:
    """Submit these (generation, op) as one batch and wait."""
    with it.held():
        tokens = [it.submit(op, generation=generation) for generation, op in persists]
    it.recorder.wait(lambda: it.recorder.settled(tokens))
    return tokens


def test_a_group_is_one_transaction_and_one_post(tmp_path: Path) -> None:
    flaky = Flaky()
    with driven(tmp_path, connect=flaky) as it:
        statements = flaky.connection.statements
        statements.clear()
        batches = it.recorder.batches
        tokens = tokens_of(it, *((1, put_out(row)) for row in range(1, 101)))
        assert list(it.recorder.committed_tokens) == tokens, "in order"
        assert it.recorder.batches == batches + 1
        written = [" ".join(sql.split()[:3]) for sql in statements if not sql.startswith("PRAGMA")]
        assert written[:4] == ["BEGIN IMMEDIATE", "INSERT INTO outbox", "INSERT INTO outbody", "COMMIT"]


def test_the_bad_one_fails_with_all_later_ones_of_its_generation(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        bad = put_out(TOO_LARGE)
        tokens = tokens_of(it, (1, put_out(1)), (1, bad), (1, put_out(3)), (2, put_out(4)), (1, put_out(5)))
        assert sorted(it.recorder.committed_tokens) == [tokens[0], tokens[3]]
        assert sorted(it.recorder.failures) == [tokens[1], tokens[2], tokens[4]]
        assert "an error in zmesh" in it.recorder.failures[tokens[1]]
        assert it.ask("SELECT row FROM outbox") == [(1,), (4,)]
        # Those submitted afterwards fail too, and never reach the disk.
        assert "an error in zmesh" in it.refuse(put_out(6), generation=1)
        it.commit(put_out(7), generation=2)
        assert it.ask("SELECT row FROM outbox") == [(1,), (4,), (7,)]


def test_a_row_that_is_used_twice_fails_and_is_never_called_ignored(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        it.commit(put_out(1), put_in(1))
        assert "outbox.row" in it.refuse(put_out(1, id_=b"x" * 16), generation=1)
        assert "inbox.row" in it.refuse(put_in(1, id_=b"x" * 16), generation=2)


def test_a_disk_that_fails_once_fails_nobody(tmp_path: Path) -> None:
    flaky = Flaky()
    with driven(tmp_path, connect=flaky) as it:
        for fuse in range(1, 5):
            rows = range(fuse * 10, fuse * 10 + 3)
            with it.held():
                tokens = [it.submit(put_out(row)) for row in rows]
                flaky.connection.once, flaky.connection.fuse = True, fuse
            it.recorder.wait(lambda: it.recorder.settled(tokens))  # noqa: B023 - waited for within the loop
            flaky.connection.fuse = None
        assert not it.recorder.failures
        assert len(it.ask("SELECT row FROM outbox")) == 12


def test_a_later_generation_is_tried_again(tmp_path: Path) -> None:
    flaky = Flaky()
    with driven(tmp_path, connect=flaky) as it:
        flaky.connection.fuse = 2
        assert it.refuse(put_out(1), generation=1) == "the disk was made to fail"
        assert it.refuse(put_out(2), generation=2) == "the disk was made to fail"
        flaky.connection.fuse = None
        it.commit(put_out(3), generation=3)
        assert it.ask("SELECT row FROM outbox") == [(3,)]
        assert it.refuse(put_out(4), generation=2) == "the disk was made to fail"


def test_ignored_rows_are_told_to_their_own_persist(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        it.commit(put_out(1), put_in(1))
        again, twice = put_out(2, id_=put_out(1).id), put_in(2, id_=put_in(1).id)
        tokens = tokens_of(it, (1, again), (1, put_out(3)), (1, twice), (1, put_in(4, id_=twice.id, device="other")))
        told = it.recorder.committed_tokens
        assert [told[token] for token in tokens] == [
            Written({2: Sent.QUEUED}, {}), NOTHING_SPECIAL, Written({}, {2: Received.STORED}), NOTHING_SPECIAL,
        ]  # fmt: skip
        it.store.fetch_out([1, 2, 3])
        it.store.fetch_in([1, 2, 4])
        it.recorder.wait(lambda: it.recorder.bodies and it.recorder.messages)
        assert sorted(it.recorder.bodies[0]) == [1, 3]
        assert sorted(it.recorder.messages[0]) == [1, 4]


def test_an_ignored_row_is_told_with_the_state_of_what_is_there(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        rows = range(1, 5)
        it.commit(*map(put_out, rows), *map(put_in, rows))
        it.commit(
            EndOut(2, 2, Sent.STORED, ""),
            EndOut(3, 3, Sent.LOST, ""),
            FateOut(DEST, (ident(4),), Sent.HANDLED, ""),
            SetIn(2, Received.HANDLED, 1, 0.0),
            SetIn(3, Received.EXPIRED, 0, 0.0),
            SetIn(4, Received.DEAD, 8, 0.0),
        )
        again = [put_out(row + 10, id_=ident(row)) for row in rows]
        twice = [put_in(row + 10, id_=ident(row)) for row in rows]
        assert it.commit(*again, *twice, put_in(20, id_=ident(2), device="another")) == Written(
            {11: Sent.QUEUED, 12: Sent.STORED, 13: Sent.LOST, 14: Sent.HANDLED},
            {11: Received.STORED, 12: Received.HANDLED, 13: Received.EXPIRED, 14: Received.DEAD},
        )


def test_what_was_lost_is_told_to_whom_it_was_lost_for(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        it.commit(*(put_out(row, state=Sent.STORED) for row in range(1, 7)), put_out(7))
        handled = FateOut(DEST, (ident(2),), Sent.HANDLED, "")
        other, none = LoseOut(b"other".ljust(16), 1, 2, 1, 9), LoseOut(DEST, 2, 2, 1, 9)
        first, second = LoseOut(DEST, 1, 2, 1, 3), LoseOut(DEST, 1, 2, 2, 5)
        tokens = tokens_of(it, (1, handled), (1, first), (1, put_in(1)), (1, second), (1, other), (1, none))
        told = [it.recorder.committed_tokens[token].lost for token in tokens]
        assert told == [(), (ident(1), ident(3)), (), (ident(4), ident(5)), (), ()], "each message once, in its order"
        assert it.commit(LoseOut(DEST, 1, 2, 1, 6), LoseOut(DEST, 1, 2, 6, 7)).lost == (ident(6),)
        lost = it.ask("SELECT row FROM outbox WHERE state = ? ORDER BY row", int(Sent.LOST))
        assert lost == [(1,), (3,), (4,), (5,), (6,)]
