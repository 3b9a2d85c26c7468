"""Entries of the membership logs: who was certified, joined, was revoked or renamed, signed by the device that says so.

Each device has one log: its entries are numbered from 1 and each names the hash of the one before. An entry is read
only together with its signature; this module must never return one whose signature does not hold, nor say what an entry
is worth: `membership` does.

The bytes that are signed are canonical msgpack, and are kept and passed on as they are, never packed again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgpack

from zmesh.errors import TrustError
from zmesh.protocol.address import is_name
from zmesh.protocol.bounds import MAX_TEXT
from zmesh.trust.device import Device, fingerprint, verify

VERSION: Final = 1
KEY_BYTES: Final = 32  # Ed25519 public keys, and BLAKE2b-256 hashes
SIGNATURE_BYTES: Final = 64
MAX_PAYLOAD: Final = 1024  # bytes; the longest entry, a revocation with its reason, has about 420
MAX_SEQ: Final = 2048  # entries of one device: a founder certifies 1,024 members, and revokes or renames each once
MAX_KIND: Final = 127  # kinds that a later version may add
NO_HASH: Final = bytes(KEY_BYTES)
_END_OF_TIME: Final = 253_402_300_800  # the year 10000, which no calendar function shows
_DOMAIN: Final = b"zmesh membership 1\0"


@dataclass(frozen=True, slots=True)
class Genesis:
    """The founding of a mesh; always the first entry of its founder.

    Attributes:
        name: The founder's name for itself.
        recovery: Public half of the recovery key, which alone can revoke the founder.
        nonce: Random bytes, so that a founder who begins anew founds another mesh.
    """

    name: str
    recovery: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Joining:
    """The author joins the mesh; always the first entry of a device that did not found it.

    A certificate counts only if the device it names has signed this, so that nobody becomes the inviter of another's
    device, and thereby the one who may revoke it, by certifying it once more.

    Attributes:
        inviter: Ed25519 public key of the one device whose certificate it joins by.
    """

    inviter: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """A device may join, and is a member once it does.

    Attributes:
        device: Its Ed25519 public key.
        name: What it is called.
    """

    device: bytes
    name: str


@dataclass(frozen=True, slots=True)
class Revocation:
    """A device is no member any more.

    Attributes:
        device: Its Ed25519 public key.
        last: The last entry of its log that is honoured; 0 for none.
        head: The hash of that entry, so that no other with the same number takes its place; `NO_HASH` for none.
        reason: Why, for people.
    """

    device: bytes
    last: int
    head: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Rename:
    """A member is called differently from now on."""

    device: bytes
    name: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """What a later version of zmesh says: kept and passed on, so that what follows it in the log is not lost."""

    kind: int


Body = Genesis | Joining | Certificate | Revocation | Rename | Unknown


@dataclass(frozen=True, slots=True)
class Entry:
    """One signed entry.

    Attributes:
        mesh: Id of the mesh: the hash of its genesis.
        author: Ed25519 public key of the device that signed.
        seq: Its number in the author's log, from 1.
        prev: Hash of the entry before, `NO_HASH` for the first.
        at: The author's wall clock, seconds since 1970; for people only, nothing depends on it.
        body: What it says.
        payload: The signed bytes.
        signature: Over them.
    """

    mesh: bytes
    author: bytes
    seq: int
    prev: bytes
    at: int
    body: Body
    payload: bytes
    signature: bytes

    @property
    def hash(self) -> bytes:
        """Its hash, which the next entry of the author names."""
        return digest(self.payload)

    @property
    def device(self) -> str:
        """The author's device id."""
        return fingerprint(self.author)


def digest(payload: bytes) -> bytes:
    """Return the hash of an entry's signed bytes."""
    return blake2b(_DOMAIN + payload, digest_size=KEY_BYTES).digest()


# --- writing ---


def sign_genesis(device: Device, name: str, recovery: bytes, nonce: bytes, at: int) -> Entry:
    """Found a mesh; its id is the hash of what is returned."""
    return _sign(device, NO_HASH, 1, NO_HASH, at=at, body=Genesis(name, recovery, nonce))


def sign(device: Device, mesh: bytes, before: Entry | None, body: Body, at: int) -> Entry:
    """Sign the next entry of a device's log.

    Args:
        device: The author.
        mesh: Id of the mesh.
        before: The author's last entry, None when this is its first.
        body: What to say.
        at: Wall clock, seconds since 1970.
    """
    seq, prev = (before.seq + 1, before.hash) if before is not None else (1, NO_HASH)
    return _sign(device, mesh, seq, prev, at=at, body=body)


def _sign(device: Device, mesh: bytes, seq: int, prev: bytes, *, at: int, body: Body) -> Entry:
    kind = next(number for number, (cls, _) in _KINDS.items() if cls is type(body))
    fields = [getattr(body, name) for name in type(body).__slots__]
    payload: bytes = msgpack.packb([VERSION, mesh, device.public, seq, prev, at, kind, fields])
    return read(payload, device.sign(_DOMAIN + payload))  # what others could not read must never be kept


# --- reading ---


def read(payload: object, signature: object) -> Entry:
    """Check and read an entry.

    Raises:
        TrustError: It is malformed, of a newer version, or its signature does not hold.
    """
    if not isinstance(payload, bytes) or not isinstance(signature, bytes):
        raise TrustError("a membership entry, or its signature, is not bytes")
    if len(payload) > MAX_PAYLOAD or len(signature) != SIGNATURE_BYTES:
        raise TrustError(f"a membership entry of {len(payload)} bytes with a signature of {len(signature)}")
    try:
        mesh, author, seq, prev, at, kind, fields = _fields(payload)
    except (ValueError, TypeError, RecursionError) as error:
        raise TrustError(f"a membership entry cannot be read: {error}") from None
    for what in (mesh, author, prev):
        if not isinstance(what, bytes) or len(what) != KEY_BYTES:
            raise TrustError("a membership entry has a key or hash of the wrong length")
    _check_numbers(seq, at, kind)
    if (prev == NO_HASH) != (seq == 1):
        raise TrustError("a membership entry has lost the one before it")
    body = _body(kind, fields)
    if isinstance(body, Genesis) != (mesh == NO_HASH) or (isinstance(body, Genesis | Joining) and seq != 1):
        raise TrustError("a membership entry is of no mesh, or founds or joins one where it must not")
    if not verify(author, _DOMAIN + payload, signature):
        raise TrustError(f"a membership entry that names {fingerprint(author)} was not signed by it")
    return Entry(digest(payload) if mesh == NO_HASH else mesh, author, seq, prev, at, body, payload, signature)


def _check_numbers(seq: object, at: object, kind: object) -> None:
    if type(seq) is not int or type(at) is not int or type(kind) is not int:
        raise TrustError("a membership entry has something else in place of a number")
    if seq > MAX_SEQ:
        raise TrustError(f"a device signs at most {MAX_SEQ} membership entries: let it begin anew with a new key")
    if seq < 1 or not 0 <= at < _END_OF_TIME or not 0 <= kind <= MAX_KIND:
        raise TrustError("a membership entry has a number out of bounds")


def _body(kind: int, fields: object) -> Body:
    if not isinstance(fields, list):
        raise TrustError("a membership entry has no fields")
    known = _KINDS.get(kind)
    return Unknown(kind) if known is None else known[1](fields)


def _fields(payload: bytes) -> list[Any]:
    fields = msgpack.unpackb(payload, max_array_len=16, max_map_len=0, max_ext_len=0)
    if not isinstance(fields, list) or len(fields) != 8:  # noqa: PLR2004 - as `_sign` packs them
        raise ValueError("it has not eight fields")
    if fields[0] != VERSION:
        raise ValueError(f"it is not of version {VERSION}, which this zmesh reads: upgrade zmesh on this machine")
    if msgpack.packb(fields) != payload:
        raise ValueError("it is not in its canonical form")
    return fields[1:]


def _key(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != KEY_BYTES:
        raise TrustError("a membership entry names a key of the wrong length")
    return value


def _name(value: object) -> str:
    if not is_name(value):
        raise TrustError("a membership entry has a name that is none")
    return str(value)


def _reason(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value.encode()) > MAX_TEXT:
        raise TrustError(f"the reason of a revocation is one line of at most {MAX_TEXT} bytes that can be shown")
    return value


def _last(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SEQ:
        raise TrustError("a revocation honours entries out of bounds")
    return value


def _revocation(device: bytes, last: int, head: bytes, reason: str) -> Revocation:
    if (last == 0) != (head == NO_HASH):
        raise TrustError("a revocation does not name the last entry that it honours")
    return Revocation(device, last, head, reason)


def _reader(cls: Callable[..., Body], *fields: Callable[[object], Any]) -> Callable[[list[Any]], Body]:
    def read_body(values: list[Any]) -> Body:
        if len(values) != len(fields):
            raise TrustError(f"a membership entry has {len(values)} fields, not {len(fields)}")
        return cls(*(field(value) for field, value in zip(fields, values, strict=True)))

    return read_body


_KINDS: Final[dict[int, tuple[type[Body], Callable[[list[Any]], Body]]]] = {
    0: (Genesis, _reader(Genesis, _name, _key, _key)),
    1: (Certificate, _reader(Certificate, _key, _name)),
    2: (Revocation, _reader(_revocation, _key, _last, _key, _reason)),
    3: (Rename, _reader(Rename, _key, _name)),
    4: (Joining, _reader(Joining, _key)),
}
