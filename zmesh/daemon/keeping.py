"""What is done by hand to keep the daemon's store as small, and its bounds as wide, as its owner wants them.

Work that takes a while is done once at a time, and tells how far it has got to whoever asks. This module must never
be asked for anything but by `administration`, which writes it down.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from zmesh.errors import AddressError
from zmesh.peer.ages import Mark, read_marks, rows_before
from zmesh.peer.arguments import brief, checked_name
from zmesh.peer.compaction import compact
from zmesh.peer.duration import parse_ttl
from zmesh.peer.peer import Peer
from zmesh.peer.purging import KINDS, Purge, Wanted, purge
from zmesh.protocol.bounds import RATE_BURST
from zmesh.protocol.directory import near_names

if TYPE_CHECKING:
    from zmesh.daemon.administration import Administrator

Values = dict[str, Any]


class Keeping:
    """Looks after the store of one daemon.

    Attributes:
        progress: Of the work under way: `done` of `total` steps, of whatever size; both 0 when there is none.
    """

    def __init__(self, peer: Peer) -> None:
        """Take the daemon's peer, which is running."""
        self._peer = peer
        self._turn = asyncio.Lock()
        self._tell(0, 0)

    def _tell(self, done: int, total: int) -> None:
        self.progress: Values = {"done": done, "total": total}

    async def compact(self) -> Values:
        """Give what is free in the store back to the file system.

        Raises:
            StoreError: The disk refused; what was given back stays so.
        """
        async with self._turn:
            try:
                before, after = await compact(self._peer.store, self._tell)
            finally:
                self._tell(0, 0)
        return {"before": asdict(before), "after": asdict(after)}

    async def purge(self, *, kinds: list[str], mailbox: str | None = None, older: float | None = None) -> Values:
        """Forget messages that have ended.

        Args:
            kinds: Of `KINDS`.
            mailbox: Only messages to this mailbox of this peer; None for all.
            older: Only what came or was sent so many seconds ago, or earlier; None for all.

        Returns:
            What went, what stays and why, and `known_for`: the seconds for which the age of messages is known.

        Raises:
            AddressError: There is no such mailbox.
            ValueError: There is no such kind, or no such time.
            StoreError: The disk refused; the message says what had gone before.
        """
        return await self._purge(kinds, mailbox, older, dry=False)

    async def purgeable(self, *, kinds: list[str], mailbox: str | None = None, older: float | None = None) -> Values:
        """Count what `purge` would forget, and touch nothing; as `purge`."""
        return await self._purge(kinds, mailbox, older, dry=True)

    async def _purge(self, kinds: list[str], mailbox: str | None, older: float | None, *, dry: bool) -> Values:
        if not kinds or not set(kinds) <= set(KINDS):
            raise ValueError(f"{brief(kinds)} cannot be forgotten: choose of {', '.join(KINDS)}")
        name = self._checked(mailbox) if mailbox else ""
        peer = self._peer
        marks = await asyncio.wrap_future(peer.store.query(read_marks))
        before = None if older is None else rows_before(marks, peer.driver.now() - _seconds(older))
        async with self._turn:
            own, wanted = peer.driver.core.node.store, Wanted(frozenset(kinds), name, before)
            try:
                async with peer.mailboxes.reviving:
                    done = await purge(peer.store, wanted, own, dry=dry, told=self._tell)
            finally:
                self._tell(0, 0)
        return _told(done) | {"known_for": _known_for(marks, peer.driver.now())}

    async def quotas(self) -> list[Values]:
        """Tell how much of what is bounded is used, and what the bound is."""
        driver = self._peer.driver
        node, now = driver.core.node, driver.now()
        quotas, held = node.quotas, node.outbox.messages
        peer, mailbox = (quotas.peer_messages, quotas.peer_bytes), (quotas.mailbox_messages, quotas.mailbox_bytes)
        told = [_used("peer", "", (held.nowhere, held.nowhere_bytes), peer)]
        told += [_used("peer", each.name, (each.queued, each.queued_bytes), peer) for each in node.remotes.values()]
        told += [_used("mailbox", box.name, (box.count, box.size), mailbox) for box in node.inbox.mailboxes.values()]
        devices = {each.device: each.name for each in node.remotes.values() if each.device not in ("", node.device)}
        for device, name in devices.items():
            limits, *used = driver.guard.standing(device, now)
            most = limits.messages * RATE_BURST, limits.octets * RATE_BURST
            told.append(_used("device", name, (math.ceil(used[0]), math.ceil(used[1])), (int(most[0]), int(most[1]))))
        return told

    def _checked(self, mailbox: str) -> str:
        name = checked_name(mailbox, "agent name")
        mailboxes = self._peer.driver.core.node.inbox.mailboxes
        if name not in mailboxes:
            near = near_names(name, mailboxes)
            hint = f": did you mean {' or '.join(near)}?" if near else ""
            raise AddressError(f"there is no mailbox {name!r} here{hint}")
        return name


def _used(quota: str, of: str, used: tuple[int, int], limits: tuple[int, int]) -> Values:
    messages, octets = zip(used, limits, strict=True)
    return {
        "quota": quota, "of": of, "messages": dict(zip(("used", "limit"), messages, strict=True)),
        "bytes": dict(zip(("used", "limit"), octets, strict=True)),
    }  # fmt: skip


def _seconds(older: float) -> float:
    seconds = parse_ttl(older, "older")
    if seconds is None:
        raise ValueError("nothing is older than for ever: give a time, such as 7d")
    return seconds


def _known_for(marks: list[Mark], now: float) -> float:
    return max(0.0, now - marks[0].at) if marks else 0.0


def _told(done: Purge) -> Values:
    """Return what a purge came to, as it is told."""
    sides = {"sent": done.sent, "received": done.received}
    gone = {side: {state: asdict(count) for state, count in counts.items()} for side, counts in sides.items()}
    return {"gone": gone, "kept": {"known": done.known, "awaited": done.awaited}}


async def _progress(administrator: "Administrator", _: Values) -> Values:
    return administrator.keeping.progress


ACTS: Final[dict[str, Callable[["Administrator", Values], Awaitable[Any]]]] = {
    "admin.compact": lambda administrator, arguments: administrator.keeping.compact(**arguments),
    "admin.purge": lambda administrator, arguments: administrator.keeping.purge(**arguments),
    "admin.set": lambda administrator, arguments: administrator.settings.set(**arguments),
    "admin.unset": lambda administrator, arguments: administrator.settings.unset(**arguments),
}
"""Verbs that do something."""
LOOKS: Final[dict[str, Callable[["Administrator", Values], Awaitable[Any]]]] = {
    "admin.progress": _progress,
    "admin.purgeable": lambda administrator, arguments: administrator.keeping.purgeable(**arguments),
    "admin.quotas": lambda administrator, _: administrator.keeping.quotas(),
    "admin.settings": lambda administrator, _: administrator.settings.tell(),
}
"""Verbs that change nothing."""
