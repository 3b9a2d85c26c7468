"""Whole peers of several devices on this host: they find each other by name alone, and follow who is trusted."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.peer.test_surroundings import free_port
from tests.trust.support import DEVICES, NAMES, bring_in, exchange
from tests.waiting import until
from zmesh.discovery import visits
from zmesh.discovery.meeting import Meeting, Meetings
from zmesh.peer.home import device_key_path, home_directory, trust_path
from zmesh.peer.traffic import Traffic
from zmesh.protocol.commands import Share
from zmesh.protocol.deadlines import NEVER
from zmesh.protocol.frames import Ops
from zmesh.trust.trust_store import TrustStore

pytestmark = pytest.mark.timeout(120)


class Machine:
    """A device with a home, and a peer on it."""

    def __init__(self, directory: Path, number: int) -> None:
        self.number, self.name = number, NAMES[number]
        self.home = home_directory(directory / self.name)
        device_key_path(self.home).write_bytes(DEVICES[number].seed)
        device_key_path(self.home).chmod(0o600)
        self.port = free_port()
        self.trust = TrustStore(trust_path(self.home), DEVICES[number])  # as another process has it

    def peer(self, *named: "Machine", discovery: tuple[str, ...] = ("static",)) -> zmesh.Peer:
        return zmesh.Peer(
            self.name,
            home=self.home,
            bind=f"tcp://127.0.0.1:{self.port}",
            discovery=discovery,
            peers=[f"127.0.0.1:{each.port}" for each in named],
        )


@pytest.fixture
def machines(tmp_path: Path) -> list[Machine]:
    """Ada, Bob and Cid; Ada has founded a mesh."""
    made = [Machine(tmp_path, number) for number in range(3)]
    made[0].trust.found("ada")
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Visits without long pauses."""
    monkeypatch.setattr(visits, "GRACE", 0.2)
    monkeypatch.setattr(visits, "MOST", 1.0)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(90):
            await test()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"

    asyncio.run(limited())


def linked(peer: zmesh.Peer) -> set[str]:
    return {info.name for info in peer.peers() if info.linked}


def test_one_name_is_enough_for_three_to_find_each_other(machines: list[Machine]) -> None:
    ada, bob, cid = machines
    bring_in(ada.trust, bob.trust)
    bring_in(bob.trust, cid.trust)  # of which Ada has not heard

    async def test() -> None:
        async with ada.peer() as one, bob.peer(ada) as two, cid.peer(bob) as three:
            for peer, others in ((one, {"bob", "cid"}), (two, {"ada", "cid"}), (three, {"ada", "bob"})):
                await until(lambda peer=peer, others=others: linked(peer) == others, 40, f"the links of {peer.name}")  # type: ignore[misc]
            assert two.troubles == three.troubles == ()

    run(test)


def test_where_it_was_invited_a_device_finds_its_mesh_again(machines: list[Machine]) -> None:
    ada, bob, _ = machines
    bring_in(ada.trust, bob.trust)
    entries = bob.trust.beyond({})
    bob.trust.join(ada.trust.mesh, entries, leave=True, inviter=("127.0.0.1", ada.port + 1))

    async def test() -> None:
        async with ada.peer() as one, bob.peer() as two:
            await until(lambda: linked(one) == {"bob"} and linked(two) == {"ada"}, 40, "the link")

    run(test)


def test_a_device_that_was_invited_can_do_without_visits(machines: list[Machine]) -> None:
    """The place where it was invited is of no use then, and no reason to fail, nor not to follow the membership."""
    ada, bob, cid = machines
    bring_in(ada.trust, bob.trust)
    bob.trust.join(ada.trust.mesh, ada.trust.beyond({}), leave=True, inviter=("127.0.0.1", 9))

    async def test() -> None:
        async with bob.peer(discovery=("rendezvous",)) as peer:
            gate = peer.driver._gate  # noqa: SLF001
            assert gate.knows(DEVICES[0].id)
            bring_in(bob.trust, cid.trust)
            await until(lambda: gate.knows(DEVICES[2].id), what="the new member")
            bob.trust.say(bob.trust.revocation(DEVICES[2].public))
            await until(lambda: not gate.knows(DEVICES[2].id), what="its end")

    run(test)


def test_who_leaves_and_is_let_in_again_is_found_again(machines: list[Machine]) -> None:
    ada, bob, _ = machines
    bring_in(ada.trust, bob.trust)

    async def test() -> None:
        async with ada.peer() as one, bob.peer(ada) as two:
            await until(lambda: linked(one) == {"bob"} and linked(two) == {"ada"}, 40, "the link")
            entries = bob.trust.beyond({})
            bob.trust.leave()
            await until(lambda: linked(two) == set(), 20, "the end of the link")
            bob.trust.join(ada.trust.mesh, entries)
            await until(lambda: linked(one) == {"bob"} and linked(two) == {"ada"}, 40, "the link again")

    run(test)


def test_who_is_let_in_again_looks_for_the_others_by_itself(machines: list[Machine]) -> None:
    ada, bob, _ = machines
    bring_in(ada.trust, bob.trust)

    async def test() -> None:
        async with bob.peer(ada) as two:
            async with ada.peer():
                await until(lambda: linked(two) == {"ada"}, 40, "the link")
                entries = bob.trust.beyond({})
                bob.trust.leave()
                (remote,) = two.driver.core.node.remotes.values()
                await until(lambda: remote.link.timer() == NEVER, what="the end of all dialling")
            bob.trust.join(ada.trust.mesh, entries)
            await until(lambda: remote.link.timer() < NEVER, what="another dial")

    run(test)


def test_who_was_revoked_is_neither_linked_nor_visited_any_more(machines: list[Machine]) -> None:
    ada, bob, cid = machines
    bring_in(ada.trust, bob.trust)
    bring_in(ada.trust, cid.trust)
    exchange(ada.trust, bob.trust, cid.trust)

    async def test() -> None:
        async with ada.peer() as one, bob.peer(ada) as two, cid.peer(ada) as three:
            await until(lambda: linked(one) == {"bob", "cid"} and "bob" in linked(three), 40, "the links")
            ada.trust.say(ada.trust.revocation(DEVICES[1].public))
            await until(lambda: linked(one) == {"cid"} and linked(three) == {"ada"} and not linked(two), 40, "its end")

    run(test)


def test_who_is_paused_visits_nobody_whom_it_knows(machines: list[Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    ada, bob, _ = machines
    bring_in(ada.trust, bob.trust)

    async def test() -> None:
        async with ada.peer() as one, bob.peer(ada) as other:
            await until(lambda: linked(one) and linked(other), 20)
            visited: list[int] = []
            visit = Meetings.visit

            async def count(self: Meetings, host: str, door: int, **more: Any) -> Meeting:
                visited.append(door)
                return await visit(self, host, door, **more)

            monkeypatch.setattr(Meetings, "visit", count)
            await Traffic(other).pause("process 7")
            await until(lambda: not linked(one), 20)
            other.look_for([f"127.0.0.1:{ada.port}", f"127.0.0.1:{bob.port}"])  # the second is visited for sure
            assert other._member is not None  # noqa: SLF001
            other._member.visits.hasten()  # noqa: SLF001
            await until(lambda: bob.port + 1 in visited, 20)
            assert ada.port + 1 not in visited
            await Traffic(other).resume()
            await until(lambda: linked(one) and linked(other), 20)

    run(test)


def test_a_frame_of_addresses_that_means_harm_ends_nothing(
    machines: list[Machine], caplog: pytest.LogCaptureFixture
) -> None:
    ada, bob, _ = machines
    bring_in(ada.trust, bob.trust)

    async def test() -> None:
        async with ada.peer() as one, bob.peer(ada) as two:
            await until(lambda: linked(one) == {"bob"} and linked(two) == {"ada"}, 40, "the link")
            (remote,) = two.driver.core.node.remotes.values()
            deep = (
                b"\x98\x01"
                + 2 * (b"\xc4\x20" + bytes(32))
                + b"\x01\xc4\x10"
                + bytes(16)
                + b"\xa1n\x91"
                + b"\x91" * 1010
                + b"\x01\x00"
            )
            row = b"\x91\x92\xc5" + len(deep).to_bytes(2, "big") + deep + b"\xc4\x40" + bytes(64)
            for content in (b"\xc1", row):
                caplog.clear()
                two.driver.tell(Share(remote.store, Ops(b"addresses", content)))
                await until(lambda: "sent of the membership" in caplog.text, 20, "the refusal")
            assert linked(one) == {"bob"}
            one.driver.check()

    run(test)
