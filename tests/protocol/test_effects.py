"""Commands and effects: data that cannot change, each in exactly one of the two unions."""

import dataclasses
import typing
from typing import Any

import pytest

from zmesh.protocol import effects
from zmesh.protocol.effects import Command, Done, Effect, Nack, Send, Settled
from zmesh.protocol.priority import Priority
from zmesh.protocol.states import Sent

CLASSES: dict[str, Any] = {
    name: value
    for name, value in vars(effects).items()
    if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == effects.__name__
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


@pytest.mark.parametrize("kind", sorted((k for k in COMMANDS if "ticket" in k.__annotations__), key=str))
def test_a_ticket_comes_first(kind: Any) -> None:
    assert dataclasses.fields(kind)[0].name == "ticket"


def test_what_need_not_be_said() -> None:
    send = Send(1, b"i" * 16, "a@b", "c", Priority.NORMAL, None, "chat", b"", b"", 0, packed=True, body=b"")
    assert not send.strict
    assert Done(1, 2, 3).reply is None
    assert Nack(1, 2, 3) == Nack(1, 2, 3, delay=None, count=True)
    assert Settled(1) == Settled(1, b"", "", Sent.QUEUED, "")
