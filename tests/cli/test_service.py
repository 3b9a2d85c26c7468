"""`zmesh service` as a process: without a systemd that could be asked, and with a real one."""

import os
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.cli.commands import Machine, until
from tests.cli.managers import systemd
from tests.daemon_home import daemon_pid, kill_daemon
from zmesh.daemon.ending import running

CONFIGURATION = 'name = "laptop"\ndiscovery = ["rendezvous"]\nport = 17430\n'
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's own directory, in which everything of zmesh's lies too."""
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "us er"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    yield path
    kill_daemon(path / "home")


@pytest.fixture
def machine(user: Path) -> Machine:
    """A machine whose service manager nobody can reach."""
    machine = Machine(user, "home")
    machine.home.mkdir(mode=0o700)
    (machine.home / "config.toml").write_text(CONFIGURATION)
    return machine


def test_without_systemd_it_says_what_was_written_and_what_could_not_be_done(machine: Machine, user: Path) -> None:
    assert "zmesh service install" in machine.run("service", "status").stdout
    ended = machine.run("service", "install")
    (unit,) = (user / ".config/systemd/user").iterdir()
    assert ended.returncode == 1
    assert ended.stdout == f"written: {unit}\n"
    assert f"systemctl --user enable --now {unit.stem}`" in ended.stderr
    assert f"@reboot env 'ZMESH_HOME={machine.home}'" in ended.stderr
    assert "every program that needs the daemon starts it" in ended.stderr
    assert "Error: systemd cannot be asked to start it: `systemctl" in ended.stderr or "no systemctl" in ended.stderr
    assert f'Environment="ZMESH_HOME={machine.home}"' in unit.read_text()
    again = machine.run("service", "install")
    assert (again.returncode, again.stdout) == (1, f"unchanged: {unit}\n")
    shown = machine.run("service", "status", "--json")
    assert shown.returncode == 1
    assert '"installed": true, "current": true, "enabled": null' in shown.stdout
    assert daemon_pid(machine.home) == 0
    with zmesh.connect("code", home=machine.home):  # which starts it all the same
        assert running(machine.home)
    assert machine.json("service", "uninstall")["removed"]
    assert not unit.exists()
    assert running(machine.home)
    assert "no service is installed" in machine.run("service", "uninstall").stdout


def test_a_file_that_is_not_ours_is_neither_overwritten_nor_removed(machine: Machine) -> None:
    unit = Path(machine.run("service", "install").stdout.removeprefix("written: ").strip())
    unit.write_text("mine")
    for command in ("install", "uninstall", "status"):
        assert f"{unit} is not zmesh's" in machine.fails(1, "service", command)
    assert unit.read_text() == "mine"


def test_a_file_of_another_interpreter_is_out_of_date(machine: Machine) -> None:
    unit = Path(machine.run("service", "install").stdout.removeprefix("written: ").strip())
    unit.write_text(unit.read_text().replace("python", "python2"))
    assert "says other than it should" in machine.run("service", "status").stdout


def test_where_it_cannot_be_written(machine: Machine, user: Path) -> None:
    (user / ".config").write_text("a file")
    assert "cannot write" in machine.fails(1, "service", "install")


# --- with a real systemd ---


@pytest.fixture
def enter(user: Path) -> Iterator[tuple[str, ...]]:
    """The words that run a command beside a systemd of the user's."""
    with systemd(user) as words:
        yield words


@pytest.fixture
def beside(machine: Machine, user: Path, enter: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The same machine with systemd, which programs reach through a `systemctl` that enters its namespace."""
    tool = user / "tools/systemctl"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec {shlex.join(enter)} systemctl "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    return machine


def served(machine: Machine) -> Callable[[], Any]:
    """Say whether the service runs the daemon."""

    def look() -> Any:
        said = machine.run("service", "status", "--json")
        return '"active": true' in said.stdout and running(machine.home)

    return look


def test_a_client_of_a_daemon_that_is_handed_over_goes_on(beside: Machine) -> None:
    with zmesh.connect("code", home=beside.home) as code:
        receipt = code.send("code", "before")
        first = running(beside.home)
        came = beside.json("service", "install")
        assert (came["replaced"], came["pid"], came["trouble"]) == (first, running(beside.home), "")
        assert came["pid"] != first
        assert "loginctl enable-linger" in came["advice"][0]
        (message,) = code.poll(timeout=20)
        assert message.id == receipt.id
        message.done()
        again = beside.json("service", "install")
        assert (again["written"], again["pid"]) == (False, came["pid"])
        assert beside.run("service", "status").returncode == 0


def test_a_daemon_that_is_killed_comes_back_as_a_service_although_a_client_is_there(beside: Machine) -> None:
    pid = beside.json("service", "install")["pid"]
    with zmesh.connect("code", home=beside.home) as code:
        for _ in range(2):
            os.kill(pid, signal.SIGKILL)
            assert code.poll() == []
            now = running(beside.home)
            assert now not in (None, 0, pid)
            assert served(beside)()
            pid = now


def test_told_to_end_it_stays_down_and_the_next_program_has_the_service_start_it(beside: Machine) -> None:
    beside.json("service", "install")
    with zmesh.connect("code", home=beside.home) as code:
        code.call("daemon.down")
    until(lambda: running(beside.home) is None, 20)
    assert not served(beside)()
    with zmesh.connect("code", home=beside.home):
        assert served(beside)()


def test_taken_out_it_ends_and_leaves_nothing(beside: Machine, user: Path) -> None:
    pid = beside.json("service", "install")["pid"]
    gone = beside.json("service", "uninstall")
    assert (gone["removed"], gone["ended"], gone["trouble"]) == (True, pid, "")
    assert running(beside.home) is None
    assert [path for path in (user / ".config").rglob("*") if not path.is_dir()] == []
