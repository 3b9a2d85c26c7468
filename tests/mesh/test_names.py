"""Names that more than one machine has: nothing is sent to whoever happens to be found first."""

import re
from pathlib import Path

import pytest

from tests.mesh.crew import Hand, crew, mesh_of
from tests.mesh.lan import lan

pytestmark = pytest.mark.network


def test_two_machines_whose_peers_have_one_name_are_both_linked_and_told_apart(tmp_path: Path) -> None:
    with lan(tmp_path, "laptop", "studio", "cellar") as network:
        mesh_of(network.machines)
        laptop, studio, cellar = network.machines
        with crew(laptop, studio) as (one, two):
            three = Hand(cellar, "studio")
            try:
                three.ready()
                for hand in (one, two, three):
                    hand.say("until", 2)
                error = one.fails("ask", "box@studio")
                names = re.findall(r"box@studio~[a-z2-7]+", error)
                assert error.startswith("AmbiguousAddress")
                assert len(set(names)) == 2, error
                for name in names:
                    assert one.say("send", name, 10) == 10
                # Each answers by its own name; they got ten each, not twenty and none.
                for hand in (two, three):
                    hand.takes(10)
                    assert hand.say("got") == [["box@laptop", number] for number in range(10)]
            finally:
                three.close()
