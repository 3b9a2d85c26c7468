"""One client of the daemon: what it asks for, carried out on the machine's peer.

A client may have one mailbox. What it has taken is leased to it while it is there, and goes to others when it ends. A
request that comes a second time, after the daemon was away, is the same request. This module must never lease a
message to a client that is gone, nor let one client's mistake end the daemon.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, ClassVar, Final

from zmesh import __version__
from zmesh.daemon.lives import Lives
from zmesh.daemon.own_mailboxes import OwnMailboxes
from zmesh.daemon.reports import Reports, checked_report
from zmesh.daemon.spoken import described, packed, standing, to_delivery
from zmesh.daemon.tracing import traced
from zmesh.daemon.wire import FAILED, MAX_HELD, MAX_POLL, OK, POLL_BYTES, VERSION, WAITING, Frames, pack
from zmesh.errors import DaemonError, LeaseLost, MeshError, MeshFull, UnknownMessage
from zmesh.peer.agent import Agent
from zmesh.peer.arguments import brief, checked_count, checked_id, checked_id_or_none, checked_priority
from zmesh.peer.connection import Connection
from zmesh.peer.duration import parse_timeout, parse_ttl
from zmesh.peer.message import Message, reply_id
from zmesh.peer.peer import Peer
from zmesh.peer.store_reader import InTrace, read_trace
from zmesh.protocol.effects import Delivery
from zmesh.protocol.states import Received

READ: Final = 64 * 1024  # bytes at a time
MAX_REQUESTS: Final = 256  # of one client under way: each is a task
MAX_WORDS: Final = 2000  # characters of an error: one names what was wrong, and need not repeat all of it
_KNOW_AGAIN: Final = frozenset({"ask", "admin.unset", "mailbox.remove", "mailbox.replay"})
"""Verbs that are told when they come a second time: what the first has done is no error then."""
_log = logging.getLogger("zmesh.daemon")

Values = dict[str, Any]
Control = Callable[[str, Values], Awaitable[Any]]


class Session:
    """A connection of one client.

    Attributes:
        pid: The client's process, as it says; 0 before that.
        heard: True once it has asked for something.
        parting: Set when the daemon ends: what the client has taken waits for it to come back to the next one.
    """

    def __init__(self, peer: Peer, control: Control, own: OwnMailboxes, lives: Lives, reports: Reports) -> None:
        """Take the peer, who carries out what concerns the daemon, and what all sessions share."""
        self.pid = 0
        self.heard = self.parting = False
        self._peer, self._control, self._own_mailboxes, self._lives = peer, control, own, lives
        self._reports, self._adapter = reports, ""
        self._claimed = ""
        self._greeted = False
        self._taking = 0  # messages that polls under way may take
        self._agent: Agent | None = None
        self._held: dict[int, Message] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._writer: asyncio.StreamWriter

    @property
    def mailbox(self) -> str:
        """The mailbox it has, or nothing."""
        return self._agent.name if self._agent is not None else ""

    @property
    def holds(self) -> int:
        """How many messages are leased to it."""
        return len(self._held)

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve until the client is gone."""
        self._writer = writer
        frames = Frames()
        try:
            while data := await reader.read(READ):
                for message in frames.feed(data):
                    self._begin(message)
                await writer.drain()  # who does not read its answers asks no further questions
        except (DaemonError, OSError) as error:
            _log.info("process %d was let go: %s", self.pid, error)
        finally:
            await self.close()

    async def close(self) -> None:
        """End what is under way; what the client had taken goes to others, unless the daemon itself ends."""
        await asyncio.sleep(0)  # what came with its last words is begun: a `done` is carried out
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reports.forget(self)
        agent, self._agent = self._agent, None
        if agent is not None and not self.parting:
            with suppress(MeshError):
                await agent.detach()
        if self._claimed:
            self._own_mailboxes.release(self._claimed)

    # --- requests ---

    def _begin(self, request: list[Any]) -> None:
        self.heard = True
        number, verb, arguments = request[:3]
        if not isinstance(arguments, dict):
            raise DaemonError("a request without named arguments")
        if number in self._tasks:
            raise DaemonError(f"two requests with the number {number}")
        if len(self._tasks) >= MAX_REQUESTS:
            self._say([number, FAILED, "MeshFull", f"{MAX_REQUESTS} requests of one program are under way"])
            return
        name = verb if isinstance(verb, str) else brief(verb)
        task = asyncio.get_running_loop().create_task(self._serve(number, name, arguments), name=name)
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number, None))

    async def _serve(self, number: int, verb: str, arguments: Values) -> None:
        try:
            rule = self._VERBS.get(verb)
            if verb not in _KNOW_AGAIN:
                arguments.pop("again", None)  # all others may come twice as they are
            value = await (rule(self, **arguments) if rule else self._control(verb, arguments))
            answer = pack([number, OK, value])
        except (MeshError, TypeError, ValueError, OverflowError) as error:
            answer = pack([number, FAILED, type(error).__name__, str(error)[:MAX_WORDS]])
        except Exception as error:  # noqa: BLE001 - one request must not end the daemon
            _log.exception("the request %s of process %d failed", brief(verb), self.pid)
            text = f"an error in zmesh ({type(error).__name__}): the daemon's log has it"
            answer = pack([number, FAILED, "DaemonError", text])
        self._writer.write(answer)

    def _say(self, answer: list[Any]) -> None:
        self._writer.write(pack(answer))

    @property
    def _own(self) -> Agent:
        if self._agent is None:
            raise DaemonError("this program has not said which mailbox is its own")
        return self._agent

    # --- the mailbox ---

    async def _hello(
        self,
        *,
        v: int,
        pid: int = 0,
        held: list[Values] | None = None,
        mailbox: str | None = None,
        here: bool = True,
        own: bool = False,
        was: str = "",
        status: Any = None,
        adapter: Any = "",
        report: Values | None = None,
        **said: Any,
    ) -> Values:
        if self._greeted:
            raise DaemonError("a hello comes once, and first")
        if v != VERSION:
            raise DaemonError(
                f"the daemon is zmesh {__version__} and speaks version {VERSION}, this program speaks {brief(v)}: "
                "end the daemon with `zmesh down`, and it starts anew in the version that is installed"
            )
        self._greeted = True
        self.pid = int(pid)
        self._adapter = adapter if isinstance(adapter, str) else ""
        told: Values = {"peer": self._peer.name, "version": __version__, "address": "", "taken": [], "gone": []}
        if mailbox is None:
            return told
        before = [to_delivery(had) for had in [*(held or [])][:MAX_HELD]]
        if own:
            mailbox = self._claimed = self._own_mailboxes.claim(mailbox, was)
        self._agent = await self._peer.attach(mailbox, here=here, **said)
        told["address"] = self._agent.address
        missing = [delivery for delivery in before if not self._reclaimed(delivery, told)]
        if missing:
            await self._tell_ends(missing, told)
        if status is not None:
            await self._agent.status(status)
        if report is not None:
            with suppress(MeshFull):  # others were here first
                await self._report(**report)
        return told

    def _reclaimed(self, delivery: Delivery, told: Values) -> bool:
        """Lease a message again to the client that has it; return False if it is not there any more."""
        try:
            message = self._own.reclaim(delivery)
        except UnknownMessage:
            return False
        except LeaseLost:
            told["taken"].append(delivery.row)
        else:
            self._held[delivery.row] = message
        return True

    async def _tell_ends(self, missing: list[Delivery], told: Values) -> None:
        """Tell who has finished messages that are there no more: the client itself, or another one after it.

        A message counts each time it is leased: at the client's own count, it was the client.
        """

        def look(connection: Connection) -> list[list[InTrace]]:
            return [read_trace(connection, delivery.id)[1] for delivery in missing]

        found = await asyncio.wrap_future(self._peer.store.query(look))
        for delivery, traces in zip(missing, found, strict=True):
            own = (delivery.source, Received.HANDLED, delivery.attempt)
            finished = any((trace.source, trace.state, trace.attempts) == own for trace in traces)
            told["gone" if finished else "taken"].append(delivery.row)

    async def _poll(self, *, most: int = 100, timeout: float | None = 0.0) -> list[Values]:  # noqa: ASYNC109
        agent = self._own
        checked_count(most, "most")
        room = MAX_HELD - len(self._held) - self._taking
        if room < 1:
            raise MeshFull(f"this program has taken {MAX_HELD} messages: finish some with `done`, or give them back")
        taking = min(most, MAX_POLL, room)
        self._taking += taking
        try:
            messages = await agent.take(taking, parse_timeout(timeout), most_bytes=POLL_BYTES)
        finally:
            self._taking -= taking
        return [self._lent(message) for message in messages]

    def _lent(self, message: Message) -> Values:
        self._held[message.delivery.row] = message
        self._lives.began(message.id, "taken", message.store)
        return described(message)

    async def _done(self, *, lease: int, turn: int = 0, reply: list[Any] | None = None, type: str = "reply") -> None:  # noqa: A002
        message = self._leased(lease, turn)
        if reply is not None:
            self._lives.began(reply_id(message.store, message.id, message.replies), "given")
        await self._end(message, message.done(None if reply is None else packed(reply), type=type))
        self._lives.began(message.id, "done", message.store)

    async def _nack(self, *, lease: int, delay: float | None = None, counted: bool = True) -> None:
        message = self._leased(lease, 0)
        await self._end(message, message.nack(delay, counted=counted))
        self._lives.began(message.id, "given back", message.store)

    async def _end(self, message: Message, ending: Awaitable[None]) -> None:
        """See a lease to its end. From now on the same row may be leased to this client anew."""
        row = message.delivery.row
        del self._held[row]
        try:
            await ending
        except MeshError:
            if not message.finished:
                self._held.setdefault(row, message)
            raise

    async def _reply(self, *, lease: int, turn: int, body: list[Any], type: str = "reply") -> Values:  # noqa: A002
        message = self._leased(lease, turn)
        self._lives.began(reply_id(message.store, message.id, message.replies), "given")
        return standing(await message.reply(packed(body), type=type))

    def _leased(self, row: int, turn: int) -> Message:
        message = self._held.get(row)
        if message is None:
            raise LeaseLost("the message is not leased to this program any more: it was finished, or went to another")
        message.replies = int(turn)
        return message

    async def _forget(self, *, number: int) -> None:
        task = self._tasks.get(number)
        if task is None or task.get_name() not in WAITING:
            return
        task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            self._say([number, FAILED, "DaemonError", "nobody waits for the answer any more"])

    async def _status(self, *, status: Any) -> None:
        await self._own.status(status)

    async def _report(self, *, health: Any, text: Any) -> None:
        state, line = checked_report(health, text)
        self._reports.say(self, state, line, name=self._own.name, adapter=self._adapter, pid=self.pid)

    # --- sending ---

    async def _send(
        self, *, ident: bytes, to: str, body: list[Any], priority: str, ttl: float | str | None, thread: bytes | None,
        reply_to: bytes | None, **rest: Any,
    ) -> Values:  # fmt: skip
        self._lives.began(checked_id(ident, "ident"), "given")
        receipt = await self._own.post(
            to,
            packed(body),
            ident=ident,
            priority=checked_priority(priority),
            ttl=parse_ttl(ttl),
            thread=checked_id_or_none(thread, "thread"),
            reply_to=checked_id_or_none(reply_to, "reply_to"),
            **rest,
        )
        return standing(receipt)

    async def _ask(
        self,
        *,
        ident: bytes,
        to: str,
        body: list[Any],
        timeout: float | None,  # noqa: ASYNC109 - as in `Agent.ask`
        **properties: Any,
    ) -> Values:
        self._lives.began(checked_id(ident, "ident"), "given")
        seconds = parse_timeout(timeout)
        ttl = None if seconds is None else parse_ttl(max(seconds, 0.001), "timeout")
        asked = self._own.ask_as(ident, to, packed(body), ttl=ttl, finish=False, **properties)
        return self._lent(await asked)

    async def _receipt(self, *, ident: bytes) -> Values:
        return standing(await self._peer.receipt(ident))

    async def _wait(self, *, ident: bytes, until: str, timeout: float | None) -> Values:  # noqa: ASYNC109
        if until not in {"stored", "handled"}:
            raise ValueError(f"a message is waited for until it is 'stored' or 'handled', not {brief(until)}")
        receipt = await self._peer.receipt(ident)
        await (receipt.handled(timeout) if until == "handled" else receipt.stored(timeout))
        return standing(receipt)

    async def _trace(self, *, ident: bytes) -> Values:
        return await traced(self._peer, self._lives, checked_id(ident, "ident"))

    async def _cancel(self, *, ident: bytes) -> Values:
        receipt = await self._peer.receipt(ident)
        receipt.cancel()
        return standing(receipt)

    # --- looking around ---

    async def _ping(self) -> None:
        """Say that the daemon is there."""

    async def _peers(self) -> list[Values]:
        return [asdict(info) for info in self._peer.peers()]

    async def _agents(self) -> list[Values]:
        return [asdict(info) for info in self._peer.agents()]

    async def _find(self, *, address: str, timeout: float | None) -> str:  # noqa: ASYNC109
        return await self._peer.wait_for(address, timeout)

    _VERBS: ClassVar[dict[str, Callable[..., Awaitable[Any]]]] = {
        "hello": _hello,
        "ping": _ping,
        "poll": _poll,
        "forget": _forget,
        "done": _done,
        "nack": _nack,
        "reply": _reply,
        "status": _status,
        "report": _report,
        "send": _send,
        "ask": _ask,
        "receipt": _receipt,
        "wait": _wait,
        "cancel": _cancel,
        "trace": _trace,
        "peers": _peers,
        "agents": _agents,
        "find": _find,
    }
