"""The async client: the verbs of the blocking one, restarts under it, and cancellations that lose nothing."""

import asyncio
from pathlib import Path

import pytest

import zmesh
from tests.daemon.served import Raw, serving
from tests.daemon_home import daemon_pid, kill_daemon
from tests.waiting import until
from zmesh.protocol.bounds import MAX_ATTEMPTS

SOON = 20.0


def test_every_verb(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home), zmesh.connect_async("code", role="coder") as code:
            browser = zmesh.connect_async("browser")
            await browser.start()
            assert (code.address, code.peer) == ("code@laptop", "laptop")
            assert await browser.wait_for("code", SOON) == "code@laptop"
            assert {agent["name"]: agent["role"] for agent in await browser.agents()} == {
                "code": "coder",
                "browser": "",
            }
            assert await browser.peers() == []
            await code.status("busy")
            receipt = await browser.send("code", {"text": "hello"}, type="greeting", priority="high")
            await receipt.stored(SOON)
            (message,) = await code.poll(timeout=SOON)
            assert (message.body, message.type, message.priority) == ({"text": "hello"}, "greeting", "high")
            first = await message.reply("one")
            second = await message.reply("two")
            assert first.id != second.id
            await message.done("three")
            await receipt.handled(SOON)
            assert await (await browser.receipt(receipt.id)).refresh() == "handled"
            answers = await browser.poll(timeout=SOON)
            answers += [] if len(answers) == 3 else await browser.take(3, SOON)
            assert sorted(answer.body for answer in answers) == ["one", "three", "two"]
            late = await browser.send("nobody@laptop", "x", ttl=60)
            await late.cancel()
            await until(lambda: late.state in {"expired", "expiring"} or late.state)
            await browser.close()
            await browser.close()
            with pytest.raises(zmesh.PeerClosed):
                await browser.send("code", "x")

    asyncio.run(scenario())


def test_polled_messages_are_done_at_the_next_poll_unless_kept(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home), zmesh.connect_async("code") as code:
            receipts = [await code.send("code", number) for number in range(4)]
            messages = await code.poll(4, SOON)
            code.keep(messages[0])
            await messages[1].nack(60.0)
            with pytest.raises(TypeError, match="keep takes a message"):
                code.keep("no message")  # type: ignore[arg-type]
            assert await code.poll() == []
            states = [await (await code.receipt(receipt.id)).refresh() for receipt in receipts]
            assert states == ["stored", "stored", "handled", "handled"]
            await messages[0].done()
            with pytest.raises(zmesh.LeaseLost):
                await messages[0].done()

    asyncio.run(scenario())


def test_a_question_is_answered_and_its_answer_finished(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (_, server, _), zmesh.connect_async("code") as code, zmesh.connect_async("b") as b:
            asking = asyncio.create_task(b.ask("code", "how far?", timeout=SOON))
            async for question in code.inbox():
                await question.done("far")
                break
            assert (await asking).body == "far"
            assert [session.holds for session in server.sessions] == [0, 0]
            with pytest.raises(zmesh.WaitTimeout):
                await b.ask("code", "nobody listens", timeout=0.05)

    asyncio.run(scenario())


def test_a_thousand_sends_at_once_are_no_more_than_the_daemon_takes(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home), zmesh.connect_async("code") as code:
            receipts = await asyncio.gather(*(code.send("code", number) for number in range(1000)))
            assert len({receipt.id for receipt in receipts}) == 1000
            bodies: list[int] = []
            while len(bodies) < 1000:
                bodies += [message.body for message in await code.poll(500, SOON)]
            assert bodies == list(range(1000)), "in the order in which they were asked for"

    asyncio.run(scenario())


def test_a_poll_that_is_cancelled_at_any_moment_loses_nothing_and_costs_no_attempt(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home), zmesh.connect_async("code") as code, zmesh.connect_async("b") as b:
            for turns in range(60):
                receipt = await b.send("code", turns)
                for delay in range(4):
                    polling = asyncio.create_task(code.take(1, 60.0))
                    for _ in range((turns + delay) % 15):
                        await asyncio.sleep(0)
                    polling.cancel()
                    await asyncio.wait({polling})
                    if not polling.cancelled():
                        await polling.result()[0].nack(0.0, counted=False)
                (message,) = await code.take(1, SOON)
                assert (message.id, message.attempt) == (receipt.id, 1)
                await message.done()
            assert code._connection._talk._held == {}  # noqa: SLF001
            await until(lambda: not code._connection._talk._pending)  # noqa: SLF001

    asyncio.run(scenario())


@pytest.mark.parametrize("late", [False, True])
def test_an_answer_that_comes_when_its_poll_is_cancelled_already_goes_back(home: Path, *, late: bool) -> None:
    """Between the cancellation and the turn of the task that was cancelled, or the other way round."""

    async def scenario() -> None:
        async with serving(home), zmesh.connect_async("code") as code, zmesh.connect_async("b") as b:
            connection = code._connection  # noqa: SLF001
            hear, unheard = connection._hear, bytearray()  # noqa: SLF001
            polling = asyncio.create_task(code.take(1, 60.0))
            await asyncio.sleep(0)
            connection._hear = unheard.extend  # type: ignore[assignment, method-assign]  # noqa: SLF001
            receipt = await b.send("code", "x")
            await until(lambda: unheard)
            connection._hear = hear  # type: ignore[method-assign]  # noqa: SLF001
            if late:
                polling.cancel()
            hear(bytes(unheard))
            polling.cancel()
            await asyncio.wait({polling})
            assert polling.cancelled()
            (again,) = await code.take(1, SOON)
            assert (again.id, again.attempt) == (receipt.id, 1)
            await again.done()

    asyncio.run(scenario())


def test_cancelled_questions_are_withdrawn(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home), zmesh.connect_async("code") as code, zmesh.connect_async("b") as b:
            asking = asyncio.create_task(b.ask("code", "?", timeout=60))
            (question,) = await code.take(1, SOON)
            asking.cancel()
            await asyncio.wait({asking})
            assert asking.cancelled()
            await question.done("late")
            (answer,) = await b.poll(timeout=SOON)
            assert answer.body == "late", "it goes to the inbox"

    asyncio.run(scenario())


def test_a_killed_daemon_is_started_again_and_leases_and_questions_go_on(daemon_home: Path) -> None:
    async def scenario() -> None:
        async with zmesh.connect_async("code") as code, zmesh.connect_async("browser") as browser:
            asking = asyncio.create_task(browser.ask("code", "how far?", timeout=60))
            (question,) = await code.take(1, SOON)
            first = kill_daemon(daemon_home)
            late = await browser.send("code", "more")
            await question.done("far")
            assert (await asking).body == "far"
            (more,) = await code.take(1, SOON)
            assert (more.id, more.attempt) == (late.id, 1)
            await more.done()
            assert daemon_pid(daemon_home) not in (0, first)

    asyncio.run(scenario())


def test_it_lives_in_one_loop_and_says_so(home: Path) -> None:
    async def scenario() -> None:
        client = zmesh.connect_async("code")
        with pytest.raises(zmesh.PeerClosed, match="async with"):
            await client.poll()
        async with serving(home), client:

            def elsewhere() -> None:
                with pytest.raises(zmesh.WrongLoop):
                    asyncio.run(client.poll())

            await asyncio.to_thread(elsewhere)

    asyncio.run(scenario())


def test_a_daemon_that_cannot_be_started_is_an_error_at_once(daemon_home: Path) -> None:
    (daemon_home / "config.toml").write_text("port = 'seven'\n")

    async def scenario() -> None:
        with pytest.raises(zmesh.DaemonUnreachable, match=r"config\.toml"):
            async with zmesh.connect_async("code"):
                pass

    asyncio.run(scenario())


def test_who_is_refused_hears_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.daemon.server.MAX_CLIENTS", 1)

    async def scenario() -> None:
        async with serving(home) as (_, _, place):
            await Raw.greeted(place)
            with pytest.raises(zmesh.MeshFull, match="end some"):
                await zmesh.connect_async("code").start()

    asyncio.run(scenario())


def test_attempts_are_counted_when_it_is_given_back_as_tried(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home), zmesh.connect_async("code") as code:
            receipt = await code.send("code", "poison")
            for attempt in range(1, MAX_ATTEMPTS + 1):
                (message,) = await code.take(1, SOON)
                assert message.attempt == attempt
                await message.nack(0.0)
            with pytest.raises(zmesh.MessageDead):
                await receipt.handled(SOON)

    asyncio.run(scenario())


def test_who_is_started_twice_is_connected_once_and_a_closed_one_is_connected_anew(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (_, server, _):
            code = zmesh.connect_async("code", home=home)
            await asyncio.gather(code.start(), code.start())
            async with code:
                await code.start()
                assert len(server.sessions) == 1
                await code.send("code", "x")
            await until(lambda: not server.sessions)
            async with code:
                assert [message.body for message in await code.poll(timeout=SOON)] == ["x"]
            await until(lambda: not server.sessions)

    asyncio.run(scenario())
