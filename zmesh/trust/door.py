"""The door: where machines that are no members yet may knock, apart from the socket that members use.

It is a small TCP server that understands three things: pairing (see `pairing`), membership entries shown by somebody
whose certificate has not come round yet, and the question of a member who lives here. Whatever knocks is a stranger:
few connections at a time, small frames, little time; when the house is full, who has said nothing goes first. The door
must never tell a stranger who is a member, and never believe anything that is not signed.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from zmesh.errors import PairingError, TrustError
from zmesh.trust.entry import Entry
from zmesh.trust.frames import DONE, MAX_KNOCK, MEET, PAIR, PATIENCE, REFUSED, SHOW, receive, send, unpack_entries
from zmesh.trust.invitation import Secret
from zmesh.trust.pairing import Candidate, Inviter, nameplate_of
from zmesh.trust.refusal import Refusal
from zmesh.trust.trust_store import TrustStore

MAX_GUESTS: Final = 32  # connections at a time, with 4 KiB each; pairing takes a tenth of a second
MAX_SHOWN: Final = 256  # frames of one visit, 1 MiB: the logs that lead from the founder to a device
VISIT: Final = 3.0  # times the patience with one frame is what a whole visit may take
_log = logging.getLogger("zmesh.trust")

Meet = Callable[[bytes, str], Awaitable[bytes]]
"""Answers a question (its bytes, and the address it came from) with bytes that a stranger cannot read, or a Refusal."""


async def _nobody(_: bytes, __: str) -> bytes:
    raise Refusal("stranger")


class Door:
    """Serves one device's door.

    Attributes:
        port: Where it listens; 0 before `open`.
    """

    def __init__(
        self,
        store: TrustStore,
        news: Callable[[], None] = lambda: None,
        patience: float = PATIENCE,
        meet: Meet = _nobody,
    ) -> None:
        """Take the parts.

        Args:
            store: Decides about entries and invitations.
            news: What to call when it has changed.
            patience: Seconds to wait for a frame.
            meet: Answers members; without it nobody is answered.
        """
        self.port = 0
        self._store, self._news, self._patience, self._meet = store, news, patience, meet
        self._server: asyncio.Server | None = None
        self._guests: dict[asyncio.Task[None], bool] = {}  # in order of arrival; True once they have said something

    @property
    def guests(self) -> int:
        """How many connections there are."""
        return len(self._guests)

    async def open(self, host: str | None = None, port: int = 0) -> None:
        """Listen; at another port than before, if it listens already.

        Args:
            host: Address to listen at; None for all, of IPv4 and IPv6.
            port: Port, 0 for any.

        Raises:
            TrustError: The address cannot be used.
        """
        try:
            server = await asyncio.start_server(self._visit, sock=_listen(host, port), limit=MAX_KNOCK)
        except OSError as error:
            raise TrustError(
                f"cannot listen for pairing at port {port}: {error.strerror or error}; choose another with --port"
            ) from error
        before, self._server = self._server, server
        self.port = server.sockets[0].getsockname()[1]
        if before is not None:
            before.close()  # who is inside may stay

    async def settle(self) -> None:
        """Wait for the visits under way in which something was said, but not for long."""
        busy = [guest for guest, spoke in self._guests.items() if spoke]
        if busy:
            await asyncio.wait(busy, timeout=self._patience)

    async def close(self) -> None:
        """Stop listening, and hang up on who is there."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        guests = list(self._guests)
        for guest in guests:
            guest.cancel()
        await asyncio.gather(*guests, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._make_room()
        self._guests[task] = False
        where = _plain((writer.get_extra_info("peername") or ["?"])[0])
        try:
            async with asyncio.timeout(VISIT * self._patience):
                await self._serve(task, reader, writer, where)
        except TrustError as error:
            # Strangers can bring this about at any rate; what a person must see is counted at the invitation.
            _log.debug("the door refused %s: %s", where, error)
            reason = error.reason if isinstance(error, Refusal) else "trouble"
            with contextlib.suppress(OSError, TimeoutError):
                await send(writer, REFUSED, reason.encode(), self._patience)
        except (OSError, EOFError, TimeoutError) as error:
            _log.debug("a visit of %s at the door broke off: %r", where, error)
        except asyncio.CancelledError:
            pass  # the door closes or is full; asyncio's server would log it otherwise
        except Exception:  # noqa: BLE001 - a stranger must not end the server
            _log.exception("a visit of %s at the door failed", where)
        finally:
            self._guests.pop(task, None)
            writer.close()

    def _make_room(self) -> None:
        """Hang up on one guest if the house is full: who has said nothing yet, else who has been here longest.

        Whoever really pairs speaks at once and is gone in a moment, so a flood would have to be as fast as it is.
        """
        if len(self._guests) >= MAX_GUESTS:
            silent = next((guest for guest, spoke in self._guests.items() if not spoke), None)
            goes = silent or next(iter(self._guests))
            del self._guests[goes]
            goes.cancel()

    async def _serve(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: str
    ) -> None:
        kind, message = await receive(reader, MAX_KNOCK, self._patience)
        if kind == PAIR:
            await self._pair(task, message, reader, writer, where)
        else:
            question = await self._be_shown(task, (kind, message), reader, writer)
            await send(writer, MEET, await self._meet(question, where), self._patience)

    async def _pair(
        self,
        task: asyncio.Task[None],
        hello: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        where: str,
    ) -> None:
        loop = asyncio.get_running_loop()
        secret = self._store.invitations.attempt(nameplate_of(hello))
        if task in self._guests:
            self._guests[task] = True
        proven = False
        try:
            run = await loop.run_in_executor(None, Inviter, secret, self._store.device, self._store.mesh)
            await send(writer, PAIR, await loop.run_in_executor(None, run.answer, hello), self._patience)
            kind, proof = await receive(reader, MAX_KNOCK, self._patience)
            if kind != PAIR:
                raise PairingError("the other machine broke off")
            candidate = run.candidate(proof)
            proven = True
        finally:
            if not proven:
                self._store.invitations.fail(secret)
                _log.warning("somebody at %s tried to pair and failed", where)  # as often as there are attempts
        entries = self._admit(secret, candidate, where)
        _log.info("%s (%s) at %s is a member now", candidate.name, candidate.device, where)
        self._news()
        await send(writer, PAIR, run.accept(entries), self._patience)

    def _admit(self, secret: Secret, candidate: Candidate, where: str) -> list[Entry]:
        try:
            return self._store.admit(secret, candidate)
        except Refusal as error:
            self._store.invitations.give_back(secret)
            _log.info(
                "%s (%s) at %s knows the code, and is refused: %s", candidate.name, candidate.device, where, error
            )
            raise
        except TrustError:
            self._store.invitations.fail(secret)
            raise

    async def _be_shown(
        self,
        task: asyncio.Task[None],
        first: tuple[bytes, bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bytes:
        """Take entries from a stranger, frame by frame: they prove themselves, or are nothing.

        Returns:
            The question that follows them.
        """
        kind, message = first
        for _ in range(MAX_SHOWN):
            if kind == MEET:
                return message
            if kind != SHOW:
                raise PairingError("what knocked does not speak zmesh's pairing")
            self._take(message)
            if task in self._guests:
                self._guests[task] = True
            await send(writer, DONE, b"", self._patience)
            kind, message = await receive(reader, MAX_KNOCK, self._patience)
        raise PairingError(f"membership entries in more than {MAX_SHOWN} frames")

    def _take(self, message: bytes) -> None:
        try:
            new = self._store.take(unpack_entries(message))
        except TrustError as error:
            raise Refusal("entries") from error
        if new:
            self._news()


def _plain(address: object) -> str:
    """Write an address as people know it: a socket of both families puts a prefix before those of IPv4."""
    return str(address).removeprefix("::ffff:")


def _listen(host: str | None, port: int) -> socket.socket:
    """Return one listening socket, so that one port says it all."""
    if host is not None:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # compiled in and switched off: IPv4 says what is wrong, if anything is
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
