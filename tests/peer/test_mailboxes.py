"""Looking into real mailboxes, and moving, replaying and removing: nothing is taken, lost or doubled by it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import zmesh
from tests.conftest import new_peer, take
from tests.waiting import until
from zmesh.errors import AddressError, MailboxBusy, MessageDead, UnknownMessage
from zmesh.protocol.bounds import MAX_ATTEMPTS, MAX_PEEKED, PEEKED_BYTES

SOON = 20.0


@asynccontextmanager
async def sending(home: Path) -> AsyncIterator[tuple[zmesh.Peer, zmesh.Agent]]:
    """A peer with the mailboxes `in` and `out`, which nobody holds, and an agent that sends."""
    async with new_peer("laptop", home) as peer:
        for name in ("in", "out"):
            await (await peer.attach(name)).detach()
        yield peer, await peer.agent("ann")


async def kill(holder: zmesh.Agent) -> None:
    """Give the next message of a mailbox back until it is dead."""
    for _ in range(MAX_ATTEMPTS):
        await (await take(holder)).nack(0.0)


def test_a_look_shows_what_comes_next_first_and_takes_nothing(home: Path) -> None:
    async def scenario() -> None:
        async with sending(home) as (peer, ann):
            low = await ann.send("in", {"n": 1}, priority="low")
            first = await ann.send("in", b"x" * (2 * PEEKED_BYTES))
            second = await ann.send("in", "back again", type="note")
            holder = await peer.attach("in", reach="push")
            assert (await take(holder)).id == first.id
            await (await take(holder)).nack(3600)
            for _ in range(2):
                await peer.mailboxes.peek("in")
            messages, count = await peer.mailboxes.peek("in")
            assert [(each.glance.id, each.state, each.glance.attempts) for each in messages] == [
                (first.id, "leased", 1),
                (second.id, "delayed", 1),
                (low.id, "waiting", 0),
            ]
            assert count == 3
            large, delayed, waiting = messages
            assert (large.glance.size, large.glance.beginning) == (2 * PEEKED_BYTES, b"x" * PEEKED_BYTES)
            assert delayed.due_in is not None
            assert 3500 < delayed.due_in <= 3600
            assert waiting.due_in is None
            assert waiting.age is not None
            assert 0 <= waiting.age < SOON
            assert delayed.envelope is not None
            assert (delayed.envelope.sender, delayed.envelope.type) == ("ann@laptop", "note")
            few, count = await peer.mailboxes.peek("in", 1)
            assert ([each.glance.id for each in few], count) == ([first.id], 3)
            (info,) = [info for info in await peer.mailboxes.list_all() if info.name == "in"]
            assert (info.waiting, info.leased, info.dead) == (2, 1, 0)
            assert [(each.reach, each.here, each.leased) for each in info.holders] == [("push", True, 1)]
            assert (await take(holder)).id == low.id, "the holder goes on as if nobody had looked"

    asyncio.run(scenario())


def test_a_look_into_what_is_not_there_makes_nothing(home: Path) -> None:
    async def scenario() -> None:
        async with sending(home) as (peer, _):
            with pytest.raises(AddressError, match="'nobody'"):
                await peer.mailboxes.peek("nobody")
            for wrong in (0, MAX_PEEKED + 1):
                with pytest.raises(ValueError, match="most is at"):
                    await peer.mailboxes.peek("in", wrong)
            assert [info.name for info in await peer.mailboxes.list_all()] == ["ann", "in", "out"]
            assert await peer.mailboxes.peek("in") == ([], 0)

    asyncio.run(scenario())


@asynccontextmanager
async def elsewhere(home: Path) -> AsyncIterator[tuple[zmesh.Agent, zmesh.Peer, zmesh.Agent]]:
    """The agent code@laptop, the peer studio with the mailbox `other`, and its agent browser@studio."""
    async with new_peer("laptop", home) as laptop, new_peer("studio", home) as studio:
        code, browser = await laptop.agent("code"), await studio.agent("browser")
        await (await studio.attach("other")).detach()
        await laptop.wait_for("browser@studio", timeout=SOON)
        yield code, studio, browser


def test_what_is_moved_is_taken_there_and_its_sender_hears_of_it(home: Path) -> None:
    async def scenario() -> None:
        async with elsewhere(home) as (code, studio, browser):
            receipts = [await code.send("browser@studio", n) for n in range(3)]
            for receipt in receipts:
                await receipt.stored(SOON)
            held = await take(browser)
            assert await studio.mailboxes.move("browser", "other") == (2, 0)
            other = await studio.agent("other")
            moved = [await take(other), await take(other)]
            assert [(each.id, each.body) for each in moved] == [(receipts[n].id, n) for n in (1, 2)]
            for message in (held, *moved):
                await message.done()
            for receipt in receipts:
                await receipt.handled(SOON)

    asyncio.run(scenario())


def test_a_dead_message_is_seen_moved_and_replayed_and_its_sender_is_told_the_truth(home: Path) -> None:
    async def scenario() -> None:
        async with elsewhere(home) as (code, studio, browser):
            receipt = await code.send("browser@studio", "poison")
            await kill(browser)
            with pytest.raises(MessageDead):
                await receipt.handled(SOON)
            spared = await code.send("browser@studio", "spared")
            await spared.stored(SOON)
            (seen,), count = await studio.mailboxes.peek("browser", dead=True)
            assert (seen.glance.id, seen.state, seen.glance.attempts, count) == (receipt.id, "dead", MAX_ATTEMPTS, 1)
            assert [info.dead for info in await studio.mailboxes.list_all()] == [1, 0]
            assert await studio.mailboxes.move("browser", "other") == (1, 1)
            assert [info.dead for info in await studio.mailboxes.list_all()] == [0, 1]
            with pytest.raises(UnknownMessage, match="has no dead message"):
                await studio.mailboxes.replay("other", spared.id)
            assert await studio.mailboxes.replay("other", receipt.id) == 1
            await until(lambda: receipt.state == "stored", SOON, "the news of the replay")
            assert await studio.mailboxes.replay("other") == 0
            other = await studio.agent("other")
            messages = {message.id: message for message in [await take(other), await take(other)]}
            assert messages[receipt.id].attempt == 1
            await messages[receipt.id].done()
            await receipt.handled(SOON)
            assert (await code.receipt(receipt.id)).state == "handled"

    asyncio.run(scenario())


def test_only_an_empty_mailbox_that_nobody_holds_is_removed(home: Path) -> None:
    async def scenario() -> None:
        async with sending(home) as (peer, ann):
            holder = await peer.attach("in")
            with pytest.raises(MailboxBusy, match="is in use"):
                await peer.mailboxes.remove("in")
            await ann.send("in", "poison")
            await kill(holder)
            await holder.detach()
            with pytest.raises(MailboxBusy, match="1 dead messages are in it, which `zmesh mailbox replay in`"):
                await peer.mailboxes.remove("in")
            await peer.mailboxes.move("in", "out")
            await peer.mailboxes.remove("in")
            with pytest.raises(AddressError):
                await peer.mailboxes.remove("in")
            assert [info.name for info in await peer.mailboxes.list_all()] == ["ann", "out"]
        async with new_peer("laptop", home) as peer:
            assert [info.name for info in await peer.mailboxes.list_all()] == ["ann", "out"]
            assert await peer.mailboxes.replay("out") == 1

    asyncio.run(scenario())


def test_what_is_replayed_while_it_is_moved_is_in_memory_where_it_is_on_disk(home: Path) -> None:
    async def scenario() -> None:
        async with sending(home) as (peer, ann):
            await ann.send("in", {"n": 1})
            holder = await peer.attach("in")
            await kill(holder)
            await holder.detach()
            await asyncio.gather(peer.mailboxes.move("in", "out"), peer.mailboxes.replay("in"))
            rows = await asyncio.wrap_future(
                peer.store.query(lambda connection: connection.execute("SELECT mailbox FROM inbox"))
            )
            infos = {info.name: info.waiting + info.dead for info in await peer.mailboxes.list_all()}
            assert ([name for (name,) in rows], infos) == (["out"], {"ann": 0, "in": 0, "out": 1})

    asyncio.run(scenario())
