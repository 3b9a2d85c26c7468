"""The shell around the core: what it carries out, what it holds back, and how it ends."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zmesh
from tests.conftest import new_peer, two_agents
from tests.waiting import until
from zmesh.errors import StoreError, StoreFull, TransportError
from zmesh.peer.clock import StoreClock, machine_clocks, saved_clock
from zmesh.peer.connection import failed_commit
from zmesh.peer.driver import Driver
from zmesh.peer.entropy import SystemEntropy
from zmesh.protocol.bounds import UNCOMMITTED_BYTES
from zmesh.protocol.codec import encode
from zmesh.protocol.commands import Attach, OpenMailbox, Take
from zmesh.protocol.effects import Dial, Notice, Persist, Progress, SendBack, Transmit
from zmesh.protocol.frames import Bye, Ping, Reset
from zmesh.protocol.states import Sent
from zmesh.trust.device import Device

SOON = 20.0
STORE = b"another store..."


def driver_of(agent: zmesh.Agent) -> Driver:
    """The driver, typed as what it is."""
    return agent.driver


@asynccontextmanager
async def one_agent(home: Path) -> AsyncIterator[zmesh.Agent]:
    """An agent of a peer that is alone."""
    async with new_peer("laptop", home) as laptop:
        yield await laptop.agent("code")


# --- small parts ---


@given(st.lists(st.integers(0, 64), max_size=200))
def test_randomness_is_as_long_as_asked_and_never_repeated(sizes: list[int]) -> None:
    entropy = SystemEntropy()
    tokens = [entropy.token(size) for size in sizes]
    assert [len(token) for token in tokens] == sizes
    long = [token for token in tokens if len(token) >= 12]
    assert len(set(long)) == len(long)


def test_randomness_is_not_shared_and_fractions_are_fractions() -> None:
    assert SystemEntropy().token(16) != SystemEntropy().token(16)
    entropy = SystemEntropy()
    fractions = [entropy.fraction() for _ in range(1000)]
    assert all(0 <= fraction < 1 for fraction in fractions)
    assert max(fractions) - min(fractions) > 0.5


def test_the_reason_of_a_failed_commit_becomes_an_error() -> None:
    full = failed_commit("the disk is full: /x/store.db cannot grow. Free some space on its file system")
    assert type(full) is StoreFull
    assert str(full).startswith("nothing was stored: the disk is full")
    assert type(failed_commit("reading or writing failed")) is StoreError


def test_the_clock_is_saved_at_the_start_and_at_the_end(home: Path) -> None:
    async def scenario() -> None:
        peer = new_peer("laptop", home)
        await peer.start()
        clock_at = peer.driver._clock.now  # noqa: SLF001
        store = peer.store
        await until(lambda: saved_clock(store.meta) is not None)
        first = saved_clock(store.meta)
        await peer.close()
        last = saved_clock(store.meta)
        assert first is not None
        assert last is not None
        assert first != last
        assert StoreClock(last, machine_clocks()).now() == pytest.approx(clock_at(), abs=1)
        assert saved_clock({}) is None

    asyncio.run(scenario())


# --- commands ---


def test_numbers_are_never_given_twice(home: Path) -> None:
    async def scenario() -> None:
        async with one_agent(home) as code:
            numbers = [driver_of(code).number() for _ in range(100)]
            assert len(set(numbers)) == 100

    asyncio.run(scenario())


def test_a_command_is_settled_after_its_commit_and_shares_it_with_others(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with one_agent(home) as code:
            driver = driver_of(code)
            persisted: list[Persist] = []
            submit = driver._store.submit  # noqa: SLF001 - commits are seen nowhere else

            def watch(persist: Persist) -> None:
                persisted.append(persist)
                submit(persist)

            monkeypatch.setattr(driver._store, "submit", watch)  # noqa: SLF001
            sends = [asyncio.ensure_future(code.send("browser@nowhere", n)) for n in range(50)]
            await asyncio.sleep(0)
            assert not any(send.done() for send in sends)
            await asyncio.gather(*sends)
            assert len(persisted) == 1

    asyncio.run(scenario())


def test_a_command_that_is_wrong_changes_nothing(home: Path) -> None:
    async def scenario() -> None:
        async with one_agent(home) as code:
            driver = driver_of(code)
            with pytest.raises(zmesh.AddressError, match="there is no mailbox"):
                driver.tell(Attach("nobody", driver.number()))
            with pytest.raises(zmesh.AddressError):
                driver.submit(1, OpenMailbox(1, "Not A Name", "", ()))
            assert len(driver._awaited) == 0  # noqa: SLF001
            await code.send("code", "still alive")

    asyncio.run(scenario())


def test_deliveries_go_to_whoever_consumes_them_until_it_stops(home: Path) -> None:
    async def scenario() -> None:
        async with one_agent(home) as code:
            driver = driver_of(code)
            await code.detach()
            holder, taken = driver.number(), []
            driver.consume(holder, lambda delivery: taken.append(delivery.priority))
            driver.tell(Attach("code", holder))
            driver.tell(Take(holder, 10))
            await code.send("code", 1)
            await until(lambda: len(taken) == 1)
            driver.unconsume(holder)
            await code.send("code", 2)
            driver.unconsume(holder)
            assert len(taken) == 1

    asyncio.run(scenario())


def test_observers_are_told_while_anybody_holds_them(home: Path) -> None:
    class Watcher:
        def progressed(self, progress: Progress) -> None:
            seen.append(progress.state)

    seen: list[Sent] = []

    async def scenario() -> None:
        async with one_agent(home) as code:
            driver = driver_of(code)
            receipt = await code.send("browser@nowhere", "hello")
            watcher = Watcher()
            driver.observers[receipt.id] = watcher
            receipt.cancel()
            await until(lambda: seen == [Sent.EXPIRED])
            del watcher
            gc.collect()
            assert receipt.id not in driver.observers

    asyncio.run(scenario())


# --- effects ---


def carry(driver: Driver, effect: Any) -> None:
    """Carry out one effect, as if the core had asked."""
    Driver._carriers[type(effect)](driver, effect)  # noqa: SLF001 - the core cannot be made to ask for each


def test_what_cannot_be_dialled_or_sent_is_no_error(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with one_agent(home) as code:
            driver = driver_of(code)

            def dial(_store: bytes, endpoint: str, _key: bytes) -> None:
                raise TransportError(f"{endpoint} is no address")

            monkeypatch.setattr(driver.link, "dial", dial)
            carry(driver, Dial(STORE, driver.core.node.device, "nonsense"))
            carry(driver, Dial(STORE, "no member", "elsewhere"))
            carry(driver, Transmit(STORE, [b"lost"]))
            assert "nonsense is no address" in caplog.text
            assert "elsewhere" not in caplog.text, "who is no member is not dialled"
            await code.send("code", "still alive")

    asyncio.run(scenario())


def test_notices_are_logged_at_their_level(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with one_agent(home) as code:
            for level in ("info", "warning", "error"):
                carry(driver_of(code), Notice(level, f"an {level} of the core"))

    with caplog.at_level(logging.INFO, "zmesh.peer"):
        asyncio.run(scenario())
    levels = {record.getMessage(): record.levelname for record in caplog.records}
    assert {text: level for text, level in levels.items() if text.endswith("of the core")} == {
        "an info of the core": "INFO",
        "an warning of the core": "WARNING",
        "an error of the core": "ERROR",
    }


def test_reading_stops_while_too_much_is_not_on_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with one_agent(home) as code:
            driver = driver_of(code)
            calls: list[str] = []
            monkeypatch.setattr(driver.link, "pause", lambda: calls.append("pause"))
            monkeypatch.setattr(driver.link, "resume", lambda: calls.append("resume"))
            submitted: list[Persist] = []
            submit = driver._store.submit  # noqa: SLF001
            monkeypatch.setattr(driver._store, "submit", submitted.append)  # noqa: SLF001
            half = UNCOMMITTED_BYTES // 2 + 1
            sends = []
            for _ in range(3):
                driver._backlog._received += half  # noqa: SLF001 - as if so many bytes had come in
                sends.append(asyncio.ensure_future(code.send("browser@nowhere", "x")))
                await until(lambda: len(submitted) == len(sends))
            assert calls[0] == "pause"
            assert "resume" not in calls
            monkeypatch.setattr(driver._store, "submit", submit)  # noqa: SLF001
            for persist in submitted:
                submit(persist)
            await asyncio.gather(*sends)
            assert calls[-1] == "resume"
            assert calls.count("resume") == 1

    asyncio.run(scenario())


# --- the end ---


def test_what_was_submitted_before_the_end_is_settled_by_it(home: Path) -> None:
    async def scenario() -> None:
        peer = new_peer("laptop", home)
        await peer.start()
        code = await peer.agent("code")
        sends = [asyncio.ensure_future(code.send("code", n)) for n in range(10)]
        await peer.close()
        receipts = await asyncio.gather(*sends)
        assert {receipt.state for receipt in receipts} == {"stored"}

    asyncio.run(scenario())


def test_what_comes_to_nothing_any_more_fails(home: Path) -> None:
    async def scenario() -> None:
        peer = new_peer("laptop", home)
        await peer.start()
        driver = peer.driver
        promise, kept = driver.promise(), driver.promise()
        kept.set_result("kept")
        await peer.close()
        with pytest.raises(zmesh.PeerClosed):
            await promise
        with pytest.raises(zmesh.PeerClosed):
            await driver.change()
        assert await kept == "kept"
        refused: list[Callable[[], object]] = [
            driver.promise,
            lambda: driver.tell(Take(1, 1)),
            lambda: driver.submit(1, OpenMailbox(1, "x", "", ())),
        ]
        for call in refused:
            with pytest.raises(zmesh.PeerClosed):
                call()
        await driver.close()

    asyncio.run(scenario())


def test_nobody_needs_to_await_what_fails_at_the_end(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        peer = new_peer("laptop", home)
        await peer.start()
        peer.driver.promise()
        code = await peer.agent("code")
        waiting = asyncio.ensure_future(code.ask("browser@nowhere", "anybody?", timeout=None))
        await until(lambda: peer.driver.core.node.outbox.waiting)
        await peer.close()
        await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(waiting.exception(), zmesh.PeerClosed)
        del waiting, code
        gc.collect()

    asyncio.run(scenario())
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_a_store_that_has_ended_fails_what_is_sent_instead_of_keeping_it_waiting(home: Path) -> None:
    async def scenario() -> None:
        async with one_agent(home) as code:
            driver = driver_of(code)
            await asyncio.get_running_loop().run_in_executor(None, driver._store.close)  # noqa: SLF001
            async with asyncio.timeout(SOON):
                with pytest.raises(StoreError, match="is closed"):
                    await code.send("code", "hello")

    asyncio.run(scenario())


def test_a_device_key_is_made_once_for_all_peers_of_a_home(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            devices = {agent.driver._device.id for agent in (code, browser)}  # noqa: SLF001
            assert devices == {Device.load_or_create(home / "device.key").id}

    asyncio.run(scenario())


# --- who cannot be dialled ---


def frames_taken(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The kinds of the frames that the core takes in as from a device."""
    kinds: list[bytes] = []
    monkeypatch.setattr(driver.core, "returned", lambda _store, parts, _now: kinds.append(parts[0][3:4]))
    return kinds


def test_what_comes_back_unsealed_says_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, _):
            driver = driver_of(code)
            kinds = frames_taken(driver, monkeypatch)
            (remote,) = driver.core.node.remotes.values()
            before, heard = remote.link.id, remote.link.heard
            ping = encode(remote.link.peer_id, Ping(1, (0,) * 5, (0,) * 5, 1))
            for parts in (ping, encode(remote.link.peer_id, Bye("closing", "")), [b"ZS"], [b"ZS\x01", b"x" * 100]):
                driver.answered(remote.store, parts)
            driver.answered(STORE, [b"ZS\x01", b"x" * 100])
            assert kinds == []
            assert (remote.link.id, remote.link.heard) == (before, heard)
            driver.answered(remote.store, encode(before, Reset()))
            assert remote.link.id != before, "but that it is not known there"

    asyncio.run(scenario())


def test_what_comes_back_sealed_counts_as_the_device_dialled(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, _):
            driver = driver_of(code)
            kinds = frames_taken(driver, monkeypatch)
            (remote,) = driver.core.node.remotes.values()
            sealed = driver._sealer.seal(remote.device, encode(b"any link", Ping(1, (0,) * 5, (0,) * 5, 1)))  # noqa: SLF001
            assert sealed is not None
            driver.answered(remote.store, sealed)
            assert kinds == [b"\x07"]
            driver._backlog.full = True  # noqa: SLF001
            driver.answered(remote.store, sealed)
            assert kinds == [b"\x07"], "what is too much is sent again"
            driver._backlog.full = False  # noqa: SLF001

    asyncio.run(scenario())


def test_what_cannot_go_back_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with one_agent(home) as code:
            driver = driver_of(code)
            reports: list[tuple[bytes, bytes]] = []
            monkeypatch.setattr(driver.core, "undeliverable", lambda store, _, path: reports.append((store, path)))
            carry(driver, SendBack(STORE, driver.core.node.device, b"gone", [b"ZM"]))
            carry(driver, SendBack(STORE, "no member", b"path", [b"ZM"]))
            assert reports == [(STORE, b"gone"), (STORE, b"path")]

    asyncio.run(scenario())
