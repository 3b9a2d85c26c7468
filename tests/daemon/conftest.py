"""Tests of the daemon have a home for one."""

from pathlib import Path

import pytest

from tests.cli.commands import Machine
from tests.daemon_home import daemon_home

__all__ = ["daemon_home"]


@pytest.fixture
def laptop(daemon_home: Path) -> Machine:
    """A machine whose daemon is not up yet."""
    return Machine(daemon_home.parent, daemon_home.name)
