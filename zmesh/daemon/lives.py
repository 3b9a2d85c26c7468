"""When things happened to the messages that went through the daemon lately, for `zmesh trace`.

It is kept in memory and bounded: times in the store would cost every message a twentieth of its processor time. What
became of a message the store knows; this module must never be asked for that.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from zmesh.peer.clock import steady
from zmesh.peer.peer import Peer
from zmesh.peer.store_reader import InTrace, OutTrace
from zmesh.protocol.effects import Progress
from zmesh.protocol.envelope import unpack_envelope
from zmesh.protocol.errors import ProtocolError

MAX_LIVES: Final = 4096  # messages that are remembered: some 4 MB
MAX_STEPS: Final = 32  # of one message: one that is given back again and again has more, and no more are shown

Values = dict[str, Any]


class Lives:
    """What was seen of each message, and when; the oldest go."""

    def __init__(self, clock: Callable[[], float] = steady) -> None:
        """Begin with none.

        Args:
            clock: Seconds that never step.
        """
        self._clock = clock
        self._steps: OrderedDict[bytes, list[tuple[float, str, bytes]]] = OrderedDict()

    def began(self, ident: bytes, what: str, store: bytes = b"") -> None:
        """Something happened here to a message, which is remembered from now on; `store` is where it came from."""
        steps = self._steps.setdefault(ident, [])
        if len(self._steps) > MAX_LIVES:
            self._steps.popitem(last=False)
        if len(steps) < MAX_STEPS:
            steps.append((self._clock(), what, store))

    def progressed(self, progress: Progress) -> None:
        """Its recipient's peer has said how far a message has got; any member may name any id."""
        steps = self._steps.get(progress.id)
        if steps is not None and len(steps) < MAX_STEPS:
            steps.append((self._clock(), progress.state.name.lower(), progress.dest))

    def seen(self, ident: bytes, stores: tuple[bytes, ...]) -> list[tuple[str, float]]:
        """Return what was seen of a message and how many seconds ago.

        Args:
            ident: The message.
            stores: Where it went and where it came from; empty for what happened here to one that was sent from here.
        """
        steps = self._steps.get(ident, [])
        now = self._clock() if steps else 0.0
        return [(what, now - at) for at, what, store in steps if store in stores]


def known_of(peer: Peer, out: OutTrace | None, ins: list[InTrace]) -> Values:
    """Return what the store knows of a message."""
    node = peer.driver.core.node

    def name(store: bytes) -> str:
        remote = node.remotes.get(store)
        return peer.name if store == node.store else remote.name if remote is not None else ""

    outgoing = None
    if out is not None:
        live = node.outbox.by_id.get(out.receipt.id)
        remote = node.remotes.get(out.receipt.dest)
        outgoing = {
            "address": out.receipt.address, "peer": name(out.receipt.dest), "linked": remote is not None and remote.up,
            "state": (live.state if live is not None else out.receipt.state).name.lower(),
            "detail": out.receipt.detail, **_said(out.envelope),
        }  # fmt: skip
    incoming = [
        {
            "mailbox": one.mailbox, "peer": name(one.source), "state": one.state.name.lower(),
            "attempts": one.attempts, **_said(one.envelope),
        }
        for one in ins
    ]  # fmt: skip
    return {"outgoing": outgoing, "incoming": incoming}


def _said(envelope: bytes) -> Values:
    """Return what a message says about itself, as long as it is kept."""
    try:
        said = unpack_envelope(envelope) if envelope else None
    except ProtocolError:  # of another version
        said = None
    if said is None:
        return {"sender": "", "type": "", "sent_at": None}
    return {"sender": said.sender, "type": said.type, "sent_at": said.sent_at / 1000}
