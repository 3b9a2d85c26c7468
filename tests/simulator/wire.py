"""The oracle's eyes on the wire: every frame a store sends must follow from what is on its disk.

Frames are decoded as they leave, before the network does anything to them. This module remembers which id travelled
under which number, so that a number that means two messages is seen, and a cursor that passes over a message is too.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.simulator.ledger import Place
from zmesh.protocol.bounds import CLASSES, NO_ID
from zmesh.protocol.codec import HEADER_BYTES, decode
from zmesh.protocol.frames import Ack, Data, Gone, Hello, Item, Kind, Outcome, Ping
from zmesh.protocol.journal import InStreamRow
from zmesh.protocol.states import Sent

if TYPE_CHECKING:
    from tests.simulator.oracle import Oracle
    from tests.simulator.process import Process

HEED = 1.0  # seconds in which a RESET must be heeded
NEVER = float("inf")
CHECKED = frozenset({Kind.HELLO, Kind.DATA, Kind.ACK, Kind.OUTCOME, Kind.GONE, Kind.PING})
Stream = tuple[int, int, int, int]
"""Sender, receiver, epoch and class."""


class Wire:
    """What travelled, by stream.

    Attributes:
        halted: (store, another one) between which an administrator was told that no mail is exchanged; empty for all.
    """

    def __init__(self, oracle: "Oracle") -> None:
        self.halted: set[tuple[int, bytes]] = set()
        self._oracle = oracle
        self._ids: dict[Stream, dict[int, bytes]] = {}
        self._emptied: set[tuple[Stream, int]] = set()
        self._floors: dict[Stream, int] = {}
        self._gone: dict[Stream, list[tuple[int, int]]] = {}
        self._limits: dict[tuple[int, int], list[int]] = {}
        self._outcomes: dict[tuple[int, int], int] = {}
        self._reset: dict[tuple[int, bytes, bytes], float] = {}

    def stopped(self, index: int) -> None:
        """A process died: what it told of outcomes, it will tell again under other numbers."""
        self._outcomes = {pair: number for pair, number in self._outcomes.items() if index not in pair}

    def rolled_back(self, index: int) -> None:
        """A disk went back: what its store sent and nobody took may be said otherwise; so may what it took."""
        self.halted = {pair for pair in self.halted if pair[0] != index}
        for stream, ids in self._ids.items():
            source, target, epoch, klass = stream
            if index not in (source, target):
                continue
            stores = [process.store for process in self._oracle.processes]
            row = self._oracle.ledgers[target].in_streams.get((stores[source], klass))
            given = self._oracle.ledgers[source].out_streams.get((stores[target], klass))
            if row is not None and row.epoch > epoch:
                continue
            taken = row.cursor if row is not None and row.epoch == epoch else 0
            known = given.next_number - 1 if given is not None and given.epoch == epoch else 0
            for number in [number for number in ids if number > taken]:
                record = self._oracle.ledgers[source].places.get((stores[target], klass, epoch, number))
                if number > known or (record is not None and record.id != ids[number]):
                    del ids[number]  # neither end remembers it

    def answered(self, process: "Process", store: bytes, parts: Sequence[bytes]) -> None:
        """An answer came: a RESET must be heeded."""
        if len(parts[0]) >= HEADER_BYTES and parts[0][3] == Kind.RESET:
            self._reset.setdefault((process.index, store, parts[0][4:HEADER_BYTES]), self._oracle.now)

    def check(self, process: "Process", store: bytes, parts: list[bytes]) -> None:
        """Check a frame that leaves for `store`.

        Raises:
            Violation: It says what is not on the sender's disk, or goes out on a link that was reset or halted.
        """
        self._check_halts(process, store)
        link = parts[0][4:HEADER_BYTES]
        if self._oracle.now > self._reset.get((process.index, store, link), NEVER) + HEED:
            self._oracle.fail(process.name, f"link {link.hex()} goes on, and was reset")
        target = self._oracle.index_of.get(store)
        if target is None or parts[0][3] not in CHECKED:
            return
        _, frame = decode(parts)
        match frame:
            case Data():
                self._data(process, target, frame)
            case Ack():
                self._ack(process, target, frame)
            case Hello():
                self._hello(process, target, frame)
            case Outcome():
                self._outcome(process, target, frame)
            case Gone():
                self._say_gone(process, target, frame)
            case Ping():
                for klass, floor in enumerate(frame.floors):
                    self._floor((process.index, target, frame.epoch, klass), floor)
            case _:
                pass

    def _check_halts(self, process: "Process", store: bytes) -> None:
        if not self.halted.isdisjoint({(process.index, b""), (process.index, store)}):
            self._oracle.fail(process.name, "a frame is sent to a store with which no mail is to be exchanged")

    def check_cursor(self, index: int, source: int, row: InStreamRow, first: int) -> None:
        """Check that everything a committed cursor passes over was stored, or ended otherwise.

        Raises:
            Violation: A message was passed over.
        """
        stream = (source, index, row.epoch, row.klass)
        ledger, device = self._oracle.ledgers[index], self._oracle.processes[source].device
        ids, gone = self._ids.get(stream, {}), self._gone.get(stream, [])
        endings = ledger.endings.get((row.source, row.klass), {})
        for number in range(first, row.cursor + 1):
            if any(low <= number <= high for low, high in gone):
                continue
            ident = ids.get(number)
            if ident is None:
                if not self._oracle.rollbacks(source, index):
                    self._oracle.fail(ledger.name, f"the cursor of {stream} passes over {number}, which was never sent")
                continue
            stored = (device, ident) in ledger.in_keys or number in endings
            if not stored and ident != NO_ID and (stream, number) not in self._emptied:
                self._oracle.fail(ledger.name, f"the cursor of {stream} passes over {number}, {ident.hex()}")
        if row.cursor and row.cursor_id not in (NO_ID, ids.get(row.cursor, row.cursor_id)):
            self._oracle.fail(ledger.name, f"the cursor of {stream} has the wrong id at {row.cursor}")

    # --- frames ---

    def _data(self, process: "Process", target: int, frame: Data) -> None:
        source, name = process.index, process.name
        row = self._oracle.ledgers[source].out_streams.get((self._oracle.processes[target].store, frame.klass))
        if row is None or row.epoch != frame.epoch:
            self._oracle.fail(name, f"DATA of epoch {frame.epoch} before the epoch is on disk")
        self._floor((source, target, frame.epoch, frame.klass), frame.floor)
        last = frame.first + len(frame.items) - 1
        if last >= row.next_number:
            self._oracle.fail(name, f"number {last} is sent before it is on disk")
        limits = self._limits.get((target, source))
        if limits is not None and last > limits[frame.klass]:
            self._oracle.fail(name, f"number {last} of class {frame.klass} is beyond the credit {limits[frame.klass]}")
        ids = self._ids.setdefault((source, target, frame.epoch, frame.klass), {})
        for number, item in enumerate(frame.items, frame.first):
            self._oracle.totals["items"] += 1
            if item.envelope and number > row.mark:
                self._oracle.fail(name, f"number {number} of class {frame.klass} is sent, marked is {row.mark}")
            self._item(process, (row.dest, frame.klass, frame.epoch, number), item)
            self._note(name, ids, number, item)

    def _floor(self, stream: Stream, floor: int) -> None:
        """Check that a floor that is told is on disk: what it covers will be forgotten at the other end."""
        source, target, epoch, klass = stream
        row = self._oracle.ledgers[source].out_streams.get((self._oracle.processes[target].store, klass))
        saved = row.floor if row is not None and row.epoch == epoch else 0
        if floor > saved:
            self._oracle.fail(self._oracle.processes[source].name, f"the floor {floor} is told, on disk is {saved}")
        self._floors[stream] = max(floor, self._floors.get(stream, 0))

    def _item(self, process: "Process", place: Place, item: Item) -> None:
        """Check that what travels at a place is what the disk has there."""
        dest, klass, epoch, number = place
        name, record = process.name, self._oracle.ledgers[process.index].places.get(place)
        if not item.envelope:
            self._emptied.add(((process.index, self._oracle.index_of[dest], epoch, klass), number))
            if item.id == NO_ID and record is not None and record.state in (Sent.QUEUED, Sent.EXPIRING):
                self._oracle.fail(name, f"number {number} travels void and is {record.id.hex()}, {record.state.name}")
            return
        if record is None or record.id != item.id:
            self._oracle.fail(name, f"{item.id.hex()} is sent as number {number} before that is on disk")
        if (record.body, record.envelope) != (item.body, item.envelope):
            self._oracle.fail(name, f"{item.id.hex()} is sent as something else")
        if record.state in (Sent.WAITING, Sent.EXPIRED, Sent.REFUSED):
            self._oracle.fail(name, f"{item.id.hex()} is sent and is {record.state.name}")

    def _note(self, name: str, ids: dict[int, bytes], number: int, item: Item) -> None:
        known = ids.get(number)
        if known is None:
            ids[number] = item.id
        elif item.id not in (known, NO_ID):
            self._oracle.fail(name, f"number {number} was {known.hex()} and is {item.id.hex()}")

    def _ack(self, process: "Process", target: int, frame: Ack) -> None:
        told: list[dict[int, str]] = [{} for _ in range(CLASSES)]
        for ending in frame.endings:
            told[ending.klass][ending.number] = ending.code
        for klass, cursor in enumerate(frame.cursors):
            stream = (target, process.index, frame.epoch, klass)
            self._cursor(stream, cursor)
            self._endings(stream, cursor, told[klass])
        self._give_credit(process.index, target, frame.limits)
        self._confirm_outcomes(process, target, frame.outcomes)

    def _endings(self, stream: Stream, cursor: int, told: dict[int, str]) -> None:
        """Check that an ACK tells of every ending up to its cursor that the sender has not confirmed."""
        source, index, epoch, klass = stream
        name, sender, receiver = self._oracle.ledgers[index].name, *(self._oracle.processes[i] for i in (source, index))
        known = self._oracle.ledgers[index].endings.get((sender.store, klass), {})
        floor = self._oracle.ledgers[source].out_streams.get((receiver.store, klass))
        saved = floor.floor if floor is not None and floor.epoch == epoch else 0
        confirmed = max(saved, self._floors.get(stream, 0))  # it counts also when a disk went back since
        for number, code in known.items():
            if confirmed < number <= cursor and told.get(number) != code:
                self._oracle.fail(name, f"an ACK of {cursor} hides that {number} ended as {code}")
        for number in told:
            if number not in known:
                self._oracle.fail(name, f"an ACK tells of an ending of {number}, which is not on disk")

    def _cursor(self, stream: Stream, cursor: int) -> None:
        """Check that what is acknowledged of a stream is on the receiver's disk."""
        source, index, epoch, klass = stream
        ledger = self._oracle.ledgers[index]
        row = ledger.in_streams.get((self._oracle.processes[source].store, klass))
        saved = row.cursor if row is not None and row.epoch == epoch else 0
        if cursor > saved:
            self._oracle.fail(ledger.name, f"{cursor} of class {klass} is acknowledged, on disk is {saved}")

    def _hello(self, process: "Process", target: int, frame: Hello) -> None:
        for klass, cursor in enumerate(frame.cursors):
            self._cursor((target, process.index, frame.epoch, klass), cursor.number)
        self._give_credit(process.index, target, frame.limits)

    def _give_credit(self, giver: int, taker: int, limits: tuple[int, ...]) -> None:
        known = self._limits.setdefault((giver, taker), [0] * CLASSES)
        for klass, limit in enumerate(limits):
            known[klass] = max(known[klass], limit)

    def _confirm_outcomes(self, process: "Process", target: int, upto: int) -> None:
        # A number that the other side has not told since it runs is no evidence to it.
        told = self._outcomes.get((target, process.index), 0)
        if upto > told or self._oracle.rollbacks(process.index, target):
            return
        ledger = self._oracle.ledgers[process.index]
        told_of = self._oracle.ledgers[target].outcomes.get(process.store, {})
        replayed = {outcome.id for outcome in told_of.values() if outcome.code == "replayed"}
        for number, outcome in told_of.items():
            record = ledger.out_ids.get(outcome.id)
            behind = {Sent.QUEUED, Sent.EXPIRING} | (set() if outcome.id in replayed else {Sent.STORED})
            if number <= upto and record is not None and record.state in behind:
                self._oracle.fail(
                    process.name,
                    f"outcome {number} of {outcome.id.hex()} is confirmed, on disk it is {record.state.name}",
                )

    def _outcome(self, process: "Process", target: int, frame: Outcome) -> None:
        known = self._oracle.ledgers[process.index].outcomes.get(self._oracle.processes[target].store, {})
        number = frame.first
        for fate in frame.fates:
            for ident in fate.ids:
                row = known.get(number)
                if row is None or row.id != ident or row.code != fate.code:
                    self._oracle.fail(process.name, f"outcome {number} is sent before it is on disk")
                number += 1
        pair = (process.index, target)
        self._outcomes[pair] = max(self._outcomes.get(pair, 0), number - 1)

    def _say_gone(self, process: "Process", target: int, frame: Gone) -> None:
        if not self._oracle.rollbacks(process.index, target):
            self._oracle.fail(process.name, f"{frame} without any rollback")
        row = self._oracle.ledgers[process.index].out_streams.get((self._oracle.processes[target].store, frame.klass))
        if row is None or frame.last > row.floor:
            self._oracle.fail(process.name, f"{frame} beyond the floor on disk")
        for number in range(frame.first, frame.last + 1):
            place = (self._oracle.processes[target].store, frame.klass, frame.epoch, number)
            record = self._oracle.ledgers[process.index].places.get(place)
            if record is not None and record.state is Sent.STORED:
                self._oracle.fail(process.name, f"{frame} before the loss of {record.id.hex()} is on disk")
        stream = (process.index, target, frame.epoch, frame.klass)
        self._gone.setdefault(stream, []).append((frame.first, frame.last))
