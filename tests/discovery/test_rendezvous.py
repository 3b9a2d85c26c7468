"""Discovery on one host: files of the living are found, of the dead removed, and garbage harms nobody."""

import asyncio
import json
import logging
import os
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.stores import store_of
from tests.waiting import killed_in_the_end, until
from zmesh.discovery import rendezvous
from zmesh.discovery.rendezvous import ABANDONED_AFTER, MAX_BYTES, SCAN_INTERVAL, RendezvousSource
from zmesh.discovery.sighting import Sighting, store_text

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.stores import store_of
from zmesh.discovery.rendezvous import RendezvousSource
from zmesh.discovery.sighting import Sighting

async def main():
    own = Sighting(store_of("a" * 32, 9), "child", "a" * 32, ("tcp://127.0.0.1:9",), "own")
    await RendezvousSource(Path(sys.argv[1])).start(own, lambda found: print(found.name, flush=True))
    await asyncio.sleep(60)

asyncio.run(main())
"""


def peer(number: int, port: int = 7000) -> Sighting:
    return Sighting(store_of("a" * 32, number), f"peer{number}", "a" * 32, (f"tcp://127.0.0.1:{port}",), "own")


def path_of(directory: Path, sighting: Sighting) -> Path:
    return directory / f"{store_text(sighting.store)}.json"


def put(directory: Path, sighting: Sighting, **changes: object) -> Path:
    """Write a file as a peer does, with changes."""
    content: dict[str, object] = {
        "v": 1,
        "store": store_text(sighting.store),
        "name": sighting.name,
        "device": sighting.device,
        "endpoints": sighting.endpoints,
        "pid": os.getpid(),
        "place": rendezvous._place(),  # noqa: SLF001
    }
    path = path_of(directory, sighting)
    path.write_text(json.dumps(content | changes))
    return path


def watch(directory: Path, test: Callable[[RendezvousSource, list[Sighting]], Awaitable[None]]) -> None:
    """Run a test with peer 1 watching."""

    async def body() -> None:
        seen: list[Sighting] = []
        source = RendezvousSource(directory)
        await source.start(peer(1), seen.append)
        try:
            await test(source, seen)
        finally:
            await source.stop()
            await source.stop()

    asyncio.run(body())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "rendezvous"
    path.mkdir(parents=True, mode=0o700)
    return path


def gone_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(30)
        return process.pid


def test_two_peers_find_each_other_and_leave_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "here"

    async def test(_: RendezvousSource, seen: list[Sighting]) -> None:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(path_of(directory, peer(1)).stat().st_mode) == 0o600
        others: list[Sighting] = []
        second = RendezvousSource(directory)
        await second.start(peer(2), others.append)
        assert [sighting.name for sighting in others] == ["peer1"], "found at once"
        await until(lambda: seen, what="the second one's file")
        assert (seen[0].store, seen[0].endpoints, seen[0].source) == (peer(2).store, peer(2).endpoints, "rendezvous")
        await second.update(peer(2, port=7001))
        await until(lambda: len(seen) == 2, what="its new address")
        assert seen[1].endpoints == ("tcp://127.0.0.1:7001",)
        await second.stop()
        await second.update(peer(2))

    watch(directory, test)
    assert not list(directory.iterdir())


def test_an_unchanged_file_is_read_and_reported_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(directory, peer(2))
    reads: list[str] = []
    content = rendezvous._content  # noqa: SLF001

    def counted(path: str) -> dict[str, object]:
        reads.append(path)
        return content(path)

    monkeypatch.setattr(rendezvous, "_content", counted)

    async def test(_: RendezvousSource, seen: list[Sighting]) -> None:
        put(directory, peer(3))
        await until(lambda: len(seen) == 2, what="a later scan")
        assert len(reads) == 2

    watch(directory, test)


def test_a_killed_process_is_found_and_its_file_removed(directory: Path) -> None:
    async def test(_: RendezvousSource, seen: list[Sighting]) -> None:
        with (
            subprocess.Popen([sys.executable, "-c", CHILD, str(directory)], stdout=subprocess.PIPE) as child,  # noqa: ASYNC220 - starts in no time
            killed_in_the_end(child),
        ):
            await until(lambda: seen, what="the child's file")
            assert (seen[0].name, child.stdout and child.stdout.readline()) == ("child", b"peer1\n")
            child.kill()
            child.wait(30)
            await until(lambda: len(list(directory.iterdir())) == 1, what="the removal of the dead one's file")

    watch(directory, test)


def test_the_dead_are_removed_and_never_reported(directory: Path) -> None:
    path = put(directory, peer(2), pid=gone_pid())

    async def test(_: RendezvousSource, seen: list[Sighting]) -> None:
        await until(lambda: not path.exists(), what="the removal")
        assert not seen

    watch(directory, test)


def test_a_process_of_another_container_is_asked_nothing_and_dialled_at_far_addresses(directory: Path) -> None:
    far = ("tcp://127.0.0.1:7000", "tcp://192.0.2.5:7000")
    elsewhere = [
        put(directory, peer(2), place="container/pid:[1]", pid=gone_pid(), endpoints=far),
        put(directory, peer(3), place="container/pid:[1]", pid=gone_pid()),
    ]
    old = time.time() - 2 * ABANDONED_AFTER
    abandoned = put(directory, peer(4), place="container/pid:[1]", endpoints=far)
    os.utime(abandoned, (old, old))
    litter = directory / ".half-written"
    litter.touch()
    os.utime(litter, (old, old))

    async def test(_: RendezvousSource, seen: list[Sighting]) -> None:
        await until(lambda: not abandoned.exists() and not litter.exists(), what="the removal of the abandoned")
        assert all(path.exists() for path in elsewhere)
        assert seen[0].endpoints == ("tcp://192.0.2.5:7000",)
        assert {sighting.name for sighting in seen} == {"peer2", "peer4"}

    watch(directory, test)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"store": store_text(bytes(16))},
        {"name": "Not A Name"},
        {"device": None},
        {"device": "b" * 32},
        {"endpoints": "tcp://127.0.0.1:1"},
        {"endpoints": ["tcp://localhost:1"]},
        {"endpoints": []},
        {"pid": 0},
        {"pid": -1},
        {"pid": True},
        {"pid": 2**40},
        {"pid": "1"},
        {"place": None},
        {"more": "x" * MAX_BYTES},
    ],
)
def test_garbage_is_ignored_logged_once_and_left_alone(
    directory: Path, changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    garbage = put(directory, peer(2), **changes)

    async def test(_: RendezvousSource, seen: list[Sighting]) -> None:
        put(directory, peer(3))
        await until(lambda: seen, what="the good one, in a later scan")
        put(directory, peer(4))
        await until(lambda: len(seen) == 2, what="one more scan")
        assert {sighting.name for sighting in seen} == {"peer3", "peer4"}

    watch(directory, test)
    assert garbage.exists()
    assert caplog.text.count(garbage.name) == 1


def test_things_that_are_no_json_files_harm_nobody(directory: Path, tmp_path: Path) -> None:
    names = [store_text(bytes([number]) * 16) + ".json" for number in range(20, 27)]
    (directory / names[0]).write_bytes(b"\xff\xfe{")
    (directory / names[1]).write_text("[" * 4000)
    (directory / names[2]).mkdir()
    os.mkfifo(directory / names[3])
    (directory / names[4]).symlink_to(put(tmp_path, peer(24)))
    (directory / names[5]).write_text("[1, 2]")
    (directory / names[6]).write_text("")
    (directory / "README").write_text("not ours")
    (directory / "other.json").write_text("{}")
    put(directory, peer(2))

    async def test(_: RendezvousSource, seen: list[Sighting]) -> None:
        assert [sighting.name for sighting in seen] == ["peer2"]

    watch(directory, test)


def test_a_directory_open_to_others_is_a_trouble_and_no_exception(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(directory, peer(2))
    directory.chmod(0o777)

    async def test(source: RendezvousSource, seen: list[Sighting]) -> None:
        assert source.trouble is not None
        assert "chmod 700" in source.trouble
        assert not seen
        directory.chmod(0o700)  # noqa: ASYNC240 - one call
        await until(lambda: seen, what="the recovery")
        assert source.trouble is None

    watch(directory, test)
    assert caplog.text.count("chmod 700") == 1


def test_the_own_file_is_written_again_when_somebody_removes_it(directory: Path) -> None:
    async def test(_: RendezvousSource, __: list[Sighting]) -> None:
        own = path_of(directory, peer(1))
        own.unlink()
        await until(own.exists, what="the file again")
        own.write_text("overwritten")
        await until(lambda: "peer1" in own.read_text(), what="the content again")

    watch(directory, test)


def test_too_many_files_are_bounded_and_said(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rendezvous, "MAX_FILES", 5)
    for number in range(2, 22):
        put(directory, peer(number))

    async def test(_: RendezvousSource, seen: list[Sighting]) -> None:
        assert 4 <= len(seen) <= 5

    watch(directory, test)
    assert caplog.text.count("more than 5 files") == 1


def test_a_scan_of_a_hundred_unchanged_files_is_cheap(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    for number in range(2, 102):
        put(directory, peer(number))

    async def test(source: RendezvousSource, seen: list[Sighting]) -> None:
        assert len(seen) == 100
        began = time.perf_counter()
        source._scan()  # noqa: SLF001
        assert time.perf_counter() - began < SCAN_INTERVAL / 20

    watch(directory, test)


def test_a_file_names_the_door_and_an_older_one_none(directory: Path) -> None:
    async def test(_: RendezvousSource, seen: list[Sighting]) -> None:
        put(directory, peer(2), door=7421)
        put(directory, peer(3))
        put(directory, peer(4), door="7421")
        put(directory, peer(5), door=70_000)
        await until(lambda: len(seen) == 2)
        assert {sighting.name: sighting.door for sighting in seen} == {"peer2": 7421, "peer3": 0}

    watch(directory, test)


def test_the_own_door_is_written_and_a_new_one_too(directory: Path) -> None:
    async def test(source: RendezvousSource, _: list[Sighting]) -> None:
        for door in (7421, 40_000):
            await source.update(replace(peer(1), door=door))
            assert [seen.door for seen in rendezvous.running(directory)] == [door]

    watch(directory, test)


def test_who_runs_is_told_without_a_word_of_our_own(directory: Path) -> None:
    put(directory, peer(2), door=7421)
    put(directory, peer(3), pid=gone_pid())
    path_of(directory, peer(4)).write_text("garbage")
    before = path_of(directory, peer(2)).stat().st_mtime_ns, path_of(directory, peer(2)).read_bytes()
    (found,) = rendezvous.running(directory)
    assert (found.name, found.door) == ("peer2", 7421)
    assert (path_of(directory, peer(2)).stat().st_mtime_ns, path_of(directory, peer(2)).read_bytes()) == before
    assert {path.name for path in directory.iterdir()} <= {path_of(directory, peer(n)).name for n in (2, 3, 4)}


def test_a_directory_that_cannot_be_used_has_nobody_running(directory: Path) -> None:
    put(directory, peer(2))
    directory.chmod(0o777)
    assert rendezvous.running(directory) == []
