"""The daemon: this machine's peer, and the local socket at which programs find it.

It runs until it is told to end, and closes in the order that loses nothing: first the clients are let go, then the
peer says goodbye and its store is drained. This module must never run twice for one home.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final

from zmesh import __version__
from zmesh.daemon.place import Place, place_of
from zmesh.daemon.server import LEASE_GRACE, LocalServer
from zmesh.errors import DaemonError, PeerRunning, TransportError
from zmesh.peer.lock_file import LockFile
from zmesh.peer.peer import Peer

LOCK: Final = "lock"
DRAIN: Final = 10.0  # seconds for the store and the links to come to an end
_log = logging.getLogger("zmesh.daemon")

Values = dict[str, Any]


class Daemon:
    """One daemon.

    Attributes:
        peer: Its peer, once it is started.
        over: Set when it is to end.
    """

    def __init__(self, home: Path, name: str, *, port: int, peers: tuple[str, ...] | None = None) -> None:
        """Describe it; nothing is opened before `run`.

        Args:
            home: Of its state.
            name: What its peer is called.
            port: Where the peer listens, if it is free; its door is at the next one.
            peers: As of `Peer`.
        """
        self.over = asyncio.Event()
        self.notice = ""
        self._home, self._name, self._port, self._peers = home, name, port, peers
        self._place: Place = place_of(home)
        self._since = time.time()
        self.peer: Peer
        self._server: LocalServer

    async def run(self, up: Callable[["Daemon"], None]) -> None:
        """Run until `over` is set; `up` is called when programs can connect.

        Raises:
            PeerRunning: The daemon of this home runs already, or another process has its peer.
            StoreError, DeviceKeyError, TransportError: It cannot be opened.
            PeerFailed: An error in zmesh has ended its peer.
        """
        lock = LockFile(self._place.directory / LOCK)
        try:
            lock.acquire()
        except PeerRunning as error:
            who = f"process {error.pid}" if error.pid else "another process"
            raise PeerRunning(
                f"the daemon of this home runs already, as {who}: `zmesh down` ends it", error.pid
            ) from None
        try:
            self.peer = await self._start_peer()
            try:
                await self._serve(up)
            finally:
                await self.peer.close()
        finally:
            lock.release()

    async def _start_peer(self) -> Peer:
        def described(bind: str) -> Peer:
            return Peer(self._name, home=self._home, bind=bind, peers=self._peers, lease_grace=LEASE_GRACE)

        peer = described(f"tcp://*:{self._port}")
        try:
            await peer.start()
        except TransportError as error:
            self.notice = f"{error}. This time it listens at a port that is free"
            _log.warning("%s", self.notice)
            peer = described("tcp://*:*")
            await peer.start()
        return peer

    async def _serve(self, up: Callable[["Daemon"], None]) -> None:
        self._server = LocalServer(self.peer, self._place, self._control)
        await self._server.open()
        self._place.ended.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        waiting = {loop.create_task(self.over.wait()), loop.create_task(self._ended())}
        try:
            up(self)
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await self._server.close()

    async def _ended(self) -> None:
        """Wait until the peer has ended by itself; raises why."""
        while True:
            await self.peer.driver.change()

    # --- what concerns the daemon itself ---

    async def _control(self, verb: str, arguments: Values) -> Any:
        rule = self._VERBS.get(verb)
        if rule is None:
            raise DaemonError(f"the daemon, zmesh {__version__}, does not know {verb!r}: update it, then `zmesh down`")
        return rule(self, **arguments)

    def _status(self) -> Values:
        peer = self.peer
        return {
            "name": peer.name,
            "version": __version__,
            "pid": os.getpid(),
            "home": str(self._home),
            "since": self._since,
            "endpoints": list(peer.endpoints),
            "clients": [
                {"pid": session.pid, "mailbox": session.mailbox, "holds": session.holds}
                for session in self._server.sessions
            ],
            "linked": sorted(info.name for info in peer.peers() if info.linked),
            "troubles": [*peer.troubles, *([self.notice] if self.notice else [])],
        }

    def end(self) -> None:
        """Have it end, and clients that are connected not start it again."""
        _log.info("told to end")
        self._place.ended.touch()
        asyncio.get_running_loop().call_soon(self.over.set)  # after the answer

    def _down(self) -> Values:
        self.end()
        return {"pid": os.getpid()}

    _VERBS: ClassVar[dict[str, Callable[..., Any]]] = {
        "daemon.status": _status,
        "daemon.down": _down,
    }


def run_until_signal(daemon_of: Callable[[], Daemon], up: Callable[[Daemon], None]) -> None:
    """Run a daemon in this process until it is told to end, by a client or by SIGINT or SIGTERM.

    Raises:
        MeshError: As `Daemon.run`.
    """
    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())

    async def main() -> None:
        daemon = daemon_of()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError):  # Windows: Ctrl-C ends the loop by itself
                loop.add_signal_handler(name, daemon.over.set)
        await daemon.run(up)

    asyncio.run(main())
