"""Planted faults: each breaks one law of the protocol on purpose, and the simulator must notice. The test of the tests.

A fault replaces a method of the core, or a rule of the disk, for the length of a `with`. It must break one law and
nothing else, must be a mistake that somebody could make, and must never be caught by an assertion of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from tests.simulator.disk import Disk
from tests.simulator.model import StoreModel
from zmesh.protocol import core, greeting, intake
from zmesh.protocol.bounds import NO_ID, WINDOW_MESSAGES
from zmesh.protocol.commands import CancelSend
from zmesh.protocol.core import Core
from zmesh.protocol.deadlines import NEVER
from zmesh.protocol.effects import Progress, Settled
from zmesh.protocol.expiry import Expiry
from zmesh.protocol.frames import Outcome
from zmesh.protocol.greeting import Evidence
from zmesh.protocol.in_stream import InStream
from zmesh.protocol.journal import (
    DropEndings,
    FateOut,
    InStreamRow,
    LoseOut,
    OutStreamRow,
    PutEnding,
    PutHalt,
    PutIn,
    SetIn,
)
from zmesh.protocol.leases import Leases
from zmesh.protocol.link import NOTHING, LinkMachine
from zmesh.protocol.out_stream import Batch, OutStream
from zmesh.protocol.outbox import Outbox
from zmesh.protocol.outcomes import OutcomeSender
from zmesh.protocol.pump import Pump
from zmesh.protocol.states import Received, Sent
from zmesh.protocol.turn import Turn
from zmesh.protocol.way_back import WayBack

Plant = Callable[[ExitStack], None]
FAULTS: dict[str, Plant] = {}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Break the law of that name inside the `with`; the empty name breaks none."""
    with ExitStack() as stack:
        if name:
            FAULTS[name](stack)
        yield


def fault(plant: Plant) -> Plant:
    """Register a fault under its function's name."""
    FAULTS[plant.__name__.replace("_", "-")] = plant
    return plant


def swap(stack: ExitStack, owner: Any, name: str, new: Callable[[Any], Any]) -> None:
    """Replace `owner.name` by `new(old)`."""
    stack.enter_context(patch.object(owner, name, new(getattr(owner, name))))


def without(stack: ExitStack, unwanted: Callable[[Any], bool]) -> None:
    """Have the core forget to persist some ops."""

    def new(old: Any) -> Any:
        def persist(self: Turn, op: Any) -> None:
            if not unwanted(op):
                old(self, op)

        return persist

    swap(stack, Turn, "persist", new)


# --- journal ---


@fault
def ack_before_commit(stack: ExitStack) -> None:
    """ACK tells what was accepted, not what is on disk."""

    def new(old: Any) -> Any:
        def acknowledge(self: InStream, most: int) -> Any:
            cursor, endings = old(self, most)
            return max(cursor, self.seen), endings

        return acknowledge

    swap(stack, InStream, "acknowledge", new)


@fault
def send_before_commit(stack: ExitStack) -> None:
    """DATA goes out while its message is being written."""

    def new(old: Any) -> Any:
        def append(self: OutStream, message: Any, epoch: int, **options: Any) -> None:
            old(self, message, epoch, **options)
            message.committed = True
            self.saved_mark = self.mark

        return append

    swap(stack, OutStream, "append", new)


@fault
def settled_before_commit(stack: ExitStack) -> None:
    """`send` returns before the message is on disk."""

    def new(old: Any) -> Any:
        def persist(self: Outbox, message: Any, command: Any, *rest: Any) -> None:
            self._turn.emit(Settled(command.ticket, message.id, message.address, message.state))
            old(self, message, command, *rest)

        return persist

    swap(stack, Outbox, "_persist", new)


@fault
def cursor_before_insert(stack: ExitStack) -> None:
    """The cursor is written in a transaction of its own, before the messages it covers."""

    def new(old: Any) -> Any:
        def crash(self: Disk) -> None:
            for effect in self._queue:
                rows = tuple(op for op in effect.ops if isinstance(op, InStreamRow))
                if rows:
                    self._apply(replace(effect, ops=rows))
            old(self)

        return crash

    swap(stack, Disk, "crash", new)


@fault
def generation_rule_broken(stack: ExitStack) -> None:
    """The disk goes on committing a generation of which something has failed."""
    swap(stack, Disk, "_survivors", lambda _: lambda _self, group: list(group))


@fault
def done_not_persisted(stack: ExitStack) -> None:
    """`done` returns, and nothing of it is on disk."""
    without(stack, lambda op: isinstance(op, SetIn) and op.state is Received.HANDLED)


@fault
def attempt_not_counted(stack: ExitStack) -> None:
    """A lease is not written down: a message that kills its process is delivered for ever."""
    without(stack, lambda op: isinstance(op, SetIn) and op.state is Received.STORED and op.due == 0.0)


# --- streams ---


@fault
def number_reused(stack: ExitStack) -> None:
    """The next number is forgotten at a restart, and begins behind the floor."""

    def new(old: Any) -> Any:
        def snapshot(self: StoreModel) -> Any:
            found = old(self)
            rows = tuple(replace(row, next_number=max(row.floor + 1, row.next_number - 1)) for row in found.out_streams)
            return replace(found, out_streams=rows)

        return snapshot

    swap(stack, StoreModel, "snapshot", new)


@fault
def mark_not_persisted(stack: ExitStack) -> None:
    """What is handed over is not marked on disk first."""

    def new_row(old: Any) -> Any:
        def row(self: OutStream, dest: bytes, epoch: int) -> OutStreamRow:
            kept: OutStreamRow = old(self, dest, epoch)
            return replace(kept, mark=self.floor)

        return row

    def new_saved(old: Any) -> Any:
        def saved(self: OutStream, row: OutStreamRow) -> None:
            old(self, row)
            self.saved_mark = self.mark

        return saved

    swap(stack, OutStream, "row", new_row)
    swap(stack, OutStream, "saved", new_saved)


@fault
def skip_not_sent(stack: ExitStack) -> None:
    """A void number does not travel."""

    def new(old: Any) -> Any:
        def take(self: OutStream, room: int, now: float) -> Batch:
            batch: Batch = old(self, room, now)
            kept = tuple(item for item in batch.items if item.id != NO_ID)
            return batch if len(kept) == len(batch.items) else replace(batch, items=kept)

        return take

    swap(stack, OutStream, "take", new)


@fault
def rewind_off(stack: ExitStack) -> None:
    """What was lost is not sent again."""
    swap(stack, OutStream, "rewind", lambda _: lambda _self, _number: None)


@fault
def gap_ignored(stack: ExitStack) -> None:
    """A number that is too high is taken for the next one."""

    def new(old: Any) -> Any:
        def expects(self: InStream, number: int) -> bool:
            if number > self.seen + 1:
                self.seen = number - 1
            return bool(old(self, number))

        return expects

    swap(stack, InStream, "expects", new)


@fault
def credit_ignored(stack: ExitStack) -> None:
    """The sender does not care how much the receiver will take."""
    stack.enter_context(
        patch.object(OutStream, "limit", property(lambda _: 1 << 40, lambda _self, _value: None), create=True)
    )


@fault
def window_not_moved(stack: ExitStack) -> None:
    """Credit never grows."""
    stack.enter_context(patch.object(InStream, "limit", property(lambda _: WINDOW_MESSAGES // 100)))


# --- endings ---


@fault
def lost_ending(stack: ExitStack) -> None:
    """An ACK passes over a refusal without a word."""
    swap(stack, InStream, "acknowledge", lambda old: lambda self, most: (old(self, most)[0], []))


@fault
def ending_not_persisted(stack: ExitStack) -> None:
    """A refusal is not written down with the cursor that passes over it."""
    without(stack, lambda op: isinstance(op, PutEnding))


@fault
def ending_forgotten_early(stack: ExitStack) -> None:
    """Endings are forgotten once they were told, confirmed or not."""

    def new(old: Any) -> Any:
        def confirm(self: InStream, _floor: int) -> bool:
            return bool(old(self, self.cursor))

        return confirm

    swap(stack, InStream, "confirm", new)
    swap(
        stack,
        intake,
        "DropEndings",
        lambda _: lambda source, klass, upto: DropEndings(source, klass, max(upto, 1 << 40)),
    )


@fault
def refusal_counted_as_stored(stack: ExitStack) -> None:
    """The sender takes every number up to the cursor for stored."""

    def new(old: Any) -> Any:
        def settle(self: Outbox, remote: Any, settled: list[Any]) -> None:
            old(self, remote, [replace(item, ending=None) for item in settled])

        return settle

    swap(stack, Outbox, "settle", new)


@fault
def expired_although_handed_over(stack: ExitStack) -> None:
    """The ttl ends a message for good that the receiver may have."""

    def new(old: Any) -> Any:
        def expire(self: Expiry, message: Any, remote: Any, detail: str) -> None:
            stream = remote.outs[message.klass] if remote and message.number else None
            if stream is None or message.number > stream.mark or message.state is Sent.SENT:
                old(self, message, remote, detail)
                return
            mark, stream.mark = stream.mark, 0
            old(self, message, remote, detail)
            stream.mark = mark

        return expire

    swap(stack, Expiry, "_expire", new)


@fault
def outcome_dropped_before_confirmed(stack: ExitStack) -> None:
    """What became of a message is told once, arrived or not."""

    def new(old: Any) -> Any:
        def take(self: OutcomeSender) -> Outcome | None:
            frame: Outcome | None = old(self)
            if frame is not None:
                self.confirm(self.sent)
            return frame

        return take

    swap(stack, OutcomeSender, "take", new)


@fault
def expired_told_too_early(stack: ExitStack) -> None:
    """A cancelled message is called expired before anybody has looked how far it got."""

    def new(old: Any) -> Any:
        def command(self: Core, command: Any, now: float) -> None:
            message = self.node.outbox.by_id.get(command.id) if isinstance(command, CancelSend) else None
            old(self, command, now)
            if message is not None:
                self.node.turn.emit(Progress(message.id, Sent.EXPIRED, "cancelled", message.dest))

        return command

    swap(stack, Core, "command", new)


# --- rollback and links ---


@fault
def dedup_dropped(stack: ExitStack) -> None:
    """A message that comes again in a new epoch is stored again."""

    def new(old: Any) -> Any:
        def put_in(self: StoreModel, op: PutIn) -> bool:
            self._in_ids.pop((op.id, op.device), None)
            return bool(old(self, op))

        return put_in

    swap(stack, StoreModel, "_put_in", new)


@fault
def rollback_check_off(stack: ExitStack) -> None:
    """Nobody notices that a disk went back in time."""

    def examine(_remote: Any, frame: Any) -> Evidence:
        return Evidence(ours=frame.epoch > _remote.epoch, gone=())

    swap(stack, greeting, "examine", lambda _: examine)


@fault
def gone_not_recorded(stack: ExitStack) -> None:
    """The sender tells of a loss and does not write it down."""
    without(stack, lambda op: isinstance(op, LoseOut))


@fault
def stale_link_accepted(stack: ExitStack) -> None:
    """A frame counts for whichever store of its device comes first, whatever its link id."""

    def new(old: Any) -> Any:
        def receive(self: Core, parts: Any, device: str, path: bytes, now: float) -> None:
            for (owner, link), _ in list(self.node.by_link.items()):
                if owner == device and parts and len(parts[0]) >= 12 and parts[0][3] != 1:
                    parts = [parts[0][:4] + link + parts[0][12:], *parts[1:]]
                    break
            old(self, parts, device, path, now)

        return receive

    swap(stack, Core, "receive", new)


@fault
def reset_ignored(stack: ExitStack) -> None:
    """A link that the other side does not know is kept, and silence on it is taken for calm."""
    from zmesh.protocol.link import NOTHING, LinkMachine  # noqa: PLC0415 - used here only

    swap(stack, LinkMachine, "reset", lambda _: lambda _self, _link, _now: NOTHING)
    swap(stack, LinkMachine, "_silent_at", lambda _: lambda _self: float("inf"))


# --- mailboxes ---


@fault
def lease_not_returned(stack: ExitStack) -> None:
    """Who goes away keeps what it was given."""
    swap(stack, Leases, "_return", _keep_for_the_gone)


def _keep_for_the_gone(old: Any) -> Any:
    def give_back(self: Leases, holder: Any, message: Any, event: str, *rest: Any, **options: Any) -> None:
        if event != "holder gone":
            old(self, holder, message, event, *rest, **options)

    return give_back


@fault
def lease_shared(stack: ExitStack) -> None:
    """A message goes back to its queue although its holder is still there."""

    def new(old: Any) -> Any:
        def deliver(self: Leases, holder: Any, message: Any) -> None:
            old(self, holder, message)
            if message.row in holder.leases and message.attempts == 1:
                self._return(holder, message, "nack", 0.0)

        return deliver

    swap(stack, Leases, "deliver", new)


@fault
def forged_store_accepted(stack: ExitStack) -> None:
    """A store belongs to whoever claims it first."""
    for module in (core, greeting):
        swap(stack, module, "owns", lambda _: lambda _device, _store: True)


@fault
def forged_sender_accepted(stack: ExitStack) -> None:
    """A message may say that it comes from anybody."""
    swap(stack, intake, "_check_sender", lambda _: lambda _node, _remote, _envelope: None)


@fault
def forged_outcome_believed(stack: ExitStack) -> None:
    """The store believes what one store says of a message that went to another."""

    def new(old: Any) -> Any:
        def change_outs(self: StoreModel, op: Any) -> None:
            if not isinstance(op, FateOut):
                old(self, op)
                return
            for view in self.out_rows():
                if view.id in op.ids:
                    old(self, replace(op, dest=view.dest, ids=(view.id,)))

        return change_outs

    swap(stack, StoreModel, "_change_outs", new)


@fault
def place_not_persisted(stack: ExitStack) -> None:
    """A message that was requeued gets a number that the store does not count."""

    def new(old: Any) -> Any:
        def persist_streams(self: Pump, remote: Any) -> None:
            for stream in remote.outs:
                if stream.dirty and stream.next_number - 1 in stream.entries:
                    message = stream.entries[stream.next_number - 1]
                    stream.dirty = not message.refusals
            old(self, remote)

        return persist_streams

    swap(stack, Pump, "_persist_streams", new)


# --- who cannot be dialled ---


@fault
def nobody_is_answered_on_its_own_connection(stack: ExitStack) -> None:
    """Who can dial and cannot be dialled is waited for until it can."""
    swap(stack, WayBack, "due", lambda _: lambda _self: NEVER)


@fault
def dead_way_is_kept(stack: ExitStack) -> None:
    """That a connection of theirs takes nothing more changes nothing, nor does another one of theirs."""

    def new(old: Any) -> Any:
        def lost(self: LinkMachine, now: float, path: bytes = b"") -> Any:
            return NOTHING if path else old(self, now)

        return lost

    swap(stack, LinkMachine, "lost", new)
    swap(stack, LinkMachine, "_silent_at", lambda _: lambda _self: NEVER)
    swap(stack, WayBack, "called", lambda old: lambda self, path, now: old(self, self.path or path, now))


# --- what an administrator says ---


@fault
def halt_forgotten_at_the_end_of_the_process(stack: ExitStack) -> None:
    """A pause is not written down."""
    without(stack, lambda op: isinstance(op, PutHalt))


@fault
def released_peer_is_not_dialled(stack: ExitStack) -> None:
    """After a pause everybody waits for everybody."""
    swap(stack, LinkMachine, "free", lambda _: lambda _self, _now: NOTHING)
