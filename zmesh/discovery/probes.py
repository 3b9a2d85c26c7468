"""Single probes of the network: one connection, one multicast that is to be heard again, the interfaces as they are.

A probe reports what it saw. This module must never conclude anything, raise for what the network does, or wait longer
than its bounds.
"""

import asyncio
import contextlib
import errno
import secrets
import socket
import struct
import sys
from dataclasses import replace
from ipaddress import ip_address
from typing import Final

from zmesh.discovery.observation import Interface, Reach, read_errno

DIAL: Final = 3.5  # seconds: the kernel gives up on a neighbour that does not answer after 3
RESOLVE: Final = 3.0  # seconds for a host name
HEAR: Final = 0.5  # seconds until a multicast of our own is back; it takes a millisecond
ECHO: Final = 0.5  # seconds for a ping on a local network, twice
TRIES: Final = 2
MAX_INTERFACES: Final = 16  # addresses that are tried
GROUP: Final = "224.0.0.251"  # multicast DNS, RFC 6762
PORT: Final = 5353
_FLAGS: Final = 0x8913  # SIOCGIFFLAGS
_UP, _LOOPBACK, _RUNNING, _MULTICAST = 0x1, 0x8, 0x40, 0x1000
_OUTSIDE: Final = ("192.0.2.1", 9)  # documentation address: a UDP connect sends nothing


async def dial(host: str, port: int) -> Reach:
    """Connect to a numeric address, and hang up."""
    try:
        async with asyncio.timeout(DIAL):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Reach.SILENT
    except OSError as error:
        return read_errno(error.errno, sys.platform)
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(0.5):
            await writer.wait_closed()
    return Reach.REACHED


async def resolve(host: str) -> list[str]:
    """Return the numeric addresses of a host name, or none."""
    with contextlib.suppress(ValueError):
        return [str(ip_address(host))]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def echoes(host: str) -> bool:
    """Say whether a numeric IPv4 address answers a ping; False where this user may not send one."""
    if ":" in host:
        return False
    token = secrets.token_bytes(16)
    try:
        with _pinging() as ping:
            ping.connect((host, 0))
            for number in range(TRIES):
                ping.send(_echo(token, number))
                if await _comes(ping, token, ECHO):
                    return True
    except OSError:
        return False
    return False


def _pinging() -> socket.socket:
    try:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    except OSError:  # Linux lets only some groups do that, and root otherwise
        made = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    made.settimeout(0)
    return made


def _echo(token: bytes, number: int) -> bytes:
    """Write an echo request, RFC 792."""
    message = struct.pack("!BBHHH", 8, 0, 0, int.from_bytes(token[:2], "big"), number) + token
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + message[4:]


# --- interfaces ---


def interfaces() -> tuple[Interface, ...]:
    """Return the addresses of this machine but loopback; IPv6 link-local ones are left out too."""
    import ifaddr  # noqa: PLC0415 - ctypes

    found = []
    for adapter in ifaddr.get_adapters():
        flags = _flags(adapter.name)
        for ip in adapter.ips:
            address = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            plain = ip_address(address.partition("%")[0])
            if plain.is_loopback or flags & _LOOPBACK or (plain.version == 6 and plain.is_link_local):  # noqa: PLR2004
                continue
            up = flags & (_UP | _RUNNING) == _UP | _RUNNING
            found.append(Interface(adapter.name, str(plain), ip.network_prefix, up, bool(flags & _MULTICAST)))
    return tuple(sorted(found, key=lambda interface: (":" in interface.address, interface.name, interface.address)))


def _flags(name: str) -> int:
    """Return the flags of an interface; where they cannot be had, those of one that is as it should be."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not on Windows

        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            asked = struct.pack("16sH14x", name.encode()[:15], 0)
            return int(struct.unpack("16sH14x", fcntl.ioctl(any_socket, _FLAGS, asked))[1])
    return _UP | _RUNNING | _MULTICAST


def main_address() -> str:
    """Return the IPv4 address by which this machine reaches elsewhere; empty when it has no default route."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        outward.connect(_OUTSIDE)
        address = str(outward.getsockname()[0])
        return "" if ip_address(address).is_loopback else address
    return ""


# --- multicast ---


async def hear_oneself(all_of_them: tuple[Interface, ...]) -> tuple[Interface, ...]:
    """Send a multicast DNS question for nothing by each IPv4 address, and say of each whether it was heard there."""
    tried = [interface for interface in all_of_them if ":" not in interface.address][:MAX_INTERFACES]
    heard = dict(zip(tried, await asyncio.gather(*[_hear(interface) for interface in tried]), strict=True))
    return tuple(heard.get(interface, interface) for interface in all_of_them)


async def _hear(interface: Interface) -> Interface:
    question = _question(secrets.token_hex(8))
    try:
        with _listening(interface.address) as ear, _sending(interface.address) as mouth:
            for _ in range(TRIES):
                mouth.sendto(question, (GROUP, PORT))
                if await _comes(ear, question, HEAR):
                    return replace(interface, heard="")
    except OSError as error:
        name = "EADDRINUSE" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        return replace(interface, heard=name, reach=read_errno(error.errno, sys.platform))
    return replace(interface, heard="silence", reach=Reach.SILENT)


async def _comes(ear: socket.socket, what: bytes, patience: float) -> bool:
    """Wait until a datagram with these bytes in it comes."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(patience):
            while what not in await loop.sock_recv(ear, 9000):
                pass
    except TimeoutError:
        return False
    return True


def _question(token: str) -> bytes:
    """Write a question for a name that nobody has."""
    head = struct.pack("!6H", 0, 0, 1, 0, 0, 0)
    labels = b"".join(bytes([len(label)]) + label for label in (f"zmesh-doctor-{token}".encode(), b"local"))
    return head + labels + b"\0" + struct.pack("!2H", 16, 1)  # TXT, IN


def _shared() -> socket.socket:
    """Return a socket that shares its port, as all do that speak multicast DNS."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with contextlib.suppress(AttributeError, OSError):  # Windows has none
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.settimeout(0)
    return made


def _listening(address: str) -> socket.socket:
    ear = _shared()
    try:
        ear.bind(("", PORT))
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton(address))
    except BaseException:
        ear.close()
        raise
    return ear


def _sending(address: str) -> socket.socket:
    mouth = _shared()
    try:
        mouth.bind((address, PORT))
        mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    except BaseException:
        mouth.close()
        raise
    return mouth
