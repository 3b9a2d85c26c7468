"""Finds the store and mailbox an address means, from the rosters at hand.

A name is resolved once, when the message is sent. This module never guesses between two that match: it raises
`AmbiguousAddress` with the candidates, and a mailbox that is not there yet is `None`, for the sender to wait or refuse.
"""

from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches

from zmesh.errors import AmbiguousAddress, UnknownAgent
from zmesh.protocol.address import Address, store_text
from zmesh.protocol.frames import AgentRecord
from zmesh.protocol.record import record

_LISTED = 8  # candidates named in an error: more do not help


@record
class Entry:
    """One store, as the directory sees it.

    Attributes:
        store: Its id.
        peer: Its name.
        live: Its link is up (true of our own store).
        agents: Its mailboxes by name.
    """

    store: bytes
    peer: str
    live: bool
    agents: dict[str, AgentRecord]

    @property
    def short(self) -> str:
        """The peer with enough of the store id to tell it from its namesakes."""
        return f"{self.peer}~{store_text(self.store)[:8]}"


@record
class Resolved:
    """What an address means now.

    Attributes:
        address: Canonical `agent@peer`.
        entry: The store, or None when the peer is not known yet.
        known: True when the mailbox is in the store's roster.
        near: Peers that are called nearly as one that is not known.
    """

    address: Address
    entry: Entry | None
    known: bool
    near: tuple[str, ...] = ()


def resolve(address: Address, entries: Iterable[Entry]) -> Resolved:
    """Find what an address means.

    Args:
        address: What was asked for.
        entries: All stores, our own included.

    Raises:
        AmbiguousAddress: Several match; the message lists them.
        UnknownAgent: A bare name that nobody has; the message lists near names.
    """
    entries = list(entries)
    if address.peer is None:
        return _resolve_bare(address.agent, entries)
    named = [entry for entry in entries if entry.peer == address.peer]
    if address.store is not None:
        prefix = address.store
        named = [entry for entry in named if store_text(entry.store).startswith(prefix)]
    live = [entry for entry in named if entry.live]
    candidates = live or named
    if len(candidates) > 1:
        # A mailbox that only one of the namesakes has is no riddle.
        having = [entry for entry in candidates if address.agent in entry.agents]
        if len(having) != 1:
            raise _ambiguous(address.agent, f"{len(candidates)} peers are called {address.peer!r}", candidates, entries)
        candidates = having
    if not candidates:
        near = tuple(near_names(address.peer, (entry.peer for entry in entries)))
        return Resolved(address, None, known=False, near=near)
    return Resolved(address, candidates[0], known=address.agent in candidates[0].agents)


def _resolve_bare(agent: str, entries: list[Entry]) -> Resolved:
    having = [entry for entry in entries if agent in entry.agents]
    if not having:
        near = _hint(near_names(agent, (name for entry in entries for name in entry.agents)))
        message = (
            f"no agent is called {agent!r} on any known peer{near}. "
            f"To write to one that is not there yet, name its peer: {agent}@PEER"
        )
        raise UnknownAgent(message)
    if len(having) > 1:
        attached = [entry for entry in having if entry.live and entry.agents[agent].attached]
        if len(attached) != 1:
            raise _ambiguous(agent, f"{len(having)} peers have an agent {agent!r}", having, entries)
        having = attached
    entry = having[0]
    return Resolved(Address(agent, entry.peer), entry, known=True)


def near_names(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three names that look like `name`, best first."""
    return get_close_matches(name, sorted(set(names)), n=3, cutoff=0.6)


def waiting_warning(resolved: Resolved) -> str:
    """Say why a message waits for its mailbox, and what may have been meant."""
    address = resolved.address
    if resolved.entry is None:
        near = _hint([f"{address.agent}@{peer}" for peer in resolved.near])
        return f"no peer {address.peer!r} is known yet{near}: the message waits until it is found, or its ttl ends"
    near = _hint([f"{n}@{address.peer}" for n in near_names(address.agent, resolved.entry.agents)])
    missing = f"{address.peer!r} has no mailbox {address.agent!r} yet{near}"
    return f"{missing}: the message waits until it appears, or its ttl ends"


def _hint(names: list[str]) -> str:
    return f" (did you mean {' or '.join(names)}?)" if names else ""


def _ambiguous(agent: str, why: str, matching: list[Entry], entries: list[Entry]) -> AmbiguousAddress:
    """List those that match, each as shortly as tells it from all entries."""
    count = Counter(entry.peer for entry in entries)
    names = [entry.peer if count[entry.peer] == 1 else entry.short for entry in matching]
    listed = ", ".join(f"{agent}@{name}" for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return AmbiguousAddress(f"{why}; say which one: {listed}{more}")
