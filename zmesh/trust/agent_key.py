"""The key of an agent, and the certificate by which its device vouches for it.

An agent has one Ed25519 key per store it lives on. The key follows from the device's: nothing is kept, the same agent
always has the same one, and a store that takes a new id (a copy) has new ones, so that two stores never sign as one
author. This module must never sign with one key for two purposes without a domain that tells them apart, nor accept a
certificate that was made for something else.

The bytes that are signed are canonical msgpack, and are passed on as they are.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import msgpack

from zmesh.errors import TrustError
from zmesh.protocol.address import is_name
from zmesh.protocol.bounds import ID_BYTES, MAX_NAME
from zmesh.trust.device import SEED_BYTES, Device, fingerprint, verify
from zmesh.trust.entry import KEY_BYTES, SIGNATURE_BYTES

VERSION: Final = 1
MAX_CERTIFICATE: Final = 256  # bytes; with the longest name one has 219
_KEY_DOMAIN: Final = b"zmesh agent key 1\0"
_DOMAIN: Final = b"zmesh agent certificate 1\0"
_FIELDS: Final = 6


@dataclass(frozen=True, slots=True)
class AgentKey:
    """The key of an agent on one store.

    Attributes:
        store: Id of the store, 16 bytes.
        name: The agent's mailbox.
        public: Ed25519 public key, 32 bytes.
        seed: Ed25519 signing seed, 32 bytes.
    """

    store: bytes
    name: str
    public: bytes
    seed: bytes = field(repr=False)

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte detached Ed25519 signature of `data`."""
        from nacl.signing import SigningKey  # noqa: PLC0415 - see Device.from_seed

        return SigningKey(self.seed).sign(data).signature


@dataclass(frozen=True, slots=True)
class AgentCertificate:
    """What a device says of an agent: this key is its own, on this store, in this mesh.

    Attributes:
        mesh: Id of the mesh, 32 bytes; empty when the device was in none.
        store: Id of the store, 16 bytes.
        name: The agent's mailbox.
        public: The agent's Ed25519 public key, 32 bytes.
        packed: The certificate as it is passed on, its signature included.
    """

    mesh: bytes
    store: bytes
    name: str
    public: bytes
    packed: bytes


def derive_key(device: Device, store: bytes, name: str) -> AgentKey:
    """Return the key of an agent.

    Args:
        device: Its device.
        store: Id of its store.
        name: Its mailbox, in canonical form.

    Raises:
        TrustError: The store's id or the name is none.
    """
    from nacl.signing import SigningKey  # noqa: PLC0415 - see Device.from_seed

    _check(b"", store, name, bytes(KEY_BYTES))
    # The domain and the store have fixed lengths: no two agents hash the same bytes.
    seed = blake2b(_KEY_DOMAIN + store + name.encode(), key=device.seed, digest_size=SEED_BYTES).digest()
    return AgentKey(store, name, bytes(SigningKey(seed).verify_key), seed)


def certify(device: Device, mesh: bytes, key: AgentKey) -> AgentCertificate:
    """Vouch for an agent of this device.

    Args:
        device: Who signs.
        mesh: Id of its mesh; empty when it is in none.
        key: The agent's.

    Raises:
        TrustError: The mesh's id is none.
    """
    _check(mesh, key.store, key.name, key.public)
    said = [VERSION, mesh, key.store, key.name, key.public]
    packed: bytes = msgpack.packb([*said, device.sign(_signed(said))])
    return AgentCertificate(mesh, key.store, key.name, key.public, packed)


def verify_certificate(data: object, device: bytes, *, mesh: bytes, store: bytes, name: str) -> AgentCertificate:
    """Check the certificate of an agent, as it came from anybody.

    Args:
        data: The certificate, as `AgentCertificate.packed`.
        device: Ed25519 public key of the device that the agent is said to live on. Whether that is a member, and has
            the store, is for the caller to know.
        mesh: Id of the mesh that it must be for.
        store: Id of the store that it must be for.
        name: The agent that it must be for.

    Returns:
        The certificate; its `public` is the key of that agent.

    Raises:
        TrustError: It is malformed, was not signed by that device, or is for something else.
    """
    if not isinstance(data, bytes) or len(data) > MAX_CERTIFICATE:
        raise TrustError(f"the certificate of an agent is at most {MAX_CERTIFICATE} bytes")
    try:
        *said, signature = _fields(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise TrustError(f"the certificate of an agent cannot be read: {error}") from None
    _, found_mesh, found_store, found_name, public = said
    _check(found_mesh, found_store, found_name, public)
    if not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
        raise TrustError("the certificate of an agent has no signature")
    if not verify(device, _signed(said), signature):
        raise TrustError(f"the certificate of agent {found_name!r} was not signed by device {fingerprint(device)}")
    for what, found, wanted in (("mesh", found_mesh, mesh), ("store", found_store, store), ("agent", found_name, name)):
        if found != wanted:
            raise TrustError(f"the certificate of agent {found_name!r} is for another {what}")
    return AgentCertificate(found_mesh, found_store, found_name, public, data)


def _signed(said: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(said)
    return _DOMAIN + packed


def _fields(data: bytes) -> list[Any]:
    fields = msgpack.unpackb(data, max_array_len=_FIELDS, max_map_len=0, max_ext_len=0)
    if not isinstance(fields, list) or len(fields) != _FIELDS:
        raise ValueError(f"it has not {_FIELDS} fields")
    if fields[0] != VERSION or type(fields[0]) is not int:
        raise ValueError(f"it is not of version {VERSION}, which this zmesh reads: upgrade zmesh on this machine")
    if msgpack.packb(fields) != data:
        raise ValueError("it is not in its canonical form")
    return fields


def _check(mesh: object, store: object, name: object, public: object) -> None:
    if not isinstance(mesh, bytes) or len(mesh) not in (0, KEY_BYTES):
        raise TrustError(f"the id of a mesh has {KEY_BYTES} bytes")
    if not isinstance(store, bytes) or len(store) != ID_BYTES:
        raise TrustError(f"the id of a store has {ID_BYTES} bytes")
    if not is_name(name):
        raise TrustError(f"the name of an agent has 1 to {MAX_NAME} small letters, digits, '.', '_' or '-'")
    if not isinstance(public, bytes) or len(public) != KEY_BYTES:
        raise TrustError(f"the public key of an agent has {KEY_BYTES} bytes")
