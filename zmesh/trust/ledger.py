"""The membership logs in memory, and the rules by which an entry may be added to them.

This module must never touch a disk: what it changes it also reports, and `trust_store` writes that down. Whatever the
order in which entries come, two ledgers that have been offered the same end with the same membership.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from zmesh.errors import TrustError
from zmesh.trust.device import fingerprint
from zmesh.trust.entry import NO_HASH, Entry, Genesis, Joining, Revocation
from zmesh.trust.membership import MAX_MEMBERS, Membership

MAX_ENTRIES: Final = 16 * MAX_MEMBERS  # of all logs: certificates, renames and revocations of a full mesh
RESERVE: Final = MAX_MEMBERS  # more, for revocations alone: each member can be shut out once, however full it is

Known = Mapping[bytes, int | tuple[int, bytes]]
"""Of each author: the number of the last entry that is known, better with its hash, which shows a fork."""


class Verdict(Enum):
    """What becomes of an entry."""

    PUT = auto()
    KNOWN = auto()
    VOID = auto()  # beyond what a revocation honours
    LATER = auto()  # something before it is missing
    FOREIGN = auto()  # of somebody who is no member, as far as is known
    FORK = auto()  # another one of that number is here
    FULL = auto()


@dataclass(slots=True)
class Changes:
    """What was changed.

    Attributes:
        steps: In order: an entry that was added, or the author whose log was dropped.
        trouble: Why others were not added; the first of them.
    """

    steps: list[Entry | bytes] = field(default_factory=list)
    trouble: TrustError | None = None

    @property
    def added(self) -> int:
        """How much is new; a log that was dropped counts too, for it is to be asked for again."""
        return len(self.steps)

    def object_to(self, error: TrustError) -> None:
        """Keep the first trouble."""
        self.trouble = self.trouble or error


class Ledger:
    """The logs of one mesh.

    Attributes:
        mesh: Its id; empty when there is none.
        logs: Entries by author, in order and without gaps.
        membership: Folded from them; `fold` makes it anew.
    """

    def __init__(self, mesh: bytes, entries: Iterable[Entry] = ()) -> None:
        """Take entries that were kept, each log in order.

        Raises:
            TrustError: They were not kept by a ledger: a log has gaps, or an entry is of another mesh.
        """
        self.mesh = mesh
        self.logs: dict[bytes, list[Entry]] = {}
        for entry in entries:
            log = self.logs.setdefault(entry.author, [])
            if entry.mesh != mesh or entry.seq != len(log) + 1 or (log and entry.prev != log[-1].hash):
                raise TrustError(f"entry {entry.seq} of {entry.device} does not follow the one before it")
            log.append(entry)
        self.membership = Membership(mesh, self.logs)

    def __len__(self) -> int:
        """Return the number of entries."""
        return sum(map(len, self.logs.values()))

    def fold(self) -> None:
        """Make the membership anew."""
        self.membership = Membership(self.mesh, self.logs)

    def put(self, entry: Entry) -> None:
        """Add an entry that follows."""
        self.logs.setdefault(entry.author, []).append(entry)

    def seen(self) -> dict[tuple[bytes, bytes], Entry]:
        """Return the entries by payload and signature: what is here as it is needs no second check."""
        return {(entry.payload, entry.signature): entry for log in self.logs.values() for entry in log}

    # --- what others get ---

    def heads(self) -> dict[bytes, tuple[int, bytes]]:
        """Return how far each author's log is known: the number of the last entry and its hash."""
        return {author: (len(log), log[-1].hash) for author, log in self.logs.items()}

    def beyond(self, known: Known, most: int = MAX_ENTRIES + RESERVE) -> list[Entry]:
        """Return what somebody lacks who has that much, inviters first, each log in order.

        Of a log that goes on differently there, the entry that differs is among them: the other side notices the fork.

        Args:
            known: As the other side says; it may say anything.
            most: How many at most; the rest comes with the next exchange.
        """
        lacking: list[Entry] = []
        for author in dict.fromkeys([*self.membership.members, self.membership.recovery, *self.logs]):
            log = self.logs.get(author, [])
            said = known.get(author, 0)
            count, head = said if isinstance(said, tuple) else (said, None)
            member = self.membership.members.get(author)
            if head is not None and 0 < count <= len(log) and log[count - 1].hash != head:
                count -= 1
            elif count > len(log) and member is not None and member.honoured(log) and member.last is not None:
                count = member.last - 1  # it may have more because it has another: then this entry shows it
            lacking += log[max(0, count) :]
            if len(lacking) >= most:
                break
        return lacking[:most]

    def lineage(self, public: bytes) -> list[Entry]:
        """Return what proves that a device is a member: the logs of its inviters from the founder on, and its own.

        Whoever may revoke one of them is among them, the recovery key too, so a revocation is never left out.
        """
        chain = [public]
        while (parent := self.membership.parent(chain[-1])) is not None:
            chain.append(parent)
        founder, *others = reversed(chain)
        authors = (founder, self.membership.recovery, *others)
        return [entry for author in authors for entry in self.logs.get(author, [])]

    # --- what others say ---

    def take(self, entries: Sequence[Entry], own: bytes) -> Changes:
        """Add what can be added, in whatever order it comes.

        Args:
            entries: Signed entries.
            own: Key of this device, for the error when its own log has forked.
        """
        changes, dropped = Changes(), set[bytes]()
        batch = sorted(entries, key=lambda entry: entry.seq)
        by_hash = {entry.hash: entry for entry in batch}
        pending = batch
        while pending:
            steps = len(changes.steps)
            rest: list[Entry] = []
            for entry in pending:
                verdict = self.judge(entry)
                if verdict is Verdict.FORK and entry.author not in dropped and self._meant(entry, by_hash):
                    del self.logs[entry.author]  # what is here is the other log: all of it is told again
                    dropped.add(entry.author)
                    changes.steps.append(entry.author)
                    rest = batch
                    break
                if verdict in (Verdict.LATER, Verdict.FOREIGN):
                    rest.append(entry)
                else:
                    self._settle(entry, verdict, own, changes)
            pending = rest
            if len(changes.steps) == steps:
                break
            self.fold()  # who was certified in this round may speak in the next
        for entry in pending:
            if self.judge(entry) is Verdict.FOREIGN:
                changes.object_to(TrustError(f"{entry.device} signs membership entries and is no member"))
        return changes

    def _settle(self, entry: Entry, verdict: Verdict, own: bytes, changes: Changes) -> None:
        """Add an entry, or note why not."""
        if verdict is Verdict.PUT:
            self.put(entry)
            changes.steps.append(entry)
        elif verdict is Verdict.FORK:
            changes.object_to(_forked(entry, own))
        elif verdict is Verdict.FULL:
            changes.object_to(
                TrustError(f"the mesh has {MAX_ENTRIES} membership entries, the most there may be: found a new one")
            )

    def _meant(self, entry: Entry, by_hash: Mapping[bytes, Entry]) -> bool:
        """Say whether a revocation names the log of this entry, and not the one that is here."""
        member = self.membership.members.get(entry.author)
        at = member.head if member is not None and member.revoked else NO_HASH
        while at in by_hash and at != entry.hash:
            at = by_hash[at].prev
        return at == entry.hash

    def judge(self, entry: Entry) -> Verdict:
        """Say what is to become of an entry, as things are; one of another mesh is `FOREIGN`."""
        log = self.logs.get(entry.author, [])
        if entry.seq <= len(log) and log[entry.seq - 1].hash == entry.hash:
            return Verdict.KNOWN
        if entry.mesh != self.mesh or not self._may_speak(entry):
            return Verdict.FOREIGN
        member = self.membership.members.get(entry.author)
        if member is not None and member.last is not None and entry.seq > member.last:
            return Verdict.VOID
        if entry.seq > len(log) + 1:
            return Verdict.LATER
        if entry.seq <= len(log) or (log and entry.prev != log[-1].hash):
            return Verdict.FORK
        return Verdict.PUT if self._has_room(entry) else Verdict.FULL

    def _may_speak(self, entry: Entry) -> bool:
        """Say whether entries of that author are kept: members, who joins, the founder, the recovery key."""
        author, body, membership = entry.author, entry.body, self.membership
        if author in membership.members:
            return True
        if isinstance(body, Genesis):
            return entry.hash == self.mesh
        if isinstance(body, Joining):
            return body.inviter in membership.certified.get(author, ())
        return author == membership.recovery and isinstance(body, Revocation)

    def _has_room(self, entry: Entry) -> bool:
        size = len(self)
        if size < MAX_ENTRIES:
            return True
        victim = self.membership.members.get(entry.body.device) if isinstance(entry.body, Revocation) else None
        counts = victim is not None and (
            entry.author == self.membership.recovery or self.membership.may_revoke(entry.author, victim.public)
        )
        return counts and victim is not None and not victim.revoked and size < MAX_ENTRIES + RESERVE

    def void(self) -> dict[bytes, int]:
        """Return which logs hold what counts for nothing any more, and how much of each is to be kept."""
        keep: dict[bytes, int] = {}
        for author, log in self.logs.items():
            member = self.membership.members.get(author)
            if member is None and author != self.membership.recovery:
                keep[author] = 0
            elif member is not None and member.last is not None and len(log) > max(member.last, 1):
                keep[author] = max(member.last, 1)  # the first says who invited it, so who may revoke it
        return keep


def _forked(entry: Entry, own: bytes) -> TrustError:
    if entry.author == own:
        return TrustError(
            f"this device has signed two membership entries with the number {entry.seq}: its trust.db was restored "
            "from an old copy, or its key is on two machines. To begin anew, move device.key out of its ZMESH_HOME "
            "and join again with --leave"
        )
    return TrustError(
        f"{fingerprint(entry.author)} has signed two membership entries with the number {entry.seq}: its disk went "
        "back in time, or its key is in two places. Revoke it (zmesh trust revoke), and let it begin anew"
    )
