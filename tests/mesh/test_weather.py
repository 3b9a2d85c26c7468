"""What networks do to machines in the middle of a transfer: they lose packets, fall apart, and change addresses.

Whatever it is, each message arrives once, and in order.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.crew import PATIENCE, Hand, crew, everybody, mesh_of
from tests.mesh.lan import Lan, lan
from tests.storm.processes import wait_until

LOSS = 0.3
MANY = 5000
SOME = 300

pytestmark = [pytest.mark.network, pytest.mark.timeout(240)]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Lan]:
    """Two machines of one mesh."""
    with lan(tmp_path, "laptop", "studio") as made:
        mesh_of(made.machines)
        yield made


def queue_both(hands: list[Hand], count: int) -> None:
    """Let each send so many numbers to the other; all are on disk then."""
    for hand, other in zip(hands, reversed(hands), strict=True):
        hand.tell("queue", count, f"box@{other.name}")
    for hand in hands:
        hand.ready()


def all_arrived(hands: list[Hand], count: int, rounds: int = 1, patience: float = 90) -> None:
    """See that each gets what the other sent, once and in order."""
    everybody(hands, "settle", patience)
    for hand, other in zip(hands, reversed(hands), strict=True):
        hand.takes(rounds * count)
        assert hand.say("got") == [[f"box@{other.name}", number] for number in list(range(count)) * rounds]


def test_what_both_sides_queued_in_a_partition_arrives_once_it_is_healed(network: Lan) -> None:
    with crew(*network.machines) as hands:
        everybody(hands, "until", 1)
        network.unplug(network.machines[1])
        queue_both(hands, SOME)
        for hand in hands:
            wait_until(lambda hand=hand: not any(hand.say("peers").values()), PATIENCE, "the link is down")  # type: ignore[misc]
        queue_both(hands, SOME)
        assert everybody(hands, "count") == [0, 0], "the network was not cut"
        healed = time.monotonic()
        network.plug(network.machines[1])
        arrived = everybody(hands, "arrived", healed)
        print(f"traffic again {', '.join(f'{moment - healed:.2f}' for moment in arrived)} s after the partition")
        all_arrived(hands, SOME, rounds=2)


def test_another_address_in_mid_transfer_loses_nothing(network: Lan) -> None:
    _, studio = network.machines
    with crew(*network.machines) as hands:
        everybody(hands, "until", 1)
        queue_both(hands, MANY)
        for hand in hands:
            hand.takes(MANY // 10)
        moved = time.monotonic()
        network.readdress(studio, "10.78.0.77")
        assert max(everybody(hands, "count")) < MANY, "all had arrived already"
        all_arrived(hands, MANY, patience=25)
        print(f"no traffic for {', '.join(f'{pause:.2f}' for pause in everybody(hands, 'pause', moved))} s")


@pytest.mark.parametrize("from_the_start", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_nothing_is_lost_where_packets_are(tmp_path: Path, *, from_the_start: bool) -> None:
    with lan(tmp_path, "laptop", "studio", loss=LOSS if from_the_start else 0.0) as network:
        mesh_of(network.machines)
        with crew(*network.machines) as hands:
            everybody(hands, "until", 1)
            network.lose(LOSS)
            began = time.monotonic()
            queue_both(hands, SOME)
            all_arrived(hands, SOME)
            assert network.lost > 0
            print(f"{SOME} messages each way at {LOSS:.0%} loss: {time.monotonic() - began:.1f} s, {network.lost} lost")
