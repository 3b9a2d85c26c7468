"""Machines that were paired: each reaches each, and who was revoked reaches nobody."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.lan import Lan, Machine, lan

ALL = "rendezvous,static,mdns"
WITHOUT_MULTICAST = "rendezvous,static"
PATIENCE = 20.0

pytestmark = pytest.mark.timeout(180)


class Running:
    """A program on a machine (see `tests.mesh.program`)."""

    def __init__(self, machine: Machine, discovery: str = ALL, **variables: str) -> None:
        self.machine = machine
        self._process = machine.start("-m", "tests.mesh.program", machine.name, discovery, log=None, **variables)
        self.endpoints = self._read()

    def say(self, *words: str | int) -> Any:
        """Give it a command; return its answer."""
        self.tell(*words)
        return self.answer()

    def answer(self) -> Any:
        """Read the answer to a command."""
        answer = self._read()
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def tell(self, *words: str | int) -> None:
        """Give it a command whose answer is not waited for; `answer` reads it."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it at once, as a loss of power does."""
        self._process.kill()
        self._process.communicate(timeout=30)

    def until(self, what: str, *, of: bool) -> None:
        """Wait until a peer is linked, or is not."""
        end = time.monotonic() + PATIENCE
        while bool(self.say("peers").get(what)) is not of:
            assert time.monotonic() < end, f"{self.machine.name} and {what}"
            time.sleep(0.05)

    def got(self, count: int) -> list[Any]:
        """Return what its box has taken, sorted, once it is so many: what is stored is taken a little later."""
        end = time.monotonic() + PATIENCE
        while len(taken := self.say("got")) < count:
            assert time.monotonic() < end, f"{self.machine.name} has taken {len(taken)} of {count}"
            time.sleep(0.05)
        return sorted(taken)

    def stop(self) -> str:
        """End it; return what it has logged."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.communicate(timeout=15)[1]
        self._process.kill()
        return self._process.communicate(timeout=30)[1]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(self._process.communicate(timeout=10)[1])
        return json.loads(line)


def pair(inviter: Machine, joiner: Machine, *, at: bool = False) -> None:
    """Pair two machines as a person would, one command on each; `at`: the joiner is told the inviter's address."""
    inviting = inviter.start("-m", "zmesh", "invite", "--name", inviter.name, "--json")
    assert inviting.stdout is not None
    events: list[dict[str, Any]] = []
    while not events or "secret" not in events[-1]:
        events.append(json.loads(inviting.stdout.readline()))
    place = ["--at", inviter.address] if at else []
    joined = json.loads(joiner.zmesh("join", events[-1]["secret"], *place, "--name", joiner.name, "--json"))
    output, errors = inviting.communicate(timeout=PATIENCE)
    assert inviting.returncode == 0, errors
    told = json.loads(output.splitlines()[-1])
    assert (told["event"], told["name"], told["device"]) == ("joined", joiner.name, joined["device"])


@contextlib.contextmanager
def programs(*machines: Machine, discovery: str = ALL) -> Iterator[list[Running]]:
    """Run a program on each machine."""
    running: list[Running] = []
    try:
        running.extend(Running(machine, discovery) for machine in machines)
        yield running
    finally:
        for each in running:
            each.stop()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Lan]:
    """Three machines on one switch."""
    with lan(tmp_path, "laptop", "studio", "tower") as made:
        yield made


@pytest.fixture(params=[ALL, WITHOUT_MULTICAST], ids=["mdns", "no-mdns"])
def discovery(request: pytest.FixtureRequest) -> str:
    """How the machines find each other."""
    return str(request.param)


def test_two_pairings_join_three_machines_six_ways(network: Lan, discovery: str) -> None:
    laptop, studio, tower = network.machines
    blind = discovery == WITHOUT_MULTICAST
    pair(laptop, studio, at=blind)
    with programs(laptop, studio, discovery=discovery) as (one, two):
        one.say("until", 1)
        assert one.say("ask", "box@studio") == "box@studio"
        pair(studio, tower, at=blind)  # the laptop hears of it from the studio
        with programs(tower, discovery=discovery) as (three,):
            everybody = {"laptop": one, "studio": two, "tower": three}
            for running in everybody.values():
                running.say("until", 2)
            for name, running in everybody.items():
                for other in everybody.keys() - {name}:
                    assert running.say("ask", f"box@{other}") == f"box@{other}"
            for name, running in everybody.items():
                for other in everybody.keys() - {name}:
                    assert running.say("send", f"box@{other}", 20) == 20
            for name, running in everybody.items():
                expected = sorted(
                    [f"box@{other}", number] for other in everybody.keys() - {name} for number in range(20)
                )
                assert running.got(len(expected)) == expected
    listed = json.loads(laptop.zmesh("trust", "list", "--json"))
    assert [member["name"] for member in listed] == ["laptop", "studio", "tower"]


def test_a_revoked_machine_is_shut_out_with_its_connections_open(network: Lan, discovery: str) -> None:
    laptop, studio, tower = network.machines
    blind = discovery == WITHOUT_MULTICAST
    pair(laptop, studio, at=blind)
    pair(laptop, tower, at=blind)
    with programs(laptop, studio, tower, discovery=discovery) as (one, two, three):
        for running in (one, two, three):
            running.say("until", 2)
        laptop.zmesh("trust", "revoke", "tower", "--reason", "stolen")
        for running in (one, two):
            running.until("tower", of=False)
        three.until("laptop", of=False)
        three.until("studio", of=False)
        assert one.say("ask", "box@studio") == "box@studio", "the others go on"
        assert two.say("ask", "box@laptop") == "box@laptop"
        assert not one.say("peers")["tower"]
    refused = tower.zmesh("invite", status=1)
    assert "revoked" in refused or "stolen" in refused


def test_machines_that_were_not_paired_do_not_meet(network: Lan) -> None:
    laptop, studio, tower = network.machines
    pair(laptop, studio)
    with programs(laptop, studio, tower) as (one, two, three):
        one.say("until", 1)
        two.say("until", 1)
        assert set(one.say("peers")) == {"studio"}
        assert three.say("peers") == {}


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    """Read lines until one has these words."""
    assert process.stdout is not None
    lines: list[str] = []
    while line := process.stdout.readline():
        lines.append(line)
        if words in line:
            return line
    raise AssertionError(f"{words!r} never came: {lines}{process.communicate(timeout=30)[1]}")


def test_a_machine_without_a_person_joins_by_a_token_and_its_peer_is_there(network: Lan) -> None:
    laptop, studio, _ = network.machines
    inviting = laptop.start("-m", "zmesh", "invite", "--name", "laptop", "--token", "--json")
    token = json.loads(read_until(inviting, '"secret"'))["secret"]
    one = laptop.start("-m", "zmesh", "up", "--foreground")
    two = studio.start("-m", "zmesh", "up", "--foreground", "--name", "studio", ZMESH_JOIN=token)
    try:
        assert ":7420" in read_until(one, "laptop is up at")
        read_until(two, "studio is up at")
        read_until(one, "studio is linked")
        read_until(two, "laptop is linked")
        two.terminate()
        read_until(one, "studio is gone")
        assert "studio is down" in two.communicate(timeout=PATIENCE)[0]
        assert two.returncode == 0
    finally:
        for process in (inviting, one, two):
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=PATIENCE)
