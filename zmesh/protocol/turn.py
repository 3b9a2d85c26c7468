"""What the core collects in one turn: ops to commit, what follows from their commit, and effects.

This is where the law of the journal is kept: an effect that depends on an op is emitted by the `then` given with it,
which runs only when the commit is reported. Several inputs may be handled before `seal`; their ops share a transaction.
"""

from collections.abc import Callable

from zmesh.protocol.effects import Effect, Failed, Notice, Persist, Settled
from zmesh.protocol.entropy import Entropy
from zmesh.protocol.journal import NOTHING_SPECIAL, Op, PutAudit, Written

Then = Callable[[], None]
Otherwise = Callable[[str], None]
Follow = tuple[Then | None, Otherwise | None]


class Turn:
    """The journal of the core.

    Attributes:
        now: Time of the input being handled, in seconds of the store's clock.
        entropy: Source of ids and jitter.
        written: What the store tells of the commit that is being reported.
    """

    def __init__(self, entropy: Entropy, now: float) -> None:
        """Start with nothing pending."""
        self.now = now
        self.entropy = entropy
        self.written = NOTHING_SPECIAL
        self._ops: list[Op] = []
        self._follow: list[Follow] = []
        self._effects: list[Effect] = []
        self._sealed: dict[int, list[Follow]] = {}
        self._void: set[int] = set()
        self._token = 0
        self._generation = 0

    def persist(self, op: Op) -> None:
        """Add an op to the transaction of this turn."""
        self._ops.append(op)

    def persist_first(self, ops: list[Op]) -> None:
        """Put ops before all others of this turn: they are older."""
        self._ops[:0] = ops

    def then(self, commit: Then | None, abort: Otherwise | None = None) -> None:
        """Say what follows from the transaction of this turn: `commit()` or `abort(reason)`; None for nothing."""
        self._follow.append((commit, abort))

    def settle(self, ticket: int) -> None:
        """Answer a command when the transaction of this turn is on disk, or is not."""
        self.then(lambda: self.emit(Settled(ticket)), lambda reason: self.emit(Failed(ticket, reason)))

    def emit(self, effect: Effect) -> None:
        """Add an effect that depends on nothing uncommitted."""
        self._effects.append(effect)

    def notice(self, level: str, text: str, audit: str = "") -> None:
        """Log a sentence; with `audit`, also keep it in the store under that kind."""
        self._effects.append(Notice(level, text))
        if audit:
            self._ops.append(PutAudit(self.now, audit, text))

    @property
    def open(self) -> bool:
        """True when there is something to seal."""
        return bool(self._ops or self._follow)

    def seal(self) -> None:
        """End the transaction of this turn, if it holds anything: its `Persist` joins the effects."""
        if not self.open:
            return
        self._token += 1
        self._sealed[self._token] = self._follow
        self._effects.append(Persist(self._token, self._generation, tuple(self._ops)))
        self._ops, self._follow = [], []

    def committed(self, token: int, written: Written = NOTHING_SPECIAL) -> None:
        """Run what follows from a commit."""
        follow = self._sealed.pop(token)
        self.written = written
        for commit, _ in follow:
            if commit is not None:
                commit()
        self.written = NOTHING_SPECIAL

    def failed(self, token: int, reason: str) -> bool:
        """Run what follows from a commit that failed.

        With it fails everything of its generation that is not committed: all of that is taken back at once, before
        anything new can build on it. The reports that are still to come of the others then say nothing new.

        Returns:
            True when this is the first failure of its generation.
        """
        if token not in self._sealed:
            self._void.remove(token)
            return False
        # What is being collected now may build on what just failed: it belongs to the old generation, and fails.
        self.seal()
        self._generation += 1
        failed, self._sealed = self._sealed, {}
        self._void.update(other for other in failed if other != token)
        for sealed in failed.values():
            for _, abort in sealed:
                if abort is not None:
                    abort(reason)
        return True

    def drain(self) -> list[Effect]:
        """Return the effects collected so far and forget them."""
        effects, self._effects = self._effects, []
        return effects
