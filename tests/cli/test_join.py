"""`zmesh join` as a process: who is found, who is refused and why, and what is left when it fails."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Machine, network
from zmesh.cli.join import pair_with
from zmesh.errors import PairingError
from zmesh.trust.device import Device
from zmesh.trust.door import Door
from zmesh.trust.invitation import CODE_ATTEMPTS, read_secret
from zmesh.trust.refusal import REASONS, Refusal
from zmesh.trust.trust_store import TrustStore
from zmesh.trust.visitor import Unreachable, pair


@pytest.fixture(scope="module")
def enter() -> Iterator[tuple[str, ...]]:
    """A network of the module's own."""
    with network() as words:
        yield words or ()


@pytest.fixture
def machines(tmp_path: Path, enter: tuple[str, ...]) -> list[Machine]:
    """Three machines in no mesh."""
    return [Machine(tmp_path, name, enter) for name in ("ada", "bob", "cid")]


def bring_in(inviter: Machine, guest: Machine, *words: str) -> dict[str, object]:
    with inviter.start("invite", "--json", "--name", inviter.name) as inviting:
        invited = inviting.event("invited")
        place = f"127.0.0.1:{invited['port']}"
        joined: dict[str, object] = guest.json("join", invited["secret"], "--at", place, "--name", guest.name, *words)
        assert inviting.end()[0] == 0
    return joined


def test_the_third_pairs_with_any_member_and_knows_all(machines: list[Machine]) -> None:
    ada, bob, cid = machines
    bring_in(ada, bob)
    joined = bring_in(bob, cid)
    assert joined["members"] == ["ada", "bob", "cid"]
    assert [member["name"] for member in cid.json("trust", "list")] == ["ada", "bob", "cid"]


def test_who_is_in_a_mesh_needs_leave(machines: list[Machine]) -> None:
    _, bob, cid = machines
    first = bob.found()
    told = bob.fails(1, "join", "7-acorn-actor", "--at", "127.0.0.1:9")
    assert "--leave" in told
    second = bring_in(cid, bob, "--leave")
    assert second["mesh"] != first
    assert second["members"] == ["cid", "bob"]


def test_a_join_with_leave_that_fails_leaves_nothing(machines: list[Machine]) -> None:
    bob = machines[1]
    mesh = bob.found()
    assert "nobody answers" in bob.fails(1, "join", "7-acorn-actor", "--at", "127.0.0.1:9", "--leave")
    assert bob.json("trust", "show")["mesh"] == mesh


def test_a_name_that_is_taken_is_refused_with_the_way_out(machines: list[Machine]) -> None:
    ada, _, cid = machines
    ada.found()
    with ada.start("invite", "--json") as inviting:
        invited = inviting.event("invited")
        place = f"127.0.0.1:{invited['port']}"
        for _ in range(CODE_ATTEMPTS + 1):  # whoever gets so far knows the code: that uses up no attempt
            assert "--name" in cid.fails(1, "join", invited["secret"], "--at", place, "--name", "ada")
        assert cid.run("join", invited["secret"], "--at", place, "--name", "cid").returncode == 0
        assert inviting.end()[0] == 0


def test_a_join_that_was_killed_at_its_very_end_is_repeated_with_a_new_code(machines: list[Machine]) -> None:
    ada, bob, _ = machines
    ada.found()
    bob.inside = True
    bob.json("trust", "show")  # makes its key
    with TrustStore(ada.home / "trust.db", Device.load_or_create(ada.home / "device.key")) as store:

        async def test() -> tuple[str, str]:
            door = Door(store)
            await door.open("127.0.0.1")
            place = f"127.0.0.1:{door.port}"
            secret = store.invite(60)
            key = Device.load_or_create(bob.home / "device.key")
            await pair("127.0.0.1", door.port, secret, key, "bob")  # and then it keeps nothing
            assert [member.name for member in store.membership.members.values()] == ["ada", "bob"]
            words = ("--at", place, "--name", "bob")
            used = await asyncio.to_thread(bob.fails, 1, "join", secret.text, *words)
            again = await asyncio.to_thread(bob.json, "join", store.invite(60).text, *words)
            assert again["members"] == ["ada", "bob"]
            await door.close()
            bob.json("trust", "leave", "--yes")
            return used, await asyncio.to_thread(bob.fails, 1, "join", secret.text, *words)

        used, shut = asyncio.run(test())
    for told in (used, shut):
        assert "joining again is safe" in told
        assert "new" in told
    assert [member.name for member in store.membership.members.values()] == ["ada", "bob"]


def test_nobody_found_in_time_is_exit_code_3(machines: list[Machine], tmp_path: Path) -> None:
    site = tmp_path / "quick"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import zmesh.cli.join\nzmesh.cli.join.LISTEN = 0.3\n")
    ended = machines[0].run("join", "7-acorn-actor", PYTHONPATH=f"{site}:{Path(__file__).parents[2]}")
    assert (ended.returncode, "no machine on this network shows that code" in ended.stderr) == (3, True), ended.stderr
    assert "--at HOST:PORT" in ended.stderr
    assert "joining again is safe" in ended.stderr


def test_without_multicast_the_way_out_is_an_address(tmp_path: Path) -> None:
    with network(up=False) as words:
        if words is None:
            pytest.skip("needs a network of its own")
        told = Machine(tmp_path, "ada", words).fails(1, "join", "7-acorn-actor")
        assert "no multicast here" in told
        assert "--at HOST:PORT" in told


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "ZMESH_JOIN"),
        (("7-lantern-clovre",), "word 2"),
        (("hello",), "not a pairing code"),
        (("zmesh-abc",), "not complete"),
        (("7-acorn-actor", "--at", "no where"), "no address"),
        (("7-acorn-actor", "--at", "1:2:3"), "no address"),
        (("7-acorn-actor", "--at", ":80"), "no address"),
        (("7-acorn-actor", "--at", "a:0"), "no address"),
        (("7-acorn-actor", "--at", "a:99999"), "no address"),
        (("7-acorn-actor", "--at", "a:" + "9" * 5000), "no address"),
        (("7-acorn-actor", "--name", "No Name"), "not a valid peer name"),
    ],
)
def test_wrong_usage_is_exit_code_2(machines: list[Machine], words: tuple[str, ...], what: str) -> None:
    told = machines[0].misuses("join", *words)
    assert what in told
    assert "clovre" not in told


# --- who is found by a nameplate ---


def tried_doors(
    monkeypatch: pytest.MonkeyPatch, ends: dict[str, PairingError], *, silence: bool = False
) -> tuple[list[str], str]:
    """Try machines that all announce the nameplate, each named by its addresses; returns those tried, and the end."""
    tried: list[str] = []

    async def find(*_: object) -> AsyncGenerator[list[tuple[str, int]], None]:
        for machine in ends:
            yield [(host, 1) for host in machine.split()]
        if silence:
            await asyncio.Event().wait()

    async def pair(host: str, *_: object) -> None:
        tried.append(host)
        raise next(error for machine, error in ends.items() if host in machine.split())

    monkeypatch.setattr("zmesh.discovery.pairing.find", find)
    monkeypatch.setattr("zmesh.cli.join.pair", pair)
    device = Device.from_seed(bytes(32))
    with pytest.raises(PairingError) as caught:
        asyncio.run(asyncio.wait_for(pair_with(read_secret("7-acorn-actor"), device, "bob", None), 20))
    return tried, str(caught.value)


def test_who_pretends_to_be_the_inviter_has_three_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    doors: dict[str, PairingError] = {f"10.0.0.{number}": Refusal("code") for number in range(16)}
    tried, told = tried_doors(monkeypatch, doors)
    assert tried == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
    assert told == REASONS["code"]


def test_a_code_mistyped_once_is_one_attempt_however_many_addresses_the_inviter_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doors: dict[str, PairingError] = {
        "10.0.0.1 10.8.0.1 fd00::1": Refusal("code"),
        "10.0.0.2 fd00::2": Unreachable("gone"),
    }
    tried, told = tried_doors(monkeypatch, doors)
    assert tried == ["10.0.0.1", "10.0.0.2", "fd00::2"]
    assert told == REASONS["code"]


def test_a_wrong_code_is_told_without_listening_on_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.cli.join.MORE", 0.01)
    monkeypatch.setattr("zmesh.cli.join.LISTEN", None)  # what listens would never end
    tried, told = tried_doors(monkeypatch, {"a": Unreachable("gone"), "b": Refusal("code")}, silence=True)
    assert tried == ["a", "b"]
    assert told == REASONS["code"]


def test_doors_that_do_not_answer_do_not_hide_what_another_said(monkeypatch: pytest.MonkeyPatch) -> None:
    doors = {"a": Unreachable("gone"), "b": Refusal("over"), "c": Unreachable("gone too")}
    tried, told = tried_doors(monkeypatch, doors)
    assert tried == ["a", "b", "c"]
    assert told == REASONS["over"]


def test_trying_doors_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.cli.join.LONGEST", -1.0)
    tried, _ = tried_doors(monkeypatch, {f"10.0.0.{number}": Unreachable("gone") for number in range(16)})
    assert tried == ["10.0.0.0"]


# --- where the inviter is ---


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("192.0.2.7", ("192.0.2.7", 7421)),
        ("studio.local", ("studio.local", 7421)),
        ("192.0.2.7:40123", ("192.0.2.7", 40123)),
        ("[2001:db8::7]:40123", ("2001:db8::7", 40123)),
        ("2001:db8::7", ("2001:db8::7", 7421)),
    ],
)
def test_an_address_without_a_port_is_that_of_the_door_of_a_peer(
    monkeypatch: pytest.MonkeyPatch, machines: list[Machine], text: str, place: tuple[str, int]
) -> None:
    tried: list[tuple[str, int]] = []

    async def pair(host: str, port: int, *_: object) -> None:
        tried.append((host, port))
        raise Unreachable("nobody answers")

    monkeypatch.setattr("zmesh.cli.join.pair", pair)
    machines[0].inside = True
    assert "nobody answers" in machines[0].fails(1, "join", "7-acorn-actor", "--at", text)
    assert tried == [place]


def test_where_a_machine_was_invited_is_kept_to_be_found_again(machines: list[Machine]) -> None:
    ada, bob, _ = machines
    with ada.start("invite", "--json", "--name", "ada") as inviting:
        invited = inviting.event("invited")
        bob.json("join", invited["secret"], "--at", f"127.0.0.1:{invited['port']}", "--name", "bob")
        inviting.end()
    with TrustStore(bob.home / "trust.db", Device.load_or_create(bob.home / "device.key")) as store:
        assert store.inviter == ("127.0.0.1", invited["port"])
