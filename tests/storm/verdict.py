"""What the stores themselves say after a storm, compared with what the workers were promised.

The stores are opened read-only after their processes have ended, ended messages included. The oracle is the outside
log: whatever a `send()` has returned for must be in the receiver's store, once, in order; whatever a `done(reply=...)`
has returned for must have been answered, once.
"""

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.storm.journal import DONE, GOT, SENT, read_lines
from tests.storm.worker import is_answered
from zmesh.peer.message import reply_id
from zmesh.protocol.bounds import KEPT_ENDED, MAX_ATTEMPTS
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Received, Sent

_SHOWN = 5  # examples of each offence
_ARRIVED = frozenset({Sent.STORED, Sent.HANDLED, Sent.DEAD})


@dataclass(slots=True)
class Verdict:
    """What was found.

    Attributes:
        totals: Of everything that was counted.
        offences: Sentences about what must not be; empty when all is well.
    """

    totals: Counter[str] = field(default_factory=Counter)
    offences: list[str] = field(default_factory=list)

    def blame(self, what: str, culprits: list[Any]) -> None:
        """Note an offence, if there are culprits."""
        if culprits:
            shown = ", ".join(str(culprit) for culprit in culprits[:_SHOWN])
            self.offences.append(f"{len(culprits)} {what}: {shown}")

    def add(self, other: "Verdict") -> None:
        """Take over what another part of the storm has found."""
        self.totals += other.totals
        self.offences += other.offences


@dataclass(frozen=True, slots=True)
class Promise:
    """A send that returned."""

    id: str
    priority: str
    number: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A row of an inbox."""

    id: str
    source: str
    klass: int
    state: Received
    attempts: int


@dataclass(frozen=True, slots=True)
class Remains:
    """What one worker has left behind: its store, and its outside log.

    Attributes:
        own: Id of the store.
        inbox: What it has received, in the order in which that was stored.
        outbox: What it has sent, by id, and what became of it.
        promises: Its sends that have returned, in order.
        numbers: Of what was delivered to it, by id.
        deliveries: (id, attempt) of each, and "" for the attempt when it was done, in order.
    """

    own: str
    inbox: list[Arrival]
    outbox: dict[str, Sent]
    promises: list[Promise]
    numbers: dict[str, int]
    deliveries: list[tuple[str, str]]


def query(store: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a store that nobody runs, without writing to it."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def gather(store: Path, log: Path) -> Remains:
    """Read a store and its log; a line that a kill has torn was never written."""
    (own,) = query(store, "SELECT lower(hex(value)) FROM meta WHERE key = 'store'")[0]
    rows = query(store, "SELECT lower(hex(id)), lower(hex(source)), klass, state, attempts FROM inbox ORDER BY row")
    inbox = [Arrival(ident, source, klass, Received(state), tried) for ident, source, klass, state, tried in rows]
    outbox = {ident: Sent(state) for ident, state in query(store, "SELECT lower(hex(id)), state FROM outbox")}
    assert max(len(inbox), len(outbox)) < KEPT_ENDED, "more than a store remembers: judge sooner"
    promises: list[Promise] = []
    numbers: dict[str, int] = {}
    deliveries: list[tuple[str, str]] = []
    for words in read_lines(log):
        match words:
            case [kind, ident, priority, number] if kind == SENT and len(ident) == 32:
                promises.append(Promise(ident, priority, int(number)))
            case [kind, ident, attempt, number] if kind == GOT and len(ident) == 32:
                numbers[ident] = int(number)
                deliveries.append((ident, attempt))
            case [kind, ident] if kind == DONE and len(ident) == 32:
                deliveries.append((ident, ""))
    return Remains(own, inbox, outbox, promises, numbers, deliveries)


def judge(senders: dict[Path, Path], receiver: Path, receiver_log: Path) -> Verdict:
    """Compare stores and logs.

    Args:
        senders: The log of each sender, by its store.
        receiver: The receiver's store.
        receiver_log: Its log.
    """
    verdict = Verdict()
    sink = gather(receiver, receiver_log)
    sources = [gather(store, log) for store, log in senders.items()]
    verdict.totals["stored"] = len(sink.inbox)
    for remains in (sink, *sources):
        _judge_inbox(verdict, remains)
        _judge_outbox(verdict, remains)
    for source in sources:
        _judge_sends(verdict, source, sink)
        _judge_answers(verdict, source, sink)
    sent = {ident for source in sources for ident in source.outbox}
    verdict.blame("messages were stored that nobody sent", [row.id for row in sink.inbox if row.id not in sent])
    return verdict


def _judge_inbox(verdict: Verdict, remains: Remains) -> None:
    """Everything is there once and was handled; each delivery has a number of its own; what is done stays done."""
    counted = Counter(row.id for row in remains.inbox)
    verdict.blame("ids are twice in an inbox", [ident for ident, count in counted.items() if count > 1])
    seen: set[tuple[str, str]] = set()
    done: set[str] = set()
    again: list[str] = []
    repeated: list[tuple[str, str]] = []
    for ident, attempt in remains.deliveries:
        if not attempt:
            done.add(ident)
            continue
        if ident in done:
            again.append(ident)
        if (ident, attempt) in seen:
            repeated.append((ident, attempt))
        seen.add((ident, attempt))
    verdict.blame("messages were delivered after they were done", again)
    verdict.blame("deliveries have the same number", repeated)
    verdict.totals["delivered"] += len(seen)
    verdict.totals["delivered again"] += sum(attempt != "1" for _, attempt in seen)
    unfinished = [
        f"{row.id} {row.state.name} after {row.attempts} deliveries"
        for row in remains.inbox
        if row.state is not Received.HANDLED and not (row.state is Received.DEAD and row.attempts >= MAX_ATTEMPTS)
    ]
    verdict.blame("messages are not handled", unfinished)
    handled = {row.id for row in remains.inbox if row.state is Received.HANDLED}
    verdict.blame("messages were done and are not handled", sorted(done - handled))


def _judge_outbox(verdict: Verdict, remains: Remains) -> None:
    ended = [f"{ident} {state.name}" for ident, state in remains.outbox.items() if state not in _ARRIVED]
    verdict.blame("messages ended otherwise than stored", ended)
    verdict.totals.update(f"sender says {state.name.lower()}" for state in remains.outbox.values())


def _judge_sends(verdict: Verdict, source: Remains, sink: Remains) -> None:
    """What returned is stored there; within a class, in the order in which it returned."""
    arrived = {row.id for row in sink.inbox}
    promised = {send.id: send.number for send in source.promises}
    verdict.totals["acknowledged"] += len(source.promises)
    verdict.totals["written but not acknowledged"] += len(source.outbox.keys() - promised.keys())
    forgotten = [send for send in source.promises if send.id not in source.outbox]
    verdict.blame("acknowledged sends are not in the sender's store", forgotten)
    verdict.blame("acknowledged sends are LOST", [send for send in source.promises if send.id not in arrived])
    verdict.blame("messages are said to be stored and are not", sorted(source.outbox.keys() - arrived))
    for klass in Priority:
        mine = [
            promised[row.id]
            for row in sink.inbox
            if row.id in promised and row.source == source.own and row.klass == klass
        ]
        overtakers = [pair for pair in pairwise(mine) if pair[0] > pair[1]]
        verdict.blame(f"messages of class {klass.name} overtook others", overtakers)


def _judge_answers(verdict: Verdict, source: Remains, sink: Remains) -> None:
    """Every message that was to be answered, and was handled, has one answer, and there is nothing else."""
    due = {
        reply_id(bytes.fromhex(source.own), bytes.fromhex(row.id), 0).hex()
        for row in sink.inbox
        if row.source == source.own and row.state is Received.HANDLED and is_answered(sink.numbers[row.id])
    }
    there = {row.id for row in source.inbox}
    verdict.totals["answers"] += len(there)
    verdict.blame("answers are LOST", sorted(due - there))
    verdict.blame("answers answer nothing", sorted(there - due))
    verdict.blame("answers are not in the answerer's store", sorted(due - sink.outbox.keys()))
