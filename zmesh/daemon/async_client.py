"""The async client of this machine's daemon: `async with zmesh.connect_async("code") as code`.

It has the verbs of an embedded `Agent`, and lives in the event loop it was started in. This module must never keep
anything that only the daemon can know.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from zmesh.daemon import verbs
from zmesh.daemon.async_connection import AsyncConnection
from zmesh.daemon.mailbox import ClientMailbox
from zmesh.daemon.silence import NotHeard
from zmesh.daemon.told import REPLY, ToldMessage, ToldReceipt
from zmesh.errors import DaemonUnreachable, MeshError, PeerClosed
from zmesh.peer.duration import parse_timeout
from zmesh.protocol.bounds import DEFAULT_TTL

LISTEN: Final = 30.0  # seconds of one request while waiting for messages

Values = dict[str, Any]


class AsyncReceipt(ToldReceipt):
    """What is known of a message that was sent; attributes as of `ToldReceipt`."""

    def __init__(self, connection: AsyncConnection, told: Values) -> None:
        """Take over what the daemon has told."""
        super().__init__(told)
        self._connection = connection

    async def stored(self, timeout: float | str | None = None) -> None:  # noqa: ASYNC109 - the public name
        """Wait until the message is in the recipient's durable inbox; errors as of `Receipt.stored`."""
        self._take(await self._connection.call(*verbs.wait(self.id, "stored", timeout)))

    async def handled(self, timeout: float | str | None = None) -> None:  # noqa: ASYNC109 - the public name
        """Wait until the recipient is done with it; errors as of `Receipt.handled`."""
        self._take(await self._connection.call(*verbs.wait(self.id, "handled", timeout)))

    async def refresh(self) -> str:
        """Ask again, and return the state."""
        self._take(await self._connection.call("receipt", {"ident": self.id}))
        return self.state

    async def cancel(self) -> None:
        """End the message now, as its ttl would, unless it is stored already."""
        self._take(await self._connection.call("cancel", {"ident": self.id}))


class AsyncMessage(ToldMessage):
    """A received message, leased to this program; attributes as of `ToldMessage`."""

    def __init__(self, connection: AsyncConnection, told: Values) -> None:
        """Take over what the daemon has told."""
        super().__init__(told)
        self._connection = connection

    async def done(self, reply: Any = None, *, type: str = REPLY) -> None:  # noqa: A002 - the public name
        """Finish the message, and answer it in the same transaction; as `Message.done`."""
        await self._connection.call(*verbs.done(self._lease, self._replies, reply, type))
        self.finished = True

    async def nack(self, delay: float | None = None, *, counted: bool = True) -> None:
        """Give the message back; it is delivered again later. Arguments as of `Message.nack`."""
        await self._connection.call(*verbs.nack(self._lease, delay, counted=counted))
        self.finished = True

    async def reply(self, body: Any, *, type: str = REPLY) -> AsyncReceipt:  # noqa: A002 - the public name
        """Answer the message without finishing it."""
        request = verbs.reply(self._lease, self._replies, body, type)
        self._replies += 1  # now: another answer may be made before this one is on disk
        return AsyncReceipt(self._connection, await self._connection.call(*request))


class AsyncClient(ClientMailbox[AsyncMessage]):
    """A program's mailbox at this machine's daemon, for asyncio."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Take the connection, which `start` opens."""
        super().__init__()
        self._connection = connection

    async def __aenter__(self) -> Self:
        """Connect."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    @property
    def _told(self) -> Values:
        return self._connection.told

    async def start(self) -> None:
        """Connect to the daemon, which is started if it is not running; errors as of `connect`.

        Connected already, it stays so; once closed, it connects anew.
        """
        await self._connection.open()

    async def close(self) -> None:
        """Leave the daemon: what was taken and not finished goes to others. May be called twice."""
        await self._connection.close()

    # --- sending ---

    async def send(
        self,
        to: str,
        body: Any = None,
        *,
        type: str = "message",  # noqa: A002 - the public name
        priority: str = "normal",
        ttl: float | str | None = DEFAULT_TTL,
        thread: bytes | None = None,
        reply_to: bytes | None = None,
        strict: bool = False,
    ) -> AsyncReceipt:
        """Send a message; it is on this machine's disk when this returns. Arguments and errors as of `Agent.send`."""
        request = verbs.send(
            to, body, type=type, priority=priority, ttl=ttl, thread=thread, reply_to=reply_to, strict=strict
        )
        return AsyncReceipt(self._connection, await self._connection.call(*request))

    async def ask(
        self,
        to: str,
        body: Any = None,
        *,
        timeout: float | str | None = 60.0,  # noqa: ASYNC109 - the public name
        type: str = "ask",  # noqa: A002 - the public name
        priority: str = "normal",
        strict: bool = False,
    ) -> AsyncMessage:
        """Send a message and wait for its answer. Arguments and errors as of `Agent.ask`."""
        request = verbs.ask(to, body, timeout=timeout, type=type, priority=priority, strict=strict)
        answer = AsyncMessage(self._connection, await self._connection.call(*request))
        with suppress(MeshError):  # it is here; at the worst it comes to the inbox, too
            await answer.done()
        answer.finished = True
        return answer

    async def receipt(self, ident: bytes) -> AsyncReceipt:
        """Return the receipt of a message that was sent from this machine's peer; errors as of `Agent.receipt`."""
        return AsyncReceipt(self._connection, await self._connection.call("receipt", {"ident": ident}))

    # --- receiving ---

    async def poll(
        self,
        most: int = 100,
        timeout: float | str | None = 0.0,  # noqa: ASYNC109 - the public name
    ) -> list[AsyncMessage]:
        """Take what is there; the messages of the poll before are done, unless they were kept or given back.

        Arguments and errors as of `Agent.poll`. Who is cancelled while nothing has come has taken nothing.
        """
        request = verbs.poll(most, timeout)
        unfinished = self._unfinished
        ends = (self._connection.call(*message.ending()) for message in unfinished)
        self._finished(unfinished, await asyncio.gather(*ends, return_exceptions=True))
        self._polled = self._lent(await self._connection.call(*request))
        return list(self._polled)

    async def take(
        self,
        most: int = 100,
        timeout: float | str | None = 0.0,  # noqa: ASYNC109 - the public name
    ) -> list[AsyncMessage]:
        """Take what is there; each message is leased to this program until it is done or given back."""
        return self._lent(await self._connection.call(*verbs.poll(most, timeout)))

    def _lent(self, taken: list[Values]) -> list[AsyncMessage]:
        return [AsyncMessage(self._connection, told) for told in taken]

    async def inbox(self) -> AsyncGenerator[AsyncMessage, None]:
        """Take messages one by one, each leased until it is done; it ends when the client is closed.

        Raises:
            MeshError: The daemon is gone, or does not answer.
        """
        while not self._connection.closed:
            for message in await self._next(LISTEN):
                yield message
        self._check_end()

    def _check_end(self) -> None:
        """See that it was closed by its owner, which ends who listens quietly; raise what has ended it otherwise."""
        if (fault := self._connection.fault) is not None:
            raise fault

    async def _next(self, seconds: float) -> list[AsyncMessage]:
        try:
            return await self.take(1, seconds)
        except PeerClosed:  # another task has closed it
            return []
        except NotHeard as error:  # nobody has said how long
            raise DaemonUnreachable(str(error)) from error

    async def listen(self, seconds: float | str | None = None) -> None:
        """Hand messages to the handlers that `on` has registered: functions, or coroutine functions.

        A handler that returns is done with its message, and what it returns is the answer; one that raises gives it
        back, and the error goes on to the caller. A message that has no handler is given back as if it had not been
        taken: it may be for another program with this mailbox, and comes again later.

        Args:
            seconds: How long to listen; None until the client is closed, which may be done by any task, and by
                handlers: it then ends, and a message under way that is not finished comes again.

        Raises:
            MeshError: The daemon is gone, or does not answer.
        """
        limit = parse_timeout(seconds)
        loop = asyncio.get_running_loop()
        end = None if limit is None else loop.time() + limit
        while not self._connection.closed:
            left = LISTEN if end is None else min(LISTEN, end - loop.time())
            if left <= 0:
                return
            for message in await self._next(left):
                try:
                    await self._handle(message)
                except PeerClosed:  # it was closed meanwhile: the message comes again, to whoever is next
                    if not self._connection.closed:
                        raise
        self._check_end()

    async def _handle(self, message: AsyncMessage) -> None:
        handler = self._handlers.find(message.id, message.type)
        if handler is None:
            await message.nack(self._handlers.later(message.id, message.type, self.address), counted=False)
            return
        try:
            reply = handler(message)
            if inspect.isawaitable(reply):
                reply = await reply
        except BaseException:
            if not message.finished:
                with suppress(MeshError):  # what the handler has raised is what counts
                    await message.nack()
            raise
        if not message.finished:
            await message.done(reply)

    # --- looking around ---

    async def status(self, status: str | None) -> None:
        """Say what this agent is doing; as `Agent.status`."""
        await self._connection.call("status", {"status": status})

    async def report(self, health: str, text: str = "") -> None:
        """Say how this program is, for `zmesh status`; arguments and errors as of `Client.report`."""
        await self._connection.call(*verbs.report(health, text))

    async def peers(self) -> list[Values]:
        """Return the other peers that are known, with the fields of `PeerInfo`."""
        return list(await self._connection.call("peers"))

    async def agents(self) -> list[Values]:
        """Return all agents that are known, of this machine and others, with the fields of `AgentInfo`."""
        return list(await self._connection.call("agents"))

    async def wait_for(
        self,
        address: str,
        timeout: float | str | None = None,  # noqa: ASYNC109 - the public name
    ) -> str:
        """Wait until an agent is there; arguments and errors as of `Peer.wait_for`."""
        return str(await self._connection.call(*verbs.find(address, timeout)))

    async def call(self, verb: str, **arguments: Any) -> Any:
        """Ask the daemon for something that concerns itself; see `zmesh.daemon.host`."""
        return await self._connection.call(verb, arguments)
