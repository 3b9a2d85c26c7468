"""`zmesh admin compact`, `purge`, `quota` and `settings` as processes."""

import pytest

import zmesh
from tests.cli.commands import Machine
from tests.daemon_home import daemon_pid
from zmesh.cli.keeping import size


def kinds(laptop: Machine) -> list[str]:
    """What the audit log says was done, the latest last."""
    return [line["kind"] for line in laptop.json("admin", "log") if line["text"].startswith("done")]


def test_the_store_is_made_smaller_while_it_is_used(laptop: Machine) -> None:
    with zmesh.connect("code") as code:
        for _ in range(60):
            code.send("code", bytes(200_000))
        while code.poll(timeout=0):
            pass
        pid = daemon_pid(laptop.home)
        told = laptop.json("admin", "compact")
        assert told["before"]["file"] + told["before"]["log"] > told["after"]["file"]
        assert (told["after"]["free"], told["after"]["log"]) == (0, 0)
        assert (laptop.home / "peers" / "laptop" / "store.db").stat().st_size >= told["after"]["file"]
        shown = laptop.run("admin", "compact").stdout.splitlines()
        assert [line.split()[0] for line in shown] == ["before", "after"]
        assert code.send("code", "x").state == "stored"
    assert daemon_pid(laptop.home) == pid
    assert kinds(laptop) == ["admin.compact"] * 2


def test_on_a_terminal_it_shows_how_far_it_is(laptop: Machine) -> None:
    code, seen = laptop.on_terminal("admin", "compact")
    assert code == 0, seen
    assert "giving back" in seen
    assert seen.rstrip().splitlines()[-1].startswith("after")


@pytest.mark.parametrize(
    ("octets", "words"), [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1 << 31, "2.0 GiB")]
)
def test_sizes_are_written_with_a_unit(octets: int, words: str) -> None:
    assert size(octets) == words
