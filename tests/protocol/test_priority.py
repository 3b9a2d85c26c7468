"""The five classes and their names."""

import pytest

from zmesh.protocol.bounds import CLASSES
from zmesh.protocol.priority import Priority


def test_there_is_one_member_for_each_class_and_the_most_urgent_is_zero() -> None:
    assert [p.value for p in Priority] == list(range(CLASSES))
    assert [p.name.lower() for p in Priority] == ["critical", "high", "normal", "low", "bulk"]


@pytest.mark.parametrize("priority", list(Priority))
def test_a_name_is_read_in_any_case(priority: Priority) -> None:
    assert Priority.parse(priority.name.lower()) is priority
    assert Priority.parse(priority.name) is priority


@pytest.mark.parametrize("text", ["", "urgent", "0", " high", "parse", "__class__", "critical\n"])
def test_another_name_is_refused_and_the_five_are_listed(text: str) -> None:
    with pytest.raises(ValueError, match="choose one of critical, high, normal, low, bulk"):
        Priority.parse(text)
