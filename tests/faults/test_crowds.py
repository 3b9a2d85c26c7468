"""Many messages, many senders, and names that more than one peer has."""

import asyncio
import contextlib
from pathlib import Path

import pytest

import zmesh
from tests.faults.puppet import MAILBOX
from tests.faults.support import (
    PATIENCE,
    all_stored,
    collect,
    knows,
    linked,
    make_peer,
    meet,
    nothing_more,
    peers,
    puppet,
    puppet_log,
    run,
    second_home,
    send_all,
    store_file,
)
from tests.storm.journal import SENT, read_lines
from tests.storm.verdict import query
from tests.waiting import until

BACKLOG = 10_000
SENDERS = 8
EACH = 300
SIZE = 5 * 1024


@pytest.mark.parametrize("met", [True, False], ids=["known", "never seen"])
def test_ten_thousand_messages_wait_for_an_absent_peer_and_arrive_in_order_and_once(home: Path, *, met: bool) -> None:
    async def test() -> None:
        if met:
            async with peers(home, "a", "b") as (a, b):
                await b.agent("receiver")
                await meet(a, "receiver@b")
        async with peers(home, "a") as (a,):
            sender = await a.agent("sender")
            receipts = await send_all(sender, "receiver@b", list(range(BACKLOG)))
            assert {receipt.state for receipt in receipts} == {"queued" if met else "waiting"}
            async with peers(home, "b") as (b,):
                receiver = await b.agent("receiver")
                messages = await collect(receiver, BACKLOG)
                assert [message.body for message in messages] == list(range(BACKLOG))
                assert [message.id for message in messages] == [receipt.id for receipt in receipts]
                assert {message.attempt for message in messages} == {1}
                await all_stored(receipts)
                await nothing_more(receiver)
        counted = query(store_file(home, "b"), "SELECT count(*), count(DISTINCT id) FROM inbox")
        assert counted == [(BACKLOG, BACKLOG)]

    run(test)


@pytest.mark.parametrize("met", [True, False], ids=["known", "never seen"])
def test_messages_sent_while_the_mailbox_appears_keep_their_order(home: Path, *, met: bool) -> None:
    async def test() -> None:
        async with contextlib.AsyncExitStack() as stack:
            (a,) = await stack.enter_async_context(peers(home, "a"))
            sender = await a.agent("sender")
            b = make_peer("b", home)
            if met:
                await stack.enter_async_context(b)
                await until(lambda: linked(a, "b"), PATIENCE, "the link")

            async def appear() -> zmesh.Agent:
                if not met:
                    await stack.enter_async_context(b)
                return await b.agent("receiver")

            appearing = asyncio.create_task(appear())
            sending: list[asyncio.Future[zmesh.Receipt]] = []
            seen = 0
            while seen < 300:  # so many sends after the first that need not wait
                sending.append(asyncio.ensure_future(sender.send("receiver@b", len(sending))))
                seen += knows(a, "receiver", "b")
                await asyncio.sleep(0)
            receipts = await asyncio.gather(*sending)
            messages = await collect(await appearing, len(receipts))
            assert [message.body for message in messages] == list(range(len(receipts)))

    run(test)


def test_two_peers_of_one_name_are_told_apart(home: Path) -> None:
    async def test(other: Path) -> None:
        async with peers(home, "a", "twin") as (a, one), make_peer("twin", other) as two:
            sender = await a.agent("sender")
            mailboxes = [await one.agent("box"), await two.agent("box")]
            remotes = a.driver.core.node.remotes.values()

            def attached() -> list[bool]:
                return [
                    remote.up and remote.roster.agents["box"].attached for remote in remotes if remote.roster.agents
                ]

            await until(lambda: attached() == [True, True], PATIENCE, "both are seen")
            names = [f"box@twin~{twin.id[:8]}" for twin in (one, two)]
            with pytest.raises(zmesh.AmbiguousAddress) as caught:
                await sender.send("box@twin", "which?")
            text = str(caught.value)
            assert text.startswith("2 peers are called 'twin'; say which one: ")
            assert sorted(text.rpartition(": ")[2].split(", ")) == sorted(names)
            with pytest.raises(zmesh.AmbiguousAddress, match="2 peers have an agent 'box'; say which one: "):
                await sender.send("box", "which?")
            for name, mailbox in zip(names, mailboxes, strict=True):
                receipt = await sender.send(name, name)
                await receipt.stored(PATIENCE)
                assert [message.body for message in await collect(mailbox, 1)] == [name]
                await nothing_more(mailbox)

    other = second_home(home, home / "other")
    run(lambda: test(other))


def test_eight_senders_send_to_one_receiver_at_once(home: Path) -> None:
    async def test() -> None:
        async with peers(home, "hub") as (hub,):
            receiver = await hub.agent(MAILBOX)
            names = [f"sender-{number}" for number in range(SENDERS)]
            with contextlib.ExitStack() as stack:
                children = [
                    stack.enter_context(puppet("send", name, home, f"{MAILBOX}@hub", str(EACH), str(SIZE)))
                    for name in names
                ]
                messages = await collect(receiver, SENDERS * EACH, 2 * PATIENCE)
                for child in children:
                    child.check()
            ids = [message.id.hex() for message in messages]
            assert len(set(ids)) == SENDERS * EACH == 2400
            for name in names:
                sent = [line[1] for line in read_lines(puppet_log(home, name)) if line[0] == SENT]
                mine = [message for message in messages if message.sender == f"{MAILBOX}@{name}"]
                assert [message.body["n"] for message in mine] == list(range(EACH))
                assert {len(message.body["pad"]) for message in mine} == {SIZE}
                assert [message.id.hex() for message in mine] == sent
            await nothing_more(receiver)
        assert query(store_file(home, "hub"), "SELECT count(*), count(DISTINCT id) FROM inbox") == [(2400, 2400)]

    run(test)
