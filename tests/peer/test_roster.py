"""The roster as programs see it: what an agent is doing is right on the other side, and what is stale says so."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

import zmesh
from tests.conftest import new_peer, take
from tests.protocol.pair import SeededEntropy
from tests.waiting import until
from zmesh.peer.peer import Peer
from zmesh.peer.roster import list_agents
from zmesh.protocol.frames import AgentRecord, Peers
from zmesh.protocol.journal import PutMailbox
from zmesh.protocol.mailbox import Holder, Mailbox
from zmesh.protocol.node import Node
from zmesh.protocol.quotas import default_quotas
from zmesh.protocol.states import Link

SOON = 20
NOW = 1000.0


def seen_by(peer: Peer, address: str) -> zmesh.AgentInfo | None:
    """What a peer shows of an agent."""
    return next((info for info in peer.agents() if info.address == address), None)


def shows(peer: Peer, address: str, **fields: object) -> bool:
    info = seen_by(peer, address)
    return info is not None and all(getattr(info, name) == value for name, value in fields.items())


def test_others_see_what_an_agent_is_and_what_it_is_doing(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop, new_peer("studio", home) as studio:
            code = await laptop.agent("code")
            browser = await studio.agent("browser", role="researcher", capabilities=["search"], project="zmesh")
            await until(lambda: shows(laptop, "browser@studio", status="idle", fresh=True), SOON)
            info = seen_by(laptop, "browser@studio")
            assert info is not None
            assert (info.peer, info.name, info.role, info.capabilities, info.project, info.reach, info.last_seen) == (
                "studio", "browser", "researcher", ("search",), "zmesh", "program", 0.0,
            )  # fmt: skip
            assert info.as_of is not None
            await code.send("browser@studio", "work")
            message = await take(browser)
            await until(lambda: shows(laptop, "browser@studio", status="busy"), SOON)
            await message.done()
            await until(lambda: shows(laptop, "browser@studio", status="idle"), SOON)
            await browser.status("away")
            await until(lambda: shows(laptop, "browser@studio", status="away", last_seen=0.0), SOON)
            await browser.status(None)
            await until(lambda: shows(laptop, "browser@studio", status="idle"), SOON)

    asyncio.run(scenario())


def test_a_program_that_leaves_is_away_and_was_seen_until_then(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop, new_peer("studio", home) as studio:
            browser = await studio.agent("browser")
            await browser.status("busy")
            await until(lambda: shows(laptop, "browser@studio", status="busy"), SOON)
            await browser.detach()
            await until(lambda: shows(laptop, "browser@studio", status="away", reach="", fresh=True), SOON)
            first = seen_by(laptop, "browser@studio")
            await until(lambda: _later(seen_by(laptop, "browser@studio"), first), SOON)
            assert await browser.poll() == []  # and so it is back
            await until(lambda: shows(laptop, "browser@studio", status="busy", last_seen=0.0), SOON, "its word again")

    asyncio.run(scenario())


def _later(info: zmesh.AgentInfo | None, before: zmesh.AgentInfo | None) -> bool:
    assert info is not None
    assert before is not None
    assert info.last_seen is not None
    assert before.last_seen is not None
    return info.last_seen > before.last_seen


def test_a_peer_that_closed_has_nobody_and_says_since_when(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            async with new_peer("studio", home) as studio:
                await studio.agent("browser", project="zmesh")
                await until(lambda: shows(laptop, "browser@studio", status="idle"), SOON)
                assert laptop.peers()[0].heard is not None
            await until(lambda: shows(laptop, "browser@studio", status="away", fresh=False, reach=""), SOON)
            info = seen_by(laptop, "browser@studio")
            assert info is not None
            assert info.last_seen == info.as_of
            assert info.project == "zmesh"
        async with zmesh.Peer("laptop", home=home, discovery=[]) as laptop:
            info = seen_by(laptop, "browser@studio")
            assert info is not None
            assert (info.status, info.fresh, info.project) == ("unknown", False, "zmesh")
            assert info.last_seen is not None
            assert info.as_of is not None
            assert 0 < info.as_of < 600
            assert info.last_seen <= info.as_of

    asyncio.run(scenario())


def test_a_peer_that_is_cut_off_is_stale(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop, new_peer("studio", home) as studio:
            browser = await studio.agent("browser")
            await browser.status("busy")
            await until(lambda: shows(laptop, "browser@studio", status="busy"), SOON)
            studio.driver.link.shutdown()  # the cable, not the peer
            await until(lambda: shows(laptop, "browser@studio", status="unknown", fresh=False), SOON)
            info = seen_by(laptop, "browser@studio")
            assert info is not None
            assert info.as_of == info.last_seen
            assert info.as_of is not None
            await until(lambda: _later(seen_by(laptop, "browser@studio"), info), SOON)
            (peer,) = laptop.peers()
            assert peer.heard is not None
            assert peer.heard >= info.as_of

    asyncio.run(scenario())


def test_own_agents_come_first_and_are_always_fresh(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            await laptop.agent("review", project="zmesh")
            code = await laptop.agent("code")
            await laptop.agent("review", role="reviewer")
            await code.detach()
            first, second = laptop.agents()
            assert (first.address, first.status, first.fresh, first.as_of) == ("code@laptop", "away", True, 0.0)
            assert first.last_seen is not None
            assert (second.address, second.status, second.role, second.project, second.last_seen) == (
                "review@laptop", "idle", "reviewer", "zmesh", 0.0,
            )  # fmt: skip
            with pytest.raises(dataclasses.FrozenInstanceError):
                first.status = "busy"  # type: ignore[misc]
        async with new_peer("laptop", home) as laptop:
            await laptop.agent("third")
            seen = {info.name: (info.status, info.last_seen) for info in laptop.agents()}
            assert seen["third"] == ("idle", 0.0)
            for name in ("code", "review"):
                status, last = seen[name]
                assert status == "away"
                assert last is not None
                assert 0 < last < 600

    asyncio.run(scenario())


@pytest.mark.parametrize("wrong", ["asleep", "Busy", "", 3, ["idle"]])
def test_a_status_that_is_none_is_refused(home: Path, wrong: object) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            with pytest.raises(ValueError, match=r"no status is called .* choose one of idle, busy, away, or None"):
                await code.status(wrong)  # type: ignore[arg-type]
            assert shows(laptop, "code@laptop", status="idle")
            with pytest.raises(ValueError, match="a project is a text of at most 63 printable characters"):
                await laptop.agent("code", project="a\nb")
            with pytest.raises(TypeError, match="a project is a text, not 3"):
                await laptop.agent("code", project=3)  # type: ignore[arg-type]
        with pytest.raises(zmesh.PeerClosed):
            laptop.agents()
        with pytest.raises(zmesh.PeerClosed):
            await code.status("idle")

    asyncio.run(scenario())


# --- what is shown of a state -----------------------------------------------------------------------------------------


def node() -> Node:
    return Node(
        store=b"a" * 16, name="laptop", device="d", endpoints=(), entropy=SeededEntropy(0), now=NOW,
        quotas=default_quotas(),
    )  # fmt: skip


def test_what_is_not_known_is_none() -> None:
    mesh = node()
    mesh.inbox.mailboxes["me"] = Mailbox(PutMailbox("me", "", ()))
    remote = mesh.admit(b"b" * 16, "d", "studio", greets=True)
    assert remote is not None
    remote.roster.agents["code"] = AgentRecord("code", attached=True, status="busy", reach="program")
    own, theirs = list_agents(mesh, NOW + 5)
    assert (own.status, own.last_seen, own.fresh) == ("away", None, True)
    assert (theirs.status, theirs.last_seen, theirs.fresh, theirs.as_of) == ("unknown", None, False, None)


def test_a_roster_of_an_older_link_is_not_fresh_and_a_word_of_a_newer_zmesh_is_shown() -> None:
    mesh = node()
    remote = mesh.admit(b"b" * 16, "d", "studio", greets=True)
    assert remote is not None
    remote.roster.page(Peers(3, 0, 1, (AgentRecord("code", attached=True, status="dozing"),)), NOW)
    remote.link.state = Link.UP
    remote.link.heard = NOW + 2
    (info,) = list_agents(mesh, NOW + 5)
    assert (info.status, info.fresh, info.as_of, info.last_seen) == ("unknown", False, 3.0, 3.0)
    remote.roster_fresh = 3
    (info,) = list_agents(mesh, NOW + 5)
    assert (info.status, info.fresh, info.as_of, info.last_seen) == ("dozing", True, 3.0, 0.0)


def test_namesakes_have_addresses_of_their_own_and_linked_ones_come_first() -> None:
    mesh = node()
    mesh.inbox.mailboxes["z"] = Mailbox(PutMailbox("z", "", ()))
    mesh.inbox.mailboxes["z"].holders[1] = Holder(1, mesh.inbox.mailboxes["z"])
    for store, name in ((b"b" * 16, "studio"), (b"c" * 16, "studio"), (b"d" * 16, "attic")):
        remote = mesh.admit(store, "d", name, greets=True)
        assert remote is not None
        remote.roster.agents["code"] = AgentRecord("code")
    mesh.remotes[b"c" * 16].link.state = Link.UP
    addresses = [info.address for info in list_agents(mesh, NOW)]
    assert addresses == ["z@laptop", "code@studio~mnrwgy3d", "code@attic", "code@studio~mjrgeytc"]
    found = mesh.find("code@studio~mjrgeytc").entry
    assert found is not None
    assert found.store == b"b" * 16
