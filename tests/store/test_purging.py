"""What is purged had ended and is gone; what has not ended, and what recognises a message that comes again, stays."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.support import DEVICE, PATIENCE, Driven, Flaky, driven, end_out, ident, put_in, put_out
from zmesh.errors import StoreError
from zmesh.peer import purging, sqlite_store, upkeep
from zmesh.peer.ages import Mark
from zmesh.peer.purging import KINDS, Purge, Wanted, purge
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.peer.store_reader import read_messages, read_receipt, read_snapshot
from zmesh.protocol.journal import FateOut, PutIn, PutOut, SetIn
from zmesh.protocol.states import SENDER_LIVE, Received, Sent

OWN = b"O" * 16
EVERYTHING = frozenset(KINDS)
ENDINGS = [state for state in Sent if state not in SENDER_LIVE]


@pytest.fixture(autouse=True)
def never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are small here, and the store's own idle time stays out of the way."""
    monkeypatch.setattr(sqlite_store, "IDLE_AFTER", 3600.0)
    monkeypatch.setattr(purging, "STEP_ROWS", 7)


def forget(it: Driven, kinds: frozenset[str] = EVERYTHING, mailbox: str = "", before: Mark | None = None) -> Purge:
    """Purge; first the same is counted, which must come to the same and touch nothing."""
    everything = it.ask("SELECT * FROM outbox"), it.ask("SELECT * FROM inbox"), it.ask("SELECT * FROM inbody")
    wanted = Wanted(kinds, mailbox, before)
    counted = asyncio.run(purge(it.store, wanted, OWN, dry=True))
    assert everything == (it.ask("SELECT * FROM outbox"), it.ask("SELECT * FROM inbox"), it.ask("SELECT * FROM inbody"))
    done = asyncio.run(purge(it.store, wanted, OWN))
    for name in ("sent", "received", "known", "awaited", "looked", "total", "messages"):
        assert getattr(done, name) == getattr(counted, name), name
    assert done.looked == done.total
    return done


def in_all_states(it: Driven) -> None:
    """Messages 1..100 in each direction, as many in each state; then one that has not ended."""
    it.commit(*(put_out(row) for row in range(1, 101)))
    for row in range(1, 101):
        state = Sent(row % 10)
        if state not in (Sent.WAITING, Sent.QUEUED, Sent.SENT):
            it.commit(end_out(row, row, state))
    it.commit(*(put_in(row) for row in range(1, 101)))
    for row in range(1, 101):
        end = Received(row % 5)
        if end not in (Received.STORED, Received.LEASED):
            it.commit(SetIn(row, end, 1, 0.0))
    it.commit(put_out(101), put_in(101))


def out_states(it: Driven) -> dict[int, int]:
    return dict(it.ask("SELECT state, count(*) FROM outbox GROUP BY state"))


@pytest.mark.parametrize(
    ("kinds", "sent", "received"),
    [
        (("expired",), {Sent.EXPIRED}, set()),
        (("ended",), {Sent.HANDLED, Sent.REFUSED, Sent.LOST}, set()),
        (("dead",), {Sent.DEAD}, {Received.DEAD}),
        (("expired", "ended", "dead"), {Sent.EXPIRED, Sent.HANDLED, Sent.REFUSED, Sent.LOST, Sent.DEAD},
         {Received.DEAD}),
    ],
)  # fmt: skip
def test_what_was_asked_for_goes_and_nothing_else(
    tmp_path: Path, kinds: tuple[str, ...], sent: set[Sent], received: set[Received]
) -> None:
    with driven(tmp_path) as it:
        in_all_states(it)
        before, snapshot = out_states(it), it.store.query(lambda c: read_snapshot(c, OWN)).result(PATIENCE)
        done = forget(it, frozenset(kinds))
        assert set(done.sent) == {state.name.lower() for state in sent}
        assert all(count.messages == 10 for count in done.sent.values())
        assert all(count.messages == 20 for count in done.received.values())
        assert set(done.received) == {state.name.lower() for state in received}
        assert out_states(it) == {state: count for state, count in before.items() if state not in set(sent)}
        assert it.ask("SELECT count(*) FROM inbox") == [(101,)], "each is still known by its id"
        dead = it.ask("SELECT count(*) FROM inbody JOIN inbox USING (row) WHERE state = ?", int(Received.DEAD))
        assert dead == [(0 if received else 20,)]
        assert it.store.query(lambda c: read_snapshot(c, OWN)).result(PATIENCE) == snapshot, "what the core knows of"
        assert (done.known, done.awaited) == (60, 10)
        again = forget(it, frozenset(kinds))
        assert (again.sent, again.received) == ({}, {})


def test_a_message_that_comes_again_is_known_whatever_was_purged(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        in_all_states(it)
        forget(it)
        for row in range(1, 102):
            told = it.commit(put_in(1000 + row, id_=ident(row)))
            state = Received(row % 5) if row <= 100 else Received.STORED
            here = Received.STORED if state is Received.LEASED else state
            assert told.ignored_in == {1000 + row: here}, "its sender's disk went back in time: it is told its end"
        assert it.ask("SELECT count(*) FROM inbox WHERE row > 1000") == [(0,)]


def test_bytes_are_those_of_what_went(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        it.commit(put_in(1, body=bytes(5000)), put_out(1), put_out(2))
        it.commit(SetIn(1, Received.DEAD, 8, 0.0))
        it.commit(FateOut(put_out(1).dest, (ident(1),), Sent.REFUSED, "größer"))
        done = forget(it)
        assert (done.received["dead"].messages, done.received["dead"].bytes) == (1, 5000 + len(b"envelope"))
        sent = done.sent["refused"]
        assert (sent.messages, sent.bytes) == (1, 16 + 16 + len("code@studio") + len("größer".encode()))
        assert it.store.query(lambda c: read_receipt(c, ident(1))).result(PATIENCE) is None
        assert it.store.query(lambda c: read_messages(c, [1])).result(PATIENCE) == {}


def test_the_newest_row_stays_so_that_no_number_is_used_twice(tmp_path: Path) -> None:
    with driven(tmp_path) as it:
        it.commit(*(put_out(row) for row in range(1, 21)), end_out(1, 20, Sent.HANDLED))
        assert forget(it).sent["handled"].messages == 19
        assert it.ask("SELECT row FROM outbox") == [(20,)]
    with driven(tmp_path) as it:
        assert it.snapshot.next_out == 21


def test_only_what_goes_to_a_mailbox_and_only_what_is_old_enough(tmp_path: Path) -> None:
    def local(row: int, address: str, dest: bytes = OWN) -> PutOut:
        return PutOut(row, ident(row), dest, address, 2, 0, 0, Sent.STORED, None, b"e", b"")

    def received(row: int, mailbox: str) -> PutIn:
        return PutIn(row, ident(row), DEVICE, OWN, mailbox, 2, 0, 0.0, None, b"e", b"b")

    with driven(tmp_path) as it:
        it.commit(
            local(1, "code@laptop"), local(2, "coder@laptop"), local(3, "code@laptop", b"X" * 16),
            local(4, "code@laptop"), local(5, "code@laptop"), end_out(1, 5, Sent.HANDLED),
            *(received(row, name) for row, name in enumerate(("code", "coder", "code"), 1)),
            *(SetIn(row, Received.DEAD, 8, 0.0) for row in (1, 2, 3)),
        )  # fmt: skip
        done = forget(it, mailbox="code", before=Mark(0.0, 3, 1))
        assert it.ask("SELECT row FROM outbox ORDER BY row") == [(2,), (3,), (4,), (5,)]
        assert it.ask("SELECT row FROM inbody ORDER BY row") == [(2,), (3,)]
        assert done.messages == 2
        done = forget(it, mailbox="code")
        assert it.ask("SELECT row FROM outbox ORDER BY row") == [(2,), (3,), (5,)]
        assert it.ask("SELECT row FROM inbody ORDER BY row") == [(2,)]
        assert done.known == 3


def test_a_step_frees_no_more_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "STEP_ROWS", 1000)
    monkeypatch.setattr(purging, "STEP_BYTES", 250_000)
    with driven(tmp_path) as it:
        for row in range(1, 31):
            it.commit(put_in(row, body=bytes(100_000)), SetIn(row, Received.DEAD, 8, 0.0))
        tokens: list[int] = []
        done = asyncio.run(
            purge(it.store, Wanted(EVERYTHING), OWN, told=lambda *_: tokens.append(it.submit(put_out(len(tokens) + 1))))
        )
        assert done.received["dead"].messages == 30
        assert len(tokens) >= 10, "three in each step, and commits between them"
        it.recorder.wait(lambda: it.recorder.settled(tokens))
        assert not it.recorder.failures


def test_a_full_disk_is_told_with_what_had_gone_before(tmp_path: Path) -> None:
    flaky = Flaky()
    with driven(tmp_path, connect=flaky) as it:
        it.commit(*(put_out(row) for row in range(1, 51)), end_out(1, 49, Sent.HANDLED))

        def told(looked: int, _: int) -> None:
            if looked == 21:
                flaky.connection.fuse = 4

        with pytest.raises(StoreError, match=r"made to fail\. 21 messages had gone before that"):
            asyncio.run(purge(it.store, Wanted(EVERYTHING), OWN, told=told))
        flaky.connection.fuse = None
        assert it.ask("SELECT count(*) FROM outbox") == [(29,)], "a step is done, or nothing of it"
        assert forget(it).sent["handled"].messages == 28
        it.commit(put_out(51))


def test_steps_of_housekeeping_and_of_a_purge_get_along(tmp_path: Path) -> None:
    with driven(tmp_path, keep=20) as it:
        it.commit(*(put_out(row) for row in range(1, 201)), end_out(1, 199, Sent.HANDLED))
        pruner = upkeep.Pruner("outbox", "outbody", "0, 1, 2, 5", 20)

        def told(*_: int) -> None:
            it.store.change(pruner.step)

        pruner.added(1)
        asyncio.run(purge(it.store, Wanted(EVERYTHING), OWN, told=told))
        assert it.ask("SELECT row, state FROM outbox") == [(200, int(Sent.QUEUED))]


@settings(max_examples=40, deadline=None)
@given(
    outs=st.lists(st.sampled_from([*ENDINGS, Sent.QUEUED, Sent.WAITING, Sent.EXPIRING]), max_size=40),
    ins=st.lists(st.sampled_from([state for state in Received if state is not Received.LEASED]), max_size=40),
    kinds=st.sets(st.sampled_from(sorted(KINDS))).map(frozenset),
    before=st.none() | st.tuples(st.integers(0, 45), st.integers(0, 45)),
)
def test_whatever_is_there_a_purge_is_what_its_rule_says(
    tmp_path_factory: pytest.TempPathFactory,
    outs: list[Sent],
    ins: list[Received],
    kinds: frozenset[str],
    before: tuple[int, int] | None,
) -> None:
    with driven(tmp_path_factory.mktemp("store")) as it:
        for row, sent in enumerate(outs, 1):
            it.commit(put_out(row), *([end_out(row, row, sent)] if sent not in (Sent.QUEUED, Sent.WAITING) else []))
        for row, received in enumerate(ins, 1):
            it.commit(put_in(row), *([SetIn(row, received, 1, 0.0)] if received else []))
        forget(it, kinds, before=None if before is None else Mark(0.0, *before))
        most_out, most_in = before or (99, 99)
        out_gone = {state for kind in kinds for state in KINDS[kind][0]}
        expected = [
            (row,) for row, sent in enumerate(outs, 1) if not (sent in out_gone and row < len(outs) and row <= most_out)
        ]
        assert it.ask("SELECT row FROM outbox ORDER BY row") == expected
        assert it.ask("SELECT row FROM inbox ORDER BY row") == [(row,) for row in range(1, len(ins) + 1)]
        bodies = [
            (row,) for row, received in enumerate(ins, 1)
            if received is Received.STORED
            or (received is Received.DEAD and not ("dead" in kinds and row <= most_in))
        ]  # fmt: skip
        assert it.ask("SELECT row FROM inbody ORDER BY row") == bodies


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, DEVICE)
    store.open()
    store.close()
    with pytest.raises(StoreError, match="not started"):
        store.change(lambda _: None)
