"""A whole peer: its life, its identity, and what it sees of others."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.conftest import LOCAL, new_peer, take, two_agents
from tests.waiting import until
from zmesh.peer.configuration import DISCOVERY
from zmesh.protocol.ownership import owns

SOON = 20.0

OWNER = """
import asyncio, sys, zmesh

async def main():
    async with zmesh.Peer("studio", bind="tcp://127.0.0.1:*", discovery=["rendezvous"]):
        print("up", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

asyncio.run(main())
"""


# --- names and settings ---


def test_a_name_is_read_in_any_case_and_keeps_to_the_grammar(home: Path) -> None:
    assert zmesh.Peer(" Studio ").name == "studio"
    assert zmesh.Peer("studio").home == home
    assert zmesh.Peer("studio", home=home / "other").home == home / "other"
    wrong: Any
    for wrong in ("", "two words", "-studio", "x" * 10_000, "böse", 7, None, 10**5000):
        with pytest.raises(zmesh.AddressError, match="not a valid peer name") as caught:
            zmesh.Peer(wrong)
        assert len(str(caught.value)) < 200
    with pytest.raises(TypeError, match="bind is an endpoint such as"):
        zmesh.Peer("studio", bind=7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="home is a path, not 7"):
        zmesh.Peer("studio", home=7)  # type: ignore[arg-type]


def test_where_others_are_looked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(asked: list[str] | None = None) -> tuple[str, ...]:
        return zmesh.Peer("studio", home=home, discovery=asked)._sources  # noqa: SLF001 - mDNS is not to be heard here

    assert chosen() == DISCOVERY == ("rendezvous", "static", "mdns")
    assert chosen([]) == ()
    assert chosen(["mdns", "static", "rendezvous", "mdns"]) == DISCOVERY
    monkeypatch.setenv("ZMESH_DISCOVERY", "rendezvous")
    assert chosen() == ("rendezvous",)
    assert chosen(["mdns"]) == ("mdns",)
    monkeypatch.setenv("ZMESH_DISCOVERY", " mdns , rendezvous ")
    assert chosen() == ("rendezvous", "mdns")
    monkeypatch.setenv("ZMESH_DISCOVERY", "")
    assert chosen() == ()
    monkeypatch.setenv("ZMESH_DISCOVERY", "telepathy")
    with pytest.raises(
        ValueError, match="'telepathy' is no source of addresses: choose among rendezvous, static, mdns"
    ):
        chosen()
    with pytest.raises(TypeError, match=r"discovery: a list such as \['rendezvous'\], not 'mdns'"):
        chosen("mdns")  # type: ignore[arg-type]


def test_an_agent_that_is_asked_for_twice_at_once_is_one_agent(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("studio", home) as studio:
            code, same = await asyncio.gather(studio.agent("code"), studio.agent("code"))
            assert code is same
            assert len(studio.driver.core.node.inbox.mailboxes["code"].holders) == 1
            await code.send("code", "hello")
            assert (await take(code)).body == "hello"

    asyncio.run(scenario())


def test_agents_are_named_like_peers(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("studio", home) as studio:
            code = await studio.agent(" Code ", role="coder", capabilities=["python"])
            assert (code.name, code.address) == ("code", "code@studio")
            assert repr(code) == "<Agent code@studio>"
            assert await studio.agent("code") is code
            for wrong in ("", "a@b", "two words"):
                with pytest.raises(zmesh.AddressError, match="not a valid agent name"):
                    await studio.agent(wrong)
            wrong_words: list[tuple[type[Exception], str, dict[str, Any]]] = [
                (ValueError, "a role is a text of at most 63 .* not 'xxx", {"role": "x" * 10_000}),
                (TypeError, "a role is a text, not 7", {"role": 7}),
                (ValueError, "capabilities are at most 32 texts .* not ''", {"capabilities": [""]}),
                (ValueError, "capabilities are .* not 33 of them", {"capabilities": ["python"] * 33}),
                (ValueError, "capabilities are .* not 7", {"capabilities": [7]}),
                (TypeError, r"capabilities: a list such as \['python'\], not 'python'", {"capabilities": "python"}),
                (TypeError, "capabilities: a list", {"capabilities": 7}),
            ]
            for error, text, words in wrong_words:
                with pytest.raises(error, match=text) as caught:
                    await studio.agent("other", **words)
                assert len(str(caught.value)) < 200
            assert "other" not in studio.driver.core.node.inbox.mailboxes

    asyncio.run(scenario())


# --- life ---


def test_the_same_name_and_home_is_the_same_peer(home: Path) -> None:
    async def life() -> tuple[str, tuple[str, ...]]:
        async with new_peer("studio", home) as studio:
            assert all(endpoint.startswith("tcp://127.0.0.1:") for endpoint in studio.endpoints)
            return studio.id, studio.endpoints

    first, _ = asyncio.run(life())
    second, endpoints = asyncio.run(life())
    assert first == second
    assert len(first) == 26
    assert endpoints
    assert (home / "peers" / "studio" / "store.db").exists()


def test_a_peer_whose_device_has_a_new_key_is_another_one_with_the_same_mail(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("studio", home) as studio:
            before, old_device = studio.driver.core.node.store, studio.driver.core.node.device
            code = await studio.agent("code")
            await code.send("code", "kept")
        (home / "device.key").unlink()
        async with new_peer("studio", home) as studio:
            node = studio.driver.core.node
            assert (owns(old_device, before), owns(node.device, before)) == (True, False)
            assert owns(node.device, node.store)
            assert (await take(await studio.agent("code"))).body == "kept"

    asyncio.run(scenario())


def test_a_peer_object_can_be_started_again(home: Path) -> None:
    async def scenario() -> None:
        peer = new_peer("studio", home)
        for attempt in range(2):
            await peer.start()
            code = await peer.agent("code")
            await code.send("code", attempt)
            await peer.close()
            await peer.close()  # a second time is nothing
        async with peer:
            code = await peer.agent("code")
            assert [(await take(code)).body for _ in range(2)] == [0, 1]

    asyncio.run(scenario())


def test_nothing_works_before_the_start_or_after_the_end(home: Path) -> None:
    async def scenario() -> None:
        peer = new_peer("studio", home)
        for _ in range(2):
            for question in (lambda: peer.driver, lambda: peer.id, lambda: peer.endpoints, peer.peers):
                with pytest.raises(zmesh.PeerClosed, match="'studio' is not running: use it in `async with`"):
                    question()
            with pytest.raises(zmesh.PeerClosed):
                await peer.agent("code")
            with pytest.raises(zmesh.PeerClosed):
                await peer.wait_for("code@studio")
            assert peer.troubles == ()
            await peer.start()
            await peer.close()

    asyncio.run(scenario())


def test_the_store_of_a_peer_that_never_ran_is_not_there(home: Path) -> None:
    with pytest.raises(zmesh.PeerClosed, match="was never started"):
        _ = new_peer("studio", home).store


def test_an_error_inside_closes_the_peer_and_is_passed_on(home: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):
            async with new_peer("studio", home):
                _ = 1 / 0
        async with new_peer("studio", home):  # its lock is free
            pass

    asyncio.run(scenario())


def test_a_peer_that_cannot_start_leaves_nothing_locked(home: Path) -> None:
    async def scenario() -> None:
        for bind in ("tcp://203.0.113.1:*", "nonsense"):
            with pytest.raises(zmesh.TransportError):
                await zmesh.Peer("studio", home=home, bind=bind, discovery=[]).start()
        async with new_peer("studio", home):
            pass

    asyncio.run(scenario())


def test_a_second_peer_of_one_name_is_told_who_runs_the_first(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("studio", home) as studio:
            for second in (new_peer("studio", home), studio):
                with pytest.raises(
                    zmesh.PeerRunning, match="this process runs the peer 'studio' already: use"
                ) as caught:
                    await second.start()
                assert caught.value.pid == os.getpid()
            code = await studio.agent("code")  # the first is unharmed
            await code.send("code", "hello")
            async with new_peer("studio", home / "elsewhere"):
                pass

    asyncio.run(scenario())


def test_a_peer_of_another_process_is_told_by_its_pid(home: Path) -> None:
    async def refused(pid: int) -> None:
        with pytest.raises(zmesh.PeerRunning, match=f"process {pid} already runs") as caught:
            await new_peer("studio", home).start()
        assert caught.value.pid == pid

    async def started() -> None:
        async with new_peer("studio", home):
            pass

    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        asyncio.run(refused(owner.pid))
    finally:
        owner.kill()
        owner.communicate(timeout=30)
    asyncio.run(started())  # a lock goes with its process, however that ended


# --- looking around ---


def test_peers_see_each_other_come_and_go(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            assert laptop.peers() == []
            async with new_peer("studio", home) as studio:
                await studio.agent("browser")
                await studio.agent("archive")
                assert await laptop.wait_for("archive@studio", timeout=SOON) == "archive@studio"
                await laptop.wait_for("browser", timeout=SOON)
                (info,) = laptop.peers()
                assert info == zmesh.PeerInfo("studio", studio.id, True, ("archive", "browser"), 0, "")  # noqa: FBT003
            await until(lambda: not laptop.peers()[0].linked)
            code = await laptop.agent("code")
            await code.send("browser@studio", "for later")
            (info,) = laptop.peers()
            assert (info.name, info.queued, info.agents) == ("studio", 1, ("archive", "browser"))
            async with new_peer("studio", home) as studio:
                browser = await studio.agent("browser")
                assert (await take(browser)).body == "for later"
                await until(lambda: laptop.peers()[0].linked and not laptop.peers()[0].queued)

    asyncio.run(scenario())


def test_linked_peers_come_first(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            async with new_peer("attic", home) as attic:
                await attic.agent("a")
                await laptop.wait_for("a@attic", timeout=SOON)
            async with new_peer("studio", home) as studio:
                await studio.agent("b")
                await laptop.wait_for("b@studio", timeout=SOON)
                await until(lambda: [info.linked for info in laptop.peers()] == [True, False])
                assert [info.name for info in laptop.peers()] == ["studio", "attic"]

    asyncio.run(scenario())


def test_waiting_for_an_agent_ends_in_time_and_says_who_is_there(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("solo", home) as solo:
            with pytest.raises(zmesh.WaitTimeout, match=r"browser is not there after 0\.01 s; there are: no agents"):
                await solo.wait_for("browser", timeout=0.01)
            await solo.agent("code")
            assert await solo.wait_for("code@solo", timeout=0) == "code@solo"
            assert await solo.wait_for("code", timeout=0) == "code@solo"
            with pytest.raises(zmesh.AddressError):
                await solo.wait_for("not an address", timeout=SOON)
        async with two_agents(home) as (code, _):
            assert code.address == "code@laptop"

    asyncio.run(scenario())


def test_waiting_for_an_agent_sees_it_come(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            waiting = [asyncio.create_task(laptop.wait_for(to, SOON)) for to in ("browser", "browser@studio", "here")]
            await asyncio.sleep(0)
            await laptop.agent("here")
            async with new_peer("studio", home) as studio:
                await studio.agent("browser")
                assert await asyncio.gather(*waiting) == ["browser@studio", "browser@studio", "here@laptop"]
                with pytest.raises(zmesh.WaitTimeout, match="there are: browser@studio"):
                    await laptop.wait_for("bowser@studio", timeout=0.01)

    asyncio.run(scenario())


def test_role_and_capabilities_are_seen_by_others(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop, new_peer("studio", home) as studio:
            await studio.agent("browser", role="researcher", capabilities=["search", "read"])
            await laptop.wait_for("browser@studio", timeout=SOON)
            (remote,) = laptop.driver.core.node.remotes.values()
            record = remote.roster.agents["browser"]
            assert (record.role, record.capabilities) == ("researcher", ("search", "read"))
            await studio.agent("browser", role="writer")
            await until(lambda: remote.roster.agents["browser"].role == "writer")

    asyncio.run(scenario())


def test_peers_of_another_home_are_strangers(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop, new_peer("studio", home / "stranger") as studio:
            code = await laptop.agent("code")
            await studio.agent("browser")
            receipt = await code.send("browser@studio", "hello", ttl=0.3)
            with pytest.raises(zmesh.MessageExpired):
                await receipt.stored(timeout=SOON)
            assert laptop.peers() == []

    asyncio.run(scenario())


def test_without_discovery_nobody_is_found_and_nothing_breaks(home: Path) -> None:
    async def scenario() -> None:
        async with zmesh.Peer("laptop", home=home, bind=LOCAL, discovery=[]) as laptop:
            code = await laptop.agent("code")
            receipt = await code.send("browser@studio", "hello")
            assert receipt.state == "waiting"
            assert laptop.troubles == ()

    asyncio.run(scenario())


def test_a_wall_clock_that_is_set_forward_expires_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time  # noqa: PLC0415 - only here its clock is turned

    real = time.time

    async def sent() -> bytes:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            return (await code.send("code", "hello", ttl="30m")).id

    async def taken(ident: bytes) -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            message = await take(code)
            assert message.id == ident
            await message.done()

    ident = asyncio.run(sent())
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    asyncio.run(taken(ident))


def test_a_peer_starts_where_the_system_does_not_tell_its_addresses(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> frozenset[tuple[str, str]]:
        raise OSError(24, "Too many open files")

    async def start() -> None:
        monkeypatch.setattr("zmesh.discovery.interfaces.addresses", fail)  # nor is anything announced
        async with zmesh.Peer("studio", home=home) as peer:
            assert [endpoint.rpartition(":")[0] for endpoint in peer.endpoints] == ["tcp://127.0.0.1"]
            assert sum("Too many open files" in trouble for trouble in peer.troubles) == 2
            assert peer.door > 0
        assert peer.door == 0

    asyncio.run(start())


def test_which_addresses_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def named(asked: list[str] | None = None) -> list[str]:
        return [str(each) for each in zmesh.Peer("studio", home=home, peers=asked)._peers]  # noqa: SLF001

    monkeypatch.delenv("ZMESH_PEERS", raising=False)
    assert named() == []
    assert named(["tcp://192.0.2.7:7000", "studio.local"]) == ["tcp://192.0.2.7:7000", "tcp://studio.local:7420"]
    monkeypatch.setenv("ZMESH_PEERS", " 192.0.2.7, [2001:db8::1]:7000,,tower ")
    assert named() == ["tcp://192.0.2.7:7420", "tcp://[2001:db8::1]:7000", "tcp://tower:7420"]
    assert named([]) == []
    monkeypatch.setenv("ZMESH_PEERS", "http://tower")
    with pytest.raises(ValueError, match="'http://tower' is no address of a peer"):
        named()
    with pytest.raises(TypeError, match=r"peers: a list such as"):
        named("tower")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="65 addresses of peers are named, more than 64"):
        named([f"192.0.2.{number}" for number in range(65)])
