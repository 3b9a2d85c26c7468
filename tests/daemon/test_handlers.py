"""What `listen` does with messages, in both clients; a message that nobody handles costs nobody anything."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.daemon.served import Raw, serving
from tests.waiting import until
from zmesh.daemon.handlers import Handlers
from zmesh.protocol.bounds import MAILBOX_MESSAGES, MAX_ATTEMPTS, REDELIVERY_MAX

SOON = 20.0


def test_the_handler_of_a_type_comes_before_that_of_all_others() -> None:
    handlers = Handlers()
    assert handlers.find(b"1", "a") is None
    every = handlers.on("*")(lambda _: 1)
    assert handlers.find(b"1", "a") is every
    of_a = handlers.on("a")(lambda _: 2)
    assert (handlers.find(b"1", "a"), handlers.find(b"1", "b")) == (of_a, every)


def test_what_nobody_handles_comes_later_and_later_and_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    handlers = Handlers()
    delays = [handlers.later(b"1", "chat", "code@laptop") for _ in range(12)]
    assert delays == sorted(delays)
    assert (delays[0], delays[1], delays[-1]) == (0.5, 1.0, REDELIVERY_MAX)
    assert handlers.later(b"2", "chat", "code@laptop") == 0.5
    assert [record.message for record in caplog.records] == [
        "a message of type 'chat' came to code@laptop, and nothing here handles it: register on('chat') or on('*')"
    ]
    handlers.on("chat")(lambda _: None)
    handlers.find(b"1", "chat")
    assert handlers.later(b"1", "chat", "code@laptop") == 0.5


def test_what_is_remembered_of_unhandled_messages_has_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    handlers = Handlers()
    caplog.set_level(logging.ERROR, "zmesh.client")
    for number in range(MAILBOX_MESSAGES + 10):
        handlers.later(number.to_bytes(16, "big"), str(number), "")
    assert len(handlers._unhandled) <= MAILBOX_MESSAGES  # noqa: SLF001
    assert len(handlers._warned) <= MAILBOX_MESSAGES  # noqa: SLF001


def client(home: Path, name: str) -> zmesh.AsyncClient:
    return zmesh.connect_async(name, home=home)


def test_handlers_answer_by_what_they_return_async_or_not(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home), client(home, "code") as code, client(home, "browser") as browser:
            code.on("plain")(lambda message: {"got": message.body})

            @code.on("slow")
            async def slow(message: Any) -> str:
                await asyncio.sleep(0)
                return str(message.body) + "!"

            code.on("silent")(lambda _: None)
            listening = asyncio.create_task(code.listen())
            assert (await browser.ask("code", 1, type="plain", timeout=SOON)).body == {"got": 1}
            assert (await browser.ask("code", "x", type="slow", timeout=SOON)).body == "x!"
            receipt = await browser.send("code", 1, type="silent")
            await receipt.handled(SOON)
            await until(lambda: [verb for verb, _ in code._connection._waiting.values()] == ["poll"])  # noqa: SLF001
            await code.close()
            await listening

    asyncio.run(scenario())


def test_a_handler_that_raises_gives_its_message_back_and_the_error_to_the_caller(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home), client(home, "code") as code:
            await code.send("code", "x", type="bad")

            @code.on("bad")
            def bad(message: Any) -> None:
                raise ZeroDivisionError(message.attempt)

            for attempt in (1, 2):
                with pytest.raises(ZeroDivisionError, match=str(attempt)):
                    await code.listen(SOON)

    asyncio.run(scenario())


def test_a_message_that_a_handler_has_finished_itself_is_not_finished_again(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home), client(home, "code") as code:
            receipt = await code.send("code", "x", type="own")
            code.on("own")(lambda message: message.done({"early": True}))
            listening = asyncio.create_task(code.listen(SOON))
            await receipt.handled(SOON)
            code.on()(lambda _: listening.cancel())
            with pytest.raises(asyncio.CancelledError):
                await listening

    asyncio.run(scenario())


def test_a_message_without_a_handler_here_goes_to_the_program_that_has_one_and_never_dies_of_that(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("zmesh.daemon.handlers.REDELIVERY_MAX", 0.001)

    async def scenario() -> None:
        async with (
            serving(home) as (_, server, place),
            client(home, "code") as code,
            client(home, "browser") as browser,
        ):
            chat = await browser.send("code", "hello", type="chat")
            seen = 0
            take = code.take

            async def counted(*arguments: Any) -> Any:
                nonlocal seen
                taken = await take(*arguments)
                seen += len(taken)
                return taken

            monkeypatch.setattr(code, "take", counted)
            code.on("command")(lambda _: "done")
            listening = asyncio.create_task(code.listen())
            assert (await browser.ask("code", "go", type="command", timeout=SOON)).body == "done"
            await until(lambda: seen > 3 * MAX_ATTEMPTS, SOON)
            assert await chat.refresh() == "stored"
            listening.cancel()
            await asyncio.wait({listening})
            raw = await Raw.greeted(place)
            _, _, (message,) = await raw.ask("poll", {"most": 1, "timeout": SOON})
            assert (message["id"], message["attempt"]) == (chat.id, 1)
            assert server.sessions

    asyncio.run(scenario())
    assert "register on('chat')" in caplog.text
