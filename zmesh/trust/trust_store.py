"""The membership logs of this device on disk, shared by all its peers, and the membership folded from them.

Entries are checked before they are kept, and what is kept stays as it is. A log is kept without gaps; what does not
follow waits at the sender's side until what lies between has come. This module must never keep two entries with one
number: of a log that forks, what came first stays and the other is refused, until a revocation says which one is meant.
"""

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from zmesh.errors import TrustError
from zmesh.trust.device import Device
from zmesh.trust.entry import NO_HASH, Body, Certificate, Entry, Revocation, read, sign, sign_genesis
from zmesh.trust.grants import Grants
from zmesh.trust.invitation import Secret
from zmesh.trust.invitations import Invitations
from zmesh.trust.ledger import MAX_ENTRIES, Changes, Known, Ledger, Verdict
from zmesh.trust.membership import MAX_MEMBERS, Member, Membership
from zmesh.trust.pairing import Candidate
from zmesh.trust.refusal import Refusal
from zmesh.trust.trust_file import TrustFile

RECOVERY_BYTES: Final = 16  # 128 bits, 16 words
MAX_WELCOME: Final = 1800  # entries that a joiner gets at once: in 1 MiB at 550 bytes each, the longest there are
MESH: Final = "mesh"
INVITER: Final = "inviter"


@dataclass(frozen=True, slots=True)
class Founding:
    """What the founder of a mesh must keep.

    Attributes:
        mesh: The mesh's id.
        recovery: 16 octets from which the recovery key follows, the only thing that can revoke the founder. They are
            kept nowhere but with the person who founds the mesh.
    """

    mesh: bytes
    recovery: bytes = field(repr=False)


class TrustStore:
    """The logs, and the membership folded from them; for one thread.

    Attributes:
        device: Own keys.
        path: The file.
        invitations: Those of this device.
        grants: What others may do here, as of the last `refresh` or change.
    """

    def __init__(self, path: Path, device: Device) -> None:
        """Open the file, making it with mode 0600 if it is not there.

        Raises:
            TrustError: It cannot be opened, is open to other users, or is damaged.
        """
        self.device, self.path = device, path
        self._file = TrustFile(path)
        self.invitations = Invitations(self._file)
        self.grants = Grants(self._file)
        self._version = -1
        self._ledger = Ledger(b"")
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return it open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def refresh(self) -> bool:
        """Read the file again if another process has changed it; one small query if not.

        Returns:
            True when it had changed.

        Raises:
            TrustError: The file is damaged.
        """
        version = self._file.version()
        if version == self._version:
            return False
        self._load()
        self._version = version
        return True

    def _load(self) -> None:
        """Read the file; signatures that were checked once are not checked again."""
        self.grants.load()
        mesh = self._file.rows("SELECT value FROM meta WHERE key = ?", (MESH,))
        rows = self._file.rows("SELECT payload, signature FROM entry ORDER BY author, seq")
        seen = self._ledger.seen()
        try:
            self._ledger = Ledger(mesh[0][0] if mesh else b"", [seen.get(row) or read(*row) for row in rows])
        except TrustError as error:
            raise TrustError(
                f"{self.path}, which holds who is trusted, is damaged: {error}. Restore it from a backup, or move it "
                "away and join the mesh again"
            ) from error

    # --- looking ---

    @property
    def membership(self) -> Membership:
        """Who is a member, as of the last `refresh` or change."""
        return self._ledger.membership

    @property
    def mesh(self) -> bytes:
        """Id of the mesh this device is in; empty when it is in none."""
        return self._ledger.mesh

    @property
    def inviter(self) -> tuple[str, int] | None:
        """Host and door's port where this device was invited; None when it has founded the mesh."""
        rows = self._file.rows("SELECT value FROM meta WHERE key = ?", (INVITER,))
        host, _, port = rows[0][0].rpartition(" ") if rows else ("", "", "")
        return (host, int(port)) if host else None

    def me(self) -> Member | None:
        """Return this device as the mesh knows it."""
        return self.membership.members.get(self.device.public)

    def log(self, public: bytes) -> list[Entry]:
        """Return what a device has signed, void entries too."""
        return list(self._ledger.logs.get(public, ()))

    def have(self) -> dict[bytes, int]:
        """Return how far each author's log is known."""
        return {author: count for author, (count, _) in self._ledger.heads().items()}

    def heads(self) -> dict[bytes, tuple[int, bytes]]:
        """Return how far each author's log is known, with the hash of its last entry, which shows a fork."""
        return self._ledger.heads()

    def beyond(self, known: Known) -> list[Entry]:
        """Return what somebody lacks who knows that much; see `Ledger.beyond`."""
        return self._ledger.beyond(known)

    def lineage(self, public: bytes) -> list[Entry]:
        """Return what proves that a device is a member; see `Ledger.lineage`."""
        return self._ledger.lineage(public)

    # --- inviting ---

    def invite(self, life: float, *, token: bool = False, held: bool = False) -> Secret:
        """Let one machine in that knows the secret which this returns, for `life` seconds; see `Invitations.open`.

        Raises:
            TrustError: This device is no member, so nobody would believe it, or too many invitations are open.
        """
        with self._write():
            self._check_membership()
            return self.invitations.open(life, token=token, held=held)

    def admit(self, secret: Secret, candidate: Candidate) -> list[Entry]:
        """Use an invitation up: certify who proved to know its secret.

        Returns:
            All entries; in a large mesh only what leads from the founder to the certificate.

        Raises:
            Refusal: Another machine was faster, the invitation is over, or this device can never be a member.
            TrustError: This device is no member any more.
        """
        with self._write():
            self._check_membership()
            self.invitations.use(secret, candidate.device)
            known = self.membership.members.get(candidate.public)
            if candidate.public == self.device.public:
                raise Refusal("self")
            if known is not None and known.revoked:
                raise Refusal("revoked")
            if known is None:  # else it only lacks what it has lost, and is called what it was
                self._certify(candidate)
        return (
            self._ledger.beyond({}, MAX_WELCOME) if len(self._ledger) <= MAX_WELCOME else self.lineage(candidate.public)
        )

    def _certify(self, candidate: Candidate) -> None:
        if self._ledger.logs.get(candidate.public):
            raise Refusal("stale")
        if self.membership.by_name(candidate.name):
            raise Refusal("name")
        if len(self.membership.members) >= MAX_MEMBERS:
            raise Refusal("full")
        self._say(Certificate(candidate.public, candidate.name))
        self._add([candidate.joining])

    # --- writing ---

    def found(self, name: str) -> Founding:
        """Found a mesh with this device as its only member.

        Raises:
            TrustError: It is in a mesh already.
        """
        octets = secrets.token_bytes(RECOVERY_BYTES)
        recovery = recovery_key(octets)
        genesis = sign_genesis(self.device, name, recovery.public, secrets.token_bytes(32), _now())
        with self._write():
            if self.mesh:
                raise TrustError("this device is in a mesh already: leave it first (zmesh trust leave)")
            self._enter(genesis.hash)
            self._add([genesis])
        return Founding(genesis.hash, octets)

    def say(self, body: Body) -> Entry:
        """Sign an entry with this device's key and keep it.

        Raises:
            TrustError: This device is in no mesh or no member of it any more, or nobody would heed the entry.
        """
        with self._write():
            return self._say(body)

    def _say(self, body: Body) -> Entry:
        self._check_membership()
        if not isinstance(body, Certificate):
            device = getattr(body, "device", b"")
            if not self.membership.may_revoke(self.device.public, device) or device not in self.membership.members:
                raise TrustError("this device can revoke and rename itself and those it invited, directly or not")
        log = self._ledger.logs.get(self.device.public, [])
        entry = sign(self.device, self.mesh, log[-1] if log else None, body, _now())
        self._add([entry])
        return entry

    def _check_membership(self) -> None:
        me = self.me()
        if me is None:
            raise TrustError("this device is in no mesh yet: found one with `zmesh invite`, or join one")
        if me.revoked:
            raise TrustError(
                f"this device was revoked ({me.reason or 'no reason given'}), which is for good: to begin anew, move "
                "device.key out of its ZMESH_HOME, then `zmesh join --leave CODE`"
            )

    def revocation(self, public: bytes, last: int | None = None, reason: str = "") -> Revocation:
        """Return what revokes a device, honouring its entries up to `last`: all that are known if that is None.

        Raises:
            TrustError: It has fewer entries.
        """
        log = self._ledger.logs.get(public, [])
        last = len(log) if last is None else last
        if not 0 <= last <= len(log):
            raise TrustError(f"that device has signed {len(log)} entries, as far as is known here: not {last}")
        return Revocation(public, last, log[last - 1].hash if last else NO_HASH, reason)

    def recover(self, octets: bytes, revocation: Revocation) -> None:
        """Revoke the founder, with the recovery phrase shown when the mesh was founded.

        Args:
            octets: What the words of the phrase stand for.
            revocation: Of the founder.

        Raises:
            TrustError: It is not the phrase of this mesh, or not of its founder.
        """
        key = recovery_key(octets)
        with self._write():
            founder = next(iter(self.membership.members), b"")
            if not founder or key.public != self.membership.recovery:
                raise TrustError("these are not the words of this mesh's recovery phrase")
            if revocation.device != founder:
                raise TrustError("the recovery phrase revokes the founder of the mesh, and nobody else")
            log = self._ledger.logs.get(key.public, [])
            self._add([sign(key, self.mesh, log[-1] if log else None, revocation, _now())])

    def join(
        self, mesh: bytes, entries: Iterable[Entry], *, leave: bool = False, inviter: tuple[str, int] | None = None
    ) -> None:
        """Take over the logs of a mesh that has just certified this device.

        Args:
            mesh: Its id.
            entries: What proves that this device is a member.
            inviter: Host and port of the door at which that was done, to be found again there.
            leave: Leave the mesh it is in, if it is in one; when joining fails, nothing was left.

        Raises:
            TrustError: This device is in a mesh, or the entries do not make it a member.
        """
        with self._write():
            if self.mesh and not leave:
                raise TrustError("this device is in a mesh already: leave it first (--leave)")
            self._forget()
            self._enter(mesh)
            changes = self._keep(list(entries))
            if not self.membership.is_member(self.device.public):
                why = changes.trouble or "something is missing"
                raise TrustError(f"what the other side sent does not make this device a member: {why}")
            if inviter is not None:
                self._file.change("REPLACE INTO meta VALUES (?, ?)", (INVITER, f"{inviter[0]} {inviter[1]}"))

    def take(self, entries: Iterable[tuple[bytes, bytes]]) -> int:
        """Keep what others have signed, as far as it is of this mesh, follows what is there, and is signed.

        Args:
            entries: Payload and signature of each, in any order.

        Returns:
            How much has changed; while it is not 0, the other side may have more.

        Raises:
            TrustError: One of them is malformed, forged, forks a log, or is of no member; all others were kept.
        """
        self.refresh()
        checked = Changes()
        seen = self._ledger.seen()
        fresh: list[Entry] = []
        for row in entries:
            try:
                fresh += [] if row in seen else [read(*row)]
            except TrustError as error:
                checked.object_to(error)
        # Strangers may show us anything: only what changes something is worth a transaction.
        if any(self._ledger.judge(entry) in (Verdict.PUT, Verdict.FORK, Verdict.FULL) for entry in fresh):
            with self._write():
                changes = self._keep(fresh)
        else:
            changes = self._ledger.take(fresh, self.device.public)
        trouble = checked.trouble or changes.trouble
        if trouble is not None:
            raise trouble
        return changes.added

    def leave(self) -> None:
        """Forget the mesh, its members, all invitations, grants and limits; the device key stays."""
        with self._write():
            self._forget()

    # --- within a change ---

    def _keep(self, entries: list[Entry]) -> Changes:
        """Take entries into the ledger and the file."""
        if len(self._ledger) + len(entries) > MAX_ENTRIES:
            self._make_room()
        changes = self._ledger.take(entries, self.device.public)
        for step in changes.steps:
            if isinstance(step, bytes):
                self._file.change("DELETE FROM entry WHERE author = ?", (step,))
            else:
                self._insert(step)
        return changes

    def _add(self, entries: list[Entry]) -> None:
        """Take entries of which none may be refused."""
        changes = self._keep(entries)
        if changes.added != len(entries):
            raise changes.trouble or TrustError("the membership logs have no room for that")

    def _insert(self, entry: Entry) -> None:
        row = (entry.author, entry.seq, entry.payload, entry.signature)
        self._file.change("INSERT INTO entry VALUES (?, ?, ?, ?)", row)

    def _make_room(self) -> None:
        for author, keep in self._ledger.void().items():
            self._file.change("DELETE FROM entry WHERE author = ? AND seq > ?", (author, keep))
        self._load()

    def _enter(self, mesh: bytes) -> None:
        self._file.change("REPLACE INTO meta VALUES (?, ?)", (MESH, mesh))
        self._ledger = Ledger(mesh)

    def _forget(self) -> None:
        self._file.change("DELETE FROM entry")
        self._file.change("DELETE FROM meta WHERE key IN (?, ?)", (MESH, INVITER))
        self.invitations.forget()
        if self.mesh:  # what was set before joining the first one is meant for it
            self.grants.forget()
        self._ledger = Ledger(b"")

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        """Change the file, alone: what other processes have written is read first."""
        try:
            with self._file.write():
                self.refresh()
                yield
        except BaseException:
            self._load()  # whatever was changed in memory is undone too
            raise


def recovery_key(octets: bytes) -> Device:
    """Return the recovery key that belongs to the 16 octets of a recovery phrase."""
    return Device.from_seed(blake2b(b"zmesh recovery" + octets, digest_size=32).digest())


def _now() -> int:
    return int(time.time())
