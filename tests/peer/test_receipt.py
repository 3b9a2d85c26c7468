"""Receipts: what was observed and nothing more, for as long as the store remembers the message."""

import asyncio
import gc
from pathlib import Path

import pytest

import zmesh
from tests.conftest import new_peer, take, two_agents
from tests.waiting import until
from zmesh.protocol.effects import Progress
from zmesh.protocol.states import Sent

SOON = 20.0
THERE, ELSEWHERE = b"the store there.", b"another store..."
NO_ID = bytes(16)


def tell(receipt: zmesh.Receipt, state: Sent, detail: str = "", dest: bytes = THERE) -> None:
    """Tell a receipt what the core would."""
    receipt.progressed(Progress(receipt.id, state, detail, dest))


async def waiting_receipt(peer: zmesh.Peer) -> zmesh.Receipt:
    """The receipt of a message whose peer never comes."""
    code = await peer.agent("code")
    return await code.send("browser@nowhere", "hello")


def test_a_message_is_stored_and_then_handled(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            receipt = await code.send("browser@studio", "hello")
            assert receipt.address == "browser@studio"
            assert receipt.warning == ""
            assert len(receipt.id) == 16
            await receipt.stored(timeout=SOON)
            assert receipt.state == "stored"
            with pytest.raises(zmesh.WaitTimeout, match=r"browser@studio is stored, not handled, after 0\.01 s"):
                await receipt.handled(timeout=0.01)
            await (await take(browser)).done()
            await receipt.handled(timeout=SOON)
            assert receipt.state == "handled"
            await receipt.stored(timeout=0)
            assert repr(receipt) == f"<Receipt {receipt.id.hex()[:12]} to browser@studio: handled>"

    asyncio.run(scenario())


def test_it_knows_everything_after_a_restart_of_both(home: Path) -> None:
    async def sent() -> bytes:
        async with new_peer("laptop") as laptop:
            code = await laptop.agent("code")
            receipt = await code.send("browser@studio", "hello")
            assert receipt.state == "waiting"
            return receipt.id

    async def stored(ident: bytes) -> None:
        async with two_agents() as (code, _):
            receipt = await code.receipt(ident)
            assert receipt.address == "browser@studio"
            await receipt.stored(timeout=SOON)

    async def handled(ident: bytes) -> None:
        async with two_agents() as (code, browser):
            receipt = await code.receipt(ident)
            assert receipt.state == "stored"
            await (await take(browser)).done()
            await receipt.handled(timeout=SOON)

    async def remembered(ident: bytes) -> None:
        async with new_peer("laptop", home) as laptop:
            other = await laptop.agent("other")
            receipt = await other.receipt(ident)
            assert receipt.state == "handled"
            await receipt.stored(timeout=0)
            await receipt.handled(timeout=0)

    ident = asyncio.run(sent())
    for life in (stored, handled, remembered):
        asyncio.run(life(ident))


def test_a_message_that_is_still_on_its_way_has_one_receipt(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            receipt = await waiting_receipt(laptop)
            code = await laptop.agent("code")
            assert await code.receipt(receipt.id) is receipt
            ident = receipt.id
            del receipt
            gc.collect()
            again = await code.receipt(ident)
            assert again.state == "waiting"

    asyncio.run(scenario())


def test_a_message_nobody_remembers_has_none(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            with pytest.raises(zmesh.UnknownMessage, match=f"^no message {NO_ID.hex()} is remembered") as caught:
                await code.receipt(NO_ID)
            assert isinstance(caught.value, KeyError)
            assert isinstance(caught.value, zmesh.MeshError)
            for wrong in ("ab", None, 7, NO_ID.hex()):
                with pytest.raises(TypeError, match="ident is a message id of 16 bytes, not"):
                    await code.receipt(wrong)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="ident is a message id of 16 bytes, not b''"):
                await code.receipt(b"")
        for ident in (NO_ID, bytes(range(16))):
            with pytest.raises(zmesh.PeerClosed, match="the peer was closed"):
                await code.receipt(ident)

    asyncio.run(scenario())


def test_waiting_for_a_state_ends_in_time_and_can_be_repeated(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            receipt = await waiting_receipt(laptop)
            for _ in range(3):
                with pytest.raises(zmesh.WaitTimeout, match=r"is waiting, not stored, after 0.01 s.*goes on being"):
                    await receipt.stored(timeout=0.01)
            with pytest.raises(TimeoutError):
                await receipt.handled(timeout=0)
            assert receipt._waiters == []  # noqa: SLF001 - waiting in vain must leave nothing behind

    asyncio.run(scenario())


def test_many_may_wait_for_one_message(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            receipt = await waiting_receipt(laptop)
            waits = [asyncio.create_task(receipt.stored(SOON)) for _ in range(3)]
            waits += [asyncio.create_task(receipt.handled(SOON)) for _ in range(3)]
            await asyncio.sleep(0)
            waits[0].cancel()
            await asyncio.sleep(0)
            tell(receipt, Sent.STORED)
            tell(receipt, Sent.HANDLED)
            results = await asyncio.gather(*waits, return_exceptions=True)
            assert isinstance(results[0], asyncio.CancelledError)
            assert results[1:] == [None] * 5

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("state", "error", "text"),
    [
        (Sent.EXPIRED, zmesh.MessageExpired, r"expired.*longer ttl.* \(why\)"),
        (Sent.REFUSED, zmesh.MessageRefused, r"was refused \(why\)"),
        (Sent.LOST, zmesh.MessageLost, r"may be lost.*ask its recipient.* \(why\)"),
        (Sent.DEAD, zmesh.MessageDead, r"is dead.*`zmesh mailbox replay` there delivers it again \(why\)"),
    ],
)
def test_an_end_that_nobody_wished_is_raised_at_once(
    state: Sent, error: type[Exception], text: str, home: Path
) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            receipt = await waiting_receipt(laptop)
            waiting = asyncio.create_task(receipt.handled())
            await asyncio.sleep(0)
            tell(receipt, state, "why")
            with pytest.raises(error, match=f"browser@nowhere {text}"):
                await waiting
            assert receipt.detail == "why"
            if state is Sent.DEAD:
                await receipt.stored(timeout=0)  # it was, before it died
            else:
                with pytest.raises(error):
                    await receipt.stored(timeout=0)

    asyncio.run(scenario())


def test_only_the_store_it_went_to_can_say_what_became_of_it(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            receipt = await waiting_receipt(laptop)
            tell(receipt, Sent.STORED)
            tell(receipt, Sent.HANDLED, dest=ELSEWHERE)
            with pytest.raises(zmesh.WaitTimeout, match="not handled"):
                await receipt.handled(timeout=0)
            tell(receipt, Sent.HANDLED)
            await receipt.handled(timeout=0)

    asyncio.run(scenario())


def test_nothing_undoes_handled(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            receipt = await waiting_receipt(laptop)
            for state in (Sent.STORED, Sent.HANDLED, Sent.STORED, Sent.LOST, Sent.DEAD):
                tell(receipt, state)
            await receipt.handled(timeout=0)

    asyncio.run(scenario())


def test_cancelling_what_nobody_took_ends_it(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            receipt = await waiting_receipt(laptop)
            receipt.cancel()
            with pytest.raises(zmesh.MessageExpired, match=r"to browser@nowhere was cancelled before anybody took it$"):
                await receipt.stored(timeout=SOON)
            assert receipt.state == "expired"
            receipt.cancel()  # again: it has ended, nothing happens
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            again = await code.receipt(receipt.id)
            assert (again.state, again.detail) == ("expired", "cancelled")

    asyncio.run(scenario())


def test_cancelling_what_lies_untouched_at_the_other_end_ends_it_there_or_not_at_all(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            receipt = await code.send("browser@studio", "hello")
            await receipt.stored(timeout=SOON)
            receipt.cancel()  # too late: it is stored
            message = await take(browser)
            await message.done()
            await receipt.handled(timeout=SOON)

    asyncio.run(scenario())


def test_a_message_that_is_given_back_eight_times_is_dead(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            receipt = await code.send("browser@studio", "poison")
            for attempt in range(1, 9):
                message = await take(browser)
                assert message.attempt == attempt
                await message.nack(delay=0)
            with pytest.raises(zmesh.MessageDead, match="given up after 8 deliveries"):
                await receipt.handled(timeout=SOON)
            assert receipt.state == "dead"
            assert await browser.poll() == []

    asyncio.run(scenario())


def test_a_ttl_that_ends_before_anybody_took_it(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            here = await code.send("browser@nowhere", "hello", ttl=0.05)
            there = await code.send("browser@studio", "hello", ttl="300ms")
            await there.stored(timeout=SOON)
            with pytest.raises(zmesh.MessageExpired, match="the ttl ended"):
                await here.stored(timeout=SOON)
            with pytest.raises(zmesh.MessageExpired, match="nobody took it"):
                await there.handled(timeout=SOON)
            assert (here.state, there.state) == ("expired", "expired")
            assert await browser.poll() == []

    asyncio.run(scenario())


def test_closing_the_peer_ends_every_wait(home: Path) -> None:
    async def scenario() -> None:
        laptop = new_peer("laptop", home)
        await laptop.start()
        receipt = await waiting_receipt(laptop)
        waits = [asyncio.create_task(wait) for wait in (receipt.stored(), receipt.handled(SOON))]
        await asyncio.sleep(0)
        await laptop.close()
        for wait in waits:
            with pytest.raises(zmesh.PeerClosed, match="look at the receipt"):
                await wait
        assert receipt.state == "waiting"
        for call in (receipt.stored, receipt.handled):
            with pytest.raises(zmesh.PeerClosed):
                await call()
        with pytest.raises(zmesh.PeerClosed):
            receipt.cancel()

    asyncio.run(scenario())


def test_news_that_come_while_the_store_is_asked_win(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            sent = await waiting_receipt(laptop)
            ident = sent.id
            driver = laptop.driver
            del sent
            gc.collect()
            code = await laptop.agent("code")
            asked = asyncio.create_task(code.receipt(ident))
            await until(lambda: ident in driver.observers)
            observer = driver.observers[ident]
            observer.progressed(Progress(ident, Sent.STORED, "", THERE))
            del observer
            receipt = await asked
            await receipt.stored(timeout=0)
            assert receipt.address == "browser@nowhere"

    asyncio.run(scenario())


@pytest.mark.parametrize("end", [Sent.EXPIRED, Sent.REFUSED])
def test_a_recipient_that_claims_to_have_replayed_what_it_never_had_is_not_believed(end: Sent, home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            receipt = await waiting_receipt(laptop)
            tell(receipt, end, "why")
            tell(receipt, Sent.STORED)  # as `replayed` is told
            assert (receipt._state, receipt._detail) == (end, "why")  # noqa: SLF001 - the core's own state goes before
            with pytest.raises(zmesh.MeshError, match="why"):
                await receipt.stored(timeout=0)

    asyncio.run(scenario())
