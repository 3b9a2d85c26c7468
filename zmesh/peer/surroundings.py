"""Where this peer is: its addresses and its door, told to everybody who looks for it, and told again when they change.

Interfaces come and go (Wi-Fi, VPN, sleep) while a peer runs. This module must never fail because of that, nor keep the
peer from running because its door cannot be opened.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from zmesh.discovery import interfaces
from zmesh.discovery.ladder import Discovery
from zmesh.discovery.sighting import MAX_PORT, Sighting, parse_endpoint
from zmesh.errors import TrustError
from zmesh.peer.zmq_link import ZmqLink
from zmesh.trust.door import Door

LOOK_EVERY: Final = 1.0  # seconds between looks at the interfaces; one costs under 1 ms
_ANY: Final = ("*", "0.0.0.0", "[::]", "::")  # noqa: S104 - what people write for all addresses
_log = logging.getLogger("zmesh.discovery")


class Surroundings:
    """Opens the door, starts discovery, and follows the addresses of this host.

    Attributes:
        own: What is announced.
        trouble: Why the door is not where it should be, or None.
    """

    def __init__(
        self,
        own: Sighting,
        *,
        bind: str,
        link: ZmqLink,
        door: Door,
        discovery: Discovery,
        moved: Callable[[tuple[str, ...]], None],
    ) -> None:
        """Take the parts.

        Args:
            own: What to announce; addresses and door are seen to here.
            bind: Where the link was told to listen; the door is at the same address, and the next port if one is named.
            link: Listens already.
            door: Not open yet.
            discovery: Not started yet.
            moved: Takes where others can dial from now on.
        """
        self.own = own
        self.trouble: str | None = None
        self._link, self._door, self._discovery, self._moved = link, door, discovery, moved
        host, _, port = bind.removeprefix("tcp://").rpartition(":")
        self._host = None if host in _ANY else str(parse_endpoint(own.endpoints[0]).ip)
        self._wanted = int(port) + 1 if port.isdigit() and 0 < int(port) < MAX_PORT else 0
        self._failing = ""  # why the last look came to nothing
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Where the door is."""
        return self._door.port

    @property
    def troubles(self) -> tuple[str, ...]:
        """What keeps this peer from being found, in words."""
        blind = self._link.blind
        unseen = f"the addresses of this host cannot be read ({blind}): until they can, others may not find it"
        return self._discovery.troubles + ((self.trouble,) if self.trouble else ()) + ((unseen,) if blind else ())

    async def start(self) -> None:
        """Open the door, announce, and follow from now on."""
        await self.reopen()
        self.own = replace(self.own, door=self._door.port)
        await self._discovery.start(self.own)
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Withdraw what was announced, and shut the door."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._discovery.stop()
        await self._door.close()

    async def reopen(self) -> None:
        """Open the door anew, where it should be, or else elsewhere."""
        if not await self._open(self._wanted) and self._wanted:
            await self._open(0)

    async def _open(self, port: int) -> bool:
        try:
            await self._door.open(self._host, port)
        except TrustError as error:
            trouble = f"{error}. Until it is free, who is not found by mDNS cannot ask for this peer there"
            if self.trouble != trouble:
                _log.warning("the door: %s", trouble)
            self.trouble = trouble
            return False
        if port == self._wanted:
            self.trouble = None
        return True

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self._look()
            except OSError as error:  # the system may be short of something for a while
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - the next look may find the network as it should be
                self._fail(error, trace=True)
            else:
                self._failing = ""

    def _fail(self, error: Exception, *, trace: bool = False) -> None:
        """Say what keeps us from following, once and not every second."""
        failing, self._failing = self._failing, f"{type(error).__name__}: {error}"
        if self._failing != failing:
            _log.warning("the addresses of this host cannot be followed: %s", self._failing, exc_info=trace)

    async def _look(self) -> None:
        if self._wanted and self._door.port != self._wanted:
            before = self._door.port
            if await self._open(self._wanted):
                _log.info("the door is open at port %d now, no more at %d", self._wanted, before)
        endpoints = self._link.endpoints
        if self._link.blind is not None:
            raise OSError(self._link.blind)
        if not endpoints:
            return  # it is being bound anew
        now = replace(self.own, endpoints=endpoints, door=self._door.port)
        if now == self.own:
            return
        if now.endpoints != self.own.endpoints:
            _log.info("this host has other addresses now: %s", ", ".join(now.endpoints))
            self._moved(interfaces.far(now.endpoints))
        self.own = now
        await self._discovery.update(now)
