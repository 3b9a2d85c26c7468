"""Where waiting messages go once it is there: into a stream of another store, or into a mailbox of our own.

What waited goes before anything newer to the same mailbox. A message must never be placed while two stores could be
meant, nor land before it is on disk.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zmesh.errors import MeshError
from zmesh.protocol.envelope import unpack_envelope
from zmesh.protocol.journal import InRow

if TYPE_CHECKING:
    from zmesh.protocol.messages import OutMessage
    from zmesh.protocol.node import Node
    from zmesh.protocol.remote import Remote


class Placing:
    """The search for the places of waiting messages."""

    def __init__(self, node: "Node") -> None:
        """Begin with nothing on its way into our own mailboxes."""
        self._node = node
        self._landing: dict[str, set[int]] = {}  # rows of what is on its way into our own mailboxes

    # --- to other stores ---

    def place_of(self, message: "OutMessage") -> "Remote | None":
        """Return the store a waiting message can go to now, if there is one."""
        node = self._node
        if message.dest:
            remote = node.remotes.get(message.dest)
            return remote if remote and message.mailbox in remote.roster.agents else None
        try:
            resolved = node.find(message.address)
        except MeshError:
            return None  # two peers of one name came up meanwhile: wait until one of them is gone
        if resolved.entry is None or not resolved.known:
            return None
        return node.remotes.get(resolved.entry.store)

    def place_all(self) -> None:
        """Rosters have changed: move what waited for them, in order, and before anything new overtakes it."""
        outbox = self._node.outbox
        for message in list(outbox.waiting.values()):
            remote = self.place_of(message)
            if remote is not None:
                outbox.place(message, remote)

    def place_one(self, message: "OutMessage") -> None:
        """A waiting message is on disk, or is tried again: its mailbox may have appeared meanwhile."""
        node = self._node
        if message.row not in node.outbox.waiting:
            return
        remote = self.place_of(message)
        if remote is not None:
            node.outbox.place(message, remote)
        elif message.committed and message.mailbox in node.inbox.mailboxes and self._is_here(message, message.mailbox):
            self._fetch_to_land(message.mailbox, [message])

    def place_late(self, ident: bytes) -> None:
        """A message that waits has just been committed."""
        message = self._node.outbox.by_id.get(ident)
        if message is not None:
            self.place_one(message)

    # --- to our own mailboxes ---

    def land_all(self, name: str) -> None:
        """A mailbox of ours has appeared: what waited for it needs no network."""
        here = [message for message in self._node.outbox.waiting.values() if self._is_here(message, name)]
        if here or self._landing.get(name):
            self._fetch_to_land(name, here)

    def _fetch_to_land(self, name: str, messages: "list[OutMessage]") -> None:
        """Bring messages into our own mailbox `name`; one that is not on disk yet follows when it is."""
        self._landing.setdefault(name, set()).update(message.row for message in messages)
        waiting = self._waiting_here(name)
        rows = tuple([message.row for message in waiting if message.committed])
        if rows:
            self._node.fetch(rows, self._land)

    def waits_here(self, name: str) -> bool:
        """Say whether older messages are on their way into our own mailbox `name`: newer ones go behind them."""
        return bool(self._waiting_here(name))

    def _waiting_here(self, name: str) -> "list[OutMessage]":
        """Return what is on its way into our own mailbox `name`, the oldest first."""
        if name not in self._landing:
            return []
        messages = self._node.outbox.messages
        found = [messages.waiter(row) for row in sorted(self._landing[name])]
        waiting = [message for message in found if message is not None]
        if waiting:
            self._landing[name] = {message.row for message in waiting}
        else:
            del self._landing[name]
        return waiting

    def follow(self, name: str, ident: bytes) -> None:
        """A message goes behind those that are on their way into our own mailbox `name`."""
        self._landing[name].add(self._node.outbox.by_id[ident].row)

    def _is_here(self, message: "OutMessage", name: str) -> bool:
        if message.mailbox != name or message.dest:
            return False
        try:
            entry = self._node.find(message.address).entry
        except MeshError:
            return False
        return entry is not None and entry.store == self._node.store

    def _land(self, bodies: Mapping[int, bytes]) -> None:
        node, outbox = self._node, self._node.outbox
        blocked: set[str] = set()  # what comes behind a message that finds no room waits behind it
        for row, body in sorted(bodies.items()):
            message = outbox.messages.waiter(row)
            if message is None:
                continue
            if message.mailbox in blocked or node.inbox.refusal(message.mailbox, len(body)) is not None:
                blocked.add(message.mailbox)
                outbox.expiry.park(message)
                continue
            outbox.land(message, node.store)
            place = InRow(
                0, message.id, node.store, message.mailbox, message.klass, 0, 0.0, message.deadline, len(body)
            )
            node.inbox.arrive(place, node.device, message.envelope, body, unpack_envelope(message.envelope))
