"""Notices that somebody else runs this very store: a cloned disk, a copied virtual machine, a restored image.

Two that run one store look to all others like a disk that goes back in time again and again, and neither of the two is
dialled by the other. A hint is an address of this store that is not ours, whoever says it. It is proved at the door
there, which answers with this device's own key, and is not our own door. This module must never call a machine a copy
for a hint alone, nor visit without a pause.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from zmesh.discovery.meeting import Meeting
from zmesh.discovery.sighting import Sighting, parse_endpoint
from zmesh.errors import PairingError, TrustError

PAUSE: Final = 15.0  # seconds between looks; anybody can give hints at any rate
PATIENCE: Final = 10.0  # seconds for a visit
MAX_HOSTS: Final = 4  # addresses of a hint that are tried
WAY_OUT: Final = (
    "On the one that is the copy: stop its peers, move its ZMESH_HOME away (or only device.key in it, to keep the "
    "mail, of which both then send what was not delivered), and pair it anew: zmesh invite here, "
    "zmesh join --leave CODE --name NAME there"
)
_log = logging.getLogger("zmesh.discovery")


class Doubles:
    """Looks after the hints that one peer gets about itself.

    Attributes:
        trouble: Where somebody else runs this store, and what to do; None while nobody is known to.
    """

    def __init__(self, visit: Callable[[str, int], Awaitable[Meeting]], own: Callable[[], bytes]) -> None:
        """Take what visits a door (host and port), and what returns the id of the own store."""
        self.trouble: str | None = None
        self._visit, self._own = visit, own
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def hinted(self, seen: Sighting) -> None:
        """The own store is said to be where this peer is not; while one hint is looked into, others are left."""
        if seen.door and not self._closed and (self._task is None or self._task.done()):
            hosts = list(dict.fromkeys(str(parse_endpoint(text).ip) for text in seen.endpoints))[:MAX_HOSTS]
            self._task = asyncio.get_running_loop().create_task(self._follow(hosts, seen.door))

    async def close(self) -> None:
        """Look no more."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, hosts: list[str], door: int) -> None:
        """Look, and look again for as long as somebody is there."""
        while True:
            found = None
            for host in hosts:
                if found is None and await self._is_double(host, door):
                    found = host
            self._tell(found)
            await asyncio.sleep(PAUSE)
            if found is None:
                return
            hosts = [found]

    async def _is_double(self, host: str, door: int) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                meeting = await self._visit(host, door)
        except (PairingError, TrustError, ValueError, OSError, TimeoutError) as error:
            _log.debug("nobody at %s shows that it runs this store: %s", host, error)
            return False
        except Exception:  # noqa: BLE001 - a visit that fails must not end the peer's care for later hints
            _log.exception("a look for a copy of this store at %s failed", host)
            return False
        return meeting.store == self._own() and not meeting.ourselves

    def _tell(self, host: str | None) -> None:
        trouble = None
        if host is not None:
            trouble = (
                f"another machine, at {host}, runs this very peer: one of the two is a copy (a cloned disk or virtual "
                f"machine), and messages go astray while both run. {WAY_OUT}"
            )
        if trouble is not None and trouble != self.trouble:
            _log.warning("%s", trouble)
        elif trouble is None and self.trouble is not None:
            _log.info("nobody else runs this store any more")
        self.trouble = trouble
