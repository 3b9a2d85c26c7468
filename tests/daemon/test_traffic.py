"""The verbs about traffic: who asks is kept with what is done, and each may be asked for twice."""

import asyncio
from pathlib import Path

import pytest

from tests.conftest import new_peer
from zmesh.daemon.administration import Administrator
from zmesh.errors import PeerHalted, UnknownAgent
from zmesh.peer.administration import Administration

BY = {"by": "process 7"}


def test_each_is_done_once_and_noted_each_time(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop, new_peer("studio", home) as studio:
            await studio.agent("browser")
            await laptop.wait_for("browser@studio", timeout=20)
            administrator = Administrator(laptop)
            for verb in ("pause", "resume", "drain", "resume"):
                for changed in (True, False):
                    assert (await administrator.carry_out(f"admin.{verb}", dict(BY)))["changed"] is changed
            for verb in ("disconnect", "reconnect"):
                for changed in (True, False):
                    answer = await administrator.carry_out(f"admin.{verb}", BY | {"peer": "studio"})
                    assert (answer["peer"], answer["changed"]) == (f"studio~{studio.id[:8]}", changed)
            with pytest.raises(UnknownAgent):
                await administrator.carry_out("admin.disconnect", BY | {"peer": "nobody"})
            with pytest.raises(TypeError):
                await administrator.carry_out("admin.pause", BY | {"peer": "studio"})
            lines = [line for line in await Administration(laptop).log() if line.kind.startswith("admin.")]
            assert len(lines) == 2 * (8 + 4 + 2)
            assert {line.text for line in lines if line.kind == "admin.disconnect" and "asks" in line.text} == {
                "process 7 asks: peer='studio'", "process 7 asks: peer='nobody'",
            }  # fmt: skip

    asyncio.run(scenario())


def test_who_asks_is_kept_and_what_is_to_go_out_is_told(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            await code.send("x@nowhere", "waits")
            administrator = Administrator(laptop)
            await administrator.carry_out("admin.drain", dict(BY))
            assert await administrator.carry_out("admin.leaving", {}) == {
                "going": {}, "refused": 0, "away": {}, "nowhere": 1, "draining": "process 7",
            }  # fmt: skip
            await administrator.carry_out("admin.resume", dict(BY))
            await administrator.carry_out("admin.pause", dict(BY))
            paused = administrator.traffic.standing().paused
            assert paused is not None
            assert paused.by == "process 7"
            with pytest.raises(PeerHalted):
                await administrator.carry_out("admin.drain", dict(BY))

    asyncio.run(scenario())
