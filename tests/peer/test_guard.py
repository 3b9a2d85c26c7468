"""The members' guard: who is refused and in which words, how much is taken, and how soon a change counts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust.support import DEVICES, bring_in, open_store
from zmesh.errors import TrustError
from zmesh.peer import guard as module
from zmesh.peer.gate import Gate
from zmesh.peer.guard import MemberGuard
from zmesh.protocol.bounds import MAX_BODY, MAX_NAME, MAX_TEXT, RATE_BURST
from zmesh.protocol.envelope import Envelope
from zmesh.trust.entry import Rename
from zmesh.trust.grants import CAPABILITIES, DEFAULTS, EVERYBODY, Grant, Limits
from zmesh.trust.trust_store import TrustStore

ADA, BOB, CID = (device.id for device in DEVICES[:3])


class Wall:
    """A wall clock moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ada(tmp_path: Path) -> Iterator[TrustStore]:
    """Ada's store; Bob is a member."""
    ada, bob = open_store(tmp_path, 0), open_store(tmp_path, 1)
    ada.found("ada")
    bring_in(ada, bob)
    bob.close()
    yield ada
    ada.close()


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def guard(ada: TrustStore, wall: Wall) -> MemberGuard:
    """Ada's guard."""
    return MemberGuard(Gate(DEVICES[0], ada), wall)


def envelope(kind: str, sender: str = "code@bob") -> Envelope:
    return Envelope("inbox", sender, kind, b"", b"", 0, packed=False)


def taken(guard: MemberGuard, size: int, now: float) -> int:
    """How many messages of that size are taken at once."""
    count = 0
    while guard.charge(BOB, size, now) is None:
        count += 1
    return count


def test_exec_is_refused_in_words_that_say_what_to_do_and_taken_once_granted(
    ada: TrustStore, guard: MemberGuard
) -> None:
    for _ in range(2):
        assert guard.refusal(BOB, envelope("exec"), 1) == (
            "denied",
            "ada does not take exec from code@bob: `zmesh grant exec bob --for 1h` on ada allows it",
        )
    assert guard.refusal(BOB, envelope("text"), 1) is None
    assert guard.refusal(BOB, envelope("task"), 1) is None
    ada.grants.put(Grant("exec", BOB, "code"))
    assert guard.refusal(BOB, envelope("exec"), 1) is None
    assert guard.refusal(BOB, envelope("exec", "other@bob"), 1) is not None
    assert guard.refusal(BOB, envelope("file.write"), 1) is not None


def test_what_was_denied_by_a_rule_is_not_followed_by_advice(ada: TrustStore, guard: MemberGuard) -> None:
    ada.grants.put(Grant("chat", BOB, allow=False))
    assert guard.refusal(BOB, envelope("text"), 1) == ("denied", "ada does not take chat from code@bob")


def test_a_grant_ends_by_the_wall_clock_without_anybody_looking(
    ada: TrustStore, guard: MemberGuard, wall: Wall
) -> None:
    def refused() -> list[bool]:
        return [guard.refusal(BOB, envelope(kind), 1) is not None for kind in ("exec", "text")]

    ada.grants.rules = (Grant("exec", BOB, until=1060.0), Grant("chat", EVERYBODY, allow=False, until=1030.0))
    assert refused() == [False, True]
    wall.now = 1029.9
    assert refused() == [False, True]
    wall.now = 1030.0
    assert refused() == [False, False]
    wall.now = 1060.0
    assert refused() == [True, False]


def test_two_of_one_name_are_told_apart_by_the_id_in_the_advice(ada: TrustStore, guard: MemberGuard) -> None:
    ada.say(Rename(DEVICES[1].public, "ada"))
    refusal = guard.refusal(BOB, envelope("exec", "code@bob"), 1)
    assert refusal is not None
    assert f"`zmesh grant exec {BOB[:8]} --for 1h`" in refusal[1]


@given(st.sampled_from(["exec", "file.write"]), st.integers(1, MAX_NAME))
def test_a_refusal_is_one_sentence_however_long_the_names_are(
    tmp_path_factory: pytest.TempPathFactory, kind: str, length: int
) -> None:
    with open_store(tmp_path_factory.mktemp("long"), 0) as ada:
        ada.found("a" * length)
        guard = MemberGuard(Gate(DEVICES[0], ada))
        ada.grants.limit(EVERYBODY, Limits(1.0, 1.0, 1))
        sender = f"{'c' * length}@{'p' * length}"
        said = [guard.refusal(BOB, envelope(kind, sender), 1), guard.refusal(BOB, envelope("x", sender), MAX_BODY)]
        said += [guard.charge(BOB, 1, 0.0) for _ in range(12)]
        texts = [refusal[1] for refusal in said if refusal is not None]
        assert len(texts) >= 3
        assert max(map(len, texts)) < MAX_TEXT, "and nothing was cut off"


def test_a_body_over_the_size_is_refused_with_both_sizes(ada: TrustStore, guard: MemberGuard) -> None:
    assert guard.refusal(BOB, envelope("text"), MAX_BODY) is None
    ada.grants.limit(EVERYBODY, Limits(size=100))
    assert guard.refusal(BOB, envelope("text"), 100) is None
    assert guard.refusal(BOB, envelope("text"), 101) == (
        "too-large",
        "ada takes bodies of at most 100 bytes from bob, and this one has 101: send it in pieces, or a reference to it",
    )
    ada.grants.limit(BOB, Limits(size=200))
    assert guard.refusal(BOB, envelope("text"), 101) is None


def test_more_than_the_rate_is_refused_for_now(ada: TrustStore, guard: MemberGuard) -> None:
    ada.grants.limit(BOB, Limits(messages=5.0))
    assert taken(guard, 1, 0.0) == 5 * RATE_BURST
    assert guard.charge(BOB, 1, 0.0) == ("rate-limited", "ada takes at most 5 messages a second from bob")
    assert taken(guard, 1, 1.0) == 5
    assert guard.charge(CID, 1, 1.0) is None, "each has its own"


def test_what_is_refused_for_its_bytes_costs_no_message(ada: TrustStore, guard: MemberGuard) -> None:
    ada.grants.limit(BOB, Limits(messages=1.0, octets=1000.0))
    assert taken(guard, 2000, 0.0) == 5
    assert guard.charge(BOB, 1, 0.0) == ("rate-limited", "ada takes at most 1000 bytes a second from bob")
    assert taken(guard, 0, 0.0) == 5, "ten in all"


def test_a_new_limit_counts_at_once_and_other_rules_do_not_fill_the_bucket(ada: TrustStore, guard: MemberGuard) -> None:
    ada.grants.limit(BOB, Limits(messages=1.0))
    assert taken(guard, 1, 0.0) == 10
    ada.grants.put(Grant("exec", BOB))
    assert taken(guard, 1, 0.0) == 0
    ada.grants.limit(BOB, Limits(messages=2.0))
    assert taken(guard, 1, 0.0) == 20


@pytest.mark.parametrize(
    ("octets", "words"), [(1.5 * 1024 * 1024, "1.5 MiB"), (64 * 1024.0, "64 KiB"), (100.0, "100 bytes")]
)
def test_a_rate_is_shown_as_people_write_it(ada: TrustStore, guard: MemberGuard, octets: float, words: str) -> None:
    ada.grants.limit(BOB, Limits(octets=octets))
    while (refusal := guard.charge(BOB, MAX_BODY, 0.0)) is None:
        pass
    assert refusal[1] == f"ada takes at most {words} a second from bob"


def test_verdicts_that_are_remembered_are_bounded(guard: MemberGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 10)
    for number in range(100):
        assert guard.refusal(BOB, envelope(f"exec.{number}"), 1) is not None
        assert guard.refusal(BOB, envelope(f"text {number}"), 1) is None
    assert len(guard._accounts[BOB].verdicts) <= 10  # noqa: SLF001 - what is bounded


def test_what_is_asked_besides_messages(ada: TrustStore, guard: MemberGuard) -> None:
    assert {name for name in CAPABILITIES if guard.allows(name, BOB, "code")} == DEFAULTS
    assert all(guard.allows(name, ADA, "code") for name in CAPABILITIES), "its own programs may do everything"
    assert not any(guard.allows(name, CID, "code") for name in CAPABILITIES), "it is no member"
    ada.grants.put(Grant("inject", BOB, "code", allow=False))
    assert not guard.allows("inject", BOB, "code")
    assert guard.allows("inject", BOB, "other")
    with pytest.raises(TrustError, match="did you mean inject"):
        guard.allows("injct", BOB, "code")
    ada.say(ada.revocation(DEVICES[1].public))
    assert not guard.allows("chat", BOB, "other")


def test_what_is_usual_can_be_changed_and_a_limit_of_a_device_goes_before_it(
    ada: TrustStore, guard: MemberGuard
) -> None:
    assert taken(guard, 1, 0.0) > 1000
    guard.limit(2.0, 1e6)
    limits, messages, octets = guard.standing(BOB, 0.0)
    assert (limits.messages, limits.octets, limits.size, messages, octets) == (2.0, 1e6, MAX_BODY, 0.0, 0.0)
    assert taken(guard, 100, 0.0) == 2 * RATE_BURST
    assert guard.standing(BOB, 0.0)[1:] == (2 * RATE_BURST, 200 * RATE_BURST)
    assert guard.standing(BOB, 5.0)[1] == 2 * RATE_BURST - 10
    ada.grants.limit(BOB, Limits(messages=3.0))
    assert guard.standing(BOB, 5.0)[0] == Limits(3.0, 1e6, MAX_BODY)
