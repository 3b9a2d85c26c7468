"""Makes protocol bounds small for a while, so that a short storm meets windows, quotas and full caches.

The bounds are constants that modules import by name, so each importer is changed, and changed back.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zmesh.protocol.bounds

PACKAGE = "zmesh.protocol."


@contextmanager
def limited(bounds: tuple[tuple[str, int], ...]) -> Iterator[None]:
    """Give the named bounds these values inside the `with`."""
    changed: list[tuple[Any, str, object]] = []
    modules = [module for name, module in sorted(sys.modules.items()) if name.startswith(PACKAGE)]
    try:
        for name, value in bounds:
            assert hasattr(zmesh.protocol.bounds, name), name
            for module in modules:
                if hasattr(module, name):
                    changed.append((module, name, getattr(module, name)))
                    setattr(module, name, value)
        yield
    finally:
        for module, name, old in changed:
            setattr(module, name, old)
