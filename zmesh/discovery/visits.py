"""When doors are visited: those of addresses somebody has named, and those of members that are seen but not linked.

A named address (`peers` in the configuration, `ZMESH_PEERS`, where this device was invited) is visited until its peer
is linked, and again whenever it is not. A member that was sighted is visited when no link comes up: it may not have
heard of this device yet. This module must never visit without a pause, nor more than a few at a time.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from zmesh.discovery.meeting import Meeting
from zmesh.discovery.sighting import MAX_PORT, Sighting, parse_endpoint
from zmesh.errors import PairingError, TrustError
from zmesh.protocol.backoff import Backoff
from zmesh.protocol.bounds import MAX_PEERS

PORT: Final = 7420  # the documented one of a machine's peer, so that a firewall can be told
DOOR: Final = PORT + 1  # of its door
FIRST: Final = 0.5  # seconds until a named address is visited again; doubles
MOST: Final = 15.0
CHECK: Final = 2.0  # seconds between looks at a link that is up
GRACE: Final = 1.5  # seconds that a sighted member has to link by itself: a dial and a HELLO take 0.1
AT_ONCE: Final = 8  # visits under way: each is a connection that may take seconds to fail
PATIENCE: Final = 20.0  # seconds for a visit: a door that says something now and then must not hold us for ever
MAX_NAMED: Final = 64  # addresses in a configuration
MAX_HOST: Final = 253  # characters of a host name, RFC 1035
_log = logging.getLogger("zmesh.discovery")


@dataclass(frozen=True, slots=True)
class Named:
    """An address that somebody has named.

    Attributes:
        host: Name or numeric address.
        port: Port of the peer; its door's is the next.
    """

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as in a configuration."""
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


def read_named(text: object, port: int = PORT) -> Named:
    """Read `tcp://HOST:PORT`, `HOST:PORT` or `HOST`; an IPv6 address stands in brackets when a port follows.

    Args:
        text: What somebody has written.
        port: The one that is meant when none is said.

    Raises:
        ValueError: It is no such address.
    """
    problem = f"{text!r:.200} is no address of a peer: write tcp://192.0.2.7:{port}, or a host name in its place"
    if not isinstance(text, str) or not text.isascii():
        raise ValueError(problem)
    plain = text.strip().removeprefix("tcp://").rstrip("/")
    host, colon, digits = plain.rpartition(":")
    if not colon or (plain.count(":") > 1 and not host.endswith("]")):
        host, digits = plain, str(port)
    bare = host.removeprefix("[").removesuffix("]")
    usable = 0 < len(bare) <= MAX_HOST and all(c.isalnum() or c in ".-_:%" for c in bare)
    if usable and (":" in bare or "%" in bare):
        usable = _is_ipv6(bare)
    if not usable or not digits.isdigit() or len(digits) > len(str(MAX_PORT)) or not 0 < int(digits) < MAX_PORT:
        raise ValueError(problem)
    return Named(bare, int(digits))


def _is_ipv6(host: str) -> bool:
    try:
        return ip_address(host).version == 6  # noqa: PLR2004 - the version
    except ValueError:
        return False


class _Place:
    """Where visits go, and how they went."""

    def __init__(self, hosts: tuple[str, ...], door: int, dial: int, due: float) -> None:
        self.hosts, self.door, self.dial, self.due = hosts, door, dial, due
        self.store, self.device = b"", ""
        self.pause = Backoff(FIRST, MOST)
        self.task: asyncio.Task[None] | None = None
        self.trouble = ""


class Visits:
    """The source "static", and the visits to members that do not link.

    Attributes:
        trouble: Which of the addresses named by a person do not answer, and why; None when all do.
    """

    def __init__(
        self,
        visit: Callable[[str, int, int], Awaitable[Meeting]],
        linked: Callable[[bytes], bool],
        named: Iterable[Named] = (),
    ) -> None:
        """Take what is needed.

        Args:
            visit: Visits a door: host, its port, and the port of the peer or 0.
            linked: Says whether the link to a store is up.
            named: Addresses to visit from the start.
        """
        self._visit, self._linked = visit, linked
        self._named = tuple(dict.fromkeys(named))
        self._places: dict[object, _Place] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # visits under way
        self._loop: asyncio.AbstractEventLoop
        self._runner: asyncio.Task[None] | None = None  # there is one from `start` to `stop`
        self._news = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        """What the last visits came to, at the addresses that a person has named."""
        places = [(named, self._places[named]) for named in self._named if named in self._places]
        failed = [f"{named}: {place.trouble}" for named, place in places if place.trouble]
        return "; ".join(failed) or None

    async def start(self, own: Sighting, found: Callable[[Sighting], None]) -> None:  # noqa: ARG002 - see Source
        """Begin to visit; what is found is reported by who visits."""
        self._loop = asyncio.get_running_loop()
        self._runner = self._loop.create_task(self._run())
        for each in self._named:
            self.name(each)

    async def update(self, own: Sighting) -> None:  # noqa: ARG002 - see Source
        """This host is elsewhere: visit everybody who is not linked now."""
        self.hasten()

    async def stop(self) -> None:
        """Stop visiting."""
        runner, self._runner = self._runner, None
        self._places.clear()
        tasks = [*self._tasks] if runner is None else [runner, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- places ---

    def name(self, named: Named) -> None:
        """Visit an address from now on; without `start`, nobody is visited."""
        if self._runner is not None and len(self._places) < MAX_NAMED + MAX_PEERS and named not in self._places:
            self._places[named] = _Place((named.host,), named.port + 1, named.port, self._loop.time())
            self._news.set()

    def name_anew(self, named: Iterable[Named]) -> None:
        """A person names other addresses than before: those that are named no more are not visited any more."""
        before, self._named = self._named, tuple(dict.fromkeys(named))
        for each in before:
            place = self._places.get(each)
            if each not in self._named and place is not None:
                del self._places[each]
                if place.task is not None:
                    place.task.cancel()
        for each in self._named:
            self.name(each)

    def sighted(self, seen: Sighting) -> None:
        """A member was sighted: visit its door if no link comes up."""
        place = self._places.get(seen.store)
        if self._runner is None or not seen.door:
            return
        hosts = tuple(dict.fromkeys(str(parse_endpoint(endpoint).ip) for endpoint in seen.endpoints))
        if place is not None:
            place.hosts, place.door, place.device = hosts, seen.door, seen.device
        elif len(self._places) < MAX_NAMED + MAX_PEERS:
            place = self._places[seen.store] = _Place(hosts, seen.door, 0, self._loop.time() + GRACE)
            place.store, place.device = seen.store, seen.device
            self._news.set()

    def forget(self, devices: Collection[str]) -> None:
        """Devices are members no more: they are not visited where they were sighted."""
        for key in [key for key, place in self._places.items() if place.device in devices]:
            task = self._places.pop(key).task
            if task is not None:
                task.cancel()

    def hasten(self) -> None:
        """Something has changed, here or in the membership: visit soon whoever is not linked."""
        if self._runner is None:
            return
        now = self._loop.time()
        for place in self._places.values():
            place.pause.reset()
            place.due = min(place.due, now if place.dial else now + GRACE)
        self._news.set()

    # --- visiting ---

    async def _run(self) -> None:
        while True:
            self._news.clear()
            now = self._loop.time()
            # Who has waited longest comes first: those who never answer must not take all the turns.
            places = sorted(self._places.items(), key=lambda item: item[1].due)
            due = min((self._look(key, place, now) for key, place in places), default=now + MOST)
            try:
                async with asyncio.timeout(max(0.05, due - now)):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _look(self, key: object, place: _Place, now: float) -> float:
        """Do what is due at one place; return when to look again."""
        if place.task is not None:
            return now + MOST
        if now < place.due:
            return place.due
        if place.store and self._linked(place.store):
            place.due, place.trouble = now + CHECK, ""
            place.pause.reset()
        elif len(self._tasks) < AT_ONCE:
            place.task = self._loop.create_task(self._go(key, place))
            self._tasks.add(place.task)
            place.task.add_done_callback(self._tasks.discard)
            place.task.add_done_callback(lambda _: self._news.set())
        return now + CHECK

    async def _go(self, key: object, place: _Place) -> None:
        trouble = ""
        try:
            for host in place.hosts:
                try:
                    async with asyncio.timeout(PATIENCE):
                        meeting = await self._visit(host, place.door, place.dial)
                except (PairingError, TrustError, ValueError) as error:
                    trouble = str(error)
                    continue
                except TimeoutError:
                    trouble = f"what answers at {host} port {place.door} is too slow"
                    continue
                trouble = ""
                if isinstance(key, Named):  # else it is about that store, whoever else lives there
                    place.store = meeting.store
                break
        except Exception:  # noqa: BLE001 - a visit that fails must not end the others
            _log.exception("the visit to %s failed", key)
            trouble = "an error in zmesh, see the log"
        finally:
            place.task = None
        if trouble and trouble != place.trouble:
            _log.log(logging.INFO if place.dial else logging.DEBUG, "%s: %s", key, trouble)
        place.trouble = trouble
        place.due = self._loop.time() + place.pause.next(random.random())  # noqa: S311 - jitter
