"""One seed: a mesh of stores with a workload, a storm of faults, then calm, and the judgement.

In the safety phase everything may fail and nothing may be wrong; then all faults end, and in the liveness phase every
send must come to its end within a bounded virtual time. A run prints nothing: it returns totals or raises.
"""

from collections import Counter
from dataclasses import dataclass

from tests.simulator.app import App
from tests.simulator.disk import Disk
from tests.simulator.hostile import Mallory
from tests.simulator.ledger import LIVE
from tests.simulator.limits import limited
from tests.simulator.log import Fact, Log, Sending
from tests.simulator.network import Network
from tests.simulator.oracle import Oracle
from tests.simulator.plan import Plan, draw
from tests.simulator.process import Process
from tests.simulator.verdict import describe, judge, open_inbox, unended
from tests.simulator.world import Trace, World
from zmesh.protocol.address import store_text
from zmesh.protocol.commands import Sighted
from zmesh.protocol.priority import Priority

PATIENCE = 400.0  # seconds of virtual time after which everything must have ended: over REDELIVERY_MAX and REQUEUE_MAX
PROBE_PATIENCE = 30.0  # seconds after the storm in which a critical message must get through
LOOK = 0.25  # seconds between two looks at what has not ended
MAILBOXES = ("m0", "m1", "m2")
PROBE = b"probe"


@dataclass(frozen=True)
class Report:
    """What a seed was.

    Attributes:
        seed: The seed.
        plan: What was drawn from it.
        totals: What happened.
        digest: Over the whole trace; empty when none was asked for.
    """

    seed: int
    plan: Plan
    totals: Counter[str]
    digest: str


class Storm:
    """The mesh of one seed, and everything that happens to it."""

    def __init__(self, seed: int, trace: Trace | None = None) -> None:
        self.world = World(seed, trace)
        self.plan = draw(self.world.random("plan"))
        self.log = Log()
        self.oracle = Oracle(self.world, self.log)
        self.network = Network(self.world, self.plan)
        self._random = self.world.random("storm")
        self._halting = self.world.random("halts")
        self._tidying = self.world.random("tidyings")
        self._trace = trace
        self.processes = [self._process(index) for index in range(self.plan.stores)]
        self.apps = [App(self.world, self.plan, process, self.oracle, self.log) for process in self.processes]
        self._mallory = Mallory(self.world, self.network, self.processes)
        self._calm = False

    def run(self) -> Report:
        """Run both phases and judge.

        Raises:
            Violation: A law was broken.
            SimulatorError: Something spins.
            Exception: Whatever the core raised.
        """
        with limited(self.plan.bounds):
            self._begin()
            self.world.run(self.plan.storm)
            self._settle_down()
            healed = self.world.now
            self._probe()
            while self.world.now < healed + PROBE_PATIENCE and self._missing():
                self.world.run(self.world.now + LOOK)
            self._check_probes(healed)
            while self.world.now < healed + PATIENCE and not self._quiet():
                self.world.run(self.world.now + LOOK)
            self.oracle.totals["ended after ms"] = int((self.world.now - healed) * 1000)
            judge(self.oracle)
        return Report(self.world.seed, self.plan, self._totals(), self._trace.digest() if self._trace else "")

    # --- before ---

    def _process(self, index: int) -> Process:
        process = Process(self.network, self.oracle, index)
        self.oracle.add(process)
        return process

    def _begin(self) -> None:
        self._build_walls()
        for process in self.processes:
            self.world.after(self._random.random() * 0.2, process.start)
        for one in self.processes:
            for other in self.processes:
                # The other side can also learn of us when we dial it.
                # Who cannot be dialled has to know whom it dials.
                calls = (other.index, one.index) in self.network.walls
                if one is not other and (calls or one.index < other.index or self._random.random() < 0.7):
                    self.world.after(self._random.random(), self._sight, one, other)
        self._plan_mailboxes()
        self._plan_sends()
        self._plan_faults()

    def _build_walls(self) -> None:
        """See to it that some stores cannot dial some others, from the beginning; never both of two."""
        pairs = [(one, other) for one in range(self.plan.stores) for other in range(one)]
        for pair in self._random.sample(pairs, min(self.plan.walls, len(pairs))):
            wall = pair if self._random.random() < 0.5 else pair[::-1]
            self.network.wall(*wall)
            self.oracle.totals["walls"] += 1
            if not self.plan.walls_stay:
                self.world.after(self._random.random() * self.plan.storm, self._swing, wall)

    def _swing(self, wall: tuple[int, int]) -> None:
        """A wall falls, and perhaps another one is built against the other direction."""
        self.network.unwall(*wall)
        if self._random.random() < 0.5:
            self.network.wall(*wall[::-1])
            for one, other in (wall, wall[::-1]):
                self._sight(self.processes[one], self.processes[other])

    def _sight(self, one: Process, other: Process) -> None:
        self.apps[one.index].sight(Sighted(other.store, other.name, other.device, (other.endpoint,)))

    def _plan_mailboxes(self) -> None:
        for app in self.apps:
            late = self._random.random() < self.plan.late_mailboxes
            self.world.after(self._random.random() * self.plan.storm if late else 0.0, app.open, "m2")

    def _plan_sends(self) -> None:
        sent = 0
        while sent < self.plan.sends:
            burst = min(self.plan.sends - sent, self._random.randint(1, self.plan.burst))
            source, at = self._random.randrange(self.plan.stores), self._random.random() * self.plan.storm * 0.9
            target = self._target(source)
            klass = self._random.choice(list(Priority))
            for _ in range(burst):
                if self._random.random() < 0.3:
                    target, klass = self._target(source), self._random.choice(list(Priority))
                at += self._random.choice((0.0, 0.0, 0.001, 0.02))
                self.world.after(at, self.apps[source].send, self._draw_sending(source, target, klass))
            sent += burst

    def _target(self, source: int) -> int:
        if self._random.random() < self.plan.local:
            return source
        return self._random.choice([index for index in range(self.plan.stores) if index != source])

    def _draw_sending(self, source: int, target: int, klass: Priority) -> Sending:
        random = self._random
        ttl: float | None = random.choice((None, None, 3600.0))
        if random.random() < self.plan.short_ttl:
            ttl = random.choice((0.01, 0.3, 2.0, 10.0))
        mailbox = random.choice(MAILBOXES)
        address = f"{mailbox}@{self.processes[target].name}"
        there: int | None = target
        if random.random() < self.plan.ghosts:
            there, ttl = None, random.choice((0.5, 5.0, 20.0))
            address = random.choice((f"ghost@{self.processes[target].name}", "m0@nowhere"))
        elif random.random() < 0.1:
            address += "~" + store_text(self.processes[target].store)[:8]
        body = random.randbytes(random.randint(0, self.plan.body))
        return Sending(random.randbytes(16), source, there, mailbox, address, klass, ttl, body)

    # --- the storm ---

    def _plan_faults(self) -> None:
        plan = self.plan
        for count, fault in (
            (plan.crashes, self._crash),
            (plan.partitions, self._partition),
            (plan.cuts, self.network.cut_one),
            (plan.stalls, self._stall),
            (plan.holes, self._hole),
            (plan.pauses, self._pause),
            (plan.jumps, self._jump),
            (plan.full, self._fill),
            (plan.rollbacks, self._roll_back),
            (plan.moves, self._move),
            (int(plan.hostile * plan.storm), self._mallory.strike),
        ):
            for _ in range(count):
                # The last tenth is left for what is armed, so that all of it happens.
                self.world.after((0.02 + self._random.random() * 0.88) * plan.storm, fault)
        for _ in range(plan.halts):
            self.world.after((0.02 + self._halting.random() * 0.88) * plan.storm, self._halt)
        for _ in range(plan.tidyings):
            self.world.after((0.02 + self._tidying.random() * 0.97) * plan.storm, self._tidy)

    def _any(self) -> Process:
        return self._random.choice(self.processes)

    def _crash(self) -> None:
        """Kill a process between two of its next effects; if it has too few, soon."""
        if self._calm:
            return
        unharmed = [process for process in self.processes if process.up and process.crash_in is None]
        if not unharmed:
            self.world.after(0.05, self._crash)
            return
        process = self._random.choice(unharmed)
        process.crash_in = self._random.choice((0, 1, 2, 3, 5, 8, 20, 60))
        process.on_crash = self._restart_later
        self.world.after(0.3, self._crash_for_sure, process, process.incarnation)

    def _crash_for_sure(self, process: Process, incarnation: int) -> None:
        if process.up and process.incarnation == incarnation and not self._calm:
            process.crash()

    def _restart_later(self, process: Process) -> None:
        self.world.after(self._random.choice((0.0, 0.05, 0.5, 3.0)) * (0.5 + self._random.random()), process.start)

    def _partition(self) -> None:
        """Cut one direction, a pair, or a store from all others."""
        one, other = self._random.sample(range(self.plan.stores), 2)
        pairs = [(one, other)]
        kind = self._random.random()
        if kind < 0.4:
            pairs.append((other, one))
        elif kind < 0.7:
            others = [index for index in range(self.plan.stores) if index != one]
            pairs = [(one, index) for index in others] + [(index, one) for index in others]
        self.oracle.totals["partitions"] += 1
        for pair in pairs:
            self.network.block(*pair)
        self.world.after(self._length(), self._join, pairs)

    def _join(self, pairs: list[tuple[int, int]]) -> None:
        for pair in pairs:
            self.network.unblock(*pair)

    def _length(self) -> float:
        return self._random.choice((0.05, 0.5, 2.0, self.plan.storm / 2)) * (0.5 + self._random.random())

    def _hole(self) -> None:
        self.oracle.totals["holes"] += 1
        self.network.punch(self._random.choice((1.0, 10.0, 30.0)))

    def _stall(self) -> None:
        """A store stops emptying its sockets for a while."""
        process = self._any()
        if process.up and process.reading:
            self.oracle.totals["stalls"] += 1
            process.reading = False
            self.world.after(self._length(), self._read, process, process.incarnation)

    def _read(self, process: Process, incarnation: int) -> None:
        if process.up and process.incarnation == incarnation and not process.paused:
            process.read()

    def _pause(self) -> None:
        process = self._any()
        if process.up and not process.paused:
            self.oracle.totals["pauses"] += 1
            process.pause()
            self.world.after(self._length(), process.resume)

    def _jump(self) -> None:
        self.oracle.totals["jumps"] += 1
        self._any().jump(self._random.choice((0.5, 30.0, 3600.0)))

    def _fill(self) -> None:
        """A disk is full for a while."""
        disk = self._any().disk
        disk.full = True
        self.oracle.totals["disk full"] += 1
        self.world.after(self._random.choice((0.05, 1.0, 4.0)), self._empty, disk)

    @staticmethod
    def _empty(disk: Disk) -> None:
        disk.full = False

    def _halt(self) -> None:
        """Somebody pauses a store, or has it disconnect another one; mostly, somebody undoes that before the calm."""
        one, other = self._halting.sample(self.apps, 2)
        store = b"" if self._halting.random() < 0.5 else self.processes[self.apps.index(other)].store
        one.halt(store)
        self.world.after(
            self._halting.choice((0.0, 0.1, 1.0, 5.0)) * (0.5 + self._halting.random()), one.release, store
        )

    def _tidy(self) -> None:
        """Somebody looks after the mailboxes of a store."""
        dead = [(app, name) for app in self.apps for name in app.mailboxes if app.has_dead(name)]
        if dead and self._tidying.random() < 0.7:
            app, name = self._tidying.choice(dead)
            app.replay(name)
        else:
            app = self._tidying.choice(self.apps)
            app.move(*self._tidying.sample(app.mailboxes, 2))

    def _roll_back(self) -> None:
        """Keep a copy of a disk, and some time later restore it."""
        process = self._any()
        process.disk.keep_copy()
        self.oracle.keep_copy(process)
        self.world.after(self._random.random() * self.plan.storm / 3, self._restore, process)

    def _restore(self, process: Process) -> None:
        if self._calm:
            return
        process.crash()
        if process.disk.roll_back():
            self.oracle.rolled_back(process)
        process.start()

    def _move(self) -> None:
        """A store crashes and comes back under another address, which discovery tells."""
        process = self._any()
        process.crash()
        process.move()
        process.start()
        self.oracle.totals["moves"] += 1
        for other in self.processes:
            if other is not process:
                self.world.after(self._random.random() * 3, self._sight, other, process)

    # --- the calm ---

    def _settle_down(self) -> None:
        """End all faults and have everybody behave."""
        self._calm = True
        for process in self.processes:
            process.disk.full = False
            process.crash_in = None
            process.resume()
        self.network.heal()
        for process, app in zip(self.processes, self.apps, strict=True):
            process.start()
            if process.up and not process.reading:
                process.read()
            app.open("m2")
            app.settle_down()
        for one in self.processes:
            for other in self.processes:
                if one is not other and self.plan.moves:
                    self._sight(one, other)

    def _probe(self) -> None:
        """Have every store write to every other one: all links must come up, and soon."""
        for one in self.processes:
            for other in self.processes:
                if one is not other:
                    address = f"m0@{other.name}"
                    ident = self._random.randbytes(16)
                    self.apps[one.index].send(
                        Sending(ident, one.index, other.index, "m0", address, Priority.CRITICAL, None, PROBE)
                    )

    def _missing(self) -> list[Sending]:
        """Return the probes that have not got through: neither stored nor refused by a quota."""
        missing = []
        for sending in self.log.sendings.values():
            if sending.body is PROBE:
                sent = self.oracle.ledgers[sending.source].out_ids.get(sending.id)
                refused = sent is None and sending.fact is Fact.FAILED  # too much waits for that store already
                if not refused and (sent is None or (sent.state in LIVE and not sent.moved)):
                    missing.append(sending)
        return missing

    def _check_probes(self, healed: float) -> None:
        self.oracle.totals["links up after ms"] = int((self.world.now - healed) * 1000)
        missing = [describe(self.oracle, sending) for sending in self._missing()]
        if missing:
            self.oracle.fail("liveness", f"not stored {PROBE_PATIENCE:.0f} s after the storm: {'; '.join(missing)}")

    def _quiet(self) -> bool:
        return (
            not unended(self.oracle)
            and not open_inbox(self.oracle)
            and not any(sending.fact is Fact.ASKED for sending in self.log.sendings.values())
        )

    def _totals(self) -> Counter[str]:
        totals = self.oracle.totals
        totals["sends"] = len(self.log.sendings)
        totals["frames"] = self.network.frames
        totals["frames lost"] = self.network.lost
        totals["cuts"] = self.network.cuts
        totals["returned"] = self.network.returned
        totals["hostile"] = self._mallory.done
        totals["events"] = self.world.events
        totals["virtual s"] = int(self.world.now)
        return totals


def run(seed: int, trace: Trace | None = None) -> Report:
    """Run one seed."""
    return Storm(seed, trace).run()
