"""Fixtures of the fault tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storm.processes import disk_directory


@pytest.fixture
def home() -> Iterator[Path]:
    """A home on a real disk."""
    with disk_directory("zmesh-faults-") as path:
        yield path
