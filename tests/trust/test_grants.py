"""Grants: which rule decides, what a type needs, and what the file keeps for all processes of the device."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust.support import DEVICES, bring_in, open_store
from zmesh.errors import TrustError
from zmesh.protocol.bounds import MAX_BODY, RATE_BYTES, RATE_MESSAGES
from zmesh.trust import grants as module
from zmesh.trust.grants import (
    CAPABILITIES,
    DEFAULTS,
    EVERYBODY,
    UNLIMITED,
    Grant,
    Grants,
    Limits,
    allows,
    capability_for,
    check_capability,
    limits_of,
    ruling,
)
from zmesh.trust.trust_file import TrustFile

ADA, BOB = "a" * 32, "b" * 32
NOW = 1000.0

rules = st.lists(
    st.builds(
        Grant,
        st.sampled_from(CAPABILITIES),
        st.sampled_from((ADA, BOB, EVERYBODY)),
        st.sampled_from(("", "code", "chat")),
        st.booleans(),
        st.sampled_from((None, NOW - 1, NOW, NOW + 1)),
    ).filter(lambda rule: not (rule.agent and rule.device == EVERYBODY)),
    max_size=8,
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[TrustFile]:
    """An empty file."""
    opened = TrustFile(tmp_path / "trust.db")
    yield opened
    opened.close()


# --- which rule decides ---


def test_without_a_rule_members_may_what_pairing_gives() -> None:
    assert {name for name in CAPABILITIES if allows((), name, ADA, "code", NOW)} == DEFAULTS
    assert {"exec", "file.write"} == set(CAPABILITIES) - DEFAULTS


@pytest.mark.parametrize(
    ("made", "allowed"),
    [
        ([Grant("exec", ADA)], True),
        ([Grant("exec", BOB)], False),
        ([Grant("file.write", ADA)], False),
        ([Grant("exec", EVERYBODY)], True),
        ([Grant("exec", ADA, "code")], True),
        ([Grant("exec", ADA, "other")], False),
        ([Grant("exec", BOB, "code")], False),
        ([Grant("exec", ADA, allow=False), Grant("exec", EVERYBODY)], False),
        ([Grant("exec", ADA), Grant("exec", EVERYBODY, allow=False)], True),
        ([Grant("exec", ADA, "code"), Grant("exec", ADA, allow=False)], True),
        ([Grant("exec", ADA, "code", allow=False), Grant("exec", ADA)], False),
        ([Grant("exec", ADA), Grant("exec", ADA, allow=False)], False),
        ([Grant("exec", ADA, until=NOW)], False),
        ([Grant("exec", ADA, until=NOW + 0.1)], True),
        ([Grant("exec", ADA), Grant("exec", ADA, "code", allow=False, until=NOW)], True),
    ],
)
def test_the_most_specific_rule_decides_and_deny_wins(made: list[Grant], allowed: bool) -> None:  # noqa: FBT001
    for order in (made, made[::-1]):
        assert allows(order, "exec", ADA, "code", NOW) is allowed


@given(rules, st.sampled_from(CAPABILITIES), st.sampled_from((ADA, BOB)), st.sampled_from(("code", "other")))
def test_rules_about_others_and_those_that_have_ended_change_nothing(
    made: list[Grant], capability: str, device: str, agent: str
) -> None:
    about = [
        rule
        for rule in made
        if rule.capability == capability
        and rule.device in (device, EVERYBODY)
        and rule.agent in ("", agent)
        and (rule.until is None or rule.until > NOW)
    ]
    decides = ruling(made, capability, device, agent, NOW)
    assert (decides is None) == (not about)
    assert allows(made, capability, device, agent, NOW) == allows(about, capability, device, agent, NOW)
    if decides is not None:
        assert decides in about
        if decides.allow:
            assert replace(decides, allow=False) not in about
        assert not any(rule.agent and not decides.agent for rule in about)


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("exec", "exec"), ("Exec", "exec"), (" exec ", "exec"), ("exec.python", "exec"), ("exec .x", "exec"),
        ("file.write", "file.write"), ("FILE.WRITE.append", "file.write"), ("file.read", "chat"), ("file", "chat"),
        ("command", "task"), ("task", "task"), ("task.result", "task"), ("executive", "chat"), ("reply", "chat"),
        ("my.exec", "chat"), (".", "chat"), (" ", "chat"), ("text", "chat"), ("inject", "chat"),
    ],
)  # fmt: skip
def test_what_a_type_needs(kind: str, needed: str) -> None:
    assert capability_for(kind) == needed


def test_a_capability_that_there_is_not_is_named_with_near_ones() -> None:
    assert check_capability("exec") == "exec"
    with pytest.raises(TrustError, match=r"no capability 'exce': did you mean exec\?"):
        check_capability("exce")
    with pytest.raises(TrustError, match=r"choose among chat, task, inject, exec, file\.write"):
        check_capability("fly")


def test_limits_fall_back_one_by_one() -> None:
    assert limits_of({}, ADA) == UNLIMITED == Limits(RATE_MESSAGES, RATE_BYTES, MAX_BODY)
    made = {ADA: Limits(messages=5.0), EVERYBODY: Limits(messages=9.0, size=10), BOB: Limits(octets=1.0)}
    assert limits_of(made, ADA) == Limits(5.0, RATE_BYTES, 10)
    assert limits_of(made, BOB) == Limits(9.0, 1.0, 10)
    assert limits_of(made, "c" * 32) == Limits(9.0, RATE_BYTES, 10)


# --- what is kept ---


def test_rules_are_kept_for_all_processes_and_the_last_word_counts(file: TrustFile) -> None:
    grants, other = Grants(file), Grants(TrustFile(file.path))
    rule = Grant("exec", ADA, "code", allow=True, until=9e9, at=5.0)
    grants.put(rule)
    grants.put(Grant("chat", EVERYBODY, allow=False))
    serial = other.serial
    other.load()
    assert set(other.rules) == set(grants.rules) == {rule, Grant("chat", EVERYBODY, allow=False)}
    assert other.serial != serial
    grants.put(replace(rule, allow=False, until=None))
    assert grants.rules == (Grant("chat", EVERYBODY, allow=False), replace(rule, allow=False, until=None))
    assert not grants.remove("exec", ADA)
    assert grants.remove("exec", ADA, "code")
    assert grants.remove("chat", EVERYBODY)
    assert not list(grants.rules)


def test_what_has_ended_goes_with_the_next_rule(file: TrustFile) -> None:
    grants = Grants(file)
    grants.put(Grant("exec", ADA, until=NOW))
    grants.put(Grant("exec", BOB, until=9e9))
    assert [rule.device for rule in grants.rules] == [BOB]
    assert grants.next_end(NOW) == 9e9
    assert grants.next_end(9e9) == inf


def test_limits_are_kept_and_set_one_by_one(file: TrustFile) -> None:
    grants = Grants(file)
    grants.limit(ADA, Limits(messages=5.0))
    grants.limit(EVERYBODY, Limits(octets=7.0))
    Grants(TrustFile(file.path)).limit(ADA, Limits(size=9))
    grants.load()
    assert grants.limits == {ADA: Limits(5.0, 0.0, 9), EVERYBODY: Limits(octets=7.0)}
    grants.limit(ADA, Limits(messages=6.0))
    assert grants.limits[ADA] == Limits(6.0, 0.0, 9)
    assert grants.unlimit(ADA)
    assert not grants.unlimit(ADA)
    assert set(grants.limits) == {EVERYBODY}


def test_what_is_no_rule_is_refused(file: TrustFile) -> None:
    grants = Grants(file)
    with pytest.raises(TrustError, match="no capability 'fly'"):
        grants.put(Grant("fly", ADA))
    with pytest.raises(TrustError, match="write code@MEMBER"):
        grants.put(Grant("exec", EVERYBODY, "code"))
    assert file.rows('SELECT * FROM "grant"') == []


def test_there_are_not_more_than_so_many(file: TrustFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RULES", 2)
    grants = Grants(file)
    for device in (ADA, BOB):
        grants.put(Grant("exec", device))
        grants.limit(device, Limits(size=1))
    with pytest.raises(TrustError, match="remove some"):
        grants.put(Grant("exec", EVERYBODY))
    with pytest.raises(TrustError, match="remove some"):
        grants.limit(EVERYBODY, Limits(size=1))
    grants.put(Grant("exec", ADA, allow=False))
    grants.load()
    assert len(grants.rules) == len(grants.limits) == 2


# --- as part of the trust store ---


def test_a_change_by_another_process_is_seen_at_the_next_look(tmp_path: Path) -> None:
    ada, elsewhere = open_store(tmp_path, 0), open_store(tmp_path, 0)
    elsewhere.grants.put(Grant("exec", BOB))
    assert not list(ada.grants.rules)
    assert ada.refresh()
    assert list(ada.grants.rules) == [Grant("exec", BOB)]
    assert not ada.refresh()


def test_who_leaves_its_mesh_leaves_its_rules_and_what_was_set_before_joining_stays(tmp_path: Path) -> None:
    ada, bob = open_store(tmp_path, 0), open_store(tmp_path, 1)
    ada.found("ada")
    bob.grants.put(Grant("chat", EVERYBODY, allow=False))
    bob.grants.limit(EVERYBODY, Limits(size=9))
    bring_in(ada, bob)
    bob.grants.put(Grant("exec", DEVICES[0].id))
    assert (len(bob.grants.rules), len(bob.grants.limits)) == (2, 1)
    bob.leave()
    assert (bob.grants.rules, bob.grants.limits) == ((), {})
    bob.refresh()
    assert (bob.grants.rules, bob.grants.limits) == ((), {})


def test_a_file_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ada.db"
    ada = open_store(tmp_path, 0)
    mesh = ada.found("ada").mesh
    ada.close()
    connection = sqlite3.connect(path)
    connection.executescript('DROP TABLE "grant"; DROP TABLE peer_limit; PRAGMA user_version = 1;')
    connection.close()
    again = open_store(tmp_path, 0)
    assert (again.mesh, again.grants.rules) == (mesh, ())
    again.grants.put(Grant("exec", BOB))
    assert again.grants.rules == (Grant("exec", BOB),)
