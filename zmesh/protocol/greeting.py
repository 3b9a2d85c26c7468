"""What a HELLO means: whose link it is, where our streams stand there, and whether a disk has gone back in time.

A claim that contradicts what we know (a cursor we never reached, another message at a number, a cursor below what was
confirmed) is believed only when the HELLO echoes a link id drawn after the first doubt: an old HELLO that was late can
not cause a new epoch, let alone a loss.
"""

from zmesh.protocol.address import store_text
from zmesh.protocol.bounds import MAX_EPOCH, PROTOCOL_MAX, PROTOCOL_MIN, WINDOW_MESSAGES
from zmesh.protocol.codec import encode
from zmesh.protocol.effects import Answer, Linked, Path
from zmesh.protocol.errors import ProtocolError
from zmesh.protocol.frames import Bye, Cursor, Gone, Hello
from zmesh.protocol.journal import LoseOut
from zmesh.protocol.node import Node
from zmesh.protocol.out_stream import OutStream
from zmesh.protocol.ownership import owns
from zmesh.protocol.record import record
from zmesh.protocol.remote import Remote
from zmesh.protocol.states import Link

_LOOPBACK = ("tcp://127.", "tcp://[::1]")


@record
class Evidence:
    """What a HELLO says about a disk that went back in time.

    Attributes:
        ours: Our own store did: a new epoch is needed.
        gone: (class, first, last): their store did; these numbers were confirmed once and exist no more.
    """

    ours: bool
    gone: tuple[tuple[int, int, int], ...]

    def __bool__(self) -> bool:
        """True when anything is wrong."""
        return self.ours or bool(self.gone)


def is_late(node: Node, link: bytes, frame: Hello, device: str) -> bool:
    """Say whether a HELLO is of a link that a newer one has replaced: what came on that one must not count again."""
    remote = node.remotes.get(frame.store)
    return remote is not None and remote.device == device and link in remote.replaced


def on_hello(node: Node, link: bytes, frame: Hello, device: str, path: Path) -> None:
    """Take in a HELLO; `path` is empty if it came back on our own connection.

    Raises:
        ProtocolError: `forged-store`: the store is not one of the device that CURVE established; `bad-epoch`: there
            are no so high ones.
    """
    now = node.turn.now
    if frame.proto_min > PROTOCOL_MAX or frame.proto_max < PROTOCOL_MIN:
        _refuse_version(node, link, frame, device, path)
        return
    if frame.store == node.store:
        return  # our own address under a stale name
    if frame.epoch > MAX_EPOCH:
        raise ProtocolError("bad-epoch", f"{frame.name!r} claims epoch {frame.epoch}, beyond {MAX_EPOCH}")
    if not owns(device, frame.store):
        short = store_text(frame.store)[:8]
        text = f"{frame.name!r} of device {device} claims store {short}, which belongs to another device: it is refused"
        raise ProtocolError("forged-store", text)
    if node.halting.turns_away(frame.store, link, path):
        return
    remote = node.admit(frame.store, device, frame.name, greets=True)
    if remote is None:
        return
    remote.greeted = True
    remote.trouble = ""
    _bind(node, remote, link, frame, device)
    was_up = remote.up
    act = remote.link.greeted(link, frame.echo, now, up=frame.up, path=path)
    if remote.up and not was_up:
        _begin(node, remote, frame)
        if remote.link.state is Link.GREETING:
            return  # the doubt of `_begin` has said its own HELLO under a new link id, or will in a moment
    node.act(remote, act)
    node.act(remote, remote.link.announced(_usable(frame.endpoints, own=device == node.device), now))
    if remote.up and not was_up:
        # After our HELLO, so that the other side knows our link when the first frames on it arrive.
        node.send_roster(remote)
        node.turn.emit(Linked(remote.store, remote.device))
        _say_which_way(node, remote)
        remote.ack_due = True
        node.placing.place_all()
    node.touch(remote)


def _usable(endpoints: tuple[str, ...], *, own: bool) -> tuple[str, ...]:
    """Leave out the loopback addresses of another device: here they are ours, and waiting for an answer takes seconds.

    One that names nothing else may well be on this host: a second user, or the end of a tunnel.
    """
    far = tuple(endpoint for endpoint in endpoints if not endpoint.startswith(_LOOPBACK))
    return endpoints if own or not far else far


def _say_which_way(node: Node, remote: Remote) -> None:
    if remote.link.via:
        text = f"{node.describe(remote)} cannot be dialled from here: it is answered on the connection it has made"
        node.say("info", f"{remote.device} {remote.name}", "one-way", text)


def _refuse_version(node: Node, link: bytes, frame: Hello, device: str, path: Path) -> None:
    text = (
        f"{frame.name!r} speaks versions {frame.proto_min} to {frame.proto_max} of the protocol, "
        f"{node.name!r} speaks {PROTOCOL_MIN} to {PROTOCOL_MAX}: upgrade the older one"
    )
    node.say("error", device, "version", text)
    if path:
        node.turn.emit(Answer(path, encode(link, Bye("version", text))))
    remote = node.remotes.get(frame.store)
    if remote is not None and remote.device == device:
        remote.trouble = text
        node.end_link(remote)


def _bind(node: Node, remote: Remote, link: bytes, frame: Hello, device: str) -> None:
    if remote.link.peer_id != link:
        node.by_link.pop((device, remote.link.peer_id), None)
        remote.new_link(link)
    node.by_link[device, link] = remote
    if remote.name != frame.name:
        remote.name = frame.name
        node.remember(remote)
        node.changed()


# --- our streams there ---


def _begin(node: Node, remote: Remote, frame: Hello) -> None:
    """The link has just come up: go on where they stand, or see to it that a disk went back in time."""
    evidence = examine(remote, frame)
    if evidence and remote.doubted in (b"", remote.link.id):
        remote.doubted = remote.link.id
        node.act(remote, remote.link.doubt(node.turn.now))
        return
    remote.doubted = b""
    remote.rewind_all()
    if evidence.ours:
        epoch = max(remote.epoch, frame.epoch) + 1
        text = f"{node.describe(remote)} knows what our store has forgotten: it went back in time, epoch {epoch} begins"
        # Whoever claims that again and again does not fill the log.
        node.say("warning", f"{remote.device} {store_text(remote.store)}", "rollback", text, audit=True)
        node.outbox.new_epoch(remote, epoch)
    else:
        _resume(remote, frame)
        for klass, first, last in evidence.gone:
            _tell_gone(node, remote, klass, first, last)
    node.remember(remote)
    node.changed()


def _resume(remote: Remote, frame: Hello) -> None:
    same = frame.epoch == remote.epoch
    for stream, cursor, limit in zip(remote.outs, frame.cursors, frame.limits, strict=True):
        # Credit of another epoch says nothing of this one, which begins with the full window.
        stream.limit = limit if same else WINDOW_MESSAGES
        if same:
            stream.skip_to(cursor.number)


def _tell_gone(node: Node, remote: Remote, klass: int, first: int, last: int) -> None:
    text = (
        f"the store of {node.describe(remote)} went back in time: {last - first + 1} messages that it had "
        f"acknowledged are gone there (class {klass}, {first} to {last})"
    )
    node.say("error", f"{remote.device} {klass}", "lost", text, audit=True)
    stream, link = remote.outs[klass], remote.link.id
    node.turn.persist(LoseOut(remote.store, remote.epoch, klass, first, last))
    stream.fetching = True  # nothing beyond the gap goes out before GONE, and GONE not before we have it in writing

    def go_on() -> None:
        stream.fetching = False
        node.touch(remote)

    def commit() -> None:
        node.outbox.lost(remote.store)
        go_on()
        if remote.up and remote.link.id == link:
            node.transmit(remote, Gone(remote.epoch, klass, first, last, stream.floor_id))

    # Without the commit no GONE: they will ask for what is gone, and so bring us back here.
    node.turn.then(commit, lambda _: go_on())


def examine(remote: Remote, frame: Hello) -> Evidence:
    """Compare what a HELLO says of our streams with what we know of them."""
    if frame.epoch > remote.epoch:
        return Evidence(ours=True, gone=())
    same = frame.epoch == remote.epoch
    gone: list[tuple[int, int, int]] = []
    for stream, cursor in zip(remote.outs, frame.cursors, strict=True):
        number = cursor.number if same else 0
        if number < stream.floor:
            gone.append((stream.klass, number + 1, stream.floor))
        elif number > stream.saved_mark or (same and _contradicts(stream, cursor)):
            return Evidence(ours=True, gone=())
    return Evidence(ours=False, gone=tuple(gone))


def _contradicts(stream: OutStream, cursor: Cursor) -> bool:
    """Say whether a cursor knows another message at its number, or that we once had a higher floor."""
    other = cursor.number > 0 and stream.id_at(cursor.number) != cursor.id
    return other or cursor.confirmed > stream.floor
