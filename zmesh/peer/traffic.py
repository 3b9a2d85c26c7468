"""What an administrator does to the traffic of a peer: pauses it, parts it from another one, drains it.

What is said here is kept by the core. This module must never guess whom a name means.
"""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from zmesh.errors import AddressError, AmbiguousAddress, UnknownAgent
from zmesh.peer.arguments import brief
from zmesh.peer.peer import Peer
from zmesh.protocol.address import store_text
from zmesh.protocol.commands import Drain, Halt, Release
from zmesh.protocol.directory import near_names
from zmesh.protocol.halting import EVERYBODY
from zmesh.protocol.journal import PutHalt
from zmesh.protocol.node import Node
from zmesh.protocol.remote import Remote
from zmesh.protocol.states import Sent

SHORTEST: Final = 4  # characters of a store id that name its peer
LISTED: Final = 10  # names in an error; `zmesh peers` has all


@dataclass(frozen=True, slots=True)
class Halted:
    """A halt that is in force.

    Attributes:
        peer: With whom no mail is exchanged, as `name~STORE`; empty for all.
        since: When it was said, in seconds of Unix time as this machine's clock is now; for people.
        by: Who said so, in words.
    """

    peer: str
    since: float
    by: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How the traffic of a peer stands.

    Attributes:
        paused: The pause, or None.
        disconnected: Single peers with which no mail is exchanged.
        draining: Who has it drained, in words; empty when new sends are taken.
    """

    paused: Halted | None
    disconnected: tuple[Halted, ...]
    draining: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """The outgoing messages that have not ended.

    Attributes:
        going: Those to linked peers, by peer: they will be stored there.
        refused: How many of these are sent again later, since their recipient has no room, or takes no more just now.
        away: Those to peers that are not linked, by peer.
        nowhere: Those whose peer or mailbox is not there yet.
    """

    going: dict[str, int]
    refused: int
    away: dict[str, int]
    nowhere: int


class Traffic:
    """The traffic of one peer."""

    def __init__(self, peer: Peer) -> None:
        """Take the peer, which is running."""
        self._peer = peer

    @property
    def _node(self) -> Node:
        return self._peer.driver.core.node

    # --- doing ---

    async def pause(self, by: str) -> bool:
        """Exchange no mail with other peers until `resume`, also over restarts; programs here go on among themselves.

        Args:
            by: Who says so, in words.

        Returns:
            False when it was paused already.

        Raises:
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
            StoreError: It could not be written down; nothing has changed.
        """
        return await self._halt(EVERYBODY, by)

    async def resume(self) -> bool:
        """End a pause and a drain; links come up again at once. False when there was neither; errors as of `pause`."""
        draining = bool(self._node.halting.draining)
        return await self._release(EVERYBODY) or draining

    async def disconnect(self, who: str, by: str) -> tuple[str, bool]:
        """Exchange no mail with one peer until `reconnect`, also over restarts.

        Args:
            who: Its name, its store id, the beginning of that, or `name~STORE`.
            by: Who says so, in words.

        Returns:
            Who it is, as `name~STORE`; and False when it was disconnected already.

        Raises:
            UnknownAgent, AmbiguousAddress: No peer is called so, or several are; the message lists names.
            AddressError: It is this peer itself.
            The errors of `pause`.
        """
        remote = self.find(who)
        return self._node.describe(remote), await self._halt(remote.store, by)

    async def reconnect(self, who: str) -> tuple[str, bool]:
        """Exchange mail with a peer again; False when it was not disconnected. The rest is as of `disconnect`."""
        remote = self.find(who)
        return self._node.describe(remote), await self._release(remote.store)

    async def drain(self, by: str) -> bool:
        """Take no new sends until `resume`, or until the peer is closed; see `leaving` for what is to go out.

        Args:
            by: Who says so, in words.

        Returns:
            False when it was being drained already.

        Raises:
            PeerHalted: It is paused: nothing would leave it.
            The errors of `pause`.
        """
        driver, before = self._peer.driver, self._node.halting.draining
        ticket = driver.number()
        await driver.carry_out(ticket, Drain(ticket, by))
        return not before

    async def _halt(self, store: bytes, by: str) -> bool:
        driver, before = self._peer.driver, store in self._node.halting.halts
        ticket = driver.number()
        await driver.carry_out(ticket, Halt(ticket, store, by))
        return not before

    async def _release(self, store: bytes) -> bool:
        driver, before = self._peer.driver, store in self._node.halting.halts
        ticket = driver.number()
        await driver.carry_out(ticket, Release(ticket, store))
        return before

    # --- looking ---

    def find(self, who: str) -> Remote:
        """Return the other peer of that name or store id; errors as of `disconnect`."""
        if not isinstance(who, str):
            raise TypeError(f"a peer is named by a text, not by {brief(who)}")
        node, wanted = self._node, who.strip().lower()
        found = [remote for remote in node.remotes.values() if _is_called(remote, wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(sorted(node.describe(remote) for remote in found)[:LISTED])
            raise AmbiguousAddress(f"{len(found)} peers are called {who!r}; say which one: {listed}")
        if wanted == node.name or wanted == store_text(node.store):
            raise AddressError(f"{who!r} is this peer itself: `zmesh admin pause` parts it from all others")
        names = sorted({remote.name for remote in node.remotes.values()})
        near = near_names(wanted, names)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names[:LISTED]) or 'none'}"
        raise UnknownAgent(f"no peer is called {who!r} ({hint}): `zmesh peers` lists them")

    def standing(self) -> Standing:
        """Return how the traffic stands."""
        halting = self._node.halting
        halted = {store: self._told(halt) for store, halt in halting.halts.items()}
        paused = halted.pop(EVERYBODY, None)
        return Standing(paused, tuple(sorted(halted.values(), key=lambda each: each.peer)), halting.draining)

    def _told(self, halt: PutHalt) -> Halted:
        remote = self._node.remotes.get(halt.store)
        peer = self._node.describe(remote) if remote is not None else store_text(halt.store)
        return Halted(peer, time.time() - self._peer.driver.now() + halt.since, halt.by)

    def leaving(self) -> Leaving:
        """Count what is to go out."""
        node = self._node
        counts: Counter[bytes] = Counter()
        refused = nowhere = 0
        for message in node.outbox.by_id.values():
            if message.state is Sent.WAITING or message.dest not in node.remotes:
                nowhere += 1
                continue
            counts[message.dest] += 1
            refused += bool(message.refusals and not message.number and node.remotes[message.dest].up)
        going = {node.describe(node.remotes[store]): count for store, count in counts.items() if node.remotes[store].up}
        away = {
            node.describe(node.remotes[store]): count for store, count in counts.items() if not node.remotes[store].up
        }
        return Leaving(going, refused, away, nowhere)


def _is_called(remote: Remote, wanted: str) -> bool:
    name, tilde, start = wanted.partition("~")
    store = store_text(remote.store)
    if tilde:
        return remote.name == name and len(start) >= SHORTEST and store.startswith(start)
    return remote.name == name or (len(name) >= 2 * SHORTEST and store.startswith(name))
