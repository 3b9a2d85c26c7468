"""Many machines: each sees each, and whatever each sends to each arrives once, in order."""

from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pytest

from tests.mesh.crew import crew, everybody, mesh_of
from tests.mesh.lan import lan

BURST = 100

pytestmark = pytest.mark.network


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [8, pytest.param(20, marks=pytest.mark.soak)])
def test_each_sees_each_and_a_burst_from_each_to_each_arrives_once(tmp_path: Path, count: int) -> None:
    names = [f"m{number:02}" for number in range(count)]
    with lan(tmp_path, *names) as network:
        mesh_of(network.machines)
        with crew(*network.machines) as hands:
            linked = everybody(hands, "until", count - 1)
            print(
                f"{count} peers: all linked {max(linked) - min(hand.spawned for hand in hands):.1f} s after the start"
            )
            for hand in hands:
                assert hand.say("peers") == dict.fromkeys(set(names) - {hand.name}, True)
            before = [hand.usage() for hand in hands]
            for hand in hands:
                hand.tell("queue", BURST, *(f"box@{name}" for name in names if name != hand.name))
            assert [hand.ready() for hand in hands] == [BURST * (count - 1)] * count
            assert everybody(hands, "settle", 90) == [BURST * (count - 1)] * count
            for hand in hands:
                hand.takes(BURST * (count - 1))
            got = everybody(hands, "got")
            after = [hand.usage() for hand in hands]
    for hand, taken in zip(hands, got, strict=True):
        groups = groupby(sorted(taken, key=itemgetter(0)), itemgetter(0))
        assert {sender: [body for _, body in group] for sender, group in groups} == {
            f"box@{name}": list(range(BURST)) for name in names if name != hand.name
        }
    for when, usages in (("linked", before), ("after the burst", after)):
        worst = max(usages, key=lambda usage: usage.memory)
        print(
            f"{count} peers, {when}: at most {worst.memory:.0f} MiB, {max(u.sockets for u in usages)} sockets, "
            f"{max(u.descriptors for u in usages)} descriptors each"
        )
    # What each peer uses must follow from how many there are, not from what was sent; an interpreter with zmesh has 35.
    assert max(usage.memory for usage in after) < 100
    assert max(usage.descriptors for usage in after) < 40 + 6 * count
