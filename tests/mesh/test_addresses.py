"""Machines whose addresses are new, old, of another kind, or not there yet: they find each other all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.support import command
from tests.mesh.lan import DEVICE, Lan, Machine, lan
from tests.mesh.test_machines import ALL, WITHOUT_MULTICAST, Running, pair, programs

pytestmark = pytest.mark.timeout(180)
CACHE_ALONE = "rendezvous"


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Lan]:
    """Three machines on one switch."""
    with lan(tmp_path, "laptop", "studio", "tower") as made:
        yield made


@pytest.fixture(params=[ALL, WITHOUT_MULTICAST], ids=["mdns", "no-mdns"])
def discovery(request: pytest.FixtureRequest) -> str:
    """How the machines find each other."""
    return str(request.param)


def linked(*running: Running) -> None:
    """Wait until all are linked with all."""
    for one in running:
        for other in running:
            if one is not other:
                one.until(other.machine.name, of=True)


def talk(one: Running, other: Running) -> None:
    """Each asks the other."""
    assert one.say("ask", f"box@{other.machine.name}") == f"box@{other.machine.name}"
    assert other.say("ask", f"box@{one.machine.name}") == f"box@{one.machine.name}"


def only_ipv6(machine: Machine, number: int) -> None:
    """Take its IPv4 address away, and give it one of IPv6."""
    inside = ("ip", "-n", machine.namespace)
    command(*inside, "-4", "address", "flush", "dev", DEVICE)
    command(*inside, "-6", "address", "add", f"fd78::{number}/64", "dev", DEVICE, "nodad")


def test_ipv6_is_enough(network: Lan, discovery: str) -> None:
    laptop, studio, _ = network.machines
    pair(laptop, studio)
    for number, machine in enumerate((laptop, studio), start=1):
        only_ipv6(machine, number)
    with programs(laptop, discovery=discovery) as (one,):
        assert any("[fd78::1]" in endpoint for endpoint in one.endpoints)
        two = Running(studio, discovery, ZMESH_PEERS="" if discovery == ALL else "tcp://[fd78::1]:7420")
        try:
            linked(one, two)
            talk(one, two)
        finally:
            two.stop()


def test_a_machine_with_another_address_is_reached_there(network: Lan, discovery: str) -> None:
    laptop, studio, tower = network.machines
    blind = discovery == WITHOUT_MULTICAST
    pair(laptop, studio, at=blind)
    pair(laptop, tower, at=blind)
    with programs(laptop, studio, tower, discovery=discovery) as (one, two, three):
        linked(one, two, three)
        network.readdress(studio, "10.78.0.77")
        talk(one, two)
        talk(three, two)
        network.readdress(laptop, "10.78.0.78")
        talk(one, two)
        talk(one, three)


def test_two_that_move_at_once_meet_by_a_third(network: Lan) -> None:
    laptop, studio, tower = network.machines
    pair(laptop, studio, at=True)
    pair(laptop, tower, at=True)
    with programs(laptop, studio, tower, discovery=WITHOUT_MULTICAST) as (one, two, three):
        linked(one, two, three)
        network.readdress(studio, "10.78.0.77")
        network.readdress(tower, "10.78.0.78")
        talk(two, three)


def test_a_machine_whose_network_comes_late_is_found_then(network: Lan, discovery: str) -> None:
    laptop, studio, _ = network.machines
    pair(laptop, studio, at=discovery == WITHOUT_MULTICAST)
    command("ip", "-n", studio.namespace, "link", "set", DEVICE, "down")
    with programs(laptop, studio, discovery=discovery) as (one, two):
        assert not one.say("peers").get("studio")
        command("ip", "-n", studio.namespace, "link", "set", DEVICE, "up")
        command("ip", "-n", studio.namespace, "route", "replace", "default", "dev", DEVICE)
        linked(one, two)
        talk(one, two)


def test_remembered_addresses_are_enough(network: Lan) -> None:
    laptop, studio, tower = network.machines
    pair(laptop, studio, at=True)
    pair(laptop, tower, at=True)
    with programs(laptop, studio, tower, discovery=WITHOUT_MULTICAST) as running:
        linked(*running)
    with programs(laptop, studio, tower, discovery=CACHE_ALONE) as running:
        linked(*running)
        talk(running[1], running[2])


def test_an_address_that_somebody_names_is_enough(network: Lan) -> None:
    laptop, studio, tower = network.machines
    pair(laptop, studio)
    pair(laptop, tower)
    network.readdress(laptop, "10.78.0.99")  # where nobody looks for it
    named = f"{tower.address}:7420, nobody.invalid"
    with programs(laptop, tower, discovery=WITHOUT_MULTICAST) as (one, three):
        two = Running(studio, WITHOUT_MULTICAST, ZMESH_PEERS=named)
        try:
            linked(two, three)
            talk(two, three)
            assert not one.say("peers").get("studio"), "the laptop is found by nobody, and finds nobody"
        finally:
            two.stop()
