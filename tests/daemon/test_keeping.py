"""What is done by hand to the daemon's store is done to its end, once at a time, and is in the audit log."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.conftest import new_peer
from tests.waiting import until
from zmesh.daemon import keeping
from zmesh.daemon.administration import Administrator
from zmesh.errors import AddressError, UnknownMessage
from zmesh.peer.administration import Administration
from zmesh.peer.receipt import Receipt
from zmesh.protocol import leases
from zmesh.protocol.commands import Send
from zmesh.protocol.priority import Priority


async def fill(peer: zmesh.Peer) -> None:
    """Send and finish what then is free space."""
    code = await peer.agent("code")
    for _ in range(60):
        await code.send("code", bytes(200_000))
    async for message in code.inbox():
        await message.done()
        if not peer.driver.core.node.inbox.messages.by_row:
            break


async def send_five(code: zmesh.Agent) -> tuple[bytes, bytes]:
    """Send five messages, of which three are cancelled; return the ids of the first and the last."""
    receipts = [await code.send("nobody@nowhere", "x") for _ in range(5)]
    for receipt in receipts[:3]:
        receipt.cancel()
    await until(lambda: all(receipt.state == "expired" for receipt in receipts[:3]))
    return receipts[0].id, receipts[4].id


async def log(peer: zmesh.Peer) -> list[str]:
    return [line.text for line in await Administration(peer).log()]


def test_compacting_tells_how_far_it_is_and_what_came_of_it(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            await fill(peer)
            administrator = Administrator(peer)
            asked = [
                asyncio.create_task(administrator.carry_out("admin.compact", {"by": f"process {number}"}))
                for number in (1, 2)
            ]
            seen: list[dict[str, int]] = []
            while not all(task.done() for task in asked):
                seen.append(await administrator.carry_out("admin.progress", {}))
                await asyncio.sleep(0)
            first, second = (task.result() for task in asked)
            assert first["before"]["free"] > first["after"]["free"] == 0
            assert second["before"]["file"] <= first["after"]["file"] + 100_000, "the second one came after the first"
            totals = {told["total"] for told in seen}
            assert len(totals) > 1, "it was seen at work"
            assert await administrator.carry_out("admin.progress", {}) == {"done": 0, "total": 0}
            lines = await log(peer)
            assert sorted(lines[:2]) == ["process 1 asks", "process 2 asks"]
            assert all(line.startswith("done: before.file=") for line in lines[2:])

    asyncio.run(scenario())


def test_who_asks_and_goes_away_stops_nothing_and_the_end_of_the_daemon_does(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> Any:
        began.set()
        await go_on.wait()
        raise ValueError("a wrong number")

    monkeypatch.setattr(keeping, "compact", slow)

    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            administrator = Administrator(peer)

            async def leave() -> None:
                began.clear()
                asking = asyncio.create_task(administrator.carry_out("admin.compact", {}))
                await began.wait()
                asking.cancel()
                await asyncio.wait({asking})

            await leave()
            go_on.set()
            await until(lambda: not administrator._under_way)  # noqa: SLF001 - nobody else can know
            assert await log(peer) == ["somebody asks", "not done: a wrong number"]
            go_on.clear()
            await leave()
            await administrator.close()
            assert (await log(peer))[2:] == ["somebody asks"]

    asyncio.run(scenario())


def test_purging_is_told_and_noted_and_only_counting_is_not(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            code = await peer.agent("code")
            gone, kept = await send_five(code)
            administrator = Administrator(peer)

            async def ask(verb: str, **arguments: Any) -> Any:
                return await administrator.carry_out(f"admin.{verb}", {"kinds": ["expired"], **arguments})

            counted = await ask("purgeable")
            assert counted["gone"]["sent"]["expired"]["messages"] == 3
            assert await log(peer) == []
            assert (await ask("purge", older=60.0))["gone"] == {"sent": {}, "received": {}}, "they are younger"
            assert (await ask("purge", mailbox="code"))["gone"] == {"sent": {}, "received": {}}, "they went elsewhere"
            done = await ask("purge", kinds=["expired", "ended", "dead"])
            assert (done["gone"], done["kept"]) == (counted["gone"], {"known": 0, "awaited": 0})
            assert 0 <= done["known_for"] < 60
            assert any("gone.sent.expired.messages=3" in line for line in await log(peer))
            with pytest.raises(UnknownMessage):
                await code.receipt(gone)
            assert (await code.receipt(kept)).state == "waiting"
            for wrong, error, words in (
                ({"mailbox": "coda"}, AddressError, "did you mean code"),
                ({"mailbox": "zzz"}, AddressError, "no mailbox 'zzz' here$"),
                ({"kinds": ["queued"]}, ValueError, "expired, ended, dead"),
                ({"kinds": []}, ValueError, "choose of"),
                ({"mailbox": 7}, AddressError, "agent name"),
                ({"older": "never"}, ValueError, "for ever"),
            ):  # fmt: skip
                with pytest.raises(error, match=words):
                    await ask("purgeable", **wrong)

    asyncio.run(scenario())


@pytest.mark.parametrize("to", ["code@laptop", "browser@studio"])
def test_a_message_that_is_sent_again_after_a_purge_is_not_delivered_again(home: Path, to: str) -> None:
    """A program that repeats an id, though its receipt was forgotten, sends nothing new."""

    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop, new_peer("studio", home) as studio:
            code, browser = await laptop.agent("code"), await studio.agent("browser")
            await laptop.wait_for("browser@studio", timeout=20)
            receiver = code if to == "code@laptop" else browser
            ident = bytes(range(16))

            async def send() -> Receipt:
                ticket = laptop.driver.number()
                words = (Priority.NORMAL, None, "text", b"", b"", 0, False, b"once")
                await laptop.driver.submit(ticket, Send(ticket, ident, to, "code", *words))
                return await laptop.receipt(ident)

            receipt = await send()
            (message,) = await receiver.take(1, timeout=20)
            await message.done()
            await receipt.handled(timeout=20)
            await code.send("nobody@nowhere", "the newest row stays")
            done = await Administrator(laptop).carry_out("admin.purge", {"kinds": ["ended"]})
            assert done["gone"]["sent"]["handled"]["messages"] == 1
            again = await send()
            await again.handled(timeout=20)
            assert await receiver.take(1) == []

    asyncio.run(scenario())


def test_what_is_dead_is_replayed_or_purged_and_never_half_of_both(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MAX_ATTEMPTS", 1)

    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            code = await peer.agent("code")
            for number in range(20):
                await code.send("code", number)
            for message in await code.poll(20, timeout=20):
                await message.nack()
            assert (await peer.mailboxes.list_all())[0].dead == 20
            administrator = Administrator(peer)
            purged, replayed = await asyncio.gather(
                administrator.carry_out("admin.purge", {"kinds": ["dead"]}), peer.mailboxes.replay("code")
            )
            gone = purged["gone"]["received"].get("dead", {"messages": 0})["messages"]
            assert gone + replayed == 20
            assert len(await code.poll(20, timeout=0 if gone else 20)) == replayed
            assert (await peer.mailboxes.list_all())[0].dead == 0, (
                "what was purged is not shown, and not to be replayed"
            )
            assert await peer.mailboxes.replay("code") == 0

    asyncio.run(scenario())


def test_what_was_purged_stays_dead_whoever_wants_it_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MAX_ATTEMPTS", 1)

    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            code = await peer.agent("code")
            sent = await code.send("code", "x")
            (message,) = await code.poll(1, timeout=20)
            await message.nack()
            done = await Administrator(peer).carry_out("admin.purge", {"kinds": ["dead"]})
            assert done["gone"]["received"]["dead"]["messages"] == 1
            with pytest.raises(UnknownMessage):
                await peer.mailboxes.replay("code", sent.id)
            assert (await peer.mailboxes.peek("code", dead=True)) == ([], 0)

    asyncio.run(scenario())
