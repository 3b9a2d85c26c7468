"""Sees to it that programs find a running daemon: its socket, its lock and their directory may be removed under it.

A file that is removed stays what it is for who has it open, and is nothing to all others: they could neither connect
to the daemon nor start another. This module must never take what another daemon has put there meanwhile.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

from zmesh.daemon.place import Place, restore
from zmesh.daemon.server import LocalServer
from zmesh.errors import MeshError, PeerRunning, StoreError
from zmesh.peer.lock_file import LockFile

LOOK_EVERY: Final = 2.0  # seconds; a look is two calls of the system, and clients wait for longer than that
LOOK_AGAIN: Final = 0.05  # seconds, while somebody has the new lock: a daemon that starts, and finds our store taken
OUSTED: Final = 10.0  # seconds after which it is not that
_log = logging.getLogger("zmesh.daemon")


class Presence:
    """Of one daemon."""

    def __init__(self, home: Path, place: Place, lock: LockFile, server: LocalServer) -> None:
        """Take what must be there: the home, the directory, the lock that this process holds, the socket."""
        self._home, self._place, self._lock, self._server = home, place, lock, server
        self._trouble = ""
        self._began = home.stat()

    async def watch(self) -> None:
        """Look every now and then, until cancelled.

        Raises:
            PeerRunning: Another daemon has come in its place.
            StoreError: The home itself is gone.
        """
        clock = asyncio.get_running_loop().time
        every, well = LOOK_EVERY, clock()
        while True:
            await asyncio.sleep(every)
            if not self._is_home():
                raise StoreError(f"{self._home} was removed, with all mail in it: the daemon ends")
            every = LOOK_EVERY
            try:
                await self._look()
            except PeerRunning:
                if clock() > well + OUSTED:
                    raise
                every = LOOK_AGAIN
            except (OSError, MeshError) as error:
                self._tell(f"programs do not find this daemon: {error}")
            else:
                self._trouble, well = "", clock()

    def _is_home(self) -> bool:
        """Say whether the home is the one that it was: other parts make its directories again when they are gone."""
        try:
            return os.path.samestat(self._home.stat(), self._began)
        except OSError:
            return False

    async def _look(self) -> None:
        if not self._lock.lies:
            restore(self._place)
            self._lock.renew()
            _log.warning("the lock in %s was removed, and is made anew", self._place.directory)
        if not self._server.lies:
            restore(self._place)
            await self._server.listen()
            _log.warning("the socket at which programs find this daemon was removed, and is made anew")

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.warning("%s", trouble)
        self._trouble = trouble
