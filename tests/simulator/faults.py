"""Planted faults: each breaks one law of the protocol on purpose, and the simulator must notice. The test of the tests."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

FAULTS: dict[str, Callable[[], AbstractContextManager[object]]] = {}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Break the law of that name inside the `with`; the empty name breaks none."""
    with FAULTS[name]() if name else nullcontext():
        yield
