"""File descriptors: the limit only ever goes up, and what is left is what can really be opened."""

import os
import resource
from collections.abc import Iterator

import pytest

from zmesh.errors import TransportError
from zmesh.peer import descriptors


@pytest.fixture(autouse=True)
def limits() -> Iterator[tuple[int, int]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield soft, hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_soft_limit_rises_to_the_hard_one_and_never_falls(limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    descriptors.raise_limit()
    raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert raised == min(hard, descriptors.WANTED)
    descriptors.raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (raised, hard)


def test_a_limit_that_cannot_be_raised_is_left_alone(monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    def refuse(*_: object) -> None:
        raise ValueError("not allowed")

    with monkeypatch.context() as patch:
        patch.setattr(resource, "setrlimit", refuse)
        descriptors.raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, hard)


def test_what_is_left_falls_with_each_file() -> None:
    before = descriptors.left()
    assert before is not None
    descriptor = os.open("/dev/null", os.O_RDONLY)
    try:
        assert descriptors.left() == before - 1
    finally:
        os.close(descriptor)


def test_too_few_are_an_error_that_names_the_purpose(limits: tuple[int, int]) -> None:
    used = limits[0] - (descriptors.left() or 0)
    descriptors.check_left("a test")
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + descriptors.SPARE - 1, limits[1]))
    with pytest.raises(TransportError, match=r"no file descriptors left for a test.*ulimit -n"):
        descriptors.check_left("a test")
    resource.setrlimit(resource.RLIMIT_NOFILE, (used - 1, limits[1]))
    assert descriptors.left() == 0


def test_where_nothing_can_be_counted_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "_LISTS", ("/nowhere",))
    assert descriptors.left() is None
    descriptors.check_left("a test")
