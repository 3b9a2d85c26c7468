"""One store's process: the core, its disk, its sockets and its applications, until a crash between any two effects.

This is the shell of the simulator. It must carry out effects in their order, must never keep anything over a crash but
the disk, and must never reach into the core.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulator.disk import Disk
from tests.simulator.network import Network
from tests.simulator.world import Clock, SeededEntropy, SimulatorError
from zmesh.errors import MeshError
from zmesh.protocol.commands import Command
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
    Notice,
    Persist,
    Progress,
    SendBack,
    Settled,
    Transmit,
)
from zmesh.protocol.journal import Written
from zmesh.protocol.ownership import NONCE_BYTES, store_of

if TYPE_CHECKING:
    from tests.simulator.app import App
    from tests.simulator.oracle import Oracle

MAX_ROUNDS = 10_000  # drains after one input: beyond it the core talks to itself


class Crashed(Exception):  # noqa: N818 - not an error: the planned end of a process
    """The process was killed between two effects."""


class Process:
    """One store and the process that runs it, or does not.

    Attributes:
        index, store, name, device, endpoint: Who and where it is.
        up: True while the process runs; `paused` while it is stopped, `reading` while it empties its sockets.
        incarnation: Counts the starts.
        crash_in: The process dies after so many more effects; None when it does not.
        on_crash: Called after the next crash, once.
        crashes, wakes, inputs: Totals.
    """

    def __init__(self, network: Network, oracle: "Oracle", index: int) -> None:
        world, plan = network.world, network.plan
        random = world.random(f"process/{index}")
        self.index = index
        self.name = ("alpha", "bravo", "carol", "delta")[index]
        self.device = f"device-{plan.devices[index]}"
        self.store = store_of(self.device, random.randbytes(NONCE_BYTES))
        self.endpoint = ""
        self.up = self.paused = False
        self.reading = True
        self.incarnation = 0
        self.crash_in: int | None = None
        self.on_crash: Callable[[Process], None] | None = None
        self.crashes = self.wakes = self.inputs = 0
        self.clock = Clock(world, random.choice((0.0, 1000.0, 1e6)) + random.random())
        self.disk = Disk(world, plan, self.name, lambda *found: oracle.committed(self, *found))
        self.disk.model.store = self.store
        self.app: App
        self._world = world
        self._plan = plan
        self._network = network
        self._oracle = oracle
        self._random = random
        self._core: Core | None = None
        self._handling = False
        self._waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._timer: float | None = None
        self._timers = 0
        self.move()

    # --- life and death ---

    def move(self) -> None:
        """Take another address, from the next start on."""
        self.endpoint = f"tcp://10.0.0.{self.index + 1}:{self._random.randint(10_000, 60_000)}"

    def start(self) -> None:
        """Run a new process on what the disk holds."""
        if self.up:
            return
        self.up, self.reading = True, True
        self.incarnation += 1
        self._world.note(self.name, "start")
        self.disk.open(self)
        self._network.listen(self)
        entropy = SeededEntropy(self._world.random(f"entropy/{self.index}/{self.incarnation}"))
        self._input(self._begin, entropy)
        if self.up:
            self.app.started()

    def crash(self) -> None:
        """Kill the process now, or between the two effects at hand."""
        if not self.up:
            return
        self._world.note(self.name, "crash")
        self.crashes += 1
        self.up = self.paused = False
        self.crash_in = None
        self._core = None
        self._timer = None
        self._waiting.clear()
        self.disk.crash()
        self._network.gone(self)
        self._oracle.stopped(self)
        self.app.stopped()
        if self.on_crash is not None:
            self.on_crash(self)
            self.on_crash = None

    def pause(self) -> None:
        """Stop the process, as SIGSTOP does; what comes in waits."""
        if self.up:
            self.paused, self.reading = True, False

    def resume(self) -> None:
        """Go on after `pause`, with all that waited."""
        if not self.paused:
            return
        self.paused = False
        waiting, self._waiting = self._waiting, []
        incarnation = self.incarnation
        for action, arguments in waiting:
            if self.incarnation == incarnation and self.up:
                self._input(action, *arguments)
        if self.up:
            self.read()

    def read(self) -> None:
        """Empty the sockets again."""
        self.reading = True
        self._network.kick(self)

    def jump(self, seconds: float) -> None:
        """Let the clock step ahead."""
        self.clock.jump(seconds)
        self._timer = None
        if self.up and not self._handling:
            self._set_timer()

    # --- inputs ---

    def command(self, command: Command) -> None:
        """Give the core a command.

        Raises:
            MeshError: The core refuses it.
        """
        assert self.up
        assert self._core is not None
        if self.paused:
            raise SimulatorError("an application spoke to a stopped process")
        self._input(self._core.command, command)

    def receive(self, parts: Sequence[bytes], device: str, path: bytes) -> None:
        """Take a frame from the ROUTER."""
        if self._core is not None:
            self._input(self._core.receive, parts, device, path)

    def answered(self, store: bytes, parts: Sequence[bytes]) -> None:
        """Take an answer from the DEALER to `store`."""
        if self._core is not None:
            if not self.paused:
                self._oracle.wire.answered(self, store, parts)
            self._input(self._core.answered, store, parts)

    def returned(self, store: bytes, parts: Sequence[bytes]) -> None:
        """Take a sealed frame from the DEALER to `store`."""
        if self._core is not None:
            self._input(self._core.returned, store, parts)

    def ready(self, store: bytes) -> None:
        """Hear that the connection to `store` is writable."""
        if self._core is not None:
            self._input(self._core.ready, store)

    def committed(self, token: int, written: Written) -> None:
        """Hear that a commit landed."""
        if self._core is not None:
            self._input(self._committed, token, written)

    def failed(self, token: int, reason: str) -> None:
        """Hear that a commit failed."""
        if self._core is not None:
            self._input(self._core.failed, token, reason)

    def fetched_out(self, bodies: Mapping[int, bytes]) -> None:
        """Take bodies of the outbox."""
        if self._core is not None:
            self._input(self._core.fetched_out, bodies)

    def fetched_in(self, messages: Mapping[int, tuple[bytes, bytes]]) -> None:
        """Take messages of the inbox."""
        if self._core is not None:
            self._input(self._core.fetched_in, messages)

    # --- inside ---

    def _begin(self, entropy: SeededEntropy, now: float) -> None:
        self._core = Core(
            store=self.store,
            name=self.name,
            device=self.device,
            endpoints=(self.endpoint,),
            entropy=entropy,
            snapshot=self.disk.model.snapshot(),
            now=now,
        )

    def _committed(self, token: int, written: Written, now: float) -> None:
        assert self._core is not None
        self._core.committed(token, now, written)

    def _input(self, action: Callable[..., None], *arguments: Any) -> None:
        """Call the core, then carry out what it wants."""
        if self.paused:
            self._waiting.append((action, arguments))
            return
        assert not self._handling, "an input within an input"
        self.inputs += 1
        if self._world.trace is not None:
            self._world.note(self.name, f"{getattr(action, '__name__', action)}{arguments}")
        self._handling = True
        refusal: MeshError | None = None
        crashed = False
        try:
            action(*arguments, self.clock.read())
        except MeshError as error:
            refusal = error
        try:
            self._drain()
        except Crashed:
            crashed = True
        self._handling = False
        if crashed:
            self.crash()
        else:
            self._set_timer()
        if refusal is not None:
            raise refusal

    def _drain(self) -> None:
        """Carry out the effects, and those of the refusals they meet, which are reported at once or at the end."""
        assert self._core is not None
        for _ in range(MAX_ROUNDS):
            refused: list[tuple[bytes, bytes]] = []
            for effect in self._core.effects():
                self._count_down()
                if self._world.trace is not None:
                    self._world.note(self.name, effect)
                if not self._carry_out(effect):
                    assert isinstance(effect, Transmit | SendBack)
                    path = effect.path if isinstance(effect, SendBack) else b""
                    refused.append((effect.store, path))
                    if not self._plan.deferred:
                        self._core.undeliverable(effect.store, self.clock.read(), path)
            if not refused:
                return
            if self._plan.deferred:
                for store, path in refused:
                    self._core.undeliverable(store, self.clock.read(), path)
        raise SimulatorError(f"{self.name} talks to itself")

    def _count_down(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                raise Crashed

    def _carry_out(self, effect: Effect) -> bool:  # noqa: C901, PLR0912 - one case for each effect
        """Do what an effect says; False when a frame was refused."""
        match effect:
            case Persist():
                self.disk.persist(effect)
            case Transmit():
                self._oracle.transmitted(self, effect.store, effect.parts)
                return self._network.send(self, effect.store, effect.parts)
            case SendBack():
                self._oracle.transmitted(self, effect.store, effect.parts)
                return self._network.send_back(self, effect.device, effect.path, effect.parts)
            case Answer():
                self._network.answer(self, effect.path, effect.parts)
            case Dial():
                self._network.dial(self, effect.store, effect.device, effect.endpoint)
            case Hangup():
                self._network.hangup(self, effect.store)
            case FetchOut():
                self.disk.fetch_out(effect.rows)
            case FetchIn():
                self.disk.fetch_in(effect.rows)
            case Delivery():
                self._oracle.delivered(self, effect)
                self.app.delivered(effect)
            case Settled():
                self.app.settled(effect)
            case Failed():
                self.app.failed(effect)
            case Progress():
                self._oracle.progressed(self, effect)
            case Notice():
                self._oracle.noticed(self, effect)
        return True

    def _set_timer(self) -> None:
        """Have `_wake` called when the core wants it; an earlier call that is under way is good enough."""
        assert self._core is not None
        wanted = self._core.timer()
        if wanted is None or (self._timer is not None and self._timer <= wanted):
            return
        self._timer = wanted
        self._timers += 1
        self._world.after(self.clock.delay(wanted), self._wake, wanted, self._timers)

    def _wake(self, wanted: float, serial: int) -> None:
        if serial != self._timers or self._timer is None or self._core is None:
            return
        self._timer = None
        self.wakes += 1
        self._input(self._wake_core, wanted)

    def _wake_core(self, wanted: float, now: float) -> None:
        assert self._core is not None
        due = self._core.timer()
        if due is not None and due <= max(wanted, now):
            self._core.wake(max(wanted, now))
