"""`zmesh admin` as a process."""

import asyncio

from tests.cli.commands import Machine
from tests.conftest import new_peer
from zmesh.peer.administration import Administration


def test_the_audit_log_is_shown_with_times_and_what_is_in_it_steers_no_terminal(laptop: Machine) -> None:
    assert "audit log is empty" in laptop.run("admin", "log").stdout
    name = laptop.json("status")["name"]
    laptop.run("down")

    async def note() -> None:
        async with new_peer(name, laptop.home) as peer:
            await Administration(peer).note("admin.test", "a line \x1b[31mof red")

    asyncio.run(note())
    shown = laptop.run("admin", "log").stdout
    assert "admin.test" in shown
    assert "a line \\x1b[31mof red" in shown
    assert [line["kind"] for line in laptop.json("admin", "log", "--lines", "1")] == ["admin.test"]
    laptop.fails(2, "admin", "log", "--lines", "0")
