"""The daemon: this machine's peer, and the local socket at which programs find it.

It runs until it is told to end, and closes in the order that loses nothing: first the clients are let go, then the
peer says goodbye and its store is drained. This module must never run twice for one home.
"""

import asyncio
import inspect
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Final

from zmesh import __version__
from zmesh.daemon.adapters import Adapters, health_of
from zmesh.daemon.administration import PREFIX, Administrator
from zmesh.daemon.mailboxes import MailboxVerbs
from zmesh.daemon.namesakes import namesakes
from zmesh.daemon.place import LOCK, Place, place_of
from zmesh.daemon.presence import Presence
from zmesh.daemon.process import RUNS_ALREADY, listens
from zmesh.daemon.server import LEASE_GRACE, LocalServer
from zmesh.daemon.settings import Settings
from zmesh.daemon.supervisor import Supervisor
from zmesh.daemon.wishes import forget
from zmesh.errors import DaemonError, PeerRunning, TransportError
from zmesh.peer.arguments import brief
from zmesh.peer.configuration import load_configuration
from zmesh.peer.lock_file import LockFile
from zmesh.peer.peer import Peer

DRAIN: Final = 15.0  # seconds in which a daemon that was told to end comes to its end; the next one waits for that
RETURN: Final = 3.0  # seconds in which a daemon that runs sees that its lock was removed
LOOK_EVERY: Final = 0.02
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
        self._configuration = load_configuration(home)
        self._serving = False
        self._reloading: asyncio.Task[Any] | None = None
        self._home, self._name, self._port, self._peers = home, name, port, peers
        self._place: Place = place_of(home)
        self._since, self._started = time.time(), time.monotonic()
        self.peer: Peer
        self._server: LocalServer
        self._supervisor: Supervisor
        self._settings: Settings
        self._administrator: Administrator
        self._adapters: Adapters
        self._mailboxes: MailboxVerbs

    async def run(self, up: Callable[["Daemon"], None]) -> None:
        """Run until `over` is set; `up` is called when programs can connect.

        Raises:
            PeerRunning: The daemon of this home runs already, or another process has its peer.
            StoreError, DeviceKeyError, TransportError: It cannot be opened.
            PeerFailed: An error in zmesh has ended its peer.
        """
        lock = LockFile(self._place.directory / LOCK)
        try:
            self.peer = await self._start(lock)
            try:
                await self._serve(up, lock)
            finally:
                await self.peer.close()
        finally:
            lock.release()

    async def _start(self, lock: LockFile) -> Peer:
        """Take the lock, and start the peer; who has that may be a daemon whose lock was removed: it takes this one."""
        loop = asyncio.get_running_loop()
        end = loop.time() + RETURN
        while True:
            await self._acquire(lock)
            try:
                return await self._start_peer()
            except PeerRunning:
                lock.release()
                if loop.time() > end:
                    raise
            await asyncio.sleep(RETURN / 10)

    async def _acquire(self, lock: LockFile) -> None:
        """Take the lock; one that is coming to its end is waited for."""
        loop = asyncio.get_running_loop()
        end = loop.time() + DRAIN
        while True:
            try:
                lock.acquire()
            except PeerRunning as error:
                if loop.time() > end or listens(self._place):
                    who = f"process {error.pid}" if error.pid else "another process"
                    raise PeerRunning(f"{RUNS_ALREADY}, as {who}: `zmesh down` ends it", error.pid) from None
            else:
                return
            await asyncio.sleep(LOOK_EVERY)

    async def _start_peer(self) -> Peer:
        def described(bind: str) -> Peer:
            return Peer(self._name, home=self._home, bind=bind, peers=self._peers, lease_grace=LEASE_GRACE)

        peer = described(f"tcp://*:{self._port}")
        try:
            await peer.start()
        except TransportError as error:
            peer = described("tcp://*:*")
            await peer.start()
            here = peer.endpoints[0].rpartition(":")[2]
            self.notice = f"{error}. This time it listens at port {here}, which is free"
            _log.info("%s", self.notice)
        return peer

    async def _serve(self, up: Callable[["Daemon"], None], lock: LockFile) -> None:
        self._supervisor = Supervisor(self.peer.parts)
        self._adapters = Adapters(self._home, self._place.directory)
        self._settings = Settings(self.peer, self._configuration, self._peers, self._adapters.take)
        self._administrator = Administrator(self.peer, self._settings)
        self._server = LocalServer(self.peer, self._place, self._control)
        self._mailboxes = MailboxVerbs(self.peer.mailboxes, lambda: self._server.sessions)
        await self._server.open()
        with suppress(OSError):
            self._place.ended.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        presence = Presence(self._home, self._place, lock, self._server)
        parts = (self.over.wait(), self._ended(), self._supervisor.run(), presence.watch())
        waiting = {loop.create_task(part) for part in parts}
        try:
            self._serving = True
            up(self)
            self._adapters.take(self._configuration.adapters)
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in waiting:
                task.cancel()
            if self._reloading is not None:
                self._reloading.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await self._administrator.close()
            await self._adapters.close()  # they may finish what they do
            await self._server.close()

    async def _ended(self) -> None:
        """Wait until the peer has ended by itself; raises why."""
        while True:
            await self.peer.driver.change()

    def reload(self) -> None:
        """Take what the configuration file says now; an error in it is told, and changes nothing."""
        if self._serving:  # else it is being started, and has just read it
            self._reloading = asyncio.get_running_loop().create_task(self._settings.reload())

    # --- what concerns the daemon itself ---

    async def _control(self, verb: str, arguments: Values) -> Any:
        if verb.startswith(PREFIX):
            return await self._administrator.carry_out(verb, arguments)
        rule = self._VERBS.get(verb)
        if rule is None:
            raise DaemonError(
                f"the daemon, zmesh {__version__}, does not know {brief(verb)}: update it, then `zmesh down`"
            )
        answer = rule(self, **arguments)
        return await answer if inspect.isawaitable(answer) else answer

    async def _audited(self, verb: str, rule: Callable[..., Awaitable[Any]], asked: Values) -> Any:
        return await self._administrator.audited(verb, lambda: rule(**asked), asked)

    async def _status(self) -> Values:
        """Look at every part now, and tell what was seen."""
        await self._supervisor.look()
        peer, node = self.peer, self.peer.driver.core.node
        parts = [*self._supervisor.report(), *self._adapters.report(self._server.reports)]
        return {
            "name": peer.name,
            "version": __version__,
            "pid": os.getpid(),
            "home": str(self._home),
            "since": self._since,
            "uptime": time.monotonic() - self._started,
            "endpoints": list(peer.endpoints),
            "door": peer.door,
            "clients": [
                {"pid": session.pid, "mailbox": session.mailbox, "holds": session.holds}
                for session in self._server.sessions
                if session.pid  # who asks this without a mailbox is no client
            ],
            "health": health_of(parts).value,
            "parts": parts,
            "linked": sorted(info.name for info in peer.peers() if info.linked),
            "outgoing": len(node.outbox.by_id),
            "mailboxes": {name: mailbox.count for name, mailbox in node.inbox.mailboxes.items() if mailbox.count},
            "traffic": asdict(self._administrator.traffic.standing()),
            "troubles": [*peer.troubles, *namesakes(peer), *filter(None, (self.notice, self._settings.stale))],
        }

    def end(self) -> None:
        """Have it end, and clients that are connected not start it again."""
        _log.info("told to end")
        with suppress(OSError):  # a disk that is full must not keep it from ending
            self._place.ended.touch()
        forget(self._place)
        asyncio.get_running_loop().call_soon(self.over.set)  # after the answer

    def _down(self) -> Values:
        self.end()
        return {"pid": os.getpid()}

    _VERBS: ClassVar[dict[str, Callable[..., Any]]] = {
        "daemon.status": _status,
        "daemon.down": _down,
        "mailbox.list": lambda self: self._mailboxes.list_all(),
        "mailbox.peek": lambda self, **asked: self._mailboxes.peek(**asked),
        "mailbox.move": lambda self, **asked: self._audited("mailbox.move", self._mailboxes.move, asked),
        "mailbox.replay": lambda self, **asked: self._audited("mailbox.replay", self._mailboxes.replay, asked),
        "mailbox.remove": lambda self, **asked: self._audited("mailbox.remove", self._mailboxes.remove, asked),
    }


def run_until_signal(daemon_of: Callable[[], Daemon], up: Callable[[Daemon], None]) -> None:
    """Run a daemon in this process until it is told to end, by a client or by SIGINT or SIGTERM.

    SIGHUP makes it read its configuration again.

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
        with suppress(NotImplementedError, AttributeError):  # Windows has no such signal
            loop.add_signal_handler(signal.SIGHUP, daemon.reload)
        await daemon.run(up)

    asyncio.run(main())
