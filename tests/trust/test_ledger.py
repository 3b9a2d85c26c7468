"""The ledger: which entries are added, and what becomes of a log that forks."""

import pytest

from tests.trust.support import AT, DEVICES, Scribe
from zmesh.errors import TrustError
from zmesh.trust.entry import NO_HASH, Certificate, Entry, Joining, Rename, Revocation, sign
from zmesh.trust.ledger import Ledger, Verdict

ADA, BOB, CID, DOT = DEVICES[:4]


def small() -> Scribe:
    scribe = Scribe()
    scribe.invite(0, 1)
    scribe.invite(1, 2)
    return scribe


def ledger_of(scribe: Scribe) -> Ledger:
    return Ledger(scribe.mesh, scribe.entries)


def revoke(scribe: Scribe, number: int, last: int) -> Entry:
    log = scribe.logs[DEVICES[number].public]
    return scribe.sign(ADA, Revocation(DEVICES[number].public, last, log[last - 1].hash if last else NO_HASH, ""))


def test_one_batch_in_any_order_finds_its_place() -> None:
    scribe = small()
    ledger = Ledger(scribe.mesh)
    assert ledger.take(scribe.entries[::-1], b"").added == len(scribe.entries) == len(ledger)
    assert ledger.take(scribe.entries, b"").added == 0


def test_entries_of_strangers_and_of_other_meshes_are_not_kept() -> None:
    scribe, other = small(), Scribe()
    ledger = ledger_of(scribe)
    entries = [
        sign(DOT, scribe.mesh, None, Joining(ADA.public), AT),  # whom nobody certified
        sign(DOT, scribe.mesh, None, Certificate(CID.public, "cid"), AT),
        sign(CID, b"m" * 32, scribe.logs[CID.public][-1], Rename(CID.public, "x"), AT),
        sign(DEVICES[5], other.mesh, None, Joining(ADA.public), AT),
    ]
    for entry in entries:
        assert ledger.judge(entry) is Verdict.FOREIGN
    changes = ledger.take(entries, b"")
    assert (changes.added, len(ledger)) == (0, len(scribe.entries))
    assert "signs membership entries and is no member" in str(changes.trouble)


def test_a_device_that_joins_by_a_certificate_that_is_not_there_waits() -> None:
    scribe = small()
    ledger = ledger_of(scribe)
    scribe.sign(ADA, Certificate(DOT.public, "dot"))
    wrong = sign(DOT, scribe.mesh, None, Joining(BOB.public), AT)
    assert ledger.take([*scribe.entries, wrong], b"").added == 1
    assert ledger.take([sign(DOT, scribe.mesh, None, Joining(ADA.public), AT)], b"").added == 1


def test_a_gap_waits_for_what_lies_between() -> None:
    scribe = small()
    ledger = ledger_of(scribe)
    first, second = scribe.sign(BOB, Rename(BOB.public, "b")), scribe.sign(BOB, Rename(BOB.public, "c"))
    assert ledger.judge(second) is Verdict.LATER
    assert ledger.take([second], b"").added == 0
    assert ledger.take([second, first], b"").added == 2


def test_a_forked_log_is_a_clear_error_and_hides_nothing_of_the_others() -> None:
    scribe = small()
    ledger = ledger_of(scribe)
    before = scribe.logs[BOB.public][0]
    fork = sign(BOB, scribe.mesh, before, Certificate(DOT.public, "dot"), AT)
    after = sign(BOB, scribe.mesh, fork, Rename(BOB.public, "x"), AT)
    news = scribe.sign(ADA, Rename(ADA.public, "adele"))
    changes = ledger.take([fork, after, news], b"")
    assert changes.steps == [news]
    assert f"{BOB.id} has signed two membership entries with the number 2" in str(changes.trouble)
    assert "zmesh trust revoke" in str(changes.trouble)
    own = ledger.take([fork], BOB.public).trouble
    assert "this device has signed two" in str(own)
    assert "device.key" in str(own)


def test_a_fork_of_equal_length_is_noticed_in_the_exchange() -> None:
    one, two = ledger_of(small()), ledger_of(small())
    head = one.logs[BOB.public][-1]
    one.put(sign(BOB, one.mesh, head, Rename(BOB.public, "x"), AT))
    two.put(sign(BOB, two.mesh, head, Rename(BOB.public, "y"), AT))
    assert "two membership entries with the number 3" in str(two.take(one.beyond(two.heads(), 10), b"").trouble)
    assert "two membership entries with the number 3" in str(one.take(two.beyond(one.heads(), 10), b"").trouble)


def test_a_revocation_says_which_of_two_logs_is_meant() -> None:
    scribe = small()
    true = list(scribe.logs[BOB.public])
    fork = sign(BOB, scribe.mesh, true[0], Certificate(DOT.public, "dot"), AT)
    joining = sign(DOT, scribe.mesh, None, Joining(BOB.public), AT)
    ledger = Ledger(scribe.mesh, [*scribe.logs[ADA.public], true[0], fork, joining])
    assert ledger.membership.is_member(DOT.public)
    revocation = revoke(scribe, 1, 2)
    assert ledger.take([revocation], b"").added == 1
    assert not ledger.membership.is_member(DOT.public), "it came by the log that is not meant"
    sender = ledger_of(scribe)
    while ledger.take(sender.beyond(ledger.heads(), 100), b"").added:
        pass
    assert ledger.logs[BOB.public] == true
    assert ledger.membership.is_member(CID.public)
    changes = ledger.take([true[0], fork], b"")
    assert (changes.steps, ledger.logs[BOB.public]) == ([], true)
    assert "two membership entries" in str(changes.trouble)


def test_a_longer_log_than_the_one_that_is_meant_is_found_out() -> None:
    scribe = small()
    true = list(scribe.logs[BOB.public])
    logs = [sign(BOB, scribe.mesh, true[0], Certificate(DOT.public, "dot"), AT)]
    for _ in range(3):
        logs.append(sign(BOB, scribe.mesh, logs[-1], Rename(BOB.public, "x"), AT))
    revocation = revoke(scribe, 1, 2)
    ledger = Ledger(scribe.mesh, [*scribe.logs[ADA.public], true[0], *logs])
    assert revocation in ledger.logs[ADA.public]
    assert not ledger.membership.is_member(CID.public)
    sender = ledger_of(scribe)
    for _ in range(2):
        ledger.take(sender.beyond(ledger.heads(), 100), b"")
    assert ledger.membership.is_member(CID.public)
    both = [*true, *logs, *true]
    for _ in range(2):
        assert not ledger.take(both, b"").steps, "what is settled stays"


def test_what_a_revoked_device_signs_later_is_not_kept() -> None:
    scribe = small()
    revoke(scribe, 1, 2)
    ledger = ledger_of(scribe)
    late = scribe.sign(BOB, Certificate(DOT.public, "dot"))
    assert ledger.judge(late) is Verdict.VOID
    assert ledger.take([late], b"").steps == []


def test_nobody_fills_the_logs_so_that_he_cannot_be_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    scribe = small()
    monkeypatch.setattr("zmesh.trust.ledger.MAX_ENTRIES", len(scribe.entries) + 5)
    ledger = ledger_of(scribe)
    flood = [scribe.sign(BOB, Rename(BOB.public, f"b{number}")) for number in range(50)]
    changes = ledger.take(flood, b"")
    assert changes.added == 5
    assert "the most there may be" in str(changes.trouble)
    useless = [scribe.sign(CID, Revocation(ADA.public, 0, NO_HASH, str(number))) for number in range(50)]
    assert ledger.take(useless, b"").added == 0
    assert ledger.take([revoke(scribe, 1, 2)], b"").added == 1
    assert not ledger.membership.is_member(BOB.public)
    assert ledger.void() == {BOB.public: 2}


def test_what_is_kept_of_a_revoked_device_says_who_may_have_revoked_it() -> None:
    scribe = small()
    revoke(scribe, 1, 0)
    assert ledger_of(scribe).void() == {BOB.public: 1, CID.public: 0}


def test_any_claim_of_what_is_known_is_answered() -> None:
    ledger = ledger_of(small())
    everything = ledger.beyond({}, 100)
    assert len(everything) == len(ledger)
    assert everything[0].hash == ledger.mesh
    assert len(ledger.beyond({}, 2)) == 2
    assert ledger.beyond(ledger.heads()) == []
    assert ledger.beyond({author: len(log) for author, log in ledger.logs.items()}) == []
    for count in (-5, 0, 10**9):
        for claim in (count, (count, b"?")):
            claims = dict.fromkeys((ADA.public, BOB.public, CID.public, b"x"), claim)
            assert len(ledger.beyond(claims, 100)) <= len(ledger)


def test_a_lineage_proves_and_hides_no_revocation() -> None:
    scribe = small()
    scribe.invite(0, 3)
    revoke(scribe, 3, 1)
    lineage = ledger_of(scribe).lineage(CID.public)
    fresh = Ledger(scribe.mesh)
    fresh.take(lineage, b"")
    assert fresh.membership.is_member(CID.public)
    assert not fresh.membership.is_member(DOT.public)
    assert not [entry for entry in lineage if entry.author == DOT.public]


def test_logs_that_no_ledger_has_kept_are_damage() -> None:
    scribe = small()
    with pytest.raises(TrustError, match="does not follow"):
        Ledger(scribe.mesh, scribe.entries[1:])
    with pytest.raises(TrustError, match="does not follow"):
        Ledger(b"m" * 32, scribe.entries)
