"""An agent: one mailbox of this peer, and the verbs it has."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, Final

from zmesh.errors import LeaseLost, StoreError, UnknownAgent
from zmesh.peer.arguments import (
    PriorityName,
    StatusName,
    brief,
    checked_address,
    checked_count,
    checked_id,
    checked_id_or_none,
    checked_priority,
    checked_status,
    checked_type,
)
from zmesh.peer.body import pack_body
from zmesh.peer.duration import parse_timeout, parse_ttl
from zmesh.peer.leased_ahead import LeasedAhead
from zmesh.peer.message import TIME_BYTES, Message
from zmesh.peer.question import Questions
from zmesh.peer.receipt import Receipt, recalled
from zmesh.protocol.bounds import DEFAULT_TTL, ID_BYTES
from zmesh.protocol.commands import Attach, Detach, Reclaim, Send, SetStatus
from zmesh.protocol.effects import Delivery, Settled
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Sent

if TYPE_CHECKING:
    from zmesh.peer.driver import Driver
    from zmesh.peer.sqlite_store import ReceiptRow, SqliteStore

PREFETCH: Final = 256  # messages an inbox loop leases ahead: the fewer commits for leases, the more for messages


class Agent:
    """A mailbox of this peer.

    Attributes:
        name: The mailbox.
        address: `agent@peer`, as others write it.
        driver: The peer's driver.
    """

    def __init__(
        self, name: str, peer: str, driver: "Driver", store: "SqliteStore", *, reach: str = "program", here: bool = True
    ) -> None:
        self.name = name
        self.address = f"{name}@{peer}"
        self.driver = driver
        self._store = store
        self._holder = driver.number()
        self._reach = reach
        self._attached = False
        self._said = ""
        self._detached = 0  # times
        self._leased = LeasedAhead(name, self._holder, driver, self._attach)
        self._questions = Questions(self, self._holder, self._leased.hand_over)
        self._polled: list[Message] = []
        if here:
            self._attach()

    def __repr__(self) -> str:
        return f"<Agent {self.address}>"

    # --- sending ---

    def send(
        self,
        to: str,
        body: Any = None,
        *,
        type: str = "message",  # noqa: A002 - the public name
        priority: PriorityName = "normal",
        ttl: float | str | None = DEFAULT_TTL,
        thread: bytes | None = None,
        reply_to: bytes | None = None,
        strict: bool = False,
    ) -> Awaitable[Receipt]:
        """Send a message.

        Args:
            to: `agent@peer`, or `agent` when only one peer has it.
            body: Any msgpack value, or bytes.
            type: What kind of message it is; 1 to 63 characters.
            priority: critical, high, normal, low or bulk; order is kept within each.
            ttl: Seconds, or "30s", "15m", "2h", "7d"; None for ever. How long it may wait for somebody to take it.
            thread: Id of the conversation it belongs to, 16 bytes; None for none.
            reply_to: Id of the message it answers, 16 bytes; None for none.
            strict: Refuse to wait for a mailbox that is not there yet.

        Returns:
            Awaitable of the receipt, once the message is on this machine's disk. The message goes out even if nobody
            awaits it. It is no coroutine: `asyncio.gather` takes it, `TaskGroup.create_task` does not.

        Raises:
            AddressError, UnknownAgent, AmbiguousAddress: It is not clear where the message should go.
            BodyError, BodyTooLarge, TypeError, ValueError: It cannot be sent as it is.
            MeshFull: Too much waits for that peer already.
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
            StoreError: It could not be written to this machine's disk. The awaitable raises this, the call the others.
        """
        return self.post(
            to,
            body,
            type=type,
            priority=checked_priority(priority),
            ttl=parse_ttl(ttl),
            thread=checked_id_or_none(thread, "thread"),
            reply_to=checked_id_or_none(reply_to, "reply_to"),
            strict=strict,
        )

    def post(self, to: str, body: Any, **properties: Any) -> "asyncio.Future[Receipt]":
        """Send what `compose` makes of the arguments."""
        command = self.compose(to, body, **properties)
        known = self.driver.observers.get(command.id) if "ident" in properties else None  # it may be sent again
        receipt = known if isinstance(known, Receipt) else Receipt(self.driver, command.id, to, Sent.QUEUED)
        answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

        def on_disk(settled: Settled) -> None:
            if "ident" in properties and not receipt.known:  # then the store knows how it got on
                self._recall(receipt, settled, answer)
                return
            receipt.settle(settled)
            answer.set_result(receipt)

        try:
            self.driver.submit_then(command.ticket, command, on_disk, answer)
        except UnknownAgent as error:
            raise self._with_way_out(error, to) from None
        return answer

    def _with_way_out(self, error: UnknownAgent, to: str) -> UnknownAgent:
        """Add to the error what else the sender can do."""
        if "@" in to:  # it was to be strict
            return UnknownAgent(
                f"{error}: wait for it with `Peer.wait_for`, or send without `strict` and the message waits"
            )
        here = self.driver.core.node.name
        return UnknownAgent(f"{error}, or {to}@{here} for one of this machine: the message then waits for its mailbox")

    def _recall(self, receipt: Receipt, settled: Settled, answer: "asyncio.Future[Receipt]") -> None:
        def told(row: "asyncio.Future[ReceiptRow | None]") -> None:
            if not row.cancelled() and row.exception() is None and (known := row.result()) is not None:
                receipt.recall(known)
            receipt.settle(settled)
            if not answer.done():
                answer.set_result(receipt)

        try:
            asyncio.wrap_future(self._store.receipt(receipt.id)).add_done_callback(told)
        except StoreError:  # it is being closed; the message is on disk all the same
            receipt.settle(settled)
            answer.set_result(receipt)

    def compose(
        self,
        to: str,
        body: Any,
        *,
        ident: bytes | None = None,
        type: str = "message",  # noqa: A002 - the public name
        priority: Priority = Priority.NORMAL,
        ttl: float | None = DEFAULT_TTL,
        thread: bytes = b"",
        reply_to: bytes = b"",
        strict: bool = False,
    ) -> Send:
        """Make the command that sends a message; arguments as in `send`, and their errors."""
        self.driver.check()
        checked_address(to)
        checked_type(type)
        packed_body, packed = pack_body(body)
        now = int(time.time() * 1000)
        ident = ident or now.to_bytes(TIME_BYTES, "big") + self.driver.entropy.token(ID_BYTES - TIME_BYTES)
        return Send(
            self.driver.number(), ident, to, self.name, priority, ttl, type, thread, reply_to, now, packed,
            packed_body, strict,
        )  # fmt: skip

    async def ask(
        self,
        to: str,
        body: Any = None,
        *,
        timeout: float | str | None = 60.0,  # noqa: ASYNC109 - the public name
        type: str = "ask",  # noqa: A002 - the public name
        priority: PriorityName = "normal",
        strict: bool = False,
    ) -> Message:
        """Send a message and wait for its answer.

        Args:
            to: As in `send`.
            body: As in `send`.
            timeout: How long to wait: seconds, or "30s", "15m"; None for ever. It is also the ttl of the question.
            type: As in `send`.
            priority: As in `send`.
            strict: As in `send`.

        Returns:
            The answer, finished already.

        Raises:
            WaitTimeout: The time is over. The question has expired, when nobody had taken it; else an answer may
                still come, and goes to the inbox.
            NoAnswer: The question was finished without an answer, and for a second none came; one that somebody sends
                later all the same goes to the inbox.
            MessageRefused, MessageDead, MessageLost: There will be none.
            PeerClosed: The peer was closed meanwhile; an answer that comes later goes to the inbox.
            The errors of `send`, those of its awaitable too.
        """
        ttl = parse_ttl(timeout, "timeout")
        return await self.ask_as(None, to, body, type=type, priority=priority, ttl=ttl, strict=strict)

    async def ask_as(
        self,
        ident: bytes | None,
        to: str,
        body: Any,
        *,
        type: str,  # noqa: A002 - the public name
        priority: PriorityName,
        ttl: float | None,
        strict: bool,
        again: bool = False,
        finish: bool = True,
    ) -> Message:
        """Ask as `ask` does, under an id of the caller's.

        Args:
            ident: The question's id; None for a new one.
            to: As in `ask`.
            body: As in `ask`.
            type: As in `ask`.
            priority: As in `ask`.
            ttl: Seconds to wait; None for ever.
            strict: As in `ask`.
            again: The question may have been asked before, by a process that has ended: what is known of it counts,
                its answer too.
            finish: Finish the answer; else it is leased to this agent until it is done.
        """
        checked = checked_priority(priority)
        command = self.compose(to, body, ident=ident, type=type, priority=checked, ttl=ttl, strict=strict)
        self._attach()
        try:
            return await self._questions.ask(command, self._store if again else None, finish=finish)
        except UnknownAgent as error:
            raise self._with_way_out(error, to) from None

    async def receipt(self, ident: bytes) -> Receipt:
        """Return the receipt of a message sent earlier, by this process or one before it.

        Args:
            ident: The message's id, 16 bytes.

        Raises:
            UnknownMessage: No such message is remembered; it is a KeyError, too.
            TypeError, ValueError: This is no message id.
            PeerClosed: The peer is not running.
        """
        checked_id(ident, "ident")
        return await recalled(ident, self.driver, self._store)

    # --- receiving ---

    async def inbox(self, *, prefetch: int = PREFETCH) -> AsyncGenerator[Message, None]:
        """Take messages, urgent ones first, each leased to this agent until it is done.

        Args:
            prefetch: How many are leased ahead, at least 1. Several agents that share a mailbox fairly use 1. After a
                crash all that were leased ahead count as attempts, and may come after newer ones: 1 keeps to the order.

        Yields:
            Each message, once; again only when it was given back. It ends when the agent is detached.

        Raises:
            TypeError, ValueError: `prefetch` is no number, or below 1.
            PeerClosed: The peer was closed.
        """
        checked_count(prefetch, "prefetch")
        detached = self._detached
        with self._leased.taking():
            while detached == self._detached and (delivery := await self._leased.next(prefetch)) is not None:
                yield Message(self, delivery)

    async def poll(self, most: int = 100, timeout: float | str | None = 0.0) -> list[Message]:  # noqa: ASYNC109
        """Take what is there; the messages of the poll before are done, unless they were kept or given back.

        Args:
            most: How many to take at most, at least 1.
            timeout: Seconds to wait for the first one, or "5s"; None for ever.

        Raises:
            TypeError, ValueError: An argument is wrong; nothing was taken or finished.
            PeerClosed: The peer was closed.
            StoreError: The messages of the poll before could not be finished on disk; they are still unfinished.
        """
        checked_count(most, "most")
        seconds = parse_timeout(timeout)
        finished, self._polled = self._polled, []
        try:
            await asyncio.gather(*_end_all(finished))
        except BaseException:
            self._polled = finished
            raise
        self._polled = await self.take(most, seconds)
        return list(self._polled)

    async def take(
        self,
        most: int,
        timeout: float | str | None = 0.0,  # noqa: ASYNC109 - as in `poll`
        *,
        most_bytes: float = inf,
    ) -> list[Message]:
        """Take what is there; each message is leased to this agent until it is done or given back.

        Args:
            most: As in `poll`.
            timeout: As in `poll`.
            most_bytes: Take no further message once the bodies of those taken have so many bytes.

        Raises:
            TypeError, ValueError, PeerClosed: As in `poll`.
        """
        checked_count(most, "most")
        deliveries = await self._leased.take(most, parse_timeout(timeout), most_bytes)
        return [Message(self, delivery) for delivery in deliveries]

    def reclaim(self, delivery: Delivery) -> Message:
        """Go on with a message that was leased to another process of this peer when that ended.

        Args:
            delivery: What that one was given; its holder does not matter.

        Raises:
            UnknownMessage: It was finished.
            LeaseLost: It was given back, or others have it.
            PeerClosed: The peer is not running.
        """
        self._attach()
        self.driver.tell(Reclaim(self._holder, delivery.row, delivery.id))
        return Message(self, replace(delivery, holder=self._holder))

    def keep(self, message: Message) -> None:
        """Keep a polled message beyond the next poll; it must be finished with `done` or `nack`.

        Args:
            message: One that `poll` has returned; another one is as it was.

        Raises:
            TypeError: It is no message.
        """
        if not isinstance(message, Message):
            raise TypeError(f"keep takes a message, not {brief(message)}")
        if message in self._polled:
            self._polled.remove(message)

    async def detach(self) -> None:
        """Take no more messages here: what is leased and unfinished is delivered again, to whoever comes next.

        Raises:
            PeerClosed: The peer is not running.
        """
        self.driver.check()
        self._leased.give_back()
        self.driver.tell(Detach(self._holder, 0.0))
        self.driver.unconsume(self._holder)
        self._attached = False
        self._detached += 1
        self._leased.end()

    async def status(self, status: StatusName | None) -> None:
        """Say what this agent is doing: others see it in the roster, within a second.

        Without a word an agent is seen as `busy` while it has taken messages and not finished them, else as `idle`.
        What it says wins over that for as long as it is attached. An agent that is not attached is `away`, and its
        word counts again when it comes back.

        Args:
            status: `idle`, `busy` or `away`; None for what is seen.

        Raises:
            ValueError: It is none of these.
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
        """
        self._said = checked_status(status)
        self.driver.tell(SetStatus(self.name, self._holder, self._said))

    def _attach(self) -> None:
        if not self._attached:
            self.driver.consume(self._holder, self._deliver)
            self.driver.tell(Attach(self.name, self._holder, self._reach))
            if self._said:
                self.driver.tell(SetStatus(self.name, self._holder, self._said))
            self._attached = True

    def _deliver(self, delivery: Delivery) -> None:
        self._leased.paid(delivery)
        if not self._questions.answered(delivery):
            self._leased.hand_over(delivery)


def _end_all(messages: list[Message]) -> list[Awaitable[object]]:
    ending: list[Awaitable[object]] = []
    for message in messages:
        if not message.finished:
            with suppress(LeaseLost):  # it was finished elsewhere, or comes again
                ending.append(message.done())
    return ending
