"""The trust store: one file for all processes of a device, and what is signed is neither lost nor believed wrongly."""

# ruff: noqa: SLF001 - what no honest device does is done from inside

import multiprocessing
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trust.support import (
    AT,
    DEVICES,
    WORDS,
    Scribe,
    bring_in,
    candidate,
    exchange,
    living,
    open_store,
    rows,
)
from zmesh.errors import TrustError
from zmesh.trust.device import Device
from zmesh.trust.entry import NO_HASH, Certificate, Joining, Rename, Revocation, sign
from zmesh.trust.refusal import Refusal
from zmesh.trust.trust_store import Founding, TrustStore, recovery_key

ADA, BOB, CID, DOT = DEVICES[:4]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[TrustStore]]:
    """Ada founded, bob and cid were invited by ada, dot by bob; all know all."""
    opened = [open_store(tmp_path, number) for number in range(4)]
    ada, bob, cid, dot = opened
    ada.found("ada")
    for inviter, guest in ((ada, bob), (ada, cid), (bob, dot)):
        bring_in(inviter, guest)
    exchange(*opened)
    yield opened
    for store in opened:
        store.close()


def test_all_know_all_after_an_exchange_and_after_a_restart(stores: list[TrustStore]) -> None:
    for store in stores:
        assert living(store) == {"ada", "bob", "cid", "dot"}
        me = store.me()
        assert me
        assert me.device == store.device.id
        with TrustStore(store.path, store.device) as again:
            assert again.membership.members == store.membership.members


def test_a_founding_is_shown_once_and_its_phrase_is_in_no_repr(tmp_path: Path) -> None:
    with open_store(tmp_path, 0) as store:
        founding = store.found("ada")
        assert (founding.mesh, len(founding.recovery)) == (store.mesh, 16)
        assert repr(founding.recovery) not in repr(founding)
        assert founding.recovery not in store.path.read_bytes()
        with pytest.raises(TrustError, match="in a mesh already"):
            store.found("ada")
    assert repr(Founding(b"", WORDS)) == "Founding(mesh=b'')"


@pytest.mark.parametrize("name", ["Ada", "", "a b", "x" * 64])
def test_a_name_that_others_could_not_read_is_not_kept(tmp_path: Path, name: str) -> None:
    with open_store(tmp_path, 0) as store, pytest.raises(TrustError):
        store.found(name)
    with open_store(tmp_path, 0) as store:
        assert not store.mesh


def test_a_revocation_with_a_reason_that_cannot_be_shown_changes_nothing(stores: list[TrustStore]) -> None:
    ada = stores[0]
    with pytest.raises(TrustError, match="one line of at most 200 bytes"):
        ada.say(ada.revocation(BOB.public, reason="x" * 201))
    assert living(ada) == {"ada", "bob", "cid", "dot"}


def test_a_revocation_is_heard_of_and_is_for_good(stores: list[TrustStore]) -> None:
    ada, bob, cid, dot = stores
    ada.say(ada.revocation(BOB.public, reason="lost"))
    exchange(ada, cid, dot)
    for store in (ada, cid, dot):
        assert living(store) == {"ada", "cid", "dot"}
    exchange(ada, bob)
    with pytest.raises(TrustError, match=r"revoked \(lost\).*device\.key"):
        bob.invite(60)
    secret = ada.invite(60)
    with pytest.raises(Refusal, match="revoked"):
        ada.admit(secret, candidate(ada, 1))
    stands = ada.invitations.look(secret)
    assert stands
    assert not stands.used, "a refusal does not use it up"


def test_a_stolen_laptop_cannot_sign_against_others_nor_forge_it(stores: list[TrustStore]) -> None:
    ada, bob, cid, dot = stores
    for victim in (ADA, CID, BOB):
        with pytest.raises(TrustError, match="itself and those it invited"):
            dot.say(dot.revocation(victim.public))
        log = dot.log(DOT.public)
        forged = sign(DOT, dot.mesh, log[-1], Revocation(victim.public, 0, NO_HASH, "ha"), AT)
        with dot._write():
            dot._add([forged])
    exchange(ada, bob, cid, dot)
    assert all(living(store) == {"ada", "bob", "cid", "dot"} for store in stores)


def test_two_revocations_that_cross_end_alike_everywhere(stores: list[TrustStore]) -> None:
    ada, bob, cid, dot = stores
    ada.say(ada.revocation(BOB.public))
    bob.say(bob.revocation(DOT.public))
    dot.say(dot.revocation(DOT.public))
    exchange(bob, dot)
    assert living(bob) == {"ada", "bob", "cid"}
    exchange(ada, bob, cid, dot)
    for store in stores:
        assert living(store) == {"ada", "cid"}


def test_the_recovery_phrase_revokes_the_founder_and_nobody_else(tmp_path: Path) -> None:
    with open_store(tmp_path, 0) as ada, open_store(tmp_path, 1) as bob:
        octets = ada.found("ada").recovery
        bring_in(ada, bob)
        with pytest.raises(TrustError, match="not the words"):
            bob.recover(bytes(16), bob.revocation(ADA.public))
        with pytest.raises(TrustError, match="and nobody else"):
            bob.recover(octets, bob.revocation(BOB.public))
        ada.say(ada.revocation(BOB.public, 0, "stolen"))
        bob.recover(octets, bob.revocation(ADA.public, 2, "was stolen"))
        exchange(ada, bob)
        assert living(ada) == living(bob) == {"bob"}, "the thief's revocation is beyond what is honoured"
        assert recovery_key(octets).public in {entry.author for entry in bob.lineage(BOB.public)}


def test_a_revocation_honours_no_more_than_there_is(stores: list[TrustStore]) -> None:
    with pytest.raises(TrustError, match="has signed 2 entries"):
        stores[0].revocation(BOB.public, 3)


# --- a disk that went back in time ---


def test_an_old_copy_learns_its_own_log_back_before_it_signs(stores: list[TrustStore], tmp_path: Path) -> None:
    ada, bob = stores[:2]
    old = tmp_path / "old.db"
    copy_of(bob.path, old)
    bob.say(Rename(BOB.public, "bobby"))
    exchange(ada, bob)
    with TrustStore(old, BOB) as back:
        exchange(ada, back)
        assert back.say(Rename(BOB.public, "robert")).seq == 4
        exchange(ada, back)
    assert living(ada) == {"ada", "robert", "cid", "dot"}


def test_an_old_copy_that_signs_first_is_told_and_so_are_the_others(stores: list[TrustStore], tmp_path: Path) -> None:
    ada, bob, cid = stores[:3]
    old = tmp_path / "old.db"
    copy_of(bob.path, old)
    bob.say(Rename(BOB.public, "bobby"))
    exchange(ada, bob)
    with TrustStore(old, BOB) as back:
        back.say(Rename(BOB.public, "robert"))
        with pytest.raises(TrustError, match=rf"{BOB.id} has signed two .* number 3: .*Revoke it"):
            ada.take(rows(back.beyond(ada.heads())))
        with pytest.raises(TrustError, match=r"this device has signed two .*old copy.*device\.key"):
            back.take(rows(ada.beyond(back.heads())))
        cid.say(Rename(CID.public, "cyd"))
        with pytest.raises(TrustError, match="two membership"):
            back.take(rows(cid.beyond(back.heads())) + rows(ada.beyond(back.heads())))
        assert "cyd" in living(back), "a fork keeps nothing else back"
    assert "bobby" in living(ada)


def copy_of(path: Path, to: Path) -> None:
    source, target = sqlite3.connect(path), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()
    to.chmod(0o600)


# --- what others say ---


def test_what_is_forged_malformed_or_of_strangers_is_not_kept_and_hides_nothing(stores: list[TrustStore]) -> None:
    ada, bob = stores[:2]
    before = ada.have()
    true = bob.say(Rename(BOB.public, "bobby"))
    stranger = sign(DEVICES[5], ada.mesh, None, Certificate(DEVICES[6].public, "gil"), AT)
    foreign = Scribe().entries[0]
    for bad in ((b"", b""), (true.payload, bytes(64)), (stranger.payload, stranger.signature), *rows([foreign])):
        with pytest.raises(TrustError):
            ada.take([bad])
        assert ada.have() == before
    with pytest.raises(TrustError, match="was not signed by it"):
        ada.take([(true.payload, bytes(64)), *rows([true]), *rows([stranger])])
    assert "bobby" in living(ada)


def test_what_changes_nothing_costs_no_write(stores: list[TrustStore]) -> None:
    ada, bob = stores[:2]
    blocker = sqlite3.connect(ada.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert ada.take(rows(bob.beyond({}))) == 0
    with pytest.raises(TrustError):
        ada.take([(b"garbage", bytes(64))])
    with pytest.raises(Refusal):
        ada.invitations.attempt("no-such")
    blocker.close()


def test_the_logs_make_room_by_what_is_void(stores: list[TrustStore], monkeypatch: pytest.MonkeyPatch) -> None:
    ada, bob, cid, _ = stores
    for number in range(8):
        bob.say(Rename(BOB.public, f"b{number}"))
    exchange(ada, bob)
    monkeypatch.setattr("zmesh.trust.ledger.MAX_ENTRIES", len(ada._ledger))
    monkeypatch.setattr("zmesh.trust.trust_store.MAX_ENTRIES", len(ada._ledger))
    cid.say(Rename(CID.public, "cyd"))
    with pytest.raises(TrustError, match="the most there may be"):
        ada.take(rows(cid.beyond(ada.heads())))
    ada.say(ada.revocation(BOB.public, 2))
    ada.take(rows(cid.beyond(ada.heads())))
    assert living(ada) == {"ada", "cyd", "dot"}
    assert len(ada.log(BOB.public)) == 2
    with TrustStore(ada.path, ADA) as again:
        assert again.have() == ada.have()


# --- joining ---


def test_joining_needs_leave_and_keeps_the_old_mesh_when_it_fails(stores: list[TrustStore], tmp_path: Path) -> None:
    bob = stores[1]
    with TrustStore(tmp_path / "other.db", DEVICES[5]) as other:
        other.found("fay")
        secret = other.invite(60)
        entries = other.admit(secret, candidate(other, 1))
        mesh = bob.mesh
        with pytest.raises(TrustError, match="--leave"):
            bob.join(other.mesh, entries)
        for bad in (entries[:-1], entries[1:], []):
            with pytest.raises(TrustError, match="does not make this device a member"):
                bob.join(other.mesh, bad, leave=True)
            assert (bob.mesh, living(bob)) == (mesh, {"ada", "bob", "cid", "dot"})
        bob.join(other.mesh, entries, leave=True)
        assert living(bob) == {"fay", "bob"}


def test_a_certificate_of_another_mesh_makes_nobody_a_member(stores: list[TrustStore], tmp_path: Path) -> None:
    scribe = Scribe()
    scribe.invite(0, 5)
    with TrustStore(tmp_path / "fay.db", DEVICES[5]) as fay, pytest.raises(TrustError, match="does not make"):
        fay.join(stores[0].mesh, scribe.entries)


def test_who_lost_its_file_is_let_in_again_as_what_it_was(stores: list[TrustStore]) -> None:
    ada, bob = stores[:2]
    bob.leave()
    assert (bob.mesh, bob.membership.members, bob.invitations.nameplates()) == (b"", {}, [])
    entries = len(ada._ledger)
    bob.join(ada.mesh, ada.admit(ada.invite(60), candidate(ada, 1, "new-name")))
    assert len(ada._ledger) == entries
    assert living(bob) == {"ada", "bob", "cid", "dot"}


@pytest.mark.parametrize(
    ("number", "name", "reason"), [(5, "cid", "name"), (0, "ada", "self"), (3, "dot", "stale"), (5, "fay", "full")]
)
def test_who_is_not_let_in_hears_why(
    stores: list[TrustStore], number: int, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = stores[0]
    if reason == "stale":
        ada.say(ada.revocation(BOB.public, 0))  # dot goes with bob
    if reason == "full":
        monkeypatch.setattr("zmesh.trust.trust_store.MAX_MEMBERS", 4)
    secret = ada.invite(60)
    with pytest.raises(Refusal) as caught:
        ada.admit(secret, candidate(ada, number, name))
    assert caught.value.reason == reason
    stands = ada.invitations.look(secret)
    assert stands
    assert not stands.used


def test_a_device_in_no_mesh_signs_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path, 0) as store:
        for act in (lambda: store.invite(60), lambda: store.say(Rename(ADA.public, "x"))):
            with pytest.raises(TrustError, match="in no mesh yet"):
                act()
        with pytest.raises(TrustError, match="not the words"):
            store.recover(WORDS, Revocation(ADA.public, 0, NO_HASH, ""))


# --- two processes ---


def rename_often(path: Path, seed: bytes, name: str, failures: "multiprocessing.Queue[str]") -> None:
    try:
        with TrustStore(path, Device.from_seed(seed)) as store:
            for number in range(20):
                store.say(Rename(store.device.public, f"{name}{number}"))
    except TrustError as error:
        failures.put(str(error))


def test_two_processes_that_sign_at_once_make_one_log(tmp_path: Path) -> None:
    with open_store(tmp_path, 0) as store:
        store.found("ada")
        spawn = multiprocessing.get_context("spawn")
        failures = spawn.Queue()
        writers = [
            spawn.Process(target=rename_often, args=(store.path, ADA.seed, name, failures)) for name in ("x", "y")
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(30)
        assert failures.empty()
        assert store.refresh()
        assert [entry.seq for entry in store.log(ADA.public)] == list(range(1, 42))
        assert not store.refresh()


def test_a_file_that_another_process_holds_on_to_is_an_error_that_says_so(
    stores: list[TrustStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmesh.trust.trust_file.BUSY", 0.05)
    with TrustStore(stores[0].path, ADA) as store:
        blocker = sqlite3.connect(store.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(TrustError, match=r"ada\.db.*locked"):
            store.say(Rename(ADA.public, "x"))
        blocker.execute("ROLLBACK")
        blocker.close()
        assert store.say(Rename(ADA.public, "x")).seq == 4
        assert living(store) == {"x", "bob", "cid", "dot"}


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entry SET payload = x'00'",
        "UPDATE entry SET signature = zeroblob(64)",
        "DELETE FROM entry WHERE seq = 1",
        "UPDATE meta SET value = zeroblob(32)",
        "UPDATE entry SET payload = 'text'",
    ],
)
def test_a_damaged_file_is_not_believed(stores: list[TrustStore], tmp_path: Path, sql: str) -> None:
    copy = tmp_path / "copy.db"
    stores[0].close()
    shutil.copy(stores[0].path, copy)
    connection = sqlite3.connect(copy)
    connection.execute(sql)
    connection.commit()
    connection.close()
    with pytest.raises(TrustError, match=r"copy\.db.* is damaged: .*Restore it"):
        TrustStore(copy, ADA)


def test_joining_by_somebody_elses_first_entry_is_refused(stores: list[TrustStore]) -> None:
    ada = stores[0]
    with pytest.raises(TrustError), ada._write():
        ada._certify(
            candidate(ada, 6).__class__(
                DEVICES[5].public, "fay", sign(DEVICES[6], ada.mesh, None, Joining(ADA.public), AT)
            )
        )


def test_where_a_device_was_invited_is_remembered_until_it_leaves(tmp_path: Path) -> None:
    def inviter(store: TrustStore) -> tuple[str, int] | None:
        return store.inviter

    with open_store(tmp_path, 0) as ada, open_store(tmp_path, 1) as bob, open_store(tmp_path, 2) as cid:
        ada.found("ada")
        assert inviter(ada) is None
        for host in ("2001:db8::1", "fe80::1%eth0", "192.0.2.1"):
            entries = ada.admit(ada.invite(60), candidate(ada, 1))
            bob.join(ada.mesh, entries, leave=True, inviter=(host, 7421))
            assert inviter(bob) == (host, 7421)
        with TrustStore(bob.path, DEVICES[1]) as other:
            assert inviter(other) == ("192.0.2.1", 7421)
        cid.found("cid")
        with pytest.raises(TrustError, match="does not make this device a member"):
            bob.join(cid.mesh, [], leave=True, inviter=("192.0.2.66", 1))
        assert inviter(bob) == ("192.0.2.1", 7421), "a join that failed has left nothing"
        bob.join(ada.mesh, ada.beyond({}), leave=True)
        assert inviter(bob) is None, "this time nobody said where"
        bob.join(ada.mesh, ada.beyond({}), leave=True, inviter=("192.0.2.1", 7421))
        bob.leave()
        assert inviter(bob) is None
