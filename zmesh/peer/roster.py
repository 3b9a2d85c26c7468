"""The roster as programs see it: every agent that is known, what it is doing, and how far that can be believed.

A peer describes its own agents, and nobody else does: what it said last is fresh while its link is up, and stale from
then on. It must never show something stale as if it were true now.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from zmesh.protocol.address import store_text
from zmesh.protocol.frames import AWAY, AgentRecord
from zmesh.protocol.mailbox import Mailbox
from zmesh.protocol.node import Node
from zmesh.protocol.remote import Remote

UNKNOWN: Final = "unknown"
_SHORT: Final = 8  # characters of a store id, which tell namesakes apart


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """What is known of an agent.

    Attributes:
        address: Where to send: `agent@peer`, with `~` and part of the store id where several peers have that name.
        peer: The name of its peer.
        name: Its mailbox.
        role: What it is for, in its own words; may be empty.
        capabilities: What it can do, in its own words.
        project: What it works on, in its own words; may be empty.
        status: `idle`, `busy` or `away`, or a word that a newer zmesh knows; `unknown` while its peer is not linked,
            unless that said goodbye: then nobody is there.
        reach: How it is reached, such as `program`; empty when nobody is there, as far as is known.
        last_seen: Seconds since somebody was there to take its messages, 0 while somebody is, None when that is not
            known. Of a stale entry it says how long ago that was certain.
        fresh: Its peer is linked and has described its agents on the present link: this is true now, give or take a
            second. A peer that is cut off is noticed after seconds, see `as_of`.
        as_of: Seconds since its peer was last heard; 0 for this peer, None for never.
    """

    address: str
    peer: str
    name: str
    role: str
    capabilities: tuple[str, ...]
    project: str
    status: str
    reach: str
    last_seen: float | None
    fresh: bool
    as_of: float | None


def list_agents(node: Node, now: float) -> list[AgentInfo]:
    """Return all agents: our own first, then those of linked peers, each by name.

    Args:
        node: The peer's state.
        now: On the store's clock, seconds.
    """
    peers = Counter([node.name, *(remote.name for remote in node.remotes.values())])
    place = _place(node.name, node.store, peers)
    own = [_own(mailbox, node.name, place, now) for mailbox in node.inbox.mailboxes.values()]
    others = [
        info
        for remote in sorted(node.remotes.values(), key=lambda remote: (not remote.up, remote.name, remote.store))
        for info in _theirs(remote, _place(remote.name, remote.store, peers), now)
    ]
    return sorted(own, key=lambda info: info.name) + others


def last_heard(remote: Remote, now: float) -> float | None:
    """Return how many seconds ago a peer was last heard; None when it never was."""
    return max(0.0, now - remote.link.heard) if remote.roster.version or remote.up else None


def _place(peer: str, store: bytes, peers: Counter[str]) -> str:
    """Return what follows the `@` in an address."""
    return peer if peers[peer] == 1 else f"{peer}~{store_text(store)[:_SHORT]}"


def _own(mailbox: Mailbox, peer: str, place: str, now: float) -> AgentInfo:
    absent = mailbox.absent
    last_seen = 0.0 if mailbox.attached else None if absent is None else max(0.0, now - absent)
    return _info(mailbox.record, peer, place, last_seen, fresh=True, as_of=0.0)


def _theirs(remote: Remote, place: str, now: float) -> Iterator[AgentInfo]:
    fresh = remote.up and remote.roster_fresh > 0
    heard = last_heard(remote, now)
    for name, record in sorted(remote.roster.agents.items()):
        seen = remote.roster.seen.get(name)
        last_seen = None if seen is None else max(0.0, now - seen)
        if record.attached:
            last_seen = 0.0 if fresh else heard
        shown = record if fresh else _stale(record, gone=remote.closed)
        yield _info(shown, remote.name, place, last_seen, fresh=fresh, as_of=heard)


def _stale(record: AgentRecord, *, gone: bool) -> AgentRecord:
    return replace(record, status=AWAY, reach="") if gone else replace(record, status=UNKNOWN)


def _info(
    record: AgentRecord, peer: str, place: str, last_seen: float | None, *, fresh: bool, as_of: float | None
) -> AgentInfo:
    return AgentInfo(
        f"{record.name}@{place}", peer, record.name, record.role, record.capabilities, record.project, record.status,
        record.reach, last_seen, fresh, as_of,
    )  # fmt: skip
