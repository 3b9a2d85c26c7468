"""Tests of zmesh.protocol.record."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.waiting import ENOUGH
from zmesh.protocol.record import record


@record
class Place:
    """A record, for the tests."""

    number: int
    name: str = ""


def test_records_are_equal_and_hashed_by_their_fields() -> None:
    assert Place(1, "a") == Place(1, "a") != Place(1, "b")
    assert len({Place(1, "a"), Place(1, "a"), Place(2, "a")}) == 2
    assert repr(Place(1)) == "Place(number=1, name='')"


def test_records_have_slots_and_the_tools_of_dataclasses() -> None:
    assert not hasattr(Place(1), "__dict__")
    assert [field.name for field in fields(Place)] == ["number", "name"]
    assert replace(Place(1, "a"), number=2) == Place(2, "a")


def test_mypy_refuses_to_change_a_record(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from zmesh.protocol.priority import Priority\nfrom zmesh.protocol.commands import Take\n\n"
        "take = Take(1, 2)\ntake.count = 3\nPriority.HIGH\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ENOUGH)
    assert 'Property "count" defined in "Take" is read-only' in checked.stdout, checked.stdout + checked.stderr


def test_a_record_needs_its_fields() -> None:
    with pytest.raises(TypeError, match="number"):
        Place()  # type: ignore[call-arg]
