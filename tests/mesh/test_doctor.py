"""`zmesh doctor` between machines: each illness is really there, and told from the others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support import command
from tests.mesh.lan import DEVICE, Lan, Machine, lan
from tests.mesh.test_machines import WITHOUT_MULTICAST, pair, programs, read_until

pytestmark = pytest.mark.timeout(180)

Findings = dict[str, dict[str, Any]]


def doctor(machine: Machine, *words: str, status: int, **variables: str) -> Findings:
    """Run it; return the findings by check, the gravest of each kind."""
    process = machine.start("-m", "zmesh", "doctor", "--json", *words, log=None, **variables)
    output, errors = process.communicate(timeout=60)
    assert errors == "", errors[-3000:]
    found: Findings = {}
    for finding in sorted(json.loads(output), key=lambda each: ("ok", "warning", "trouble").index(each["level"])):
        found[finding["check"]] = finding
    assert process.returncode == status, output
    return found


def firewall(machine: Machine, *rules: str) -> None:
    """Set a machine's rules for what comes and goes by the wire; none lets everything through again."""
    inside = ("ip", "netns", "exec", machine.namespace, "nft")
    command(*inside, "flush", "ruleset")
    command(*inside, "add", "table", "inet", "fence")
    for hook in ("input", "output"):
        command(*inside, "add", "chain", "inet", "fence", hook, f"{{ type filter hook {hook} priority 0; }}")
    for rule in rules:
        hook, *rest = rule.split()
        wire = ("iifname" if hook == "input" else "oifname", DEVICE)
        command(*inside, "add", "rule", "inet", "fence", hook, *wire, *rest)


def forget_neighbours(machine: Machine) -> None:
    """Let a machine ask anew who is there: pairing was a moment ago, and the kernel remembers that."""
    command("ip", "-n", machine.namespace, "neigh", "flush", "all")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Lan]:
    """Three machines on one switch, the first two in a mesh."""
    with lan(tmp_path, "laptop", "studio", "tower") as made:
        pair(made.machines[0], made.machines[1], at=True)
        yield made


def test_all_is_well(network: Lan) -> None:
    laptop, studio, _ = network.machines
    with programs(laptop, studio) as (one, _):
        one.say("until", 1)
        for machine, other in ((laptop, "studio"), (studio, "laptop")):
            found = doctor(machine, status=0)
            assert {each["level"] for each in found.values()} == {"ok"}, found
            assert (found["reached"]["member"], other in found["multicast"]["what"]) == (other, True)
            assert "reaches this machine" in found["reached"]["what"]
            assert "clock" in found
        assert one.say("peers") == {"studio": True}, "the examination is no peer"
    text = laptop.zmesh("doctor", status=1)
    assert "no peer runs on this machine" in text


def test_who_is_examined_need_not_be_remembered(network: Lan) -> None:
    """Without a peer of its own the examination asks the other side all the same, and leaves nothing there."""
    laptop, studio, _ = network.machines
    with programs(studio) as (other,):
        found = doctor(laptop, status=0)
        assert "reaches this machine" in found["reached"]["what"]
        assert other.say("peers") == {}


def test_no_multicast(network: Lan) -> None:
    laptop, studio, _ = network.machines
    firewall(laptop, "input udp dport 5353 drop", "output udp dport 5353 drop")
    with programs(studio):
        found = doctor(laptop, status=1)
        assert "no multicast" in found["multicast"]["what"]
        assert found["multicast"]["level"] == "trouble"
        assert "5353" in found["multicast"]["advice"]
        assert found["unknown"]["member"] == "studio"
        # Named by its address it is reached, and the lack of multicast is no trouble.
        found = doctor(laptop, status=0, ZMESH_PEERS=studio.address)
        assert (found["multicast"]["level"], found["reached"]["member"]) == ("warning", "studio")
        firewall(laptop, "input udp dport 5353 drop")
        found = doctor(laptop, status=1)
        assert "does not come back" in found["multicast"]["what"]


def test_multicast_that_is_lost_on_the_way(network: Lan) -> None:
    laptop, studio, _ = network.machines
    firewall(studio, "output udp dport 5353 drop")
    with programs(studio):
        found = doctor(laptop, status=1)
        assert found["nobody"]["level"] == "trouble"
        assert "studio" in found["nobody"]["what"]
        found = doctor(laptop, status=0, ZMESH_PEERS=studio.address)
        assert "studio can be reached on this network, and cannot be heard" in found["multicast"]["what"]


@pytest.mark.parametrize("verdict", ["drop", "reject", "reject with tcp reset"])
def test_a_firewall_there(network: Lan, verdict: str) -> None:
    laptop, studio, _ = network.machines
    firewall(studio, f"input tcp dport 7420-7421 {verdict}")
    with programs(studio):
        found = doctor(laptop, status=1)
        assert found["firewall-there"]["member"] == "studio"
        assert "ports 7420 and 7421" in found["firewall-there"]["advice"]
        firewall(studio, f"input tcp dport 7420 {verdict}")
        found = doctor(laptop, status=1)
        assert "the door of studio" in found["firewall-there"]["what"]


@pytest.mark.parametrize(("verdict", "how"), [("drop", "gets no answer"), ("reject with tcp reset", "is rejected")])
def test_a_firewall_here(network: Lan, verdict: str, how: str) -> None:
    laptop, studio, _ = network.machines
    firewall(laptop, f"input tcp dport 7420-7421 {verdict}")
    with programs(studio):
        found = doctor(laptop, status=1)
        assert "a firewall on this machine" in found["firewall-here"]["what"]
        assert how in found["firewall-here"]["what"]
        with programs(laptop):
            assert how in doctor(laptop, status=1)["firewall-here"]["what"]
            assert doctor(studio, status=1)["firewall-there"]["member"] == "laptop"


def test_a_network_that_keeps_its_machines_apart(network: Lan) -> None:
    laptop, studio, tower = network.machines
    pair(laptop, tower, at=True)
    network.isolate()
    forget_neighbours(laptop)
    with programs(studio, tower):
        found = doctor(laptop, status=1, ZMESH_PEERS=f"{studio.address},{tower.address}")
        assert "client isolation" in found["isolation"]["what"]
        assert "access point" in found["isolation"]["advice"]


def test_a_machine_that_is_off_is_no_trouble_while_others_are_there(network: Lan) -> None:
    laptop, studio, tower = network.machines
    pair(laptop, tower, at=True)
    named = f"{studio.address},{tower.address}"
    network.unplug(tower)
    forget_neighbours(laptop)
    with programs(studio):
        found = doctor(laptop, status=0, ZMESH_PEERS=named)
        assert (found["absent"]["level"], found["reached"]["member"]) == ("warning", "studio")
        assert "isolation" not in found
        assert "it is off" in found["absent"]["advice"]
        found = doctor(laptop, "--for", "tower", status=1, ZMESH_PEERS=named)
        assert "studio" not in json.dumps(found["absent"])
        refused = laptop.zmesh("doctor", "--for", "nobody", status=1)
        assert "no other member" in refused


def test_a_machine_without_a_peer(network: Lan) -> None:
    studio = network.machines[1]
    found = doctor(studio, status=1)  # the laptop is where it was invited
    assert found["no-listener"]["member"] == "laptop"
    assert "zmesh up" in found["no-listener"]["advice"]


def test_a_port_that_another_program_has(network: Lan) -> None:
    laptop = network.machines[0]
    script = "import socket, time; s = socket.create_server(('', 7420)); print('taken', flush=True); time.sleep(600)"
    other = laptop.start("-c", script)
    try:
        read_until(other, "taken")
        found = doctor(laptop, status=1)
        assert (
            f"port 7420, the port of this machine's peer, is in use by process {other.pid} (" in found["port"]["what"]
        )
        assert "--port" in found["port"]["advice"]
    finally:
        other.kill()
        other.communicate(timeout=30)
    with programs(laptop):
        assert "port" not in doctor(laptop, status=1), "its own peer may have it"


def test_what_its_own_peer_knows_is_known(network: Lan) -> None:
    """The laptop was never told an address: the studio has dialled it."""
    laptop, studio, _ = network.machines
    with programs(laptop, studio, discovery=WITHOUT_MULTICAST) as (one, _):
        one.say("until", 1)
        found = doctor(laptop, status=0)
        assert found["reached"]["member"] == "studio"
        assert "studio can be reached on this network, and cannot be heard" in found["multicast"]["what"]


def test_revoked(network: Lan) -> None:
    laptop, studio, _ = network.machines
    laptop.zmesh("trust", "revoke", "studio", "--reason", "stolen")
    with programs(laptop):
        found = doctor(studio, status=1)  # it has not heard of it: the laptop says so
        assert "says that this device was revoked" in found["revoked"]["what"]


def test_not_paired(network: Lan) -> None:
    tower = network.machines[2]
    found = doctor(tower, status=0)
    assert "not paired" in found["unpaired"]["what"]
    assert "zmesh join" in found["unpaired"]["advice"]
    found = doctor(tower, status=1, ZMESH_PEERS=network.machines[0].address)
    assert found["unpaired"]["level"] == "trouble"


def test_a_machine_that_sees_us_elsewhere(network: Lan) -> None:
    """Behind address translation the connection back cannot work, and that is no firewall."""
    laptop, studio, _ = network.machines
    inside = ("ip", "netns", "exec", studio.namespace, "nft")
    command(*inside, "add", "table", "ip", "translation")
    command(*inside, "add", "chain", "ip", "translation", "coming", "{ type nat hook input priority 100; }")
    command(*inside, "add", "rule", "ip", "translation", "coming", "tcp", "dport", "7421", "snat", "to", "10.78.0.99")
    with programs(studio):
        found = doctor(laptop, status=1)
        assert "10.78.0.99" in found["nat"]["what"]
