"""Cores joined in memory: no sockets, no disk, time moved by hand.

`World` carries out effects at once and in order: commits succeed immediately unless told otherwise, frames arrive
unless a rule drops them. What it must never do is help: whatever a test sees, the cores did.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, TypeVar

from tests.simulator.model import StoreModel
from zmesh.protocol.codec import decode
from zmesh.protocol.commands import (
    Attach,
    Command,
    Done,
    Nack,
    OpenMailbox,
    Send,
    Sighted,
    Take,
)
from zmesh.protocol.core import Core
from zmesh.protocol.effects import (
    Answer,
    Delivery,
    Dial,
    Effect,
    Failed,
    FetchIn,
    FetchOut,
    Hangup,
    Inquired,
    Linked,
    Notice,
    Persist,
    Progress,
    SendBack,
    Settled,
    Told,
    Transmit,
)
from zmesh.protocol.frames import Data, Frame, Outcome
from zmesh.protocol.ownership import store_of
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Received

if TYPE_CHECKING:
    from zmesh.protocol.remote import Remote
    from zmesh.protocol.states import Sent

V = TypeVar("V")
DEVICE = "d" * 32
BUSY = 50  # wakes at one instant: several things may be due, but not so many


class SeededEntropy:
    """Randomness that repeats."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def fraction(self) -> float:
        return self._random.random()


class Node:
    """One store: its core, its disk, and everything its core has said."""

    def __init__(self, world: World, name: str, store: bytes | None = None, device: str = DEVICE) -> None:
        self.world, self.name, self.device = world, name, device
        self.store = store or store_of(device, name.encode().ljust(8, b"\0"))
        self.endpoint = f"tcp://127.0.0.1:{5000 + len(world.nodes)}"
        self.disk = StoreModel()
        self.failing = ""
        self.damaged: set[int] = set()  # rows whose bodies the disk has lost
        self.holding = False  # commits stay open until `commit_held`
        self.failed_generation = -1
        self.alive = False
        self.grace = 0.0  # seconds, for the leases of the process before
        self.held: list[Persist] = []
        self.tickets = self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        self.core = Core(
            store=self.store,
            name=self.name,
            device=self.device,
            endpoints=(self.endpoint,),
            # Never the same for two: link ids that meet by chance would be a fault of this test, not of the core.
            entropy=SeededEntropy((self.starts << 32) + (len(self.world.log) << 12) + hash_of(self.name)),
            snapshot=self.disk.snapshot(),
            now=self.world.now,
            grace=self.grace,
        )
        self.alive = True
        self.failed_generation = -1
        self.held = []
        self.connections: set[bytes] = set()
        self.settled: dict[int, Settled] = {}
        self.failures: dict[int, Failed] = {}
        self.deliveries: list[Delivery] = []
        self.progress: list[Progress] = []
        self.notices: list[Notice] = []
        self.linked: list[Linked] = []
        self.told: list[Told] = []
        self.inquired: list[Inquired] = []
        self.flush()

    def kill(self) -> None:
        """End the process at once: what was not committed is gone."""
        self.alive = False
        self.held = []

    def restart(self, disk: StoreModel | None = None) -> None:
        """End the process and start it again, on its disk or on an older copy of it."""
        self.kill()
        self.disk = disk or self.disk
        self.start()
        self.world.settle()

    def remote(self, other: Node) -> Remote:
        """Return what this core knows of another store."""
        return self.core.node.remotes[other.store]

    def command(self, command: Command) -> None:
        self.core.command(command, self.world.now)
        self.flush()

    def ticket(self) -> int:
        self.tickets += 1
        return self.tickets

    def open(self, *names: str) -> None:
        for name in names:
            self.command(OpenMailbox(self.ticket(), name, "", ()))

    def listen(self, name: str, holder: int = 1, count: int = 1000) -> None:
        self.command(Attach(name, holder))
        self.command(Take(holder, count))

    def send(
        self,
        address: str,
        body: bytes = b"hello",
        *,
        sender: str = "me",
        priority: Priority = Priority.NORMAL,
        ttl: float | None = None,
        ident: bytes | None = None,
        strict: bool = False,
        reply_to: bytes = b"",
    ) -> bytes:
        ticket = self.ticket()
        ident = ident or ticket.to_bytes(4, "big") + self.store[:12]
        self.command(
            Send(ticket, ident, address, sender, priority, ttl, "text", b"", reply_to, 0, packed=False,
                 body=body, strict=strict)
        )  # fmt: skip
        return ident

    def states(self, ident: bytes) -> list[Sent]:
        return [p.state for p in self.progress if p.id == ident]

    def receipt(self, ident: bytes) -> Sent:
        """Return what the disk says of a message that was sent from here."""
        return next(row.state for row in self.disk.out_rows() if row.id == ident)

    def inserted(self, ident: bytes) -> list[Received]:
        """Return the states of all rows with this id in the inbox: never more than one."""
        return [row.state for row in self.disk.in_rows() if row.id == ident]

    def done(self, at: int = -1, reply: Send | None = None) -> None:
        """Finish one of the deliveries, the latest if not told otherwise."""
        delivery = self.deliveries[at]
        self.command(Done(self.ticket(), delivery.holder, delivery.row, reply))

    def audits(self, kind: str) -> list[str]:
        return [line.text for line in self.disk.audit if line.kind == kind]

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    # --- carrying out effects

    def flush(self) -> None:
        while self.alive:
            effects = self.core.effects()
            if not effects:
                return
            for effect in effects:
                self.carry_out(effect)

    def carry_out(self, effect: Effect) -> None:  # noqa: C901, PLR0912 - one line for each effect
        now = self.world.now
        match effect:
            case Persist():
                self.persist(effect)
            case Transmit():
                self.world.transmit(self, effect)
            case SendBack():
                self.world.send_back(self, effect)
            case Answer():
                self.world.answer(self, effect)
            case Dial():
                self.world.dial(self, effect)
            case FetchOut():
                self.core.fetched_out(self.whole(self.disk.fetch_out(effect.rows)), now)
            case FetchIn():
                self.core.fetched_in(self.whole(self.disk.fetch_in(effect.rows)), now)
            case Settled():
                self.settled[effect.ticket] = effect
            case Failed():
                self.failures[effect.ticket] = effect
            case Delivery():
                self.deliveries.append(effect)
            case Progress():
                self.progress.append(effect)
            case Notice():
                self.notices.append(effect)
            case Hangup():
                self.connections.discard(effect.store)
            case Linked():
                self.linked.append(effect)
            case Told():
                self.told.append(effect)
            case Inquired():
                self.inquired.append(effect)

    def whole(self, found: dict[int, V]) -> dict[int, V]:
        return {row: value for row, value in found.items() if row not in self.damaged}

    def persist(self, effect: Persist) -> None:
        if self.holding:
            self.held.append(effect)
        else:
            self.commit(effect)

    def commit(self, effect: Persist) -> None:
        if self.failing or effect.generation <= self.failed_generation:
            self.failed_generation = max(self.failed_generation, effect.generation)
            self.core.failed(effect.token, self.failing or "an earlier commit failed", self.world.now)
            return
        self.core.committed(effect.token, self.world.now, self.disk.apply(effect.ops))

    def commit_one(self) -> None:
        """Commit the oldest of what is held."""
        if self.held:
            self.commit(self.held.pop(0))
            self.flush()

    def commit_held(self) -> None:
        self.holding = False
        held, self.held = self.held, []
        for effect in held:
            self.commit(effect)
        self.flush()


def hash_of(name: str) -> int:
    return sum(name.encode())


Rule = Callable[[Node, Node, Frame], bool]


class World:
    """Some stores and the network between them.

    Attributes:
        drop: Rules; a frame for which one says True is lost.
        walled: Names of those that nobody can dial.
        log: Every frame that was sent: (from, to, frame).
        answers: Every frame that was sent back on an inbound connection.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.nodes: dict[str, Node] = {}
        self.drop: list[Rule] = []
        self.walled: set[str] = set()
        self.log: list[tuple[str, str, Frame]] = []
        self.answers: list[Answer] = []
        self.queue: deque[Callable[[], None]] = deque()

    def add(self, name: str, *, store: bytes | None = None, device: str = DEVICE) -> Node:
        node = self.nodes[name if store is None else f"{name}/{store.hex()[:4]}"] = Node(self, name, store, device)
        return node

    def by_store(self, store: bytes) -> Node | None:
        return next((node for node in self.nodes.values() if node.store == store), None)

    def meet(self, *nodes: Node) -> None:
        for one in nodes:
            for other in nodes:
                if one is not other:
                    one.command(Sighted(other.store, other.name, other.device, (other.endpoint,)))
        self.settle()

    def dial(self, node: Node, effect: Dial) -> None:
        target = next((n for n in self.nodes.values() if n.endpoint == effect.endpoint), None)
        if target is not None and target.alive and target.name not in self.walled:
            self.queue.append(lambda: self._connect(node, effect.store))

    def _connect(self, node: Node, store: bytes) -> None:
        if node.alive:
            node.connections.add(store)
            node.core.ready(store, self.now)
            node.flush()

    def transmit(self, node: Node, effect: Transmit) -> None:
        target = self.by_store(effect.store)
        _, frame = decode(effect.parts)
        self.log.append((node.name, target.name if target else "?", frame))
        if target is None or not target.alive or effect.store not in node.connections:
            node.connections.discard(effect.store)
            node.core.undeliverable(effect.store, self.now)
            return
        if not any(rule(node, target, frame) for rule in self.drop):
            self.queue.append(lambda: self.inject(target, effect.parts, node.device, node.store))

    def send_back(self, node: Node, effect: SendBack) -> None:
        """Here a path is called as the store that dialled."""
        target = self.by_store(effect.path)
        _, frame = decode(effect.parts)
        self.log.append((node.name, target.name if target else "?", frame))
        if target is None or not target.alive or node.store not in target.connections:
            node.core.undeliverable(effect.store, self.now, effect.path)
            return
        if not any(rule(node, target, frame) for rule in self.drop):
            self.queue.append(lambda: self._returned(target, node.store, effect.parts))

    def _returned(self, target: Node, store: bytes, parts: Sequence[bytes]) -> None:
        if target.alive:
            target.core.returned(store, parts, self.now)
            target.flush()

    def inject(self, target: Node, parts: Sequence[bytes], device: str, path: bytes) -> None:
        if target.alive:
            target.core.receive(parts, device, path, self.now)
            target.flush()

    def answer(self, node: Node, effect: Answer) -> None:
        self.answers.append(effect)
        target = self.by_store(effect.path)
        if target is not None:
            self.queue.append(lambda: self._answered(target, node.store, effect.parts))

    def _answered(self, target: Node, store: bytes, parts: Sequence[bytes]) -> None:
        if target.alive:
            target.core.answered(store, parts, self.now)
            target.flush()

    def carry(self, count: int) -> None:
        """Let a few of the frames that are under way arrive."""
        for _ in range(min(count, len(self.queue))):
            self.queue.popleft()()

    def settle(self) -> None:
        """Carry everything in flight to its end, without time passing."""
        for _ in range(100_000):
            if not self.queue:
                return
            self.queue.popleft()()
        message = "the cores talk in circles"
        raise AssertionError(message)

    def run(self, seconds: float) -> None:
        """Let time pass, waking whoever is due."""
        end = self.now + seconds
        self.settle()
        woken = 0
        while True:
            alive = [node for node in self.nodes.values() if node.alive]
            due = min((t for node in alive if (t := node.core.timer()) is not None), default=end + 1)
            if due > end:
                break
            # A timer that stays in the past after a wake would be a busy loop in the real program.
            woken = woken + 1 if due <= self.now else 0
            assert woken < BUSY, "a core asks to be woken again and again"
            self.now = max(self.now, due)
            for node in alive:
                timer = node.core.timer()
                if timer is not None and timer <= self.now:
                    node.core.wake(self.now)
                    node.flush()
            self.settle()
        self.now = end

    def frames(self, kind: type[Frame], source: str = "") -> list[Frame]:
        return [frame for name, _, frame in self.log if isinstance(frame, kind) and source in ("", name)]


def two(*, listening: bool = True) -> tuple[World, Node, Node]:
    """Two peers that know each other; at b a mailbox `inbox`."""
    world = World()
    a, b = world.add("a"), world.add("b")
    a.open("me")
    b.open("inbox")
    world.meet(a, b)
    world.run(1.0)
    if listening:
        b.listen("inbox")
    return world, a, b


def one_way() -> tuple[World, Node, Node]:
    """As `two`, but b cannot dial a."""
    world = World()
    a, b = world.add("a"), world.add("b")
    world.walled.add("a")
    a.open("me")
    b.open("inbox")
    world.meet(a, b)
    world.run(5.0)
    assert b.remote(a).link.via == a.store
    b.listen("inbox")
    return world, a, b


def losing(kind: type[Frame], source: Node) -> Rule:
    """Lose the frames of a kind from one of them."""
    return lambda node, _, frame: node is source and isinstance(frame, kind)


# --- situations that several tests begin with ---


def one() -> tuple[World, Node]:
    """A peer with the mailbox `in`, which writes to itself."""
    world = World()
    node = world.add("a")
    node.open("in")
    return world, node


def nack(node: Node, at: int = -1, *, delay: float | None = None, count: bool = True) -> None:
    """Give one of the deliveries back, the latest if not told otherwise."""
    delivery = node.deliveries[at]
    node.command(Nack(node.ticket(), delivery.holder, delivery.row, delay, count))


def received(node: Node) -> list[Received]:
    """Return the states of all that is in the inbox."""
    return [row.state for row in node.disk.in_rows()]


def offline() -> tuple[World, Node, Node]:
    """As `two`, but b is away, and a has noticed."""
    world, a, b = two(listening=False)
    b.kill()
    world.run(30.0)
    return world, a, b


def limit(node: Node, **quotas: int) -> None:
    """Make quotas of a store small, which no command does."""
    node.core.node.limit(replace(node.core.node.quotas, **quotas))


def forgotten(*, confirmed: bool) -> tuple[World, Node, Node, bytes]:
    """b has handled a message, then a's disk goes back to before it was sent, and b's mailbox is full."""
    world, a, b = two()
    world.drop.append(losing(Data, a))
    ident = a.send("inbox@b", ttl=60.0)
    world.settle()
    copy = a.disk.copy()
    world.drop.clear()
    a.send("inbox@b", b"later")
    world.run(1.0)
    if not confirmed:
        world.drop.append(losing(Outcome, b))
    b.done(0)
    b.done(1)
    world.run(1.0)
    assert b.inserted(ident) == [Received.HANDLED]
    limit(b, mailbox_messages=1)
    b.send("inbox@b", b"in the way")
    a.restart(copy)
    world.run(10.0)
    assert a.remote(b).epoch == 2
    assert a.core.node.outbox.by_id[ident].number == 0, "it was refused, and waits for room"
    return world, a, b, ident
