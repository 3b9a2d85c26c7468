"""`zmesh trust` as a process: who is a member, who may shut whom out, and by what words."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli.commands import Machine
from tests.trust.support import DEVICES, NAMES, bring_in, exchange
from zmesh.cli.up import up
from zmesh.trust.device import readable
from zmesh.trust.trust_store import TrustStore
from zmesh.trust.words import spell


@pytest.fixture
def machines(tmp_path: Path) -> tuple[list[Machine], str]:
    """Ada founded, ada invited bob, bob invited cid; and the recovery phrase."""
    machines = [Machine(tmp_path, name) for name in NAMES[:3]]
    stores = []
    for machine, device in zip(machines, DEVICES, strict=False):
        machine.home.mkdir(mode=0o700)
        machine.inside = True
        key = machine.home / "device.key"
        key.touch(mode=0o600)
        key.write_bytes(device.seed)
        stores.append(TrustStore(machine.home / "trust.db", device))
    phrase = " ".join(spell(stores[0].found("ada").recovery))
    bring_in(stores[0], stores[1])
    bring_in(stores[1], stores[2])
    exchange(*stores)
    for store in stores:
        store.close()
    return machines, phrase


def test_show_list_and_log_are_one_json_value_each_and_readable_to_people(
    machines: tuple[list[Machine], str], tmp_path: Path
) -> None:
    ada, bob, _ = machines[0]
    shown = bob.json("trust", "show")
    assert (shown["device"], shown["name"], shown["revoked"]) == (DEVICES[1].id, "bob", False)
    listed = ada.json("trust", "list")
    assert [(m["name"], m["device"]) for m in listed] == [(NAMES[n], DEVICES[n].id) for n in range(3)]
    assert [m["inviter"] for m in listed] == [None, DEVICES[0].id, DEVICES[1].id]
    log = ada.json("trust", "log", "bob")
    assert [(row["number"], row["says"], row["void"]) for row in log] == [(1, "joined", False), (2, "invited", False)]
    text = ada.run("trust", "list").stdout
    assert readable(DEVICES[2].id) in text
    assert "invited by bob" in text
    assert "founder" in text
    assert "invited cid" in ada.run("trust", "log", readable(DEVICES[1].id)).stdout
    assert readable(DEVICES[1].id) in bob.run("trust", "show").stdout
    nobody = Machine(tmp_path, "nobody")
    assert nobody.json("trust", "list") == []
    assert nobody.json("trust", "show")["mesh"] is None
    assert "zmesh invite" in nobody.run("trust", "list").stdout


def test_a_device_that_was_invited_can_be_revoked_and_knows_it(machines: tuple[list[Machine], str]) -> None:
    _, bob, cid = machines[0]
    revoked = bob.json("trust", "revoke", "cid", "--reason", "left the team")
    assert (revoked["name"], revoked["revoked"], revoked["reason"]) == ("cid", True, "left the team")
    assert "REVOKED: left the team" in bob.run("trust", "list").stdout
    with TrustStore(bob.home / "trust.db", DEVICES[1]) as one, TrustStore(cid.home / "trust.db", DEVICES[2]) as two:
        exchange(one, two)
    assert cid.json("trust", "show")["revoked"] is True
    assert "REVOKED" in cid.run("trust", "show").stdout
    assert "was revoked (left the team)" in cid.fails(1, "invite")


def test_the_peer_of_a_device_that_was_revoked_does_not_wait_in_silence(
    machines: tuple[list[Machine], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, bob, cid = machines[0]
    bob.json("trust", "revoke", "cid")
    with TrustStore(bob.home / "trust.db", DEVICES[1]) as one, TrustStore(cid.home / "trust.db", DEVICES[2]) as two:
        exchange(one, two)
    monkeypatch.setattr("zmesh.cli.foreground.run_until_signal", lambda *_: None)
    told = {}
    for machine in (bob, cid):
        monkeypatch.setenv("ZMESH_HOME", str(machine.home))
        told[machine.name] = CliRunner().invoke(up, ["--foreground"]).output
    assert "was revoked" in told["cid"]
    assert "was revoked" not in told["bob"]


def test_a_device_does_not_shut_itself_out_by_a_slip(machines: tuple[list[Machine], str]) -> None:
    (ada, bob, _), _ = machines
    for machine, name in ((ada, "ada"), (bob, "bob")):
        assert "zmesh trust leave" in machine.fails(1, "trust", "revoke", name)
        assert machine.json("trust", "show")["revoked"] is False


def test_who_may_not_revoke_hears_who_may(machines: tuple[list[Machine], str]) -> None:
    _, bob, cid = machines[0]
    assert "ada, or who invited that, may revoke it" in cid.fails(1, "trust", "revoke", "bob")
    assert "--recovery" in bob.fails(1, "trust", "revoke", "ada")
    assert "was not invited by this device" in cid.fails(1, "trust", "rename", "ada", "mine")


def test_all_and_last_say_what_is_honoured(machines: tuple[list[Machine], str]) -> None:
    ada = machines[0][0]
    assert "contradict" in ada.misuses("trust", "revoke", "bob", "--all", "--last", "1")
    assert "has signed 2 entries" in ada.fails(1, "trust", "revoke", "bob", "--last", "3")
    assert ada.run("trust", "revoke", "bob", "--last", "1").returncode == 0
    assert [m["name"] for m in ada.json("trust", "list")] == ["ada", "bob"]
    assert [row["void"] for row in ada.json("trust", "log", "bob")] == [False, True]
    assert "VOID" in ada.run("trust", "log", "bob").stdout


def test_the_recovery_phrase_is_read_from_a_pipe_and_revokes_the_founder(machines: tuple[list[Machine], str]) -> None:
    (_, bob, _), phrase = machines
    bob.inside = False
    words = phrase.split()
    assert "has 16 words, not 3" in bob.fails(1, "trust", "revoke", "ada", "--recovery", stdin="acorn acorn acorn\n")
    told = bob.fails(1, "trust", "revoke", "ada", "--recovery", stdin=" ".join([*words[:15], "blunder"]) + "\n")
    assert "word 16" in told
    assert "blunder" not in told
    assert not any(word in told for word in words if len(word) > 5)
    ended = bob.run("trust", "revoke", "ada", "--recovery", "--json", stdin=phrase + "\n")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["revoked"] is True
    assert phrase not in ended.stdout + ended.stderr


def test_a_reason_that_cannot_be_shown_is_refused(machines: tuple[list[Machine], str]) -> None:
    ada = machines[0][0]
    for reason in ("x" * 201, "\x1b[2J"):
        assert "one line of at most 200 bytes" in ada.fails(1, "trust", "revoke", "bob", "--reason", reason)


def test_rename_needs_a_name_that_is_free(machines: tuple[list[Machine], str]) -> None:
    ada = machines[0][0]
    assert ada.json("trust", "rename", "cid", "Studio")["name"] == "studio"
    assert "another member is called bob" in ada.fails(1, "trust", "rename", "studio", "bob")
    assert "not a valid peer name" in ada.misuses("trust", "rename", "studio", "no name")


def test_who_is_nobody_is_named(machines: tuple[list[Machine], str]) -> None:
    for who in ("abc", readable(DEVICES[5].id), readable(DEVICES[1].id)[:-1] + "!"):
        assert "zmesh trust list" in machines[0][0].fails(1, "trust", "revoke", who)


def test_the_beginning_of_an_id_is_enough(machines: tuple[list[Machine], str]) -> None:
    ada = machines[0][0]
    assert ada.json("trust", "log", DEVICES[2].id[:6])[0]["says"] == "joined"
    assert ada.json("trust", "log", readable(DEVICES[2].id)[:9])[0]["says"] == "joined"


def test_leave_asks_and_forgets(machines: tuple[list[Machine], str]) -> None:
    ada = machines[0][0]
    assert ada.run("trust", "leave", stdin="n\n").returncode == 1
    assert ada.json("trust", "show")["name"] == "ada"
    assert set(ada.json("trust", "leave", "--yes")) == {"left"}
    assert ada.json("trust", "show")["mesh"] is None
    assert "in no mesh" in ada.fails(1, "trust", "leave", "--yes")
