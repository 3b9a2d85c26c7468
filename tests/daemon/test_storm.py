"""The kill storm on the daemon as a test: a short one always, a long one in the soak."""

import os
import secrets

import pytest

from tests.daemon.storm.__main__ import rage

SECONDS = float(os.environ.get("ZMESH_DAEMON_STORM_SECONDS", "20"))
SEED = int(os.environ.get("ZMESH_STORM_SEED", "0")) or secrets.randbits(32)


def storm(seconds: float) -> None:
    """Run a storm; it prints its totals and the command that repeats it."""
    verdict = rage(seconds, SEED)
    assert verdict.offences == []
    assert verdict.totals["kills"] > seconds / 10
    assert verdict.totals["acknowledged"] > verdict.totals["kills"], "nothing much was sent between the kills"


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_whoever_is_killed() -> None:
    storm(SECONDS)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_two_minutes_of_kills() -> None:
    storm(120)
