"""A signed address record: what a device says of where one of its stores can be dialled, whoever passes it on.

A record proves who said it, not that it is true nor that anybody is there: it is a hint like every sighting, which no
third party can make up. This module must never return a record whose signature was not checked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any, Final

import msgpack

from zmesh.discovery.interfaces import far
from zmesh.discovery.sighting import Endpoint, Sighting, parse_endpoint
from zmesh.protocol.bounds import MAX_ENDPOINTS
from zmesh.trust.device import Device, fingerprint, verify

MAX_RECORD: Final = 2560  # bytes: 16 endpoints of 60, a name, keys, a signature; a door takes 4 KiB in one frame
MAX_VERSION: Final = 1 << 53  # milliseconds; beyond it is nonsense
_DOMAIN: Final = b"zmesh address 1 "
_FORMAT: Final = 1
_FIELDS: Final = 8
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class AddressRecord:
    """One record.

    Attributes:
        mesh: Id of the mesh it is meant for.
        public: Ed25519 key of the device that signed it.
        version: Later ones of one store have higher versions; milliseconds of the signer's own clock.
        sighting: What it says.
        payload: As it was signed.
        signature: Of the payload.
    """

    mesh: bytes
    public: bytes
    version: int
    sighting: Sighting
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def sign_record(device: Device, mesh: bytes, own: Sighting, version: int) -> AddressRecord:
    """Sign where an own store can be dialled; this host's loopback is named only if there is nothing else."""
    fields = [_FORMAT, mesh, device.public, version, own.store, own.name, list(far(own.endpoints)), own.door]
    payload: bytes = msgpack.packb(fields)
    return read_record(payload, device.sign(_DOMAIN + payload))


def read_record(payload: bytes, signature: bytes) -> AddressRecord:
    """Read a record.

    Raises:
        ValueError: It is malformed, or not signed by the device it names.
    """
    if len(payload) + len(signature) > MAX_RECORD or len(signature) != _SIGNATURE_BYTES:
        raise ValueError("an address record of the wrong length")
    try:
        fields = msgpack.unpackb(payload, max_map_len=0, max_ext_len=0)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"an address record cannot be read: {error}") from None
    mesh, public, version, sighting = _checked(fields)
    if not verify(public, _DOMAIN + payload, signature):
        raise ValueError("an address record that its device has not signed")
    return AddressRecord(mesh, public, version, sighting, payload, signature)


def _checked(fields: Any) -> tuple[bytes, bytes, int, Sighting]:
    if not isinstance(fields, list) or len(fields) < _FIELDS or fields[0] != _FORMAT:
        raise ValueError("an address record of a form that is not known here")
    _, mesh, public, version, store, name, endpoints, door = fields[:_FIELDS]
    keys = all(isinstance(key, bytes) and len(key) == _KEY_BYTES for key in (mesh, public))
    # What is nested must not get as far as an error that quotes it: its repr can exhaust the stack.
    plain = isinstance(name, str) and isinstance(endpoints, list) and all(isinstance(each, str) for each in endpoints)
    if not keys or not plain or type(version) is not int or not 0 < version < MAX_VERSION:
        raise ValueError("an address record whose fields are not what they should be")
    return mesh, public, version, Sighting(store, name, fingerprint(public), tuple(endpoints), "exchange", door)


def pack_records(records: Iterable[AddressRecord], most: int) -> Iterator[bytes]:
    """Write records as they travel, as many messages of at most `most` bytes as it takes."""
    rows: list[tuple[bytes, bytes]] = []
    size = 0
    for record in records:
        long = len(record.payload) + len(record.signature) + 8
        if rows and size + long > most - 8:
            yield msgpack.packb(rows)
            rows, size = [], 0
        rows.append((record.payload, record.signature))
        size += long
    if rows:
        yield msgpack.packb(rows)


def unpack_records(message: bytes, most: int) -> Iterator[AddressRecord]:
    """Read what `pack_records` wrote, by anybody.

    Args:
        message: One message.
        most: Records that are looked at.

    Raises:
        ValueError: It is malformed, or holds a record that is; what came before was yielded.
    """
    try:
        rows = msgpack.unpackb(message, max_map_len=0, max_ext_len=0)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"address records cannot be read: {error}") from None
    if not isinstance(rows, list) or len(rows) > most:
        raise ValueError(f"address records are a list of at most {most}")
    for row in rows:
        if not isinstance(row, list) or [type(part) for part in row] != [bytes, bytes]:
            raise ValueError("an address record is two strings of bytes")
        yield read_record(*row)


def dialled(sighting: Sighting, host: str, port: int) -> Sighting:
    """Return the sighting with an address first at which its peer was just reached.

    Args:
        sighting: As the peer says.
        host: The address that answered, numeric.
        port: The port of the peer there; 0 for that of its first endpoint.
    """
    try:
        ip = ip_address(host.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip  # a socket of both families writes IPv4 addresses so
        first = str(parse_endpoint(str(Endpoint(ip, port or parse_endpoint(sighting.endpoints[0]).port))))
    except ValueError:  # link-local: of no use without the interface; or not numeric
        return sighting
    return replace(sighting, endpoints=tuple(dict.fromkeys((first, *sighting.endpoints)))[:MAX_ENDPOINTS])
