"""The audit log of a peer."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.conftest import new_peer
from zmesh.peer.administration import MAX_LINES, MAX_NOTE, Administration


def test_what_is_noted_is_told_with_its_time_the_latest_last(home: Path) -> None:
    async def scenario() -> None:
        before = time.time()
        async with new_peer("laptop", home) as peer:
            administration = Administration(peer)
            for number in range(3):
                await administration.note("admin.test", f"line {number}")
            lines = await administration.log()
            assert [line.text for line in lines] == ["line 0", "line 1", "line 2"]
            assert [line.text for line in await administration.log(2)] == ["line 1", "line 2"]
            assert lines[0].entry < lines[1].entry < lines[2].entry
            assert all(before - 1 < line.at < time.time() + 1 for line in lines)
            for most in (0, MAX_LINES + 1):
                with pytest.raises(ValueError, match="lines cannot be told"):
                    await administration.log(most)

    asyncio.run(scenario())


def test_it_outlives_the_peer_and_a_long_line_is_cut(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            await Administration(peer).note("admin.test", "x" * 5000)
        async with new_peer("laptop", home) as peer:
            assert [line.text for line in await Administration(peer).log()] == ["x" * MAX_NOTE]

    asyncio.run(scenario())
