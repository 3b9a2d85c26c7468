"""Names that more than one machine has: nothing is sent to whoever happens to be found first."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.mesh.crew import Hand, crew, mesh_of
from tests.mesh.lan import lan
from tests.mesh.test_doctor import doctor
from tests.mesh.test_doubles import Up
from tests.storm.processes import wait_until

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
                    hand.say("met", 2)  # a mailbox that only one of the namesakes is known to have is no riddle
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


def test_the_names_are_told_with_the_way_out_and_a_port_that_is_taken_too(tmp_path: Path) -> None:
    with lan(tmp_path, "laptop", "studio", "cellar") as network, ExitStack() as stack:
        mesh_of(network.machines)
        laptop, studio, cellar = network.machines
        other = studio.start("-c", "import socket; s = socket.create_server(('', 7420)); print(flush=True); input()")
        stack.callback(other.communicate, "\n")
        assert other.stdout is not None
        other.stdout.readline()
        one = Up(studio)
        stack.callback(one.end)
        assert "This time it listens at port" in one.said()
        assert ":7420" not in one.up
        assert f":{re.findall(r'listens at port ([0-9]+)', one.said())[0]}" in one.up
        assert re.search(r"its door at port [1-9]", one.up)
        hold = "import socket; s = socket.create_server(('', 7421)); print(flush=True); input()"
        door = cellar.start("-c", hold)
        stack.callback(door.communicate, "\n")
        assert door.stdout is not None
        door.stdout.readline()
        two = Up(cellar)
        stack.callback(two.end)
        assert "cannot listen for pairing at port 7421" in two.said()
        assert re.search(r":7420, its door at port (?!7421)[1-9]", two.up)
        wait_until(lambda: all("2 peers are called studio: studio~" in each.said() for each in (one, two)), 30, "it")
        assert "zmesh up --name NAME" in one.said()
        found = doctor(laptop, status=0)
        assert "on cellar, studio" in found["names"]["what"]
