"""From what was observed to what is wrong and what to do about it: a pure function, one rule per illness.

A finding claims no more than was seen: where two causes look alike from here it names both. This module must never look
at the network, the clock or the disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from zmesh.discovery.doubles import WAY_OUT
from zmesh.discovery.observation import (
    Examined,
    Interface,
    Neighbour,
    Observed,
    OwnPeer,
    PortUse,
    Reach,
    Spot,
    Standing,
)
from zmesh.discovery.reachability import BLOCKED, Cause, cause_of, reached_spot

OK, WARNING, TROUBLE = "ok", "warning", "trouble"
MAX_SKEW: Final = 60.0  # seconds; a code lives for ten minutes
FEW_FILES: Final = 1024  # descriptors: a link takes 4
_LOCAL_NETWORK: Final = (
    "System Settings > Privacy & Security > Local Network: allow the program this runs in (the terminal, the editor, "
    "tmux), then start that anew. Apple's own Terminal, SSH sessions and root are not asked"
)
_ADDRESSES: Final = (
    "name the others' addresses: ZMESH_PEERS=tcp://192.0.2.7:7420 for peers, `zmesh join CODE --at HOST` for pairing"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        check: Which illness was looked for, as a word for programs.
        level: "ok", "warning" or "trouble".
        what: What was found.
        advice: What to do; empty when there is nothing to do.
        member: Whom it is about, or empty.
    """

    check: str
    level: str
    what: str
    advice: str = ""
    member: str = ""


def diagnose(seen: Observed) -> list[Finding]:
    """Return what is found, the machine itself first, then its network, then each member."""
    findings = [Finding("version", OK, seen.version)] if seen.version else []
    findings += [Finding("home", TROUBLE, fault) for fault in seen.faults]
    if seen.standing is not None:
        findings += _standing(seen.standing, named=seen.named)
    findings += [_namesakes(name, devices) for name, devices in seen.namesakes]
    if seen.copies:
        findings.append(_copy(seen.copies))
    findings += _peers(seen.peers)
    findings += [_port(use, seen) for use in seen.ports]
    findings += _descriptors(seen.descriptors)
    findings += _sources(seen)
    findings += _network(seen)
    findings += _multicast(seen)
    nobody = any(finding.check == "nobody" for finding in findings)
    findings += [finding for finding in _members(seen) if not (nobody and finding.check == "unknown")]
    findings += _clocks(seen)
    if seen.unfinished:
        what = f"{seen.unfinished} probes were not over in time, and are left out here"
        findings.append(Finding("unfinished", WARNING, what, "look at one member alone: zmesh doctor --for MEMBER"))
    return findings


# --- this device, and its programs ---


def _standing(standing: Standing, *, named: bool) -> Iterator[Finding]:
    if standing.revoked:
        by = f" by {standing.by}" if standing.by else ""
        what = f"this device, {standing.name}, was revoked{by}: {standing.reason or 'no reason was given'}"
        yield Finding("revoked", TROUBLE, what, _BEGIN_ANEW)
    elif not standing.name:
        what = "this device is not paired: it is in no mesh, and talks to no other machine"
        advice = "zmesh invite, here or on a machine that is in a mesh; then on the other one: zmesh join CODE"
        yield Finding("unpaired", TROUBLE if named else WARNING, what, advice)
    elif not standing.others:
        what = f"this device, {standing.name}, is the only member of its mesh: there is no other machine to talk to"
        yield Finding("unpaired", WARNING, what, "zmesh invite here; then on the other machine: zmesh join CODE")
    else:
        yield Finding("member", OK, f"this device is {standing.name}, in a mesh with {_some(standing.others)}")


def _namesakes(name: str, devices: tuple[str, ...]) -> Finding:
    what = f"{len(devices)} peers are called {name}, on {_some(devices)}: nothing is sent to a name that two answer to"
    advice = (
        "stop one of them, and start it again with another name (zmesh up --name NAME, or name in its config.toml). "
        "The mail it has stays with the old name; until then AGENT@NAME~STORE says which is meant"
    )
    return Finding("names", WARNING, what, advice)


def _copy(copies: tuple[str, ...]) -> Finding:
    what = (
        f"another machine, at {_some(copies)}, has this device's own key: one of the two is a copy (a cloned disk or "
        "virtual machine). Where both run one peer, messages go astray, and others hear of a disk gone back in time"
    )
    return Finding("copy", TROUBLE, what, WAY_OUT)


_BEGIN_ANEW: Final = (
    "that is for good. To begin anew with the agreement of a member: move device.key out of its ZMESH_HOME, have that "
    "member run zmesh invite, then run zmesh join --leave CODE"
)


def _peers(peers: tuple[OwnPeer, ...]) -> Iterator[Finding]:
    running = [peer for peer in peers if peer.answers]
    for peer in running:
        process = f" (process {peer.pid})" if peer.pid else ""
        door = f", its door at {peer.door}" if peer.door else ""
        yield Finding("peer", OK, f"the peer {peer.name} runs{process}: it listens at port {peer.port}{door}")
    for peer in peers:
        if not peer.answers:
            what = f"the peer {peer.name} says that it runs, and does not listen at port {peer.port}"
            yield Finding("peer", WARNING, what, "its program hangs, or has just ended: end it, and start it again")
    if not running:
        what = "no peer runs on this machine: nobody can reach it"
        yield Finding("peer", WARNING, what, "zmesh up, or start the program that embeds one")


def _port(use: PortUse, seen: Observed) -> Finding:
    peers = seen.peers
    whose = "the port of this machine's peer" if use.port == seen.port else "the port of its door"
    if not use.error:
        return Finding("port", OK, f"port {use.port}, {whose}, is free")
    if not use.taken:
        return Finding("port", TROUBLE, f"port {use.port}, {whose}, cannot be used: {use.error}", _other_port(peers))
    by = f"by {use.holder}" if use.holder else "by another program, which this user may not know"
    return Finding("port", TROUBLE, f"port {use.port}, {whose}, is in use {by}", _other_port(peers))


def _other_port(peers: tuple[OwnPeer, ...]) -> str:
    elsewhere = next((peer for peer in peers if peer.answers), None)
    if elsewhere is not None:
        return f"end that program, or let others name port {elsewhere.port}, where {elsewhere.name} listens now"
    return "end that program, or choose another port: zmesh up --port N, whose door is at N + 1"


def _descriptors(limit: int | None) -> Iterator[Finding]:
    if limit is not None and limit < FEW_FILES:
        what = f"a program may open {limit} files here, enough for about {limit // 4} links"
        yield Finding("files", WARNING, what, f"raise the hard limit to {FEW_FILES} or more (ulimit -Hn)")


# --- the network at large ---


def _sources(seen: Observed) -> Iterator[Finding]:
    """Say what was switched off here, by the configuration or by the environment of this very command."""
    missing = [member for member in seen.members if member.device and reached_spot(member) is None]
    if "mdns" not in seen.sources:
        what = "multicast is not used here: discovery (config.toml or ZMESH_DISCOVERY) leaves mdns out"
        advice = f"add it, or {_ADDRESSES}" if missing else ""
        yield Finding("multicast", WARNING if missing else OK, what, advice)
    if "static" not in seen.sources and (seen.named or missing):
        what = "no door is visited: discovery (config.toml or ZMESH_DISCOVERY) leaves static out"
        advice = "add it: without, named addresses are not used, and members do not tell each other where they are"
        yield Finding("static", TROUBLE if seen.named else WARNING, what, advice)


def _network(seen: Observed) -> Iterator[Finding]:
    up = [interface for interface in seen.interfaces if interface.up]
    if up:
        yield Finding("network", OK, "this machine has the addresses " + _some([each.address for each in up], 6))
        return
    down = _some(list(dict.fromkeys(interface.name for interface in seen.interfaces)))
    why = f"{down} is down, or has no carrier" if down else "no interface has an address"
    what = f"this machine is on no network: {why}"
    level = TROUBLE if seen.members else WARNING
    yield Finding("network", level, what, "plug the cable in, or join the Wi-Fi")


def _multicast(seen: Observed) -> Iterator[Finding]:
    if seen.hearing is None or not any(interface.up for interface in seen.interfaces):
        return
    missing = [member for member in seen.members if member.device and reached_spot(member) is None]
    level = TROUBLE if missing else WARNING
    deaf = _deaf(seen)
    heard = [member.name for member in seen.members if member.heard]
    if seen.hearing.busy or any(each.heard == "EADDRINUSE" for each in deaf):
        what = "no multicast: another program keeps UDP port 5353 to itself"
        advice = f"let it share the port (avahi: disallow-other-stacks=no), or {_ADDRESSES}"
        yield Finding("multicast", level, what, advice)
    elif seen.platform == "darwin" and any(each.reach is Reach.UNREACHABLE for each in deaf):
        yield Finding(BLOCKED, level, "macOS blocks the local network for this program: no multicast", _LOCAL_NETWORK)
    elif seen.hearing.trouble and not heard:
        yield Finding("multicast", level, f"no multicast: {seen.hearing.trouble}", _ADDRESSES)
    elif deaf and not heard:
        yield _no_multicast(deaf, level)
    else:
        yield from _heard(seen, heard, missing)


def _deaf(seen: Observed) -> list[Interface]:
    """Return the interfaces that matter and do not hear their own multicast: the main one, or all if there is none."""
    tried = [each for each in seen.interfaces if each.up and each.heard is not None]
    main = [each for each in tried if each.address == seen.main]
    if main:
        return [each for each in main if each.heard]
    return tried if all(each.heard for each in tried) else []


def _no_multicast(deaf: list[Interface], level: str) -> Finding:
    first = deaf[0]
    if not first.multicast:
        what = f"no multicast: it is switched off on {first.name}"
        return Finding("multicast", level, what, f"ip link set {first.name} multicast on; or {_ADDRESSES}")
    how = "what it sends does not come back to it" if first.heard == "silence" else str(first.heard)
    advice = f"let UDP port 5353 through this machine's firewall, in and out; or {_ADDRESSES}"
    return Finding("multicast", level, f"no multicast on {first.name}: {how}", advice)


def _heard(seen: Observed, heard: list[str], missing: list[Examined]) -> Iterator[Finding]:
    off = [each.name for each in seen.interfaces if each.up and not each.multicast and each.address == seen.main]
    if off:
        what = f"multicast is switched off on {off[0]}, though some of it works"
        yield Finding("multicast", WARNING, what, f"ip link set {off[0]} multicast on")
    assert seen.hearing is not None
    lost = [
        member.name
        for member in seen.members
        if member.device and not member.heard and any(spot.local and not spot.own for spot in _reached(member))
    ]
    count = seen.hearing.strangers
    strangers = f"; also heard: {count} peer{'s' * (count > 1)} of others" if count else ""
    if heard:
        yield Finding("multicast", OK, f"multicast works: {_some(heard)} heard{strangers}")
    elif not seen.members:
        yield Finding("multicast", OK, f"multicast works on this machine{strangers}")
    if lost:
        what = f"{_some(lost)} can be reached on this network, and cannot be heard by multicast"
        advice = (
            "nothing needs to be done while they are reached. If they are not found after a move: let UDP port 5353 "
            "through the firewall there, look whether ZMESH_DISCOVERY leaves mdns out, whether the Wi-Fi or the switch "
            "drops multicast (IGMP snooping); or " + _ADDRESSES
        )
        yield Finding("multicast", WARNING, what, advice)
    elif not heard and missing:
        what = f"nobody is heard: multicast works on this machine, and no announcement of {_names(missing)} comes"
        advice = (
            "see that a peer runs there (zmesh up), that both machines are on one network and no guest "
            "network, and that the Wi-Fi does not isolate its clients; or " + _ADDRESSES
        )
        yield Finding("nobody", TROUBLE, what, advice)


# --- members ---

_ACCESS_POINT: Final = (
    "on the access point: switch off client isolation (also: AP isolation, guest network); or use another network, or "
    "a cable"
)


def _members(seen: Observed) -> Iterator[Finding]:
    causes = {member: cause_of(member, seen) for member in seen.members}
    somebody = any(cause.check == "reached" for cause in causes.values())
    apart = [member for member, cause in causes.items() if cause.check == "absent"]
    isolated = _isolated(seen, apart)
    if isolated:
        what = (
            f"client isolation: {_names(apart)} should be on this very network, and not even their hardware addresses "
            "can be found" + (", though they are heard" if any(member.heard for member in apart) else "")
        )
        advice = f"{_ACCESS_POINT}. If they may all be switched off, look there first"
        yield Finding("isolation", TROUBLE, what, advice)
    blocked = [member for member, cause in causes.items() if cause.check == BLOCKED]
    if blocked:
        what = f"macOS blocks the local network for this program: {_names(blocked)}: no route to host (errno 65)"
        yield Finding(BLOCKED, TROUBLE, what, _LOCAL_NETWORK)
    unknown = [member for member, cause in causes.items() if cause.check == "unknown"]
    if unknown:
        yield _unknown(unknown, seen, somebody=somebody)
    told = {BLOCKED, "unknown"} | ({"absent"} if isolated else set())
    for member, cause in causes.items():
        if cause.check not in told:
            yield _about(member, cause, somebody=somebody and not seen.alone)
    silent = [member for member, cause in causes.items() if cause.check in ("firewall-there", "silent")]
    if len(silent) > 1 and not somebody and not isolated and all(_mute(member) for member in silent):
        what = f"none of {_names(silent)} answers: unless each has a firewall, it is the network that keeps them apart"
        yield Finding("isolation", WARNING, what, _ACCESS_POINT)


def _mute(member: Examined) -> bool:
    """Say whether a member is on this network, and nothing comes from there: not even a no."""
    near = [spot for spot in member.spots if spot.local and not spot.own]
    quiet = all(spot.peer is Reach.SILENT and spot.neighbour is not Neighbour.PRESENT for spot in near)
    return bool(near) and quiet


def _unknown(unknown: list[Examined], seen: Observed, *, somebody: bool) -> Finding:
    heard = ", though it is heard" if all(member.heard for member in unknown) else ""
    perhaps = " (perhaps at the addresses that were named)" if any(not each.device for each in seen.members) else ""
    advice = (
        "see that a peer runs there (zmesh up); where there is no multicast, name its address: "
        "ZMESH_PEERS=tcp://192.0.2.7:7420"
    )
    level = WARNING if somebody and not seen.alone else TROUBLE
    what = f"nobody says where to find {_names(unknown)}{heard}{perhaps}"
    return Finding("unknown", level, what, advice, unknown[0].name if len(unknown) == 1 else "")


def _isolated(seen: Observed, apart: list[Examined]) -> bool:
    """Say whether it is likelier that the network keeps its machines apart than that each of them is off."""
    near = [spot for member in seen.members for spot in member.spots if spot.local and not spot.own]
    if any(Reach.REACHED in (spot.peer, spot.at_door) or spot.neighbour is Neighbour.PRESENT for spot in near):
        return False
    hosts = {spot.host for member in apart for spot in member.spots if spot.neighbour is Neighbour.ABSENT}
    return len(hosts) > 1 or any(member.heard for member in apart)


def _about(member: Examined, cause: Cause, *, somebody: bool) -> Finding:
    """Write a cause as a finding; that one machine is off is no trouble while others are there."""
    level = cause.level
    if level == TROUBLE and cause.perhaps_off and somebody:
        level = WARNING
    return Finding(cause.check, level, cause.what, cause.advice, member.name)


def _clocks(seen: Observed) -> Iterator[Finding]:
    skews = [
        (member, spot.visit.skew)
        for member in seen.members
        for spot in _reached(member)[:1]
        if spot.visit is not None and not spot.visit.trouble
    ]
    wrong = [(member, skew) for member, skew in skews if abs(skew) > MAX_SKEW]
    here = len(skews) > 1 and len(wrong) == len(skews) and len({skew > 0 for _, skew in skews}) == 1
    advice = (
        "set the clock by the network (NTP) on the machine that is wrong. Messages are not affected: only the times "
        "that are shown, and how long an invitation lives"
    )
    for member, skew in wrong:
        which = "ahead of" if skew > 0 else "behind"
        guess = "; all that were asked say so: it is this machine's that is wrong" if here else ""
        what = f"the clock of {member.name} is {abs(skew):.0f} seconds {which} this machine's{guess}"
        yield Finding("clock", WARNING, what, advice, member.name)
    if skews and not wrong:
        yield Finding("clock", OK, f"the clocks agree: {max(abs(skew) for _, skew in skews):.1f} seconds apart at most")


def _reached(member: Examined) -> list[Spot]:
    return [spot for spot in member.spots if spot.visit is not None or spot.peer is Reach.REACHED]


def _names(members: list[Examined]) -> str:
    return _some([member.name for member in members])


def _some(names: tuple[str, ...] | list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
