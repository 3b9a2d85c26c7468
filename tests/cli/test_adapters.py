"""What `zmesh status` says of adapters; and `zmesh uninstall` leaves nothing of them."""

import os
import sys
from pathlib import Path

import pytest

import zmesh
from tests.cli.commands import Machine, until
from tests.daemon.adapted import alive, noted, table
from zmesh.cli.status import describe
from zmesh.daemon.place import place_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


@pytest.fixture
def desk(laptop: Machine, tmp_path: Path) -> Path:
    """Where the adapter `desktop` leaves its traces; the adapter `clock` does not exist."""
    folder = tmp_path / "desk"
    folder.mkdir()
    laptop.home.chmod(0o700)
    path = laptop.home / "config.toml"
    path.write_text(path.read_text() + table(folder) + '[adapters.clock]\ncommand = ["no-such-clock"]\n')
    path.chmod(0o600)
    return folder


def test_they_are_shown_as_parts_beside_the_others(laptop: Machine, desk: Path) -> None:
    laptop.run("up")
    with zmesh.connect("browser", home=laptop.home) as browser:
        browser.report("degraded", "no \x1b[31mtab")
        until(lambda: noted(desk))
        until(lambda: f"adapter desktop (process {noted(desk)[0]}) healthy\n" in laptop.run("status").stdout)
        text = laptop.run("status").stdout
        told = laptop.json("status")
    (pid,) = noted(desk)
    assert f"           adapter desktop (process {pid}) healthy\n" in text
    assert "           adapter clock recovering: cannot be started: [Errno 2] No such file" in text
    assert f"           client browser (process {os.getpid()}) degraded: no \\x1b[31mtab\n" in text
    assert "health     recovering\n" in text
    parts = {part["part"]: part for part in told["parts"]}
    assert [parts[name]["kind"] for name in ("store", "desktop", "clock", "browser")] == [
        "peer", "adapter", "adapter", "client",
    ]  # fmt: skip
    assert len({frozenset(part) for part in told["parts"]}) == 1, "all have the same fields"
    assert (parts["desktop"]["pid"], parts["clock"]["pid"]) == (pid, None)
    assert "client browser" not in laptop.run("status").stdout, "it has gone"


def test_nothing_is_left_of_them_when_zmesh_is_taken_off(
    laptop: Machine, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no service manager is asked
    laptop.run("up")
    until(lambda: noted(desk))
    kept = {path.name for path in place_of(laptop.home).directory.iterdir()}
    assert {"adapter-desktop.log", "adapter-desktop.lock", "adapter-clock.log"} <= kept
    done = laptop.json("uninstall", "--purge", "--yes")
    assert (done["rest"], done["home_left"]) == ([], False)
    assert not alive(noted(desk)[0])


def test_what_an_older_daemon_tells_can_be_read() -> None:
    told = {
        "name": "laptop", "pid": 1, "version": "0", "uptime": 1.0, "endpoints": [], "door": 1, "linked": [],
        "clients": [], "outgoing": 0, "mailboxes": {}, "home": "/h", "health": "degraded", "troubles": [],
        "parts": [{"part": "store", "state": "degraded", "trouble": "slow"}],
    }  # fmt: skip
    assert "           store degraded: slow" in describe(told)
