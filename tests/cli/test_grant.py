"""`zmesh grant` as a process: what is granted to whom and until when, and that a running peer follows."""

import asyncio
import json
import time
from pathlib import Path

import pytest

import zmesh
from tests.cli.commands import Machine
from tests.conftest import LOCAL
from tests.trust.support import DEVICES, NAMES, bring_in
from tests.waiting import until
from zmesh.trust.device import readable
from zmesh.trust.grants import Grant
from zmesh.trust.trust_store import TrustStore

ADA, BOB, CID = DEVICES[:3]


@pytest.fixture
def ada(tmp_path: Path) -> Machine:
    """Ada founded a mesh and invited Bob and Cid."""
    machine = Machine(tmp_path, "ada")
    machine.inside = True
    machine.home.mkdir(mode=0o700)
    key = machine.home / "device.key"
    key.touch(mode=0o600)
    key.write_bytes(ADA.seed)
    with TrustStore(machine.home / "trust.db", ADA) as store:
        store.found("ada")
        for number in (1, 2):
            with TrustStore(tmp_path / f"{NAMES[number]}.db", DEVICES[number]) as guest:
                bring_in(store, guest)
    return machine


def test_what_holds_without_a_rule_is_listed(ada: Machine) -> None:
    assert ada.json("grant", "list") == {
        "default": {"chat": True, "task": True, "inject": True, "exec": False, "file.write": False},
        "grants": [],
        "default_limits": {"messages": 20_000.0, "bytes": 100.0 * 2**20, "size": 2**18},
        "limits": [],
    }
    assert ada.run("grant", "list").stdout == "all members: chat, task, inject; not exec, file.write\n"


def test_a_grant_as_a_process_with_an_end_and_its_removal(ada: Machine) -> None:
    ada.inside = False
    before = time.time()
    made = ada.json("grant", "exec", "Bob", "--for", "2h")
    assert before + 7200 <= made["until"] <= time.time() + 7200
    assert before <= made["at"] <= time.time()
    assert {name: made[name] for name in ("capability", "who", "device", "agent", "allow")} == {
        "capability": "exec", "who": "bob", "device": BOB.id, "agent": None, "allow": True,
    }  # fmt: skip
    assert ada.json("grant", "list")["grants"] == [made]
    assert json.loads(ada.run("grant", "remove", "exec", "bob", "--json").stdout) == {"removed": "exec", "who": "bob"}
    assert ada.json("grant", "list")["grants"] == []
    assert "there is no rule about exec for bob" in ada.fails(1, "grant", "remove", "exec", "bob")


def test_who_may_be_an_agent_an_id_or_everybody(ada: Machine) -> None:
    assert ada.json("grant", "file.write", "Code@bob", "--until", "never")["who"] == "code@bob"
    assert ada.json("grant", "inject", readable(CID.id), "--deny")["device"] == CID.id
    assert ada.json("grant", "chat", "*", "--deny", "--until", "2999-01-31")["device"] == "*"
    lines = ada.run("grant", "list").stdout.splitlines()
    assert lines[0].startswith("*: chat DENIED until 2999-01-31")
    assert set(lines[1:]) == {
        "code@bob: file.write allowed for good",
        "cid: inject DENIED for good",
        "otherwise: chat, task, inject; not exec, file.write",
    }
    ada.json("grant", "file.write", "code@bob", "--deny")
    assert "code@bob: file.write DENIED for good" in ada.run("grant", "list").stdout
    assert ada.run("grant", "remove", "inject", CID.id[:8]).stdout == f"inject for {CID.id[:8]}: removed\n"
    assert ada.run("grant", "remove", "file.write", "code@bob").returncode == 0
    assert ada.run("grant", "remove", "chat", "*").returncode == 0
    assert ada.json("grant", "list")["grants"] == []


def test_what_may_do_harm_needs_an_end(ada: Machine) -> None:
    for capability in ("exec", "file.write"):
        assert "say until when" in ada.misuses("grant", capability, "bob")
        assert ada.run("grant", capability, "bob", "--deny").returncode == 0
    assert ada.run("grant", "task", "bob").returncode == 0
    assert all(rule["until"] is None for rule in ada.json("grant", "list")["grants"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("exce", "bob"), "no capability 'exce': did you mean exec?"),
        (("fly", "bob"), "there are chat, task, inject, exec, file.write"),
        (("exec", "bob", "--for", "soon"), "is no duration"),
        (("exec", "bob", "--until", "soon"), "write 2027-01-31"),
        (("exec", "bob", "--until", "2001-01-31"), "2001-01-31 is over"),
        (("exec", "bob", "--for", "1h", "--until", "never"), "give one of them"),
        (("limit", "bob"), "say what is limited"),
        (("limit", "bob", "--messages", "0/s"), "to take nothing, deny it"),
        (("limit", "bob", "--messages", "1K/s"), "write 100/s"),
        (("limit", "bob", "--bytes", "much"), "write 1M/s"),
        (("limit", "bob", "--size", "64K/s"), "write 64K"),
        (("limit", "bob", "--size", "1M"), "between 1 byte and 256K"),
        (("limit", "bob", "--size", "0.5"), "between 1 byte and 256K"),
    ],
)
def test_wrong_usage_says_what_is_right(ada: Machine, words: tuple[str, ...], told: str) -> None:
    assert told in " ".join(ada.misuses("grant", *words).split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("chat", "bbo"), "'bbo' is no member (did you mean bob?): see zmesh trust list"),
        (("chat", "xyz"), "'xyz' is no member: see zmesh trust list"),
        (("chat", "code@bbo"), "did you mean bob?"),
        (("chat", "no name@bob"), "not a valid agent name"),
        (("chat", "code@*"), "write code@MEMBER, or '*' for all members"),
        (("chat", "#room"), "there are no rooms yet"),
        (("chat", "ada"), "ada is this device"),
        (("limit", "code@bob", "--size", "1K"), "limits are for a whole device: write bob"),
        (("remove", "exce", "bob"), "did you mean exec?"),
        (("remove", "limit", "bob"), "there is no limit for bob"),
        (("remove", "exec", "nobody"), "see zmesh trust list"),
    ],
)
def test_who_is_nobody_or_cannot_be_meant_is_named(ada: Machine, words: tuple[str, ...], told: str) -> None:
    assert told in ada.fails(1, "grant", *words)
    assert ada.json("grant", "list")["grants"] == []


def test_who_was_revoked_is_granted_nothing_and_its_rules_can_be_removed(ada: Machine) -> None:
    ada.run("grant", "task", "bob", "--deny")
    assert ada.run("trust", "revoke", "bob").returncode == 0
    assert "bob was revoked" in ada.fails(1, "grant", "chat", "bob")
    assert ada.run("grant", "remove", "task", "bob").returncode == 0


def test_a_rule_about_who_is_unknown_by_now_is_listed_and_removed_by_its_id(ada: Machine) -> None:
    stranger = DEVICES[5].id
    with TrustStore(ada.home / "trust.db", ADA) as store:
        store.grants.put(Grant("exec", stranger))
    assert ada.json("grant", "list")["grants"][0]["who"] == stranger
    assert ada.run("grant", "remove", "exec", readable(stranger)[:11]).returncode == 0
    assert ada.json("grant", "list")["grants"] == []


def test_limits_are_set_one_by_one_and_removed_together(ada: Machine) -> None:
    ada.run("grant", "limit", "bob", "--messages", "600/m", "--bytes", "1.5M/s")
    assert ada.json("grant", "limit", "bob", "--size", "64K") == {
        "who": "bob", "device": BOB.id, "messages": 10.0, "bytes": 1.5 * 2**20, "size": 65536,
    }  # fmt: skip
    ada.run("grant", "limit", "*", "--messages", "100")
    lines = ada.run("grant", "list").stdout.splitlines()
    assert lines == [
        "*: at most 100 messages a second",
        "bob: at most 10 messages a second, 1,572,864 bytes a second, 65,536 bytes in one body",
        "all members: chat, task, inject; not exec, file.write",
    ]
    assert ada.run("grant", "remove", "limit", "bob").stdout == "limit for bob: removed\n"
    assert [limit["who"] for limit in ada.json("grant", "list")["limits"]] == ["*"]


def test_a_running_peer_follows(ada: Machine) -> None:
    ada.inside = False

    async def scenario() -> None:
        async with zmesh.Peer("ada", home=ada.home, bind=LOCAL, discovery=[]) as peer:
            guard = peer.driver.guard
            assert not guard.allows("exec", BOB.id, "code")
            await asyncio.to_thread(ada.json, "grant", "exec", "code@bob", "--for", "1h")
            await until(lambda: guard.allows("exec", BOB.id, "code"), what="the grant")
            assert not guard.allows("exec", BOB.id, "other")

    asyncio.run(scenario())
