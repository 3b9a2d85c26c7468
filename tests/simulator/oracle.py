"""The judge: watches disks, wires and applications, and raises `Violation` when the mesh lost, doubled or lied.

Jepsen's total-queue over the senders' own log, plus the laws of DESIGN.md that concern two stores: what goes over the
wire is on the sender's disk, what is acknowledged is on the receiver's, every claim about a message is true. It knows
which disks went back in time, and excuses exactly what that explains. It must never use what the core believes.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from tests.simulator.ledger import LIVE, Change, InRecord, Ledger, OutRecord, Violation
from tests.simulator.log import Fact, Log, Sending
from tests.simulator.wire import Wire
from zmesh.protocol.effects import Delivery, Notice, Progress
from zmesh.protocol.envelope import unpack_envelope
from zmesh.protocol.journal import FateOut, InStreamRow, Op, OutStreamRow, Written
from zmesh.protocol.states import Received, Sent

if TYPE_CHECKING:
    from tests.simulator.process import Process
    from tests.simulator.world import World

EVERYTHING = 1 << 60  # endings dropped up to here: a new epoch begins


class History:
    """What ever happened at one store, through all rollbacks.

    Attributes:
        inserted: Keys (device, id) of messages that were ever in the inbox; the others: what ever became of them.
        vanished: Keys of messages that a rollback took out of the inbox again.
        undone: Keys of messages whose state a rollback changed.
        forgotten: Ids of messages that a rollback took out of the outbox.
        regressed: Epochs of messages that had got further before a rollback of their sender, by id.
        rollbacks: How often the disk went back.
    """

    def __init__(self) -> None:
        self.inserted: set[tuple[str, bytes]] = set()
        self.handled: set[tuple[str, bytes]] = set()
        self.expired: set[tuple[str, bytes]] = set()
        self.dead: set[tuple[str, bytes]] = set()
        self.vanished: set[tuple[str, bytes]] = set()
        self.undone: set[tuple[str, bytes]] = set()
        self.sent: set[bytes] = set()
        self.forgotten: set[bytes] = set()
        self.regressed: dict[bytes, int] = {}
        self.rollbacks = 0


class Oracle:
    """Everything that is known to be true of the mesh.

    Attributes:
        log: What the senders remember.
        ledgers: The books of each store, by index.
        unended: Settled sends that had not come to an end when `verdict` looked last.
        totals: Counts for the report.
    """

    def __init__(self, world: "World", log: Log) -> None:
        self.log = log
        self.ledgers: list[Ledger] = []
        self.histories: list[History] = []
        self.totals: Counter[str] = Counter()
        self.processes: list[Process] = []
        self.index_of: dict[bytes, int] = {}
        self._world = world
        self._copies: dict[int, Ledger] = {}
        self._last_row: dict[tuple[int, int, int], int] = {}
        self._last_place: dict[tuple[int, int, int], tuple[int, int]] = {}
        self.unended: list[Sending] = []
        self._leases: dict[tuple[int, int], int] = {}
        self._told_expired: dict[tuple[int, bytes], int] = {}
        self.wire = Wire(self)

    def add(self, process: "Process") -> None:
        """Open the books of a store."""
        self.index_of[process.store] = process.index
        self.processes.append(process)
        self.ledgers.append(Ledger(process.name))
        self.histories.append(History())

    @property
    def now(self) -> float:
        """Time of the world."""
        return self._world.now

    def fail(self, who: str, text: str) -> NoReturn:
        """Pronounce that a law was broken.

        Raises:
            Violation: Always.
        """
        raise Violation(f"{self._world.now:.3f} {who}: {text}")

    # --- rollback ---

    def keep_copy(self, process: "Process") -> None:
        """The disk was copied."""
        self._copies[process.index] = self.ledgers[process.index].copy()

    def rolled_back(self, process: "Process") -> None:
        """The disk went back to its copy: what came after it is excused, at this store."""
        index = process.index
        old, new, history = self.ledgers[index], self._copies.pop(index), self.histories[index]
        self.ledgers[index] = new
        history.rollbacks += 1
        history.forgotten |= old.out_ids.keys() - new.out_ids.keys()
        history.vanished |= old.in_keys.keys() - new.in_keys.keys()
        history.undone |= {key for key, record in new.in_keys.items() if old.in_keys[key].state is not record.state}
        for sent in new.outs.values():
            was = old.outs[sent.row]
            before, after = old.out_streams.get((was.dest, was.klass)), new.out_streams.get((sent.dest, sent.klass))
            marked = before is not None and was.number <= before.mark
            known = after is not None and sent.number <= after.mark
            if (was.state, was.place) != (sent.state, sent.place) or (marked and not known):
                history.regressed[sent.id] = sent.epoch
        for orders in (self._last_row, self._last_place):
            for key in [key for key in orders if index in key[:2]]:
                del orders[key]
        self.wire.rolled_back(index)
        self.totals["rollbacks"] += 1

    # --- what processes report ---

    def stopped(self, process: "Process") -> None:
        """A process died, and its leases with it."""
        self.totals["crashes"] += 1
        self.wire.stopped(process.index)
        self._leases = {key: holder for key, holder in self._leases.items() if key[0] != process.index}

    def transmitted(self, process: "Process", store: bytes, parts: list[bytes]) -> None:
        """A frame goes out."""
        self.wire.check(process, store, parts)

    def noticed(self, process: "Process", notice: Notice) -> None:
        """The core logged something."""
        self.totals[f"notice {notice.level}"] += 1
        if self._world.trace is not None:
            self._world.note(process.name, notice.text)

    def committed(self, process: "Process", ops: tuple[Op, ...], written: Written) -> None:
        """A transaction is on disk."""
        index = process.index
        if self._world.trace is not None:
            self._world.note(process.name, f"commit {ops}")
        change = self.ledgers[index].apply(ops, written)
        if any(isinstance(op, FateOut) and op.dest not in self.index_of for op in ops):
            self.compare(process)  # one more party names the ids of others
        self.totals["commits"] += 1
        for record in change.inserted:
            self._inserted(index, record)
        for received, old in change.received:
            self._received(index, received, old)
        for record in change.revived:
            self._revived(record)
        for sent, before in change.sent:
            self.histories[index].sent.add(sent.id)
            if sent.state is not before:
                self.check_claim(index, sent, sent.state)
        self._streams(index, change)

    # --- messages ---

    def _inserted(self, index: int, record: InRecord) -> None:
        history, ledger = self.histories[index], self.ledgers[index]
        history.inserted.add(record.key)
        self.totals["inserted"] += 1
        if record.mailbox not in ledger.mailboxes:
            self.fail(ledger.name, f"a message for {record.mailbox!r}, which does not exist, was stored")
        source = self.index_of.get(record.source)
        if source is None:
            return  # the fourth party's own, honest or not: it may only speak for itself
        if self.processes[source].device != record.device:
            self.fail(ledger.name, f"{record.id.hex()} is stored as from {self.processes[source].name}, wrongly")
        sent = self.ledgers[source].out_ids.get(record.id)
        if sent is None:
            if record.id not in self.histories[source].forgotten:
                self.fail(ledger.name, f"{record.id.hex()} was stored, and its sender never had it on disk")
            return
        local = source == index  # the outbox keeps no body of what never travels
        said = _as_sent(sent.envelope, record.envelope, again=bool(self.rollbacks(source)))
        if (sent.body != record.body and not local) or not said or sent.klass != record.klass:
            self.fail(ledger.name, f"{record.id.hex()} is not what was sent")
        if sent.state in (Sent.EXPIRED, Sent.REFUSED) and record.key not in history.undone | history.vanished:
            self.fail(ledger.name, f"{record.id.hex()} is stored and its sender's disk says {sent.state.name}")
        told = self._told_expired.get((source, record.id))
        if told == self.histories[source].rollbacks and record.key not in history.undone | history.vanished:
            self.fail(ledger.name, f"{record.id.hex()} is stored after its sender was told EXPIRED")
        if source != index and (sent.number or not self.rollbacks(source)):
            self._check_order(source, index, sent)

    def _check_order(self, source: int, index: int, sent: OutRecord) -> None:
        pair = (source, index, sent.klass)
        place = (sent.epoch, sent.number)
        if place <= self._last_place.get(pair, (0, 0)):
            self.fail(
                self.ledgers[index].name, f"{sent.id.hex()} at {place} was stored after {self._last_place.get(pair)}"
            )
        self._last_place[pair] = place
        if not sent.moved:
            if sent.row <= self._last_row.get(pair, 0):
                self.fail(self.ledgers[index].name, f"{sent.id.hex()} was overtaken within class {sent.klass}")
            self._last_row[pair] = sent.row

    def _received(self, index: int, record: InRecord, old: Received) -> None:
        history = self.histories[index]
        match record.state:
            case Received.HANDLED:
                history.handled.add(record.key)
                self.totals["handled"] += 1
            case Received.EXPIRED:
                history.expired.add(record.key)
                if record.attempts and record.key not in history.undone:
                    self.fail(self.ledgers[index].name, f"{record.id.hex()} expired after it was leased")
            case Received.DEAD:
                history.dead.add(record.key)
            case _:
                if old is Received.DEAD:
                    self.fail(self.ledgers[index].name, f"{record.id.hex()} was dead and is alive")

    def _revived(self, record: InRecord) -> None:
        """A dead message is delivered again: its send has not come to an end after all."""
        self.totals["replayed"] += 1
        sending = self.log.sendings.get(record.id)
        if sending is not None and sending.fact is Fact.SETTLED and sending not in self.unended:
            self.unended.append(sending)

    def check_claim(self, index: int, sent: OutRecord, state: Sent) -> None:
        """Check that what a sender believes of a message is true."""
        target = self.index_of.get(sent.dest)
        if state in LIVE:
            return
        key = (self.processes[index].device, sent.id)
        there = self.histories[target] if target is not None else History()
        excused = key in there.undone or key in there.vanished
        # A sender whose disk went back cannot know that it handed a message over, before the other side has told it.
        past = self.histories[index].regressed.get(sent.id)
        unknowable = past is not None and (past in (0, sent.epoch) or not sent.number)
        true = {
            Sent.STORED: key in there.inserted,
            Sent.HANDLED: key in there.handled,
            Sent.DEAD: key in there.dead,
            Sent.LOST: key in there.vanished or there.rollbacks > 0 or self.histories[index].rollbacks > 0,
            Sent.REFUSED: key not in there.inserted or excused,
            Sent.EXPIRED: key not in there.inserted or key in there.expired or excused or unknowable,
        }[state]
        if not true:
            self.fail(self.ledgers[index].name, f"{sent.id.hex()} is called {state.name}, and that is not true")
        if state is Sent.REFUSED:
            self.fail(self.ledgers[index].name, f"{sent.id.hex()} was refused for good")
        sending = self.log.sendings.get(sent.id)
        if state is Sent.EXPIRED and sending is not None and sending.ttl is None and not sending.cancelled:
            self.fail(self.ledgers[index].name, f"{sent.id.hex()} expired and had no ttl")

    # --- streams ---

    def _streams(self, index: int, change: Change) -> None:
        streams = self.ledgers[index].out_streams
        for sent, _ in change.sent:
            row = streams.get((sent.dest, sent.klass))
            if sent.number and (row is None or (row.epoch == sent.epoch and row.next_number <= sent.number)):
                self.fail(self.ledgers[index].name, f"{sent.id.hex()} has number {sent.number}, next on disk is {row}")
        for line, old in change.streams:
            self._out_stream(index, line, old)
        for cursor, before in change.cursors:
            self._in_stream(index, cursor, before)
        for drop in change.dropped:
            source = self.index_of.get(drop.source)
            if source is not None and drop.upto < EVERYTHING and not self.rollbacks(source, index):
                row = self.ledgers[source].out_streams.get((self.processes[index].store, drop.klass))
                if row is None or row.floor < drop.upto:
                    self.fail(self.ledgers[index].name, f"endings up to {drop.upto} are dropped, unconfirmed")

    def _out_stream(self, index: int, row: OutStreamRow, old: OutStreamRow | None) -> None:
        name = self.ledgers[index].name
        target = self.index_of.get(row.dest)
        if target is None:
            return
        if old is not None and old.epoch == row.epoch:
            if row.next_number < old.next_number or row.mark < old.mark or row.floor < old.floor:
                self.fail(name, f"a stream goes back: {old} to {row}")
        elif old is not None and row.epoch < old.epoch:
            self.fail(name, f"an epoch goes back: {old} to {row}")
        if row.epoch > 1 and not self.rollbacks(index, target):
            self.fail(name, "a new epoch without any rollback")

    def _in_stream(self, index: int, row: InStreamRow, old: InStreamRow | None) -> None:
        source = self.index_of.get(row.source)
        if source is None:
            return
        first = 1
        if old is not None:
            if row.epoch < old.epoch or (row.epoch == old.epoch and row.cursor < old.cursor):
                self.fail(self.ledgers[index].name, f"a cursor goes back: {old} to {row}")
            if row.epoch == old.epoch:
                first = old.cursor + 1
        self.wire.check_cursor(index, source, row, first)

    def rollbacks(self, *stores: int) -> int:
        """Return how often these stores' disks went back."""
        return sum(self.histories[store].rollbacks for store in stores)

    def compare(self, process: "Process") -> None:
        """Check that the store holds what was committed to it."""
        ledger, model = self.ledgers[process.index], process.disk.model
        there = {(view.row, view.id, view.dest, view.epoch, view.number, view.state) for view in model.out_rows()}
        here = {(o.row, o.id, o.dest, o.epoch, o.number, o.state) for o in ledger.outs.values()}
        if there != here:
            self.fail(process.name, f"the outbox on disk is not what was committed: {sorted(there ^ here)[:4]}")
        held = {(view.row, view.id, view.device, view.state) for view in model.in_rows()}
        known = {(i.row, i.id, i.device, i.state) for i in ledger.ins.values()}
        if held != known:
            self.fail(process.name, f"the inbox on disk is not what was committed: {sorted(held ^ known)[:4]}")

    # --- applications ---

    def delivered(self, process: "Process", delivery: Delivery) -> None:
        """A message is handed to a holder."""
        name = process.name
        record = self.ledgers[process.index].ins.get(delivery.row)
        if record is None or record.id != delivery.id:
            self.fail(name, f"{delivery.id.hex()} is delivered and is not on disk")
        if record.state is not Received.STORED:
            self.fail(name, f"{delivery.id.hex()} is delivered and is {record.state.name}")
        if record.attempts != delivery.attempt:
            self.fail(
                name, f"{delivery.id.hex()} is delivered as attempt {delivery.attempt}, on disk {record.attempts}"
            )
        if record.body != delivery.body or record.klass != delivery.priority or record.source != delivery.source:
            self.fail(name, f"{delivery.id.hex()} is delivered as something else")
        index = self.index_of.get(delivery.source)
        if delivery.envelope.sender_peer != (self.processes[index].name if index is not None else "mallory"):
            self.fail(name, f"{delivery.id.hex()} is delivered with a forged sender {delivery.envelope.sender}")
        lease = (process.index, delivery.row)
        if lease in self._leases:
            self.fail(name, f"{delivery.id.hex()} is leased to {delivery.holder} and to {self._leases[lease]}")
        self._leases[lease] = delivery.holder
        self.totals["delivered"] += 1

    def given(self, process: "Process", delivery: Delivery, mailbox: str) -> None:
        """A holder got it: the message is in that mailbox, also on disk."""
        there = self.ledgers[process.index].ins[delivery.row].mailbox
        if there != mailbox:
            self.fail(process.name, f"{delivery.id.hex()} of {there!r} was given to a holder of {mailbox!r}")

    def released(self, process: "Process", rows: Iterable[int]) -> None:
        """A holder gave its leases up, or may have."""
        for row in rows:
            self._leases.pop((process.index, row), None)

    def progressed(self, process: "Process", progress: Progress) -> None:
        """A sender is told how far its message is: it must be true, and stay true, whether or not it is on disk yet."""
        if progress.state in LIVE:
            return
        sent = self.ledgers[process.index].out_ids.get(progress.id)
        if sent is None:
            known = progress.id in self.histories[process.index].forgotten or progress.dest not in self.index_of
            if known:
                return
            self.fail(process.name, f"{progress.id.hex()} is called {progress.state.name} and is not on disk")
        if progress.dest not in (sent.dest, b""):
            return  # the shell compares: any member can name any id
        self.check_claim(process.index, sent, progress.state)
        if progress.state is Sent.EXPIRED:
            self._told_expired.setdefault((process.index, progress.id), self.histories[process.index].rollbacks)

    def settled(self, process: "Process", sending: Sending) -> None:
        """A `send` returned: from here on the mesh is responsible."""
        if sending.id not in self.ledgers[process.index].out_ids:
            self.fail(process.name, f"the send of {sending.id.hex()} returned and it is not on disk")
        if sending.fact is not Fact.SETTLED:
            sending.fact = Fact.SETTLED
            sending.at = self._world.now
            self.unended.append(sending)

    def settled_done(self, process: "Process", row: int) -> None:
        """A `done` returned."""
        record = self.ledgers[process.index].ins.get(row)
        if record is None or record.state is not Received.HANDLED:
            self.fail(process.name, f"the done of row {row} returned and it is not handled on disk")

    def settled_mailbox(self, process: "Process", name: str) -> None:
        """A mailbox was opened."""
        if name not in self.ledgers[process.index].mailboxes:
            self.fail(process.name, f"mailbox {name!r} was opened and is not on disk")


def _as_sent(sent: bytes, stored: bytes, *, again: bool) -> bool:
    """Compare envelopes; a reply composed `again`, after its sender's disk went back, has another time of sending."""
    if sent == stored or not again:
        return sent == stored
    return replace(unpack_envelope(sent), sent_at=0) == replace(unpack_envelope(stored), sent_at=0)
