"""An examination of this machine's place in the mesh: all probes at once, within ten seconds, into one `Observed`.

Members are looked for where anything says they are: multicast, what this machine's own peers know, where this device
was invited, what the user has named, and what the doors say that are reached. It may run beside the peers of this home:
it must never touch their stores, announce anything, or make others remember an address.
"""

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from zmesh.discovery import interfaces as own_interfaces
from zmesh.discovery.address_book import AddressBook
from zmesh.discovery.listeners import listen, port_use, process_at
from zmesh.discovery.mdns import MdnsSource
from zmesh.discovery.meeting import Meetings
from zmesh.discovery.neighbours import neighbours
from zmesh.discovery.observation import (
    Examined,
    Hearing,
    Interface,
    Neighbour,
    Observed,
    OwnPeer,
    PortUse,
    Reach,
    Spot,
    Standing,
    Visit,
)
from zmesh.discovery.probes import dial, echoes, hear_oneself, interfaces, main_address, resolve
from zmesh.discovery.rendezvous import look
from zmesh.discovery.sighting import Sighting, parse_endpoint
from zmesh.discovery.visits import PORT, Named
from zmesh.errors import PairingError, TrustError
from zmesh.protocol.ownership import NONCE_BYTES, store_of
from zmesh.trust.entry import Revocation
from zmesh.trust.membership import Member
from zmesh.trust.refusal import Refusal
from zmesh.trust.trust_store import TrustStore

LONGEST: Final = 9.0  # seconds for all of it: a person waits
LISTEN: Final = 3.0  # seconds for multicast, until all members are heard: three of zeroconf's questions
LINGER: Final = 0.3  # seconds more, in which a copy of this machine is heard: answers come within 0.12
NOBODY: Final = 1.0  # seconds when no member is to be heard
VISIT: Final = 5.0  # seconds at one door: it takes a moment, and two seconds to find out that it cannot connect back
AT_ONCE: Final = 64  # connections under way
DOORS_AT_ONCE: Final = 8
MAX_ADDRESSES: Final = 256  # tried in all: a mesh of 100 with two interfaces each
MAX_RESOLVED: Final = 4  # addresses of one host name
_BACKS: Final = ("reached", "refused", "silence")

Address = tuple[str, int, int]
"""Host, port of the peer, port of its door or 0."""


class Examination:
    """One examination; to be run once."""

    def __init__(
        self,
        store: TrustStore | None,
        rendezvous: Path,
        named: Iterable[Named] = (),
        only: Member | None = None,
        *,
        port: int = PORT,
        sources: tuple[str, ...] = ("rendezvous", "static", "mdns"),
    ) -> None:
        """Take what is to be examined.

        Args:
            store: The membership; None when it cannot be opened.
            rendezvous: Where the peers of this home say that they run.
            named: Addresses of peers elsewhere, as the user has named them.
            only: Look for this member and for nobody else.
            port: Where a peer of this machine is to listen; its door is at the next one.
            sources: Where peers of this home look for addresses; without "mdns" there is no multicast.
        """
        self._port, self._sources = port, sources
        self._store, self._rendezvous, self._named, self._only = store, rendezvous, tuple(named), only
        self._standing = standing(store) if store is not None else None
        self._wanted = {member.device: member for member in _others(store)}
        if only is not None:
            self._wanted = {only.device: only}
        self._own = store.device.id if store is not None else ""
        self._here: set[str] = set()  # where the peers of this home say that they are
        self._copies: set[str] = set()
        self._called: dict[str, dict[bytes, str]] = {}  # the devices of the peers that are there, by name and store
        self._interfaces: tuple[Interface, ...] = ()
        self._blind = ""
        self._hearing = Hearing()
        self._heard: set[str] = set()
        self._strangers: set[bytes] = set()
        self._all_heard = asyncio.Event()
        self._spots: dict[str, dict[tuple[str, int], Spot]] = {}  # by device, or by the name of who is not known
        self._tried: set[tuple[str, Address]] = set()
        self._met: set[str] = set()
        self._learned: list[Sighting] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._left_out = 0
        self._dials, self._doors = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(DOORS_AT_ONCE)
        self._meetings: Meetings | None = None
        self._back = 0

    async def run(self) -> Observed:
        """Run all probes; what is not over in time is left out, and counted."""
        end = asyncio.get_running_loop().time() + LONGEST
        seen, trouble = look(self._rendezvous)
        self._here = {endpoint for sighting in seen for endpoint in sighting.endpoints}
        peers, ports = await self._look_around(seen)
        for sighting, peer in zip(seen, peers, strict=True):
            if peer.answers:
                self._call(sighting.name, sighting.store, sighting.device)
        listener = self._listener(seen, peers)
        try:
            await self._prepare()
            for work in (*self._multicast(), *self._known(seen)):
                self._start(work)
            unfinished = await self._finish(end)
        finally:
            if listener is not None:
                listener.close()
        return Observed(
            platform=sys.platform,
            faults=tuple(text for text in (trouble, self._blind) if text),
            standing=self._standing,
            peers=peers,
            ports=ports,
            interfaces=self._interfaces,
            main=main_address(),
            hearing=replace(self._hearing, strangers=len(self._strangers)) if "mdns" in self._sources else None,
            members=self._members(),
            namesakes=self._namesakes(),
            copies=tuple(sorted(self._copies)),
            named=bool(self._named),
            port=self._port,
            sources=self._sources,
            alone=self._only is not None,
            unfinished=unfinished + self._left_out,
        )

    # --- this machine ---

    async def _look_around(self, seen: list[Sighting]) -> tuple[tuple[OwnPeer, ...], tuple[PortUse, ...]]:
        loop = asyncio.get_running_loop()
        try:
            self._interfaces = interfaces()
        except OSError as error:
            self._blind = f"the addresses of this machine cannot be read: {error.strerror or error}"
        peers = await asyncio.gather(*[_own_peer(sighting) for sighting in seen])
        own = {port for peer in peers if peer.answers for port in (peer.port, peer.door)}
        free = [port for port in (self._port, self._port + 1) if port not in own]
        ports = await asyncio.gather(*[loop.run_in_executor(None, port_use, port) for port in free])
        return tuple(peers), tuple(ports)

    def _listener(self, seen: list[Sighting], peers: tuple[OwnPeer, ...]) -> socket.socket | None:
        """Choose the port that others are to connect back to: that of a peer here, or else one that is opened for now.

        The documented one if it is free, because a firewall is told ports.
        """
        far = [
            peer.port
            for sighting, peer in zip(seen, peers, strict=True)
            if peer.answers and not all(parse_endpoint(text).ip.is_loopback for text in sighting.endpoints)
        ]
        if far:
            self._back = self._port if self._port in far else far[0]
            return None
        for port in (self._port, 0):
            try:
                listener = listen(port)
            except OSError:
                continue
            self._back = listener.getsockname()[1]
            return listener
        return None

    async def _prepare(self) -> None:
        """Make ready to visit doors, if this device is a member of a mesh."""
        store = self._store
        me = store.me() if store is not None else None
        if store is None or me is None:
            return
        book = AddressBook(store, lambda *_: None)
        ident = store_of(me.device, bytes(NONCE_BYTES))
        here: tuple[str, ...] = (f"tcp://127.0.0.1:{self._back or self._port}",)
        with contextlib.suppress(OSError):  # it is asked quietly: nobody keeps what it says
            here = own_interfaces.endpoints(self._back or self._port, ipv6=False)
        await book.start(Sighting(ident, me.name, me.device, here, "own"), self._learned.append)
        if book.record is not None:
            self._meetings = Meetings(store, book, lambda: None)

    # --- multicast ---

    def _multicast(self) -> Iterable[Coroutine[Any, Any, None]]:
        if "mdns" in self._sources:
            yield self._listen()
            yield self._hear_oneself()

    async def _listen(self) -> None:
        source = MdnsSource(lambda _: True)
        try:
            await source.listen(self._on_heard)
        except OSError as error:
            self._hearing = Hearing(str(error), busy=error.errno == errno.EADDRINUSE)
            return
        try:
            async with asyncio.timeout(LISTEN if self._wanted else NOBODY):
                await self._all_heard.wait()
                await asyncio.sleep(LINGER)
        except TimeoutError:
            pass
        finally:
            await source.stop()

    def _on_heard(self, sighting: Sighting) -> None:
        if self._store is None or self._store.membership.by_device(sighting.device) is None:
            self._strangers.add(sighting.store)
        else:
            self._heard.add(sighting.device)
            self._call(sighting.name, sighting.store, sighting.device)
            self._seek(sighting)
        if self._wanted and self._wanted.keys() <= self._heard:
            self._all_heard.set()

    async def _hear_oneself(self) -> None:
        self._interfaces = await hear_oneself(self._interfaces)

    # --- members ---

    def _known(self, seen: list[Sighting]) -> Iterable[Coroutine[Any, Any, None]]:
        """Where anything is known from the start."""
        for sighting in seen:
            if sighting.door and self._meetings is not None:
                host = str(parse_endpoint(sighting.endpoints[0]).ip)
                yield self._ask_own(host, sighting.door)
        me = self._store.me() if self._store is not None else None
        inviter = self._store.inviter if self._store is not None else None
        if me is not None and inviter is not None and me.inviter in self._wanted:
            host, door = inviter
            for port in {door - 1, PORT}:
                yield self._seek_named(Named(host, port), me.inviter)
        for named in self._named:
            yield self._seek_named(named, "")

    async def _ask_own(self, host: str, door: int) -> None:
        """Let a peer of this home say where it believes others to be."""
        await self._ask((host, 0, door), back=0)

    def _seek(self, sighting: Sighting) -> None:
        if sighting.device in self._wanted or sighting.device == self._own:
            for text in sighting.endpoints:
                endpoint = parse_endpoint(text)
                if not endpoint.ip.is_loopback and not (sighting.device == self._own and self._is_here(text)):
                    self._try(sighting.device, (str(endpoint.ip), endpoint.port, sighting.door))

    def _is_here(self, endpoint: str) -> bool:
        """Say whether an address in this device's name is of a peer of this home, or at least of this machine."""
        host = str(parse_endpoint(endpoint).ip)
        return endpoint in self._here or any(host == interface.address for interface in self._interfaces)

    async def _seek_named(self, named: Named, device: str) -> None:
        door = named.port + 1
        hosts = (await resolve(named.host))[:MAX_RESOLVED]
        for host in hosts:
            self._try(device or str(named), (host, named.port, door))
        if not hosts:
            self._keep(device or str(named), Spot(named.host, named.port, door, Reach.NO_SUCH_NAME))

    def _try(self, who: str, address: Address) -> None:
        """Try an address in a task of its own, each once."""
        if (who, address) in self._tried:
            return
        if len(self._tried) >= MAX_ADDRESSES:
            self._left_out += 1
            return
        self._tried.add((who, address))
        self._start(self._look_at(who, address))

    async def _look_at(self, who: str, address: Address) -> None:
        host, port, door = address
        async with self._dials:
            peer, at_door = await asyncio.gather(dial(host, port), dial(host, door) if door else _no_door())
        local, own = self._local(host), any(host == interface.address for interface in self._interfaces)
        reached = Reach.REACHED in (peer, at_door)
        neighbour = Neighbour.UNKNOWN if reached else await self._is_there(host)
        spot = Spot(host, port, door, peer, at_door, local, own, neighbour)
        if at_door is Reach.REACHED and self._meetings is not None:
            device, visit = await self._ask(address, self._back)
            if who == device == self._own:
                self._copies.add(host)
            spot, who = replace(spot, visit=visit), device or who
        self._keep(who, spot)

    async def _is_there(self, host: str) -> Neighbour:
        if await echoes(host):
            return Neighbour.PRESENT
        return neighbours().get(host, Neighbour.UNKNOWN) if self._local(host) else Neighbour.UNKNOWN

    async def _ask(self, address: Address, back: int) -> tuple[str, Visit]:
        """Visit a door; return the device that lives there, if it is a member, and what it said."""
        assert self._meetings is not None
        host, port, door = address
        try:
            async with self._doors, asyncio.timeout(VISIT):
                meeting = await self._meetings.visit(host, door, dial=port, back=back, quiet=True)
        except TimeoutError:
            return "", Visit("its door takes connections and says nothing")
        except Refusal as error:
            return "", Visit(str(error), error.reason)
        except (PairingError, TrustError, ValueError) as error:
            return "", Visit(str(error))
        self._met.add(meeting.device)
        self._call(meeting.name, meeting.store, meeting.device)
        learned, self._learned[:] = list(self._learned), []
        for sighting in learned:
            if sighting.device not in self._met or sighting.device == self._own:
                self._seek(sighting)
        went = meeting.back if meeting.back in _BACKS else ""
        return meeting.device, Visit(skew=meeting.skew, back=went, seen=_numeric(meeting.seen))

    def _call(self, name: str, store: bytes, device: str) -> None:
        member = self._store.membership.by_device(device) if self._store is not None else None
        self._called.setdefault(name, {})[store] = member.name if member is not None else device[:8]

    def _namesakes(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return tuple(
            (name, tuple(sorted(stores.values()))) for name, stores in sorted(self._called.items()) if len(stores) > 1
        )

    def _keep(self, who: str, spot: Spot) -> None:
        self._spots.setdefault(who, {})[spot.host, spot.port] = spot

    def _local(self, host: str) -> bool:
        ip = ip_address(host)
        return any(
            ip in ip_network(f"{interface.address}/{interface.prefix}", strict=False)
            for interface in self._interfaces
            if interface.up and (":" in interface.address) == (":" in host)
        )

    def _members(self) -> tuple[Examined, ...]:
        found = [
            Examined(member.name, device, device in self._heard, tuple(self._spots.pop(device, {}).values()))
            for device, member in self._wanted.items()
        ]
        told = {key for member in found for key in ((spot.host, spot.port) for spot in member.spots)}
        rest = [
            Examined(who, "", spots=tuple(spots.values()))
            for who, spots in self._spots.items()
            if (self._store is None or self._store.membership.by_device(who) is None) and not spots.keys() <= told
        ]
        return (*found, *rest)

    # --- tasks ---

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def _finish(self, end: float) -> int:
        """Wait for all tasks, and those they start; return how many were not over in time."""
        loop = asyncio.get_running_loop()
        try:
            while self._tasks and loop.time() < end:
                done, _ = await asyncio.wait(
                    self._tasks, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED
                )
                self._tasks -= done
                for task in done:
                    task.result()  # an error of ours is not to be hidden
            return len(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


def standing(store: TrustStore) -> Standing:
    """Return how this device stands in its mesh."""
    me = store.me()
    if me is None:
        return Standing()
    others = tuple(member.name for member in _others(store))
    if not me.revoked:
        return Standing(me.name, others)
    return Standing(me.name, others, revoked=True, by=_revoker(store, me), reason=me.reason)


def _revoker(store: TrustStore, me: Member) -> str:
    for author in store.have():
        for entry in store.log(author):
            body = entry.body
            if isinstance(body, Revocation) and body.device == me.public and body.last == me.last:
                if author == store.membership.recovery:
                    return "the recovery phrase"
                member = store.membership.members.get(author)
                return "" if member is None else "this device itself" if author == me.public else member.name
    return ""


def _others(store: TrustStore | None) -> list[Member]:
    if store is None:
        return []
    members = store.membership.members.values()
    return [member for member in members if not member.revoked and member.public != store.device.public]


async def _own_peer(sighting: Sighting) -> OwnPeer:
    endpoint = parse_endpoint(sighting.endpoints[0])
    answers = await dial(str(endpoint.ip), endpoint.port) is Reach.REACHED
    pid = await asyncio.get_running_loop().run_in_executor(None, process_at, endpoint.port) if answers else 0
    return OwnPeer(sighting.name, endpoint.port, sighting.door, answers, pid)


async def _no_door() -> None:
    return None


def _numeric(text: str) -> str:
    """Return an address that a member has told, if it is one; IPv4 in IPv6 as what it is."""
    try:
        ip = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(ip, "ipv4_mapped", None) or ip)
