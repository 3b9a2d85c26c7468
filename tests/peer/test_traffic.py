"""An administrator pauses a real peer, parts it from another one, and drains it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import zmesh
from tests.conftest import new_peer
from tests.waiting import until
from zmesh.peer.traffic import Traffic
from zmesh.peer.zmq_link import Origin
from zmesh.protocol.commands import SetQuotas
from zmesh.protocol.quotas import default_quotas

SOON = 20.0
WHO = "process 7"


@asynccontextmanager
async def two(home: Path) -> AsyncIterator[tuple[zmesh.Peer, zmesh.Agent, zmesh.Peer, zmesh.Agent]]:
    """The peers laptop and studio with an agent each, linked."""
    async with new_peer("laptop", home) as laptop, new_peer("studio", home) as studio:
        code, browser = await laptop.agent("code"), await studio.agent("browser")
        await laptop.wait_for("browser@studio", timeout=SOON)
        await studio.wait_for("code@laptop", timeout=SOON)
        yield laptop, code, studio, browser


async def take(agent: zmesh.Agent) -> str:
    """The body of the next message, which is then done."""
    async for message in agent.inbox():
        await message.done()
        return str(message.body)
    raise AssertionError("no message")


def linked(peer: zmesh.Peer) -> list[str]:
    return [info.name for info in peer.peers() if info.linked]


def test_a_paused_peer_is_parted_from_the_others_and_a_resumed_one_goes_on(home: Path) -> None:
    async def scenario() -> None:
        async with two(home) as (laptop, code, studio, browser):
            traffic = Traffic(laptop)
            before = time.time()
            assert await traffic.pause(WHO)
            assert not await traffic.pause("somebody else")
            assert linked(laptop) == []
            await until(lambda: linked(studio) == [], what="the other one hears of it")
            assert "it is paused" in studio.peers()[0].trouble
            assert "zmesh admin resume" in laptop.peers()[0].trouble
            paused = traffic.standing().paused
            assert paused is not None
            assert (paused.peer, paused.by) == ("", WHO)
            assert before - 1 < paused.since < time.time() + 1
            there, back = await code.send("browser@studio", "there"), await browser.send("code@laptop", "back")
            assert "zmesh admin resume" in there.warning
            assert (there.state, back.state) == ("queued", "queued")
            assert "this peer is paused" in there.detail
            with pytest.raises(zmesh.WaitTimeout, match="this peer is paused"):
                await there.stored(timeout=0)
            await code.send("code@laptop", "to myself")
            assert await take(code) == "to myself"
            assert await traffic.resume()
            assert not await traffic.resume()
            async with asyncio.timeout(SOON):
                assert (await take(browser), await take(code)) == ("there", "back")
            await there.stored(timeout=SOON)
            assert (there.detail, traffic.standing().paused) == ("", None)

    asyncio.run(scenario())


def test_the_bye_of_a_pause_arrives_and_need_not_be_found_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with two(home) as (laptop, _, studio, _):
            heard: list[bytes] = []

            def listen(origin: Origin, parts: list[bytes]) -> None:
                heard.append(parts[0])
                studio.driver.inbound(origin, parts)

            monkeypatch.setattr(studio.driver.link, "_on_inbound", listen)
            await Traffic(laptop).pause(WHO)
            await until(lambda: any(b"paused" in header for header in heard), 2.0, "a BYE on the link itself")

    asyncio.run(scenario())


def test_a_pause_and_a_disconnection_last_over_a_restart(home: Path) -> None:
    async def scenario() -> None:
        async with two(home) as (laptop, _, _, _):
            assert (await Traffic(laptop).disconnect("studio", WHO))[1]
            await Traffic(laptop).pause(WHO)
            before = Traffic(laptop).standing()
        async with new_peer("laptop", home) as laptop, new_peer("studio", home) as studio:
            traffic = Traffic(laptop)
            after = traffic.standing()
            assert after.paused is not None
            assert before.paused is not None
            assert abs(after.paused.since - before.paused.since) < 10
            assert [halted.peer for halted in after.disconnected] == [halted.peer for halted in before.disconnected]
            await until(lambda: studio.peers() and "it is paused" in studio.peers()[0].trouble, SOON)
            await traffic.resume()
            assert linked(laptop) == []
            await traffic.reconnect("studio")
            await until(lambda: linked(laptop) == ["studio"] and linked(studio) == ["laptop"], SOON)

    asyncio.run(scenario())


def test_one_peer_is_disconnected_and_another_one_of_its_device_is_not(home: Path) -> None:
    async def scenario() -> None:
        async with two(home) as (laptop, code, studio, browser), new_peer("attic", home) as attic:
            files = await attic.agent("files")
            await laptop.wait_for("files@attic", timeout=SOON)
            traffic = Traffic(laptop)
            name, changed = await traffic.disconnect("Studio", WHO)
            assert (name, changed) == (f"studio~{studio.id[:8]}", True)
            assert await traffic.disconnect(name, WHO) == (name, False)
            await until(lambda: linked(studio) == ["attic"])
            assert linked(laptop) == ["attic"]
            assert [info.trouble for info in laptop.peers()] == [
                "", f"{name} is disconnected until `zmesh admin reconnect {name}`",
            ]  # fmt: skip
            waiting = await code.send("browser@studio", "later")
            await (await code.send("files@attic", "now")).stored(timeout=SOON)
            assert await take(files) == "now"
            assert waiting.state == "queued"
            assert await traffic.reconnect(studio.id[:8]) == (name, True)
            assert await traffic.reconnect(studio.id) == (name, False)
            async with asyncio.timeout(SOON):
                assert await take(browser) == "later"
            assert traffic.standing().disconnected == ()

    asyncio.run(scenario())


def test_nobody_is_disconnected_by_a_name_that_is_not_theirs_alone(home: Path) -> None:
    async def scenario() -> None:
        async with two(home) as (laptop, _, studio, _):
            traffic = Traffic(laptop)
            with pytest.raises(zmesh.UnknownAgent, match=r"did you mean studio\?"):
                await traffic.disconnect("studi", WHO)
            with pytest.raises(zmesh.UnknownAgent, match="there are: studio"):
                await traffic.reconnect("xyz")
            with pytest.raises(zmesh.UnknownAgent):
                await traffic.disconnect(f"studio~{'a' * 8}", WHO)
            with pytest.raises(zmesh.UnknownAgent):
                await traffic.disconnect(studio.id[:4], WHO)  # too short to be anything but a name
            with pytest.raises(zmesh.AddressError, match="zmesh admin pause"):
                await traffic.disconnect("laptop", WHO)
            with pytest.raises(TypeError, match="named by a text"):
                await traffic.disconnect(7, WHO)  # type: ignore[arg-type]
            async with new_peer("studio", home.with_name("other")) as namesake:
                node = laptop.driver.core.node
                node.admit(namesake.driver.core.node.store, namesake.driver.core.node.device, "studio", greets=False)
                with pytest.raises(zmesh.AmbiguousAddress, match=f"studio~{namesake.id[:8]}"):
                    await traffic.disconnect("studio", WHO)
                assert await traffic.disconnect(f"studio~{studio.id[:4]}", WHO) == (f"studio~{studio.id[:8]}", True)
            assert [halted.peer for halted in traffic.standing().disconnected] == [f"studio~{studio.id[:8]}"]

    asyncio.run(scenario())


def test_a_drained_peer_empties_itself_and_says_what_it_cannot_deliver(home: Path) -> None:
    async def scenario() -> None:
        async with two(home) as (laptop, code, studio, browser):
            async with new_peer("attic", home) as attic:
                gone = f"attic~{attic.id[:8]}"
                await attic.agent("files")
                await laptop.wait_for("files@attic", timeout=SOON)
            await until(lambda: linked(laptop) == ["studio"])
            await code.send("files@attic", "away")
            await code.send("ghost@studio", "no mailbox")
            await code.send("x@nowhere", "no peer")
            receipts = [await code.send("browser@studio", number) for number in range(20)]
            traffic = Traffic(laptop)
            assert await traffic.drain(WHO)
            assert not await traffic.drain(WHO)
            with pytest.raises(zmesh.PeerHalted, match="process 7 has it drained, until `zmesh admin resume`"):
                await code.send("browser@studio", "new")
            await until(lambda: not traffic.leaving().going, SOON)
            assert [receipt.state for receipt in receipts] == ["stored"] * 20
            left = traffic.leaving()
            assert left.away == {gone: 1}
            assert (left.nowhere, left.refused) == (2, 0)
            assert traffic.standing().draining == WHO
            await browser.send("code@laptop", "a question")
            async with asyncio.timeout(SOON):
                async for message in code.inbox():
                    await message.reply("half of the answer")
                    await message.done(reply="the rest")
                    break
            await until(lambda: not traffic.leaving().going, SOON)
            assert await traffic.resume()
            await (await code.send("browser@studio", "new")).stored(timeout=SOON)
            assert studio.peers()

    asyncio.run(scenario())


def test_what_has_no_room_over_there_is_still_to_go(home: Path) -> None:
    async def scenario() -> None:
        async with two(home) as (laptop, code, studio, _):
            studio.driver.tell(SetQuotas(replace(default_quotas(), mailbox_messages=2)))
            for number in range(3):
                await code.send("browser@studio", number)
            traffic = Traffic(laptop)
            await traffic.drain(WHO)
            await until(lambda: traffic.leaving().refused, SOON)
            assert list(traffic.leaving().going.values()) == [1]

    asyncio.run(scenario())


def test_a_paused_peer_is_not_drained(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            traffic = Traffic(laptop)
            await traffic.pause(WHO)
            with pytest.raises(zmesh.PeerHalted, match="zmesh admin resume"):
                await traffic.drain(WHO)
            assert traffic.standing().draining == ""

    asyncio.run(scenario())
