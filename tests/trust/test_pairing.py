"""Pairing: four messages, one guess, and nothing of a run is worth anything in another."""

# ruff: noqa: SLF001 - what no honest device does is done from inside

from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trust.support import AT, DEVICES, Scribe, founding
from zmesh.errors import PairingError, TrustError
from zmesh.trust import pairing
from zmesh.trust.device import Device
from zmesh.trust.entry import Entry, Joining, sign
from zmesh.trust.invitation import read_secret
from zmesh.trust.pairing import MAX_MESSAGE, Candidate, Inviter, Joiner, nameplate_of
from zmesh.trust.refusal import Refusal

ADA, BOB, EVE = DEVICES[0], DEVICES[1], DEVICES[4]
CODE, OTHER = read_secret("7-lantern-clover"), read_secret("7-lantern-cobalt")
MESH = founding().mesh


def family() -> list[Entry]:
    scribe = Scribe()
    scribe.invite(0, 1)
    return scribe.entries


def begin(code: str = "7-lantern-clover", joiner: Device = BOB) -> tuple[Joiner, Inviter]:
    return Joiner(read_secret(code), joiner, "bob", AT), Inviter(CODE, ADA, MESH)


def test_both_sides_come_to_know_each_other() -> None:
    joiner, inviter = begin()
    hello = joiner.hello()
    assert nameplate_of(hello) == "7"
    candidate = inviter.candidate(joiner.prove(inviter.answer(hello)))
    assert (candidate.public, candidate.name, candidate.device) == (BOB.public, "bob", BOB.id)
    assert candidate.joining.body == Joining(ADA.public)
    welcome = joiner.welcome(inviter.accept(family()))
    assert (welcome.inviter, welcome.mesh, list(welcome.entries)) == (ADA.public, MESH, family())


def test_what_travels_shows_neither_keys_nor_names_nor_words() -> None:
    joiner, inviter = begin()
    said = [joiner.hello()]
    said.append(inviter.answer(said[-1]))
    said.append(joiner.prove(said[-1]))
    inviter.candidate(said[-1])
    said.append(inviter.accept(family()))
    for secret in (ADA.public, BOB.public, b"lantern", b"bob", MESH):
        assert not any(secret in message for message in said)


def test_a_wrong_code_is_noticed_by_the_joiner_before_it_says_who_it_is() -> None:
    joiner, inviter = begin(OTHER.text)
    with pytest.raises(Refusal) as caught:
        joiner.prove(inviter.answer(joiner.hello()))
    assert caught.value.reason == "code"
    assert "lantern" not in str(caught.value)


def test_a_joiner_that_goes_on_with_a_wrong_code_is_refused_by_the_inviter(monkeypatch: pytest.MonkeyPatch) -> None:
    joiner, inviter = begin(OTHER.text)
    honest = pairing._open

    def careless(key: bytes, role: str, sealed: bytes) -> bytes:
        return bytes(msgpack.packb([ADA.public, MESH])) if role == "introduction" else honest(key, role, sealed)

    monkeypatch.setattr(pairing, "_open", careless)
    proof = joiner.prove(inviter.answer(joiner.hello()))
    with pytest.raises(Refusal) as caught:
        inviter.candidate(proof)
    assert caught.value.reason == "code"


def test_who_pretends_to_be_the_inviter_without_the_code_gets_nothing() -> None:
    joiner, _ = begin()
    mallory = Inviter(OTHER, EVE, MESH)
    with pytest.raises(Refusal, match="somebody sits between"):
        joiner.prove(mallory.answer(joiner.hello()))


def test_messages_of_another_run_are_worth_nothing() -> None:
    joiner, inviter = begin()
    hello = joiner.hello()
    answer = inviter.answer(hello)
    proof = joiner.prove(answer)
    inviter.candidate(proof)
    welcome = inviter.accept(family())
    again = Inviter(CODE, ADA, MESH)
    again.answer(hello)
    with pytest.raises(Refusal):
        again.candidate(proof)
    twice = Joiner(CODE, BOB, "bob", AT)
    twice.hello()
    with pytest.raises(Refusal):
        twice.prove(answer)
    third, inviter3 = begin()
    third.prove(inviter3.answer(third.hello()))
    with pytest.raises(Refusal):
        third.welcome(welcome)


def test_an_answer_is_not_taken_back_as_a_question() -> None:
    joiner, inviter = begin()
    hello = joiner.hello()
    element = msgpack.unpackb(hello)[2]
    with pytest.raises(PairingError):
        joiner.prove(msgpack.packb([element, b""]))
    with pytest.raises(PairingError):
        Inviter(CODE, ADA, MESH).answer(msgpack.packb([1, "7", msgpack.unpackb(inviter.answer(hello))[0]]))


def sealed_proof(change: Callable[[list[object]], list[object]]) -> tuple[Inviter, bytes]:
    """A proof by somebody who knows the code and says something else in it."""
    joiner, inviter = begin()
    proof = joiner.prove(inviter.answer(joiner.hello()))
    fields = msgpack.unpackb(pairing._open(joiner._key, "joiner", proof))
    return inviter, pairing._seal(joiner._key, "joiner", msgpack.packb(change(fields)))


def joining(device: Device, mesh: bytes = MESH, inviter: Device = ADA) -> list[object]:
    entry = sign(device, mesh, None, Joining(inviter.public), AT)
    return [entry.payload, entry.signature]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda f: [EVE.public, *f[1:]], "could not prove that it owns"),
        (lambda f: [*f[:4], bytes(64)], "could not prove that it owns"),
        (lambda f: [f[0], "no name!", *f[2:]], "no name"),
        (lambda f: [f[0], "x" * 64, *f[2:]], "no name"),
        (lambda f: [b"short", *f[1:]], "no key"),
        (lambda f: [*f[:2], *joining(EVE), f[4]], "join something else"),
        (lambda f: [*f[:2], *joining(BOB, mesh=b"m" * 32), f[4]], "join something else"),
        (lambda f: [*f[:2], *joining(BOB, inviter=EVE), f[4]], "join something else"),
        (lambda f: [*f[:3], bytes(64), f[4]], "not signed by it"),
        (lambda f: [*f[:2], b"", *f[3:]], "cannot be read"),
        (lambda f: f[:4], "does not belong here"),
        (lambda f: [*f[:1], b"bob", *f[2:]], "does not belong here"),
    ],
)
def test_who_knows_the_code_and_lies_is_refused(change: Callable[[list[object]], list[object]], what: str) -> None:
    inviter, proof = sealed_proof(change)
    with pytest.raises(TrustError, match=what):
        inviter.candidate(proof)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda f: [bytes(64), f[1]], "could not prove that it owns"),
        (lambda f: [f[0], [["text", b"s" * 64]]], "cannot be believed"),
        (lambda f: [f[0], [[f[1][0][0], bytes(64)]]], "cannot be believed"),
        (lambda f: [f[0], [1]], "cannot be believed"),
        (lambda f: [f[0], [[b""]]], "cannot be believed"),
        (lambda f: [f[0]], "does not belong here"),
    ],
)
def test_an_inviter_that_lies_is_refused(change: Callable[[list[object]], list[object]], what: str) -> None:
    joiner, inviter = begin()
    inviter.candidate(joiner.prove(inviter.answer(joiner.hello())))
    fields = msgpack.unpackb(pairing._open(joiner._key, "inviter", inviter.accept(family())))
    with pytest.raises(PairingError, match=what):
        joiner.welcome(pairing._seal(joiner._key, "inviter", msgpack.packb(change(fields))))


def test_an_inviter_in_no_mesh_is_refused() -> None:
    joiner = Joiner(CODE, BOB, "bob", AT)
    with pytest.raises(PairingError, match="in no mesh"):
        joiner.prove(Inviter(CODE, ADA, b"").answer(joiner.hello()))


def test_another_version_is_said_before_anything_is_counted() -> None:
    with pytest.raises(Refusal) as caught:
        nameplate_of(msgpack.packb([2, "7", b""]))
    assert caught.value.reason == "version"
    with pytest.raises(PairingError, match="no nameplate"):
        nameplate_of(msgpack.packb([1, "7" * 17, b""]))


def test_a_membership_that_is_too_long_is_an_error_of_the_inviter() -> None:
    joiner, inviter = begin()
    inviter.candidate(joiner.prove(inviter.answer(joiner.hello())))
    with pytest.raises(PairingError, match="nearer to the founder"):
        inviter.accept(family() * (MAX_MESSAGE // 500))


@settings(max_examples=60)
@given(st.binary(max_size=200) | st.builds(lambda e: msgpack.packb([1, "7", e]), st.binary(max_size=80)))
def test_any_bytes_are_refused_by_both_sides(message: bytes) -> None:
    joiner, inviter = begin()
    joiner.hello()
    with pytest.raises(PairingError):
        joiner.prove(message)
    with pytest.raises(PairingError):
        joiner.prove(msgpack.packb([b"B" + message[:32], message]))
    with pytest.raises(TrustError):
        inviter.candidate(message)
    try:
        nameplate_of(message)
        inviter.answer(message)
    except PairingError:
        pass


def test_keys_are_in_no_repr() -> None:
    joiner, inviter = begin()
    candidate = inviter.candidate(joiner.prove(inviter.answer(joiner.hello())))
    assert isinstance(candidate, Candidate)
    assert "payload" not in repr(candidate)
    for run in (joiner, inviter):
        assert "lantern" not in repr(run)
