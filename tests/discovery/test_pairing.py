"""Finding an inviter: what is announced is heard, what is forged leads nowhere, and no multicast is a plain error."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.commands import network
from zmesh.discovery import interfaces, pairing
from zmesh.discovery.pairing import MAX_FOUND, SERVICE, Announcement, Door, _service, doors_of, find
from zmesh.protocol.bounds import MAX_ENDPOINTS

ROOT = Path(__file__).parents[2]
MEETING = """
import asyncio, contextlib
from zmesh.discovery.pairing import Announcement, find

async def first(nameplate, patience=5):
    async with contextlib.aclosing(find(nameplate, patience)) as machines:
        async for doors in machines:
            return doors[0]

async def main():
    one, two = Announcement(), Announcement()
    await one.show(frozenset({"7", "t0123456789ab"}), 4001)
    await two.show(frozenset({"77"}), 4002)
    assert await first("7") == ("127.0.0.1", 4001), "7"
    assert await first("t0123456789ab") == ("127.0.0.1", 4001), "token"
    assert await first("77") == ("127.0.0.1", 4002), "77"
    await one.show(frozenset({"8"}), 4001)
    assert await first("8") == ("127.0.0.1", 4001), "8"
    assert await first("7", 0.5) is None, "7 was withdrawn"
    listening = asyncio.ensure_future(first("9"))
    await two.show(frozenset({"9"}), 4003)
    assert await listening == ("127.0.0.1", 4003), "announced later"
    await one.show(frozenset(), 0)
    await two.close()
    await two.close()
    assert await first("9", 0.5) is None, "9 was withdrawn"
    print("met")

asyncio.run(main())
"""
NOBODY = """
import asyncio
from zmesh.discovery.pairing import Announcement, find

async def main():
    for act in (lambda: Announcement().show(frozenset({"7"}), 1), lambda: find("7", 1).__anext__()):
        try:
            await act()
        except OSError as error:
            print("told", bool(str(error)))

asyncio.run(main())
"""


def in_network(script: str, *, up: bool) -> str:
    with network(up=up) as words:
        if words is None:
            pytest.skip("needs a network of its own")
        command = [*words, sys.executable, "-X", "dev", "-c", script]
        ended = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.stdout


def test_what_is_announced_is_found_and_what_is_withdrawn_is_not() -> None:
    assert in_network(MEETING, up=True) == "met\n"


def test_a_host_without_multicast_is_told_so() -> None:
    assert in_network(NOBODY, up=False) == "told True\ntold True\n"


def service(**changes: object) -> Any:
    fields = {
        "port": 4001,
        "properties": {b"v": b"1", b"n": b"7"},
        "parsed_addresses": lambda: ["192.0.2.7", "fd00::7"],
    } | changes
    return SimpleNamespace(**fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"port": None},
        {"port": 0},
        {"properties": {}},
        {"properties": {b"v": b"2", b"n": b"7"}},
        {"properties": {b"v": b"1", b"n": b"8"}},
        {"properties": {b"v": None, b"n": None}},
        {"parsed_addresses": list},
        {"parsed_addresses": lambda: ["0.0.0.0", "::", "255.255.255.255", "224.0.0.251", "ff02::fb"]},  # noqa: S104
    ],
)
def test_forgeries_lead_nowhere(changes: dict[str, object]) -> None:
    assert doors_of(service(), "7") == [("192.0.2.7", 4001), ("fd00::7", 4001)]
    assert doors_of(service(**changes), "7") == []


def test_ipv4_comes_first_loopback_last_and_there_are_not_many() -> None:
    addresses = ["::1", "fd00::7", "127.0.0.1", *(f"192.0.2.{n}" for n in range(100))]
    doors = doors_of(service(parsed_addresses=lambda: addresses), "7")
    assert len(doors) == MAX_ENDPOINTS
    assert doors[0] == ("192.0.2.0", 4001)
    few = doors_of(service(parsed_addresses=lambda: addresses[:4]), "7")
    assert [host for host, _ in few] == ["192.0.2.0", "fd00::7", "127.0.0.1", "::1"]


def test_the_loopback_is_announced_only_if_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def announced(*texts: str) -> list[str]:
        monkeypatch.setattr(interfaces, "addresses", lambda: frozenset(("eth0", text) for text in texts))
        return [host for host, _ in doors_of(_service("7", "abc", 4001), "7")]

    assert announced("127.0.0.1", "192.0.2.7", "fe80::1%eth0") == ["192.0.2.7"]
    assert announced("127.0.0.1", "169.254.1.2") == ["169.254.1.2"], "two machines and a cable"
    assert announced("127.0.0.1", "::1") == ["127.0.0.1", "::1"]
    with pytest.raises(OSError, match="no interface"):
        announced()


class FakeBrowser:
    """Stands for zeroconf's browser: anybody announces as much as he likes."""

    announced: tuple[str, ...] = ()

    def __init__(self, zeroconf: object, service_type: str, handlers: list[Any]) -> None:
        added = SimpleNamespace(name="Added")
        for name in self.announced:
            for handler in handlers:
                handler(zeroconf, service_type, f"{name}.{SERVICE}", added)

    async def async_cancel(self) -> None:
        """Nothing to do."""


class FakeSockets:
    """Stands for the multicast sockets."""

    zeroconf = None

    async def async_close(self) -> None:
        """Nothing to do."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeBrowser]:
    """A network without a network."""
    import zeroconf.asyncio  # noqa: PLC0415

    monkeypatch.setattr(zeroconf.asyncio, "AsyncServiceBrowser", FakeBrowser)
    monkeypatch.setattr(pairing, "open_sockets", FakeSockets)
    return FakeBrowser


def collect(nameplate: str, coroutine: Any = None) -> list[Door]:
    async def listen() -> list[Door]:
        found = []
        async with contextlib.aclosing(find(nameplate, 0.1)) as machines:
            async for doors in machines:
                found.extend(doors)
                if coroutine is not None:
                    await coroutine()
        return found

    return asyncio.run(listen())


def test_any_number_of_announcers_is_looked_up_in_bounds(
    fake: type[FakeBrowser], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []

    async def resolve(_: object, __: str, name: str, ___: str, found: "asyncio.Queue[list[Door]]") -> None:
        looked_up.append(name)
        found.put_nowait([(name[:4], port + 1) for port in range(MAX_ENDPOINTS)])

    monkeypatch.setattr(pairing, "_resolve", resolve)
    monkeypatch.setattr(fake, "announced", tuple(f"7-{n:02}" for n in range(100)) * 2 + ("77-x", "x-7"))
    assert len(collect("7")) == MAX_FOUND * MAX_ENDPOINTS
    assert looked_up == [f"7-{n:02}.{SERVICE}" for n in range(MAX_FOUND)]


def test_what_the_listener_does_meanwhile_is_not_cut_off(
    fake: type[FakeBrowser], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(*arguments: Any) -> None:
        arguments[-1].put_nowait([("a", 1)])
        arguments[-1].put_nowait([("b", 1)])
        arguments[-1].put_nowait([("b", 1)])

    def longer() -> Coroutine[Any, Any, None]:
        return asyncio.sleep(0.25)  # more than the patience: a pairing takes what it takes

    monkeypatch.setattr(pairing, "_resolve", resolve)
    monkeypatch.setattr(fake, "announced", ("7-x",))
    assert collect("7", longer) == [("a", 1), ("b", 1)]


def test_an_announcement_that_fails_half_way_is_no_announcement(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []

    class Broken:
        async def async_register_service(self, *_: object, **__: object) -> None:
            raise ValueError("zeroconf's own")

        async def async_unregister_all_services(self) -> None:
            raise ValueError("again")

        async def async_close(self) -> None:
            closed.append(True)

    async def test() -> None:
        announcement = Announcement()
        for _ in range(2):
            with pytest.raises(OSError, match="zeroconf's own"):
                await announcement.show(frozenset({"7"}), 1)

    monkeypatch.setattr(pairing, "open_sockets", Broken)
    asyncio.run(test())
    assert closed == [True, True]
