"""Who is a member: a pure fold over the membership logs, equal on every device that has the same entries.

The founder is a member; whoever a member certified is one, once it has signed that it joins by that certificate; deny
wins. A revocation counts when its author invited the victim, directly or not, or is the victim, or holds the recovery
key of the founder; it voids the victim's entries beyond the last one it honours, whatever their date. This module must
never look at a clock, and what an entry claims of time decides nothing.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from zmesh.errors import DeviceKeyError
from zmesh.trust.device import curve_key, fingerprint
from zmesh.trust.entry import NO_HASH, Certificate, Entry, Genesis, Joining, Rename, Revocation

MAX_MEMBERS: Final = 1024  # devices of one mesh, revoked ones included; as many as peers are remembered

Logs = Mapping[bytes, list[Entry]]
"""Entries by author, each list in order and without gaps."""


@dataclass(frozen=True, slots=True)
class Member:
    """A device that is, or was, a member.

    Attributes:
        device: Its id.
        public: Its Ed25519 public key.
        curve: The CURVE key derived from it.
        name: What it is called.
        inviter: Device id of who certified it; empty for the founder.
        at: When, by the inviter's clock: seconds since 1970.
        last: Its last honoured entry; entries beyond it are void. None while it is not revoked.
        head: Hash of that entry; `NO_HASH` when there is none.
        reason: Why it was revoked.
    """

    device: str
    public: bytes
    curve: bytes
    name: str
    inviter: str
    at: int
    last: int | None = None
    head: bytes = NO_HASH
    reason: str = ""

    @property
    def revoked(self) -> bool:
        """True when it is no member any more."""
        return self.last is not None

    def honoured(self, log: list[Entry]) -> list[Entry]:
        """Return which of its entries count: all, or as far as its revocation says.

        A log that does not lead to the very entry that the revocation names is a forgery or not whole: none counts.
        """
        if self.last is None:
            return log
        whole = 0 < self.last <= len(log) and log[self.last - 1].hash == self.head
        return log[: self.last] if whole else []


class Membership:
    """The members of one mesh.

    Attributes:
        mesh: Its id; empty when there is none yet.
        members: Members and revoked ones, by public key, the founder first, inviters before those they invited.
        certified: Who has certified each device that has an honoured certificate, whether it has joined or not.
        recovery: Public half of the founder's recovery key; empty when there is no mesh yet.
    """

    def __init__(self, mesh: bytes, logs: Logs) -> None:
        """Fold the logs of a mesh."""
        self.mesh = mesh
        self.members: dict[bytes, Member] = {}
        self.certified: dict[bytes, set[bytes]] = {}
        self.recovery = b""
        self._parents: dict[bytes, bytes] = {}
        self._revocations: dict[bytes, list[Entry]] = {}
        self._by_curve: dict[bytes, Member] = {}
        founder = next((log[0] for log in logs.values() if log and log[0].hash == mesh), None)
        if founder is not None:
            self._fold(founder, logs)
        for member in self.members.values():
            self._by_curve.setdefault(member.curve, member)

    def by_curve(self, key: bytes) -> Member | None:
        """Return who has this CURVE key, revoked or not."""
        return self._by_curve.get(key)

    def by_device(self, device: str) -> Member | None:
        """Return the member with this device id, revoked or not."""
        return next((member for member in self.members.values() if member.device == device), None)

    def by_name(self, name: str) -> list[Member]:
        """Return who is called that and not revoked; names are not unique, two machines may be given one at once."""
        return [member for member in self.members.values() if member.name == name and not member.revoked]

    def is_member(self, public: bytes) -> bool:
        """Say whether a device is a member now."""
        member = self.members.get(public)
        return member is not None and not member.revoked

    def parent(self, public: bytes) -> bytes | None:
        """Return who invited a member; None for the founder and for who is none."""
        return self._parents.get(public)

    def may_revoke(self, author: bytes, victim: bytes) -> bool:
        """Say whether a revocation counts: of oneself, and of those one has invited, directly or not."""
        at: bytes | None = victim
        while at is not None:
            if at == author:
                return True
            at = self._parents.get(at)
        return False

    # --- the fold ---

    def _fold(self, genesis: Entry, logs: Logs) -> None:
        """Visit members from the founder outward: whoever can revoke a member has been visited before it.

        Each has one inviter, the one its first entry names, so this is a tree whatever is certified how often.
        """
        assert isinstance(genesis.body, Genesis)
        self.recovery = genesis.body.recovery
        for entry in logs.get(self.recovery, ()):
            if isinstance(entry.body, Revocation) and entry.body.device == genesis.author:
                self._revocations.setdefault(genesis.author, []).append(entry)
        queue = deque([(genesis.author, genesis.body.name, b"", genesis.at)])
        renames: list[tuple[bytes, Rename]] = []
        while queue:
            public, name, inviter, at = queue.popleft()
            log = logs.get(public, [])
            joined = not inviter or (bool(log) and log[0].body == Joining(inviter))
            curve = _curve(public)
            if not joined or curve is None or public in self.members or len(self.members) >= MAX_MEMBERS:
                continue
            if inviter:
                self._parents[public] = inviter
            of_inviter = fingerprint(inviter) if inviter else ""
            member = self._judged(Member(fingerprint(public), public, curve, name, of_inviter, at), log)
            self.members[public] = member
            honoured = member.honoured(log)
            queue.extend(self._heed(public, honoured))
            renames += [(public, entry.body) for entry in honoured if isinstance(entry.body, Rename)]
        self._rename(renames)

    def _heed(self, public: bytes, honoured: list[Entry]) -> Iterator[tuple[bytes, str, bytes, int]]:
        """Note what a member has revoked; yield whom it has certified."""
        for entry in honoured:
            body = entry.body
            if isinstance(body, Certificate):
                self.certified.setdefault(body.device, set()).add(public)
                yield body.device, body.name, public, entry.at
            elif isinstance(body, Revocation):
                self._revocations.setdefault(body.device, []).append(entry)

    def _judged(self, member: Member, log: list[Entry]) -> Member:
        """Return a member as its revocations leave it: those of its inviters, then its own as far as they let it."""
        public = member.public
        by_others = [
            entry
            for entry in self._revocations.get(public, ())
            if entry.author == self.recovery or self.may_revoke(entry.author, public)
        ]
        judged = _strictest(member, by_others)
        own = [
            entry
            for entry in judged.honoured(log)
            if isinstance(entry.body, Revocation) and entry.body.device == public
        ]
        return _strictest(member, by_others + own)

    def _rename(self, renames: Iterable[tuple[bytes, Rename]]) -> None:
        """A device may rename itself and those it invited; a later entry of one author wins."""
        for author, body in renames:
            member = self.members.get(body.device)
            if member is not None and self.may_revoke(author, body.device):
                self.members[body.device] = replace(member, name=body.name)


def _strictest(member: Member, revocations: list[Entry]) -> Member:
    """Return a member as the strictest revokes it; between equals the author's key decides, everywhere alike."""
    found = min(
        (
            (entry.body.last, entry.author, entry.seq, entry.body)
            for entry in revocations
            if isinstance(entry.body, Revocation)
        ),
        key=lambda ranked: ranked[:3],
        default=None,
    )
    return member if found is None else replace(member, last=found[0], head=found[3].head, reason=found[3].reason)


@lru_cache(2 * MAX_MEMBERS)  # the fold asks for all of them each time
def _curve(public: bytes) -> bytes | None:
    try:
        return curve_key(public)
    except DeviceKeyError:
        return None  # a certificate for what is no key; nobody can be it
