"""A peer as a member of its mesh: passes on who is trusted, and follows when that changes.

Whoever is sighted is dialled only if the membership knows its device; whoever is revoked loses its links at once, and
its connections with them. This module must never decide who is a member: the logs do.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from zmesh.discovery.mdns import MdnsSource
from zmesh.discovery.sighting import Sighting
from zmesh.errors import MeshError, TransportError, TrustError
from zmesh.peer.driver import Driver
from zmesh.peer.gate import Gate
from zmesh.peer.trust_sync import TrustSync
from zmesh.peer.zmq_link import ZmqLink
from zmesh.protocol.effects import Exclude, Linked, Share, Sighted, Told
from zmesh.protocol.frames import Have, Ops

_log = logging.getLogger("zmesh.trust")


class Member:
    """Joins a peer's gate, link, driver and discovery."""

    def __init__(self, gate: Gate, driver: Driver, link: ZmqLink) -> None:
        """Take the parts; `start` sets them going."""
        self._gate, self._driver, self._link = gate, driver, link
        self._sync = TrustSync(gate, self._say, gate.look)
        self._mdns: Sequence[MdnsSource] = ()
        self._rebinding: asyncio.Task[None] | None = None
        driver.on_linked = self._linked
        driver.on_told = self._told

    def start(self, mdns: Sequence[MdnsSource]) -> None:
        """Follow the membership from now on.

        Args:
            mdns: Sources that are to look again at whom they did not know.
        """
        self._mdns = mdns
        self._gate.watch(self._changed)

    async def close(self) -> None:
        """Stop following."""
        task, self._rebinding = self._rebinding, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def sighted(self, seen: Sighting) -> None:
        """A store was seen somewhere."""
        if self._gate.knows(seen.device):
            with suppress(MeshError):  # the peer is being closed
                self._driver.tell(Sighted(seen.store, seen.name, seen.device, seen.endpoints))

    # --- the logs ---

    def _say(self, store: bytes, frame: Have | Ops) -> None:
        with suppress(MeshError):
            self._driver.tell(Share(store, frame))

    def _linked(self, effect: Linked) -> None:
        self._sync.linked(effect.store)

    def _told(self, effect: Told) -> None:
        try:
            self._sync.received(effect.store, effect.frame)
        except TrustError as error:
            _log.warning("%s sent of the membership: %s", self._gate.name_of(effect.device), error)

    def _changed(self, gone: frozenset[str]) -> None:
        """The logs have changed: tell the others, look for new members, shut out who is none any more."""
        self._sync.spread()
        for source in self._mdns:
            source.recheck()
        for device in sorted(gone):
            _log.warning("%s (%s) is no member any more", self._gate.name_of(device), device)
            with suppress(MeshError):
                self._driver.tell(Exclude(device, "it is no member of the mesh any more"))
        if gone and (self._rebinding is None or self._rebinding.done()):
            self._rebinding = asyncio.get_running_loop().create_task(self._rebind())

    async def _rebind(self) -> None:
        try:
            await self._link.rebind()
        except TransportError as error:
            _log.error("%s", error)
