"""The ways in which a peer looks for others: which sources of addresses there are, and which of them are in use.

A source that was in use before is the same one when it is used again: what it knows is not lost. This module must never
run a source itself: the ladder does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from zmesh.discovery.ladder import Discovery
from zmesh.discovery.mdns import MdnsSource
from zmesh.discovery.rendezvous import RendezvousSource
from zmesh.discovery.sighting import Source
from zmesh.peer.gate import Gate
from zmesh.peer.member import Member


class Ways:
    """The sources of one peer."""

    def __init__(self, rendezvous: Path, gate: Gate, member: Member) -> None:
        """Take what sources are made of; each is made when it is first chosen.

        Args:
            rendezvous: The directory of this host's peers.
            gate: Who may be dialled.
            member: Has the sources of what was named and what members tell.
        """
        self._member = member
        self._made: dict[str, list[Source]] = {}
        self._chosen: tuple[str, ...] = ()
        self._makers: dict[str, Callable[[], list[Source]]] = {
            "rendezvous": lambda: [RendezvousSource(rendezvous)],
            "static": lambda: [member.book, member.visits],
            "mdns": lambda: [MdnsSource(gate.knows)],
        }

    def choose(self, names: Sequence[str]) -> list[Source]:
        """Return the sources of these names, of `DISCOVERY`, in their order."""
        self._chosen = tuple(names)
        for name in names:
            if name not in self._made:
                self._made[name] = self._makers[name]()
        return [source for name in names for source in self._made[name]]

    async def change(self, discovery: Discovery, names: Sequence[str]) -> None:
        """Go on with the sources of these names, while the peer runs."""
        if tuple(names) == self._chosen:
            return
        sources = self.choose(names)
        await discovery.change(sources)
        self._member.use(sources)
