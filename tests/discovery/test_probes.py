"""The single probes, each against the real thing: sockets, the kernel's neighbour table, /proc."""

import asyncio
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import network
from tests.waiting import ENOUGH
from zmesh.discovery import probes
from zmesh.discovery.listeners import describe, listen, port_use, process_at
from zmesh.discovery.neighbours import neighbours, read_neighbours
from zmesh.discovery.observation import Interface, Neighbour, PortUse, Reach
from zmesh.discovery.probes import dial, echoes, hear_oneself, interfaces, resolve

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


def neighbour(address: bytes, state: int) -> bytes:
    """One message of the kernel, as of rtnetlink(7)."""
    body = struct.pack("=BBHiHBB", socket.AF_INET, 0, 0, 2, state, 0, 0)
    body += struct.pack("=HH", 4 + len(address), 1) + address + struct.pack("=HH", 10, 2) + bytes(6) + bytes(2)
    return struct.pack("=IHHII", 16 + len(body), 28, 2, 1, 0) + body


DONE = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)


@pytest.mark.parametrize(
    ("state", "known"),
    [(0x02, "known"), (0x04, "known"), (0x10, "known"), (0x80, "known"), (0x01, "absent"), (0x20, "absent")],
)
def test_a_neighbour_is_known_or_absent(state: int, known: str) -> None:
    reply = neighbour(bytes([10, 0, 0, 2]), state) + neighbour(bytes(15) + b"\1", 0x40) + DONE
    assert dict(read_neighbours(reply)) == {"10.0.0.2": Neighbour(known)}


def test_malformed_messages_end_the_reading() -> None:
    assert list(read_neighbours(struct.pack("=IHHII", 3, 28, 0, 0, 0))) == []
    whole = neighbour(bytes([10, 0, 0, 2]), 2)
    assert list(read_neighbours(whole[:28] + struct.pack("=HH", 2, 1))) == []
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        list(read_neighbours(neighbour(bytes(5), 2)))


@linux
def test_the_kernel_tells_its_neighbours() -> None:
    script = "from zmesh.discovery.neighbours import neighbours; print(neighbours())"
    with network() as enter:
        if enter is None:
            assert isinstance(neighbours(), dict)
            return
        ip = (*enter, "ip")
        for words in (
            ("link", "add", "one", "type", "veth", "peer", "name", "two"),
            ("link", "set", "one", "up"), ("link", "set", "two", "up"), ("address", "add", "10.0.0.1/24", "dev", "one"),
            ("neigh", "add", "10.0.0.2", "lladdr", "02:00:00:00:00:02", "dev", "one"),
        ):  # fmt: skip
            subprocess.run([*ip, *words], check=True, timeout=ENOUGH)
        told = subprocess.run(
            [*enter, sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT, timeout=ENOUGH
        ).stdout
    assert "'10.0.0.2': <Neighbour.KNOWN: 'known'>" in told


def test_a_dial_is_reached_or_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert asyncio.run(dial("127.0.0.1", port)) is Reach.REACHED
    assert asyncio.run(dial("127.0.0.1", port)) is Reach.REFUSED


def test_names_are_resolved_and_nonsense_is_not() -> None:
    assert asyncio.run(resolve("192.0.2.7")) == ["192.0.2.7"]
    assert "127.0.0.1" in asyncio.run(resolve("localhost"))
    assert asyncio.run(resolve("a" * 64 + ".invalid")) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root surely may")
def test_a_ping_is_answered_by_who_is_there() -> None:
    with network() as enter:
        assert enter is not None
        script = (
            "import asyncio; from zmesh.discovery.probes import echoes\n"
            "print([asyncio.run(echoes(host)) for host in ('127.0.0.1', '10.0.0.2', '::1')])"
        )
        told = subprocess.run(
            [*enter, sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT, timeout=ENOUGH
        ).stdout
    assert told == "[True, False, False]\n"


def test_a_ping_that_may_not_be_sent_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError

    monkeypatch.setattr(probes, "_pinging", refuse)
    assert asyncio.run(echoes("127.0.0.1")) is False


def test_no_interface_is_loopback() -> None:
    assert all(not interface.address.startswith("127.") for interface in interfaces())


@pytest.mark.skipif(os.name != "posix", reason="its loopback is another")
def test_a_multicast_is_heard_or_the_reason_is_told() -> None:
    gone = Interface("gone", "192.0.2.77", 24)
    (heard,) = asyncio.run(hear_oneself((gone,)))
    assert heard.heard not in (None, "")
    assert heard.reach is not Reach.REACHED
    six = Interface("six", "2001:db8::7", 64)
    assert asyncio.run(hear_oneself((six,))) == (six,)


def test_a_port_is_free_or_in_use() -> None:
    with listen(0) as own:
        port = own.getsockname()[1]
        use = port_use(port)
        assert (use.port, use.taken, bool(use.error)) == (port, True, True)
    assert port_use(port) == PortUse(port)


@linux
def test_who_has_a_port_is_named() -> None:
    with listen(0) as own:
        port = own.getsockname()[1]
        assert process_at(port) == os.getpid()
        assert describe(port).startswith(f"process {os.getpid()} (")
    assert (process_at(port), describe(port)) == (0, "")


@linux
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="another user is needed")
def test_the_program_of_another_user_is_not_looked_into() -> None:
    script = (
        "import os; from zmesh.discovery.listeners import describe\n"
        "describe({0}); os.setuid(65534); print(describe({0}))"
    )
    with listen(0) as own:  # asked once as root, so that all is loaded that another user may not read
        code = script.format(own.getsockname()[1])
        told = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT, timeout=ENOUGH
        )
    assert told.stdout == "a program of user root\n"
