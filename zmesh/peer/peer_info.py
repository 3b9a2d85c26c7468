"""Other peers as programs see them: who is linked, and what waits for whom.

It must never call a peer linked that is not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from zmesh.errors import AmbiguousAddress, UnknownAgent
from zmesh.peer.roster import last_heard
from zmesh.protocol.address import Address, store_text
from zmesh.protocol.node import Node


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What is known of another peer.

    Attributes:
        name: Its name.
        store: Its store id in base32; `name~` with its first characters tells namesakes apart.
        linked: True while its link is up.
        agents: Its mailboxes.
        queued: Messages from here that it has not stored yet.
        trouble: Why it cannot be reached, in words; empty when nothing is known against it.
        heard: Seconds since it was last heard, None for never. While it is linked it is heard every few seconds; after
            a crash of this peer it may have been heard later than this says.
    """

    name: str
    store: str
    linked: bool
    agents: tuple[str, ...]
    queued: int
    trouble: str
    heard: float | None = field(default=None, compare=False)


def list_peers(node: Node, now: float, trouble: Callable[[bytes], str | None]) -> list[PeerInfo]:
    """Return the other peers, linked ones first.

    Args:
        node: The peer's state.
        now: Seconds on the store's clock.
        trouble: Tells what keeps the connection to a store from coming up.
    """
    infos = [
        PeerInfo(
            remote.name,
            store_text(remote.store),
            remote.up,
            tuple(sorted(remote.roster.agents)),
            remote.queued,
            "" if remote.up else node.halting.why(remote.store) or remote.trouble or trouble(remote.store) or "",
            last_heard(remote, now),
        )
        for remote in node.remotes.values()
    ]
    return sorted(infos, key=lambda info: (not info.linked, info.name, info.store))


def present(node: Node, address: Address) -> str | None:
    """Return what an address is resolved to if its agent is there: its peer linked, its mailbox in the roster."""
    try:
        resolved = node.find(str(address))
    except (UnknownAgent, AmbiguousAddress):
        return None
    return str(resolved.address) if resolved.known and resolved.entry and resolved.entry.live else None
