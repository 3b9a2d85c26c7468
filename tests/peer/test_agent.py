"""An agent's verbs: send, ask, inbox, poll, keep and detach, between real peers."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.conftest import LOCAL, new_peer, take, two_agents
from tests.waiting import until
from zmesh.peer import peer as peer_module
from zmesh.peer.connection import Connection, Row, explain, sqlite_connect
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.protocol.bounds import MAX_BODY, MAX_TTL
from zmesh.protocol.effects import Progress
from zmesh.protocol.states import Sent

SOON = 20.0
PRIORITIES: tuple[zmesh.PriorityName, ...] = ("critical", "high", "normal", "low", "bulk")


async def texts(messages: AsyncIterator[zmesh.Message], count: int) -> list[Any]:
    """Take and finish so many messages; return their bodies."""
    bodies = []
    async for message in messages:
        bodies.append(message.body)
        await message.done()
        if len(bodies) == count:
            break
    return bodies


# --- sending ---


@pytest.mark.parametrize("ttl", [None, "never", 5, 0.5, "30s", "15m", "2h", "7d", "52w"])
def test_every_way_to_write_a_ttl(ttl: float | str | None, home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            receipt = await code.send("code@laptop", "hello", ttl=ttl)
            assert receipt.state == "stored"

    asyncio.run(scenario())


def test_what_cannot_be_sent_is_refused_before_anything_is_written(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
                (zmesh.AddressError, "not a valid agent name", {"to": "no spaces allowed"}),
                (zmesh.AddressError, "not a valid peer name", {"to": "browser@"}),
                (zmesh.AddressError, "an address is a text", {"to": 7}),
                (zmesh.UnknownAgent, "no agent is called 'nobody'.*nobody@PEER", {"to": "nobody"}),
                (zmesh.UnknownAgent, r"no agent is called 'coed'.*did you mean code\?", {"to": "coed"}),
                (zmesh.BodyError, "cannot be sent", {"body": object()}),
                (zmesh.BodyTooLarge, "send it in pieces", {"body": bytes(MAX_BODY + 1)}),
                (zmesh.AddressError, r"'aaa.*\.\.\. is not a valid peer name", {"to": "browser@" + "a" * 10_000}),
                (zmesh.AddressError, "after '~' come 4 to 26 .* as `Peer.peers", {"to": "browser@studio~no"}),
                (ValueError, "choose one of critical, high, normal, low, bulk", {"priority": "urgent"}),
                (ValueError, "no priority is called None; choose", {"priority": None}),
                (ValueError, "no priority is called 1; choose", {"priority": 1}),
                (ValueError, "ttl is more than 0 and at most", {"ttl": 0}),
                (ValueError, "is no duration", {"ttl": "soon"}),
                (ValueError, "ttl is more than 0 and at most", {"ttl": MAX_TTL * 2}),
                (ValueError, "a message type is", {"type": ""}),
                (ValueError, "a message type is", {"type": "x" * 64}),
                (ValueError, "a message type is", {"type": None}),
                (ValueError, "ttl is a number of seconds", {"ttl": [1]}),
                (ValueError, "ttl is more than 0", {"ttl": float("nan")}),
                (
                    TypeError,
                    "thread is a message id of 16 bytes, not 'sixteen.*fromhex",
                    {"thread": "sixteen letters!"},
                ),
                (TypeError, "reply_to is a message id of 16 bytes, not 7", {"reply_to": 7}),
                (ValueError, "thread is a message id of 16 bytes", {"thread": b"short"}),
                (ValueError, "reply_to is a message id of 16 bytes", {"reply_to": b"x" * 17}),
            ]
            for error, text, arguments in wrong:
                with pytest.raises(error, match=text) as caught:
                    code.send(**{"to": "code@laptop", **arguments})
                assert len(str(caught.value)) < 300
            assert await code.poll() == []
            await code.send("code@laptop", "the peer is unharmed", thread=None, reply_to=None)
            assert len(await code.poll()) == 1

    asyncio.run(scenario())


def test_an_unknown_mailbox_waits_and_the_sender_hears_of_near_names(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            mistyped = await code.send("brwoser@studio", "hello")
            assert mistyped.state == "waiting"
            assert "did you mean browser@studio?" in mistyped.warning
            assert "waits until it appears, or its ttl ends" in mistyped.warning
            nowhere = await code.send("browser@nowhere", "hello")
            assert "no peer 'nowhere' is known yet" in nowhere.warning
            assert (await code.send("browser@studio", "hello")).warning == ""
            await (await take(browser)).done()

    asyncio.run(scenario())


def test_mail_for_a_mailbox_that_comes_later_arrives_in_order(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop, new_peer("studio", home) as studio:
            code = await laptop.agent("code")
            receipts = [await code.send("browser@studio", n) for n in range(5)]
            here = [await code.send("later@laptop", n) for n in range(5)]
            assert {receipt.state for receipt in (*receipts, *here)} == {"waiting"}
            await studio.agent("other")
            await laptop.wait_for("other@studio", timeout=SOON)
            browser, later = await studio.agent("browser"), await laptop.agent("later")
            assert await texts(browser.inbox(), 5) == list(range(5))
            assert await texts(later.inbox(), 5) == list(range(5))
            for receipt in (*receipts, *here):
                await receipt.handled(timeout=SOON)

    asyncio.run(scenario())


def test_strict_refuses_to_wait(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, _):
            with pytest.raises(zmesh.UnknownAgent, match=r"has no mailbox 'brwoser' yet \(did you mean browser@studio"):
                code.send("brwoser@studio", "hello", strict=True)
            out = "no peer 'nowhere' is known yet: wait for it with `Peer.wait_for`, or send without `strict`"
            with pytest.raises(zmesh.UnknownAgent, match=out):
                code.send("browser@nowhere", "hello", strict=True)
            with pytest.raises(zmesh.UnknownAgent, match=out):
                await code.ask("browser@nowhere", "hello", strict=True)
            with pytest.raises(zmesh.UnknownAgent, match=r"nobody@PEER, or nobody@laptop for one of this machine: the"):
                code.send("nobody", "hello", strict=True)
            receipt = await code.send("browser@studio", "hello", strict=True)
            await receipt.stored(timeout=SOON)

    asyncio.run(scenario())


def test_a_bare_name_is_enough_where_only_one_peer_has_it(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            receipt = await code.send("browser", "hello")
            assert receipt.address == "browser@studio"
            await receipt.stored(timeout=SOON)
            await (await take(browser)).done()

    asyncio.run(scenario())


def test_an_ambiguous_name_is_an_error_that_lists_the_candidates(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop, new_peer("studio") as studio, new_peer("attic") as attic:
            code = await laptop.agent("code")
            worker = await studio.agent("worker")
            await attic.agent("worker")
            await laptop.wait_for("worker@studio", timeout=SOON)
            await laptop.wait_for("worker@attic", timeout=SOON)
            for send in (code.send, lambda to: code.send(to, strict=True)):
                with pytest.raises(zmesh.AmbiguousAddress, match="2 peers have an agent 'worker'") as caught:
                    send("worker")
                assert "say which one: worker@studio, worker@attic" in str(caught.value)
            await worker.detach()
            await until(lambda: len(resolvable(laptop)) == 1)
            receipt = await code.send("worker", "hello")  # the one that is attached
            assert receipt.address == "worker@attic"
            exact = await code.send(f"worker@studio~{studio.id[:8]}", "hello")
            await exact.stored(timeout=SOON)

    def resolvable(laptop: zmesh.Peer) -> list[object]:
        entries = laptop.driver.core.node.entries()
        return [entry for entry in entries if "worker" in entry.agents and entry.agents["worker"].attached]

    asyncio.run(scenario())


def test_each_priority_keeps_its_order_and_urgent_ones_come_first(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            receipts = [
                await code.send("browser@studio", [priority, n], priority=priority)
                for n in range(10)
                for priority in reversed(PRIORITIES)
            ]
            for receipt in receipts:
                await receipt.stored(timeout=SOON)
            arrived = await texts(browser.inbox(), 50)
            assert arrived == [[priority, n] for priority in PRIORITIES for n in range(10)]

    asyncio.run(scenario())


def test_a_send_that_nobody_awaits_goes_out(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            for n in range(20):
                code.send("browser@studio", n)
            assert await texts(browser.inbox(), 20) == list(range(20))

    asyncio.run(scenario())


def test_what_is_sent_and_closed_over_is_on_disk(home: Path) -> None:
    async def sent() -> list[bytes]:
        async with new_peer("laptop") as laptop:
            code = await laptop.agent("code")
            sends = [code.send("browser@studio", n) for n in range(20)]
        receipts = [await send for send in sends]  # closing has committed them, and each knows
        return [receipt.id for receipt in receipts]

    async def received(idents: list[bytes]) -> None:
        async with two_agents(home) as (code, browser):
            assert await texts(browser.inbox(), 20) == list(range(20))
            for ident in idents:
                await (await code.receipt(ident)).handled(timeout=SOON)

    asyncio.run(received(asyncio.run(sent())))


def test_giving_up_waiting_for_the_disk_takes_nothing_back(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            send = asyncio.ensure_future(code.send("code", "hello"))
            send.cancel()
            assert (await take(code)).body == "hello"

    asyncio.run(scenario())


# --- agents of one peer ---


def test_agents_of_one_peer_talk_without_a_network(home: Path) -> None:
    async def scenario() -> None:
        async with zmesh.Peer("laptop", home=home, bind=LOCAL, discovery=[]) as laptop:
            code, review = await laptop.agent("code"), await laptop.agent("review")
            receipt = await code.send("review", {"diff": "+1"}, priority="bulk")
            assert (receipt.address, receipt.state) == ("review@laptop", "stored")
            message = await take(review)
            assert (message.sender, message.priority) == ("code@laptop", "bulk")
            await message.done(reply="looks good")
            await receipt.handled(timeout=SOON)
            assert (await take(code)).body == "looks good"
            answering = asyncio.create_task(answer(review))
            assert (await code.ask("review@laptop", "and now?", timeout=SOON)).body == "and now? yes"
            await answering
            assert await code.poll() == []

    async def answer(agent: zmesh.Agent) -> None:
        message = await take(agent)
        await message.done(reply=message.body + " yes")

    asyncio.run(scenario())


def test_local_mail_outlives_the_process(home: Path) -> None:
    async def sent() -> bytes:
        async with new_peer("laptop") as laptop:
            code = await laptop.agent("code")
            await laptop.agent("review")
            return (await code.send("review", "hello")).id

    async def taken(ident: bytes) -> None:
        async with new_peer("laptop", home) as laptop:
            review = await laptop.agent("review")
            receipt = await review.receipt(ident)
            assert receipt.state == "stored"
            await (await take(review)).done()
            await receipt.handled(timeout=SOON)

    asyncio.run(taken(asyncio.run(sent())))


# --- asking ---


def test_an_answer_comes_past_the_inbox_and_is_finished(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            answering = asyncio.create_task(answer(browser))
            reading = asyncio.create_task(texts(code.inbox(), 1))
            message = await code.ask("browser@studio", {"text": "why?"}, timeout=SOON, priority="critical")
            assert message.body == {"text": "because"}
            assert message.sender == "browser@studio"
            assert message.priority == "critical"
            assert message.finished
            await answering
            await browser.send("code@laptop", "something else")
            assert await reading == ["something else"]

    async def answer(browser: zmesh.Agent) -> None:
        async for message in browser.inbox():
            assert message.type == "ask"
            await message.done(reply={"text": "because"})
            break

    asyncio.run(scenario())


def test_many_questions_at_once_each_get_their_answer(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            serving = asyncio.create_task(echo(browser))
            answers = await asyncio.gather(*[code.ask("browser@studio", n, timeout=SOON) for n in range(50)])
            assert [answer.body for answer in answers] == [n * n for n in range(50)]
            serving.cancel()

    async def echo(browser: zmesh.Agent) -> None:
        async for message in browser.inbox():
            message.done(reply=message.body**2)

    asyncio.run(scenario())


def test_an_answer_that_comes_too_late_goes_to_the_inbox(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            asking = asyncio.create_task(code.ask("browser@studio", "why?", timeout=0.3))
            message = await take(browser)
            with pytest.raises(zmesh.WaitTimeout, match=r"no answer from browser@studio within 0\.3 s.* is stored"):
                await asking
            await message.done(reply="because")
            late = await take(code)
            assert (late.body, late.reply_to, late.attempt) == ("because", message.id, 1)
            await late.done()

    asyncio.run(scenario())


def test_an_answer_that_nobody_waits_for_any_more_is_not_lost(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            asking = asyncio.create_task(code.ask("browser@studio", "why?", timeout=SOON))
            message = await take(browser)
            await message.done(reply="because")
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert (await take(code)).body == "because"

    asyncio.run(scenario())


def test_an_asker_that_is_cancelled_when_the_answer_is_in_its_hands_puts_it_into_the_inbox(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            asking = asyncio.create_task(code.ask("browser@studio", "why?", timeout=SOON))
            message = await take(browser)
            deliver = code._deliver  # noqa: SLF001 - the moment between delivery and return cannot be hit from outside

            def deliver_and_cancel(delivery: Any) -> None:
                deliver(delivery)
                asking.cancel()

            code.driver.consume(code._holder, deliver_and_cancel)  # noqa: SLF001
            await message.done(reply="because")
            with pytest.raises(asyncio.CancelledError):
                await asking
            code.driver.consume(code._holder, deliver)  # noqa: SLF001
            late = await take(code)
            assert (late.body, late.attempt) == ("because", 1)

    asyncio.run(scenario())


def test_a_question_that_nobody_took_in_time_expires(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            for timeout in (0.1, "100ms"):
                with pytest.raises(
                    zmesh.WaitTimeout, match=r"nobody took the question to browser@nowhere within 0\.1 s"
                ):
                    await code.ask("browser@nowhere", "anybody?", timeout=timeout)
            await laptop.agent("idle")
            with pytest.raises(TimeoutError, match=r"within 0\.1 s"):  # stored, or expired already
                await code.ask("idle", "anybody?", timeout=0.1)
            idle = await laptop.agent("idle")
            assert await idle.poll() == []

    asyncio.run(scenario())


@pytest.mark.parametrize("timeout", ["5", "5s", 5, 5.0, "1m", None, "never"])
def test_the_timeout_of_a_question_is_written_like_a_ttl(timeout: float | str | None, home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code, echo = await laptop.agent("code"), await laptop.agent("echo")
            asking = asyncio.create_task(code.ask("echo", "why?", timeout=timeout))
            await (await take(echo)).done(reply="because")
            assert (await asking).body == "because"

    asyncio.run(scenario())


@pytest.mark.parametrize("timeout", ["soon", [1], b"5", True, 0, -1, float("nan"), float("inf"), 10**400])
def test_a_timeout_that_is_none_is_the_mistake_of_the_asker_and_harms_nobody(timeout: Any, home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            with pytest.raises(ValueError, match=r"^timeout"):
                await code.ask("code", "why?", timeout=timeout)
            await code.send("code", "still alive")
            assert [message.body for message in await code.poll()] == ["still alive"]

    asyncio.run(scenario())


def test_a_question_that_its_recipient_gave_up_on_fails_at_once(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            asking = asyncio.create_task(code.ask("browser@studio", "poison", timeout=3600))
            for _ in range(8):
                await (await take(browser)).nack(delay=0)
            async with asyncio.timeout(SOON):
                with pytest.raises(zmesh.MessageDead, match="8 deliveries"):
                    await asking

    asyncio.run(scenario())


def test_a_question_that_is_refused_fails_at_once(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            asking = asyncio.create_task(code.ask("browser@nowhere", "hello", timeout=3600))
            outbox = laptop.driver.core.node.outbox
            await until(lambda: any(message.committed for message in outbox.by_id.values()))
            await asyncio.sleep(0)
            (ident,) = outbox.by_id
            laptop.driver.observers[ident].progressed(Progress(ident, Sent.REFUSED, "bad-envelope: no", b"there"))
            async with asyncio.timeout(SOON):
                with pytest.raises(zmesh.MessageRefused, match=r"was refused .bad-envelope: no"):
                    await asking

    asyncio.run(scenario())


def test_a_question_that_is_handled_without_an_answer_says_so_in_time(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            asking = asyncio.create_task(code.ask("browser@studio", "why?", timeout=0.5))
            await (await take(browser)).done()
            loop = asyncio.get_running_loop()
            started = loop.time()
            with pytest.raises(zmesh.WaitTimeout, match="the question is handled"):
                await asking
            assert loop.time() - started < 0.75  # the whole wait has one timeout, not each part of it

    asyncio.run(scenario())


@pytest.mark.parametrize("timeout", [3600, None])
def test_a_question_that_is_handled_without_an_answer_fails_soon(timeout: float | None, home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            asking = asyncio.create_task(code.ask("browser@studio", "why?", timeout=timeout))
            message = await take(browser)
            await message.done()
            async with asyncio.timeout(SOON):
                with pytest.raises(zmesh.NoAnswer, match=r"browser@studio was done with the question.*to the inbox"):
                    await asking
            await message.reply("because, on second thoughts")
            assert (await take(code)).body == "because, on second thoughts"

    asyncio.run(scenario())


@pytest.mark.parametrize("before", [True, False], ids=["before done", "after done"])
def test_an_answer_that_is_sent_beside_the_end_of_the_question_is_its_answer(
    before: bool,  # noqa: FBT001
    home: Path,
) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            asking = asyncio.create_task(code.ask("browser@studio", "why?", timeout=SOON))
            message = await take(browser)
            steps: list[Callable[[], Awaitable[object]]] = [lambda: message.reply("because"), message.done]
            for step in steps if before else reversed(steps):
                await step()
            assert (await asking).body == "because"

    asyncio.run(scenario())


# --- the inbox ---


def test_whoever_stops_gives_back_what_it_has_not_seen(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            for n in range(100):
                code.send("code", n)
            async for message in code.inbox():
                assert message.body == 0
                await message.done()
                break
            async with aclosing(code.inbox(prefetch=5)) as messages:
                seen = [(message.body, message.attempt) async for message in _first(messages, 99)]
            assert seen == [(n, 1) for n in range(1, 100)]

    asyncio.run(scenario())


async def _first(messages: AsyncIterator[zmesh.Message], count: int) -> AsyncIterator[zmesh.Message]:
    async for message in messages:
        yield message
        await message.done()
        count -= 1
        if not count:
            return


def test_taking_one_at_a_time_keeps_the_order(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            for n in range(80):
                code.send("code", n)
            taken = []
            for _ in range(80):
                async for message in code.inbox():
                    taken.append((message.body, message.attempt))
                    await message.done()
                    break
            assert taken == [(n, 1) for n in range(80)]

    asyncio.run(scenario())


def test_after_a_restart_what_was_only_prefetched_comes_again(home: Path) -> None:
    async def started() -> None:
        async with new_peer("laptop") as laptop:
            code = await laptop.agent("code")
            for n in range(10):
                code.send("code", n)
            async for message in code.inbox():
                assert message.body == 0
                return  # unfinished

    async def finished() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            got = {}
            async for message in code.inbox():
                got[message.body] = message.attempt
                await message.done()
                if len(got) == 10:
                    break
            assert set(got) == set(range(10))
            assert got[0] == 2

    asyncio.run(started())
    asyncio.run(finished())


def test_a_loop_that_is_cancelled_while_it_waits_loses_nothing(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            for n in range(10):
                waiting = asyncio.create_task(next_of(browser))
                await asyncio.sleep(0)
                code.send("browser@studio", n)
                if n % 2:
                    await until(lambda: not browser._leased._waiting)  # noqa: SLF001 - delivered, and the loop has not run yet
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                if waiting.cancelled():
                    message = await take(browser)
                else:
                    message = waiting.result()
                assert (message.body, message.attempt) == (n, 1)
                await message.done()

    asyncio.run(scenario())


async def next_of(agent: zmesh.Agent) -> zmesh.Message:
    return await anext(agent.inbox())


def test_several_loops_share_a_mailbox_and_one_that_stops_leaves_the_others_running(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            taken: list[int] = []
            both = asyncio.Barrier(2)

            async def work(*, once: bool) -> None:
                async for message in code.inbox(prefetch=1):
                    if len(taken) < 2:
                        async with asyncio.timeout(SOON):
                            await both.wait()  # neither gets on unless the other has a message as well
                    taken.append(message.body)
                    await message.done()
                    if once or len(taken) >= 20:
                        return

            workers = [asyncio.create_task(work(once=once)) for once in (True, False)]
            for n in range(2):
                await code.send("code", n)
            await workers[0]
            for n in range(2, 20):
                await code.send("code", n)
            async with asyncio.timeout(SOON):
                await workers[1]
            assert sorted(taken) == list(range(20))

    asyncio.run(scenario())


def test_a_poll_beside_a_loop_does_not_stop_the_loop(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            reading = asyncio.create_task(texts(code.inbox(), 3))
            await asyncio.sleep(0)
            assert await code.poll(timeout=0.05) == []
            for n in range(3):
                await code.send("code", n)
            async with asyncio.timeout(SOON):
                assert await reading == [0, 1, 2]

    asyncio.run(scenario())


def test_a_loop_leases_no_more_than_it_was_told(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            for n in range(10):
                await code.send("code", n)
            mailbox = laptop.driver.core.node.inbox.mailboxes["code"]
            messages = code.inbox(prefetch=3)
            for left in (7, 6, 5):
                message = await anext(messages)
                assert sum(map(len, mailbox.ready)) >= left - 1
                await message.done()
            await messages.aclose()

    asyncio.run(scenario())


def test_what_is_taken_is_counted_in_messages_and_waited_for_in_seconds(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            receipt = await code.send("code", "hello")
            wrong: list[tuple[type[Exception], str, Callable[[], Awaitable[object]]]] = [
                (ValueError, "prefetch is at least 1, not 0", lambda: anext(code.inbox(prefetch=0))),
                (TypeError, "prefetch is a whole number, not 1.5", lambda: anext(code.inbox(prefetch=1.5))),  # type: ignore[arg-type]
                (ValueError, "most is at least 1, not 0", lambda: code.poll(0)),
                (ValueError, "most is at least 1, not -1", lambda: code.poll(-1)),
                (TypeError, "most is a whole number, not 'all'", lambda: code.poll("all")),  # type: ignore[arg-type]
                (ValueError, "timeout is a number of seconds, not nan", lambda: code.poll(timeout=float("nan"))),
                (ValueError, "timeout is a number of seconds, not nan", lambda: receipt.stored(float("nan"))),
                (ValueError, "timeout: 'soon' is no duration", lambda: receipt.handled("soon")),
                (ValueError, "timeout is a number of seconds", lambda: laptop.wait_for("code", timeout=[1])),  # type: ignore[arg-type]
            ]
            for error, text, call in wrong:
                with pytest.raises(error, match=text):
                    await call()
            with pytest.raises(TypeError, match="keep takes a message, not None"):
                code.keep(None)  # type: ignore[arg-type]
            assert [message.body for message in await code.poll(timeout="5s")] == ["hello"]

    asyncio.run(scenario())


def test_closing_the_peer_ends_every_wait(home: Path) -> None:
    async def scenario() -> None:
        laptop = new_peer("laptop", home)
        await laptop.start()
        code = await laptop.agent("code")
        idle = await laptop.agent("idle")
        waits: list[asyncio.Task[Any]] = [
            asyncio.create_task(next_of(code)),
            asyncio.create_task(idle.poll(timeout=None)),
            asyncio.create_task(code.ask("browser@nowhere", "anybody?", timeout=None)),
            asyncio.create_task(laptop.wait_for("browser@nowhere")),
        ]
        await until(lambda: len(laptop.driver.core.node.outbox.waiting) == 1)
        await laptop.close()
        async with asyncio.timeout(SOON):
            for wait in waits:
                with pytest.raises(zmesh.PeerClosed):
                    await wait
        verbs: list[Callable[[], Any]] = [
            lambda: code.send("code"), lambda: code.ask("code"), code.poll, lambda: next_of(code), code.detach,
        ]  # fmt: skip
        for verb in verbs:
            with pytest.raises(zmesh.PeerClosed, match="the peer was closed"):
                await verb()

    asyncio.run(scenario())


# --- polling ---


def test_polled_messages_are_done_at_the_next_poll(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            receipts = [await code.send("code", n) for n in range(6)]
            first = await code.poll(most=4)
            assert [message.body for message in first] == [0, 1, 2, 3]
            code.keep(first[0])
            code.keep(first[0])  # a second time changes nothing
            await first[1].nack(delay=0)
            await first[2].done()
            second = await code.poll()
            assert sorted(message.body for message in second) == [1, 4, 5]
            assert await code.poll() == []
            states = [receipt.state for receipt in receipts]
            assert states == ["stored", "handled", "handled", "handled", "handled", "handled"]
            assert not first[0].finished
            await first[0].done()
            await receipts[0].handled(timeout=0)

    asyncio.run(scenario())


def test_a_poll_waits_as_long_as_it_is_told(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            loop = asyncio.get_running_loop()
            started = loop.time()
            assert await browser.poll() == []
            assert await browser.poll(timeout=0.1) == []
            assert 0.1 <= loop.time() - started < 2
            waiting = asyncio.create_task(browser.poll(timeout=None))
            await code.send("browser@studio", "hello")
            assert [message.body for message in await waiting] == ["hello"]

    asyncio.run(scenario())


def test_a_poll_takes_all_that_is_there_at_once(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            for n in range(150):
                await code.send("code", n)
            first = await code.poll()
            second = await code.poll()
            assert [message.body for message in (*first, *second)] == list(range(150))
            assert len(first) == 100

    asyncio.run(scenario())


def test_a_poll_that_finds_only_what_has_expired_is_over_at_once(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            receipt = await code.send("code", "too late", ttl=0.05)
            with pytest.raises(zmesh.MessageExpired):
                await receipt.handled(timeout=SOON)
            async with asyncio.timeout(1):
                assert await code.poll() == []

    asyncio.run(scenario())


def test_unfinished_polled_messages_come_again_after_a_restart(home: Path) -> None:
    async def polled() -> None:
        async with new_peer("laptop") as laptop:
            code = await laptop.agent("code")
            await code.send("code", "hello")
            assert len(await code.poll()) == 1

    async def again() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            (message,) = await code.poll(timeout=SOON)
            assert (message.body, message.attempt) == ("hello", 2)

    asyncio.run(polled())
    asyncio.run(again())


# --- detaching ---


def test_a_detached_agent_takes_nothing_and_its_leases_return(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            for n in range(5):
                await code.send("code", n)
            taken = await take(code)
            working = asyncio.create_task(work(code))
            await until(lambda: busy)
            idle = await laptop.agent("idle")
            reading = asyncio.create_task(texts(idle.inbox(), 1))
            await asyncio.sleep(0)
            await idle.detach()
            assert await reading == []  # the loop has ended
            await code.detach()
            for message in (taken, *busy):
                with pytest.raises(zmesh.LeaseLost):
                    message.done()
            working.cancel()
            await code.send("code", 5)  # it can still send
            again = await laptop.agent("code")
            got = {}
            async for message in again.inbox():
                got[message.body] = message.attempt
                await message.done()
                if len(got) == 6:
                    break
            assert got == {0: 2, 1: 2, 2: 1, 3: 1, 4: 1, 5: 1}  # only what somebody had looked at counts

    busy: list[zmesh.Message] = []

    async def work(code: zmesh.Agent) -> None:
        async for message in code.inbox():
            busy.append(message)
            await asyncio.Event().wait()

    asyncio.run(scenario())


def test_a_loop_that_detaches_its_own_agent_ends(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            for n in range(3):
                await code.send("code", n)
            async for message in code.inbox():
                assert message.body == 0
                await message.done()
                await code.detach()
            assert (await take(code)).body == 1

    asyncio.run(scenario())


def test_a_detached_agent_can_ask(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            await code.detach()
            asking = asyncio.create_task(code.ask("browser@studio", "why?", timeout=SOON))
            await (await take(browser)).done(reply="because")
            assert (await asking).body == "because"

    asyncio.run(scenario())


# --- a disk that fails ---


class Disk:
    """What becomes of COMMIT: an SQLite result code to fail with, or 0."""

    code = 0

    def connect(self, path: Path) -> Connection:
        return _Failing(sqlite_connect(path), path, self)


class _Failing:
    def __init__(self, real: Connection, path: Path, disk: Disk) -> None:
        self._real, self._path, self._disk = real, path, disk

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    @property
    def total_changes(self) -> int:
        return self._real.total_changes

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        if sql == "COMMIT" and self._disk.code:
            raise explain(self._disk.code, "as the test wants", self._path)
        return self._real.execute(sql, params)

    def close(self) -> None:
        self._real.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk under every store that is opened from now on."""
    disk = Disk()
    monkeypatch.setattr(peer_module, "SqliteStore", functools.partial(SqliteStore, connect=disk.connect))
    return disk


FULL, BROKEN = 13, 10


@pytest.mark.parametrize(("code", "error"), [(FULL, zmesh.StoreFull), (BROKEN, zmesh.StoreError)])
def test_what_cannot_be_written_is_an_error_of_the_awaitable(
    code: int, error: type[zmesh.StoreError], home: Path, disk: Disk
) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (sender, browser):
            disk.code = code
            awaitables: list[Callable[[], Any]] = [
                lambda: sender.send("browser@studio", "lost"),
                lambda: sender.send("sender@nowhere", "lost"),
                lambda: sender.send("code@laptop", "lost"),
                lambda: sender.ask("browser@studio", "lost", timeout=SOON),
            ]
            for awaitable in awaitables:
                with pytest.raises(error, match=r"nothing was stored: .*store.db") as caught:
                    await awaitable()
                assert type(caught.value) is error
            disk.code = 0
            receipt = await sender.send("browser@studio", "kept")
            await receipt.stored(timeout=SOON)
            (message,) = await browser.poll(timeout=SOON)
            assert message.body == "kept"

    asyncio.run(scenario())


def test_what_is_not_finished_on_disk_is_not_finished(home: Path, disk: Disk) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            receipt = await code.send("code", "work", type="ask")
            message = await take(code)
            attempts: list[Callable[[], Awaitable[object]]] = [
                message.done,
                lambda: message.done(reply="done"),
                lambda: message.reply("half way"),
            ]
            for attempt in attempts:
                disk.code = FULL
                with pytest.raises(zmesh.StoreFull):
                    await attempt()
                assert not message.finished
                disk.code = 0
            assert receipt.state == "stored"
            await message.done(reply="done")
            await receipt.handled(timeout=SOON)
            (answer,) = await code.poll(timeout=SOON)
            assert answer.body == "done"

    asyncio.run(scenario())


def test_what_cannot_be_given_back_on_disk_comes_again_all_the_same(home: Path, disk: Disk) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            await code.send("code", "work")
            message = await take(code)
            disk.code = FULL
            with pytest.raises(zmesh.StoreFull):
                await message.nack(delay=0)
            disk.code = 0
            assert (await take(code)).id == message.id

    asyncio.run(scenario())


def test_a_poll_that_cannot_finish_the_last_one_can_be_repeated(home: Path, disk: Disk) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            receipts = [await code.send("code", n) for n in range(3)]
            assert len(await code.poll()) == 3
            disk.code = FULL
            with pytest.raises(zmesh.StoreFull):
                await code.poll()
            disk.code = 0
            assert await code.poll() == []
            for receipt in receipts:
                await receipt.handled(timeout=SOON)

    asyncio.run(scenario())


def test_what_nobody_awaits_fails_in_the_log(home: Path, disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            disk.code = FULL
            code.send("code", "lost")
            await until(lambda: "the disk is full" in caplog.text)
            disk.code = 0
            await code.send("code", "kept")

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
