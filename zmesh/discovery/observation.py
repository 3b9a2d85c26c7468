"""What an examination of this machine's place in the mesh has observed, as plain records.

`examination` fills them in, `diagnosis` reads them. This module must hold no conclusion: what a refused connection or a
missing neighbour means is said in one place only, the diagnosis.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Reach(Enum):
    """How a TCP connection to an address went."""

    REACHED = "reached"
    REFUSED = "refused"  # by the machine, or by a firewall that pretends to be one without a listener
    SILENT = "silent"  # nothing came back in time
    UNREACHABLE = "unreachable"  # somebody on the way, or this very machine, says that the host cannot be reached
    NO_NETWORK = "no network"  # there is no route from here
    DENIED = "denied"  # this machine does not let the packets out
    NO_SUCH_NAME = "no such name"
    BROKEN = "broken"  # any other error


class Neighbour(Enum):
    """Whether a host is there at all that takes no connection."""

    PRESENT = "present"  # it has answered a ping
    KNOWN = "known"  # the kernel has its hardware address, perhaps from half a minute ago
    ABSENT = "absent"  # the kernel has asked for its hardware address, and nobody answered
    UNKNOWN = "unknown"  # not in our subnet, not asked for, or this platform does not tell


_LINUX: Final = {
    1: Reach.DENIED, 13: Reach.DENIED, 97: Reach.NO_NETWORK, 99: Reach.NO_NETWORK, 101: Reach.NO_NETWORK,
    104: Reach.REFUSED, 110: Reach.SILENT, 111: Reach.REFUSED, 112: Reach.UNREACHABLE, 113: Reach.UNREACHABLE,
}  # fmt: skip
_BSD: Final = {  # macOS too
    1: Reach.DENIED, 13: Reach.DENIED, 47: Reach.NO_NETWORK, 49: Reach.NO_NETWORK, 51: Reach.NO_NETWORK,
    54: Reach.REFUSED, 60: Reach.SILENT, 61: Reach.REFUSED, 64: Reach.UNREACHABLE, 65: Reach.UNREACHABLE,
}  # fmt: skip
_WINDOWS: Final = {
    10013: Reach.DENIED, 10047: Reach.NO_NETWORK, 10049: Reach.NO_NETWORK, 10051: Reach.NO_NETWORK,
    10054: Reach.REFUSED, 10060: Reach.SILENT, 10061: Reach.REFUSED, 10064: Reach.UNREACHABLE,
    10065: Reach.UNREACHABLE,
}  # fmt: skip


def read_errno(number: int | None, platform: str) -> Reach:
    """Return what an error number of `connect` or `sendto` says.

    Args:
        number: As the system has it; None when there is none.
        platform: `sys.platform` of that system.
    """
    table = _LINUX if platform.startswith("linux") else _WINDOWS if platform == "win32" else _BSD
    return table.get(number or 0, Reach.BROKEN)


@dataclass(frozen=True, slots=True)
class Standing:
    """This device in its mesh.

    Attributes:
        name: What it is called there; empty when it is in none.
        others: Names of the members beside it that are not revoked.
        revoked: True when it is no member any more.
        by: Who has revoked it; empty when that is not known.
        reason: Why, in the words of who did.
    """

    name: str = ""
    others: tuple[str, ...] = ()
    revoked: bool = False
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Interface:
    """An address of an interface of this machine; loopback is left out.

    Attributes:
        name: Of the interface.
        address: The address, numeric.
        prefix: Bits of its network.
        up: False when it is down or has no carrier, where that can be known.
        multicast: False when it is marked as having none, where that can be known.
        heard: IPv4 only: "" when a multicast sent by it was heard on it, "silence" when not, or what failed; None when
            it was not tried.
        reach: What the error number of such a failure says.
    """

    name: str
    address: str
    prefix: int
    up: bool = True
    multicast: bool = True
    heard: str | None = None
    reach: Reach = Reach.REACHED


@dataclass(frozen=True, slots=True)
class Hearing:
    """What was heard by multicast DNS.

    Attributes:
        trouble: Why it could not be listened to; empty when it could.
        busy: True when another program keeps UDP port 5353 to itself.
        strangers: How many peers of no member were heard.
    """

    trouble: str = ""
    busy: bool = False
    strangers: int = 0


@dataclass(frozen=True, slots=True)
class OwnPeer:
    """A peer of this home that says it runs.

    Attributes:
        name: Its name.
        port: Where it listens, and `door` for its door, or 0.
        answers: False when nothing listens there.
        pid: Its process, where that can be known, or 0.
    """

    name: str
    port: int
    door: int
    answers: bool = True
    pid: int = 0


@dataclass(frozen=True, slots=True)
class PortUse:
    """Whether one of the documented ports can be had.

    Attributes:
        port: The port.
        error: Why it cannot be bound; empty when it can.
        taken: True when it is in use.
        holder: Who has it, in words; empty when that cannot be known.
    """

    port: int
    error: str = ""
    taken: bool = False
    holder: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """What a visit to a door has brought.

    Attributes:
        trouble: Why there was no answer; empty when there was.
        refusal: The word of a `Refusal`, or empty.
        skew: Seconds the clock there is ahead of ours.
        back: How a connection back to us went: "reached", "refused", "silence", or "" when none was tried.
        seen: The address under which we were seen there, numeric, or empty.
    """

    trouble: str = ""
    refusal: str = ""
    skew: float = 0.0
    back: str = ""
    seen: str = ""


@dataclass(frozen=True, slots=True)
class Spot:
    """An address of a member, and what was found there.

    Attributes:
        host: Numeric, or the name that could not be resolved.
        port: Of the peer, and `door` of its door; 0 when it is not known.
        peer: How a connection to the peer went.
        at_door: How one to its door went; None when it has none.
        local: True when it is in a subnet of ours.
        own: True when it is an address of this machine.
        neighbour: Whether it is there at all, when neither its peer nor its door takes a connection.
        visit: What its door said; None when it was not asked.
    """

    host: str
    port: int
    door: int
    peer: Reach
    at_door: Reach | None = None
    local: bool = False
    own: bool = False
    neighbour: Neighbour = Neighbour.UNKNOWN
    visit: Visit | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """A member that was looked for, or an address that somebody has named and at which no member answered.

    Attributes:
        name: Of the member, or the address.
        device: Its id; empty when nobody knows who is there.
        heard: True when its announcement was heard by multicast during the examination.
        spots: What was found at its addresses.
    """

    name: str
    device: str = ""
    heard: bool = False
    spots: tuple[Spot, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """All of it.

    Attributes:
        platform: `sys.platform`.
        version: Of zmesh and of what it runs on, in words.
        faults: What is wrong with the files of this home, each text with its way out.
        standing: This device in its mesh; None when that cannot be read.
        peers: Of this home.
        ports: `port` and the next one.
        descriptors: How many files a process may open; None for no limit.
        interfaces: Of this machine.
        main: The address by which it reaches elsewhere; empty when it has no default route.
        hearing: What multicast DNS brought; None when it was not listened to.
        members: All that were looked for.
        namesakes: Names that more than one running peer has, each with the devices of those peers.
        copies: Addresses of other machines that have shown this device's own key.
        named: True when the user has named addresses of peers elsewhere.
        port: Where a peer of this machine listens that says nothing else; its door is at the next one.
        sources: Where peers of this home look for addresses: some of "rendezvous", "static", "mdns".
        alone: True when only one member was to be looked for.
        unfinished: Addresses that were not tried to the end, for want of time.
    """

    platform: str
    version: str = ""
    faults: tuple[str, ...] = ()
    standing: Standing | None = None
    peers: tuple[OwnPeer, ...] = ()
    ports: tuple[PortUse, ...] = ()
    descriptors: int | None = None
    interfaces: tuple[Interface, ...] = ()
    main: str = ""
    hearing: Hearing | None = None
    members: tuple[Examined, ...] = ()
    namesakes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    copies: tuple[str, ...] = ()
    named: bool = False
    port: int = 7420
    sources: tuple[str, ...] = ("rendezvous", "static", "mdns")
    alone: bool = False
    unfinished: int = 0
