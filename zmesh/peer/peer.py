"""A whole peer in this process: its store, its link, its discovery, and the agents that live on it."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from zmesh.discovery.ladder import Discovery
from zmesh.discovery.sighting import Sighting
from zmesh.errors import PeerClosed, PeerRunning, WaitTimeout
from zmesh.peer.agent import Agent
from zmesh.peer.arguments import (
    brief,
    checked_address,
    checked_capabilities,
    checked_id,
    checked_name,
    checked_role,
)
from zmesh.peer.clock import StoreClock, machine_clocks, saved_clock
from zmesh.peer.configuration import chosen_peers, chosen_sources, load_configuration
from zmesh.peer.driver import Driver
from zmesh.peer.duration import parse_timeout
from zmesh.peer.gate import Gate
from zmesh.peer.home import device_key_path, home_directory, peer_directory, rendezvous_directory, trust_path
from zmesh.peer.mailboxes import Mailboxes
from zmesh.peer.member import Member
from zmesh.peer.message import Message
from zmesh.peer.parts import DiscoveryPart, DoorPart, LinkPart, Part, StorePart
from zmesh.peer.peer_info import PeerInfo, list_peers, present
from zmesh.peer.receipt import Receipt, recalled
from zmesh.peer.roster import AgentInfo, list_agents
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.peer.surroundings import Surroundings
from zmesh.peer.tracing import Tracing
from zmesh.peer.ways import Ways
from zmesh.peer.zmq_link import ZmqLink
from zmesh.protocol.address import Address, store_text
from zmesh.protocol.commands import MergeMailbox, OpenMailbox
from zmesh.trust.device import Device
from zmesh.trust.door import Door
from zmesh.trust.trust_store import TrustStore

if TYPE_CHECKING:
    from zmesh.protocol.effects import Settled


class Peer:
    """One peer, to be used as an async context manager.

        async with zmesh.Peer("pipeline") as peer:
            code = await peer.agent("code")

    It lives in the event loop it was started in: everything of it is used there, in no other thread and in no forked
    process (`WrongLoop`).

    Attributes:
        name: Its name.
        home: Where its state lies.
        parts: What it is made of, for whoever looks after it; empty before it was started.
        tracing: What others know of messages, and what they are told; once it was started.
        mailboxes: Looking into them, moving, replaying and removing; once it was started.
    """

    def __init__(
        self,
        name: str,
        *,
        home: Path | str | None = None,
        bind: str = "tcp://*:*",
        discovery: Iterable[str] | None = None,
        peers: Iterable[str] | None = None,
        lease_grace: float = 0.0,
    ) -> None:
        """Describe a peer; nothing is opened before `start`.

        Args:
            name: 1 to 63 letters, digits, '.', '_' or '-'. The same name and home is the same peer, mail and all.
            home: Directory of its state; None for `ZMESH_HOME`, or else the platform's place.
            bind: Where to listen; "*" as the port lets the system choose.
            discovery: Some of `DISCOVERY`; None for what `ZMESH_DISCOVERY` lists (separated by commas), or the
                configuration, or else all.
            peers: Addresses of peers elsewhere, such as "tcp://192.0.2.7:7420" or a host name; None for what
                `ZMESH_PEERS` lists (separated by commas), or the configuration.
            lease_grace: Seconds for which messages that were leased when this peer last ended wait for
                `Agent.reclaim`, before others get them.

        Raises:
            AddressError: The name breaks the grammar.
            TypeError, ValueError: An argument is wrong; a source of addresses is none.
            StoreError: The home cannot be made.
            ConfigurationError: Something in the configuration file is wrong.
        """
        self.name = checked_name(name, "peer name")
        if not isinstance(bind, str):
            raise TypeError(f"bind is an endpoint such as 'tcp://*:*', not {brief(bind)}")
        self.home = home_directory(home)
        self._bind, self._lease_grace = bind, lease_grace
        configuration = load_configuration(self.home)
        self._sources = chosen_sources(discovery, configuration.discovery)
        self._peers = chosen_peers(peers, configuration.peers)
        self._quotas = configuration.quotas
        self._agents: dict[str, Agent] = {}
        self._stack: AsyncExitStack | None = None
        self._driver: Driver | None = None
        self._store: SqliteStore | None = None
        self._member: Member | None = None
        self._surroundings: Surroundings | None = None
        self._find_by: Callable[[Sequence[str]], Awaitable[None]]
        self.parts: tuple[Part, ...] = ()
        self.tracing: Tracing
        self.mailboxes: Mailboxes

    async def __aenter__(self) -> Self:
        """Start the peer."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the peer."""
        await self.close()

    # --- life ---

    async def start(self) -> None:
        """Open the store, listen, and look for others.

        Raises:
            PeerRunning: Another process runs this peer, or this one does already.
            StoreError, DeviceKeyError, TransportError: It cannot be opened; the message says what to do.
        """
        try:
            await self._start()
        except PeerRunning as error:
            if error.pid != os.getpid():
                raise
            raise PeerRunning(
                f"this process runs the peer {self.name!r} already: use that one, or give this one another name",
                error.pid,
            ) from None

    async def _start(self) -> None:
        async with AsyncExitStack() as stack:
            loop = asyncio.get_running_loop()
            device = Device.load_or_create(device_key_path(self.home))
            store = SqliteStore(peer_directory(self.home, self.name), device.id)
            snapshot = await loop.run_in_executor(None, store.open)
            stack.push_async_callback(loop.run_in_executor, None, store.close)
            clock = StoreClock(saved_clock(store.meta), machine_clocks())
            gate = Gate(device, TrustStore(trust_path(self.home), device))
            stack.push_async_callback(gate.close)
            driver = Driver(store, clock, device, gate)
            link = self._link(device, driver, gate)
            link.open()
            stack.callback(link.shutdown)
            driver.run(snapshot, self.name, link, self._lease_grace, self._quotas)
            self.tracing, self.mailboxes = Tracing(driver, store), Mailboxes(driver, store)
            stack.push_async_callback(driver.close)
            member = Member(gate, driver, link, self._peers)
            ways = Ways(rendezvous_directory(self.home), gate, member)
            sources = ways.choose(self._sources)
            own = Sighting(snapshot.store, self.name, device.id, link.endpoints, "own")
            door = Door(gate.store, gate.look, meet=member.meetings.receive)
            discovery = Discovery(sources, member.sighted, member.doubles.hinted)
            surroundings = Surroundings(
                own, bind=self._bind, link=link, door=door, discovery=discovery, moved=member.moved
            )
            stack.push_async_callback(member.close)
            stack.push_async_callback(surroundings.stop)
            await surroundings.start()
            member.start(sources, discovery)
            self._driver, self._store, self._member, self._surroundings = driver, store, member, surroundings
            self._find_by = partial(ways.change, discovery)
            self.parts = (StorePart(store), LinkPart(link), DoorPart(surroundings), DiscoveryPart(discovery))
            self._stack = stack.pop_all()

    async def close(self) -> None:
        """Say goodbye and release everything; what was sent and not delivered goes out when the peer runs again.

        Closing it a second time does nothing. Nor does closing it in a forked process, to which nothing of it belongs.

        Raises:
            WrongLoop: It runs in another event loop: close it there.
        """
        if self._driver is not None and self._stack is not None:
            if self._driver.place.forked:
                self._driver.place.abandon()
                return
            self._driver.place.check_loop()
        stack, self._stack = self._stack, None
        self._driver = None
        self._agents = {}
        if stack is not None:
            await stack.aclose()

    def _link(self, device: Device, driver: Driver, gate: Gate) -> ZmqLink:
        return ZmqLink(
            device,
            admit=gate.admit,
            on_inbound=driver.inbound,
            on_answer=driver.answered,
            on_ready=driver.ready,
            bind=self._bind,
        )

    # --- agents ---

    async def agent(
        self,
        name: str,
        *,
        role: str | None = None,
        capabilities: Iterable[str] | None = None,
        project: str | None = None,
    ) -> Agent:
        """Return the agent of that name, with its mailbox; the mailbox stays when the agent is gone.

        Args:
            name: As in an address.
            role: What it is for; others can see it. None for what it was.
            capabilities: What it can do; others can see them. None for what they were.
            project: What it works on, a short label; others can see it. None for what it was.

        Raises:
            AddressError: The name breaks the grammar.
            TypeError, ValueError: The role, the capabilities or the project are none.
            MeshFull: The peer has too many mailboxes.
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
            StoreError: The mailbox could not be written to disk.
        """
        name = checked_name(name, "agent name")
        opened = self._open(name, role, capabilities, project)
        # Attached before the commit: the roster shows the mailbox and its holder at once.
        agent = self._agents.get(name) or Agent(name, self.name, self.driver, self.store)
        try:
            await opened
        except BaseException:
            if name not in self._agents:
                await agent.detach()
            raise
        known = self._agents.setdefault(name, agent)
        if known is not agent:  # it was asked for twice at once
            await agent.detach()
        return known

    async def attach(
        self,
        name: str,
        *,
        role: str | None = None,
        capabilities: Iterable[str] | None = None,
        project: str | None = None,
        reach: str = "program",
        here: bool = True,
    ) -> Agent:
        """Return a further holder of a mailbox: what it takes is leased to it alone, until it detaches.

        Args:
            name: As in `agent`.
            role: As in `agent`.
            capabilities: As in `agent`.
            project: As in `agent`.
            reach: How it is reached, a word; others can see it.
            here: False for one that only sends: nobody is seen to be there before it takes something.

        Raises:
            The errors of `agent`.
        """
        name = checked_name(name, "agent name")
        opened = self._open(name, role, capabilities, project)
        agent = Agent(name, self.name, self.driver, self.store, reach=reach, here=here)
        try:
            await opened
        except BaseException:
            await agent.detach()
            raise
        return agent

    def _open(
        self, name: str, role: str | None, capabilities: Iterable[str] | None, project: str | None
    ) -> "asyncio.Future[Settled]":
        driver = self.driver
        mailbox = driver.core.node.inbox.mailboxes.get(name)
        if role is None:
            role = mailbox.role if mailbox else ""
        if capabilities is None:
            capabilities = mailbox.capabilities if mailbox else ()
        if project is None:
            project = mailbox.project if mailbox else ""
        words = checked_role(role), checked_capabilities(capabilities), checked_role(project, "project")
        ticket = driver.number()
        return driver.submit(ticket, OpenMailbox(ticket, name, *words))

    async def merge(self, name: str, into: str) -> None:
        """End a mailbox: what is in it goes into another one of this peer, ids and attempts kept.

        Args:
            name: Of the one that ends; nobody may be there to take its messages.
            into: Of the other one.

        Raises:
            AddressError: There is no such mailbox.
            ValueError: The two are one.
            MailboxBusy: Somebody is there, or messages are just arriving: try again.
            MeshFull: There is no room in the other one.
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
            StoreError: It could not be written to disk; everything is where it was.
        """
        driver = self.driver
        ticket = driver.number()
        names = checked_name(name, "agent name"), checked_name(into, "agent name")
        await driver.submit(ticket, MergeMailbox(ticket, *names))

    # --- looking around ---

    async def wait_for(self, address: str, timeout: float | str | None = None) -> str:  # noqa: ASYNC109 - as `stored`
        """Wait until an agent is there: its peer linked, its mailbox in the roster. Sending does not need it.

        Args:
            address: `agent@peer`, or `agent`.
            timeout: Seconds to wait at most, or "5s"; 0 does not wait. None for ever.

        Returns:
            The address it was resolved to.

        Raises:
            AddressError: The address breaks the grammar.
            ValueError: The timeout is no time.
            WaitTimeout: It is not there yet.
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
        """
        driver = self.driver
        driver.check()
        parsed, seconds = Address.parse(checked_address(address)), parse_timeout(timeout)
        try:
            async with asyncio.timeout(seconds):
                while (found := present(driver.core.node, parsed)) is None:
                    await driver.change()
        except TimeoutError:
            near = ", ".join(sorted(f"{name}@{peer.name}" for peer in self.peers() for name in peer.agents)[:10])
            raise WaitTimeout(f"{parsed} is not there after {seconds:g} s; there are: {near or 'no agents'}") from None
        return found

    def allows(self, capability: str, message: Message) -> bool:
        """Say whether the sender of a message may do something here, as `zmesh grant` tells it.

        Whatever pushes into a running session asks this for `inject` first. What a message needs by its type was
        asked when it came. Agents of this device may do everything.

        Args:
            capability: chat, task, inject, exec or file.write.
            message: As it was received by an agent of this peer.

        Raises:
            TrustError: There is no such capability.
            PeerClosed, WrongLoop: The peer is not running.
        """
        driver = self.driver
        node = driver.core.node
        remote = node.remotes.get(message.store)
        device = node.device if message.store == node.store else remote.device if remote is not None else ""
        return driver.guard.allows(capability, device, message.sender.partition("@")[0])

    async def receipt(self, ident: bytes) -> Receipt:
        """Return the receipt of a message that any agent of this peer has sent; as `Agent.receipt`."""
        return await recalled(checked_id(ident, "ident"), self.driver, self.store)

    @property
    def driver(self) -> Driver:
        """The peer's driver.

        Raises:
            PeerClosed: The peer is not running.
            WrongLoop: This is a forked process.
        """
        if self._driver is None:
            raise PeerClosed(f"the peer {self.name!r} is not running: use it in `async with`, or call start()")
        self._driver.place.check_process()
        return self._driver

    @property
    def store(self) -> SqliteStore:
        """The peer's store, for questions."""
        if self._store is None:
            raise PeerClosed(f"the peer {self.name!r} was never started")
        return self._store

    @property
    def id(self) -> str:
        """The store id, in base32."""
        return store_text(self.driver.core.node.store)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where others can dial this peer."""
        return self.driver.link.endpoints

    def look_for(self, peers: Iterable[str] | None) -> None:
        """Look for peers at other named addresses than before; links that are up stay.

        Args:
            peers: As of `Peer`.

        Raises:
            TypeError, ValueError: One of them is no address; nothing has changed.
            ConfigurationError: Something in the configuration file is wrong; nothing has changed.
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
        """
        self.driver.check()
        assert self._member is not None
        self._member.visits.name_anew(chosen_peers(peers, load_configuration(self.home).peers))

    async def find_by(self, discovery: Iterable[str] | None) -> None:
        """Look for peers in other ways than before; links that are up stay, and so does what is known.

        Args:
            discovery: As of `Peer`.

        Raises:
            TypeError, ValueError: One of them is none; nothing has changed.
            ConfigurationError: Something in the configuration file is wrong; nothing has changed.
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
        """
        self.driver.check()
        await self._find_by(chosen_sources(discovery, load_configuration(self.home).discovery))

    def peers(self) -> list[PeerInfo]:
        """Return the other peers that are known, linked ones first.

        Raises:
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
        """
        driver = self.driver
        driver.place.check_loop()
        return list_peers(driver.core.node, driver.now(), driver.link.trouble)

    def agents(self) -> list[AgentInfo]:
        """Return the agents that are known, here and elsewhere: this peer's own first, then those of linked peers.

        What others say of themselves is right within a second while their peer is linked. What is stale says so: see
        `AgentInfo.fresh`.

        Raises:
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
        """
        driver = self.driver
        driver.place.check_loop()
        return list_agents(driver.core.node, driver.now())

    @property
    def door(self) -> int:
        """The port of this peer's door, at which members ask and machines are paired; 0 while there is none."""
        return self._surroundings.own.door if self._surroundings is not None and self._driver is not None else 0

    @property
    def troubles(self) -> tuple[str, ...]:
        """What keeps this peer from being found or from being reached as it should, in words."""
        if self._member is None or self._surroundings is None:
            return ()
        double = self._member.doubles.trouble
        return self._surroundings.troubles + ((double,) if double else ())
