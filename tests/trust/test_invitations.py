"""Open invitations: three attempts, one use, a time of life, all of it on disk."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zmesh.errors import PairingError, TrustError
from zmesh.trust.invitation import CODE_ATTEMPTS, TOKEN_ATTEMPTS
from zmesh.trust.invitations import MAX_OPEN, MEMORY, Invitation, Invitations
from zmesh.trust.refusal import Refusal
from zmesh.trust.trust_file import TrustFile


@pytest.fixture
def file(tmp_path: Path) -> Iterator[TrustFile]:
    """An empty file."""
    opened = TrustFile(tmp_path / "trust.db")
    yield opened
    opened.close()


def reason_of(invitations: Invitations, nameplate: str) -> str:
    with pytest.raises(Refusal) as caught:
        invitations.attempt(nameplate)
    return caught.value.reason


def test_a_code_has_three_attempts_whoever_restarts(file: TrustFile) -> None:
    invitations = Invitations(file)
    code = invitations.open(60)
    for left in (2, 1, 0):
        again = TrustFile(file.path)
        assert Invitations(again).attempt(code.nameplate) == code
        assert Invitations(again).look(code) == Invitation("", left, 0)
        again.close()
    assert reason_of(invitations, code.nameplate) == "tries"
    assert invitations.nameplates() == []


def attempt_and_die(path: Path, nameplate: str) -> None:
    Invitations(TrustFile(path)).attempt(nameplate)
    os.kill(os.getpid(), signal.SIGKILL)


def test_attempts_survive_a_crash_of_the_inviter(file: TrustFile) -> None:
    invitations = Invitations(file)
    code = invitations.open(60)
    spawn = multiprocessing.get_context("spawn")
    for left in (2, 1, 0):
        inviter = spawn.Process(target=attempt_and_die, args=(file.path, code.nameplate))
        inviter.start()
        inviter.join(20)
        assert inviter.exitcode == -signal.SIGKILL
        stands = invitations.look(code)
        assert stands
        assert stands.left == left
    assert reason_of(invitations, code.nameplate) == "tries"


def test_it_is_spent_only_when_all_attempts_have_ended(file: TrustFile) -> None:
    invitations = Invitations(file)
    code = invitations.open(60)
    for number in range(CODE_ATTEMPTS):
        invitations.attempt(code.nameplate)
        stands = invitations.look(code)
        assert stands
        assert not stands.spent, number
        invitations.fail(code)
    stands = invitations.look(code)
    assert stands
    assert stands.spent


def test_it_is_used_once(file: TrustFile) -> None:
    invitations = Invitations(file)
    code = invitations.open(60)
    invitations.use(code, "d" * 32)
    with pytest.raises(Refusal):
        invitations.use(code, "e" * 32)
    assert reason_of(invitations, code.nameplate) == "over"
    invitations.withdraw(code)
    assert invitations.look(code) == Invitation("d" * 32, 3, 0)


def test_it_expires_and_is_forgotten_later(file: TrustFile, monkeypatch: pytest.MonkeyPatch) -> None:
    invitations = Invitations(file)
    code = invitations.open(60)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert reason_of(invitations, code.nameplate) == "over"
    with pytest.raises(Refusal):
        invitations.use(code, "d" * 32)
    assert invitations.look(code)
    monkeypatch.setattr(time, "time", lambda: now + 61 + MEMORY)
    invitations.open(60)
    assert invitations.look(code) is None


def hold_and_wait(path: Path, said: "multiprocessing.connection.Connection") -> None:
    said.send(Invitations(TrustFile(path)).open(60, held=True))
    signal.pause()


def test_what_is_held_is_over_with_its_process_and_takes_no_place(file: TrustFile) -> None:
    invitations = Invitations(file)
    spawn = multiprocessing.get_context("spawn")
    hear, said = spawn.Pipe(duplex=False)
    inviter = spawn.Process(target=hold_and_wait, args=(file.path, said))
    inviter.start()
    assert hear.poll(20)
    code = hear.recv()
    assert invitations.attempt(code.nameplate) == code, "while it lives"
    inviter.kill()
    inviter.join(20)
    assert reason_of(invitations, code.nameplate) == "gone"
    assert invitations.look(code) == Invitation("", 2, 0), "no attempt is used up for that"
    codes = [invitations.open(60) for _ in range(MAX_OPEN)]
    assert invitations.look(code) is None
    assert [invitations.attempt(each.nameplate) for each in codes] == codes, "not even with the same nameplate"
    for end in (hear, said):
        end.close()


def test_what_is_held_here_is_open_until_it_is_withdrawn(file: TrustFile) -> None:
    invitations = Invitations(file)
    code = invitations.open(60, held=True)
    assert [path.name for path in (file.path.parent / "invitations").iterdir()] == [code.nameplate]
    other = TrustFile(file.path)
    assert Invitations(other).attempt(code.nameplate) == code
    Invitations(other).open(60)
    assert invitations.attempt(code.nameplate) == code, "others do not clear what is held"
    other.close()
    invitations.withdraw(code)
    invitations.withdraw(code)
    assert not list((file.path.parent / "invitations").iterdir())
    assert reason_of(invitations, code.nameplate) == "over"


def test_what_cannot_be_held_is_not_open(file: TrustFile) -> None:
    invitations = Invitations(file)
    (file.path.parent / "invitations").write_text("in the way")
    with pytest.raises(TrustError, match="invitations"):
        invitations.open(60, held=True)
    assert invitations.nameplates() == []


def test_what_is_withdrawn_is_gone(file: TrustFile) -> None:
    invitations = Invitations(file)
    code = invitations.open(60)
    invitations.withdraw(code)
    assert invitations.look(code) is None
    assert reason_of(invitations, code.nameplate) == "over"
    with pytest.raises(Refusal):
        invitations.use(code, "d" * 32)


def test_no_two_open_ones_have_one_nameplate_and_there_are_not_many(file: TrustFile) -> None:
    invitations = Invitations(file)
    codes = [invitations.open(60) for _ in range(MAX_OPEN)]
    assert len({code.nameplate for code in codes}) == MAX_OPEN
    assert sorted(invitations.nameplates()) == sorted(code.nameplate for code in codes)
    with pytest.raises(PairingError, match="16 invitations are open"):
        invitations.open(60, token=True)
    invitations.forget()
    assert invitations.nameplates() == []


def test_a_token_is_found_under_its_own_nameplate(file: TrustFile) -> None:
    invitations = Invitations(file)
    token = invitations.open(60, token=True)
    assert token.is_token
    assert invitations.attempt(token.nameplate) == token
    assert invitations.look(token) == Invitation("", TOKEN_ATTEMPTS - 1, 0)
