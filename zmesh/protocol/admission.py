"""Which stores are remembered: so many in all, and so many of one device, so that none takes the places of others.

Whoever is only said to be there comes after those who have greeted, and who is linked or has mail waiting is never
forgotten. A device can make stores as it likes, and anybody can announce stores in its name: this module must never
let either make room at the expense of another device's, nor dial new ones without a limit.
"""

from typing import TYPE_CHECKING

from zmesh.protocol.bounds import MAX_PEERS, MAX_STORES, NEW_STORES_PER_SECOND
from zmesh.protocol.bucket import Bucket
from zmesh.protocol.remote import Remote

if TYPE_CHECKING:
    from zmesh.protocol.node import Node


class Admission:
    """Decides for one node."""

    def __init__(self, node: "Node") -> None:
        """Begin with no device known."""
        self._node = node
        self._new: dict[str, Bucket] = {}

    def place(self, device: str, name: str, *, greets: bool) -> bool:
        """See that there is a place for one more store of a device.

        Args:
            device: Whose it is.
            name: What its peer is called.
            greets: It has greeted itself; otherwise it is only said to be there.
        """
        node = self._node
        remotes = node.remotes.values()
        if device != node.device:  # there is no boundary within a device
            own = [remote for remote in remotes if remote.device == device]
            # What is only said may be anybody's lie: it fills places, but those of who greets are never short of them.
            in_time = not greets or self._in_time(device)
            if not in_time or (len(own) >= MAX_STORES and not (greets and self._make_room(own, greets=True))):
                text = f"{name!r} is ignored: its device has too many peers ({len(own)}), or makes them too fast"
                node.say("warning", device, "too-many-stores", text)
                return False
        if len(remotes) >= MAX_PEERS and not self._make_room(list(remotes), greets=greets):
            node.say("warning", device, "too-many-peers", f"{name!r} is ignored: {MAX_PEERS} peers are known already")
            return False
        return True

    def _in_time(self, device: str) -> bool:
        now = self._node.turn.now
        bucket = self._new.get(device)
        if bucket is None:
            if len(self._new) >= MAX_PEERS:
                self._new.pop(next(iter(self._new)))
            bucket = self._new[device] = Bucket(NEW_STORES_PER_SECOND, MAX_STORES, now)
        if not bucket.holds(1, now):
            return False
        bucket.take(1)
        return True

    def _make_room(self, among: list[Remote], *, greets: bool) -> bool:
        """Forget who is least missed.

        Whoever has not heard our outcomes comes late; but who has gone for good must not hold a place for ever.
        """
        idle = [
            remote
            for remote in among
            if not remote.up
            and not remote.queued
            and (greets or not remote.greeted)
            and remote.store not in self._node.halting.halts  # who was disconnected is to stay so
        ]
        if not idle:
            return False
        self._node.forget(min(idle, key=lambda each: (each.greeted, each.outcomes.pending, each.link.heard)))
        return True
