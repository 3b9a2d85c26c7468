"""Whatever an administrator asks for is in the audit log, whether it was done or not."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import new_peer
from zmesh.daemon.administration import Administrator
from zmesh.errors import DaemonError, MeshFull
from zmesh.peer.administration import Administration


async def _act(_: Administrator, arguments: dict[str, Any]) -> dict[str, int]:
    if arguments["rows"] > 1:
        raise MeshFull("too many")
    return {"gone": arguments["rows"]}


def test_an_action_is_noted_before_it_is_done_and_so_is_what_came_of_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Administrator, "_ACTS", {"admin.test": _act})

    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            administrator = Administrator(peer)
            assert await administrator.carry_out("admin.test", {"by": "process 7", "rows": 1}) == {"gone": 1}
            with pytest.raises(MeshFull):
                await administrator.carry_out("admin.test", {"by": "process 7", "rows": 2})
            texts = [line.text for line in await Administration(peer).log()]
            assert texts == ["process 7 asks: rows=1", "done: gone=1", "process 7 asks: rows=2", "not done: too many"]

    asyncio.run(scenario())


def test_looking_leaves_no_trace_and_an_unknown_verb_is_refused(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            administrator = Administrator(peer)
            assert await administrator.carry_out("admin.log", {"most": 5}) == []
            with pytest.raises(DaemonError, match="admin\\.dance"):
                await administrator.carry_out("admin.dance", {})
            assert await Administration(peer).log() == []

    asyncio.run(scenario())


def test_what_others_do_under_its_eyes_is_noted_the_same_way_and_ids_are_legible(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            administrator = Administrator(peer)

            async def act() -> dict[str, int]:
                return {"replayed": 1}

            asked = {"by": "process 7", "name": "code", "ident": bytes(range(16)), "again": None}
            assert await administrator.audited("mailbox.replay", act, asked) == {"replayed": 1}
            assert asked == {"name": "code", "ident": bytes(range(16)), "again": None}
            texts = [line.text for line in await Administration(peer).log()]
            assert texts == ["process 7 asks: name='code' ident=000102030405060708090a0b0c0d0e0f", "done: replayed=1"]

    asyncio.run(scenario())
