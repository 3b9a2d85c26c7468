"""Clients that are closed while somebody listens: by another thread or task, by a handler, or by the daemon's end."""

import asyncio
import threading
from pathlib import Path

import pytest

import zmesh
from tests.daemon.served import serving
from tests.daemon.test_connection import Fake, connected, daemon
from tests.storm.processes import wait_until
from zmesh.daemon.async_client import AsyncMessage
from zmesh.daemon.client import Client, ClientMessage
from zmesh.daemon.wire import HELLO, OK, pack

SOON = 20.0


@pytest.mark.usefixtures("daemon_home")
@pytest.mark.parametrize("verb", ["inbox", "listen"])
def test_a_thread_that_waits_ends_quietly_when_another_closes_the_client(verb: str) -> None:
    ended: list[BaseException | None] = []
    with zmesh.connect("code") as code, zmesh.connect("ann") as ann:
        seen: list[object] = []

        @code.on()
        def take(message: ClientMessage) -> None:
            seen.append(message.body)

        def wait() -> None:
            try:
                if verb == "listen":
                    code.listen()
                else:
                    for message in code.inbox():
                        take(message)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test tells
                ended.append(error)
            else:
                ended.append(None)

        waiting = threading.Thread(target=wait)
        waiting.start()
        ann.send("code", "x")
        wait_until(lambda: seen, SOON, "it listens")
        code.close()
        waiting.join(SOON)
        assert ended == [None]


@pytest.mark.usefixtures("daemon_home")
def test_a_client_that_is_closed_while_a_handler_works_ends_quietly_and_the_message_comes_again() -> None:
    with zmesh.connect("code") as code, zmesh.connect("ann") as ann:

        @code.on()
        def close(_: ClientMessage) -> str:
            code.close()
            return "an answer that cannot be given"

        ann.send("code", "x")
        code.listen(SOON)
        with zmesh.connect("code") as other:
            (message,) = other.take(timeout=SOON)
            assert (message.body, message.attempt) == ("x", 2)


@pytest.mark.usefixtures("daemon_home")
def test_what_a_handler_raises_is_not_hidden_by_a_client_that_is_closed() -> None:
    with zmesh.connect("code") as code, zmesh.connect("ann") as ann:

        @code.on()
        def fail(_: ClientMessage) -> None:
            code.close()
            raise ZeroDivisionError

        ann.send("code", "x")
        with pytest.raises(ZeroDivisionError):
            code.listen(SOON)


def test_who_listens_hears_that_the_daemon_has_ended_the_client(home: Path) -> None:
    """Also when that was seen between two requests: it did not end because somebody has closed it."""

    def one(fake: Fake, connection: object) -> None:
        told = {
            "lease": 1, "id": bytes(16), "body": [b"x", False], "sender": "a@b", "to": "code", "type": "t",
            "priority": "normal", "thread": b"", "reply_to": b"", "sent_at": 0, "attempt": 1,
        }  # fmt: skip
        for number, _, _ in fake.requests(connection):  # type: ignore[arg-type]
            connection.sendall(pack([number, OK, [told]]) + pack([HELLO, OK, None]))  # type: ignore[attr-defined]

    for listens in (True, False):
        with daemon(home, one) as fake, connected(fake) as connection, Client(connection) as client:

            def wait(_: object, connection: object = connection) -> None:
                wait_until(lambda: connection.closed, SOON, "it has heard nonsense")  # type: ignore[attr-defined]

            if listens:
                client.on()(wait)
                with pytest.raises(zmesh.DaemonError, match="not to be understood"):
                    client.listen()
            else:
                messages = client.inbox()
                wait(next(messages))
                with pytest.raises(zmesh.DaemonError, match="not to be understood"):
                    next(messages)
            with pytest.raises(zmesh.PeerClosed, match="not to be understood"):
                client.peers()


@pytest.mark.parametrize("verb", ["inbox", "listen"])
def test_a_task_that_waits_ends_quietly_when_another_closes_the_client(home: Path, verb: str) -> None:
    async def scenario() -> None:
        async with serving(home), zmesh.connect_async("code", home=home) as code:
            seen = asyncio.Event()
            code.on()(lambda _: seen.set())

            async def wait() -> None:
                if verb == "listen":
                    await code.listen()
                else:
                    async for _ in code.inbox():
                        seen.set()

            waiting = asyncio.create_task(wait())
            await code.send("code", "x")
            await asyncio.wait_for(seen.wait(), SOON)
            await code.close()
            await asyncio.wait_for(waiting, SOON)

    asyncio.run(scenario())


def test_an_async_client_that_is_closed_by_its_handler_ends_quietly_and_hides_no_error(home: Path) -> None:
    async def scenario(error: type[Exception] | None) -> None:
        async with serving(home), zmesh.connect_async("code", home=home) as code:

            @code.on()
            async def close(_: AsyncMessage) -> str:
                await code.close()
                if error is not None:
                    raise error
                return "an answer that cannot be given"

            await code.send("code", "x")
            await code.listen(SOON)

    asyncio.run(scenario(None))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(scenario(ZeroDivisionError))


def test_who_listens_on_a_client_that_was_never_opened_hears_that(home: Path) -> None:
    async def scenario() -> None:
        code = zmesh.connect_async("code", home=home)
        with pytest.raises(zmesh.PeerClosed, match="is not connected"):
            await code.listen()
        with pytest.raises(zmesh.PeerClosed, match="is not connected"):
            await anext(code.inbox())

    asyncio.run(scenario())
