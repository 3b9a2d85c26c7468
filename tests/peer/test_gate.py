"""The gate: whom the membership lets in, whom we dial, and how a change of it is noticed."""

import asyncio
from pathlib import Path

from tests.trust.support import DEVICES, bring_in, open_store
from tests.waiting import until
from zmesh.peer.gate import Gate
from zmesh.peer.zap import Status
from zmesh.trust.trust_store import TrustStore

ADA, BOB, CID = DEVICES[:3]


def founded(directory: Path) -> tuple[TrustStore, TrustStore]:
    """Ada's mesh, with Bob in it."""
    ada, bob = open_store(directory, 0), open_store(directory, 1)
    ada.found("ada")
    bring_in(ada, bob)
    return ada, bob


def test_members_come_in_under_their_device_and_strangers_do_not(tmp_path: Path) -> None:
    ada, _ = founded(tmp_path)
    gate = Gate(ADA, ada)
    assert [(gate.admit(key.curve_public).status, gate.admit(key.curve_public).device) for key in DEVICES[:3]] == [
        (Status.ADMITTED, ADA.id), (Status.ADMITTED, BOB.id), (Status.STRANGER, ""),
    ]  # fmt: skip
    assert gate.server_key(BOB.id) == BOB.curve_public
    assert gate.server_key(ADA.id) == ADA.curve_public
    assert gate.server_key(CID.id) is None
    assert gate.name_of(BOB.id) == "bob"
    assert gate.name_of(CID.id) == CID.id[:8]


def test_a_device_in_no_mesh_knows_itself_only(tmp_path: Path) -> None:
    gate = Gate(ADA, open_store(tmp_path, 0))
    assert gate.knows(ADA.id)
    assert not gate.knows(BOB.id)
    assert gate.admit(BOB.curve_public).status is Status.STRANGER


def test_who_was_revoked_is_refused_for_good_and_not_dialled(tmp_path: Path) -> None:
    ada, _ = founded(tmp_path)
    gate = Gate(ADA, ada)
    ada.say(ada.revocation(BOB.public))
    assert gate.admit(BOB.curve_public).status is Status.REVOKED
    assert not gate.knows(BOB.id)


def test_a_device_that_was_revoked_itself_knows_nobody_any_more(tmp_path: Path) -> None:
    ada, bob = founded(tmp_path)
    gate = Gate(BOB, bob)
    entry = ada.say(ada.revocation(BOB.public))
    bob.take([(entry.payload, entry.signature)])
    assert gate.admit(ADA.curve_public).status is Status.REVOKED
    assert not gate.knows(ADA.id)
    assert gate.knows(BOB.id), "its own programs go on"


def test_a_change_by_another_process_is_noticed(tmp_path: Path) -> None:
    ada, _ = founded(tmp_path)
    elsewhere = open_store(tmp_path, 0)
    changes: list[frozenset[str]] = []

    async def scenario() -> None:
        gate = Gate(ADA, ada)
        gate.watch(changes.append)
        elsewhere.say(elsewhere.revocation(BOB.public))
        await until(lambda: changes, what="the change")
        await gate.close()

    asyncio.run(scenario())
    assert changes == [frozenset({BOB.id})]


def test_a_change_here_is_noticed_at_once_when_told(tmp_path: Path) -> None:
    ada, _ = founded(tmp_path)
    cid = open_store(tmp_path, 2)
    changes: list[frozenset[str]] = []

    async def scenario() -> None:
        gate = Gate(ADA, ada)
        gate.watch(changes.append)
        bring_in(ada, cid)
        gate.look()
        await until(lambda: changes, what="the change")
        assert gate.knows(CID.id)
        await gate.close()

    asyncio.run(scenario())
    assert changes == [frozenset()]
