"""The parts of a real peer: what a look sees, and what a restart mends."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
import zmq

import zmesh
from tests.conftest import new_peer
from tests.waiting import until
from zmesh.errors import StoreFull
from zmesh.peer import parts as module
from zmesh.peer.parts import Part


def with_parts(home: Path, test: Callable[[zmesh.Peer, dict[str, Part]], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            await test(peer, {part.name: part for part in peer.parts})

    asyncio.run(scenario())


def test_all_parts_of_a_running_peer_work(home: Path) -> None:
    async def test(_: zmesh.Peer, parts: dict[str, Part]) -> None:
        assert list(parts) == ["store", "link", "door", "discovery"]
        assert [await part.look() for part in parts.values()] == [None] * 4

    with_parts(home, test)


def test_a_socket_that_others_cannot_reach_is_seen_and_bound_again_where_it_was(home: Path) -> None:
    async def test(peer: zmesh.Peer, parts: dict[str, Part]) -> None:
        link, endpoints = parts["link"], peer.endpoints
        router = peer.driver.link._router  # noqa: SLF001 - as if it had broken
        assert router is not None
        router.unbind(router.get_string(zmq.LAST_ENDPOINT))
        await until(lambda: _refused(peer.driver.link._bound))  # noqa: SLF001 - libzmq closes it in its own time
        assert "does not answer" in (await link.look() or "")
        assert await link.restart() is True
        assert await link.look() is None
        assert peer.endpoints == endpoints

    with_parts(home, test)


def test_a_socket_that_could_not_be_bound_again_can_be_later(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(peer: zmesh.Peer, parts: dict[str, Part]) -> None:
        link = parts["link"]

        def refuse(_: str) -> None:
            raise zmq.ZMQError(zmq.EADDRINUSE)

        with monkeypatch.context() as patch:
            patch.setattr("zmesh.peer.zmq_link.REBIND_PATIENCE", 0.0)
            patch.setattr(peer.driver.link, "_listen", refuse)
            with pytest.raises(zmesh.TransportError, match="again"):
                await link.restart()
        assert "nothing listens" in (await link.look() or "")
        assert await link.restart() is True
        assert await link.look() is None

    with_parts(home, test)


def _refused(endpoint: str) -> bool:
    port = int(endpoint.rpartition(":")[2])
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return True
    return False


def test_a_door_that_was_shut_is_seen_and_opened_again(home: Path) -> None:
    async def test(peer: zmesh.Peer, parts: dict[str, Part]) -> None:
        door = parts["door"]
        assert await door.restart() is False, "it is open"
        await peer._surroundings._door.close()  # type: ignore[union-attr]  # noqa: SLF001 - as if it had broken
        assert "does not answer" in (await door.look() or "")
        assert await door.restart() is True
        assert await door.look() is None

    with_parts(home, test)


@pytest.mark.parametrize(
    ("answer", "told"), [("full", "the disk is full"), ("never", "the disk does not answer"), ("late", "disk is slow")]
)
def test_a_disk_that_takes_nothing_or_is_slow_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, answer: str, told: str
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    monkeypatch.setattr(module, "SLOW", 0.02)

    async def test(peer: zmesh.Peer, parts: dict[str, Part]) -> None:
        def put_meta(_: str, __: bytes) -> Future[None]:
            done: Future[None] = Future()
            if answer == "full":
                done.set_exception(StoreFull("the disk is full"))
            elif answer == "late":
                asyncio.get_running_loop().call_later(0.05, done.set_result, None)
            return done

        store = parts["store"]
        with monkeypatch.context() as patch:
            patch.setattr(peer.store, "put_meta", put_meta)
            assert told in (await store.look() or "")
            assert await store.restart() is False
        monkeypatch.setattr(module, "SLOW", 10.0)
        assert await store.look() is None

    with_parts(home, test)


def test_sources_with_a_trouble_are_started_again(home: Path) -> None:
    async def test(_: zmesh.Peer, parts: dict[str, Part]) -> None:
        discovery = parts["discovery"]
        (source,) = discovery._discovery._sources  # type: ignore[attr-defined]  # noqa: SLF001
        source.trouble = "nobody hears us"
        assert await discovery.look() == "nobody hears us"
        assert await discovery.restart() is True
        assert await discovery.look() is None

    with_parts(home, test)
