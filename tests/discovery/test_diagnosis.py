"""From observations to findings: each illness is told from the others, and the advice fits it."""

from dataclasses import replace
from typing import Any

import pytest

from zmesh.discovery.diagnosis import Finding, diagnose
from zmesh.discovery.observation import (
    Examined,
    Hearing,
    Interface,
    Neighbour,
    Observed,
    OwnPeer,
    PortUse,
    Reach,
    Spot,
    Standing,
    Visit,
    read_errno,
)

WIRE = Interface("wire", "10.0.0.1", 24, heard="")
HERE = Observed(
    "linux",
    standing=Standing("laptop", ("studio", "tower")),
    peers=(OwnPeer("laptop", 7420, 7421),),
    interfaces=(WIRE,),
    main="10.0.0.1",
    hearing=Hearing(),
)
WELL = Visit(skew=0.2, back="reached", seen="10.0.0.1")
MET = Spot("10.0.0.2", 7420, 7421, Reach.REACHED, Reach.REACHED, local=True, visit=WELL)
SILENT = Spot("10.0.0.2", 7420, 7421, Reach.SILENT, Reach.SILENT, local=True)
FAR = replace(SILENT, host="192.0.2.7", local=False)


def member(*spots: Spot, name: str = "studio", heard: bool = False) -> Examined:
    return Examined(name, f"device of {name}", heard, spots)


def seen(*members: Examined, **changes: Any) -> Observed:
    return replace(HERE, members=members, **changes)


def find(observed: Observed, check: str) -> Finding:
    found = [finding for finding in diagnose(observed) if finding.check == check]
    assert len(found) == 1, diagnose(observed)
    return found[0]


def checks(observed: Observed) -> dict[str, str]:
    return {finding.check: finding.level for finding in diagnose(observed)}


def test_all_is_well() -> None:
    observed = seen(member(MET, heard=True), version="zmesh 1", descriptors=4096)
    assert set(checks(observed).values()) == {"ok"}
    assert [finding.advice for finding in diagnose(observed)] == [""] * len(diagnose(observed))
    assert "reaches this machine" in find(observed, "reached").what


# --- this device ---


def test_not_paired_revoked_and_alone_are_three_things() -> None:
    unpaired = find(seen(standing=Standing()), "unpaired")
    assert (unpaired.level, "zmesh join" in unpaired.advice) == ("warning", True)
    assert find(seen(standing=Standing(), named=True), "unpaired").level == "trouble"
    alone = find(seen(standing=Standing("laptop")), "unpaired")
    assert "only member" in alone.what
    revoked = find(seen(standing=Standing("laptop", ("studio",), revoked=True, by="studio", reason="lost")), "revoked")
    assert revoked.level == "trouble"
    assert "by studio: lost" in revoked.what
    assert "join --leave" in revoked.advice
    assert "no reason" in find(seen(standing=Standing("laptop", revoked=True)), "revoked").what


def test_peers_of_one_name_are_told_with_the_way_out() -> None:
    found = find(seen(namesakes=(("studio", ("cellar", "tower")),)), "names")
    assert (found.level, "2 peers are called studio, on cellar, tower" in found.what) == ("warning", True)
    assert "--name NAME" in found.advice


def test_a_copy_is_named_with_the_way_out() -> None:
    copy = find(seen(copies=("192.0.2.9",)), "copy")
    assert (copy.level, "at 192.0.2.9" in copy.what) == ("trouble", True)
    assert "move its ZMESH_HOME away" in copy.advice
    assert "copy" not in checks(seen())


def test_what_is_wrong_with_the_home_is_a_finding() -> None:
    observed = replace(HERE, standing=None, faults=("the device key can be read by others; run: chmod 600",))
    assert find(observed, "home").level == "trouble"
    assert "unpaired" not in checks(observed)


def test_own_peers() -> None:
    assert "process 7" in find(seen(peers=(OwnPeer("laptop", 7420, 7421, pid=7),)), "peer").what
    gone = diagnose(seen(peers=(OwnPeer("laptop", 7420, 0, answers=False),)))
    assert [finding.level for finding in gone if finding.check == "peer"] == ["warning", "warning"]
    assert "zmesh up" in find(seen(peers=()), "peer").advice


@pytest.mark.parametrize(
    ("use", "peers", "level", "said"),
    [
        (PortUse(7420), (), "ok", "is free"),
        (PortUse(7420, "in use", taken=True, holder="process 9 (nginx)"), (), "trouble", "by process 9 (nginx)"),
        (PortUse(7421, "in use", taken=True), (), "trouble", "another program"),
        (PortUse(7420, "Permission denied"), (), "trouble", "Permission denied"),
    ],
)
def test_ports(use: PortUse, peers: tuple[OwnPeer, ...], level: str, said: str) -> None:
    found = find(seen(ports=(use,), peers=peers), "port")
    assert (found.level, said in found.what) == (level, True)
    assert ("--port N" in found.advice) == (level == "trouble")


def test_the_port_of_a_peer_that_went_elsewhere_is_told() -> None:
    use = PortUse(7420, "in use", taken=True)
    assert "name port 40000" in find(seen(ports=(use,), peers=(OwnPeer("laptop", 40000, 40001),)), "port").advice


def test_few_files_and_unfinished_probes_are_said() -> None:
    assert find(seen(descriptors=256), "files").level == "warning"
    assert "files" not in checks(seen(descriptors=1024))
    assert find(seen(unfinished=3), "unfinished").what.startswith("3 probes")


# --- the network ---


def test_no_network() -> None:
    down = find(seen(member(), interfaces=(replace(WIRE, up=False),)), "network")
    assert (down.level, "wire is down" in down.what) == ("trouble", True)
    none = find(seen(interfaces=()), "network")
    assert (none.level, "no interface has an address" in none.what) == ("warning", True)
    assert "multicast" not in checks(seen(interfaces=()))


@pytest.mark.parametrize(
    ("wire", "hearing", "platform", "check", "said", "advised"),
    [
        (replace(WIRE, heard="silence"), Hearing(), "linux", "multicast", "does not come back", "5353"),
        (replace(WIRE, heard="Operation not permitted"), Hearing(), "linux", "multicast", "not permitted", "5353"),
        (replace(WIRE, heard="silence", multicast=False), Hearing(), "linux", "multicast", "switched off", "on;"),
        (replace(WIRE, heard="EADDRINUSE"), Hearing(), "linux", "multicast", "keeps UDP port 5353", "avahi"),
        (WIRE, Hearing("in use", busy=True), "linux", "multicast", "keeps UDP port 5353", "avahi"),
        (WIRE, Hearing("no such device"), "linux", "multicast", "no such device", "ZMESH_PEERS"),
        (
            replace(WIRE, heard="No route to host", reach=read_errno(65, "darwin")), Hearing(), "darwin",
            "local-network", "macOS blocks", "Privacy & Security > Local Network",
        ),
    ],
)  # fmt: skip
def test_no_multicast(  # noqa: PLR0917 - a table
    wire: Interface, hearing: Hearing, platform: str, check: str, said: str, advised: str
) -> None:
    observed = seen(member(FAR), interfaces=(wire,), hearing=hearing, platform=platform)
    found = find(observed, check)
    assert found.level == "trouble"
    assert said in found.what
    assert advised in found.advice
    assert "nobody" not in checks(observed)
    met = seen(member(replace(MET, local=False)), interfaces=(wire,), hearing=hearing, platform=platform)
    assert find(met, check).level == "warning", "everybody is reached without it"


def test_only_the_interface_that_leads_elsewhere_must_have_multicast() -> None:
    tunnel = Interface("tun0", "10.8.0.1", 24, heard="silence")
    assert checks(seen(interfaces=(WIRE, tunnel)))["multicast"] == "ok"
    assert checks(seen(interfaces=(WIRE, tunnel), main="10.8.0.1"))["multicast"] == "warning"
    assert checks(seen(interfaces=(WIRE, tunnel), main=""))["multicast"] == "ok"
    marked = seen(member(MET, heard=True), interfaces=(replace(WIRE, multicast=False),))
    assert "warning" in [each.level for each in diagnose(marked) if each.check == "multicast"]


def test_multicast_that_nobody_answers() -> None:
    observed = seen(member(), member(name="tower"))
    found = find(observed, "nobody")
    assert (found.level, "studio, tower" in found.what) == ("trouble", True)
    assert "unknown" not in checks(observed), "it is the same thing"
    lost = find(seen(member(MET)), "multicast")
    assert (lost.level, "cannot be heard" in lost.what) == ("warning", True)
    assert (
        "studio heard; also heard: 2 peers of others"
        in find(seen(member(MET, heard=True), hearing=Hearing(strangers=2)), "multicast").what
    )


# --- members ---


def told(spot: Spot, *, heard: bool = False, platform: str = "linux") -> Finding:
    found = [each for each in diagnose(seen(member(spot, heard=heard), platform=platform)) if each.member == "studio"]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("spot", "heard", "check", "level", "said"),
    [
        (replace(SILENT, neighbour=Neighbour.PRESENT), False, "firewall-there", "trouble", "answers a ping"),
        (SILENT, True, "firewall-there", "trouble", "its announcement is heard"),
        (replace(SILENT, neighbour=Neighbour.KNOWN), False, "firewall-there", "trouble", "or it has gone"),
        (
            replace(SILENT, peer=Reach.UNREACHABLE, neighbour=Neighbour.KNOWN), False, "firewall-there", "trouble",
            "rejects connections",
        ),
        (replace(SILENT, neighbour=Neighbour.ABSENT), False, "absent", "trouble", "hardware address"),
        (replace(SILENT, peer=Reach.UNREACHABLE, neighbour=Neighbour.ABSENT), False, "absent", "trouble", "hardware"),
        (SILENT, False, "silent", "trouble", "a firewall is there, or the Wi-Fi isolates"),
        (FAR, False, "silent", "trouble", "beyond this network"),
        (replace(FAR, peer=Reach.UNREACHABLE), False, "far", "trouble", "beyond this network"),
        (replace(FAR, neighbour=Neighbour.PRESENT), False, "firewall-there", "trouble", "answers a ping"),
        (replace(FAR, peer=Reach.NO_NETWORK), False, "no-route", "trouble", "no way"),
        (replace(FAR, peer=Reach.DENIED), False, "firewall-here", "trouble", "does not let"),
        (replace(FAR, host="nas", peer=Reach.NO_SUCH_NAME), False, "no-such-name", "trouble", "no host named nas"),
        (replace(FAR, peer=Reach.BROKEN), False, "broken", "trouble", "fails"),
        (replace(SILENT, peer=Reach.REFUSED), False, "no-listener", "trouble", "refuses"),
        (replace(SILENT, peer=Reach.REFUSED), True, "firewall-there", "trouble", "is rejected"),
        (replace(MET, at_door=Reach.SILENT, visit=None), True, "firewall-there", "warning", "its door at port 7421"),
        (replace(MET, peer=Reach.SILENT), True, "firewall-there", "trouble", "the door of studio"),
        (replace(MET, peer=Reach.REFUSED, visit=replace(WELL, back="refused")), True, "firewall-there", "trouble",
         "nor can it connect back"),
        (replace(MET, visit=replace(WELL, back="silence")), True, "firewall-here", "trouble", "gets no answer"),
        (replace(MET, visit=replace(WELL, back="refused")), True, "firewall-here", "trouble", "is rejected"),
        (replace(MET, visit=replace(WELL, back="silence", seen="192.0.2.9")), True, "nat", "trouble", "192.0.2.9"),
        (replace(MET, visit=Visit("no", "revoked")), True, "revoked", "trouble", "says that this device was revoked"),
        (replace(MET, visit=Visit("no", "stranger")), True, "stranger", "trouble", "does not know this device"),
        (replace(MET, visit=Visit("no", "closed")), True, "closed", "warning", "leaves static out"),
        (replace(MET, peer=Reach.SILENT, visit=Visit("no static", "closed")), True, "closed", "trouble", "no static"),
        (replace(MET, visit=Visit("it speaks Greek")), True, "refused-at-door", "trouble", "it speaks Greek"),
        (
            replace(MET, peer=Reach.SILENT, visit=Visit("it speaks Greek")), True, "refused-at-door", "trouble",
            "it speaks Greek",
        ),
        (replace(MET, at_door=None, door=0, visit=None), True, "reached", "ok", "is reached at port 7420"),
    ],
)  # fmt: skip
def test_one_member(spot: Spot, heard: bool, check: str, level: str, said: str) -> None:  # noqa: FBT001 - a table
    found = told(spot, heard=heard)
    assert (found.check, found.level) == (check, level)
    assert said in found.what
    assert bool(found.advice) == (level != "ok")


def test_errno_65_is_a_blocked_local_network_on_macos_and_nowhere_else() -> None:
    assert read_errno(65, "darwin") is Reach.UNREACHABLE
    assert read_errno(113, "linux") is Reach.UNREACHABLE
    assert read_errno(10065, "win32") is Reach.UNREACHABLE
    assert read_errno(65, "linux") is read_errno(None, "linux") is Reach.BROKEN
    blocked = seen(member(replace(SILENT, peer=read_errno(65, "darwin"))), platform="darwin")
    found = find(blocked, "local-network")
    assert "errno 65" in found.what
    assert "Privacy & Security > Local Network" in found.advice
    assert "local-network" not in checks(replace(blocked, platform="linux"))
    beyond = seen(member(replace(FAR, peer=read_errno(65, "darwin"))), platform="darwin")
    assert "local-network" not in checks(beyond), "a router says so"


def test_isolation_is_told_from_one_machine_that_is_off() -> None:
    absent = replace(SILENT, neighbour=Neighbour.ABSENT)
    other = replace(absent, host="10.0.0.3")
    both = seen(member(absent), member(other, name="tower"))
    assert find(both, "isolation").level == "trouble"
    assert "studio, tower" in find(both, "isolation").what
    assert "absent" not in checks(both)
    assert "isolation" not in checks(seen(member(absent)))
    assert "though they are heard" in find(seen(member(absent, heard=True)), "isolation").what
    met = seen(
        member(replace(MET, host="10.0.0.4"), name="desk", heard=True), member(absent), member(other, name="tower")
    )
    assert "isolation" not in checks(met)
    assert checks(met)["absent"] == "warning", "others are there, so these are off"
    pinged = replace(SILENT, host="10.0.0.5", neighbour=Neighbour.PRESENT)
    assert "isolation" not in checks(seen(member(pinged), member(absent, name="a"), member(other, name="b")))


def test_silence_all_around_may_be_isolation() -> None:
    known = replace(SILENT, neighbour=Neighbour.KNOWN)
    both = seen(member(known), member(replace(known, host="10.0.0.3"), name="tower"))
    assert find(both, "isolation").level == "warning"
    assert "isolation" not in checks(seen(member(known)))
    there = replace(known, neighbour=Neighbour.PRESENT)
    assert "isolation" not in checks(seen(member(there), member(replace(there, host="10.0.0.3"), name="tower")))


def test_one_address_that_works_is_enough_and_the_most_telling_of_the_others_speaks() -> None:
    assert told(MET, heard=True).check == "reached"
    many = seen(member(replace(FAR, peer=Reach.NO_NETWORK), SILENT, MET, heard=True))
    assert [each.check for each in diagnose(many) if each.member] == ["reached"]
    bad = seen(member(FAR, replace(SILENT, neighbour=Neighbour.PRESENT), replace(FAR, peer=Reach.NO_NETWORK)))
    assert [each.check for each in diagnose(bad) if each.member] == ["firewall-there"]
    own = seen(member(replace(SILENT, peer=Reach.REFUSED, own=True)))
    assert "no-listener" not in checks(own), "that is this very machine"


def test_who_is_off_is_no_trouble_while_others_are_there_unless_it_was_asked_for() -> None:
    there, off = member(MET, heard=True), member(FAR, name="tower")
    assert checks(seen(there, off))["silent"] == "warning"
    assert checks(seen(there, off, alone=True))["silent"] == "trouble"
    assert checks(seen(there, member(name="tower")))["unknown"] == "warning"
    firewalled = member(replace(FAR, neighbour=Neighbour.PRESENT), name="tower")
    assert checks(seen(there, firewalled))["firewall-there"] == "trouble"


def test_a_named_address_where_nobody_is() -> None:
    named = Examined("tcp://192.0.2.7:7420", "", spots=(FAR,))
    observed = seen(member(MET, heard=True), named, named=True)
    assert "the peer that was named, tcp://192.0.2.7:7420," in find(observed, "silent").what
    lost = seen(member(heard=True), named, named=True)
    assert "perhaps at the addresses that were named" in find(lost, "unknown").what


# --- clocks ---


def test_clocks() -> None:
    fast = replace(MET, visit=replace(WELL, skew=61.0))
    slow = replace(MET, visit=replace(WELL, skew=-3600.0))
    assert find(seen(member(replace(MET, visit=replace(WELL, skew=59.0)), heard=True)), "clock").level == "ok"
    found = find(seen(member(fast, heard=True)), "clock")
    assert (found.level, "61 seconds ahead of this machine's" in found.what) == ("warning", True)
    assert "invitation" in found.advice
    assert "3600 seconds behind" in find(seen(member(slow, heard=True)), "clock").what
    two = diagnose(seen(member(slow, heard=True), member(slow, name="tower", heard=True)))
    assert all("this machine's that is wrong" in each.what for each in two if each.check == "clock")
    apart = diagnose(seen(member(slow, heard=True), member(fast, name="tower", heard=True)))
    assert not any("that is wrong" in each.what for each in apart if each.check == "clock")
