"""Pairing: how two machines that share only a short code come to know each other's device keys.

SPAKE2 makes a strong key of the code; whoever does not know it, also somebody who sits between the two, learns nothing
and gets one guess per run. Both then show, under that key, their device key and a signature over all that was said, so
that the keys belong to this conversation and no other. Four messages:

    joiner -> inviter   1: version, nameplate, PAKE element
    inviter -> joiner   2: PAKE element, sealed (device key, mesh)
    joiner -> inviter   3: sealed (device key, name, its first entry in the mesh, signature over 1, 2 and the key)
    inviter -> joiner   4: sealed (signature over 1, 2, 3 and the key, entries)

A joiner that cannot open 2 breaks off; the inviter has counted the attempt before it said anything. These machines take
messages and return messages; they must never open a socket, and never certify anybody: whoever runs the `Inviter` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import msgpack

from zmesh.errors import PairingError, TrustError
from zmesh.protocol.address import is_name
from zmesh.trust.device import Device, fingerprint, verify
from zmesh.trust.entry import KEY_BYTES, Entry, Joining, read, sign
from zmesh.trust.invitation import MAX_NAMEPLATE, Secret
from zmesh.trust.refusal import Refusal

VERSION: Final = 1
MAX_MESSAGE: Final = 1 << 20  # bytes; the fourth holds the logs of all inviters, 2,048 entries of 300 bytes and more
MAX_ELEMENT: Final = 64  # bytes of a PAKE message; Ed25519 elements have 33
_INVITER: Final = b"zmesh inviter"
_JOINER: Final = b"zmesh joiner"
_DOMAIN: Final = b"zmesh pairing 1\0"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who proved to know the code, and is to be certified.

    Attributes:
        public: Its Ed25519 public key.
        name: What it calls itself.
        joining: The first entry of its log, by which it takes this device as its inviter.
    """

    public: bytes
    name: str
    joining: Entry = field(repr=False)

    @property
    def device(self) -> str:
        """Its device id, as both sides show it."""
        return fingerprint(self.public)


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a joiner gets.

    Attributes:
        inviter: Ed25519 public key of who certified it.
        mesh: Id of the mesh.
        entries: What leads from the founder to its own certificate, each log in order.
    """

    inviter: bytes
    mesh: bytes
    entries: tuple[Entry, ...] = field(repr=False)


class Joiner:
    """The side that types the code. `hello`, then `prove`, then `welcome`, each once."""

    def __init__(self, secret: Secret, device: Device, name: str, at: int) -> None:
        """Begin a run, at that wall clock time."""
        from spake2 import SPAKE2_A  # noqa: PLC0415 - 50 ms that only pairing needs

        self._device, self._name, self._at = device, name, at
        self._spake = SPAKE2_A(secret.password, idA=_JOINER, idB=_INVITER)
        self._nameplate = secret.nameplate
        self._said: list[bytes] = []
        self._key = self._inviter = self._mesh = b""

    def hello(self) -> bytes:
        """Return message 1."""
        return self._say(_pack(VERSION, self._nameplate, self._spake.start()))

    def prove(self, answer: bytes) -> bytes:
        """Take message 2, return message 3.

        Raises:
            Refusal: The other side does not know the code.
            PairingError: It is malformed.
        """
        element, sealed = _unpack(answer, bytes, bytes)
        self._key = _finish(self._spake, element)
        self._inviter, self._mesh = _unpack(_open(self._key, "introduction", sealed), bytes, bytes)
        if {len(self._inviter), len(self._mesh)} != {KEY_BYTES}:
            raise PairingError("the other side has no key, or is in no mesh")
        self._said.append(answer)
        joining = sign(self._device, self._mesh, None, Joining(self._inviter), self._at)
        signature = self._device.sign(_transcript("joiner", self._said, self._device.public))
        fields = (self._device.public, self._name, joining.payload, joining.signature, signature)
        return self._say(_seal(self._key, "joiner", _pack(*fields)))

    def welcome(self, answer: bytes) -> Welcome:
        """Take message 4.

        Raises:
            Refusal: Somebody has changed what was said.
            PairingError: What came is forged or malformed.
        """
        signature, rows = _unpack(_open(self._key, "inviter", answer), bytes, list)
        if not verify(self._inviter, _transcript("inviter", self._said, self._inviter), signature):
            raise PairingError("the other side could not prove that it owns the device key it showed")
        try:
            entries = tuple([read(payload, sealed) for payload, sealed in rows])
        except (TrustError, ValueError, TypeError) as error:
            raise PairingError(f"the other side sent a membership that cannot be believed: {error}") from error
        return Welcome(self._inviter, self._mesh, entries)

    def _say(self, message: bytes) -> bytes:
        self._said.append(message)
        return message


class Inviter:
    """The side that shows the code. `answer`, then `candidate`, then `accept`, each once."""

    def __init__(self, secret: Secret, device: Device, mesh: bytes) -> None:
        """Begin a run; the caller has counted the attempt on disk."""
        from spake2 import SPAKE2_B  # noqa: PLC0415 - see Joiner

        self._device, self._mesh = device, mesh
        self._spake = SPAKE2_B(secret.password, idA=_JOINER, idB=_INVITER)
        self._said: list[bytes] = []
        self._key = b""

    def answer(self, hello: bytes) -> bytes:
        """Take message 1, return message 2.

        Raises:
            PairingError: It is malformed.
        """
        _, _, element = _unpack(hello, int, str, bytes)
        start = self._spake.start()
        self._key = _finish(self._spake, element)
        mine = _pack(start, _seal(self._key, "introduction", _pack(self._device.public, self._mesh)))
        self._said += [hello, mine]
        return mine

    def candidate(self, proof: bytes) -> Candidate:
        """Take message 3, and say who is to be certified.

        Raises:
            Refusal: The code was wrong.
            PairingError: What came is forged or malformed.
        """
        plain = _open(self._key, "joiner", proof)
        public, name, payload, sealed, signature = _unpack(plain, bytes, str, bytes, bytes, bytes)
        if len(public) != KEY_BYTES or not is_name(name):
            raise PairingError("the other side calls itself by what is no name, or has no key")
        if not verify(public, _transcript("joiner", self._said, public), signature):
            raise PairingError("the other side could not prove that it owns the device key it showed")
        joining = read(payload, sealed)
        if (joining.author, joining.mesh, joining.body) != (public, self._mesh, Joining(self._device.public)):
            raise PairingError("the other side wants to join something else")
        self._said.append(proof)
        return Candidate(public, name, joining)

    def accept(self, entries: Sequence[Entry]) -> bytes:
        """Return message 4.

        Args:
            entries: What leads from the founder to the candidate's certificate.

        Raises:
            PairingError: They are too many.
        """
        signature = self._device.sign(_transcript("inviter", self._said, self._device.public))
        rows = [(entry.payload, entry.signature) for entry in entries]
        message = _seal(self._key, "inviter", _pack(signature, rows))
        if len(message) > MAX_MESSAGE:
            raise PairingError(
                "the membership does not fit into one message: invite from a member nearer to the founder"
            )
        return message


def nameplate_of(hello: bytes) -> str:
    """Return the nameplate that message 1 asks for.

    Raises:
        Refusal: It is of another version.
        PairingError: It is malformed.
    """
    version, nameplate, _ = _unpack(hello, int, str, bytes)
    if version != VERSION:
        raise Refusal("version")
    if len(nameplate) > MAX_NAMEPLATE:
        raise PairingError("the other side asks for what is no nameplate")
    return str(nameplate)


# --- what both do ---


def _finish(spake: Any, element: bytes) -> bytes:
    if len(element) > MAX_ELEMENT:
        raise PairingError("the other side does not speak SPAKE2")
    try:
        key: bytes = spake.finish(element)
    except Exception as error:  # the library raises several kinds, none with a base of its own
        raise PairingError("the other side does not speak SPAKE2") from error
    return key


def _transcript(role: str, said: list[bytes], public: bytes) -> bytes:
    hashed = blake2b(b"zmesh pairing 1 " + role.encode(), digest_size=KEY_BYTES)
    for message in (*said, public):
        hashed.update(len(message).to_bytes(4, "big") + message)
    return _DOMAIN + hashed.digest()


def _box(key: bytes, role: str) -> Any:
    from nacl.secret import SecretBox  # noqa: PLC0415 - only pairing needs it

    return SecretBox(blake2b(b"zmesh seal 1 " + role.encode(), key=key, digest_size=SecretBox.KEY_SIZE).digest())


def _seal(key: bytes, role: str, plain: bytes) -> bytes:
    return bytes(_box(key, role).encrypt(plain))


def _open(key: bytes, role: str, sealed: bytes) -> bytes:
    from nacl.exceptions import CryptoError  # noqa: PLC0415 - see _box

    if len(sealed) > MAX_MESSAGE:
        raise PairingError("the other side sent too much")
    try:
        return bytes(_box(key, role).decrypt(sealed))
    except (CryptoError, ValueError):
        raise Refusal("code") from None


def _pack(*fields: object) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


def _unpack(message: bytes, *kinds: type[Any]) -> list[Any]:
    try:
        fields = msgpack.unpackb(message, max_map_len=0, max_ext_len=0)
    except (ValueError, RecursionError) as error:
        raise PairingError(f"the other side sent what cannot be read: {error}") from None
    whole = isinstance(fields, list) and len(fields) == len(kinds)
    if not whole or any(type(field) is not kind for field, kind in zip(fields, kinds, strict=True)):
        raise PairingError("the other side sent what does not belong here")
    return list(fields)
