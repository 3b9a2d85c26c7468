"""A cloned disk: two machines with one home and one machine id. Each is told of the other, and what to do."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.mesh.crew import mesh_of
from tests.mesh.lan import Lan, Machine, lan
from tests.mesh.test_doctor import doctor
from tests.storm.processes import wait_until
from zmesh.peer.store_identity import FILE, MACHINE

pytestmark = pytest.mark.timeout(120)


class Up:
    """`zmesh up` on a machine, and what it says."""

    def __init__(self, machine: Machine, **variables: str) -> None:
        self.log = machine.home / "up.log"
        words = ("-m", "zmesh", "up", "--foreground", "--name", "studio")
        self._process = machine.start(*words, log=self.log, **variables)
        assert self._process.stdout is not None
        said = iter(self._process.stdout.readline, "")
        self.up = next((line for line in said if " is up at " in line), "")
        if not self.up:
            self.end()
            raise AssertionError(self.said())

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Lan]:
    """An original, its clone, and the machine that invited it, which goes on running."""
    with lan(tmp_path, "tower", "studio", "clone") as made:
        tower, studio, clone = made.machines
        mesh_of([tower, studio])
        Up(studio).end()
        clone.home.rmdir()
        shutil.copytree(studio.home, clone.home)
        # A cloned disk keeps its files' numbers and its machine id, which copied files on this host do not.
        (path,) = clone.home.glob("peers/*/store.db")
        (original,) = studio.home.glob("peers/*/store.db")
        with closing(sqlite3.connect(original)) as connection:
            (machine,) = connection.execute("SELECT value FROM meta WHERE key = ?", (MACHINE,)).fetchone()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for key, value in ((FILE, b"%d" % path.stat().st_ino), (MACHINE, machine)):
                connection.execute("REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
        yield made


@pytest.mark.parametrize("discovery", ["rendezvous,static,mdns", "rendezvous,static"])
def test_two_clones_are_told_of_each_other_with_the_way_out(network: Lan, discovery: str) -> None:
    tower, studio, clone = network.machines
    variables = {"ZMESH_DISCOVERY": discovery, "ZMESH_PEERS": tower.address}
    with ExitStack() as stack:
        running = []
        for machine in network.machines:
            running.append(Up(machine, **({"ZMESH_DISCOVERY": discovery} if machine is tower else variables)))
            stack.callback(running[-1].end)
        for one, other in ((running[1], clone), (running[2], studio)):
            text = f"another machine, at {other.address}, runs this very peer"
            wait_until(lambda: text in one.said(), 60, f"{text}: {one.said()}")  # noqa: B023 - waited for here
            assert "move its ZMESH_HOME away" in one.said()
        assert "runs this very peer" not in running[0].said()
        found = doctor(studio, status=1, ZMESH_DISCOVERY=discovery, ZMESH_PEERS=tower.address)
        assert (found["copy"]["level"], clone.address in found["copy"]["what"]) == ("trouble", True)
        assert "copy" not in doctor(tower, status=0, ZMESH_DISCOVERY=discovery)
