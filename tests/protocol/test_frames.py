"""The frames as data, and their tables in the specification."""

import dataclasses
import re
import typing
from pathlib import Path

import pytest

from zmesh.protocol import frames
from zmesh.protocol.frames import AWAY, BUSY, AgentRecord, Cursor, Ending, Fate, Frame, Gone, Item, Kind, Step, Unknown

SPECIFICATION = Path(__file__).parents[2] / "docs" / "PROTOCOL.md"
CLASSES: dict[str, type] = {
    name: value
    for name, value in vars(frames).items()
    if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == frames.__name__
}
ENTRIES: dict[str, type] = {
    "cursors": Cursor, "items": Item, "endings": Ending, "fates": Fate, "agents": AgentRecord, "steps": Step,
}  # fmt: skip


def field_names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def test_the_kinds_are_skipped_by_who_does_not_know_them() -> None:
    assert [kind.value for kind in Kind] == sorted({kind.value for kind in Kind})
    assert all(0 < kind < 0x80 for kind in Kind)


def test_every_kind_has_its_class() -> None:
    assert set(typing.get_args(Frame)) == {CLASSES[kind.name.capitalize()] for kind in Kind} | {Unknown}


def test_every_class_is_a_frame_or_a_part_of_one() -> None:
    assert set(CLASSES.values()) == set(typing.get_args(Frame)) | set(ENTRIES.values())


@pytest.mark.parametrize("name", CLASSES)
def test_a_frame_is_a_record(name: str) -> None:
    assert CLASSES[name].__dataclass_params__.unsafe_hash  # type: ignore[attr-defined]
    assert hasattr(CLASSES[name], "__slots__")


def test_equal_frames_are_one_frame() -> None:
    assert len({Gone(1, 2, 3, 4, b"i"), Gone(1, 2, 3, 4, b"i"), Gone(1, 2, 3, 5, b"i")}) == 2


def test_an_agent_has_only_a_name_unless_it_says_more() -> None:
    assert AgentRecord("a") == AgentRecord("a", "", (), attached=False, project="", status=AWAY, reach="")


def test_what_lasts_of_an_agent_is_what_it_says_of_itself() -> None:
    described = AgentRecord("a", "coder", ("python",), project="zmesh")
    assert described.lasting == ("coder", ("python",), "zmesh")
    assert dataclasses.replace(described, attached=True, status=BUSY, reach="push").lasting == described.lasting


def table_rows(heading: str) -> list[str]:
    """The names in the numbered rows of the first table below a heading of the specification."""
    _, found, rest = SPECIFICATION.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    assert found, f"the specification has no heading {heading!r}"
    section = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", section, re.MULTILINE)
    assert [int(place) for place, _ in rows] == list(range(len(rows)))
    return [name for _, name in rows]


@pytest.mark.parametrize("kind", list(Kind))
def test_the_specification_has_the_fields_of_every_kind(kind: Kind) -> None:
    heading = f"### {kind.name} (0x{kind.value:02X})"
    assert table_rows(heading) == field_names(CLASSES[kind.name.capitalize()])


@pytest.mark.parametrize("array", ENTRIES)
def test_the_specification_has_the_fields_of_every_entry(array: str) -> None:
    # The bodies of DATA are the second part; the header has their sizes.
    expected = ["size" if name == "body" else name for name in field_names(ENTRIES[array])]
    assert table_rows(f"#### An entry of `{array}`") == expected
