"""The daemon under a service manager, as a real process; and what the managers that are not here would be told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import zmesh
from tests.daemon_home import daemon_pid, kill_daemon
from zmesh.daemon.ending import end, nobody_starts, running
from zmesh.daemon.place import place_of
from zmesh.daemon.process import listens, start
from zmesh.daemon.service import Launchd, Service, Systemd, TaskScheduler
from zmesh.daemon.service_files import WORDS
from zmesh.errors import DaemonUnreachable, ServiceError

ROOT = Path(__file__).parents[2]
SOON = 20.0
RECORDER = """#!/bin/sh
printf '%s\\n' "$*" >> "$RECORD"
exec {then}
"""


@contextmanager
def as_service(home: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """The daemon as a manager starts it; killed in the end."""
    process = subprocess.Popen(
        [sys.executable, *WORDS, *words], env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        kill_daemon(home)


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Managers' tools that do nothing but succeed, and a file in which each call is a line."""
    tools, record = tmp_path / "tools", tmp_path / "record"
    tools.mkdir()
    for name in ("systemctl", "launchctl", "schtasks"):
        (tools / name).write_text(RECORDER.format(then="true"))
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(record))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    record.touch()
    return record


# --- the daemon itself ---


def test_a_service_that_finds_a_daemon_running_is_content_and_is_not_started_again(daemon_home: Path) -> None:
    place = place_of(daemon_home)
    start(daemon_home, place)
    first = daemon_pid(daemon_home)
    with as_service(daemon_home) as service:
        assert service.communicate(timeout=SOON)[1].startswith(
            f"the daemon of this home runs already, as process {first}"
        )
        assert service.returncode == 0
        another = subprocess.run([sys.executable, *WORDS[:2]], capture_output=True, timeout=SOON, check=False)
        assert another.returncode == 1


def test_a_service_that_is_stopped_is_not_started_again_by_clients_that_were_connected(
    daemon_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmesh.daemon.road.PATIENCE", 0.5)
    with as_service(daemon_home) as service:
        wait_until(lambda: listens(place_of(daemon_home)), "the daemon listens")
        assert running(daemon_home) == service.pid
        with zmesh.connect("code") as code:
            service.send_signal(signal.SIGTERM)
            assert service.wait(SOON) == 0
            with pytest.raises(DaemonUnreachable, match="was ended"):
                code.poll(timeout=60)
        assert running(daemon_home) is None


def test_a_service_can_be_told_its_home(daemon_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZMESH_HOME", str(tmp_path / "another"))
    with as_service(daemon_home, "--home", str(daemon_home)):
        wait_until(lambda: listens(place_of(daemon_home)), "the daemon listens")
    assert not (tmp_path / "another").exists()


# --- ending it ---


def test_ending_says_whom_it_has_ended_and_makes_nothing_where_there_is_none(daemon_home: Path, tmp_path: Path) -> None:
    assert (running(tmp_path / "none"), end(tmp_path / "none")) == (None, None)
    assert not (tmp_path / "none").exists()
    start(daemon_home, place_of(daemon_home))
    pid = daemon_pid(daemon_home)
    assert running(daemon_home) == pid
    assert end(daemon_home) == pid
    assert running(daemon_home) is None
    assert daemon_pid(daemon_home) == 0


def test_who_was_connected_does_not_start_again_what_was_ended(
    daemon_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmesh.daemon.road.PATIENCE", 0.5)
    with zmesh.connect("code") as code:
        assert end(daemon_home)
        with pytest.raises(DaemonUnreachable, match="was ended"):
            code.poll(timeout=60)
    assert running(daemon_home) is None


def test_while_nobody_starts_it_clients_wait(daemon_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, nobody_starts(daemon_home) as place:
        patched.setattr("zmesh.daemon.process.PATIENCE", 0.3)
        with pytest.raises(DaemonUnreachable, match="does not come up"):
            start(daemon_home, place)
    start(daemon_home, place)
    assert daemon_pid(daemon_home)


# --- clients and the service ---


def test_a_client_asks_the_service_to_start_the_daemon(daemon_home: Path, recorder: Path) -> None:
    service = Systemd(daemon_home)
    tool = recorder.parent / "tools/systemctl"
    tool.write_text(RECORDER.format(then=f'setsid "{sys.executable}" {" ".join(WORDS)} >/dev/null 2>&1 &\n:'))
    service.write()
    place = place_of(daemon_home)
    start(daemon_home, place)
    assert recorder.read_text().splitlines() == [f"--user start {service.name}.service"]
    command = Path(f"/proc/{daemon_pid(daemon_home)}/cmdline")
    assert not command.exists() or b"--service" in command.read_bytes()


def test_a_client_starts_the_daemon_when_the_service_does_not(
    daemon_home: Path, recorder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmesh.daemon.service.CLIENT_PATIENCE", 0.1)
    Systemd(daemon_home).write()
    start(daemon_home, place_of(daemon_home))
    assert recorder.read_text()
    assert daemon_pid(daemon_home)


# --- the managers ---


def test_what_launchd_is_told(home: Path, recorder: Path) -> None:
    agent, domain = Launchd(home), f"gui/{os.getuid()}"
    assert agent.write()
    assert agent.file == recorder.parent / f"user/Library/LaunchAgents/{agent.name}.plist"
    agent.enable()
    assert agent.begin()
    agent.disable()
    assert recorder.read_text().splitlines() == [
        f"bootout {domain}/{agent.name}",
        f"enable {domain}/{agent.name}",
        f"bootstrap {domain} {agent.file}",
        f"kickstart {domain}/{agent.name}",
        f"print {domain}",
        f"print {domain}/{agent.name}",
        f"bootout {domain}/{agent.name}",
    ]


def test_what_the_task_scheduler_is_told(home: Path, recorder: Path) -> None:
    task = TaskScheduler(home)
    assert task.write()
    task.enable()
    assert task.begin()
    task.disable()
    assert recorder.read_text().splitlines() == [
        f"/Create /F /TN {task.name} /XML {home}/daemon/{task.name}.xml",
        f"/Run /TN {task.name}",
        f"/Query /TN {task.name} /FO CSV /NH",
        f"/Delete /F /TN {task.name}",
    ]


@pytest.mark.parametrize("kind", [Systemd, Launchd, TaskScheduler])
def test_a_file_is_written_once_and_one_of_somebody_else_is_left(
    kind: type[Service], home: Path, recorder: Path
) -> None:
    service = kind(home)
    assert not service.file.exists()
    assert service.write()
    assert service.installed
    assert not service.write()
    service.file.write_text("[Service]\nExecStart=/usr/bin/mine\n")
    with pytest.raises(ServiceError, match=r"is not zmesh's"):
        service.write()
    assert "mine" in service.file.read_text()
    service.file.unlink()
    service.file.symlink_to("/dev/null")  # as `systemctl mask` does
    with pytest.raises(ServiceError, match=r"is not zmesh's"):
        service.write()
    assert not recorder.read_text()


def test_homes_have_services_of_their_own(home: Path, tmp_path: Path, recorder: Path) -> None:
    usual = recorder.parent / "user/.local/share/zmesh"
    assert Systemd(usual).name == "zmesh"
    assert Systemd(usual).wanted().environment == {}
    assert len({Systemd(each).name for each in (usual, home, tmp_path / "other")}) == 3
    assert Systemd(home).wanted().environment == {"ZMESH_HOME": str(home)}


def test_a_daemon_whose_socket_lies_among_temporary_files_is_told_where_those_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    long = tmp_path / ("x" * 90)
    assert Systemd(long).wanted().environment["TMPDIR"] == str(tmp_path)
    assert "TMPDIR" not in Systemd(tmp_path / "x").wanted().environment
