"""Floods, by strangers and by a member that means harm: memory stays bounded, and the others' messages go on."""

import contextlib
import json
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mesh.crew import PATIENCE, Hand, crew, device_of, everybody, mesh_of
from tests.mesh.lan import Machine, lan
from tests.storm.processes import wait_until

CONNECTIONS = 20
PINGS = 30
MEMORY = 40  # MiB that a flood may cost while it lasts: each connection of libzmq can have a frame of 1 MiB half read

pytestmark = [pytest.mark.network, pytest.mark.timeout(240)]


@dataclass
class Flood:
    """A flood under way (see `tests.mesh.hostile`)."""

    process: subprocess.Popen[str]

    @property
    def attempts(self) -> int:
        """How many there were."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # what it has to say about that is read below
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.process.stderr and self.process.stderr.read()
        return int(line)

    def reaches(self, least: int) -> None:
        """Wait until there were so many."""
        wait_until(lambda: self.attempts >= least, PATIENCE, f"{least} attempts")


@contextlib.contextmanager
def flood(source: Machine, kind: str, target: Machine, port: int, count: int = CONNECTIONS) -> Iterator[Flood]:
    """Let one machine flood another one."""
    key = device_of(target).curve_public.hex()
    process = source.start("-m", "tests.mesh.hostile", kind, str(count), target.address, str(port), key)
    try:
        yield Flood(process)
    finally:
        process.kill()
        process.communicate(timeout=20)


def port_of(hand: Hand) -> int:
    """Return where a peer listens."""
    return int(hand.endpoints[0].rpartition(":")[2])


def latency(hands: list[Hand]) -> float:
    """Return the median time until a message from either is stored at the other, in seconds."""
    one, two = hands
    times: list[float] = [*one.say("latency", f"box@{two.name}", PINGS), *two.say("latency", f"box@{one.name}", PINGS)]
    return statistics.median(times)


def compare(what: str, target: Hand, hands: list[Hand], attack: Flood, before: float) -> None:
    """Measure while a flood goes on; see that memory and latency stay as they were."""
    memory = target.usage().memory
    began = attack.attempts
    during = latency(hands)
    attempts = attack.attempts - began
    usage = target.usage()
    print(
        f"{what}: latency {1000 * before:.1f} ms before, {1000 * during:.1f} ms during {attempts} attempts; "
        f"{memory:.0f} to {usage.memory:.0f} MiB, {usage.sockets} sockets"
    )
    assert during < 10 * before + 0.25


@pytest.mark.parametrize(("kind", "least"), [("keys", 500), ("garbage", 500), ("half", 2 * CONNECTIONS)])
def test_strangers_that_flood_the_main_socket_change_nothing_for_members(tmp_path: Path, kind: str, least: int) -> None:
    with lan(tmp_path, "laptop", "studio", "stranger") as network:
        laptop, studio, stranger = network.machines
        mesh_of((laptop, studio))
        with crew(laptop, studio) as hands:
            everybody(hands, "until", 1)
            before = latency(hands)
            at_rest = hands[0].usage().memory
            with flood(stranger, kind, laptop, port_of(hands[0])) as attack:
                attack.reaches(least)
                compare(kind, hands[0], hands, attack, before)
                assert hands[0].usage().memory < at_rest + MEMORY
            assert set(hands[0].say("peers")) == {"studio"}
            assert "a frame was dropped" not in hands[0].tail(), "a stranger has reached the parser"


@pytest.mark.parametrize(("kind", "least"), [("hello", 3000), ("links", 5000)])
def test_a_member_that_floods_with_greetings_keeps_nobody_from_talking(tmp_path: Path, kind: str, least: int) -> None:
    with lan(tmp_path, "laptop", "studio", "mallory") as network:
        laptop, studio, mallory = network.machines
        mesh_of(network.machines)
        with crew(laptop, studio) as hands:
            everybody(hands, "until", 1)
            before = latency(hands)
            at_rest = hands[0].usage().memory
            with flood(mallory, kind, laptop, port_of(hands[0]), 1) as attack:
                attack.reaches(least)
                compare(kind, hands[0], hands, attack, before)
                assert hands[0].say("peers")["studio"]
                assert hands[0].usage().memory < at_rest + 3 * MEMORY
            assert hands[0].say("send", "box@studio", 100) == 100


@pytest.mark.parametrize("kind", ["garbage", "half"])
def test_a_machine_pairs_while_strangers_flood_the_door(tmp_path: Path, kind: str) -> None:
    with lan(tmp_path, "laptop", "studio", "stranger") as network:
        laptop, studio, stranger = network.machines
        inviting = laptop.start("-m", "zmesh", "invite", "--name", "laptop", "--json")
        try:
            assert inviting.stdout is not None
            invited = next(event for event in map(json.loads, inviting.stdout) if event["event"] == "invited")
            with flood(stranger, kind, laptop, invited["port"]) as attack:
                attack.reaches(100)
                joined = json.loads(studio.zmesh("join", invited["secret"], "--name", "studio", "--json"))
                assert json.loads(inviting.communicate(timeout=30)[0].splitlines()[-1])["device"] == joined["device"]
        finally:
            inviting.kill()
            inviting.communicate(timeout=20)
