"""A sighting: somebody says that a store can be dialled at some addresses. What is said is checked here and only here.

A sighting is a hint. It must never be taken as proof of who is there (the CURVE handshake proves that) or that anybody
is there at all. Nothing that fails the checks may get past this module, whatever source it came from.
"""

import re
from base64 import b32decode
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, Protocol

from zmesh.protocol.address import is_name, store_text
from zmesh.protocol.bounds import ID_BYTES, MAX_DEVICE, MAX_ENDPOINT, MAX_ENDPOINTS
from zmesh.protocol.ownership import owns

__all__ = ["Endpoint", "Sighting", "Source", "parse_endpoint", "store_id", "store_text"]

MAX_PORT: Final = 65_535  # 16 bits, RFC 9293
_ENDPOINT: Final = re.compile(r"tcp://(?:\[([0-9a-fA-F:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})\Z")
_DEVICE: Final = re.compile(r"[a-z2-7]{16,}\Z")
_STORE: Final = re.compile(r"[a-z2-7]{26}\Z")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that can be dialled.

    Attributes:
        ip: A unicast address of one machine.
        port: TCP port, 1 to 65,535.
    """

    ip: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        """Write it as ZeroMQ wants it, in the one canonical form."""
        host = f"[{self.ip}]" if self.ip.version == 6 else str(self.ip)  # noqa: PLR2004 - the version
        return f"tcp://{host}:{self.port}"


def parse_endpoint(text: object) -> Endpoint:
    """Read `tcp://IP:PORT` with a numeric IP (IPv6 in brackets).

    Names are refused because libzmq would resolve them on the one thread that moves all frames. IPv6 link-local
    addresses are refused because they mean nothing without the interface.

    Raises:
        ValueError: The text is not such an endpoint.
    """
    match = _ENDPOINT.match(text) if isinstance(text, str) and len(text) <= MAX_ENDPOINT else None
    if match is None:
        raise ValueError(f"{text!r:.200} is not an endpoint: write tcp://IP:PORT, an IPv6 address in brackets")
    ip = ip_address(match[1] or match[2])
    port = int(match[3])
    if (match[1] is None) != isinstance(ip, IPv4Address):
        raise ValueError(f"{text!r}: only an IPv6 address stands in brackets")
    if not 1 <= port <= MAX_PORT:
        raise ValueError(f"{text!r}: a port is 1 to {MAX_PORT}")
    if not _dialable(ip):
        raise ValueError(f"{text!r}: {ip} is not the address of one machine")
    return Endpoint(ip, port)


def _dialable(ip: IPv4Address | IPv6Address) -> bool:
    if ip.is_unspecified or ip.is_multicast:
        return False
    if isinstance(ip, IPv4Address):
        return not ip.is_reserved  # 240.0.0.0/4, in it the broadcast address
    return not ip.is_link_local and ip.ipv4_mapped is None and ip.scope_id is None


def store_id(text: object) -> bytes:
    """Read a store id (16 bytes) from its 26 characters of lower-case base32.

    Raises:
        ValueError: The text is not a store id in its canonical form.
    """
    if not isinstance(text, str) or not _STORE.match(text):
        raise ValueError(f"{text!r:.80} is not a store id")
    store = b32decode(text.upper() + "======")
    if store_text(store) != text:
        raise ValueError(f"{text!r} is not a store id in its canonical form")
    return store


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a store is said to be.

    Attributes:
        store: The store's id, 16 bytes.
        name: The peer's name.
        device: The id of the device it runs on, which is the one it was made on.
        endpoints: 1 to 16 endpoints to dial, the likeliest first, in canonical form without repetition.
        source: Which source says so: "mdns", "rendezvous", ...
        door: Port of its door (see `zmesh.trust.door`); 0 when it has none, or none is known.

    Raises:
        ValueError: Something in it breaks a rule; the text names it.
    """

    store: bytes
    name: str
    device: str
    endpoints: tuple[str, ...]
    source: str
    door: int = 0

    def __post_init__(self) -> None:
        """Check every field, because whoever can reach this host can have written them."""
        store: Any = self.store  # what comes from a file or a network need not have the declared types
        device: Any = self.device
        endpoints: Any = self.endpoints
        if not isinstance(store, bytes) or len(store) != ID_BYTES:
            raise ValueError(f"a store id has {ID_BYTES} bytes")
        if not is_name(self.name):
            raise ValueError(f"{self.name!r:.80} is not a peer name")
        if not isinstance(device, str) or len(device) > MAX_DEVICE or not _DEVICE.match(device):
            raise ValueError(f"{device!r:.80} is not a device id")
        if not owns(device, store):
            raise ValueError(f"the store {store_text(store)} does not belong to the device {device}")
        if not isinstance(endpoints, tuple) or not 1 <= len(endpoints) <= MAX_ENDPOINTS:
            raise ValueError(f"a sighting has 1 to {MAX_ENDPOINTS} endpoints")
        door: Any = self.door
        if type(door) is not int or not 0 <= door <= MAX_PORT:
            raise ValueError(f"a door's port is 1 to {MAX_PORT}, or 0 for none")
        canonical = tuple(dict.fromkeys(str(parse_endpoint(endpoint)) for endpoint in endpoints))
        object.__setattr__(self, "endpoints", canonical)


class Source(Protocol):
    """One way of being found and of finding others. Failing to start is a `trouble`, never an exception."""

    @property
    def trouble(self) -> str | None:
        """What keeps the source from working and what to do about it, or None."""

    async def start(self, own: Sighting, found: Callable[[Sighting], None]) -> None:
        """Announce `own` and report others by `found`, from the running loop, until stopped."""

    async def stop(self) -> None:
        """Withdraw the announcement and stop; may be called at any time, and twice."""

    async def update(self, own: Sighting) -> None:
        """Announce `own` instead of what was announced so far."""
