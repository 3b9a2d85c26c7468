"""A member that means harm says it is another one: by its routing id, its store, and its name."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import zmesh
from tests.faults.support import PATIENCE, Outsider, all_stored, collect, knows, make_peer, meet, nothing_more, run
from tests.mesh.crew import mesh_of_homes
from tests.waiting import until
from zmesh.peer.zmq_link import Origin
from zmesh.protocol.bounds import CLASSES, NO_ID
from zmesh.protocol.codec import encode
from zmesh.protocol.frames import Cursor, Hello
from zmesh.trust.device import Device

COUNT = 500
LINK = b"mallory!"


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, Path]:
    """Homes of three devices of one mesh, which find each other through files."""
    meeting = tmp_path / "meeting"
    meeting.mkdir(mode=0o700)
    made = {name: tmp_path / name for name in ("laptop", "studio", "mallory")}
    for home in made.values():
        home.mkdir(mode=0o700)
        (home / "rendezvous").symlink_to(meeting)
    mesh_of_homes(made)
    return made


@contextlib.asynccontextmanager
async def two_peers(homes: dict[str, Path]) -> AsyncIterator[tuple[zmesh.Peer, zmesh.Peer, zmesh.Agent, zmesh.Agent]]:
    """Run laptop and studio, of two devices, with an agent `box` each, that have met."""
    async with make_peer("laptop", homes["laptop"]) as laptop, make_peer("studio", homes["studio"]) as studio:
        boxes = await laptop.agent("box"), await studio.agent("box")
        await meet(laptop, "box@studio")
        await meet(studio, "box@laptop")
        yield laptop, studio, *boxes


def thief(homes: dict[str, Path], victim: zmesh.Peer, routing_id: bytes = b"") -> Outsider:
    """Connect with mallory's key, which is a member's."""
    own, server = (Device.load_or_create(homes[name] / "device.key") for name in ("mallory", victim.name))
    return Outsider(own, server, victim.endpoints[0], routing_id)


def greeting(store: bytes, name: str) -> list[bytes]:
    """Make a HELLO in the name of a store."""
    cursors = (Cursor(0, NO_ID),) * CLASSES
    frame = Hello(1, 1, store, name, ("tcp://127.0.0.1:9",), b"", False, 0, cursors, (1024,) * CLASSES)  # noqa: FBT003
    return encode(LINK, frame)


def paths_of(peer: zmesh.Peer) -> dict[str, bytes]:
    """From now on note the routing id of each device's connection."""
    paths: dict[str, bytes] = {}
    link = peer.driver.link
    inbound = link._on_inbound  # noqa: SLF001 - nothing tells it to others, and a thief would have to guess it

    def note(origin: Origin, parts: list[bytes]) -> None:
        paths[origin.device] = origin.path
        inbound(origin, parts)

    link._on_inbound = note  # noqa: SLF001
    return paths


def links(peer: zmesh.Peer) -> list[bytes]:
    """Return the ids of a peer's links: one that was disturbed has a new one."""
    return [remote.link.id for remote in peer.driver.core.node.remotes.values()]


def test_a_stolen_routing_id_and_a_claimed_store_get_nothing_and_disturb_nobody(homes: dict[str, Path]) -> None:
    async def test() -> None:
        async with two_peers(homes) as (laptop, studio, one, two):
            paths = paths_of(laptop)
            await (await two.send("box@laptop", "so that its connection is known")).stored(PATIENCE)
            (path,) = paths.values()
            before = links(laptop), links(studio)
            with thief(homes, laptop, path) as stolen, thief(homes, laptop) as honest:
                for _ in range(20):
                    await stolen.send(greeting(studio.driver.core.node.store, "studio"))
                    await honest.send(greeting(studio.driver.core.node.store, "studio"))
                receipts: list[zmesh.Receipt] = []
                for number in range(COUNT):
                    receipts += [await one.send("box@studio", number), await two.send("box@laptop", number)]
                await all_stored(receipts)
                assert not stolen.heard
            assert (links(laptop), links(studio)) == before, "the link of others has suffered"
            mine, theirs = await collect(one, COUNT + 1), await collect(two, COUNT)
            assert [message.body for message in mine[1:]] == list(range(COUNT))
            assert {message.sender for message in mine} == {"box@studio"}
            assert [message.body for message in theirs] == list(range(COUNT))
            assert [info.name for info in laptop.peers() if info.linked] == ["studio"]

    run(test)


def test_a_member_that_takes_anothers_name_makes_it_ambiguous_and_gets_nothing(homes: dict[str, Path]) -> None:
    async def test() -> None:
        async with two_peers(homes) as (laptop, studio, one, two):
            async with make_peer("studio", homes["mallory"]) as impostor:
                spy = await impostor.agent("box")
                await until(
                    lambda: sum("box" in info.agents and info.linked for info in laptop.peers()) == 2,
                    PATIENCE,
                    "both are seen",
                )
                with pytest.raises(zmesh.AmbiguousAddress, match=f"box@studio~{studio.id[:8]}"):
                    await one.send("box@studio", "for the true one")
                receipt = await one.send(f"box@studio~{studio.id[:8]}", "for the true one")
                await receipt.stored(PATIENCE)
                assert [message.body for message in await collect(two, 1)] == ["for the true one"]
                await nothing_more(spy)
            await until(lambda: knows(laptop, "box", "studio"), PATIENCE, "the true one is still there")

    run(test)
