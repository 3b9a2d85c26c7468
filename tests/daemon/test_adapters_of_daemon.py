"""Adapters of a real daemon: they come and go with it, however it goes, and follow its configuration."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.daemon.adapted import alive, guardian_of, noted, table
from tests.daemon_home import daemon_pid, kill_daemon
from tests.storm.processes import wait_until
from zmesh.daemon.place import LOCK, place_of
from zmesh.daemon.process import start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")
SOON = 30.0


@pytest.fixture
def desk(daemon_home: Path, tmp_path: Path) -> Iterator[Path]:
    """The folder in which adapters leave their traces; none outlives its test."""
    daemon_home.chmod(0o700)
    folder = tmp_path / "desk"
    folder.mkdir()
    yield folder
    kill_daemon(daemon_home)
    pids = [pid for traces in tmp_path.glob("*/") for name in ("pids", "children") for pid in noted(traces, name)]
    wait_until(lambda: not any(map(alive, pids)), SOON, "all adapters are gone")


def configure(home: Path, *tables: str) -> None:
    """Write a configuration with these adapters."""
    path = home / "config.toml"
    plain = path.read_text().partition("[adapters")[0]
    path.write_text(plain + "".join(tables))
    path.chmod(0o600)


def reload(home: Path) -> None:
    """Have the daemon read it."""
    os.kill(daemon_pid(home), signal.SIGHUP)


def adapters(client: zmesh.Client) -> dict[str, dict[str, Any]]:
    """How the adapters are."""
    return {row["part"]: row for row in client.call("daemon.status")["parts"] if row["kind"] == "adapter"}


def test_they_come_with_it_and_go_with_it(daemon_home: Path, desk: Path) -> None:
    configure(daemon_home, table(desk, "children"))
    with zmesh.connect("code") as code:
        wait_until(lambda: noted(desk) and adapters(code)["desktop"]["state"] == "healthy", SOON, "it is healthy")
        assert adapters(code)["desktop"]["pid"] == noted(desk)[0]
        assert code.call("daemon.status")["health"] == "healthy"
        daemon = code.call("daemon.down")["pid"]
    wait_until(lambda: daemon_pid(daemon_home) != daemon, SOON, "the daemon is down")
    assert not any(map(alive, [*noted(desk), *noted(desk, "children")])), "they were gone before it was"


def test_a_daemon_that_is_killed_leaves_none(daemon_home: Path, desk: Path) -> None:
    configure(daemon_home, table(desk, "stubborn", "children"))
    start(daemon_home, place_of(daemon_home))
    wait_until(lambda: noted(desk), SOON, "it is at work")
    assert kill_daemon(daemon_home)
    wait_until(lambda: not any(map(alive, [*noted(desk), *noted(desk, "children")])), SOON, "all are gone")
    assert len(noted(desk)) == 1


def test_the_next_daemon_has_a_new_one_and_never_are_there_two(daemon_home: Path, desk: Path) -> None:
    configure(daemon_home, table(desk, "slow"))  # it takes some seconds to end: the next daemon is there before that
    start(daemon_home, place_of(daemon_home))
    for lives in (1, 2):
        wait_until(lambda lives=lives: len(noted(desk)) == lives, SOON, f"life {lives}")  # type: ignore[misc]
        assert kill_daemon(daemon_home)
        with zmesh.connect("code") as code:
            wait_until(lambda: adapters(code)["desktop"]["state"] == "healthy", SOON, "it is there again")
    assert [alive(pid) for pid in noted(desk)] == [False, False, True]
    assert not (desk / "two").exists()


def test_one_whose_guardian_is_killed_with_the_daemon_ends_too(daemon_home: Path, desk: Path) -> None:
    configure(daemon_home, table(desk, "stubborn", "children", "stray"))
    start(daemon_home, place_of(daemon_home))
    wait_until(lambda: noted(desk), SOON, "it is at work")
    (pid,), (child,), (stray,) = noted(desk), noted(desk, "children"), noted(desk, "stray")
    guardian = guardian_of(pid)
    os.kill(guardian, signal.SIGSTOP)  # so that it cannot do its work in between
    kill_daemon(daemon_home)
    os.kill(guardian, signal.SIGKILL)
    wait_until(lambda: not alive(pid), SOON, "it has ended with its guardian")
    assert alive(child), "nobody is there to end it"
    configure(daemon_home, table(desk))
    start(daemon_home, place_of(daemon_home))
    wait_until(lambda: len(noted(desk)) > 1, SOON, "the next one is at work")
    assert not alive(child), "before the next one begins"
    assert alive(stray), "what has left the group is on its own"
    os.kill(stray, signal.SIGKILL)


def test_they_follow_the_configuration(daemon_home: Path, desk: Path) -> None:
    folders = {name: desk.with_name(name) for name in ("kept", "gone", "changed", "new")}
    for folder in folders.values():
        folder.mkdir()

    def tables(**words: str) -> list[str]:
        return [table(folders[name], *word.split(), name=name) for name, word in words.items()]

    configure(daemon_home, *tables(kept="", gone="", changed=""))
    with zmesh.connect("code") as code:
        wait_until(lambda: all(map(noted, [folders[n] for n in ("kept", "gone", "changed")])), SOON, "all work")
        configure(daemon_home, *tables(kept="", changed="slow", new=""))
        reload(daemon_home)
        wait_until(lambda: noted(folders["new"]) and len(noted(folders["changed"])) == 2, SOON, "it was taken")
        wait_until(lambda: set(adapters(code)) == {"kept", "changed", "new"}, SOON, "one is gone")
        assert [[alive(pid) for pid in noted(folder)] for folder in folders.values()] == [
            [True], [False], [False, True], [True],
        ]  # fmt: skip
        configure(daemon_home, "[adapters.kept]\ncomand = []\n")
        reload(daemon_home)
        wait_until(
            lambda: any("did you mean 'command'" in trouble for trouble in code.call("daemon.status")["troubles"]),
            SOON, "the slip is told",
        )  # fmt: skip
        assert set(adapters(code)) == {"kept", "changed", "new"}, "and changes nothing"
        configure(daemon_home)
        reload(daemon_home)
        wait_until(lambda: adapters(code) == {}, SOON, "all are gone")
        assert code.call("daemon.status")["troubles"] == []
    assert not any(alive(pid) for folder in folders.values() for pid in noted(folder))
    assert not any((folder / "two").exists() for folder in folders.values())


def test_programs_that_others_could_name_are_not_begun_at_a_reload_either(daemon_home: Path, desk: Path) -> None:
    with zmesh.connect("code") as code:
        configure(daemon_home, table(desk))
        (daemon_home / "config.toml").chmod(0o666)
        reload(daemon_home)
        wait_until(
            lambda: any("others can change" in trouble for trouble in code.call("daemon.status")["troubles"]),
            SOON, "it is told",
        )  # fmt: skip
        assert adapters(code) == {}
    assert noted(desk) == []


def test_what_an_adapter_says_is_told_and_counts_less_than_its_end(daemon_home: Path, desk: Path) -> None:
    configure(daemon_home, table(desk, "report", "degraded", "no display"))
    with zmesh.connect("code") as code:
        wait_until(lambda: adapters(code).get("desktop", {}).get("says"), SOON, "it says so")
        wait_until(lambda: adapters(code)["desktop"]["state"] == "degraded", SOON, "it runs")
        told = code.call("daemon.status")
        (row,) = [row for row in told["parts"] if row["kind"] != "peer"]
        assert (row["part"], row["kind"], row["trouble"], row["pid"]) == (
            "desktop", "adapter", "no display", noted(desk)[0],
        )  # fmt: skip
        assert told["health"] == "degraded"
        os.kill(noted(desk)[0], signal.SIGSTOP)
        assert adapters(code)["desktop"]["says"] == "no display", "it is connected still"
        os.kill(noted(desk)[0], signal.SIGKILL)
        wait_until(lambda: adapters(code)["desktop"]["trouble"] == "ended with SIGKILL", SOON, "it has ended")


def test_a_daemon_that_an_adapter_starts_is_none_of_its_own(daemon_home: Path) -> None:
    """Its client does so when the daemon was killed and it is slow to end itself."""
    script = "import zmesh; print(zmesh.connect('code').call('daemon.status')['pid'])"
    environment = os.environ | {"ZMESH_ADAPTER": "desktop"}
    started = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert int(started.stdout) == daemon_pid(daemon_home)
    assert (place_of(daemon_home).directory / LOCK).exists()
    assert b"ZMESH_ADAPTER" not in Path(f"/proc/{daemon_pid(daemon_home)}/environ").read_bytes()
