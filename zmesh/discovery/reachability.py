"""Why one member can or cannot be reached: a pure function from what was found at its addresses to the likeliest cause.

A member has many addresses, most of which lead nowhere from here (containers, VPNs, an old lease): one that works is
enough, and of those that do not the most telling one speaks. This module must never name a cause that the observations
do not tell from another without naming that one too.
"""

from dataclasses import dataclass
from typing import Final

from zmesh.discovery.observation import Examined, Neighbour, Observed, Reach, Spot

BLOCKED: Final = "local-network"
_REFUSALS: Final = {"revoked": "revoked", "stranger": "stranger", "entries": "stranger", "closed": "closed"}


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a member is reached or not.

    Attributes:
        check: The word for programs; "reached" when all is well.
        level: "ok", "warning" or "trouble".
        what: What was found, in words.
        advice: What to do.
        perhaps_off: True when it may be just that the machine is off or elsewhere.
    """

    check: str
    level: str
    what: str
    advice: str = ""
    perhaps_off: bool = False


def reached_spot(member: Examined) -> Spot | None:
    """Return the best address at which its peer takes connections or its door has answered, or None."""
    answered = [spot for spot in member.spots if spot.visit is not None and not spot.visit.trouble]
    taking = [spot for spot in member.spots if spot.peer is Reach.REACHED and not spot.own]
    both = [spot for spot in answered if spot.peer is Reach.REACHED]
    return next(iter(both + answered + taking), None)


def cause_of(member: Examined, seen: Observed) -> Cause:
    """Return why a member is reached or not."""
    spot = reached_spot(member)
    if spot is not None:
        return _of_reached(member, spot, seen)
    knocked = next((each for each in member.spots if each.visit is not None), None)
    if knocked is not None:
        return _of_refused(member, knocked)
    causes = [_of_silent(member, each, seen) for each in member.spots if not each.own]
    if causes:
        return min(causes, key=lambda cause: _TELLING.index(cause.check))
    return Cause("unknown", "trouble", "", perhaps_off=True)


# --- it answers ---


def _of_reached(member: Examined, spot: Spot, seen: Observed) -> Cause:
    where = _where(member, spot)
    visit = spot.visit
    if spot.peer is not Reach.REACHED:
        return _door_only(where, spot)
    if visit is not None and visit.back in ("refused", "silence"):
        return _one_way(where, spot, seen)
    if visit is not None and visit.trouble:
        return _of_refused(member, spot)
    if spot.at_door not in (None, Reach.REACHED):
        what = f"{where} is reached at port {spot.port}, and its door at port {spot.door} is not"
        advice = f"let TCP port {spot.door} through the firewall there: who hears no multicast finds it by its door"
        return Cause("firewall-there", "warning", what, advice)
    ways = ", and reaches this machine" if visit is not None and visit.back == "reached" else ""
    return Cause("reached", "ok", f"{where} is reached at port {spot.port}{ways}")


def _door_only(where: str, spot: Spot) -> Cause:
    rejected = " (it is rejected)" if spot.peer is Reach.REFUSED else ""
    what = f"the door of {where} answers at port {spot.door}, and its peer at port {spot.port} does not{rejected}"
    advice = f"there: let TCP port {spot.port} through the firewall, as port {spot.door} is"
    visit = spot.visit
    if visit is not None and visit.back in ("refused", "silence"):
        what += "; nor can it connect back to this machine"
        advice += "; and the same on this machine, for the port of its peer"
    return Cause("firewall-there", "trouble", what, advice)


def _one_way(where: str, spot: Spot, seen: Observed) -> Cause:
    visit = spot.visit
    assert visit is not None
    own = {interface.address for interface in seen.interfaces}
    port = next((peer.port for peer in seen.peers if peer.answers), seen.port)
    if visit.seen and visit.seen not in own and not spot.own:
        what = (
            f"{where} is reached, and cannot connect back: it sees this machine as {visit.seen}, which is none of its "
            "addresses, so there is address translation (NAT), a container or a VPN between the two"
        )
        advice = (
            f"forward TCP ports {port} and {port + 1} to this machine, or join the two by a VPN that leads both ways"
        )
        return Cause("nat", "trouble", what, advice)
    how = "is rejected" if visit.back == "refused" else "gets no answer"
    what = f"a firewall on this machine: {where} is reached from here, and its connection back to here {how}"
    advice = (
        f"let TCP ports {port} and {port + 1} in (ufw allow {port}:{port + 1}/tcp; firewall-cmd --add-port="
        f"{port}-{port + 1}/tcp; on macOS and Windows: allow Python to take incoming connections)"
    )
    return Cause("firewall-here", "trouble", what, advice)


def _of_refused(member: Examined, spot: Spot) -> Cause:
    """The door is open, and what it said is no answer."""
    visit = spot.visit
    assert visit is not None
    check = _REFUSALS.get(visit.refusal, "refused-at-door")
    where = _where(member, spot)
    if check == "revoked":
        what = f"whoever answers for {where} says that this device was revoked"
        advice = "ask a member: zmesh trust list there says so too, and why"
    elif check == "stranger":
        what = f"whoever answers for {where} does not know this device: the two are not paired, or it has left the mesh"
        advice = "zmesh trust list on both says who is in which mesh; pair them with zmesh invite and zmesh join CODE"
    elif check == "closed" and spot.peer is Reach.REACHED:
        what = f"{where} is reached, and does not say how it reaches this machine: its discovery leaves static out"
        advice = "nothing needs to be done while mail comes from there; else put static back into its config.toml"
        return Cause(check, "warning", what, advice)
    else:
        what = f"{where} takes connections: {visit.trouble}"
        advice = "see what zmesh doctor says there, and whether both run the same version of zmesh"
    return Cause(check, "trouble", what, advice)


# --- it does not ---

_TELLING: Final = (
    BLOCKED, "firewall-here", "firewall-there", "no-listener", "absent", "silent", "far", "no-route", "no-such-name",
    "broken",
)  # fmt: skip
"""What says most comes first, for members with several addresses."""


def _of_silent(member: Examined, spot: Spot, seen: Observed) -> Cause:  # noqa: PLR0911 - a table
    where = _where(member, spot)
    match spot.peer:
        case Reach.NO_SUCH_NAME:
            what = f"there is no host named {spot.host}"
            advice = "look at the name in ZMESH_PEERS, or write the numeric address"
            return Cause("no-such-name", "trouble", what, advice)
        case Reach.DENIED:
            what = f"this machine does not let connections to {where} out"
            return Cause("firewall-here", "trouble", what, "look at its outgoing firewall rules, or its sandbox")
        case Reach.NO_NETWORK:
            advice = "join that network, or switch the VPN on that leads there"
            return Cause("no-route", "trouble", f"this machine has no way to {where}", advice, perhaps_off=True)
        case Reach.REFUSED:
            return _refused(member, spot)
        case Reach.UNREACHABLE if spot.local and seen.platform == "darwin":
            return Cause(BLOCKED, "trouble", "")
        case Reach.UNREACHABLE | Reach.SILENT:
            return _mute(member, spot)
        case _:
            advice = "see that it can be pinged from here, and that its address is right"
            return Cause("broken", "trouble", f"the connection to {where} fails", advice, perhaps_off=True)


def _refused(member: Examined, spot: Spot) -> Cause:
    where = _where(member, spot)
    if member.heard:
        what = f"a firewall there: {where} is heard, so its peer runs, and a connection to port {spot.port} is rejected"
        return Cause("firewall-there", "trouble", what, _let_in(spot))
    what = f"the machine of {where} is there, and refuses connections to port {spot.port}"
    advice = f"start its peer (zmesh up there); if it runs, a firewall rejects: {_let_in(spot)}"
    return Cause("no-listener", "trouble", what, advice, perhaps_off=True)


def _mute(member: Examined, spot: Spot) -> Cause:
    """Neither yes nor no came back, or somebody on the way said no."""
    where = _where(member, spot)
    rejected = spot.peer is Reach.UNREACHABLE
    how = "rejects" if rejected else "does not answer"
    if spot.local and spot.neighbour is Neighbour.ABSENT:
        what = f"{where} should be on this very network, and not even its hardware address can be found"
        advice = "it is off, asleep or elsewhere; or the Wi-Fi isolates its clients (guest network, AP isolation)"
        return Cause("absent", "trouble", what, advice, perhaps_off=True)
    if member.heard or spot.neighbour is Neighbour.PRESENT:
        sign = "its announcement is heard" if member.heard else "it answers a ping"
        what = f"a firewall there: {where} is there ({sign}), and {how} at port {spot.port}"
        return Cause("firewall-there", "trouble", what, _let_in(spot))
    if spot.local and spot.neighbour is Neighbour.KNOWN:
        if rejected:  # its hardware address is known, so the word came from the machine itself
            what = f"a firewall there: {where} rejects connections to port {spot.port}"
            return Cause("firewall-there", "trouble", what, _let_in(spot))
        what = (
            f"{where} was on this network just now, and is silent at port {spot.port}: a firewall there, or it has gone"
        )
        return Cause("firewall-there", "trouble", what, f"if it is on: {_let_in(spot)}", perhaps_off=True)
    if spot.local:
        what = f"{where}, on this network, {how}: it is off, a firewall is there, or the Wi-Fi isolates its clients"
        advice = f"see whether it can be pinged: if so, {_let_in(spot)}; if not, wake it, or look at the access point"
        return Cause("silent", "trouble", what, advice, perhaps_off=True)
    what = f"{where}, beyond this network, {how}: it is off, elsewhere, or a firewall is on the way"
    check = "far" if rejected else "silent"
    return Cause(check, "trouble", what, f"see that it is on and has that address; {_let_in(spot)}", perhaps_off=True)


def _where(member: Examined, spot: Spot) -> str:
    return f"{member.name} at {spot.host}" if member.device else f"the peer that was named, {member.name},"


def _let_in(spot: Spot) -> str:
    ports = f"ports {spot.port} and {spot.door}" if spot.door else f"port {spot.port}"
    return f"let TCP {ports} through the firewall there"
