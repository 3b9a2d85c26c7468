"""A received message: what it says of itself, and the ways to finish it."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zmesh
from tests.conftest import new_peer, take, two_agents
from zmesh.peer.message import TIME_BYTES, reply_id
from zmesh.protocol.bounds import ID_BYTES, MAX_BODY
from zmesh.protocol.commands import Send
from zmesh.protocol.priority import Priority

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SOON = 20.0
IDENT = bytes(range(16))


def own(agent: zmesh.Agent) -> bytes:
    """Return the id of the store an agent lives in."""
    return agent.driver.core.node.store


def test_a_message_says_who_sent_what(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            before = time.time()
            receipt = await code.send(
                "Browser@Studio", {"text": "hello"}, type="command", priority="high", thread=IDENT, reply_to=IDENT[::-1]
            )
            message = await take(browser)
            assert message.id == receipt.id
            assert (message.sender, message.to, message.type) == ("code@laptop", "browser", "command")
            assert (message.priority, message.attempt) == ("high", 1)
            assert (message.thread, message.reply_to) == (IDENT, IDENT[::-1])
            assert before - 0.01 <= message.sent_at <= time.time()
            assert message.body == {"text": "hello"}
            assert message.origin.startswith("code@laptop~")
            assert len(message.origin) == len("code@laptop~") + 26
            assert repr(message) == f"<Message {message.id.hex()[:12]} from code@laptop: command>"
            assert not message.finished

    asyncio.run(scenario())


def test_done_ends_it_once(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            receipt = await code.send("code", "note to self")
            message = await take(code)
            await message.done()
            assert message.finished
            await receipt.handled(timeout=0)
            endings: list[Callable[[], object]] = [message.done, message.nack, lambda: message.done(reply="again")]
            for again in endings:
                with pytest.raises(zmesh.LeaseLost, match="was finished, or was redelivered"):
                    again()
            assert await code.poll() == []

    asyncio.run(scenario())


def test_a_reply_and_the_end_of_the_question_are_one_transaction(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            question = await code.send("browser@studio", "why?", priority="critical")
            message = await take(browser)
            await message.done(reply={"text": "because"})
            answer = await take(code)
            assert (answer.sender, answer.type, answer.priority) == ("browser@studio", "reply", "critical")
            assert answer.body == {"text": "because"}
            assert answer.reply_to == question.id
            assert answer.thread == question.id
            assert answer.id == reply_id(own(code), question.id, 0)
            await answer.done(reply="I see", type="thanks")
            thanks = await take(browser)
            assert (thanks.type, thanks.thread, thanks.reply_to) == ("thanks", question.id, answer.id)
            await question.handled(timeout=SOON)

    asyncio.run(scenario())


def test_a_reply_that_cannot_be_sent_leaves_the_message_as_it_was(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            question = await code.send("browser@studio", "why?")
            message = await take(browser)
            with pytest.raises(zmesh.BodyError):
                message.done(reply=object())
            with pytest.raises(zmesh.BodyTooLarge):
                message.done(reply=b"x" * (MAX_BODY + 1))
            with pytest.raises(ValueError, match="a message type is"):
                message.done(reply="fine", type="")
            with pytest.raises(zmesh.BodyError):
                message.reply({1, 2})
            assert not message.finished
            await message.done(reply="because")
            answer = await take(code)
            assert answer.id == reply_id(own(code), question.id, 0)
            await answer.done()
            assert await code.poll() == []

    asyncio.run(scenario())


def test_replying_does_not_finish(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            question = await code.send("browser@studio", "how far?")
            message = await take(browser)
            receipt = await message.reply("half way", type="progress")
            assert not message.finished
            await receipt.stored(timeout=SOON)
            await message.reply("nearly there", type="progress")
            await message.done(reply="there")
            answers = [await take(code) for _ in range(3)]
            assert [answer.body for answer in answers] == ["half way", "nearly there", "there"]
            assert [answer.id for answer in answers] == [reply_id(own(code), question.id, turn) for turn in range(3)]

    asyncio.run(scenario())


@pytest.mark.parametrize("local", [False, True], ids=["another peer", "the same peer"])
def test_a_reply_that_is_repeated_after_a_redelivery_is_one_reply(local: bool, home: Path) -> None:  # noqa: FBT001
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            asker = browser if local else code
            answerer = browser
            asked = await asker.send("browser@studio", "why?", reply_to=b"")
            message = await take(answerer)
            assert message.id == asked.id
            first = await message.reply("because")
            answer = await take(asker)
            await answer.done()
            await first.handled(timeout=SOON)
            await message.nack(delay=0)
            message = await take(answerer)
            assert message.attempt == 2
            again = await message.reply("because!")
            assert again.id == first.id
            await again.handled(timeout=SOON)
            await message.done()
            await asked.handled(timeout=SOON)
            assert await asker.poll(timeout=0.2) == []

    asyncio.run(scenario())


def test_a_reply_is_remembered_across_a_crash_of_the_answerer(home: Path) -> None:
    async def asked() -> None:
        async with two_agents(home) as (code, browser):
            await code.send("browser@studio", "why?")
            receipt = await (await take(browser)).reply("because")
            await receipt.stored(timeout=SOON)

    async def answered_again() -> None:
        async with two_agents(home) as (code, browser):
            message = await take(browser)
            assert message.attempt == 2
            receipt = await message.reply("because, I said")
            await receipt.stored(timeout=SOON)
            await message.done()
            answer = await take(code)
            assert answer.body == "because"
            await answer.done()
            await receipt.handled(timeout=SOON)
            assert await code.poll(timeout=0.2) == []

    asyncio.run(asked())
    asyncio.run(answered_again())


def test_giving_it_back_brings_it_again_with_a_higher_attempt(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            receipt = await code.send("code", "again")
            started = time.monotonic()
            for attempt in (1, 2):
                message = await take(code)
                assert (message.id, message.attempt) == (receipt.id, attempt)
                await message.nack()
                assert message.finished
            message = await take(code)
            assert message.attempt == 3
            assert time.monotonic() - started > 0.5  # a quarter of a second, then half a second, less jitter
            await message.nack(delay=0.01)
            await (await take(code)).done()
            await receipt.handled(timeout=SOON)

    asyncio.run(scenario())


WRONG_DELAYS = ["x", [1], True, -1, float("nan"), float("inf"), 1e300, 10**400]


@pytest.mark.parametrize("delay", WRONG_DELAYS, ids=lambda delay: str(delay)[:8])
def test_a_delay_that_is_none_is_the_mistake_of_the_caller_and_harms_nobody(delay: Any, home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            for n in range(3):
                await code.send("code", n)
            first, second, third = [await take(code) for _ in range(3)]
            with pytest.raises((TypeError, ValueError), match=r"^delay is "):
                first.nack(delay)
            assert not first.finished
            await second.nack(0.01)
            await third.nack(0)
            again = [await take(code) for _ in range(2)]
            assert sorted(message.body for message in again) == [1, 2]  # what was given back comes again
            await first.done()

    asyncio.run(scenario())


def test_ending_a_message_has_no_result(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            for n in range(3):
                await code.send("code", n)
            endings: list[Callable[[zmesh.Message], Awaitable[object]]] = [
                lambda message: message.done(),
                lambda message: message.done(reply="fine"),
                lambda message: message.nack(60),
            ]
            for message, end in zip([await take(code) for _ in range(3)], endings, strict=True):
                assert await end(message) is None

    asyncio.run(scenario())


def test_an_answer_goes_to_the_store_that_asked_and_nowhere_else(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            await code.send("browser@studio", "why?")
            message = await take(browser)
            receipt = await message.reply("because")
            assert receipt.address == "code@laptop~" + message.origin.partition("~")[2]

    asyncio.run(scenario())


def test_a_body_that_lies_about_itself_hurts_only_whoever_looks_at_it(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            driver = code.driver
            ticket = driver.number()
            lie = Send(
                ticket, IDENT, "browser@studio", "code", Priority.NORMAL, None, "message", b"", b"", 0,
                packed=True, body=b"\xc1",
            )  # fmt: skip
            await driver.submit(ticket, lie)
            message = await take(browser)
            with pytest.raises(zmesh.BodyError, match="the sender says"):
                _ = message.body
            await message.done(reply="speak clearly")
            assert (await take(code)).body == "speak clearly"

    asyncio.run(scenario())


def test_the_awaitable_of_done_need_not_be_awaited(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            receipts = [await code.send("browser@studio", n) for n in range(10)]
            for _ in receipts:
                message = await take(browser)
                message.done(reply=message.body)
            for receipt in receipts:
                await receipt.handled(timeout=SOON)
            assert [(await take(code)).body for _ in receipts] == list(range(10))

    asyncio.run(scenario())


@given(st.binary(min_size=ID_BYTES, max_size=ID_BYTES), st.lists(st.integers(0, 2**32 - 1), min_size=2, unique=True))
def test_ids_of_answers_follow_from_who_asked_and_the_question(request: bytes, turns: list[int]) -> None:
    idents = [reply_id(b"a store", request, turn) for turn in turns]
    assert idents == [reply_id(b"a store", request, turn) for turn in turns]
    assert not set(idents) & {reply_id(b"another store", request, turn) for turn in turns}
    assert len({*idents, request}) == len(turns) + 1
    assert all(len(ident) == ID_BYTES and ident[:TIME_BYTES] == request[:TIME_BYTES] for ident in idents)


def test_bodies_of_every_kind_arrive(home: Path) -> None:
    bodies = [
        None,
        True,
        -1,
        1.5,
        "text",
        b"bytes",
        [1, [2]],
        {"a": {"b": [None]}},
        {1: 2},
        b"",
        "",
        {},
        b"x" * MAX_BODY,
    ]

    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            for body in bodies:
                await code.send("browser@studio", body)
            assert [(await take(browser)).body for _ in bodies] == bodies
            largest = "x" * (MAX_BODY - 5)
            assert len(msgpack.packb(largest)) == MAX_BODY
            await code.send("browser@studio", largest)
            with pytest.raises(zmesh.BodyTooLarge, match=f"more than the {MAX_BODY}"):
                code.send("browser@studio", largest + "x")

    asyncio.run(scenario())
