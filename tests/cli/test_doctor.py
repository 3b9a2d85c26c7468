"""`zmesh doctor` as a process: what is wrong with a home or a port is a line with its way out, never a traceback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Machine, network
from tests.trust.support import DEVICES, bring_in, exchange
from tests.waiting import killed_in_the_end
from zmesh.trust.trust_store import TrustStore


@pytest.fixture
def enter() -> Iterator[tuple[str, ...]]:
    """The words that run a command in a network with nothing but a loopback."""
    with network() as words:
        yield words or ()


@pytest.fixture
def laptop(tmp_path: Path, enter: tuple[str, ...]) -> Machine:
    """A machine on no network."""
    return Machine(tmp_path, "laptop", enter)


def doctor(machine: Machine, code: int, *words: str, **environment: str) -> dict[str, list[dict[str, Any]]]:
    """Run it; return the findings by check."""
    ended = machine.run("doctor", "--json", *words, **environment)
    assert (ended.returncode, ended.stderr) == (code, ""), ended
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(ended.stdout):
        assert set(finding) == {"check", "level", "what", "advice", "member"}
        found.setdefault(finding["check"], []).append(finding)
    return found


def test_a_machine_that_was_never_paired(laptop: Machine) -> None:
    found = doctor(laptop, 0)
    assert found["unpaired"][0]["level"] == "warning"
    assert found["peer"][0]["level"] == "warning"
    assert found["version"][0]["what"].startswith("zmesh ")
    text = laptop.run("doctor")
    assert text.returncode == 0
    assert "warning  this device is not paired" in text.stdout
    assert "         -> zmesh invite" in text.stdout
    assert "\x1b" not in text.stdout
    assert text.stdout.splitlines()[-1].startswith("0 in trouble, ")
    assert sorted(path.name for path in laptop.home.iterdir() if path.suffix == ".json") == []


def test_what_is_wrong_with_the_home_is_told_with_its_way_out(laptop: Machine) -> None:
    laptop.found()
    (laptop.home / "trust.db").chmod(0o644)
    assert "chmod 600" in doctor(laptop, 1)["home"][0]["what"]
    (laptop.home / "device.key").chmod(0o644)
    found = doctor(laptop, 1, ZMESH_PEERS="192.0.2.7:http")
    assert ["chmod 600" in each["what"] for each in found["home"]] == [True, False]
    assert "ZMESH_PEERS" in found["home"][1]["what"]
    text = laptop.run("doctor")
    assert (text.returncode, "TROUBLE  the device key" in text.stdout) == (1, True)
    (laptop.home / "device.key").chmod(0o600)
    (laptop.home / "trust.db").chmod(0o600)
    (laptop.home / "rendezvous").chmod(0o777)
    assert "chmod 700" in doctor(laptop, 1)["home"][0]["what"]
    assert "cannot make" in doctor(laptop, 1, ZMESH_HOME="/dev/null/home")["home"][0]["what"]


def test_a_slip_in_the_configuration_is_told_and_the_peers_it_names_are_looked_for(laptop: Machine) -> None:
    laptop.found()
    (laptop.home / "config.toml").write_text('naem = "studio"\n')
    assert "config.toml: 'naem' is no setting" in doctor(laptop, 1)["home"][0]["what"]
    (laptop.home / "config.toml").write_text('peers = ["127.0.0.1:9"]\n')
    assert "127.0.0.1" in json.dumps(doctor(laptop, 1))
    assert "127.0.0.1" not in json.dumps(doctor(laptop, 0, ZMESH_PEERS=""))


def test_the_port_and_the_sources_of_the_configuration_are_those_that_are_looked_at(laptop: Machine) -> None:
    laptop.found()
    (laptop.home / "config.toml").write_text('port = 9000\ndiscovery = ["rendezvous"]\n')
    found = doctor(laptop, 0)
    assert [each["what"].partition(",")[0] for each in found["port"]] == ["port 9000", "port 9001"]
    assert "the port of this machine's peer" in found["port"][0]["what"]
    assert "discovery (config.toml or ZMESH_DISCOVERY) leaves mdns out" in found["multicast"][0]["what"]
    assert len(found["multicast"]) == 1
    assert "static" not in found
    found = doctor(laptop, 1, ZMESH_DISCOVERY="rendezvous,mdns", ZMESH_PEERS="127.0.0.1:9")
    assert "leaves mdns out" not in json.dumps(found)
    assert found["static"][0]["level"] == "trouble"
    assert (
        "ZMESH_DISCOVERY: 'telepathy' is no source" in doctor(laptop, 1, ZMESH_DISCOVERY="telepathy")["home"][0]["what"]
    )


def test_a_port_in_use_is_told_with_who_has_it(laptop: Machine, enter: tuple[str, ...]) -> None:
    if not enter:
        pytest.skip("only root can make a network in which the port is surely free")
    script = "import socket; s = socket.create_server(('127.0.0.1', 7421)); print(flush=True); input()"
    command = [*enter, sys.executable, "-c", script]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
        killed_in_the_end(other),
    ):
        assert other.stdout is not None
        other.stdout.readline()
        free, taken = doctor(laptop, 1)["port"]
        other.communicate("\n", timeout=30)
    assert (free["level"], taken["level"]) == ("ok", "trouble")
    assert f"port 7421, the port of its door, is in use by process {other.pid} (" in taken["what"]
    assert [each["level"] for each in doctor(laptop, 0)["port"]] == ["ok", "ok"]


def test_a_revoked_device_and_a_member_that_is_gone(tmp_path: Path, enter: tuple[str, ...]) -> None:
    ada, bob = (Machine(tmp_path, name, enter) for name in ("ada", "bob"))
    stores = []
    for machine, device in zip((ada, bob), DEVICES, strict=False):
        machine.home.mkdir(mode=0o700)
        (machine.home / "device.key").touch(mode=0o600)
        (machine.home / "device.key").write_bytes(device.seed)
        stores.append(TrustStore(machine.home / "trust.db", device))
    one, two = stores
    one.found("ada")
    bring_in(one, two)
    exchange(one, two)
    found = doctor(ada, 1, "--for", "BOB")
    assert (found["unknown"][0]["member"], found["member"][0]["level"]) == ("bob", "ok")
    assert doctor(ada, 1, "--for", DEVICES[1].id[:6])["unknown"][0]["member"] == "bob"
    for who in ("ada", "eve", DEVICES[0].id):
        assert "see zmesh trust list" in ada.fails(1, "doctor", "--for", who)
    one.say(one.revocation(two.device.public, reason="stolen"))
    exchange(one, two)
    one.close()
    two.close()
    found = doctor(bob, 1)
    assert "was revoked by ada: stolen" in found["revoked"][0]["what"]
    assert "join --leave" in found["revoked"][0]["advice"]
