"""Commands: data that cannot change, of which the ticket comes first."""

import dataclasses
import typing
from typing import Any

import pytest

from zmesh.protocol.commands import Command, Done, Nack, Send
from zmesh.protocol.priority import Priority

COMMANDS = set(typing.get_args(Command))


@pytest.mark.parametrize("kind", sorted((k for k in COMMANDS if "ticket" in k.__annotations__), key=str))
def test_a_ticket_comes_first(kind: Any) -> None:
    assert dataclasses.fields(kind)[0].name == "ticket"


def test_what_need_not_be_said() -> None:
    send = Send(1, b"i" * 16, "a@b", "c", Priority.NORMAL, None, "chat", b"", b"", 0, packed=True, body=b"")
    assert not send.strict
    assert Done(1, 2, 3).reply is None
    assert Nack(1, 2, 3) == Nack(1, 2, 3, delay=None, count=True)
