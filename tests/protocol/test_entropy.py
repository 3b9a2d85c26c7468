"""What the core asks of a source of randomness, and that the ones in use are such sources."""

import inspect

import pytest

from tests.protocol.pair import SeededEntropy
from zmesh.protocol.entropy import Entropy
from zmesh.protocol.link import LinkMachine


def test_a_seeded_source_repeats_to_the_byte() -> None:
    one: Entropy = SeededEntropy(7)
    other: Entropy = SeededEntropy(7)
    assert [(one.token(8), one.fraction()) for _ in range(100)] == [
        (other.token(8), other.fraction()) for _ in range(100)
    ]


def test_a_token_has_the_length_asked_for_and_a_fraction_lies_below_one() -> None:
    entropy = SeededEntropy(1)
    assert [len(entropy.token(size)) for size in (1, 8, 16, 32)] == [1, 8, 16, 32]
    assert all(0 <= entropy.fraction() < 1 for _ in range(1000))


def test_it_is_a_shape_and_not_a_source() -> None:
    with pytest.raises(TypeError, match="Protocol"):
        Entropy()  # type: ignore[misc]
    assert {name for name, _ in inspect.getmembers(Entropy, inspect.isfunction)} >= {"token", "fraction"}


def test_whoever_has_its_methods_is_one() -> None:
    class Fixed:
        def token(self, size: int) -> bytes:
            return b"\x05" * size

        def fraction(self) -> float:
            return 0.5

    link = LinkMachine(Fixed(), 0.0)
    link.sighted(("tcp://a:1",), 0.0)
    link.ready(0.0)
    assert link.id == b"\x05" * 8
