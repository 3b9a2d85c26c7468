"""What networks and hosts do to a connection: they cut it, they swallow what it carries, they stop reading."""

import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import zmesh
import zmesh.peer.peer
from tests.faults.namespaces import Wire, wire
from tests.faults.proxy import ProxiedLink, Proxy
from tests.faults.puppet import MAILBOX
from tests.faults.support import (
    PATIENCE,
    all_stored,
    collect,
    meet,
    nothing_more,
    peers,
    puppet,
    puppet_log,
    run,
    send_all,
    store_file,
)
from tests.storm.journal import GOT, SENT, Watch, read_lines
from tests.storm.processes import wait_until
from tests.storm.verdict import query

CUTS = 20
STREAM = 4000
PINGS = 60
BACKLOG = 10  # messages under way, at 50 a second


@pytest.mark.parametrize("seed", [1, 2])
def test_connections_cut_in_mid_stream_lose_nothing_and_keep_the_order(
    home: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = random.Random(seed)
    monkeypatch.setattr(zmesh.peer.peer, "ZmqLink", ProxiedLink)

    async def cut(proxies: list[Proxy], stop: asyncio.Event) -> None:
        """Cut one connection or the other, each time after some more bytes have gone through."""
        while not stop.is_set() and sum(proxy.cuts for proxy in proxies) < CUTS:
            proxy = moments.choice(proxies)
            before, some = proxy.forwarded, moments.randrange(60_000)
            while proxy.forwarded < before + some and not stop.is_set():  # noqa: ASYNC110 - bytes set no event
                await asyncio.sleep(0)
            proxy.cut()

    async def test() -> None:
        async with Proxy() as one, Proxy() as two:
            ProxiedLink.proxies = [one, two]
            async with peers(home, "a", "b") as (a, b):
                sender, receiver = await a.agent("sender"), await b.agent("receiver")
                await meet(a, "receiver@b")
                stop = asyncio.Event()
                cutting = asyncio.create_task(cut([one, two], stop))
                receiving = asyncio.create_task(collect(receiver, STREAM, 80))
                receipts: list[zmesh.Receipt] = []
                for _ in range(0, STREAM, 200):
                    receipts += await send_all(sender, "receiver@b", [bytes(500)] * 200)
                    await receipts[-1].stored(PATIENCE)
                messages = await receiving
                stop.set()
                await cutting
                await all_stored(receipts)
                assert [message.id for message in messages] == [receipt.id for receipt in receipts]
                assert one.cuts + two.cuts >= 3, "the connections were hardly ever cut"
                await nothing_more(receiver)

    run(test)
    counted = query(store_file(home, "b"), "SELECT count(*), count(DISTINCT id) FROM inbox")
    assert counted == [(STREAM, STREAM)]


async def latency(sender: zmesh.Agent, to: str) -> float:
    """Return the median time until a message is in its recipient's store, in seconds."""
    times: list[float] = []
    for _ in range(PINGS):
        began = time.monotonic()
        receipt = await sender.send(to, "quick")
        await receipt.stored(PATIENCE)
        times.append(time.monotonic() - began)
    return statistics.median(times)


def test_a_peer_that_stops_reading_delays_nobody_else(home: Path) -> None:
    async def test() -> None:
        async with peers(home, "a", "other") as (a, other):
            sender, receiver = await a.agent("sender"), await other.agent("receiver")
            with puppet("consume", "stuck", home) as child:
                await meet(a, "receiver@other")
                await meet(a, f"{MAILBOX}@stuck")
                before = await latency(sender, "receiver@other")
                child.stop()
                backlog = await send_all(sender, f"{MAILBOX}@stuck", [bytes(2000)] * 2000)
                during = await latency(sender, "receiver@other")
                print(
                    f"median latency: {1000 * before:.1f} ms before, {1000 * during:.1f} ms while one peer is stopped"
                )
                assert during < 10 * before + 0.25
                assert {receipt.state for receipt in backlog} <= {"queued", "sent", "stored"}
                child.go_on()
                await all_stored(backlog)
                for receipt in backlog:
                    await receipt.handled(PATIENCE)
                child.tell("quit")
                assert child.end() == 0
            got = [words[1] for words in read_lines(puppet_log(home, "stuck")) if words[0] == GOT]
            assert got == [receipt.id.hex() for receipt in backlog]
            await collect(receiver, 2 * PINGS)
            await nothing_more(receiver)

    run(test)


# --- silence ---


@pytest.fixture
def cable() -> Iterator[Wire]:
    """Two hosts on a wire."""
    with wire() as made:
        yield made


def heard(home: Path) -> list[float]:
    """Return when the receiver got something."""
    return [float(words[4]) for words in read_lines(puppet_log(home, "right")) if words[0] == GOT]


def silence(home: Path, cable: Wire, seconds: float, sent: Watch, got: Watch) -> float:
    """Lose every packet for a while; return how long after that traffic goes on."""

    def at_rest() -> bool:
        """Say whether what was sent arrives at once: there is no backlog that could be taken for traffic."""
        sent.look()
        got.look()
        return 0 < sent.sent < got.got + BACKLOG

    wait_until(at_rest, PATIENCE, "traffic without a backlog")
    cable.unplug()
    cut = time.monotonic()
    try:
        # Nothing is waited for here: silence of this length is what is tested.
        time.sleep(seconds)
    finally:
        cable.plug()
    healed = time.monotonic()
    assert not any(cut + seconds / 2 < at < healed for at in heard(home)), "the wire was not cut"
    got.look()
    before = got.got

    def again() -> bool:
        got.look()
        return got.got > before

    wait_until(again, PATIENCE, "traffic after the silence")
    return next(at for at in heard(home) if at > healed) - healed


def keep_silent(home: Path, cable: Wire, lengths: list[float]) -> list[float]:
    """Run a stream of messages through silences; nothing is lost, doubled or overtaken. Return the resumptions."""
    left, right = cable.addresses
    left_log, right_log = Watch(puppet_log(home, "left")), Watch(puppet_log(home, "right"))
    with (
        puppet("consume", "right", home, f"bind=tcp://{right}:*", before=cable.inside(cable.right)) as receiver,
        puppet(
            "pulse", "left", home, f"{MAILBOX}@right", f"bind=tcp://{left}:*", before=cable.inside(cable.left)
        ) as sender,
    ):
        resumed = [silence(home, cable, seconds, left_log, right_log) for seconds in lengths]
        sender.check()
        sender.kill()
        sent = [words[1] for words in read_lines(puppet_log(home, "left")) if words[0] == SENT]
        with puppet("idle", "left", home, f"bind=tcp://{left}:*", before=cable.inside(cable.left)):

            def complete() -> bool:
                right_log.look()
                return right_log.got >= len(sent)

            wait_until(complete, PATIENCE, "everything arrives")
        receiver.tell("quit")
        assert receiver.end() == 0
    arrived = [words[1] for words in read_lines(puppet_log(home, "right")) if words[0] == GOT]
    assert arrived[: len(sent)] == sent
    assert len(arrived) == len(set(arrived)) <= len(sent) + 3, "more than a send that was killed before it returned"
    return resumed


def report(resumed: list[float]) -> None:
    """Print when traffic went on."""
    p95 = statistics.quantiles(resumed, n=20)[-1] if len(resumed) > 1 else resumed[0]
    print(f"traffic again after {', '.join(f'{seconds:.2f}' for seconds in resumed)} s; p95 {p95:.2f} s (goal: 3 s)")


@pytest.mark.network
def test_eight_seconds_of_silent_loss_lose_nothing(home: Path, cable: Wire) -> None:
    resumed = keep_silent(home, cable, [8.0])
    report(resumed)
    assert max(resumed) < 15


@pytest.mark.network
@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_sixty_seconds_of_silent_loss_lose_nothing(home: Path, cable: Wire) -> None:
    resumed = keep_silent(home, cable, [60.0] * 8)
    report(resumed)
    assert max(resumed) < 15
