"""The blocking client of this machine's daemon: `zmesh.connect("code")`.

It has the verbs of an embedded `Agent`, and may be used from several threads; each waits for its own answer. This
module must never keep anything that only the daemon can know.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from zmesh.daemon import verbs
from zmesh.daemon.connection import Connection
from zmesh.daemon.mailbox import ClientMailbox
from zmesh.daemon.silence import NotHeard
from zmesh.daemon.told import REPLY, ToldMessage, ToldReceipt
from zmesh.errors import DaemonUnreachable, MeshError, PeerClosed
from zmesh.peer.duration import parse_timeout
from zmesh.protocol.bounds import DEFAULT_TTL

LISTEN: Final = 30.0  # seconds of one request while waiting for messages

Values = dict[str, Any]


class ClientReceipt(ToldReceipt):
    """What is known of a message that was sent; attributes as of `ToldReceipt`."""

    def __init__(self, connection: Connection, told: Values) -> None:
        """Take over what the daemon has told."""
        super().__init__(told)
        self._connection = connection

    def stored(self, timeout: float | str | None = None) -> None:
        """Wait until the message is in the recipient's durable inbox; errors as of `Receipt.stored`."""
        self._take(self._connection.call(*verbs.wait(self.id, "stored", timeout)))

    def handled(self, timeout: float | str | None = None) -> None:
        """Wait until the recipient is done with it; errors as of `Receipt.handled`."""
        self._take(self._connection.call(*verbs.wait(self.id, "handled", timeout)))

    def refresh(self) -> str:
        """Ask again, and return the state."""
        self._take(self._connection.call("receipt", {"ident": self.id}))
        return self.state

    def cancel(self) -> None:
        """End the message now, as its ttl would, unless it is stored already."""
        self._take(self._connection.call("cancel", {"ident": self.id}))


class ClientMessage(ToldMessage):
    """A received message, leased to this program; attributes as of `ToldMessage`."""

    def __init__(self, connection: Connection, told: Values) -> None:
        """Take over what the daemon has told."""
        super().__init__(told)
        self._connection = connection

    def done(self, reply: Any = None, *, type: str = REPLY) -> None:  # noqa: A002 - the public name
        """Finish the message, and answer it in the same transaction; as `Message.done`."""
        self._connection.call(*verbs.done(self._lease, self._replies, reply, type))
        self.finished = True

    def nack(self, delay: float | None = None, *, counted: bool = True) -> None:
        """Give the message back; it is delivered again later. Arguments as of `Message.nack`."""
        self._connection.call(*verbs.nack(self._lease, delay, counted=counted))
        self.finished = True

    def reply(self, body: Any, *, type: str = REPLY) -> ClientReceipt:  # noqa: A002 - the public name
        """Answer the message without finishing it."""
        request = verbs.reply(self._lease, self._replies, body, type)
        self._replies += 1  # now: another thread may answer before this answer is on disk
        return ClientReceipt(self._connection, self._connection.call(*request))


class Client(ClientMailbox[ClientMessage]):
    """A program's mailbox at this machine's daemon."""

    def __init__(self, connection: Connection) -> None:
        """Take the connection."""
        super().__init__()
        self._connection = connection

    def __enter__(self) -> Self:
        """Return it connected."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def _told(self) -> Values:
        return self._connection.told

    def close(self) -> None:
        """Leave the daemon: what was taken and not finished goes to others. May be called twice."""
        self._connection.close()

    # --- sending ---

    def send(
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
    ) -> ClientReceipt:
        """Send a message; it is on this machine's disk when this returns. Arguments and errors as of `Agent.send`."""
        request = verbs.send(
            to, body, type=type, priority=priority, ttl=ttl, thread=thread, reply_to=reply_to, strict=strict
        )
        return ClientReceipt(self._connection, self._connection.call(*request))

    def ask(
        self,
        to: str,
        body: Any = None,
        *,
        timeout: float | str | None = 60.0,
        type: str = "ask",  # noqa: A002 - the public name
        priority: str = "normal",
        strict: bool = False,
    ) -> ClientMessage:
        """Send a message and wait for its answer. Arguments and errors as of `Agent.ask`."""
        request = verbs.ask(to, body, timeout=timeout, type=type, priority=priority, strict=strict)
        answer = ClientMessage(self._connection, self._connection.call(*request))
        with suppress(MeshError):  # it is here; at the worst it comes to the inbox, too
            answer.done()
        answer.finished = True
        return answer

    def receipt(self, ident: bytes) -> ClientReceipt:
        """Return the receipt of a message that was sent from this machine's peer; errors as of `Agent.receipt`."""
        return ClientReceipt(self._connection, self._connection.call("receipt", {"ident": ident}))

    # --- receiving ---

    def poll(self, most: int = 100, timeout: float | str | None = 0.0) -> list[ClientMessage]:
        """Take what is there; the messages of the poll before are done, unless they were kept or given back.

        Arguments and errors as of `Agent.poll`.
        """
        request = verbs.poll(most, timeout)
        unfinished = self._unfinished
        self._finished(unfinished, self._connection.call_all(message.ending() for message in unfinished))
        self._polled = self._lent(self._connection.call(*request))
        return list(self._polled)

    def take(self, most: int = 100, timeout: float | str | None = 0.0) -> list[ClientMessage]:
        """Take what is there; each message is leased to this program until it is done or given back."""
        return self._lent(self._connection.call(*verbs.poll(most, timeout)))

    def _lent(self, taken: list[Values]) -> list[ClientMessage]:
        return [ClientMessage(self._connection, told) for told in taken]

    def inbox(self) -> Iterator[ClientMessage]:
        """Take messages one by one, each leased until it is done; it ends when the client is closed.

        Raises:
            MeshError: The daemon is gone, or does not answer.
        """
        while not self._connection.closed:
            yield from self._next(LISTEN)
        self._check_end()

    def _check_end(self) -> None:
        """See that it was closed by its owner, which ends who listens quietly; raise what has ended it otherwise."""
        if (fault := self._connection.fault) is not None:
            raise fault

    def _next(self, seconds: float) -> list[ClientMessage]:
        try:
            return self.take(1, seconds)
        except PeerClosed:  # another thread has closed it
            return []
        except NotHeard as error:  # nobody has said how long
            raise DaemonUnreachable(str(error)) from error

    def listen(self, seconds: float | str | None = None) -> None:
        """Hand messages to the handlers that `on` has registered.

        A handler that returns is done with its message, and what it returns is the answer; one that raises gives it
        back, and the error goes on to the caller. A message that has no handler is given back as if it had not been
        taken: it may be for another program with this mailbox, and comes again later.

        Args:
            seconds: How long to listen; None until the client is closed, which may be done by any thread, and by
                handlers: it then ends, and a message under way that is not finished comes again.

        Raises:
            MeshError: The daemon is gone, or does not answer.
        """
        limit = parse_timeout(seconds)
        end = None if limit is None else time.monotonic() + limit
        while not self._connection.closed:
            left = LISTEN if end is None else min(LISTEN, end - time.monotonic())
            if left <= 0:
                return
            for message in self._next(left):
                try:
                    self._handle(message)
                except PeerClosed:  # it was closed meanwhile: the message comes again, to whoever is next
                    if not self._connection.closed:
                        raise
        self._check_end()

    def _handle(self, message: ClientMessage) -> None:
        handler = self._handlers.find(message.id, message.type)
        if handler is None:
            message.nack(self._handlers.later(message.id, message.type, self.address), counted=False)
            return
        try:
            reply = handler(message)
        except BaseException:
            if not message.finished:
                with suppress(MeshError):  # what the handler has raised is what counts
                    message.nack()
            raise
        if not message.finished:
            message.done(reply)

    # --- looking around ---

    def status(self, status: str | None) -> None:
        """Say what this agent is doing; as `Agent.status`."""
        self._connection.call("status", {"status": status})

    def report(self, health: str, text: str = "") -> None:
        """Say how this program is, for `zmesh status`: it stands there until the program says otherwise, or leaves.

        Args:
            health: `healthy`, `degraded` or `failed`.
            text: Why, for people: a line of at most 200 characters.

        Raises:
            TypeError, ValueError: There is no such health, or the text is too long.
            MeshFull: Too many programs report.
        """
        self._connection.call(*verbs.report(health, text))

    def peers(self) -> list[Values]:
        """Return the other peers that are known, with the fields of `PeerInfo`."""
        return list(self._connection.call("peers"))

    def agents(self) -> list[Values]:
        """Return all agents that are known, of this machine and others, with the fields of `AgentInfo`."""
        return list(self._connection.call("agents"))

    def wait_for(self, address: str, timeout: float | str | None = None) -> str:
        """Wait until an agent is there; arguments and errors as of `Peer.wait_for`."""
        return str(self._connection.call(*verbs.find(address, timeout)))

    def call(self, verb: str, **arguments: Any) -> Any:
        """Ask the daemon for something that concerns itself; see `zmesh.daemon.host`."""
        return self._connection.call(verb, arguments)
