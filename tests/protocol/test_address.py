"""Names, addresses and store ids in text."""

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.vectors import generate
from zmesh.errors import AddressError
from zmesh.protocol.address import Address, check_name, is_name, is_word, store_text
from zmesh.protocol.bounds import ID_BYTES, MAX_NAME, MAX_WORD

unhurried = settings(deadline=None)  # a busy machine is no reason to fail
FIRST = string.ascii_lowercase + string.digits
names = st.builds(str.__add__, st.sampled_from(FIRST), st.text(FIRST + "._-", max_size=MAX_NAME - 1))
stores = st.text(string.ascii_lowercase + "234567", min_size=4, max_size=26)
addresses = st.one_of(
    st.builds(Address, names),
    st.builds(Address, names, names),
    st.builds(Address, names, names, stores),
)

BAD_NAMES = [
    "",
    " ",
    ".a",
    "-a",
    "_a",
    "a b",
    "a/b",
    "a@b",
    "a~b",
    "a\nb",
    "a\x00",
    "#room",
    "*",
    "all:role",
    "x" * (MAX_NAME + 1),
    "caf\u00e9",
    "\u0430gent",
    "\u212aelvin",
    "\u00a0a",
    "\ud800",
]


@unhurried
@given(names)
def test_every_name_of_the_grammar_is_canonical(name: str) -> None:
    assert is_name(name)
    assert check_name(name) == name
    assert check_name(f" {name.upper()}\t") == name


@pytest.mark.parametrize("text", BAD_NAMES)
def test_what_breaks_the_grammar_is_no_name(text: str) -> None:
    assert not is_name(text)
    with pytest.raises(AddressError, match="is not a valid peer name: use 1 to 63 letters"):
        check_name(text, "peer name")


def test_a_name_is_canonical_only_without_blanks_and_capitals() -> None:
    for text in ("a\n", " a", "A"):
        assert not is_name(text)
        assert check_name(text) == "a"


@pytest.mark.parametrize("value", [None, 7, b"agent", ["agent"], True])
def test_what_is_no_text_is_no_name_and_no_address(value: object) -> None:
    assert not is_name(value)
    with pytest.raises(AddressError, match="is not a valid name"):
        check_name(value)
    with pytest.raises(AddressError, match="an address is a text such as"):
        Address.parse(value)


@unhurried
@given(st.text())
def test_any_text_is_a_name_or_an_error(text: str) -> None:
    try:
        name = check_name(text)
    except AddressError:
        return
    assert is_name(name)


@unhurried
@given(addresses)
def test_an_address_is_read_as_it_is_written(address: Address) -> None:
    assert Address.parse(str(address)) == address
    assert Address.parse(str(address).upper()) == address


@unhurried
@given(st.text(alphabet=st.sampled_from("aB2@~._- \n\u00e9"), max_size=12))
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except AddressError:
        return
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["", "@", "a@", "@b", "a@b@c", "a@b c", "a~abcd", "a@~abcd"])
def test_half_an_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(text)


@pytest.mark.parametrize("store", ["", "abc", "x" * 27, "abc1", "abcd~", "ab cd"])
def test_a_store_is_4_to_26_characters_of_base32(store: str) -> None:
    with pytest.raises(AddressError, match=r"4 to 26 characters of the store id"):
        Address.parse(f"a@b~{store}")


@unhurried
@given(st.binary(min_size=ID_BYTES, max_size=ID_BYTES))
def test_a_store_id_can_stand_in_an_address(store: bytes) -> None:
    text = store_text(store)
    assert len(text) == 26
    assert Address.parse(f"a@b~{text}").store == text


def test_the_text_of_a_store_id_is_lower_case_base32() -> None:
    assert store_text(bytes(16)) == "a" * 26
    assert store_text(bytes(range(16))) == "aaaqeayeaudaocajbifqydiob4"


def test_the_parts_are_written_when_they_are_there() -> None:
    assert str(Address("a")) == "a"
    assert str(Address("a", "b")) == "a@b"
    assert str(Address("a", "b", "abcd")) == "a@b~abcd"


@pytest.mark.parametrize("vector", generate.load("addresses.json"), ids=lambda vector: repr(vector["text"]))
def test_a_vector_is_read_as_it_says(vector: dict[str, Any]) -> None:
    if "error" in vector:
        with pytest.raises(AddressError):
            Address.parse(vector["text"])
    else:
        address = Address.parse(vector["text"])
        assert address == Address(vector["agent"], vector["peer"], vector["store"])
        assert str(address) == vector["canonical"]


@unhurried
@given(st.builds(str.__add__, st.sampled_from(string.ascii_lowercase), st.text(string.ascii_lowercase + "-")))
def test_a_word_is_short_and_of_small_letters(text: str) -> None:
    assert is_word(text) == (len(text) <= MAX_WORD)


@pytest.mark.parametrize("text", ["", "-", "Busy", "busy ", "busy\n", "bu sy", "busy2", "\u00e4", None, b"busy"])
def test_what_is_no_word(text: object) -> None:
    assert not is_word(text)
