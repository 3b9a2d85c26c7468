"""Adapters as real processes: kept running, started again, never twice, and nothing of them left behind."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.adapted import adapter, alive, guardian_of, noted, shell
from tests.waiting import until
from zmesh.daemon import adapters as module
from zmesh.daemon import guarded, health
from zmesh.daemon.adapters import Adapters, health_of
from zmesh.daemon.guarded import Guarded
from zmesh.daemon.health import FAILED_AFTER, Health
from zmesh.daemon.reports import Reports
from zmesh.peer.adapter_settings import AdapterSettings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")
SOON = 20.0


@asynccontextmanager
async def running(home: Path, *settings: AdapterSettings) -> AsyncIterator[Adapters]:
    """Run adapters; whatever happens, none outlives the block."""
    (home / "daemon").mkdir(parents=True, exist_ok=True)
    adapters = Adapters(home, home / "daemon")
    adapters.take(settings)
    try:
        yield adapters
    finally:
        await adapters.close()


def row(adapters: Adapters, name: str = "desktop") -> dict[str, Any]:
    (found,) = [row for row in adapters.report(Reports()) if row["part"] == name]
    return found


def is_(adapters: Adapters, state: str) -> Callable[[], bool]:
    return lambda: bool(adapters.report(Reports())) and row(adapters)["state"] == state


async def at_work(home: Path, adapters: Adapters) -> None:
    """Wait until an adapter has done what it does first, and counts as healthy."""
    await until(lambda: noted(home) and row(adapters)["state"] == "healthy", SOON)


def log_of(home: Path) -> str:
    return (home / "daemon" / "adapter-desktop.log").read_text()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses."""
    monkeypatch.setattr(health, "RESTART_FIRST", 0.01)
    monkeypatch.setattr(health, "RESTART_MAX", 0.05)


def test_it_runs_and_is_healthy_and_ends_when_it_is_told_to(home: Path) -> None:
    async def scenario() -> None:
        async with running(home, adapter(home, "environment")) as adapters:
            await at_work(home, adapters)
            told = row(adapters)
            (pid,) = noted(home)
            assert told.pop("for") >= 0
            assert told == {
                "part": "desktop", "kind": "adapter", "state": "healthy", "trouble": "", "restarts": 0, "says": "",
                "pid": pid,
            }  # fmt: skip
            assert (home / "place").read_text() == f"{home}\nTrue\n''\n", "at home, a group of its own, no input"
        assert not alive(pid)
        assert adapters.report(Reports()) == []

    home.mkdir()
    asyncio.run(scenario())


def test_its_environment_is_the_daemons_without_secrets_and_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SOME_TOKEN", "ZMESH_AGENT", "ZMESH_ADAPTER", "CLAUDECODE"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("ZMESH_PEERS", "tcp://192.0.2.7:1")
    home.mkdir()
    said = adapter(home, "environment")
    settings = AdapterSettings(said.name, said.command, (("DISPLAY", ":7"), ("ITS_TOKEN", "given")))

    async def scenario() -> None:
        async with running(home, settings):
            await until(lambda: noted(home), SOON)

    asyncio.run(scenario())
    found = (home / "environment").read_bytes().split(b"\0")
    assert not [entry for entry in found if b"=secret" in entry]
    expected = {f"ZMESH_HOME={home}", "ZMESH_ADAPTER=desktop", "DISPLAY=:7", "ITS_TOKEN=given"}
    expected |= {"ZMESH_PEERS=tcp://192.0.2.7:1", f"PATH={os.environ['PATH']}"}
    assert {entry.encode() for entry in expected} <= set(found)


@pytest.mark.usefixtures("quick")
def test_one_that_ends_is_started_again_and_is_healthy_once_it_has_run_for_a_while(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(home, adapter(home)) as adapters:
            await at_work(home, adapters)
            os.kill(noted(home)[0], signal.SIGKILL)
            await until(lambda: len(noted(home)) == 2, SOON)
            told = row(adapters)
            assert (told["state"], told["trouble"], told["restarts"]) == ("recovering", "ended with SIGKILL", 1)
            assert health_of(adapters.report(Reports())) is Health.RECOVERING
            monkeypatch.setattr(module, "STEADY", 0.1)
            os.kill(noted(home)[1], signal.SIGTERM)
            await until(lambda: len(noted(home)) == 3, SOON)
            await at_work(home, adapters)
            told = row(adapters)
            assert (told["trouble"], told["restarts"], told["pid"]) == ("", 0, noted(home)[2])
        assert not (home / "two").exists()

    home.mkdir()
    asyncio.run(scenario())


@pytest.mark.usefixtures("quick")
def test_one_that_ends_again_and_again_has_failed_and_is_tried_for_ever(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOMENT", 60.0)

    async def scenario() -> None:
        states: list[str] = []
        async with running(home, adapter(home, "crash")) as adapters:

            def failed() -> bool:
                told = row(adapters) if adapters.report(Reports()) else {"state": ""}
                states.append(told["state"])
                return bool(told["state"] == "failed")

            await until(failed, SOON)
            assert row(adapters)["trouble"] == "ended with exit code 1: out of ?[31mluck"
            assert row(adapters)["restarts"] >= FAILED_AFTER
            assert set(states) <= {"", "recovering", "failed"}, "it was never called healthy"
            tried = len(noted(home))
            assert tried >= FAILED_AFTER
            await until(lambda: len(noted(home)) > tried + 1, SOON, "it is tried for ever")

    home.mkdir()
    asyncio.run(scenario())


@pytest.mark.usefixtures("quick")
def test_one_that_runs_for_a_moment_each_time_has_failed_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOMENT", 0.01)

    async def scenario() -> None:
        async with running(home, shell("sleep 0.2; exit 1")) as adapters:
            await until(is_(adapters, "healthy"), SOON, "the first time nothing speaks against it")
            await until(is_(adapters, "failed"), SOON)

    asyncio.run(scenario())


@pytest.mark.usefixtures("quick")
def test_a_program_that_there_is_not_is_told_of_and_found_once_it_is_there(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEADY", 0.2)
    program = home / "program"

    async def scenario() -> None:
        async with running(home, AdapterSettings("desktop", ("./program",))) as adapters:
            await until(is_(adapters, "failed"), SOON)
            assert "cannot be started: [Errno 2] No such file or directory: './program'" in row(adapters)["trouble"]
            assert row(adapters)["pid"] is None
            assert "cannot be started" in log_of(home)
            program.write_text("#!/bin/sh\nexec sleep 600\n")
            program.chmod(0o700)
            await until(is_(adapters, "healthy"), SOON)

    home.mkdir()
    asyncio.run(scenario())


@pytest.mark.usefixtures("quick")
def test_what_it_leaves_behind_when_it_ends_is_ended_before_the_next_one_begins(home: Path) -> None:
    script = f"[ -s {home}/children ] && [ -e /proc/$(tail -1 {home}/children) ] && touch {home}/two; "
    script += f"sleep 600 & echo $! >> {home}/children"

    async def scenario() -> None:
        async with running(home, shell(script)) as adapters:
            await until(lambda: len(noted(home, "children")) > 3, SOON)
            await until(lambda: row(adapters)["trouble"] == "ended with exit code 0", SOON)
        assert not any(map(alive, noted(home, "children")))
        assert not (home / "two").exists()

    home.mkdir()
    asyncio.run(scenario())


def test_one_that_will_not_end_is_killed_with_its_children(home: Path) -> None:
    async def scenario() -> None:
        async with running(home, adapter(home, "stubborn", "children", "stray")) as adapters:
            await until(lambda: noted(home), SOON)
            closing = asyncio.ensure_future(adapters.close())
            await until(lambda: "being ended" in row(adapters)["trouble"], SOON)
            assert alive(noted(home)[0])
            await closing
            assert not alive(noted(home)[0])
            assert not alive(noted(home, "children")[0])
            (stray,) = noted(home, "stray")
            assert alive(stray), "what has left the group is on its own"
            os.kill(stray, signal.SIGKILL)
        assert "ended with -9" in log_of(home)

    home.mkdir()
    asyncio.run(scenario())


@pytest.mark.usefixtures("quick")
def test_a_guardian_that_is_killed_leaves_nothing_and_there_is_a_new_one(home: Path) -> None:
    async def scenario() -> None:
        async with running(home, adapter(home, "children")) as adapters:
            await at_work(home, adapters)
            os.kill(guardian_of(noted(home)[0]), signal.SIGKILL)
            await until(lambda: len(noted(home)) == 2, SOON)
            assert row(adapters)["trouble"] == "its guardian has ended with SIGKILL"
            assert [alive(pid) for pid in noted(home)] == [False, True]
            assert [alive(pid) for pid in noted(home, "children")] == [False, True]
        assert not (home / "two").exists()

    home.mkdir()
    asyncio.run(scenario())


def test_a_guardian_that_hangs_is_killed_and_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "ENDING", 0.2)

    async def scenario() -> None:
        async with running(home, adapter(home, "children")):
            await until(lambda: noted(home), SOON)
            os.kill(guardian_of(noted(home)[0]), signal.SIGSTOP)
        assert not alive(noted(home)[0])
        assert not alive(noted(home, "children")[0])

    home.mkdir()
    asyncio.run(scenario())


def test_a_guardian_that_is_told_to_end_ends_its_adapter(home: Path) -> None:
    """A service manager tells all processes of the daemon at once."""

    async def scenario() -> None:
        async with running(home, adapter(home)) as adapters:
            await until(lambda: noted(home), SOON)
            os.kill(guardian_of(noted(home)[0]), signal.SIGTERM)
            await until(lambda: row(adapters)["trouble"] == "ended with SIGTERM", SOON)
            assert not alive(noted(home)[0])

    home.mkdir()
    asyncio.run(scenario())


@pytest.mark.usefixtures("quick")
def test_what_is_wanted_may_change_at_any_time(home: Path) -> None:
    kept, gone, changed, new = (home / name for name in ("kept", "gone", "changed", "new"))

    def wanted(*folders: Path, words: tuple[str, ...] = ()) -> list[AdapterSettings]:
        return [adapter(folder, *(words if folder == changed else ()), name=folder.name) for folder in folders]

    async def scenario() -> None:
        async with running(home, *wanted(kept, gone, changed)) as adapters:
            await until(lambda: all(noted(folder) for folder in (kept, gone, changed)), SOON)
            adapters.take(wanted(kept, changed, new, words=("slow",)))
            await until(lambda: noted(new) and len(noted(changed)) == 2, SOON)
            await until(lambda: {row["part"] for row in adapters.report(Reports())} == {"kept", "changed", "new"}, SOON)
            assert not alive(noted(gone)[0])
            assert [alive(pid) for pid in noted(changed)] == [False, True]
            assert [alive(pid) for pid in noted(kept)] == [True]
            for words in ((), ("slow",), ()):  # faster than it can be done
                adapters.take(wanted(changed, words=words))
            await until(lambda: len(noted(changed)) == 3, SOON)
            await until(lambda: {row["part"] for row in adapters.report(Reports())} == {"changed"}, SOON)
        assert not any(alive(pid) for folder in (kept, gone, changed, new) for pid in noted(folder))
        assert not any((folder / "two").exists() for folder in (kept, gone, changed, new))

    for folder in (kept, gone, changed, new):
        folder.mkdir(parents=True)
    asyncio.run(scenario())


def test_it_may_be_ended_before_it_has_begun(home: Path) -> None:
    async def scenario() -> None:
        async with running(home, adapter(home, "stubborn")) as adapters:
            await asyncio.sleep(0)
            await adapters.close()
            assert adapters.report(Reports()) == []
            adapters.take([adapter(home)])
        assert not any(map(alive, noted(home)))
        assert adapters.report(Reports()) == []

    home.mkdir()
    asyncio.run(scenario())


def test_what_it_prints_is_kept_in_files_of_bounded_size(home: Path) -> None:
    line = "x" * 1023
    script = f"yes {line} | head -c 6000000; echo; echo the last one; exec sleep 600"

    async def scenario() -> None:
        async with running(home, shell(script)):
            log = home / "daemon" / "adapter-desktop.log"
            await until(lambda: log.exists() and "the last one" in log.read_text(), SOON)
            files = sorted((home / "daemon").glob("adapter-desktop.log*"))
            assert [file.name for file in files] == [f"adapter-desktop.log{end}" for end in ("", ".1", ".2", ".3")]
            assert all(file.stat().st_size <= 1 << 20 for file in files)
            assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)

    asyncio.run(scenario())


@pytest.mark.usefixtures("quick")
def test_a_guardian_that_cannot_be_started_or_ends_at_once_is_told_of(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = home / "python"
    monkeypatch.setattr(sys, "executable", str(python))

    async def scenario() -> None:
        async with running(home, shell("exec sleep 600")) as adapters:
            await until(is_(adapters, "failed"), SOON)
            assert row(adapters)["trouble"] == "its guardian cannot be started: No such file or directory"
            python.write_text("#!/bin/sh\necho no such module >&2; exit 7\n")
            python.chmod(0o700)
            await until(lambda: row(adapters)["trouble"] == "its guardian has ended with exit code 7", SOON)
            assert "no such module" in log_of(home), "why is in the log"

    home.mkdir()
    asyncio.run(scenario())


def test_an_error_of_ours_is_a_trouble_of_that_adapter_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(settings: AdapterSettings, *places: Path) -> Guarded:
        if settings.name == "odd":
            raise ZeroDivisionError("odd")
        return Guarded(settings, *places)

    monkeypatch.setattr(module, "Guarded", odd)

    async def scenario() -> None:
        async with running(home, shell("exec sleep 600"), shell("exec sleep 600", name="odd")) as adapters:
            await until(is_(adapters, "healthy"), SOON)
            assert "ZeroDivisionError" in row(adapters, "odd")["trouble"]

    asyncio.run(scenario())
