"""What the stores themselves say after a storm, compared with what the workers were promised.

The stores are opened read-only after their processes have ended, ended messages included. The oracle is the outside log:
whatever a `send()` has returned for must be in the receiver's store, once, in order.
"""

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.storm.journal import DONE, GOT, SENT, read_lines
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


def query(store: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a store that nobody runs, without writing to it."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def promises(log: Path) -> list[Promise]:
    """Return the sends that have returned, in order; a line torn by a kill was never written."""
    lines = [words for words in read_lines(log) if words and words[0] == SENT]
    return [Promise(words[1], words[2], int(words[3])) for words in lines if len(words) == 4 and len(words[1]) == 32]


def judge(senders: dict[Path, Path], receiver: Path, receiver_log: Path) -> Verdict:
    """Compare stores and logs.

    Args:
        senders: The log of each sender, by its store.
        receiver: The receiver's store.
        receiver_log: Its log.
    """
    verdict = Verdict()
    inbox = query(receiver, "SELECT row, hex(id), hex(source), klass, state, attempts FROM inbox ORDER BY row")
    inbox = [(row, ident.lower(), source.lower(), *rest) for row, ident, source, *rest in inbox]
    assert len(inbox) < KEPT_ENDED, "more than a store remembers: judge sooner"
    verdict.totals["stored"] = len(inbox)
    _judge_once(verdict, [row[1] for row in inbox])
    _judge_leases(verdict, inbox, receiver_log)
    everything: set[str] = set()
    for store, log in senders.items():
        everything |= _judge_sender(verdict, store, promises(log), inbox)
    verdict.blame("messages were stored that nobody sent", [row[1] for row in inbox if row[1] not in everything])
    return verdict


def _judge_once(verdict: Verdict, ids: list[str]) -> None:
    verdict.blame("ids are twice in the inbox", [ident for ident, count in Counter(ids).items() if count > 1])


def _judge_sender(verdict: Verdict, store: Path, sends: list[Promise], inbox: list[tuple[Any, ...]]) -> set[str]:
    """Judge what one sender was promised; return the ids of all it ever wrote down."""
    states = {ident.lower(): Sent(state) for ident, state in query(store, "SELECT hex(id), state FROM outbox")}
    assert len(states) < KEPT_ENDED, "more than a store remembers: judge sooner"
    (own,) = query(store, "SELECT hex(value) FROM meta WHERE key = 'store'")[0]
    arrived = {row[1] for row in inbox}
    totals = verdict.totals
    totals["acknowledged"] += len(sends)
    totals["written but not acknowledged"] += len(states) - len({send.id for send in sends} & states.keys())
    totals.update(f"sender says {state.name.lower()}" for state in states.values())
    verdict.blame("acknowledged sends are not in the sender's store", [s for s in sends if s.id not in states])
    verdict.blame("acknowledged sends are LOST", [s for s in sends if s.id not in arrived])
    verdict.blame(
        "messages ended otherwise than stored",
        [f"{ident} {state.name}" for ident, state in states.items() if state not in _ARRIVED],
    )
    verdict.blame("messages are said to be stored and are not", [ident for ident in states if ident not in arrived])
    numbers = {send.id: send.number for send in sends}
    for klass in Priority:
        mine = [numbers[row[1]] for row in inbox if row[1] in numbers and row[2] == own.lower() and row[3] == klass]
        verdict.blame(
            f"messages of class {klass.name} overtook others", [pair for pair in pairwise(mine) if pair[0] > pair[1]]
        )
    return set(states)


def _judge_leases(verdict: Verdict, inbox: list[tuple[Any, ...]], log: Path) -> None:
    """Each delivery of a message has a number of its own, and what was done is never delivered again."""
    attempts: set[tuple[str, str]] = set()
    done: set[str] = set()
    again: list[str] = []
    repeated: list[str] = []
    for words in read_lines(log):
        if words and words[0] == GOT and len(words) == 4:
            if words[1] in done:
                again.append(words[1])
            if (words[1], words[2]) in attempts:
                repeated.append(f"{words[1]} attempt {words[2]}")
            attempts.add((words[1], words[2]))
        elif words and words[0] == DONE and len(words) == 2:
            done.add(words[1])
    verdict.blame("messages were delivered after they were done", again)
    verdict.blame("deliveries have the same number", repeated)
    verdict.totals["delivered"] += len(attempts)
    verdict.totals["delivered again"] += sum(attempt != "1" for _, attempt in attempts)
    ends = {ident: (Received(state), attempts) for _, ident, _, _, state, attempts in inbox}
    unfinished = [
        f"{ident} {state.name} after {count} deliveries"
        for ident, (state, count) in ends.items()
        if state is not Received.HANDLED and not (state is Received.DEAD and count >= MAX_ATTEMPTS)
    ]
    verdict.blame("messages are not handled", unfinished)
    undone = [ident for ident in done if ident not in ends or ends[ident][0] is not Received.HANDLED]
    verdict.blame("messages were done and are not handled", undone)
