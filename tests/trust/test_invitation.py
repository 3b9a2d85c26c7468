"""Codes and tokens: what is shown can be typed, and no text of ours gives any of it away."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.errors import PairingError
from zmesh.trust.invitation import MAX_NAMEPLATE, Secret, new_code, new_token, read_secret, take_token
from zmesh.trust.words import WORDS

CODE = re.compile(r"[1-9][0-9]?-[a-z]{4,}-[a-z]{4,}")


def test_a_code_is_short_and_its_nameplate_says_nothing_of_the_words() -> None:
    codes = [new_code() for _ in range(50)]
    assert len({code.text for code in codes}) > 45
    for code in codes:
        assert CODE.fullmatch(code.text)
        assert not code.is_token
        assert code.nameplate == code.text.split("-")[0]
        assert read_secret(code.text) == code


def test_a_token_has_256_bits_and_a_nameplate_that_gives_none_away() -> None:
    one, two = new_token(), new_token()
    assert one.is_token
    assert one != two
    assert len(one.text) == len("zmesh-") + 52
    assert one.nameplate not in one.text
    assert len(one.nameplate) <= MAX_NAMEPLATE
    assert read_secret(f"  {one.text.upper()}\n") == one


@pytest.mark.parametrize(
    "typed", ["7-lantern-clover", " 07 Lantern Clover ", "7-LANT-CLOV", "7 - lantern - clover", "7-lantern-clover\n"]
)
def test_a_code_is_read_as_people_type_it(typed: str) -> None:
    assert read_secret(typed) == read_secret("7-lantern-clover")


@pytest.mark.parametrize(
    "typed",
    ["", "7", "7-lantern", "0-lantern-clover", "100-lantern-clover", "x-lantern-clover", "7-lantern-clover-acorn",
     "7-lanter\u0131n-clover", "\u0667-lantern-clover", "7-lantern-clovre",
     "zmesh-", "zmesh-abc", "zmesh-" + "a" * 51, "zmesh-" + "1" * 52,
     "zmesh-" + "\u00e4" * 52],
)  # fmt: skip
def test_what_is_neither_is_refused_without_showing_it(typed: str) -> None:
    with pytest.raises(PairingError) as caught:
        read_secret(typed)
    assert "lantern-clovre" not in str(caught.value)
    assert "clovre" not in str(caught.value)
    assert "a" * 20 not in str(caught.value)


@given(st.text(max_size=80) | st.from_regex(r"(zmesh-)?[0-9a-z -]{0,70}", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        secret = read_secret(text)
    except PairingError:
        return
    assert read_secret(secret.text) == secret


@pytest.mark.parametrize("secret", [new_code(), new_token()])
def test_a_secret_is_in_no_repr(secret: Secret) -> None:
    assert secret.text not in f"{secret!r} {secret} {[secret]}"
    assert repr(secret.password) not in repr(secret)
    assert secret.nameplate in repr(secret)


def test_the_token_of_the_environment_is_taken_out_of_it() -> None:
    token = new_token()
    environ = {"ZMESH_JOIN": f" {token.text}\n", "HOME": "/"}
    assert take_token(environ) == token
    assert environ == {"HOME": "/"}
    assert take_token(environ) is None
    assert take_token({"ZMESH_JOIN": " "}) is None


@pytest.mark.parametrize("text", ["7-lantern-clover", "zmesh-abcdef", "secret!"])
def test_what_is_no_token_is_taken_out_too_and_not_shown(text: str) -> None:
    environ = {"ZMESH_JOIN": text}
    with pytest.raises(PairingError, match="zmesh invite --token") as caught:
        take_token(environ)
    assert not environ
    assert text not in str(caught.value)


def test_the_words_of_a_code_are_as_many_as_it_promises() -> None:
    assert len(WORDS) ** 2 == 65536
