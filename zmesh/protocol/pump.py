"""The end of a turn: what may be sent is sent, and what has changed is persisted, in one transaction.

Critical messages go first and the others by weight, within the credit and the window of each peer. It must never send
what is above a committed mark, nor persist a stream before what it covers.
"""

from collections.abc import Callable, Mapping

from zmesh.protocol.codec import MAX_NUMBER
from zmesh.protocol.frames import Data
from zmesh.protocol.in_stream import InStream
from zmesh.protocol.journal import DropEndings, InStreamRow, OutStreamRow
from zmesh.protocol.node import Node
from zmesh.protocol.out_stream import OutStream
from zmesh.protocol.remote import Remote


class Pump:
    """What a core does last in every turn."""

    def __init__(self, node: Node) -> None:
        """Begin with nothing behind."""
        self._node = node
        self._behind: dict[bytes, Remote] = {}  # stores whose rows may be behind

    def timer(self) -> float:
        """Return when a changed roster is due to be told."""
        return self._node.inbox.roster.due

    def close_turn(self) -> None:
        """Send what may be sent, persist what has changed, and seal the transaction."""
        node = self._node
        turn = node.turn
        if turn.now >= node.inbox.roster.due:
            self._tell_roster()
        touched, node.touched = node.touched, {}
        for remote in touched.values():
            if remote.hello_due:
                node.greet(remote)
            if remote.up:
                self._send(remote)
                if remote.ack_due:
                    node.transmit(remote, remote.ack(turn.now))
                remote.link.expect(turn.now, waiting=remote.unconfirmed)
        # A full disk is not hammered: after a failure rows wait for the retry, unless something else is committed now,
        # which might depend on them.
        self._behind.update(touched)
        if turn.now >= node.sick_until or turn.open:
            node.outbox.messages.pay()
            behind, self._behind = self._behind, {}
            for remote in behind.values():
                self._persist_streams(remote)
        turn.seal()

    def _tell_roster(self) -> None:
        node = self._node
        if not node.inbox.roster.renew():
            return
        node.changed()
        for remote in node.remotes.values():
            if remote.up:
                node.send_roster(remote)
                node.touch(remote)

    # --- sending ---

    def _send(self, remote: Remote) -> None:
        blocked: set[int] = set()
        while True:
            ready = [klass for klass in remote.sendable() if klass not in blocked]
            if not ready:
                break
            klass = remote.scheduler.pick(ready)
            stream = remote.outs[klass]
            if stream.raise_mark() or not self._send_batch(remote, stream):
                blocked.add(klass)
        outcome = remote.outcomes.take()
        while outcome is not None:
            self._node.transmit(remote, outcome)
            outcome = remote.outcomes.take()

    def _send_batch(self, remote: Remote, stream: OutStream) -> bool:
        node = self._node
        batch = stream.take(remote.room(stream.klass), node.turn.now)
        if batch.items:
            node.transmit(remote, Data(remote.epoch, stream.klass, stream.saved_floor, batch.first, batch.items))
            remote.scheduler.sent(stream.klass, len(batch.items), batch.size)
            return True
        if batch.missing:
            stream.fetching = True
            rows = batch.missing
            node.fetch(rows, lambda bodies: self._bodies(remote, stream, rows, bodies))
        return False

    def _bodies(self, remote: Remote, stream: OutStream, rows: tuple[int, ...], bodies: Mapping[int, bytes]) -> None:
        messages = self._node.outbox.messages
        stream.fetching = False
        messages.fetched(bodies)
        for row in rows:
            if row not in bodies:
                messages.lose_body(row, remote)
        self._node.touch(remote)

    # --- persisting ---

    def _persist_streams(self, remote: Remote) -> None:
        node = self._node
        turn = node.turn
        if remote.dirty:
            remote.dirty = False
            turn.persist(remote.row())
            turn.then(None, lambda _: node.remember(remote))
        for out in remote.outs:
            if out.dirty:
                out.dirty = False
                row = out.row(remote.store, remote.epoch)
                turn.persist(row)
                turn.then(self._out_saved(remote, out, row), self._unsaved(remote, out))
        for stream in remote.ins:
            if stream.dirty:
                stream.dirty = False
                if stream.fresh:
                    self._drop_old_endings(remote, stream)
                line = stream.row(remote.store, remote.source_epoch)
                turn.persist(line)
                turn.then(self._in_saved(remote, stream, line), self._unsaved(remote, stream))

    def _drop_old_endings(self, remote: Remote, stream: InStream) -> None:
        """A new epoch: the endings of the old one go, once, and before those of the new one in this transaction."""

        def abort(_: str) -> None:
            stream.fresh = True

        stream.fresh = False
        self._node.turn.persist_first([DropEndings(remote.store, stream.klass, MAX_NUMBER)])
        self._node.turn.then(None, abort)

    def _out_saved(self, remote: Remote, stream: OutStream, row: OutStreamRow) -> Callable[[], None]:
        def commit() -> None:
            node = self._node
            stream.saved(row)
            node.touch(remote)
            if remote.floor_due and remote.up:
                remote.floor_due = False
                node.transmit(remote, remote.ping(node.inbox.roster.version))

        return commit

    def _in_saved(self, remote: Remote, stream: InStream, row: InStreamRow) -> Callable[[], None]:
        def commit() -> None:
            stream.saved(row)
            remote.ack_due = True
            self._node.touch(remote)

        return commit

    def _unsaved(self, remote: Remote, stream: OutStream | InStream) -> Callable[[str], None]:
        def abort(_: str) -> None:
            stream.dirty = True
            self._node.touch(remote)

        return abort
