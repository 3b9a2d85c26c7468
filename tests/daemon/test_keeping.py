"""What is done by hand to the daemon's store is done to its end, once at a time, and is in the audit log."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.conftest import new_peer
from tests.waiting import until
from zmesh.daemon import keeping
from zmesh.daemon.administration import Administrator
from zmesh.peer.administration import Administration


async def fill(peer: zmesh.Peer) -> None:
    """Send and finish what then is free space."""
    code = await peer.agent("code")
    for _ in range(60):
        await code.send("code", bytes(200_000))
    async for message in code.inbox():
        await message.done()
        if not peer.driver.core.node.inbox.messages.by_row:
            break


async def log(peer: zmesh.Peer) -> list[str]:
    return [line.text for line in await Administration(peer).log()]


def test_compacting_tells_how_far_it_is_and_what_came_of_it(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            await fill(peer)
            administrator = Administrator(peer)
            asked = [
                asyncio.create_task(administrator.carry_out("admin.compact", {"by": f"process {number}"}))
                for number in (1, 2)
            ]
            seen: list[dict[str, int]] = []
            while not all(task.done() for task in asked):
                seen.append(await administrator.carry_out("admin.progress", {}))
                await asyncio.sleep(0)
            first, second = (task.result() for task in asked)
            assert first["before"]["free"] > first["after"]["free"] == 0
            assert second["before"]["file"] <= first["after"]["file"] + 100_000, "the second one came after the first"
            totals = {told["total"] for told in seen}
            assert len(totals) > 1, "it was seen at work"
            assert await administrator.carry_out("admin.progress", {}) == {"done": 0, "total": 0}
            lines = await log(peer)
            assert sorted(lines[:2]) == ["process 1 asks", "process 2 asks"]
            assert all(line.startswith("done: before.file=") for line in lines[2:])

    asyncio.run(scenario())


def test_who_asks_and_goes_away_stops_nothing_and_the_end_of_the_daemon_does(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> Any:
        began.set()
        await go_on.wait()
        raise ValueError("a wrong number")

    monkeypatch.setattr(keeping, "compact", slow)

    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            administrator = Administrator(peer)

            async def leave() -> None:
                began.clear()
                asking = asyncio.create_task(administrator.carry_out("admin.compact", {}))
                await began.wait()
                asking.cancel()
                await asyncio.wait({asking})

            await leave()
            go_on.set()
            await until(lambda: not administrator._under_way)  # noqa: SLF001 - nobody else can know
            assert await log(peer) == ["somebody asks", "not done: a wrong number"]
            go_on.clear()
            await leave()
            await administrator.close()
            assert (await log(peer))[2:] == ["somebody asks"]

    asyncio.run(scenario())
