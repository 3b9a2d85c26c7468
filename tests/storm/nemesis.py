"""The kill storm: three peers on real sockets and stores, and a nemesis that ends them with SIGKILL.

The victims and moments follow from the seed; what the machine makes of them does not, so a seed repeats the plan of a
storm and not each instruction of it.
"""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.storm.journal import Watch
from tests.storm.processes import Fork, Overdue, Process, wait_until
from tests.storm.verdict import Verdict, judge
from tests.storm.worker import TARGET, main

SENDERS = ("north", "south")
MESSAGES = 100_000  # acknowledged in one part of a storm: then all is judged, before a store forgets what has ended
HASTY = 0.15  # of the kills hit before anything has moved since the last one
LULL = 0.1  # seconds at most between the first progress and the kill
START = 30.0  # seconds for a worker to come up on a busy machine
DRAIN = 240.0  # seconds until everything must be delivered


@dataclass(slots=True)
class Worker:
    """One peer of the storm, through all its lives."""

    role: str
    name: str
    home: Path
    lives: int = 0
    child: Process | None = None
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.log)

    @property
    def log(self) -> Path:
        return self.home / f"{self.name}.log"

    @property
    def store(self) -> Path:
        return self.home / "peers" / self.name / "store.db"

    @property
    def process(self) -> Process:
        assert self.child is not None
        return self.child

    @property
    def unacknowledged(self) -> int:
        """How many sends have returned for which no receipt said stored."""
        return self.watch.sent - self.watch.stored

    def start(self) -> None:
        """Begin another life."""
        self.lives += 1
        self.watch.forget()
        arguments = [self.role, self.name, str(self.lives), str(self.home), str(self.log)]
        self.child = Fork(self.name, main, arguments, self.home / f"{self.name}.err")


class Storm:
    """Kills until it has killed often enough.

    Attributes:
        verdict: What was found so far.
    """

    def __init__(self, seed: int, home: Path, *, keep: bool = False) -> None:
        """Plan a storm.

        Args:
            seed: Of the plan.
            home: Where its stores lie, an own directory for each part.
            keep: Leave the stores of parts that went well.
        """
        self.verdict = Verdict()
        self._keep = keep
        self._random = random.Random(seed)
        self._home = home
        self._parts = 0
        self._workers: list[Worker] = []

    def run(self, kills: int, say: Callable[[str], None]) -> Verdict:
        """Kill so often, in parts, each with new stores; say a line after each part."""
        began = time.monotonic()
        while self.verdict.totals["kills"] < kills:
            self._part(kills)
            totals = self.verdict.totals
            say(
                f"{totals['kills']} kills, {totals['acknowledged']} acknowledged, {len(self.verdict.offences)} "
                f"offences, {time.monotonic() - began:.0f} s"
            )
            if self.verdict.offences:
                break
        return self.verdict

    def _part(self, kills: int) -> None:
        self._parts += 1
        home = self._home / f"part-{self._parts}"
        home.mkdir(mode=0o700)
        self._workers = [Worker("receiver", TARGET, home), *[Worker("sender", name, home) for name in SENDERS]]
        try:
            for worker in self._workers:
                worker.start()
            while self.verdict.totals["kills"] < kills and sum(w.watch.total for w in self._workers) < MESSAGES:
                self._strike()
            self._drain()
        finally:
            for worker in self._workers:
                worker.process.kill()
        receiver, *senders = self._workers
        self.verdict.add(judge({worker.store: worker.log for worker in senders}, receiver.store, receiver.log))
        if not self.verdict.offences and not self._keep:
            shutil.rmtree(home)

    # --- killing ---

    def _strike(self) -> None:
        """Kill one or two, at a moment when something is unacknowledged, and start them again at once."""
        hasty = self._random.random() < HASTY
        kind = self._random.choice(("sender", "receiver", "both"))
        sender = self._random.choice(self._workers[1:])
        lull = self._random.random() * LULL
        before = Counter({worker.name: worker.watch.stored for worker in self._workers})

        def moving() -> bool:
            self._look()
            senders = [sender] if kind == "sender" else self._workers[1:]
            sent = all(worker.watch.sent for worker in senders)
            return sent and (hasty or all(worker.watch.stored > before[worker.name] for worker in senders))

        self._await(moving, START, "the workers are at work")
        time.sleep(lull)  # the moment is a part of the storm: nothing is waited for
        victims = [worker for worker in self._workers if worker is sender or worker.role == "receiver"]
        if kind != "both":
            victims = [worker for worker in victims if worker.role == kind]
        owing = [sender] if kind == "sender" else self._workers[1:]
        self._await(lambda: self._kill(victims, owing), START, "something is unacknowledged")
        self.verdict.totals["kills"] += 1
        self.verdict.totals[f"kills of {kind}"] += 1
        self.verdict.totals["processes killed"] += len(victims)
        for worker in victims:
            worker.start()

    def _kill(self, victims: list[Worker], owing: list[Worker]) -> bool:
        """Kill, if something is unacknowledged; the senders stand still meanwhile, so that this is no guess."""
        senders = self._workers[1:]
        for worker in senders:
            worker.process.stop()
        self._look()
        owed = any(worker.unacknowledged > 0 for worker in owing)
        if owed:
            for worker in victims:
                worker.process.kill()
        for worker in senders:
            if not owed or worker not in victims:
                worker.process.go_on()
        return owed

    # --- the end ---

    def _drain(self) -> None:
        began = time.monotonic()
        for workers in (self._workers[1:], self._workers[:1]):  # the answers come last
            for worker in workers:
                worker.process.tell("drain")
            self._await(partial(self._quiet, workers), DRAIN, "everything is handled")
        self.verdict.totals["drained, ms"] += int(1000 * (time.monotonic() - began))
        for worker in self._workers:
            worker.process.tell("quit")
            status = worker.process.end()
            assert status == 0, f"{worker.process} ended with {status}\n{worker.process.tail()}"

    def _quiet(self, workers: list[Worker]) -> bool:
        self._look()
        return all(worker.watch.quiet for worker in workers)

    def _look(self) -> None:
        for worker in self._workers:
            worker.watch.look()

    def _await(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        def holds() -> object:
            for worker in self._workers:
                worker.process.check()
            return condition()

        try:
            wait_until(holds, seconds, what)
        except Overdue as error:
            watches = {w.name: (w.watch.sent, w.watch.stored, w.watch.got, w.watch.done) for w in self._workers}
            tails = "\n".join(worker.process.tail() for worker in self._workers)
            raise Overdue(f"{error}; sent, stored, got, done: {watches}\n{tails}") from None
