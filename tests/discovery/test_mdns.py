"""mDNS with real multicast: two processes find each other, forgeries go no further, and its absence is no exception.

As root each test has a network of its own, so that nothing on the real one is heard or disturbed; else the default
interfaces are used.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores import store_of
from tests.waiting import ENOUGH, killed_in_the_end
from zmesh.discovery.mdns import MAX_TXT, SERVICE, _announcement, _sighting
from zmesh.discovery.sighting import Sighting, store_text

ROOT = Path(__file__).parents[2]
STORE = store_of("a" * 32, 1)
PEER = """
import asyncio, json, logging, sys, time
from zmesh.discovery.mdns import MdnsSource
from zmesh.discovery.sighting import Sighting

logging.basicConfig(stream=sys.stderr)
store, name, device, endpoint = sys.argv[1:5]

def say(**what):
    print(json.dumps(what), flush=True)

def found(sighting):
    say(name=sighting.name, endpoints=sighting.endpoints, seconds=time.monotonic() - began)

async def main():
    own = Sighting(bytes.fromhex(store), name, device, (endpoint,), "own")
    source = MdnsSource(lambda device: device == "a" * 32)
    await source.start(own, found)
    say(trouble=source.trouble)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await source.update(Sighting(own.store, name, device, (line.strip(),), "own"))
    await source.stop()
    await source.stop()
    await source.update(own)
    say(stopped=True)

began = time.monotonic()
asyncio.run(main())
"""


class Peer:
    """A process with one mDNS source, in a namespace or not."""

    def __init__(
        self, enter: list[str], name: str, device: str = "a" * 32, endpoint: str = "tcp://127.0.0.1:7000"
    ) -> None:
        store = store_of(device, secrets.randbits(64))
        command = [*enter, sys.executable, "-c", PEER, store.hex(), name, device, endpoint]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.seen: list[dict[str, object]] = []

    def until(self, key: str, value: object = None) -> dict[str, object]:
        """Read what it says until one line has `key` (with that value)."""
        assert self.process.stdout
        for line in self.process.stdout:
            said = json.loads(line)
            self.seen.append(said)
            if key in said and value in {None, said[key]}:
                return self.seen[-1]
        assert self.process.stderr
        raise AssertionError(f"it ended without saying {key}={value}: {self.seen} {self.process.stderr.read()}")

    def say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def stop(self) -> str:
        """Stop it in order; returns what it logged."""
        assert self.process.stdin
        assert self.process.stderr
        self.process.stdin.close()
        self.until("stopped")
        logged = self.process.stderr.read()
        self.process.wait(10)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()
        return logged


def can_make_namespaces() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"zmesh-try-{os.getpid()}"
    made = (
        subprocess.run(["ip", "netns", "add", name], capture_output=True, timeout=ENOUGH, check=False).returncode == 0
    )
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=ENOUGH, check=False)
    return made


@pytest.fixture
def enter() -> Iterator[list[str]]:
    """Give the words that run a command in a network with nothing but a loopback, or none at all."""
    if not can_make_namespaces():
        yield []
        return
    name = f"zmesh-{os.getpid()}-{secrets.token_hex(3)}"
    subprocess.run(["ip", "netns", "add", name], timeout=ENOUGH, check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], timeout=ENOUGH, check=True)
        yield ["ip", "netns", "exec", name]
    finally:
        subprocess.run(["ip", "netns", "delete", name], timeout=ENOUGH, check=True)


def test_two_processes_find_each_other(enter: list[str]) -> None:
    one = Peer(enter, "one")
    assert one.until("trouble")["trouble"] is None
    two = Peer(enter, "two")
    assert two.until("name", "one")["endpoints"] == ["tcp://127.0.0.1:7000"]
    one.until("name", "two")
    two.say("tcp://127.0.0.1:7001")
    while one.until("name", "two")["endpoints"] != ["tcp://127.0.0.1:7001"]:
        pass
    assert not two.stop()
    assert not one.stop()
    assert not any(said.get("name") == "one" for said in one.seen), "its own announcement"


def test_a_device_that_is_not_accepted_is_ignored(enter: list[str]) -> None:
    foreign = Peer(enter, "foreign", device="f" * 32)
    foreign.until("trouble")
    one = Peer(enter, "one")
    one.until("trouble")
    two = Peer(enter, "two")
    one.until("name", "two")
    foreign.until("name", "one")
    foreign.until("name", "two")
    for peer in (foreign, one, two):
        peer.stop()
    assert not any(said.get("name") == "foreign" for said in one.seen)


def test_a_port_that_somebody_keeps_is_a_trouble_and_no_exception(enter: list[str]) -> None:
    if not enter:
        pytest.skip("holding port 5353 on the real network would disturb others")
    hold = "import socket,sys; s=socket.socket(2,2); s.bind(('',5353)); print(1,flush=True); sys.stdin.read()"
    command = [*enter, sys.executable, "-c", hold]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder, killed_in_the_end(holder):
        assert holder.stdout
        holder.stdout.readline()
        peer = Peer(enter, "one")
        assert "port 5353" in str(peer.until("trouble")["trouble"])
        assert "mDNS does not work here" in peer.stop()
        holder.kill()


def test_a_network_that_comes_later_is_used(enter: list[str]) -> None:
    if not enter:
        pytest.skip("needs a network of its own")
    namespace = enter[-1]
    subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "down"], timeout=ENOUGH, check=True)
    subprocess.run(["ip", "-n", namespace, "address", "flush", "dev", "lo"], timeout=ENOUGH, check=True)
    one = Peer(enter, "one")
    assert "no interface has an address" in str(one.until("trouble")["trouble"])
    subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], timeout=ENOUGH, check=True)
    subprocess.run(
        ["ip", "-n", namespace, "address", "replace", "127.0.0.1/8", "dev", "lo"], timeout=ENOUGH, check=True
    )
    two = Peer(enter, "two")
    two.until("name", "one")
    one.until("name", "two")
    one.stop()
    two.stop()


INTERRUPTED = """
import asyncio, contextlib, sys
from zmesh.discovery.mdns import MdnsSource
from zmesh.discovery.sighting import Sighting

async def main(way, turns):
    source = MdnsSource(lambda device: True)
    own = Sighting(bytes.fromhex(sys.argv[1]), "one", "a" * 32, ("tcp://127.0.0.1:7000",), "own")
    begun = asyncio.ensure_future(source.start(own, print) if way else source.listen(print))
    for _ in range(turns):
        await asyncio.sleep(0)
    begun.cancel()
    await asyncio.gather(begun, return_exceptions=True)
    if begun.done() and not begun.cancelled():
        await source.stop()

for way in (True, False):
    for turns in range(12):
        asyncio.run(main(way, turns))
print("quiet")
"""


def test_an_interrupted_start_leaves_nothing_that_complains(enter: list[str]) -> None:
    command = [*enter, sys.executable, "-c", INTERRUPTED, STORE.hex()]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout.splitlines()[-1:], ended.stderr) == (["quiet"], "")


def own(**changes: object) -> Sighting:
    fields: dict[str, object] = {
        "store": STORE,
        "name": "n" * 63,
        "device": "a" * 32,
        "endpoints": ("tcp://127.0.0.1:7000", "tcp://192.0.2.1:7000", "tcp://[fd00::2]:7000"),
        "source": "mdns",
    }
    return Sighting(**(fields | changes))  # type: ignore[arg-type]


def test_what_is_announced_is_what_is_read_without_the_loopback() -> None:
    info = _announcement(own())
    assert len(info.text) < MAX_TXT
    assert info.name == f"{store_text(own().store)}.{SERVICE}"
    assert set(_sighting(info).endpoints) == set(own().endpoints[1:])
    assert _sighting(_announcement(own(endpoints=("tcp://127.0.0.1:7000",)))).endpoints == ("tcp://127.0.0.1:7000",)


def plain(**changes: object) -> dict[str, object]:
    """A TXT record as an older peer writes it, without a door."""
    return {"v": "1", "id": store_text(STORE), "n": "n", "d": "a" * 32} | changes


def test_the_door_is_announced_and_may_be_missing() -> None:
    from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415

    full = _announcement(own(door=65535))
    assert _sighting(full).door == 65535
    assert len(full.text) < MAX_TXT
    older = AsyncServiceInfo(
        SERVICE, full.name, addresses=[b"\xc0\0\2\1"], port=1, properties=plain(), server="x.local."
    )
    assert _sighting(older).door == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"properties": {}},
        {"properties": {"v": "1", "id": "x", "n": "n", "d": "a" * 32}},
        {"properties": {"v": "1", "id": None, "n": None, "d": None}},
        {"properties": b"\xff\xff\xff"},
        {"properties": b"\x05n=\xff\xfe\xfd"},
        {"properties": {"v": "1", "id": store_text(STORE), "n": "n", "d": "a" * 32, "x": "x" * 180}},
        {"properties": {"v": "1", "id": store_text(STORE), "n": b"\xff", "d": "a" * 32}},
        {"properties": {"v": "1", "id": store_text(STORE), "n": "n", "d": "b" * 32}},
        {"properties": {"v": "2", "id": store_text(STORE), "n": "n", "d": "a" * 32}},
        {"name": f"someone.{SERVICE}"},
        {"addresses": []},
        {"addresses": [b"\0\0\0\0", b"\xe0\0\0\xfb", b"\xff\xff\xff\xff", b"\xfe\x80" + bytes(14)]},
        {"port": 0},
        {"properties": plain(o="-1")},
        {"properties": plain(o="65536")},
        {"properties": plain(o="7" * 50)},
        {"properties": plain(o="door")},
        {"properties": plain(o=None)},
    ],
)
def test_forgeries_are_refused(changes: dict[str, object]) -> None:
    from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415

    good = _announcement(own())
    fields: dict[str, object] = {
        "name": good.name,
        "addresses": [b"\xc0\0\2\1"],
        "port": 7000,
        "properties": {"v": "1", "id": store_text(own().store), "n": "n", "d": "a" * 32},
        "server": "x.local.",
    }
    assert _sighting(AsyncServiceInfo(SERVICE, **fields)).name == "n"  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\S"):
        _sighting(AsyncServiceInfo(SERVICE, **(fields | changes)))  # type: ignore[arg-type]
