"""Peers that have one name: nothing is sent to a name that two answer to, so whoever hosts one of them must hear it.

This module must never name a peer that is not there.
"""

from typing import Final

from zmesh.peer.peer import Peer

SHORT: Final = 8  # characters of a store's id that tell namesakes apart, as everywhere


def namesakes(peer: Peer) -> list[str]:
    """Return a line about each name that more than one of those has that are there, this peer included."""
    called: dict[str, list[str]] = {peer.name: [f"{peer.name}~{peer.id[:SHORT]} (this one)"]}
    for info in peer.peers():
        if info.linked:
            called.setdefault(info.name, []).append(f"{info.name}~{info.store[:SHORT]}")
    return [
        f"{len(those)} peers are called {name}: {', '.join(those)}. Nothing is sent to a name that two answer to: stop "
        "one of them, and start it again with another (zmesh up --name NAME, or name in its config.toml). The mail it "
        "has stays with the old name"
        for name, those in sorted(called.items())
        if len(those) > 1
    ]
