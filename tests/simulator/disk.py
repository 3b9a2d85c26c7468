"""The simulated disk: a model of the store behind a writer that commits in groups, fails, crashes and goes back.

The rule of `Persist` is kept here as the real store keeps it: commits are in order, and once one of a generation has
failed, all later ones of that generation fail untried. Nothing may be reported as committed that a crash could undo.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from tests.simulator.model import StoreModel
from tests.simulator.plan import Plan
from tests.simulator.world import World
from zmesh.protocol.effects import Persist
from zmesh.protocol.journal import Op, Written


class Writer(Protocol):
    """What the disk reports to: the process that owns it."""

    def committed(self, token: int, written: Written) -> None:
        """Hear that a commit landed."""

    def failed(self, token: int, reason: str) -> None:
        """Hear that a commit failed."""

    def fetched_out(self, bodies: Mapping[int, bytes]) -> None:
        """Take bodies of the outbox."""

    def fetched_in(self, messages: Mapping[int, tuple[bytes, bytes]]) -> None:
        """Take envelopes and bodies of the inbox."""


Watcher = Callable[[tuple[Op, ...], Written], None]


class Disk:
    """One store's disk.

    Attributes:
        model: What is committed.
        full: True while nothing can be written.
        commits: Transactions so far; rises over rollbacks too.
    """

    def __init__(self, world: World, plan: Plan, name: str, watch: Watcher) -> None:
        self._world = world
        self._plan = plan
        self._random = world.random(f"disk/{name}")
        self._watch = watch
        self._writer: Writer | None = None
        self._incarnation = 0
        self._queue: deque[Persist] = deque()
        self._committing: list[Persist] = []
        self._failed_generation = -1
        self._copy: StoreModel | None = None
        self._read_at = 0.0
        self.model = StoreModel()
        self.full = False
        self.commits = self.failures = 0

    def open(self, writer: Writer) -> None:
        """Start a new process's writer."""
        self._writer = writer
        self._incarnation += 1
        self._failed_generation = -1

    # --- what the process asks for ---

    def persist(self, effect: Persist) -> None:
        """Queue a transaction."""
        self._queue.append(effect)
        if not self._committing:
            self._begin()

    def fetch_out(self, rows: Iterable[int]) -> None:
        """Read bodies of the outbox, some time later."""
        self._world.after(self._turn(), self._read_out, tuple(rows), self._incarnation)

    def fetch_in(self, rows: Iterable[int]) -> None:
        """Read messages of the inbox, some time later."""
        self._world.after(self._turn(), self._read_in, tuple(rows), self._incarnation)

    # --- what happens to it ---

    def crash(self) -> None:
        """Lose what is not committed; a commit that is going on may have landed."""
        if self._committing and not self.full and self._random.random() < 0.5:
            for effect in self._survivors(self._committing):
                self._apply(effect)
        self._queue.clear()
        self._committing = []
        self._writer = None
        self._incarnation += 1

    def keep_copy(self) -> None:
        """Remember the disk as it is now."""
        self._copy = self.model.copy()

    def roll_back(self) -> bool:
        """Go back to the copy, while no process runs; False when there is none."""
        if self._copy is None:
            return False
        self.model, self._copy = self._copy, None
        return True

    # --- inside ---

    def _pause(self) -> float:
        return self._plan.commit * (0.5 + self._random.random())

    def _turn(self) -> float:
        """Return when the next read ends; they end in their order."""
        self._read_at = max(self._read_at, self._world.now + self._pause())
        return self._read_at - self._world.now

    def _begin(self) -> None:
        size = min(len(self._queue), self._plan.group)
        self._committing = [self._queue.popleft() for _ in range(size)]
        if self._committing:
            self._world.after(self._pause(), self._finish, self._incarnation)

    def _survivors(self, group: list[Persist]) -> list[Persist]:
        """Return those whose generation has not failed."""
        return [effect for effect in group if effect.generation > self._failed_generation]

    def _apply(self, effect: Persist) -> Written:
        written = self.model.apply(effect.ops)
        self.commits += 1
        self._watch(effect.ops, written)
        return written

    def _finish(self, incarnation: int) -> None:
        if incarnation != self._incarnation:
            return
        group, self._committing = self._committing, []
        alive = self._survivors(group)
        if self.full and alive:
            self.failures += 1
            self._failed_generation = max(effect.generation for effect in alive)
            alive = []
        results = {effect.token: self._apply(effect) for effect in alive}
        self._world.after(0.0, self._report, group, results, incarnation)
        self._begin()

    def _report(self, group: list[Persist], results: dict[int, Written], incarnation: int) -> None:
        for effect in group:
            if incarnation != self._incarnation or self._writer is None:
                return
            if effect.token in results:
                self._writer.committed(effect.token, results[effect.token])
            else:
                self._writer.failed(effect.token, "the disk is full")

    def _read_out(self, rows: tuple[int, ...], incarnation: int) -> None:
        if incarnation == self._incarnation and self._writer is not None:
            self._writer.fetched_out(self.model.fetch_out(rows))

    def _read_in(self, rows: tuple[int, ...], incarnation: int) -> None:
        if incarnation == self._incarnation and self._writer is not None:
            self._writer.fetched_in(self.model.fetch_in(rows))
