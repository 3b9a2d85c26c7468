"""What an administrator has halted: all mail of this peer (a pause), mail with one store, new sends (while it drains).

A halt counts from its commit on, and until its release is committed: links end with a BYE that says why, nobody whom it
concerns is dialled or taken in, and what is to go there waits. This module must never say BYE for a halt that is not on
disk, since the next process would not keep to it, and never touch what is sent within this store.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from zmesh.errors import PeerHalted, UnknownAgent
from zmesh.protocol.bounds import MAX_TEXT
from zmesh.protocol.codec import encode
from zmesh.protocol.commands import Drain, Halt, Release, Send
from zmesh.protocol.effects import Answer, Failed, Path, Settled
from zmesh.protocol.frames import Bye
from zmesh.protocol.journal import DropHalt, Op, PutHalt

if TYPE_CHECKING:
    from zmesh.protocol.node import Node
    from zmesh.protocol.remote import Remote

EVERYBODY: Final = b""
"""Stands for the store of a halt of all mail."""

_PAUSED: Final = Bye("paused", "it is paused: mail for it waits until it is resumed there")
_DISCONNECTED: Final = Bye("disconnected", "it has disconnected this peer: mail for it waits until it reconnects it")
_TEXTS: Final = (_PAUSED.text, _DISCONNECTED.text)
AT_REST: Final = frozenset({_PAUSED.code, _DISCONNECTED.code})
"""Codes of a BYE after which nobody need be in haste to dial: who says it dials when that is over."""


class Halting:
    """The halts of one node.

    Attributes:
        halts: Those that are on disk, by store; that of all mail is under `EVERYBODY`.
        draining: Who has closed the peer to new sends, in words; empty while it is open. Not kept over a restart.
    """

    def __init__(self, node: "Node") -> None:
        """Begin with none."""
        self.halts: dict[bytes, PutHalt] = {}
        self.draining = ""
        self._node = node

    def restore(self, rows: Iterable[PutHalt]) -> None:
        """Take over what the store kept, before any other store is known."""
        self.halts = {row.store: row for row in rows}

    # --- asking ---

    def of(self, store: bytes) -> PutHalt | None:
        """Return what keeps mail from going to and from a store; None when nothing does."""
        return self.halts.get(EVERYBODY) or self.halts.get(store)

    def why(self, store: bytes) -> str:
        """Say what keeps mail from going to and from a store, and how that ends; empty when nothing does."""
        halt = self.of(store)
        if halt is None:
            return ""
        if halt.store == EVERYBODY:
            return "this peer is paused until `zmesh admin resume`"
        name = self._node.describe(self._node.remotes[store])
        return f"{name} is disconnected until `zmesh admin reconnect {name}`"

    def warning(self, store: bytes) -> str:
        """Say why a message to a store waits; empty when no halt is in its way, here or, as it has told, there."""
        why = self.why(store)
        if why:
            return f"{why}: the message waits, or its ttl ends"
        remote = self._node.remotes.get(store)
        if remote is None or remote.up or remote.trouble not in _TEXTS:
            return ""
        return f"{remote.name}: {remote.trouble}"

    def check_open(self, command: Send) -> None:
        """See that a message may be sent now; answers may, or what lies in mailboxes could not be worked off.

        Raises:
            PeerHalted: The peer is being drained.
        """
        if self.draining and not command.reply_to and command.id not in self._node.outbox.by_id:
            message = f"nothing new is sent from here: {self.draining} has it drained, until `zmesh admin resume`"
            raise PeerHalted(message)

    # --- commands ---

    def halt(self, command: Halt) -> None:
        """Exchange no more mail with a store, or with anybody; one that is halted already stays as it is.

        Raises:
            UnknownAgent: The store is not known.
        """
        node, store = self._node, command.store
        if store != EVERYBODY and store not in node.remotes:
            message = "that peer is not known any more: see `zmesh peers`"
            raise UnknownAgent(message)
        row = self.halts.get(store) or PutHalt(store, node.turn.now, command.by[:MAX_TEXT])
        self._persist(command.ticket, row, lambda: self.halts.setdefault(store, row))

    def release(self, command: Release) -> None:
        """Exchange mail again; if it is all mail, new sends are taken again too."""

        def released() -> None:
            self.halts.pop(command.store, None)
            if command.store == EVERYBODY:
                self.draining = ""

        self._persist(command.ticket, DropHalt(command.store), released)

    def drain(self, command: Drain) -> None:
        """Take no new sends once everything that was accepted before is on disk.

        Raises:
            PeerHalted: The peer is paused, and would never be empty.
        """
        if EVERYBODY in self.halts:
            message = "this peer is paused, so nothing would leave it: `zmesh admin resume` first"
            raise PeerHalted(message)

        def drained() -> None:
            self.draining = self.draining or command.by[:MAX_TEXT]

        self._follow(command.ticket, drained)

    def _persist(self, ticket: int, op: Op, change: Callable[[], object]) -> None:
        self._node.turn.persist(op)
        self._follow(ticket, change)

    def _follow(self, ticket: int, change: Callable[[], object]) -> None:
        """Once the transaction of this turn is on disk, change what counts, and answer."""
        node = self._node

        def commit() -> None:
            change()
            for remote in node.remotes.values():
                self._keep(remote)
            node.changed()
            node.turn.emit(Settled(ticket))

        node.turn.then(commit, lambda reason: node.turn.emit(Failed(ticket, reason)))

    # --- links ---

    def _keep(self, remote: "Remote") -> None:
        """See that the link to a store is as the halts say."""
        node, halt = self._node, self.of(remote.store)
        if halt is None and remote.link.held:
            node.act(remote, remote.link.free(node.turn.now))
        elif halt is not None and not remote.link.held:
            if remote.up:
                node.transmit(remote, _bye(halt))
            node.hold_link(remote)

    def begin(self, remote: "Remote") -> None:
        """A store has become known: it may be one with which no mail is exchanged."""
        if self.of(remote.store) is not None:
            self._node.hold_link(remote)

    def turns_away(self, store: bytes, link: bytes, path: Path) -> bool:
        """Say whether a HELLO of a store is not heeded; then it is told why, on the connection it came by.

        Args:
            store: Whose it is.
            link: The link id that it announces.
            path: Empty if it came on our own connection, which has ended.
        """
        halt = self.of(store)
        if halt is not None and path:
            self._node.turn.emit(Answer(path, encode(link, _bye(halt))))
        return halt is not None


def _bye(halt: PutHalt) -> Bye:
    return _PAUSED if halt.store == EVERYBODY else _DISCONNECTED
