"""Questions that wait for their answer: `Agent.ask`.

An answer comes past the inbox, and only from the store that was asked. It must never be lost: one that nobody waits for
any more goes to the inbox.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from zmesh.errors import MeshError, MessageExpired, NoAnswer, WaitTimeout
from zmesh.peer.message import Message, reply_id
from zmesh.peer.receipt import Receipt
from zmesh.protocol.commands import Expect, Send, Unexpect
from zmesh.protocol.effects import Delivery
from zmesh.protocol.states import Sent

if TYPE_CHECKING:
    from zmesh.peer.agent import Agent
    from zmesh.peer.sqlite_store import SqliteStore

LAST_NEWS: Final = 0.5  # seconds in which it becomes known that a question expired just when its asker gave up
GRACE: Final = 1.0  # seconds by which an answer may be later than the news that its question was handled


class Questions:
    """The questions of one agent."""

    def __init__(self, agent: "Agent", holder: int, hand_over: Callable[[Delivery], None]) -> None:
        """Begin with none.

        Args:
            agent: Whose they are.
            holder: As in `Expect`.
            hand_over: Brings what nobody waits for to the inbox.
        """
        self._agent, self._holder, self._hand_over = agent, holder, hand_over
        self._driver = agent.driver
        self._open: dict[bytes, tuple[Receipt, asyncio.Future[Delivery]]] = {}

    def answered(self, delivery: Delivery) -> bool:
        """Take a delivery if it is the answer to an open question; say whether it was."""
        question = delivery.envelope.reply_to
        receipt, answer = self._open.get(question, (None, None))
        if receipt is None or answer is None or answer.done():
            return False
        if not receipt.awaits(delivery.source):  # somebody who was not asked: the answer is still to come
            self._driver.tell(Expect(self._holder, question))
            return False
        answer.set_result(delivery)
        return True

    async def ask(self, command: Send, known: "SqliteStore | None" = None, *, finish: bool = True) -> Message:
        """Send a question and return its answer; its ttl is how long to wait. Errors as in `Agent.ask`.

        Args:
            command: The question.
            known: The store, if it may have been asked already, and have got its answer.
            finish: Finish the answer.
        """
        driver = self._driver
        answer: asyncio.Future[Delivery] = driver.promise()
        receipt = Receipt(driver, command.id, command.address, Sent.QUEUED)
        self._open[command.id] = receipt, answer
        message: Message | None = None
        try:
            if known is not None and (row := await asyncio.wrap_future(known.receipt(command.id))) is not None:
                receipt.recall(row)  # first: an answer that is here already is compared with who was asked
            early = reply_id(driver.core.node.store, command.id, 0) if known is not None else b""
            driver.tell(Expect(self._holder, command.id, early))
            receipt.settle(await driver.submit(command.ticket, command))
            message = Message(self._agent, await self._wait(answer, receipt, command.ttl))
            if finish:
                await message.done()
        except BaseException:
            if answer.done() and not answer.exception() and (message is None or not message.finished):
                self._hand_over(answer.result())  # it came, and nobody has seen it
            raise
        finally:
            del self._open[command.id]
            with suppress(MeshError):
                driver.tell(Unexpect(command.id))
        return message

    async def _wait(
        self,
        answer: "asyncio.Future[Delivery]",
        receipt: Receipt,
        timeout: float | None,  # noqa: ASYNC109 - the end of one wait or the other, not of all
    ) -> Delivery:
        """Wait for the answer, or for the news that there will be none."""
        clock = asyncio.get_running_loop().time
        end = None if timeout is None else clock() + timeout
        handled = asyncio.ensure_future(receipt.handled())
        handled.add_done_callback(_seen)
        either: set[asyncio.Future[Any]] = {answer, handled}
        grace = 0.0
        try:
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and not handled.done() and receipt.state != "stored":
                await asyncio.wait(either, timeout=LAST_NEWS, return_when=asyncio.FIRST_COMPLETED)
            if handled.done() and not answer.done():
                _see_why(handled, receipt, timeout)
                # Handled: an answer was queued with that, or there is none; it may still be on its way.
                grace = GRACE if end is None else min(GRACE, max(0.0, end - clock()))
                await asyncio.wait({answer}, timeout=grace)
            if answer.done():
                return answer.result()
        finally:
            handled.cancel()
        if grace == GRACE:
            raise NoAnswer(
                f"{receipt.address} was done with the question, and sent no answer with that; "
                "one that comes later goes to the inbox"
            )
        raise WaitTimeout(
            f"no answer from {receipt.address} within {timeout:g} s: the question is {receipt.state}; "
            "an answer that comes later goes to the inbox"
        )


def _see_why(handled: "asyncio.Future[None]", receipt: Receipt, timeout: float | None) -> None:
    """Raise what ended the question, unless it was handled."""
    try:
        handled.result()
    except MessageExpired as error:
        if timeout is None:  # then somebody has cancelled it
            raise
        raise WaitTimeout(
            f"nobody took the question to {receipt.address} within {timeout:g} s: it has expired, and will not be "
            "delivered. Ask again with a longer timeout, or see why nobody is there"
        ) from error


def _seen(task: "asyncio.Future[Any]") -> None:
    """Take note of how a task ended whose result may not be needed any more."""
    if not task.cancelled():
        task.exception()
