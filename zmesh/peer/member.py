"""A peer as a member of its mesh: passes on who is trusted and where they are, and follows when that changes.

Whoever is sighted is dialled only if the membership knows its device; whoever is revoked loses its links at once, and
its connections with them. This module must never decide who is a member: the logs do.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from zmesh.discovery.address_book import AddressBook
from zmesh.discovery.doubles import Doubles
from zmesh.discovery.ladder import Discovery
from zmesh.discovery.mdns import MdnsSource
from zmesh.discovery.meeting import Meeting, Meetings
from zmesh.discovery.sighting import Sighting, Source
from zmesh.discovery.visits import PORT, Named, Visits
from zmesh.errors import MeshError, TransportError, TrustError
from zmesh.peer.driver import Driver
from zmesh.peer.gate import Gate
from zmesh.peer.trust_sync import TrustSync
from zmesh.peer.zmq_link import ZmqLink
from zmesh.protocol.commands import Exclude, Moved, Share, Sighted
from zmesh.protocol.effects import Linked, Told
from zmesh.protocol.frames import Have, Ops

ADDRESSES: Final = b"addresses"
"""Names the address records among what links carry about replicated logs."""
_log = logging.getLogger("zmesh.trust")


class Member:
    """Joins a peer's gate, link, driver and discovery.

    Attributes:
        book: Where members are, as they sign it.
        meetings: What its door answers, and what it asks at others.
        visits: When others' doors are visited.
        doubles: Whether somebody else runs this very store.
    """

    def __init__(self, gate: Gate, driver: Driver, link: ZmqLink, named: Iterable[Named] = ()) -> None:
        """Take the parts, and addresses to visit; `start` sets them going."""
        self._gate, self._driver, self._link = gate, driver, link
        self._sync = TrustSync(gate, self._say, gate.look)
        self.book = AddressBook(
            gate.store, lambda store, message: self._say(store, Ops(ADDRESSES, message)), self._reached
        )
        self.meetings = Meetings(gate.store, self.book, gate.look)
        self.visits = Visits(self._visit, self._needs_no_visit, named)
        self.doubles = Doubles(self.meetings.visit, lambda: driver.core.node.store)
        self._mdns: list[MdnsSource] = []
        self._discovery: Discovery | None = None
        self._rebinding: asyncio.Task[None] | None = None
        driver.on_linked = self._linked
        driver.on_told = self._told

    def start(self, sources: Iterable[Source], discovery: Discovery) -> None:
        """Follow the membership from now on.

        Args:
            sources: Of addresses; some are to look again at whom they did not know.
            discovery: What runs them.
        """
        self._discovery = discovery
        self.use(sources)
        self._name_inviter()
        self._gate.watch(self._changed)

    def use(self, sources: Iterable[Source]) -> None:
        """These are the sources of addresses from now on."""
        self._mdns = [source for source in sources if isinstance(source, MdnsSource)]
        for store, remote in self._driver.core.node.remotes.items():
            if remote.up:
                self.book.linked(store)

    async def close(self) -> None:
        """Stop following."""
        task, self._rebinding = self._rebinding, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.doubles.close()

    def sighted(self, seen: Sighting) -> None:
        """A store was seen somewhere."""
        if self._gate.knows(seen.device):
            with suppress(MeshError):  # the peer is being closed
                self._driver.tell(Sighted(seen.store, seen.name, seen.device, seen.endpoints))
            if "rendezvous" not in seen.source:  # on this host there are no strangers
                self.visits.sighted(seen)

    def moved(self, endpoints: tuple[str, ...]) -> None:
        """This host's addresses have changed."""
        with suppress(MeshError):
            self._driver.tell(Moved(endpoints))

    # --- doors elsewhere ---

    async def _visit(self, host: str, door: int, dial: int) -> Meeting:
        return await self.meetings.visit(host, door, dial=dial)

    def _reached(self, store: bytes) -> bool:
        node = self._driver.core.node
        remote = node.remotes.get(store)
        return store == node.store or (remote is not None and remote.up)

    def _needs_no_visit(self, store: bytes) -> bool:
        """Say whether the link to a store is up, or not to be."""
        return self._reached(store) or self._driver.core.node.halting.of(store) is not None

    def _name_inviter(self) -> None:
        """Where this device was invited there is a member, found by others or not."""
        try:
            inviter = self._gate.store.inviter
        except TrustError as error:
            _log.warning("%s", error)
            return
        if inviter is not None:
            host, door = inviter
            for port in {PORT, door - 1}:  # the invitation may have had a door of its own, for as long as it was open
                self.visits.name(Named(host, port))

    # --- the logs ---

    def _say(self, store: bytes, frame: Have | Ops) -> None:
        with suppress(MeshError):
            self._driver.tell(Share(store, frame))

    def _linked(self, effect: Linked) -> None:
        self._sync.linked(effect.store)
        self.book.linked(effect.store)

    def _told(self, effect: Told) -> None:
        try:
            if effect.frame.log != ADDRESSES:
                self._sync.received(effect.store, effect.frame)
            elif isinstance(effect.frame, Ops):
                self.book.received(effect.store, effect.frame.content)
        except (TrustError, ValueError) as error:
            _log.warning("%s sent of the membership: %s", self._gate.name_of(effect.device), error)

    def _changed(self, gone: frozenset[str]) -> None:
        """The logs have changed: tell the others, shut out who is no member any more, look for new ones."""
        self._sync.spread()
        for device in sorted(gone):
            _log.warning("%s (%s) is no member any more", self._gate.name_of(device), device)
            with suppress(MeshError):
                self._driver.tell(Exclude(device, "it is no member of the mesh any more"))
        if gone and (self._rebinding is None or self._rebinding.done()):
            self._rebinding = asyncio.get_running_loop().create_task(self._rebind())
        self.visits.forget(gone)
        for source in self._mdns:
            source.recheck()
        self.book.recheck()
        if self._discovery is not None:
            self._discovery.repeat()  # who was shut out and is a member again is to be dialled again
        self._name_inviter()
        self.visits.hasten()

    async def _rebind(self) -> None:
        try:
            await self._link.rebind()
        except TransportError as error:
            _log.error("%s", error)
