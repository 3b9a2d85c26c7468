"""A fourth party with a member's device id that means harm: noise, replayed frames, forged names, false claims.

It has what an admitted device has: connections of its own and an eavesdropper's memory of frames. It has no other
member's device id, so nothing it does may change what becomes of the others' messages.
"""

from collections.abc import Sequence

from tests.simulator.network import Network
from tests.simulator.process import Process
from tests.simulator.world import World
from zmesh.protocol.bounds import CLASSES, LINK_ID_BYTES, NO_ID
from zmesh.protocol.codec import decode, encode
from zmesh.protocol.commands import Sighted
from zmesh.protocol.envelope import Envelope
from zmesh.protocol.errors import ProtocolError
from zmesh.protocol.frames import (
    Ack,
    AgentRecord,
    Bye,
    Cancel,
    Cursor,
    Data,
    Fate,
    Frame,
    Gone,
    Hello,
    Item,
    Kind,
    Outcome,
    Peers,
    Ping,
    Reset,
)
from zmesh.protocol.ownership import NONCE_BYTES, store_of

DEVICE = "device-mallory"
ENDPOINT = "tcp://10.6.6.6:666"
HUGE = (1 << 63) - 100


class Mallory:
    """The fourth party. Attributes: `done`, how many times it struck."""

    def __init__(self, world: World, network: Network, processes: Sequence[Process]) -> None:
        self._random = world.random("mallory")
        self._network = network
        self._processes = processes
        self._store = store_of(DEVICE, self._random.randbytes(NONCE_BYTES))
        self._links: dict[int, tuple[int, bytes, bytes]] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self.done = 0

    def strike(self) -> None:
        """Do one hostile thing to one store."""
        victim = self._random.choice(self._processes)
        if not victim.up or not victim.reading:
            return
        self.done += 1
        self._random.choice(
            (self._noise, self._replay, self._hijack, self._announce, self._answer, *[self._frame] * 4)
        )(victim)

    # --- without a link ---

    def _noise(self, victim: Process) -> None:
        """Random bytes, or a frame with a few bytes changed."""
        random = self._random
        parts = [random.randbytes(random.choice((0, 3, 40))) for _ in range(random.choice((1, 1, 2, 3)))]
        device = DEVICE
        if self._network.tapped and random.random() < 0.7:
            changed = [bytearray(part) for part in random.choice(self._network.tapped)[1]]
            for _ in range(random.randint(1, 4)):
                part = random.choice(changed)
                if part:
                    part[random.randrange(len(part))] = random.randrange(256)
            parts = [bytes(part) for part in changed]
        elif random.random() < 0.5:
            device = random.choice(self._processes).device
        if device == DEVICE:
            self._say(victim, parts)
        elif _read(parts) is None:  # otherwise it would be a frame, and this device has not sent it
            victim.receive(parts, device, self._path())

    def _replay(self, victim: Process) -> None:
        """Somebody else's frame, whole, with the link id it had."""
        if self._network.tapped:
            _, parts = self._random.choice(self._network.tapped)
            self._say(victim, parts)

    def _hijack(self, victim: Process) -> None:
        """A HELLO for a store of another device."""
        other = self._random.choice(self._processes)
        hello = self._hello(other.store, other.name)
        self._say(victim, encode(self._random.randbytes(LINK_ID_BYTES), hello))

    def _announce(self, victim: Process) -> None:
        """Say that a store of another device is found at an address of its own."""
        other = self._random.choice(self._processes)
        victim.command(Sighted(other.store, other.name, DEVICE, (ENDPOINT,)))

    def _answer(self, victim: Process) -> None:
        """Nonsense, or a RESET of a link that never was, on the victim's own connection."""
        other = self._random.choice(self._processes)
        parts = [self._random.randbytes(20)]
        if self._random.random() < 0.5:
            parts = encode(self._random.randbytes(LINK_ID_BYTES), Reset())
        victim.answered(other.store, parts)

    # --- on a link of its own ---

    def _frame(self, victim: Process) -> None:
        """A well-formed frame on a link of its own, honest or not."""
        incarnation, link, path = self._links.get(victim.index, (0, b"", b""))
        if incarnation != victim.incarnation:
            link, path = self._random.randbytes(LINK_ID_BYTES), self._path()
            self._links[victim.index] = victim.incarnation, link, path
            victim.receive(encode(link, self._hello(self._store, "mallory")), DEVICE, path)
            if not victim.up:
                return
        victim.receive(encode(link, self._draw(victim)), DEVICE, path)

    def _draw(self, victim: Process) -> Frame:
        random = self._random
        number = random.choice((0, 1, 5, 1000, HUGE))
        per_class = tuple(random.choice((0, 1, number)) for _ in range(CLASSES))
        epoch = random.choice((1, 2, HUGE))
        ids = tuple(self._ids(3))
        frames: tuple[Frame, ...] = (
            Ack(epoch, per_class, per_class, (), ((0, 1),), number, number),
            self._data(victim),
            self._data(victim),
            Data(epoch, 2, number, max(1, number), (Item(ids[0], None, b"nonsense", b"body"),)),
            Cancel(ids),
            self._outcome(ids, number),
            self._outcome(ids, number),
            Ping(epoch, per_class, per_class, 1),
            Peers(1, 0, 1, (AgentRecord("m0"), AgentRecord("ghost"))),
            Gone(epoch, random.randrange(CLASSES), 1, max(1, number), ids[0]),
            Bye("closing", "so long"),
            self._hello(self._store, "mallory"),
        )
        return random.choice(frames)

    def _outcome(self, ids: tuple[bytes, ...], number: int) -> Outcome:
        """What became of messages that were never sent to it."""
        fates = [Fate(code, "", ids) for code in ("handled", "expired", "dead")]
        return Outcome(max(1, number), max(1, number), (self._random.choice(fates), self._random.choice(fates)))

    def _data(self, victim: Process) -> Data:
        """A message of its own, in order, with its own name or another's, and an id of its own or another's."""
        random = self._random
        klass = random.randrange(CLASSES)
        number = self._numbers.get((victim.index, klass), 0) + random.choice((0, 1, 1, 1))
        self._numbers[victim.index, klass] = number
        sender = random.choice(("evil@mallory", f"m0@{random.choice(self._processes).name}"))
        to = random.choice(("m0", "m1", "ghost", "nobody"))
        envelope = Envelope(to, sender, "task", b"", b"", 0, packed=False).pack()
        return Data(1, klass, 0, max(1, number), (Item(self._ids(1)[0], None, envelope, b"evil"),))

    def _hello(self, store: bytes, name: str) -> Hello:
        random = self._random
        number = random.choice((0, 0, 3, HUGE))
        cursors = tuple(Cursor(number, random.choice((NO_ID, random.randbytes(16)))) for _ in range(CLASSES))
        return Hello(
            proto_min=1,
            proto_max=1,
            store=store,
            name=name,
            endpoints=(ENDPOINT,),
            echo=random.choice((b"", random.randbytes(LINK_ID_BYTES))),
            up=random.random() < 0.5,
            epoch=random.choice((0, 1, HUGE)),
            cursors=cursors,
            limits=tuple(random.choice((0, 10, HUGE)) for _ in range(CLASSES)),
        )

    def _ids(self, count: int) -> list[bytes]:
        """Ids it saw on the wire, or made up."""
        ids = [self._random.randbytes(16) for _ in range(count)]
        seen = [parts for _, parts in self._network.tapped if parts[0][3] == Kind.DATA]
        for at in range(count):
            frame = _read(self._random.choice(seen)) if seen and self._random.random() < 0.8 else None
            if isinstance(frame, Data):
                ids[at] = self._random.choice(frame.items).id
        return ids

    def _say(self, victim: Process, parts: list[bytes]) -> None:
        """Send on a connection of its own."""
        victim.receive(parts, DEVICE, self._path())

    def _path(self) -> bytes:
        """A routing id of its own; answers to it go nowhere."""
        return b"\0" + self._random.randbytes(4)


def _read(parts: Sequence[bytes]) -> Frame | None:
    try:
        return decode(parts)[1]
    except ProtocolError:
        return None
