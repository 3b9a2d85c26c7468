"""The words: a fixed list, told apart by four letters."""

import contextlib
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.errors import TrustError
from zmesh.trust.words import PREFIX, WORDS, read_words, spell


def test_the_list_is_what_it_always_was() -> None:
    assert (len(WORDS), len({word[:PREFIX] for word in WORDS})) == (256, 256)
    assert sorted(WORDS) == list(WORDS)
    assert all(word.isascii() and word.islower() and len(word) >= PREFIX for word in WORDS)
    digest = blake2b(" ".join(WORDS).encode(), digest_size=8).hexdigest()
    assert digest == "861d77deec61e384", "phrases that people have written down would become others"


@given(st.binary(max_size=40))
def test_what_is_spelled_is_read(octets: bytes) -> None:
    assert read_words(spell(octets)) == octets
    assert read_words([word[:PREFIX].upper() for word in spell(octets)]) == octets


@pytest.mark.parametrize("word", ["", "aco", "acorns", "acornx", "acox", "zzzz", "acor\u0130", "\u212aettle", "1234"])
def test_what_is_no_word_is_named_by_its_place_and_not_shown(word: str) -> None:
    with pytest.raises(TrustError, match="word 3 is not one of the 256") as caught:
        read_words(["velvet", "acorn", word])
    assert not word or word not in str(caught.value)
    assert "velvet" not in str(caught.value)


@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_text_is_read_or_refused(words: list[str]) -> None:
    with contextlib.suppress(TrustError):
        assert len(read_words(words)) == len(words)
