"""The neighbour table of the kernel: whose hardware address on the local networks is known, and who did not answer.

It tells a machine that is silent from one that is not there; that an address is known says that it was there within
the last minute or so. Only Linux is asked, over netlink, because that needs no
other program; elsewhere nothing is known. This module must never raise: it is a help to a diagnosis, not a need.
"""

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from zmesh.discovery.observation import Neighbour

MAX_REPLY: Final = 1 << 20  # bytes: some 10,000 neighbours
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_NEIGHBOUR: Final = struct.Struct("=BBHiHBB")  # ndmsg: family, padding twice, interface, state, flags, type
_ATTRIBUTE: Final = struct.Struct("=HH")  # rtattr: length, type
_ROUTE: Final = 0  # NETLINK_ROUTE
_NEW, _GET, _DONE, _ERROR = 28, 30, 3, 2  # RTM_NEWNEIGH, RTM_GETNEIGH, NLMSG_DONE, NLMSG_ERROR
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DESTINATION: Final = 1  # NDA_DST
_KNOWN: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_PERMANENT
_ABSENT: Final = 0x01 | 0x20  # NUD_INCOMPLETE, NUD_FAILED


def neighbours() -> dict[str, Neighbour]:
    """Return what is known of each neighbour, by its numeric address; nothing where the system does not tell."""
    if sys.platform != "linux":
        return {}
    with contextlib.suppress(OSError, struct.error, ValueError):
        return dict(read_neighbours(_dump()))
    return {}


def _dump() -> bytes:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _ROUTE) as netlink:
        netlink.settimeout(1.0)
        request = _NEIGHBOUR.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0)
        netlink.send(_HEADER.pack(_HEADER.size + len(request), _GET, _DUMP, 1, 0) + request)
        reply = b""
        while len(reply) < MAX_REPLY:
            part = netlink.recv(1 << 16)
            reply += part
            if any(kind in (_DONE, _ERROR) for kind, _ in _messages(part)):
                break
        return reply


def read_neighbours(reply: bytes) -> Iterator[tuple[str, Neighbour]]:
    """Read the kernel's messages.

    Raises:
        struct.error, ValueError: They are malformed.
    """
    for kind, body in _messages(reply):
        if kind != _NEW:
            continue
        state = _NEIGHBOUR.unpack_from(body)[4]
        known = Neighbour.KNOWN if state & _KNOWN else Neighbour.ABSENT if state & _ABSENT else None
        for attribute, value in _attributes(body[_NEIGHBOUR.size :]):
            if attribute == _DESTINATION and known is not None:
                yield str(ip_address(value)), known


def _messages(reply: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(reply):
        length, kind, *_ = _HEADER.unpack_from(reply, at)
        if length < _HEADER.size:
            return
        yield kind, reply[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
