"""What a peer tells another one of a message: real peers, and only to who has sent or received it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.conftest import new_peer, take, two_agents
from tests.peer.test_grants import two_devices
from tests.waiting import until
from zmesh.peer import tracing as module
from zmesh.protocol.commands import Share
from zmesh.protocol.effects import Inquired
from zmesh.protocol.frames import Step, Trace, Traced

SOON = 20.0


def peer_of(agent: zmesh.Agent) -> tuple[module.Tracing, bytes]:
    """What asks for the peer of an agent, and the id of its store."""
    driver = agent.driver
    tracing = driver.on_inquired.__self__  # type: ignore[attr-defined]
    assert isinstance(tracing, module.Tracing)
    return tracing, driver.core.node.store


async def told(asker: zmesh.Agent, other: zmesh.Agent, ident: bytes, *, sent: bool) -> Traced:
    """What the peer of `other` says of a message to the peer of `asker`."""
    answer = await peer_of(asker)[0].ask(peer_of(other)[1], ident, sent=sent)
    assert answer is not None
    assert 0 <= answer.within < SOON
    return answer.frame


def test_each_end_tells_the_other_one_where_a_message_stands(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            receipt = await code.send("browser@studio", "x")
            await receipt.stored(SOON)
            there = await told(code, browser, receipt.id, sent=True)
            assert (there.state, there.attempts, [step.what for step in there.steps]) == ("stored", 0, ["stored"])
            message = await take(browser)
            there = await told(code, browser, receipt.id, sent=True)
            assert (there.state, there.attempts) == ("leased", 1)
            back = await told(browser, code, receipt.id, sent=False)
            assert (back.state, back.attempts) == ("stored", 0)
            await message.done()
            await receipt.handled(SOON)
            assert (await told(code, browser, receipt.id, sent=True)).state == "handled"
            assert (await told(browser, code, receipt.id, sent=False)).state == "handled"
            assert await told(browser, code, receipt.id, sent=True) == Traced(receipt.id, sent=True)

    asyncio.run(scenario())


def test_what_a_program_remembers_is_told_with_its_age_and_in_order(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            receipt = await code.send("browser@studio", "x")
            await receipt.stored(SOON)
            store = peer_of(code)[1]
            peer_of(browser)[0].seen = lambda ident, stores: (
                [("given back", 0.25), ("taken", 0.5)] * ((ident, stores) == (receipt.id, (store,)))
            )
            there = await told(code, browser, receipt.id, sent=True)
            assert {Step("taken", 500), Step("given-back", 250)} < set(there.steps)
            ages = [step.age_ms for step in there.steps]
            assert ages == sorted(ages, reverse=True)

    asyncio.run(scenario())


def test_a_third_device_is_told_nothing_although_it_knows_the_id(home: Path) -> None:
    async def scenario() -> None:
        async with two_devices(home) as (code, browser, _, studio):
            helper = await studio.agent("helper")
            inside = await browser.send("helper@studio", "secret")
            await take(helper)
            assert await told(code, browser, inside.id, sent=True) == Traced(inside.id, sent=True)
            assert await told(code, browser, inside.id, sent=False) == Traced(inside.id, sent=False)
            ours = await code.send("browser@studio", "x")
            await ours.stored(SOON)
            assert (await told(code, browser, ours.id, sent=True)).state == "stored"

    asyncio.run(scenario())


def test_a_peer_that_does_not_know_the_question_is_waited_for_no_longer_than_it_may(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRACE_PATIENCE", 0.2)
    monkeypatch.setattr(module, "TRACE_AGAIN", 0.1)

    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            heard: list[Inquired] = []
            browser.driver.on_inquired = heard.append
            tracing, _ = peer_of(code)
            store = browser.driver.core.node.store
            assert await tracing.ask(store, bytes(15) + b"x", sent=True) is None
            assert len(heard) == 2, "it is asked again once"
            assert not tracing._asked  # noqa: SLF001 - nothing is left behind
            answer = Traced(bytes(15) + b"x", sent=True, state="stored")
            browser.driver.tell(Share(code.driver.core.node.store, answer))  # too late
            late = asyncio.gather(*(tracing.ask(store, bytes(15) + b"y", sent=True) for _ in range(2)))
            await until(lambda: len(heard) == 4, what="both questions")
            browser.driver.tell(Share(code.driver.core.node.store, Traced(bytes(15) + b"y", sent=True, state="dead")))
            assert [each.frame.state if each else "" for each in await late] == ["dead", "dead"]

    asyncio.run(scenario())


def test_no_more_are_looked_up_at_a_time_than_may_be(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRACES_ANSWERED", 1)

    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            tracing, store = laptop.tracing, laptop.driver.core.node.store
            looked: list[object] = []
            query = laptop.store.query

            def noted(fn: Any) -> Any:
                looked.append(fn)
                return query(fn)

            monkeypatch.setattr(laptop.store, "query", noted)
            for _ in range(3):
                laptop.driver.on_inquired(Inquired(store, "d" * 32, Trace(bytes(16), sent=True)))
            assert len(looked) == 1
            await until(lambda: not tracing._answering, what="the look")  # noqa: SLF001
            laptop.driver.on_inquired(Inquired(store, "d" * 32, Trace(bytes(16), sent=True)))
            assert len(looked) == 2

    asyncio.run(scenario())
