"""What happens to a store: its disk is full or read-only, somebody else has it, it is a copy, the wall clock steps."""

import asyncio
import logging
import os
import shutil
import time
from pathlib import Path

import pytest

import zmesh
import zmesh.peer.peer
from tests.faults.support import (
    PATIENCE,
    all_stored,
    collect,
    command,
    fill,
    make_peer,
    meet,
    nothing_more,
    peers,
    puppet,
    puppet_log,
    run,
    second_home,
    send_all,
    small_disk,
    store_file,
)
from tests.storm.journal import LIFE, read_lines
from tests.storm.processes import wait_until
from tests.storm.verdict import query
from tests.waiting import until
from zmesh.peer.clock import Sources, StoreClock, machine_clocks

BODY = 3000  # bytes: a disk of a few MiB is soon full
HOUR = 3600.0


# --- a full disk ---


def test_send_on_a_full_disk_says_so_and_loses_nothing(home: Path) -> None:
    async def fill_up(sender: zmesh.Agent, bodies: list[bytes], receipts: list[zmesh.Receipt]) -> None:
        """Send one after the other until the disk is full; note the receipts of those that were promised."""
        while True:
            bodies.append(len(bodies).to_bytes(4, "big") + bytes(BODY))
            receipts.append(await sender.send("receiver@b", bodies[-1]))

    async def test(disk: Path) -> None:
        async with peers(home, "a") as (a,):
            sender = await a.agent("sender")
            bodies: list[bytes] = []
            receipts: list[zmesh.Receipt] = []
            filler = fill(disk)
            with pytest.raises(zmesh.StoreFull) as caught:
                await fill_up(sender, bodies, receipts)
            assert str(caught.value).startswith("nothing was stored: ")
            assert "disk is full" in str(caught.value)
            refused = bodies.pop()
            with pytest.raises(zmesh.StoreFull):
                await sender.send("receiver@b", refused)
            filler.unlink()
            receipts += await send_all(sender, "receiver@b", [refused, b"last"])
            async with peers(home, "b") as (b,):
                messages = await collect(await b.agent("receiver"), len(receipts))
                await all_stored(receipts)
                assert [message.id for message in messages] == [receipt.id for receipt in receipts]
                assert [message.body for message in messages] == [*bodies, refused, b"last"]
                await nothing_more(await b.agent("receiver"))

    with small_disk(home / "peers" / "a", "6m") as disk:
        run(lambda: test(disk))


def test_a_receiver_with_a_full_disk_acknowledges_nothing_and_catches_up(home: Path) -> None:
    async def test(disk: Path) -> None:
        async with peers(home, "a", "b") as (a, b):
            sender, receiver = await a.agent("sender"), await b.agent("receiver")
            await meet(a, "receiver@b")
            filler = fill(disk)
            receipts = await send_all(sender, "receiver@b", [bytes(BODY)] * 2000)
            sick = b.driver.core.node
            await until(lambda: sick.sick_until > 0, PATIENCE, "the receiver's disk is full")
            stored = [receipt for receipt in receipts if receipt.state == "stored"]
            assert len(stored) < len(receipts)
            ids = await asyncio.wrap_future(b.store.query(lambda c: c.execute("SELECT hex(id) FROM inbox")))
            assert {receipt.id.hex().upper() for receipt in stored} <= {ident for (ident,) in ids}, "a lie"
            filler.unlink()
            taking = asyncio.create_task(collect(receiver, len(receipts)))
            await all_stored(receipts)
            assert [message.id for message in await taking] == [receipt.id for receipt in receipts]
            await nothing_more(receiver)
        assert query(store_file(home, "b"), "SELECT count(*), count(DISTINCT id) FROM inbox") == [(2000, 2000)]

    with small_disk(home / "peers" / "b", "24m") as disk:
        run(lambda: test(disk))


def test_a_peer_that_starts_on_a_full_disk_says_so_and_starts_when_there_is_space(home: Path) -> None:
    async def test(disk: Path) -> None:
        filler = fill(disk)
        with pytest.raises(zmesh.StoreFull) as caught:
            await make_peer("a", home).start()
        assert str(caught.value) == (
            f"the disk is full: {store_file(home, 'a')} cannot grow. Free some space on its file system"
        )
        filler.unlink()
        async with peers(home, "a") as (a,):
            receipts = await send_all(await a.agent("sender"), "receiver@b", [bytes(BODY)] * 100)
        filler = fill(disk)
        with pytest.raises(zmesh.StoreFull):
            async with peers(home, "a") as (a,):
                await (await a.agent("sender")).send("receiver@b", bytes(BODY))
        filler.unlink()
        async with peers(home, "a", "b") as (a, b):
            messages = await collect(await b.agent("receiver"), len(receipts))
            assert [message.id for message in messages] == [receipt.id for receipt in receipts]
            assert (await (await a.agent("sender")).send("receiver@b", "goes on")).state != "lost"

    with small_disk(home / "peers" / "a", "4m") as disk:
        run(lambda: test(disk))


# --- a disk that cannot be written ---


def test_a_peer_on_a_read_only_disk_says_which_file_and_what_to_do(home: Path) -> None:
    async def test(directory: Path) -> None:
        with pytest.raises(zmesh.StoreError) as caught:
            await make_peer("a", home).start()
        assert str(caught.value).startswith(f"cannot write {directory / 'store.lock'}: ")
        assert str(caught.value).endswith(
            ". Make its directory writable for this user, or set ZMESH_HOME to another place"
        )

    directory = home / "peers" / "a"
    if os.geteuid() == 0:  # whom no permission bits hold back
        with small_disk(directory, "4m"):
            command("mount", "-o", "remount,ro", str(directory))
            run(lambda: test(directory))
    else:
        directory.mkdir(parents=True)
        directory.chmod(0o500)
        try:
            run(lambda: test(directory))
        finally:
            directory.chmod(0o700)


def test_a_home_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(zmesh.MeshError) as caught:
            await make_peer("a", tmp_path / "file" / "home").start()
        assert str(caught.value) == (
            f"cannot make {tmp_path / 'file' / 'home'}: Not a directory. "
            "Move away the file that is in its place, or set ZMESH_HOME to another place"
        )

    (tmp_path / "file").write_text("in the way")
    run(test)


# --- a store that somebody has ---


def test_a_store_in_use_names_the_process_that_uses_it(home: Path) -> None:
    async def test() -> None:
        with puppet("idle", "a", home) as child:
            wait_until(lambda: list(read_lines(puppet_log(home, "a"))), PATIENCE, "the other process runs the peer")
            with pytest.raises(zmesh.PeerRunning) as caught:
                await make_peer("a", home).start()
            assert caught.value.pid == child.pid
            assert str(caught.value) == (
                f"process {child.pid} already runs the peer of {home / 'peers' / 'a'}: end that one, "
                "reach it by zmesh.connect() if it is this machine's daemon, or give this peer another name"
            )
            child.kill()
            async with peers(home, "a") as (a,):  # its lock went with it, and so must its claim
                assert a.endpoints
        assert [words[0] for words in read_lines(puppet_log(home, "a"))] == [LIFE]

    run(test)


def test_the_same_peer_twice_in_one_process_is_refused(home: Path) -> None:
    async def test() -> None:
        async with peers(home, "a"):
            with pytest.raises(zmesh.PeerRunning) as caught:
                await make_peer("a", home).start()
            assert caught.value.pid == os.getpid()

    run(test)


# --- copies ---


def test_a_copy_beside_its_original_takes_a_new_id_and_nothing_is_lost_or_doubled(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with peers(home, "a", "b") as (a, b):
            sender = await a.agent("sender")
            receiver = await b.agent("receiver")
            inbox = await a.agent("inbox")
            await meet(a, "receiver@b")
            await meet(b, "inbox@a")
            await all_stored(await send_all(sender, "receiver@b", ["stored before"]))
            await all_stored(await send_all(receiver, "inbox@a", ["for both"]))
            original = a.id
        async with peers(home, "a") as (a,):
            sender = await a.agent("sender")
            waiting = await send_all(sender, "receiver@b", [f"waiting {number}" for number in range(100)])
        other = second_home(home, home / "other")
        shutil.copytree(home / "peers" / "a", other / "peers" / "a")
        async with make_peer("a", other) as copy, make_peer("a", home) as a:
            assert a.id == original
            assert copy.id != original
            async with peers(home, "b") as (b,):
                receiver = await b.agent("receiver")
                messages = await collect(receiver, 101)
                bodies = [message.body for message in messages]
                assert bodies == ["stored before", *[f"waiting {number}" for number in range(100)]]
                for peer in (a, copy):
                    sender = await peer.agent("sender")
                    for receipt in waiting:
                        mine = await sender.receipt(receipt.id)
                        await mine.stored(PATIENCE)
                    inbox = await peer.agent("inbox")
                    assert [message.body for message in await collect(inbox, 1)] == ["for both"]
                await all_stored(await send_all(await a.agent("sender"), "receiver@b", ["from the original"]))
                await all_stored(await send_all(await copy.agent("sender"), "receiver@b", ["from the copy"]))
                both = {message.body for message in await collect(receiver, 2)}
                assert both == {"from the original", "from the copy"}
                await nothing_more(receiver)
        said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert any("because it is a copy of the file that it was" in text for text in said), said
        assert query(store_file(home, "b"), "SELECT count(*), count(DISTINCT id) FROM inbox") == [(103, 103)]

    caplog.set_level(logging.INFO, "zmesh")
    run(test)


def test_a_store_that_was_only_moved_stays_what_it_is(home: Path) -> None:
    async def test() -> None:
        async with peers(home, "a") as (a,):
            sender = await a.agent("sender")
            receipt = await sender.send("receiver@b", "moves with it")
            original = a.id
        moved = second_home(home, home / "moved")
        (moved / "peers").mkdir(mode=0o700)
        (home / "peers" / "a").rename(moved / "peers" / "a")
        async with make_peer("a", moved) as a, make_peer("b", home) as b:
            assert a.id == original
            (message,) = await collect(await b.agent("receiver"), 1)
            assert message.id == receipt.id

    run(test)


@pytest.mark.parametrize("how", ["renamed", "copied"])
def test_mail_of_a_peer_that_was_renamed_is_delivered(home: Path, how: str) -> None:
    async def test() -> None:
        async with peers(home, "old") as (old,):
            receipts = await send_all(await old.agent("sender"), "receiver@b", list(range(100)))
        if how == "renamed":
            (home / "peers" / "old").rename(home / "peers" / "new")
        else:
            shutil.copytree(home / "peers" / "old", home / "peers" / "new")
        async with peers(home, "new", "b") as (new, b):
            messages = await collect(await b.agent("receiver"), 100)
            assert [message.body for message in messages] == list(range(100))
            assert {message.sender for message in messages} == {"sender@new"}
            sender = await new.agent("sender")
            for receipt in receipts:
                await (await sender.receipt(receipt.id)).handled(PATIENCE)

    run(test)


# --- clocks ---


class Watches:
    """The machine's clocks, with a wall clock that somebody sets."""

    def __init__(self) -> None:
        self.wrong = 0.0
        self._true = machine_clocks()

    def sources(self) -> Sources:
        return Sources(self._true.steady, self.wall, self._true.boot)

    def wall(self) -> float:
        return self._true.wall() + self.wrong


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_wall_clock_that_steps_does_not_move_the_clock_of_the_store(step: float) -> None:
    watches = Watches()
    clock = StoreClock(None, watches.sources())
    before = clock.now()
    watches.wrong += step
    assert 0 <= clock.now() - before < 60
    saved = clock.state()
    watches.wrong += step
    assert 0 <= StoreClock(saved, watches.sources()).now() - before < 60


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_an_hour_on_the_wall_clock_expires_nothing_and_delays_nothing(
    home: Path, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches = Watches()
    true_time = time.time
    monkeypatch.setattr(zmesh.peer.peer, "machine_clocks", watches.sources)
    monkeypatch.setattr(time, "time", lambda: true_time() + watches.wrong)

    async def test() -> None:
        async with peers(home, "a") as (a,):
            sender = await a.agent("sender")
            receipts = await send_all(sender, "receiver@b", [1], ttl=HOUR / 2)
            watches.wrong = step
            receipts += await send_all(sender, "receiver@b", [2], ttl=HOUR / 2)
        watches.wrong = -step
        async with peers(home, "a") as (a,):
            sender = await a.agent("sender")
            receipts += await send_all(sender, "receiver@b", [3], ttl=HOUR / 2)
            async with peers(home, "b") as (b,):
                receiver = await b.agent("receiver")
                await meet(a, "receiver@b")
                watches.wrong = step
                receipts += await send_all(sender, "receiver@b", [4], ttl=HOUR / 2)
                messages = await collect(receiver, 4)
                assert [(message.body, message.id) for message in messages] == [
                    (number, receipt.id) for number, receipt in enumerate(receipts, 1)
                ]
                answer = asyncio.create_task(sender.ask("receiver@b", "still there?", timeout=PATIENCE))
                (question,) = await receiver.poll(timeout=PATIENCE)
                watches.wrong = -step
                await question.done(reply="yes")
                assert (await answer).body == "yes"

    run(test)
