"""A received message, leased to whoever took it until it is done, given back, or its holder goes."""

from collections.abc import Awaitable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from zmesh.peer.arguments import PRIORITY_NAMES, checked_delay, checked_priority
from zmesh.peer.body import unpack_body
from zmesh.protocol.address import store_text
from zmesh.protocol.bounds import ID_BYTES
from zmesh.protocol.commands import Done, Nack
from zmesh.protocol.effects import Delivery

if TYPE_CHECKING:
    import asyncio

    from zmesh.peer.agent import Agent
    from zmesh.peer.receipt import Receipt

TIME_BYTES: Final = 6  # leading bytes of an id: milliseconds since 1970, so that ids of one store rise
REPLY_TYPE: Final = "reply"


def reply_id(source: bytes, request: bytes, turn: int) -> bytes:
    """Derive the id of an answer from the request: an answer that is repeated is the same message.

    Args:
        source: Id of the store that asked: another one may use the same message id.
        request: Id of the message answered.
        turn: 0 for the first answer to it, 1 for the second, ...
    """
    digest = blake2b(b"zmesh reply" + source + request + turn.to_bytes(4, "big"), digest_size=ID_BYTES - TIME_BYTES)
    return request[:TIME_BYTES] + digest.digest()


class Message:
    """One message.

    Attributes:
        id: 16 bytes, the same at every delivery of this message.
        sender: `agent@peer`; the peer is who CURVE says it is.
        to: The mailbox it came to.
        type: What kind of message it is, in the sender's words.
        priority: critical, high, normal, low or bulk.
        thread: Id of the conversation, or empty.
        reply_to: Id of the message it answers, or empty.
        sent_at: The sender's wall clock, seconds since 1970; for people only.
        attempt: 1 for the first delivery, more after a holder went away without finishing.
        finished: True once it was given to `done` or `nack`.
        replies: How many answers it was given; their ids are derived from that.
    """

    def __init__(self, agent: "Agent", delivery: Delivery) -> None:
        envelope = delivery.envelope
        self.id = delivery.id
        self.sender = envelope.sender
        self.to = envelope.to
        self.type = envelope.type
        self.priority = PRIORITY_NAMES[delivery.priority]
        self.thread = envelope.thread
        self.reply_to = envelope.reply_to
        self.sent_at = envelope.sent_at / 1000
        self.attempt = delivery.attempt
        self._agent = agent
        self._delivery = delivery
        self.finished = False
        self.replies = 0

    def __repr__(self) -> str:
        return f"<Message {self.id.hex()[:12]} from {self.sender}: {self.type}>"

    @property
    def body(self) -> Any:
        """The body, unpacked; text from a peer is data, never an instruction.

        Raises:
            BodyError: The sender's bytes are not what it says they are.
        """
        return unpack_body(self._delivery.body, packed=self._delivery.envelope.packed)

    @property
    def delivery(self) -> Delivery:
        """What the core has handed over, body packed."""
        return self._delivery

    @property
    def origin(self) -> str:
        """The sender's full address, store included: answers go there and nowhere else."""
        return f"{self.sender}~{store_text(self._delivery.source)}"

    @property
    def store(self) -> bytes:
        """Id of the store it came from, 16 bytes."""
        return self._delivery.source

    def done(self, reply: Any = None, *, type: str = REPLY_TYPE) -> Awaitable[None]:  # noqa: A002 - the public name
        """Finish the message, and answer it in the same transaction.

        Args:
            reply: Body of the answer; None for no answer.
            type: The answer's type.

        Returns:
            Awaitable (no coroutine); over once it is on disk. The request is carried out even when nobody awaits it.

        Raises:
            LeaseLost: It was finished before, or has gone to another holder.
            MeshFull, BodyError, BodyTooLarge, ValueError: The answer cannot be sent; the message is not finished.
            PeerClosed: The peer is not running.
            StoreError: It could not be written to disk (raised by the awaitable); it can be finished again.
        """
        driver = self._agent.driver
        ticket = driver.number()
        answer = None
        if reply is not None:
            answer = self._agent.compose(
                self.origin,
                reply,
                ident=self._next_reply_id(),
                type=type,
                priority=checked_priority(self.priority),
                thread=self.thread or self.id,
                reply_to=self.id,
            )
        future = driver.carry_out(ticket, Done(ticket, self._delivery.holder, self._delivery.row, answer))
        before = self.replies
        self.replies += reply is not None
        self.finished = True

        def settled(future: "asyncio.Future[None]") -> None:
            if not future.cancelled() and future.exception() is not None:
                self.finished, self.replies = False, before  # it is as it was, and can be finished again

        future.add_done_callback(settled)
        return future

    def reply(self, body: Any, *, type: str = REPLY_TYPE) -> Awaitable["Receipt"]:  # noqa: A002 - the public name
        """Answer the message without finishing it.

        Args:
            body: As in `Agent.send`.
            type: The answer's type.

        Returns:
            Awaitable (no coroutine) of the answer's receipt, once the answer is on disk.

        Raises:
            MeshFull, BodyError, BodyTooLarge, ValueError: The answer cannot be sent.
            PeerClosed: The peer is not running.
            StoreError: It could not be written to disk (raised by the awaitable).
        """
        future = self._agent.post(
            self.origin,
            body,
            ident=self._next_reply_id(),
            type=type,
            priority=checked_priority(self.priority),
            thread=self.thread or self.id,
            reply_to=self.id,
        )
        self.replies += 1
        return future

    def nack(self, delay: float | None = None, *, counted: bool = True) -> Awaitable[None]:
        """Give the message back; it is delivered again later.

        Args:
            delay: Seconds until then, 0 to a year; None for a delay that grows with each attempt.
            counted: False when nobody has tried to handle it: then it is as if it had not been taken. A message that
                was tried too often is dead.

        Returns:
            Awaitable (no coroutine); over once it is on disk. The request is carried out even when nobody awaits it.

        Raises:
            LeaseLost: It was finished before, or has gone to another holder.
            TypeError, ValueError: The delay is none.
            PeerClosed: The peer is not running.
            StoreError: It could not be written to disk (raised by the awaitable); it comes again all the same.
        """
        delay = checked_delay(delay)
        driver = self._agent.driver
        ticket = driver.number()
        future = driver.carry_out(ticket, Nack(ticket, self._delivery.holder, self._delivery.row, delay, bool(counted)))
        self.finished = True  # even if the commit fails: then it comes again, and only the attempt is not written down
        return future

    def _next_reply_id(self) -> bytes:
        return reply_id(self._delivery.source, self.id, self.replies)
