"""What a process that serves others needs of a peer: further holders of a mailbox, packed bodies, leases kept."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.conftest import LOCAL, new_peer
from tests.waiting import until
from zmesh.peer.body import PackedBody, pack_body
from zmesh.protocol.bounds import MAX_ATTEMPTS, MAX_BODY
from zmesh.protocol.effects import Delivery

SOON = 20.0
GRACE = 60.0  # nothing waits for its end


def graceful(home: Path, grace: float = GRACE) -> zmesh.Peer:
    return zmesh.Peer("laptop", home=home, bind=LOCAL, discovery=[], lease_grace=grace)


# --- further holders ---


def test_holders_of_one_mailbox_share_its_messages_and_each_gives_back_its_own(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            first, second = await peer.attach("code"), await peer.attach("code")
            assert first is not second
            assert first is not await peer.agent("code")
            for number in range(4):
                await first.send("code", number)
            taken = await first.take(2, SOON)
            others = await second.take(2, SOON)
            assert [message.body for message in (*taken, *others)] == [0, 1, 2, 3]
            await first.detach()
            with pytest.raises(zmesh.LeaseLost):
                await taken[0].done()
            await others[0].done()
            await others[1].done()
            for expected in (0, 1):
                (again,) = await second.take(1, SOON)
                assert (again.body, again.attempt) == (expected, 2)
                await again.done()

    asyncio.run(scenario())


def test_a_holder_that_only_sends_is_not_seen_to_be_there(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            away = await peer.attach("code", here=False, reach="client")
            await away.send("code", "x")
            assert [info.last_seen for info in peer.agents()] == [None]
            assert await away.take(1, SOON)
            (info,) = peer.agents()
            assert (info.last_seen, info.reach) == (0, "client")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [({"name": "no spaces"}, zmesh.AddressError), ({"role": 7}, TypeError), ({"capabilities": "one"}, TypeError),
     ({"reach": "two words"}, ValueError), ({"reach": 7}, ValueError)],
)  # fmt: skip
def test_a_holder_that_cannot_be_leaves_nothing(home: Path, arguments: dict[str, Any], kind: type[Exception]) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            with pytest.raises(kind):
                await peer.attach(**{"name": "code"} | arguments)
            code = await peer.attach("code")
            await code.send("code", "x")
            assert len(await code.take(1, SOON)) == 1

    asyncio.run(scenario())


def test_a_holder_keeps_what_the_mailbox_says_of_itself(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            await peer.attach("code", role="coder", capabilities=["python"], project="mesh")
            await peer.attach("code")
            (info,) = peer.agents()
            assert (info.role, info.capabilities, info.project) == ("coder", ("python",), "mesh")

    asyncio.run(scenario())


# --- taking ---


def test_what_is_taken_ends_with_the_bodies_that_are_wanted(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            code = await peer.attach("code")
            for number in range(6):
                await code.send("code", bytes([number]) * 1000)
            first = await code.take(6, SOON, most_bytes=2500)
            assert [message.body[0] for message in first] == [0, 1, 2], "the one that goes beyond is the last"
            rest = await code.take(6, SOON, most_bytes=1)
            assert [message.body[0] for message in rest] == [3], "at least one"
            assert [message.attempt for message in await code.take(6, SOON)] == [1, 1]
            assert await code.take(6) == []

    asyncio.run(scenario())


def test_what_is_given_back_uncounted_was_never_tried(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            code = await peer.attach("code")
            receipt = await code.send("code", "x")
            for _ in range(2 * MAX_ATTEMPTS):
                (message,) = await code.take(1, SOON)
                assert message.attempt == 1
                await message.nack(0.0, counted=False)
            for attempt in range(1, MAX_ATTEMPTS + 1):
                (message,) = await code.take(1, SOON)
                assert message.attempt == attempt
                await message.nack(0.0)
            with pytest.raises(zmesh.MessageDead):
                await receipt.handled(SOON)

    asyncio.run(scenario())


def test_an_answer_can_be_left_to_be_finished_by_its_asker(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            code, browser = await peer.attach("code"), await peer.attach("browser")
            asking = asyncio.create_task(
                browser.ask_as(
                    b"q" * 16, "code", "?", type="ask", priority="normal", ttl=SOON, strict=False, finish=False
                )
            )
            (question,) = await code.take(1, SOON)
            await question.done("far")
            answer = await asking
            assert (answer.body, answer.finished) == ("far", False)
            await browser.detach()
            other = await peer.attach("browser")
            (again,) = await other.take(1, SOON)
            assert (again.id, again.attempt) == (answer.id, 2)

    asyncio.run(scenario())


# --- leases of the process before ---


async def left_behind(home: Path, count: int = 1) -> list[Delivery]:
    """Take messages in a peer that ends without finishing them."""
    async with graceful(home) as peer:
        code = await peer.attach("code")
        for number in range(count):
            await code.send("code", number)
        return [message.delivery for message in await code.take(count, SOON)]


def test_who_had_a_message_goes_on_with_it_in_the_next_process(home: Path) -> None:
    async def scenario() -> None:
        deliveries = await left_behind(home, 3)
        async with graceful(home) as peer:
            code, other = await peer.attach("code"), await peer.attach("code")
            assert await other.take(3, 0.1) == [], "it waits for who had it"
            first, second, third = [code.reclaim(delivery) for delivery in deliveries]
            assert first.attempt == 1
            await first.done("answer")
            await second.nack(0.0)
            (again,) = await other.take(1, SOON)
            assert (again.id, again.attempt) == (second.id, 2)
            with pytest.raises(zmesh.LeaseLost):
                other.reclaim(deliveries[1])
            with pytest.raises(zmesh.LeaseLost):
                other.reclaim(deliveries[2])
            with pytest.raises(zmesh.UnknownMessage):
                other.reclaim(deliveries[0])
            await third.done()

    asyncio.run(scenario())


def test_nobody_comes_within_the_grace_and_others_get_it(home: Path) -> None:
    async def scenario() -> None:
        (delivery,) = await left_behind(home)
        async with graceful(home, 0.05) as peer:
            other = await peer.attach("code")
            (again,) = await other.take(1, SOON)
            assert (again.id, again.attempt) == (delivery.id, 2)
            with pytest.raises(zmesh.LeaseLost):
                (await peer.attach("code")).reclaim(delivery)

    asyncio.run(scenario())


def test_without_a_grace_it_is_anybodys_at_once_and_an_old_holder_may_still_be_first(home: Path) -> None:
    async def scenario() -> None:
        (delivery,) = await left_behind(home)
        async with graceful(home, 0.0) as peer:
            code = await peer.attach("code")
            await code.reclaim(delivery).done()
            assert await code.take(1, 0.1) == []

    asyncio.run(scenario())


def test_what_is_said_of_a_message_must_be_true(home: Path) -> None:
    async def scenario() -> None:
        (delivery,) = await left_behind(home)
        async with graceful(home) as peer:
            code, other = await peer.attach("code"), await peer.attach("other")
            for wrong in (replace(delivery, row=99), replace(delivery, id=b"x" * 16)):
                with pytest.raises(zmesh.UnknownMessage):
                    code.reclaim(wrong)
            with pytest.raises(zmesh.LeaseLost):
                other.reclaim(delivery)
            code.reclaim(delivery)
        with pytest.raises(zmesh.PeerClosed):
            code.reclaim(delivery)

    asyncio.run(scenario())


# --- receipts and bodies ---


def test_a_receipt_of_any_agent_of_the_peer_and_of_the_process_before(home: Path) -> None:
    async def scenario() -> None:
        async with graceful(home) as peer:
            code = await peer.attach("code")
            sent = await code.send("code", "x")
            assert await peer.receipt(sent.id) is sent
            with pytest.raises(zmesh.UnknownMessage):
                await peer.receipt(bytes(16))
            with pytest.raises(TypeError, match="message id"):
                await peer.receipt("no id")  # type: ignore[arg-type]
        async with graceful(home) as peer:
            receipt = await peer.receipt(sent.id)
            assert (receipt.state, receipt.address) == ("stored", "code@laptop")
            (message,) = await (await peer.attach("code")).take(1, SOON)
            await message.done()
            await until(lambda: receipt.state == "handled")
        with pytest.raises(zmesh.PeerClosed):
            await peer.receipt(sent.id)

    asyncio.run(scenario())


@pytest.mark.parametrize("body", [None, 7, "text", b"bytes", {"a": [1, 2]}, [{1: 2}]])
def test_a_body_that_another_process_has_packed_arrives_as_it_was(home: Path, body: Any) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            code = await peer.attach("code")
            await code.send("code", PackedBody(*pack_body(body)))
            (message,) = await code.take(1, SOON)
            assert message.body == body

    asyncio.run(scenario())


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01", b"\x01\x02", b"\x81\x91\x01\x02"])
def test_a_packed_body_that_cannot_be_unpacked_is_refused_where_it_is_sent(data: bytes) -> None:
    with pytest.raises(zmesh.BodyError):
        pack_body(PackedBody(data, packed=True))
    assert pack_body(PackedBody(data, packed=False)) == (data, False)


def test_a_packed_body_that_is_too_large_is_refused_as_such(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            code = await peer.attach("code")
            with pytest.raises(zmesh.BodyTooLarge):
                await code.send("code", PackedBody(b"\xc1" * (MAX_BODY + 1), packed=True))

    asyncio.run(scenario())
