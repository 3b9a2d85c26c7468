"""Effects: data that cannot change, each in the union; and no command is one."""

import dataclasses
import typing
from typing import Any

import pytest

from zmesh.protocol import commands, effects
from zmesh.protocol.commands import Command
from zmesh.protocol.effects import Effect, Settled
from zmesh.protocol.states import Sent

CLASSES: dict[str, Any] = {
    name: value
    for module in (commands, effects)
    for name, value in vars(module).items()
    if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.__name__
}
COMMANDS, EFFECTS = set(typing.get_args(Command)), set(typing.get_args(Effect))


def test_every_class_is_a_command_or_an_effect_and_none_is_both() -> None:
    assert set(CLASSES.values()) >= COMMANDS | EFFECTS
    assert not COMMANDS & EFFECTS
    used = {
        part
        for kind in COMMANDS | EFFECTS
        for hint in typing.get_type_hints(kind).values()
        for part in (hint, *typing.get_args(hint))
    }
    assert set(CLASSES.values()) - COMMANDS - EFFECTS <= used


@pytest.mark.parametrize("name", CLASSES)
def test_it_is_a_record(name: str) -> None:
    assert CLASSES[name].__dataclass_params__.unsafe_hash
    assert hasattr(CLASSES[name], "__slots__")
    assert CLASSES[name].__doc__


def test_what_need_not_be_said() -> None:
    assert Settled(1) == Settled(1, b"", "", Sent.QUEUED, "")
