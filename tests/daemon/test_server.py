"""The daemon's local socket: who is let in, and that who is not hears why."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from tests.daemon.served import Raw, serving
from tests.waiting import until
from zmesh.daemon import server as server_module
from zmesh.daemon.place import TOKEN_BYTES
from zmesh.daemon.wire import FAILED, HELLO, OK, VERSION, pack


def test_one_client_too_many_hears_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 2)

    async def scenario() -> None:
        async with serving(home) as (_, server, place):
            first, second = await Raw.greeted(place), await Raw.greeted(place)
            third = await Raw.connect(place)
            number, status, name, text = await third.heard()
            assert (number, status, name) == (HELLO, FAILED, "MeshFull")
            assert "end some" in text
            assert await third.heard() == []
            await first.close()
            await until(lambda: len(server.sessions) == 1)
            await Raw.greeted(place)
            assert (await second.ask("poll", {}))[1] == OK

    asyncio.run(scenario())


def test_without_unix_sockets_nobody_is_heard_without_the_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.daemon.place.UNIX", False)
    monkeypatch.setattr(server_module, "TOKEN_PATIENCE", 0.2)

    async def scenario() -> None:
        async with serving(home) as (_, server, place):
            raw = await Raw.greeted(place)
            port = raw.writer.get_extra_info("peername")[1]
            for token in (b"", b"x", bytes(TOKEN_BYTES), b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
                stranger = Raw(*await asyncio.open_connection("127.0.0.1", port))
                stranger.writer.write(token)
                stranger.say("hello", {"v": VERSION}, HELLO)
                with suppress(ConnectionResetError):
                    assert await stranger.heard() == []
            assert len(server.sessions) == 1
            assert (await raw.ask("poll", {}))[1] == OK

    asyncio.run(scenario())


def test_strangers_who_only_wait_do_not_keep_others_out_for_long(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.daemon.place.UNIX", False)
    monkeypatch.setattr(server_module, "MAX_STRANGERS", 3)
    monkeypatch.setattr(server_module, "TOKEN_PATIENCE", 0.2)

    async def scenario() -> None:
        async with serving(home) as (_, server, place):
            raw = await Raw.greeted(place)
            port = raw.writer.get_extra_info("peername")[1]
            strangers = [Raw(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(6)]
            for stranger in strangers:
                with suppress(ConnectionResetError):
                    assert await stranger.heard() == []
            await Raw.greeted(place)
            assert len(server.sessions) == 2

    asyncio.run(scenario())


def test_a_server_that_closes_lets_all_go_and_takes_its_socket_away(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (_, server, place):
            waiting = await Raw.greeted(place)
            waiting.say("poll", {"timeout": None})
            silent = await Raw.connect(place)
            await until(lambda: len(server.sessions) == 2)
            await server.close()
            assert (await waiting.heard(), await silent.heard()) == ([], [])
            assert place.socket_path is not None
            assert not place.socket_path.exists()
            assert not server.sessions
            await server.close()

    asyncio.run(scenario())


def test_a_client_that_is_let_go_and_does_not_read_is_hung_up_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LINGER", 0.05)

    async def scenario() -> None:
        async with serving(home) as (peer, server, place):
            raw = await Raw.greeted(place)
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            agent = await peer.agent("other")
            await asyncio.gather(*(agent.send("code", bytes(200_000)) for _ in range(10)))
            for _ in range(10):
                raw.say("poll", {"most": 1, "timeout": 60.0})
            (session,) = server.sessions
            await until(lambda: session.holds == 10)
            server.sessions[session].cancel()
            await until(lambda: not server.sessions)
            await until(lambda: raw.writer.transport.is_closing() or _hung_up(raw))

    asyncio.run(scenario())


def _hung_up(raw: Raw) -> bool:
    raw.writer.write(b"x")
    return raw.writer.transport.is_closing()


def test_programs_leave_descriptors_for_the_links(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """libzmq ends the process when there are none."""

    async def scenario() -> None:
        async with serving(home) as (_, server, place):
            first = await Raw.greeted(place)
            monkeypatch.setattr("zmesh.peer.descriptors.limit", lambda: 8)
            for _ in range(3):
                late = await Raw.connect(place)
                number, status, name, text = await late.heard()
                assert (number, status, name) == (HELLO, FAILED, "MeshFull")
                assert "too few file descriptors" in text
                assert await late.heard() == []
            assert (await first.ask("ping", {}))[1] == OK
            assert len(server.sessions) == 1
            assert caplog.text.count("turned away") == 1, "thousands may come"
            monkeypatch.setattr("zmesh.peer.descriptors.limit", lambda: None)
            await Raw.greeted(place)

    asyncio.run(scenario())


def test_who_says_nothing_is_hung_up_on_and_who_only_waits_is_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SILENT", 0.2)

    async def scenario() -> None:
        async with serving(home) as (_, server, place):
            greeted = await Raw.greeted(place)
            for half in (b"", b"\0", b"\0\0\0\x05", b"\0\0\0\x05\x93\0"):
                silent = await Raw.connect(place)
                silent.writer.write(half)
                with suppress(ConnectionResetError):
                    assert await silent.heard() == []
            assert (await greeted.ask("ping", {}))[1] == OK
            await until(lambda: len(server.sessions) == 1)

    asyncio.run(scenario())


def test_more_connect_at_once_than_are_accepted_at_once(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (_, server, place):
            waiting = [place.connect(5.0) for _ in range(300)]  # all before the loop can accept any
            for each in waiting:
                each.sendall(pack([HELLO, "hello", {"v": VERSION}]))
            await until(lambda: len(server.sessions) == len(waiting))
            for each in waiting:
                each.close()

    asyncio.run(scenario())
