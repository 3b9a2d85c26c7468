"""The daemon's local socket: takes in clients, and knows who is there.

This module must never serve anybody without the token where there is one, nor more clients than it has room for.
"""

import asyncio
import contextlib
import logging
from typing import Final

from zmesh.daemon.lives import Lives
from zmesh.daemon.own_mailboxes import OwnMailboxes
from zmesh.daemon.place import TOKEN_BYTES, Place, is_token
from zmesh.daemon.reports import Reports
from zmesh.daemon.session import Control, Session
from zmesh.daemon.wire import FAILED, HELLO, pack
from zmesh.peer import descriptors
from zmesh.peer.peer import Peer

MAX_CLIENTS: Final = 4096  # as many as mailboxes: each is a file descriptor and some kilobytes
LEASE_GRACE: Final = 10.0  # seconds in which clients come back to a daemon that was killed; they try every 50 ms
MAX_STRANGERS: Final = 64  # connections whose token is still to come: anybody on this machine can open them
TOKEN_PATIENCE: Final = 2.0  # seconds
LINGER: Final = 2.0  # seconds for who was turned away, or is let go, to read why
AT_ONCE: Final = 16  # connections accepted in one turn of the loop: none is looked at before
QUEUE: Final = 512  # connections that wait to be accepted
RESERVED: Final = 256  # descriptors that programs leave for the links: libzmq ends the process when there are none
SILENT: Final = 30.0  # seconds for the first request; who was stopped meanwhile comes again
_FULL: Final = f"{MAX_CLIENTS} programs are connected to the daemon of this machine already: end some"
_SCARCE: Final = "too few file descriptors are left for another program: end some, or raise the limit (ulimit -n)"
_log = logging.getLogger("zmesh.daemon")


class LocalServer:
    """Serves the clients of one daemon.

    Attributes:
        sessions: Who is there.
        reports: What they say of their own health.
    """

    def __init__(self, peer: Peer, place: Place, control: Control) -> None:
        """Take the peer, where to listen, and who carries out what concerns the daemon itself."""
        self.sessions: dict[Session, asyncio.Task[None]] = {}
        self.reports = Reports()
        self._peer, self._place, self._control = peer, place, control
        self._own, self._lives = OwnMailboxes(peer), Lives()
        self._sweep: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._token = b""
        self._mark: tuple[int, ...] = ()
        self._strangers = 0
        self._warned = False

    async def open(self) -> None:
        """Listen; the caller holds the daemon's lock.

        Raises:
            OSError: It cannot.
        """
        await self.listen()
        self._peer.driver.on_progress = self._lives.progressed
        self._peer.tracing.seen = self._lives.seen
        self._sweep = asyncio.get_running_loop().create_task(self._own.end_forsaken(LEASE_GRACE))

    @property
    def lies(self) -> bool:
        """True while clients find the file by which they come here."""
        return self._place.mark == self._mark

    async def listen(self) -> None:
        """Listen, perhaps anew; who is connected stays so. Errors as of `open`."""
        listener, self._token = self._place.listen()
        self._mark = self._place.mark
        listener.setblocking(False)  # noqa: FBT003 - socket's own
        before = self._server
        if self._place.socket_path is not None:
            self._server = await asyncio.start_unix_server(self._visit, sock=listener, backlog=AT_ONCE)
        else:
            self._server = await asyncio.start_server(self._visit, sock=listener, backlog=AT_ONCE)
        listener.listen(QUEUE)  # asyncio has made it as short as what it accepts at once
        if before is not None:
            before.close()

    async def close(self) -> None:
        """Let all clients go, and take the socket away; they come back to the next daemon, which keeps their leases."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        if self._sweep is not None:
            self._sweep.cancel()
        await self._own.close()
        tasks = list(self.sessions.values())
        for session, task in self.sessions.items():
            session.parting = True
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.lies:  # else it is another daemon's
            self._place.leave()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        session = Session(self._peer, self._control, self._own, self._lives, self.reports)
        silent = asyncio.get_running_loop().call_later(SILENT, _leave_if_silent, session, writer)
        try:
            if not _is_room(writer):
                self._warn(_SCARCE)
                writer.write(pack([HELLO, FAILED, "MeshFull", _SCARCE]))
                writer.transport.abort()  # at once: to linger would take yet another descriptor
            elif not await self._knows(reader):
                writer.transport.abort()
            elif len(self.sessions) >= MAX_CLIENTS:
                self._warn(_FULL)
                writer.write(pack([HELLO, FAILED, "MeshFull", _FULL]))
            else:
                self._warned = False
                self.sessions[session] = task
                await session.run(reader, writer)
        except asyncio.CancelledError:
            pass  # the daemon closes; asyncio's server would log it otherwise
        finally:
            silent.cancel()
            self.sessions.pop(session, None)
            if self._server is None:
                writer.transport.abort()
            else:
                writer.close()
                asyncio.get_running_loop().call_later(LINGER, writer.transport.abort)

    def _warn(self, why: str) -> None:
        """Log that somebody is turned away, until somebody is let in: there may be thousands."""
        if not self._warned:
            _log.warning("a program is turned away: %s", why)
        self._warned = True

    async def _knows(self, reader: asyncio.StreamReader) -> bool:
        if not self._token:
            return True
        if self._strangers >= MAX_STRANGERS:
            return False
        self._strangers += 1
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(TOKEN_PATIENCE):
                    return is_token(await reader.readexactly(TOKEN_BYTES), self._token)
            return False
        finally:
            self._strangers -= 1


def _is_room(writer: asyncio.StreamWriter) -> bool:
    """Say whether enough descriptors are left. Each new one has the lowest number that is free."""
    limit = descriptors.limit()
    return limit is None or int(writer.get_extra_info("socket").fileno()) < limit - min(RESERVED, limit // 4)


def _leave_if_silent(session: Session, writer: asyncio.StreamWriter) -> None:
    if not session.heard:
        writer.transport.abort()
