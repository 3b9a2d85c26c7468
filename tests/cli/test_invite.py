"""`zmesh invite` as a process: what it prints, how it ends, and that nothing is left open behind it."""

import asyncio
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.cli.commands import Machine, network
from tests.stores import store_of
from zmesh.cli.invite import _door, _left, _places, host_name
from zmesh.discovery.rendezvous import RendezvousSource
from zmesh.discovery.sighting import Sighting
from zmesh.errors import TrustError
from zmesh.peer.home import rendezvous_directory
from zmesh.trust.device import Device, readable
from zmesh.trust.door import Door
from zmesh.trust.trust_store import TrustStore

MAY = ["chat", "task", "inject"]


@pytest.fixture(scope="module")
def enter() -> Iterator[tuple[str, ...]]:
    """A network of the module's own, so that nothing is announced on the real one."""
    with network() as words:
        yield words or ()


@pytest.fixture
def ada(tmp_path: Path, enter: tuple[str, ...]) -> Machine:
    """A machine in no mesh."""
    return Machine(tmp_path, "ada", enter)


@pytest.fixture
def bob(tmp_path: Path, enter: tuple[str, ...]) -> Machine:
    """Another."""
    return Machine(tmp_path, "bob", enter)


def open_ones(machine: Machine) -> list[str]:
    connection = sqlite3.connect(machine.home / "trust.db")
    rows = connection.execute("SELECT nameplate FROM invitation WHERE used = ''").fetchall()
    connection.close()
    return [row[0] for row in rows]


def test_a_code_lets_one_machine_in_which_is_found_by_itself(ada: Machine, bob: Machine) -> None:
    with ada.start("invite", "--json", "--name", "ada") as inviting:
        founded = inviting.event("founded")
        assert len(founded["recovery"].split()) == 16
        invited = inviting.event("invited")
        assert invited["expires_in"] == 600
        joined = bob.json("join", invited["secret"], "--name", "bob")
        assert inviting.event("joined") == {"event": "joined", "name": "bob", "device": joined["device"], "may": MAY}
        assert inviting.end() == (0, "")
    assert joined == {
        "mesh": founded["mesh"], "name": "bob", "device": joined["device"], "members": ["ada", "bob"], "may": MAY,
    }  # fmt: skip
    assert open_ones(ada) == []
    with ada.start("invite", "--json") as again:
        again.event("invited")
        assert len(again.lines) == 1, "a mesh is founded once"
        again.end(signal.SIGINT)


def test_an_invitation_that_was_killed_is_over_at_the_door_of_the_peer(ada: Machine, bob: Machine) -> None:
    ada.found()
    with ada.start("invite", "--json") as inviting:
        code = inviting.event("invited")["secret"]
        inviting.process.kill()
        inviting.process.wait()
    assert len(open_ones(ada)) == 1

    async def test() -> str:
        with TrustStore(ada.home / "trust.db", Device.load_or_create(ada.home / "device.key")) as store:
            door = Door(store)
            await door.open("127.0.0.1")
            bob.inside = True  # the door is not in the network of its own
            words = ("join", code, "--at", f"127.0.0.1:{door.port}", "--name", "bob")
            try:
                return await asyncio.to_thread(bob.fails, 1, *words)
            finally:
                await door.close()

    assert "the command that made this invitation has ended there" in asyncio.run(test())


def test_addresses_are_shown_that_can_be_dialled_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    here: tuple[str, ...] = ("127.0.0.1", "172.17.0.1", "192.0.2.7", "fd00::7", "192.0.2.8")
    monkeypatch.setattr("zmesh.discovery.interfaces.addresses", lambda: frozenset(("eth0", each) for each in here))
    monkeypatch.setattr("zmesh.cli.invite.main_address", lambda: "192.0.2.7")
    assert _places(7421) == ["192.0.2.7", "172.17.0.1", "192.0.2.8"]
    assert _places(40123) == ["192.0.2.7:40123", "172.17.0.1:40123", "192.0.2.8:40123"]
    here = ("fd00::7",)
    assert _places(40123)[-1] == "[fd00::7]:40123"
    here = ("127.0.0.1",)
    assert _places(7421) == ["127.0.0.1"], "there is nothing else"

    def fails() -> frozenset[tuple[str, str]]:
        raise OSError("no")

    monkeypatch.setattr("zmesh.discovery.interfaces.addresses", fails)
    assert _places(7421) == [host_name()]


@pytest.mark.parametrize(
    ("left", "said"), [(2, "2 attempts are left"), (1, "1 attempt is left"), (0, "no attempts are left")]
)
def test_people_read_how_many_attempts_are_left(left: int, said: str) -> None:
    assert _left(left) == said


def test_people_see_code_phrase_and_fingerprint(ada: Machine, bob: Machine) -> None:
    with ada.start("invite", "--name", "ada") as inviting:
        assert inviting.process.stdout
        text = ""
        while "--at" not in text:
            text += inviting.process.stdout.readline()
        assert "ada has founded a mesh" in text
        code = next(line.split()[-1] for line in text.splitlines() if "zmesh join" in line)
        place = text.split("--at ")[1].split()[0]
        ended = bob.run("join", code, "--at", place, "--name", "bob")
        assert ended.returncode == 0, ended.stderr
        assert inviting.end() == (0, "")
        device = bob.json("trust", "show")["device"]
        assert readable(device) in ended.stdout
        assert any(readable(device) in line for line in inviting.lines)
        assert (
            "Each of them may do this here: chat, task, inject; not exec, file.write. `zmesh grant --help`"
            in ended.stdout
        )
        assert any("bob may do this here: chat, task, inject; not exec" in line for line in inviting.lines)


def test_a_token_lets_a_machine_in_from_its_environment(ada: Machine, bob: Machine) -> None:
    with ada.start("invite", "--token", "--json", "--name", "ada", "--expires", "1h") as inviting:
        invited = inviting.event("invited")
        assert invited["secret"].startswith("zmesh-")
        assert invited["expires_in"] == 3600
        joined = bob.json("join", "--name", "bob", ZMESH_JOIN=invited["secret"])
        assert inviting.event("joined")["device"] == joined["device"]
        assert inviting.end()[0] == 0
    assert "ZMESH_JOIN" in bob.fails(2, "join")
    told = bob.fails(2, "join", ZMESH_JOIN="zmesh-nonsense")
    assert "not complete" in told
    assert "nonsense" not in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_invitation_that_is_cancelled_is_withdrawn(ada: Machine, number: signal.Signals) -> None:
    with ada.start("invite", "--json") as inviting:
        port = inviting.event("invited")["port"]
        assert open_ones(ada)
        code, errors = inviting.end(number)
        assert code == (130 if number == signal.SIGINT else 1)  # Ctrl-C is no error, here as elsewhere
        assert "withdrawn" in errors
        assert ("Error:" in errors) == (number != signal.SIGINT)
    assert open_ones(ada) == []
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1).close()


def test_nobody_in_time_is_exit_code_3(ada: Machine) -> None:
    assert "nobody joined in time" in ada.fails(3, "invite", "--expires", "300ms")
    assert open_ones(ada) == []


def test_three_wrong_codes_end_it(ada: Machine, bob: Machine) -> None:
    with ada.start("invite", "--json") as inviting:
        invited = inviting.event("invited")
        place = f"127.0.0.1:{invited['port']}"
        number = invited["secret"].split("-")[0]
        for left in (2, 1, 0):
            wrong = f"{number}-acorn-{'acorn' if invited['secret'].endswith('actor') else 'actor'}"
            told = bob.fails(1, "join", wrong, "--at", place)
            assert "the code is not the right one" in told
            assert "ask for a new one" in told
            assert inviting.event("failed") == {"event": "failed", "left": left}
        code, errors = inviting.end()
        assert code == 1
        assert "tried too often" in errors
    assert bob.json("trust", "show")["mesh"] is None


def test_without_multicast_the_address_is_asked_for(tmp_path: Path) -> None:
    with network(up=False) as words:
        if words is None:
            pytest.skip("needs a network of its own")
        with Machine(tmp_path, "ada", words).start("invite") as inviting:
            assert inviting.process.stderr
            assert "There is no multicast here" in inviting.process.stderr.readline()
            assert inviting.process.stdout
            text = ""
            while "--at" not in text:
                text += inviting.process.stdout.readline()
            assert "with --at" in text
            assert inviting.end(signal.SIGINT)[0] == 130


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--expires", "soon"), "no duration"),
        (("--expires", "0s"), "more than 0"),
        (("--expires", "never"), "ends some day"),
        (("--expires", "2h"), "at most 3600"),
        (("--token", "--expires", "31d"), "at most"),
        (("--name", "No Name"), "not a valid peer name"),
        (("--port", "65536"), "65535"),
        (("extra",), "extra"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_founds_nothing(ada: Machine, words: tuple[str, ...], what: str) -> None:
    assert what in ada.misuses("invite", *words)
    assert not (ada.home / "trust.db").exists()


def test_a_port_in_use_is_named(ada: Machine) -> None:
    with ada.start("invite", "--json") as inviting:
        port = inviting.event("invited")["port"]
        told = ada.fails(1, "invite", "--port", str(port))
        assert f"port {port}" in told
        inviting.end(signal.SIGINT)


# --- whose door ---


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def peer_at(home: Path, door: int) -> None:
    """Write the file of a peer that runs: this process."""
    directory = rendezvous_directory(home)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    own = Sighting(store_of("a" * 32, 1), "ada", "a" * 32, ("tcp://127.0.0.1:7000",), "own", door)

    async def write() -> None:
        source = RendezvousSource(directory)
        await source.start(own, lambda _: None)
        source._timer.cancel()  # type: ignore[union-attr]  # noqa: SLF001 - it stays there, as if it ran on

    asyncio.run(write())


def door_of(
    home: Path, monkeypatch: pytest.MonkeyPatch, usual: int, port: int = 0, *, taken: int = 0
) -> tuple[int, bool]:
    """At which port an invitation waits, and whether it has opened that itself."""
    monkeypatch.setenv("ZMESH_HOME", str(home))
    monkeypatch.setattr("zmesh.cli.invite.DOOR", usual)

    async def look(store: TrustStore) -> tuple[int, bool]:
        async with AsyncExitStack() as stack:
            if taken:
                server = await asyncio.start_server(lambda *_: None, port=taken)
                stack.push_async_callback(server.wait_closed)
                stack.callback(server.close)
            async with AsyncExitStack() as doors:
                found = await _door(store, port, doors)
                before = len(doors._exit_callbacks)  # type: ignore[attr-defined]  # noqa: SLF001
                return found, before > 0

    with TrustStore(home / "trust.db", Device.from_seed(bytes(32))) as store:
        return asyncio.run(look(store))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home."""
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    return path


def test_the_usual_door_is_opened_when_no_peer_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = free_port()
    assert door_of(home, monkeypatch, usual) == (usual, True)


def test_the_door_of_a_peer_that_runs_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = free_port()
    peer_at(home, usual)
    assert door_of(home, monkeypatch, usual, taken=usual) == (usual, False)


def test_the_door_of_an_embedded_peer_is_used_when_somebody_else_has_the_usual_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = free_port()
    peer_at(home, 40_123)
    assert door_of(home, monkeypatch, usual, taken=usual) == (40_123, False)
    assert door_of(home, monkeypatch, usual) == (usual, True), "rather the usual one"


def test_another_door_is_opened_when_somebody_has_the_usual_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = free_port()
    port, opened = door_of(home, monkeypatch, usual, taken=usual)
    assert opened
    assert port not in (0, usual)


def test_a_port_that_was_asked_for_is_used_whoever_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, wanted = free_port(), free_port()
    peer_at(home, usual)
    assert door_of(home, monkeypatch, usual, wanted, taken=usual) == (wanted, True)
    with pytest.raises(TrustError, match="choose another with --port"):
        door_of(home, monkeypatch, usual, wanted, taken=wanted)
