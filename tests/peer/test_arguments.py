"""How arguments are checked, and how errors show them."""

import pytest

from zmesh.errors import AddressError
from zmesh.peer.arguments import PRIORITY_NAMES, SHOWN, brief, checked_address, checked_name
from zmesh.protocol.priority import Priority


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_values_are_shown_as_python_writes_them() -> None:
    assert [brief(value) for value in (7, "x", b"x", None, [1])] == ["7", "'x'", "b'x'", "None", "[1]"]


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, b"x" * 10**6, 10**400, list(range(10**4)), "x" * (SHOWN + 1)],
    ids=["text", "bytes", "int", "list", "just"],
)
def test_a_long_value_is_cut(value: object) -> None:
    shown = brief(value)
    assert len(shown) == SHOWN
    assert shown.endswith("...")
    assert repr("x" * 20)[:10] in shown or "0000" in shown or "0, 1, 2" in shown


@pytest.mark.parametrize("value", [10**5000, Rude()], ids=["digits", "rude"])
def test_a_value_that_cannot_be_written_is_shown_by_its_type(value: object) -> None:
    assert brief(value) == f"<{type(value).__name__}>"


def test_the_five_priorities_have_their_names() -> None:
    assert {priority: priority.name.lower() for priority in Priority} == PRIORITY_NAMES


@pytest.mark.parametrize("address", ["browser", " Browser @ Studio ", "browser@studio", "browser@studio~ABCD"])
def test_an_address_is_left_as_it_is(address: str) -> None:
    assert checked_address(address) == address


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("", "'' is not a valid agent name: use 1 to 63"),
        ("@studio", "'' is not a valid agent name"),
        ("browser@", "'' is not a valid peer name"),
        ("browser@a@b", "'a@b' is not a valid peer name"),
        ("browser@studio~", "after '~' come 4 to 26 characters of the store id, as `Peer.peers"),
        ("no good@studio~0000", "after '~' come 4 to 26"),
        ("no good@studio~abcd", "'no good' is not a valid agent name"),
        ("browser@studio~" + "a" * 1000, "after '~' come 4 to 26"),
        (b"browser", "an address is a text such as 'browser@studio', not b'browser'"),
    ],
)
def test_an_error_of_an_address_shows_what_is_wrong(address: object, text: str) -> None:
    with pytest.raises(AddressError) as caught:
        checked_address(address)
    assert text in str(caught.value)
    assert len(str(caught.value)) < 250


def test_spaces_around_a_long_address_are_no_part_of_it() -> None:
    assert checked_address("browser" + " " * 300).strip() == "browser"
    assert checked_name(" Studio ", "peer name") == "studio"
