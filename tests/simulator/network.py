"""The simulated network: connections as ZeroMQ over TCP makes them, and everything that goes wrong with them.

Each store has one DEALER per store it dialled. Inside one connection frames keep their order; a cut loses what is
under way, and the DEALER connects again by itself, silently: the far side sees a new path. Nothing here may look into a
frame, and nothing may tell a sender what became of what it sent: that is the protocol's business.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

from tests.simulator.plan import Plan
from tests.simulator.world import World

RECENT = 8  # frames of a connection that may be duplicated later
TAPPED = 64  # frames an eavesdropper remembers


class Node(Protocol):
    """What the network needs of a process."""

    index: int
    store: bytes
    device: str
    endpoint: str
    up: bool
    reading: bool
    incarnation: int

    def receive(self, parts: Sequence[bytes], device: str, path: bytes) -> None:
        """Take a frame from the ROUTER."""

    def answered(self, store: bytes, parts: Sequence[bytes]) -> None:
        """Take an answer from the DEALER to `store`."""

    def returned(self, store: bytes, parts: Sequence[bytes]) -> None:
        """Take a frame from the DEALER to `store` that was sealed to its owner."""

    def ready(self, store: bytes) -> None:
        """Hear that the connection to `store` is writable."""


class Dealer:
    """The sending socket of one store to another."""

    def __init__(self, owner: Node, store: bytes, device: str, endpoint: str) -> None:
        self.owner = owner
        self.store = store
        self.device = device
        self.endpoint = endpoint
        self.closed = False
        self.connection: Connection | None = None
        self.pending: deque[list[bytes]] = deque()


class Connection:
    """One TCP connection, from a DEALER to the ROUTER of `target`."""

    def __init__(self, dealer: Dealer, target: Node, path: bytes) -> None:
        self.dealer = dealer
        self.target = target
        self.path = path
        self.device = dealer.owner.device
        self.open = True
        self.hole = False
        self.swallowed = 0
        self.in_flight: deque[tuple[float, list[bytes]]] = deque()
        self.recent: deque[list[bytes]] = deque(maxlen=RECENT)
        self.last_arrival = 0.0
        self.last_answer = 0.0
        self.answers = 0  # under way


class Network:
    """All connections between all stores.

    Attributes:
        world, plan: Of the seed.
        tapped: The last frames anybody sent, for the eavesdropper: (link owner's device, parts).
        walls: (dialler, dialled): what the first one's connections to the second one never get through.
        returned: Frames that went back on a connection of the other side's.
        calm: Nothing arrives late or twice any more.
        frames: Frames sent; `lost` of them vanished.
    """

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self._random = world.random("network")
        self._listening: dict[str, Node] = {}
        self._dealers: dict[tuple[int, bytes], Dealer] = {}
        self._connections: dict[bytes, Connection] = {}
        self._blocked: dict[tuple[int, int], int] = {}
        self.walls: set[tuple[int, int]] = set()
        self.returned = 0
        self.tapped: deque[tuple[str, list[bytes]]] = deque(maxlen=TAPPED)
        self.calm = False
        self.frames = self.lost = self.cuts = 0

    # --- what processes do ---

    def listen(self, node: Node) -> None:
        """Let `node` be dialled at its endpoint."""
        self._listening[node.endpoint] = node

    def dial(self, owner: Node, store: bytes, device: str, endpoint: str) -> None:
        """Open a fresh connection, dropping the old one."""
        self.hangup(owner, store)
        dealer = Dealer(owner, store, device, endpoint)
        self._dealers[owner.index, store] = dealer
        self.world.after(self._delay(), self._connect, dealer, self._tell_ready)

    def hangup(self, owner: Node, store: bytes) -> None:
        """Close the connection to `store`."""
        dealer = self._dealers.pop((owner.index, store), None)
        if dealer is not None:
            self._close(dealer)

    def send(self, owner: Node, store: bytes, parts: list[bytes]) -> bool:
        """Send on the DEALER to `store`; False when it takes no more."""
        dealer = self._dealers.get((owner.index, store))
        if dealer is None:
            return False
        connection = dealer.connection
        if connection is None:
            room = len(dealer.pending) < self.plan.buffer
            if room:
                dealer.pending.append(parts)
        elif connection.hole:
            room = connection.swallowed < self.plan.buffer
            connection.swallowed += room
            self.lost += room
        else:
            room = len(connection.in_flight) < self.plan.buffer
            if room:
                self._put(connection, parts)
        return room

    def send_back(self, owner: Node, device: str, path: bytes, parts: list[bytes]) -> bool:
        """Send on an inbound connection what is sealed to `device`; False when it is gone or takes no more."""
        connection = self._connections.get(path)
        if connection is None or not connection.open or connection.target is not owner:
            return False
        self.frames += 1
        self.returned += 1
        dialler = connection.dealer.owner
        if connection.hole or self._cut_off(owner, dialler) or device != dialler.device:
            self.lost += 1
            return True
        if connection.answers >= self.plan.buffer:
            return False
        arrival = max(connection.last_answer, self.world.now + self._delay())
        connection.last_answer = arrival
        connection.answers += 1
        self.world.after(arrival - self.world.now, self._returned, connection, parts)
        return True

    def _returned(self, connection: Connection, parts: list[bytes]) -> None:
        connection.answers -= 1
        dealer = connection.dealer
        if connection.open and not dealer.closed and dealer.owner.up:
            dealer.owner.returned(dealer.store, parts)

    def answer(self, owner: Node, path: bytes, parts: list[bytes]) -> None:
        """Send back on an inbound connection; best effort."""
        connection = self._connections.get(path)
        if connection is None or not connection.open or connection.target is not owner or connection.hole:
            return
        dialler = connection.dealer.owner
        if self._cut_off(owner, dialler):
            return
        arrival = max(connection.last_answer, self.world.now + self._delay())
        connection.last_answer = arrival
        self.world.after(arrival - self.world.now, self._answered, connection, parts)

    def gone(self, node: Node) -> None:
        """Take a crashed process off the network, with its sockets."""
        self._listening = {e: n for e, n in self._listening.items() if n is not node}
        for key, dealer in list(self._dealers.items()):
            if key[0] == node.index:
                del self._dealers[key]
                self._close(dealer)
        for connection in list(self._connections.values()):
            if connection.target is node:
                self.lost += len(connection.in_flight)
                self._break(connection, arrived=0)

    # --- what goes wrong ---

    def wall(self, dialler: int, dialled: int) -> None:
        """From now on the first can not dial the second; what is connected breaks."""
        self.walls.add((dialler, dialled))
        for connection in list(self._connections.values()):
            if (connection.dealer.owner.index, connection.target.index) == (dialler, dialled):
                self._cut(connection)

    def unwall(self, dialler: int, dialled: int) -> None:
        """It can again."""
        self.walls.discard((dialler, dialled))

    def cut_one(self) -> None:
        """Cut a connection, chosen by chance."""
        if self._connections:
            connection = self._random.choice(list(self._connections.values()))
            self.cuts += 1
            self._cut(connection)

    def punch(self, seconds: float) -> None:
        """Let what one connection carries vanish silently from now on, until it breaks at last."""
        whole = [c for c in self._connections.values() if not c.hole]
        if whole:
            connection = self._random.choice(whole)
            connection.hole = True
            self.lost += len(connection.in_flight)
            connection.in_flight.clear()
            self.world.after(seconds, self._end_hole, connection)

    def _end_hole(self, connection: Connection) -> None:
        """Break at last; in the calm it never does, for nobody may count on that."""
        if not self.calm:
            self._cut(connection)

    def block(self, source: int, target: int) -> None:
        """Stop everything from one store's machine to another's."""
        self._blocked[source, target] = self._blocked.get((source, target), 0) + 1

    def unblock(self, source: int, target: int) -> None:
        """Undo one `block`; what TCP kept arrives now, unless the connection broke."""
        left = self._blocked.get((source, target), 0) - 1
        if left > 0:
            self._blocked[source, target] = left
            return
        self._blocked.pop((source, target), None)
        for connection in list(self._connections.values()):
            if (connection.dealer.owner.index, connection.target.index) == (source, target):
                if self._random.random() < 0.5:
                    self._cut(connection)
                else:
                    self._pump(connection)

    def kick(self, node: Node) -> None:
        """Go on delivering to a process that reads again."""
        for connection in list(self._connections.values()):
            if connection.target is node:
                self._pump(connection)

    def heal(self) -> None:
        """End all faults but one: a connection that swallows frames does so until it is replaced."""
        self.calm = True
        self._blocked.clear()
        for connection in list(self._connections.values()):
            self._pump(connection)

    def paths(self) -> list[bytes]:
        """Return the routing ids in use."""
        return list(self._connections)

    # --- inside ---

    def _delay(self) -> float:
        return self.plan.latency + self._random.random() * self.plan.jitter

    def _cut_off(self, source: Node, target: Node) -> bool:
        return (source.index, target.index) in self._blocked

    def _put(self, connection: Connection, parts: list[bytes]) -> None:
        self.frames += 1
        if self.plan.hostile:
            self.tapped.append((connection.device, parts))
        arrival = max(connection.last_arrival, self.world.now + self._delay())
        connection.last_arrival = arrival
        connection.in_flight.append((arrival, parts))
        self.world.after(arrival - self.world.now, self._pump, connection)

    def _pump(self, connection: Connection) -> None:
        target, queue = connection.target, connection.in_flight
        while queue and connection.open and queue[0][0] <= self.world.now:
            if not target.reading or connection.hole or self._cut_off(connection.dealer.owner, target):
                return
            _, parts = queue.popleft()
            connection.recent.append(parts)
            target.receive(parts, connection.device, connection.path)

    def _answered(self, connection: Connection, parts: list[bytes]) -> None:
        dealer = connection.dealer
        if connection.open and not dealer.closed and dealer.owner.up:
            dealer.owner.answered(dealer.store, parts)

    def _connect(self, dealer: Dealer, tell: Callable[[Connection], None] | None) -> None:
        if dealer.closed or dealer.connection is not None:
            return
        owner = dealer.owner
        target = self._listening.get(dealer.endpoint)
        if (
            target is None
            or target.device != dealer.device
            or (owner.index, target.index) in self.walls
            or self._cut_off(owner, target)
            or self._cut_off(target, owner)
        ):
            self.world.after(0.1 + self._random.random() * 0.9, self._connect, dealer, tell)
            return
        connection = Connection(dealer, target, b"\0" + self._random.randbytes(4))
        dealer.connection = connection
        self._connections[connection.path] = connection
        pending, dealer.pending = dealer.pending, deque()
        for parts in pending:
            self._put(connection, parts)
        if tell is not None:
            self.world.after(0.0, tell, connection)

    def _tell_ready(self, connection: Connection) -> None:
        dealer = connection.dealer
        if not dealer.closed and dealer.connection is connection and dealer.owner.up:
            dealer.owner.ready(dealer.store)

    def _close(self, dealer: Dealer) -> None:
        dealer.closed = True
        if dealer.connection is not None:
            arrived = self._random.randint(0, len(dealer.connection.in_flight))
            self._break(dealer.connection, arrived)

    def _cut(self, connection: Connection) -> None:
        """Break a connection; its DEALER makes another one."""
        if not connection.open:
            return
        flying = len(connection.in_flight)
        arrived = self._random.randint(0, flying) if self._random.random() < self.plan.late else 0
        kept = self._random.randint(0, flying - arrived) if self._random.random() < self.plan.survive else 0
        survivors = [parts for _, parts in islice(connection.in_flight, flying - kept, None)]
        self.lost += flying - arrived - kept
        dealer = connection.dealer
        self._break(connection, arrived)
        if dealer.closed:
            return
        dealer.pending.extendleft(reversed(survivors))
        tell = self._tell_ready if self._random.random() >= self.plan.silent else None
        self.world.after(0.01 + self._random.random() * 0.2, self._connect, dealer, tell)

    def _break(self, connection: Connection, arrived: int) -> None:
        """Take a connection down; the first `arrived` frames under way had reached the far machine."""
        connection.open = False
        connection.dealer.connection = None
        self._connections.pop(connection.path, None)
        late = [] if connection.hole else [parts for _, parts in islice(connection.in_flight, arrived)]
        if self.plan.duplicate and not self.calm:
            again = [parts for parts in connection.recent if self._random.random() < self.plan.duplicate]
            late = again + late
        connection.in_flight.clear()
        delay = self._random.random() * self._random.choice((0.01, 0.5, 5.0)) * (not self.calm)
        for parts in late:
            delay += self._random.random() * 0.01
            self.world.after(delay, self._late, connection, parts, connection.target.incarnation)

    def _late(self, connection: Connection, parts: list[bytes], incarnation: int) -> None:
        target = connection.target
        if target.up and target.incarnation == incarnation and target.reading:
            target.receive(parts, connection.device, connection.path)
