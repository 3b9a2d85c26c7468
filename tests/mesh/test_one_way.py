"""A machine that can dial and cannot be dialled (NAT, a firewall, a container): messages go both ways all the same."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.lan import Lan, lan
from tests.mesh.test_machines import ALL, WITHOUT_MULTICAST, Running, pair, programs

MANY, SOME = 2000, 500

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=[ALL, WITHOUT_MULTICAST], ids=["mdns", "no-mdns"])
def discovery(request: pytest.FixtureRequest) -> str:
    """How the machines find each other."""
    return str(request.param)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Lan]:
    """A laptop that nobody can dial, and a studio; they are paired."""
    with lan(tmp_path, "laptop", "studio") as made:
        laptop, studio = made.machines
        pair(studio, laptop, at=True)
        made.shut(laptop)
        yield made


def numbers(taken: list[Any]) -> list[int]:
    return [number for _, number in taken]


def test_messages_go_both_ways_each_once_and_in_order(network: Lan, discovery: str) -> None:
    laptop, studio = network.machines
    with programs(laptop, studio, discovery=discovery) as (one, two):
        one.say("until", 1)
        two.say("until", 1)
        assert one.say("ask", "box@studio") == "box@studio"
        assert two.say("ask", "box@laptop") == "box@laptop"
        one.tell("send", "box@studio", MANY)
        two.tell("send", "box@laptop", MANY)
        assert (one.answer(), two.answer()) == (MANY, MANY)
        for running in (one, two):
            running.got(MANY)
            assert numbers(running.say("got")) == list(range(MANY))
        assert "cannot be dialled from here: it is answered on the connection it has made" in two.stop()


@pytest.mark.parametrize("victim", [0, 1], ids=["laptop", "studio"])
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_either_side_may_end_and_come_back(network: Lan, victim: int, how: str) -> None:
    with programs(*network.machines) as running:
        for each in running:
            each.say("until", 1)
        survivor, name = running[not victim], network.machines[victim].name
        survivor.tell("send", f"box@{name}", SOME)
        running[victim].stop() if how == "stop" else running[victim].kill()
        running[victim] = Running(network.machines[victim])
        assert survivor.answer() == SOME, "all are stored there"
        other = network.machines[not victim].name
        assert running[victim].say("send", f"box@{other}", 20) == 20
        assert numbers(survivor.got(20)) == list(range(20))
        assert running[victim].say("ask", f"box@{other}") == f"box@{other}"
        assert survivor.say("ask", f"box@{name}") == f"box@{name}"
        taken = numbers(running[victim].say("got"))  # what was done before the end does not come again
        assert all(later == earlier + 1 for earlier, later in pairwise(taken))


def test_once_it_can_be_dialled_it_is(network: Lan) -> None:
    laptop, studio = network.machines
    with programs(laptop, studio) as (one, two):
        two.say("until", 1)
        assert two.say("ways")["laptop"] == "theirs"
        network.open(laptop)
        while two.say("ways")["laptop"] != "ours":
            assert two.say("ask", "box@laptop") == "box@laptop", "it is asked all the while"
        assert one.say("ask", "box@studio") == "box@studio"
