"""Two devices with real sockets and stores: what one does not grant the other is told, and too much comes later."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import zmesh
from tests.conftest import LOCAL, take
from tests.trust.support import DEVICES, bring_in
from tests.waiting import until
from zmesh.errors import MessageRefused, TrustError
from zmesh.peer import guard as module
from zmesh.protocol.commands import Sighted
from zmesh.trust.grants import CAPABILITIES, DEFAULTS, EVERYBODY, Grant, Limits
from zmesh.trust.trust_store import TrustStore

LAPTOP, STUDIO = DEVICES[:2]
SOON = 20.0


@asynccontextmanager
async def two_devices(home: Path) -> AsyncIterator[tuple[zmesh.Agent, zmesh.Agent, TrustStore, zmesh.Peer]]:
    """code@laptop and browser@studio on two paired devices; studio's store as another process has it, and its peer."""
    homes = home / "laptop", home / "studio"
    stores = []
    for place, device in zip(homes, (LAPTOP, STUDIO), strict=True):
        place.mkdir(parents=True, mode=0o700)
        (place / "device.key").touch(mode=0o600)
        (place / "device.key").write_bytes(device.seed)
        stores.append(TrustStore(place / "trust.db", device))
    with stores[0] as founder, stores[1] as elsewhere:
        founder.found("laptop")
        bring_in(founder, elsewhere)
        async with (
            zmesh.Peer("laptop", home=homes[0], bind=LOCAL, discovery=[]) as laptop,
            zmesh.Peer("studio", home=homes[1], bind=LOCAL, discovery=[]) as studio,
        ):
            code, browser = await laptop.agent("code"), await studio.agent("browser")
            node = studio.driver.core.node
            laptop.driver.tell(Sighted(node.store, "studio", STUDIO.id, studio.endpoints))
            await laptop.wait_for("browser@studio", SOON)
            await studio.wait_for("code@laptop", SOON)
            yield code, browser, elsewhere, studio


async def followed(agent: zmesh.Agent, elsewhere: TrustStore) -> None:
    """Wait until the running peer has seen what another process has changed."""
    grants = agent.driver._gate.store.grants  # noqa: SLF001 - what the peer knows
    await until(
        lambda: (grants.rules, grants.limits) == (elsewhere.grants.rules, elsewhere.grants.limits),
        what="the look at the file",
    )


def test_exec_is_refused_with_words_the_sender_sees_until_it_is_granted(home: Path) -> None:
    async def scenario() -> None:
        async with two_devices(home) as (code, browser, elsewhere, _):
            refused = await code.send("browser@studio", "rm -rf /", type="exec")
            with pytest.raises(MessageRefused, match=r"`zmesh grant exec laptop --for 1h` on ") as caught:
                await refused.stored(SOON)
            assert "bob does not take exec from code@laptop" in str(caught.value), "bob is what the device is called"
            assert refused.state == "refused"
            spoken = await code.send("browser@studio", "please")
            await spoken.stored(SOON)
            elsewhere.grants.put(Grant("exec", LAPTOP.id))
            await followed(browser, elsewhere)
            granted = await code.send("browser@studio", "ls", type="exec")
            await granted.stored(SOON)
            assert [(await take(browser)).body for _ in range(2)] == ["please", "ls"]
            elsewhere.grants.remove("exec", LAPTOP.id)
            await followed(browser, elsewhere)
            with pytest.raises(MessageRefused):
                await (await code.send("browser@studio", "ls", type="exec")).stored(SOON)

    asyncio.run(scenario())


def test_a_flood_over_a_low_limit_is_slowed_and_nothing_is_lost(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RATE_BURST", 0.5)

    async def scenario() -> None:
        async with two_devices(home) as (code, browser, elsewhere, _):
            elsewhere.grants.limit(EVERYBODY, Limits(messages=20.0))
            await followed(browser, elsewhere)
            receipts = await asyncio.gather(*(code.send("browser@studio", number) for number in range(40)))
            await until(lambda: any(receipt.detail for receipt in receipts), SOON, "a refusal")
            slowed = {receipt.detail for receipt in receipts if receipt.detail}
            assert slowed == {"rate-limited: bob takes at most 20 messages a second from laptop"}
            assert {receipt.state for receipt in receipts if receipt.detail} <= {"queued", "sent"}
            got = [(await take(browser)).body for _ in range(40)]
            assert sorted(got) == list(range(40))
            for receipt in receipts:
                await receipt.stored(SOON)
            assert not any(receipt.detail for receipt in receipts)

    asyncio.run(scenario())


def test_a_body_over_the_size_is_refused_for_good(home: Path) -> None:
    async def scenario() -> None:
        async with two_devices(home) as (code, browser, elsewhere, _):
            elsewhere.grants.limit(LAPTOP.id, Limits(size=1000))
            await followed(browser, elsewhere)
            with pytest.raises(MessageRefused, match="too-large: bob takes bodies of at most 1000 bytes"):
                await (await code.send("browser@studio", bytes(2000))).stored(SOON)
            await (await code.send("browser@studio", bytes(900))).stored(SOON)

    asyncio.run(scenario())


def test_who_pushes_into_a_session_asks_for_inject(home: Path) -> None:
    async def scenario() -> None:
        async with two_devices(home) as (code, browser, elsewhere, peer):
            await code.send("browser@studio", "hello")
            from_laptop = await take(browser)
            await browser.send("browser@studio", "to myself")
            from_here = await take(browser)
            assert {name for name in CAPABILITIES if peer.allows(name, from_laptop)} == DEFAULTS
            assert all(peer.allows(name, from_here) for name in CAPABILITIES)
            elsewhere.grants.put(Grant("inject", LAPTOP.id, "code", allow=False))
            await followed(browser, elsewhere)
            assert not peer.allows("inject", from_laptop)
            with pytest.raises(TrustError, match="no capability"):
                peer.allows("fly", from_laptop)
            peer.driver.core.node.remotes.clear()
            assert not peer.allows("chat", from_laptop), "nobody knows any more whose it is"
        with pytest.raises(zmesh.PeerClosed):
            peer.allows("inject", from_laptop)

    asyncio.run(scenario())
