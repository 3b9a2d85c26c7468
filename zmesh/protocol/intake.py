"""What the frames on an established link mean: all but HELLO and RESET.

The link has been checked before: the frame comes from the device that owns the store. What the frame claims has not:
every claim is compared with what we know, and one that cannot be true is a `ProtocolError`, never evidence.
"""

from collections.abc import Callable
from typing import Any, Final

from zmesh.protocol.bounds import BYE_REDIAL, MAX_EPOCH, NO_ID, REST_REDIAL
from zmesh.protocol.effects import Inquired, Told
from zmesh.protocol.envelope import Envelope, unpack_envelope
from zmesh.protocol.errors import ProtocolError
from zmesh.protocol.frames import (
    Ack,
    Bye,
    Cancel,
    Changes,
    Data,
    Ending,
    Gone,
    Have,
    Item,
    Ops,
    Outcome,
    Peers,
    Ping,
    Trace,
    Traced,
)
from zmesh.protocol.guard import Refusal
from zmesh.protocol.halting import AT_REST
from zmesh.protocol.in_stream import InStream
from zmesh.protocol.journal import DropEndings, InRow, PutEnding
from zmesh.protocol.node import Node
from zmesh.protocol.remote import News, Remote


def take_in(node: Node, remote: Remote, frame: Any) -> None:
    """Give a frame to its rule.

    Raises:
        ProtocolError: The frame claims what cannot be.
    """
    rule = _RULES.get(type(frame))
    if rule is not None:
        rule(node, remote, frame)
    node.touch(remote)


# --- messages ---


def _on_data(node: Node, remote: Remote, frame: Data) -> None:
    if not _follow_epoch(remote, frame.epoch) or node.turn.now < node.sick_until:
        return
    stream = remote.ins[frame.klass]
    if stream.confirm(frame.floor):
        node.turn.persist(DropEndings(remote.store, frame.klass, min(frame.floor, stream.cursor)))
    for at, item in enumerate(frame.items):
        if stream.expects(frame.first + at):
            _accept(node, remote, stream, item)
        else:
            # A duplicate is acknowledged again: the first ACK may be lost. A gap asks for a rewind, once.
            remote.ack_due = remote.ack_due or not stream.gap or stream.wants_rewind(node.turn.now)
            if stream.gap:
                break


def _follow_epoch(remote: Remote, epoch: int) -> bool:
    """Say whether frames of this epoch count; a higher one than known begins now."""
    if epoch > MAX_EPOCH:
        raise ProtocolError("bad-epoch", f"epoch {epoch}, beyond {MAX_EPOCH}")
    if epoch > remote.source_epoch:
        remote.new_source_epoch(epoch)
    return epoch == remote.source_epoch


def _accept(node: Node, remote: Remote, stream: InStream, item: Item) -> None:
    ending = _store(node, remote, stream, item)
    stream.advance(item.id, ending)
    if ending is not None:
        row = PutEnding(remote.store, stream.klass, ending.number, ending.code, ending.text)
        node.turn.persist(row)


def _store(node: Node, remote: Remote, stream: InStream, item: Item) -> Ending | None:
    """Put a message into its mailbox; return why not."""
    number = stream.seen + 1
    if not item.envelope:
        return Ending(stream.klass, number, "skipped", "")
    if item.id == NO_ID:
        return Ending(stream.klass, number, "bad-envelope", "a message without an id")
    try:
        envelope = unpack_envelope(item.envelope)
        _check_sender(node, remote, envelope)
    except ProtocolError as error:
        return Ending(stream.klass, number, error.code, error.text[:200])
    refusal = _refusal(node, remote, envelope, len(item.body))
    if refusal is not None:
        return Ending(stream.klass, number, *refusal)
    deadline = None if item.ttl_ms is None else node.turn.now + item.ttl_ms / 1000
    row = InRow(0, item.id, remote.store, envelope.to, stream.klass, 0, 0.0, deadline, len(item.body))
    node.inbox.arrive(row, remote.device, item.envelope, item.body, envelope)
    return None


def _refusal(node: Node, remote: Remote, envelope: Envelope, size: int) -> Refusal | None:
    """Say why a message is not taken; only what is taken is counted against the sender's rates."""
    if remote.device == node.device:
        return node.inbox.refusal(envelope.to, size)
    refusal = node.guard.refusal(remote.device, envelope, size)
    if refusal is None:
        refusal = node.inbox.refusal(envelope.to, size)
        if refusal is not None:
            return refusal
        refusal = node.guard.charge(remote.device, size, node.turn.now)
    if refusal is not None:
        node.say("warning", remote.device, refusal[0], f"to {node.describe(remote)}: {refusal[1]}", audit=True)
    return refusal


def _check_sender(node: Node, remote: Remote, envelope: Envelope) -> None:
    if envelope.sender_peer != remote.name:
        text = f"{node.describe(remote)} sent a message in the name of {envelope.sender!r}"
        node.say("warning", remote.device, "forged-sender", text, audit=True)
        raise ProtocolError("forged-sender", text)


# --- confirmations ---


def _on_ack(node: Node, remote: Remote, frame: Ack) -> None:
    if not remote.up:
        return
    if frame.epoch == remote.epoch:
        _settle(node, remote, frame)
    if frame.roster <= remote.roster_sent:
        remote.roster_known = frame.roster  # a lower one than before says that it was lost
    if remote.outcomes.confirm(frame.outcomes):
        node.drop_outcomes(remote)


def _settle(node: Node, remote: Remote, frame: Ack) -> None:
    for stream, cursor in zip(remote.outs, frame.cursors, strict=True):
        if cursor > stream.high:
            text = f"an ACK for number {cursor}, when {stream.high} was the last one sent"
            raise ProtocolError("ack-beyond", text)
    progress = False
    for stream, cursor, limit in zip(remote.outs, frame.cursors, frame.limits, strict=True):
        stream.limit = limit
        endings = {ending.number: ending for ending in frame.endings if ending.klass == stream.klass}
        settled = stream.settle(cursor, endings)
        if settled:
            progress = True
            node.outbox.settle(remote, settled)
    for klass, number in frame.rewinds:
        if number <= remote.outs[klass].floor:
            # It wants what it confirmed before: its disk went back in time. HELLO will tell.
            node.act(remote, remote.link.doubt(node.turn.now))
            break
        remote.outs[klass].rewind(number)
    remote.floor_due = remote.floor_due or (progress and bool(frame.endings))
    if progress:
        remote.link.expect(node.turn.now, waiting=remote.unconfirmed, progress=True)


def _on_outcome(node: Node, remote: Remote, frame: Outcome) -> None:
    if node.turn.now < node.sick_until:
        return
    heard = remote.heard
    if any(node.outbox.awaits_cursor(remote.store, fate.ids) for fate in frame.fates):
        return  # the ACK that says "stored" was lost: it comes first, and the outcome again
    if not heard.accept(frame):
        remote.ack_due = True
        return
    for fate in frame.fates:
        node.outbox.fate(remote.store, fate.ids, fate.code, fate.text)
    seen = heard.seen

    def commit() -> None:
        heard.saved = max(heard.saved, seen)
        remote.ack_due = True
        node.touch(remote)

    node.turn.then(commit)


def _on_cancel(node: Node, remote: Remote, frame: Cancel) -> None:
    node.inbox.messages.cancel(remote.store, frame.ids)


def _on_gone(node: Node, remote: Remote, frame: Gone) -> None:
    if not _follow_epoch(remote, frame.epoch) or node.turn.now < node.sick_until:
        return
    stream = remote.ins[frame.klass]
    if frame.first <= stream.seen + 1 <= frame.last:
        text = (
            f"our store went back in time: {frame.last - stream.seen} messages from {node.describe(remote)} that "
            f"we had acknowledged are lost (class {frame.klass}, {stream.seen + 1} to {frame.last})"
        )
        node.say("error", f"{remote.device} {frame.klass}", "lost", text, audit=True)
        stream.jump(frame.last, frame.id)


# --- the rest ---


def _on_ping(node: Node, remote: Remote, frame: Ping) -> None:
    remote.ack_due = True
    if not _follow_epoch(remote, frame.epoch):
        return
    for stream, last, floor in zip(remote.ins, frame.last, frame.floors, strict=True):
        # Frames of a link come in order: what PING names and we have not seen was lost.
        stream.gap = stream.gap or last > stream.seen
        if stream.confirm(floor):
            node.turn.persist(DropEndings(remote.store, stream.klass, min(floor, stream.cursor)))


def _on_peers(node: Node, remote: Remote, frame: Peers) -> None:
    news = remote.roster.page(frame, node.turn.now)
    if news is not None:
        _take_news(node, remote, news)


def _on_changes(node: Node, remote: Remote, frame: Changes) -> None:
    remote.ack_due = True  # if they are of no use here, it says so
    news = remote.roster.change(frame, node.turn.now) if 0 < frame.base <= remote.roster_fresh < frame.version else None
    if news is not None:
        _take_news(node, remote, news)


def _take_news(node: Node, remote: Remote, news: News) -> None:
    """Their roster is complete and of a new version."""
    remote.roster_fresh = remote.roster.version
    remote.ack_due = True
    if news.lasting:
        node.remember(remote)
    if news.attached:
        node.changed()
    node.changes += news.any
    if news.names:
        node.placing.place_all()


def _on_log(node: Node, remote: Remote, frame: Have | Ops) -> None:
    if remote.up:
        node.turn.emit(Told(remote.store, remote.device, frame))


def _on_trace(node: Node, remote: Remote, frame: Trace) -> None:
    if not remote.up:
        return
    if node.questions.allow(remote.device, node.turn.now):
        node.turn.emit(Inquired(remote.store, remote.device, frame))
    else:
        text = f"{node.describe(remote)} asks about more messages than it is told of"
        node.say("warning", remote.device, "trace-limited", text)


def _on_traced(node: Node, remote: Remote, frame: Traced) -> None:
    if remote.up:
        node.turn.emit(Inquired(remote.store, remote.device, frame))


def _on_bye(node: Node, remote: Remote, frame: Bye) -> None:
    rests = frame.code in AT_REST
    if frame.code != "closing":
        if not rests or remote.trouble != frame.text:  # it says so whenever it is dialled, perhaps for weeks
            text = f"{node.describe(remote)} hung up: {frame.code}: {frame.text}"
            node.say("info" if rests else "warning", remote.device, "bye", text)
        remote.trouble = frame.text
    remote.closed = frame.code == "closing"
    node.end_link(remote, delay=REST_REDIAL if rests else BYE_REDIAL)


_RULES: Final[dict[type[Any], Callable[[Node, Remote, Any], None]]] = {
    Data: _on_data,
    Ack: _on_ack,
    Outcome: _on_outcome,
    Cancel: _on_cancel,
    Ping: _on_ping,
    Peers: _on_peers,
    Changes: _on_changes,
    Gone: _on_gone,
    Have: _on_log,
    Ops: _on_log,
    Trace: _on_trace,
    Traced: _on_traced,
    Bye: _on_bye,
}
