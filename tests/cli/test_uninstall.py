"""`zmesh uninstall` as a process: what goes, what stays, and what is never touched."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import zmesh
from tests.cli.commands import Machine
from tests.daemon_home import kill_daemon
from zmesh.daemon.belongings import KEYS, MAIL, SETTINGS, TRACES
from zmesh.daemon.ending import running
from zmesh.daemon.place import short_directory

CONFIGURATION = 'name = "laptop"\ndiscovery = ["rendezvous"]\nport = 17431\n'
PEER = """
import asyncio, sys, zmesh

async def main():
    async with zmesh.Peer("pipeline", bind="tcp://127.0.0.1:*", discovery=["rendezvous"]):
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own directory, and no service manager."""
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "user"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    return path


@pytest.fixture
def machine(user: Path) -> Iterator[Machine]:
    """A machine that is in a mesh, with a service, a daemon that runs, and mail in it."""
    machine = Machine(user, "home")
    machine.found()
    (machine.home / "config.toml").write_text(CONFIGURATION)
    machine.run("service", "install")
    with zmesh.connect("code", home=machine.home) as code:
        code.send("code", "mail")
    yield machine
    if machine.home.exists():
        kill_daemon(machine.home)


def names(folder: Path) -> set[str]:
    """All files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_it_leaves_nothing(machine: Machine, user: Path) -> None:
    pid = running(machine.home)
    (unit,) = (user / ".config/systemd/user").iterdir()
    done = machine.json("uninstall", "--purge", "--yes")
    assert (done["daemon"], done["service"]) == (pid, str(unit))
    assert set(done["removed"]) == {KEYS, MAIL, SETTINGS, TRACES}
    assert (done["rest"], done["kept"], done["home_left"]) == ([], {}, False)
    assert names(user) == set()
    assert not machine.home.exists()
    assert done["program"].endswith("zmesh-agents")
    again = machine.run("uninstall", "--purge", "--yes")
    assert again.returncode == 0
    assert "there is nothing of zmesh's" in again.stdout
    assert not machine.home.exists()


def test_after_an_invitation_nothing_is_left_either(machine: Machine) -> None:
    with machine.start("invite", "--json") as inviting:
        inviting.event("invited")
        inviting.end(signal.SIGINT)
    assert (machine.home / "invitations").is_dir()
    (machine.home / "invitations" / "94").touch()  # of one that was killed
    assert machine.json("uninstall", "--purge", "--yes")["rest"] == []
    assert not machine.home.exists()


def test_it_keeps_keys_mail_and_settings(machine: Machine, user: Path) -> None:
    key = (machine.home / "device.key").read_bytes()
    said = machine.run("uninstall", "--keep-data")
    assert said.returncode == 0, said.stderr
    assert "kept: 5 files, " in said.stdout
    assert names(user) == {
        f"home/{name}"
        for name in ("device.key", "trust.db", "config.toml", "peers/laptop/store.db", "peers/laptop/store.lock")
    }
    assert running(machine.home) is None
    assert (machine.home / "device.key").read_bytes() == key
    with zmesh.connect("code", home=machine.home) as code:
        assert [message.body for message in code.poll(timeout=20)] == ["mail"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--keep-data, or --purge"),
        (("--yes",), "--keep-data, or --purge"),
        (("--purge",), "say --yes too"),
        (("--purge", "--keep-data"), "contradict"),
    ],
)
def test_a_script_must_say_what_becomes_of_keys_and_mail(words: tuple[str, ...], said: str, user: Path) -> None:
    machine = Machine(user, "home")
    machine.found()
    before = names(user)
    assert said in machine.fails(2, "uninstall", *words)
    assert names(user) == before


def test_while_other_peers_of_the_home_run_nothing_happens(machine: Machine, user: Path) -> None:
    environment = os.environ | {"ZMESH_HOME": str(machine.home)}
    pid = running(machine.home)
    before = names(user)
    with subprocess.Popen(
        [sys.executable, "-c", PEER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as peer:
        assert peer.stdout is not None
        assert peer.stdout.readline() == "up\n"
        for words in (("--purge", "--yes"), ("--keep-data",)):
            said = machine.fails(1, "uninstall", *words)
            assert f"pipeline (process {peer.pid}). End them first; nothing was removed" in said
            assert "laptop" not in said
        assert running(machine.home) == pid
        assert before <= names(user)
        peer.communicate(timeout=30)
    assert machine.run("uninstall", "--purge", "--yes").returncode == 0
    assert names(user) == set()


def test_a_home_that_is_the_users_own_keeps_all_that_is_not_zmeshs(user: Path) -> None:
    machine = Machine(user.parent, user.name)  # ZMESH_HOME=$HOME
    theirs = {
        "notes.txt": "x", "trust.db-journal": "x", ".ssh/id": "x", "peers.txt": "x", "peers/anna/letters.db": "x",
        "peers/laptop/photo.jpg": "x", "daemon/notes": "x", "rendezvous/paris.json": "x", "app.db": "x",
        "invitations/94": "to the wedding",
    }  # fmt: skip
    machine_key = user / "device.key"
    for name, text in theirs.items():
        (user / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (user / name).write_text(text)
    (user / "config.toml").write_text(CONFIGURATION)
    (user / ".config.toml.ab12_xyz.new").write_text("one whose writer was kil")
    with zmesh.connect("code", home=user) as code:
        code.send("code", "mail")
    assert machine_key.exists()
    done = machine.json("uninstall", "--purge", "--yes")
    # The journal is of a database called trust.db, and that is zmesh's.
    del theirs["trust.db-journal"]
    assert names(user) == set(theirs)
    rest = {str(user / name) for name in ("notes.txt", ".ssh", "peers.txt", "peers/anna", "peers/laptop/photo.jpg")}
    assert rest <= set(done["rest"])
    assert str(user / "daemon/notes") in done["rest"]
    assert done["home_left"]


def test_a_home_of_somebody_else_is_not_touched_at_all(user: Path) -> None:
    theirs = {
        "device.key": "-----BEGIN OPENSSH PRIVATE KEY-----\n", "trust.db": "not one of ours", "config.toml": "",
        "daemon/lock": "of another program", "daemon/daemon.log": "x", "peers/anna/store.db": "x",
    }  # fmt: skip
    for name, text in theirs.items():
        (user / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (user / name).write_text(text)
    said = Machine(user.parent, user.name).run("uninstall", "--purge", "--yes")
    assert said.returncode == 0, said.stderr
    assert "there is nothing of zmesh's" in said.stdout
    assert names(user) == set(theirs)


def test_links_are_not_followed(machine: Machine, user: Path) -> None:
    outside = user / "outside"
    (outside / "deep").mkdir(parents=True)
    for name in ("store.lock", "store.db", "deep/store.lock", "0123.json", "daemon.log"):
        (outside / name).touch()
    (machine.home / "peers/linked").symlink_to(outside)
    (machine.home / "peers/laptop/other.db").symlink_to(outside / "store.db")
    (machine.home / "trust.db-journal").symlink_to(outside / "store.db")
    kill_daemon(machine.home)
    before = names(outside)
    done = machine.json("uninstall", "--purge", "--yes")
    assert names(outside) == before
    assert set(done["rest"]) == {
        str(machine.home / name) for name in ("peers/linked", "peers/laptop/other.db", "trust.db-journal")
    }


def test_a_home_behind_a_link_is_emptied_and_the_link_stays(machine: Machine, user: Path) -> None:
    kill_daemon(machine.home)
    machine.home.rename(user / "disk")
    machine.home.symlink_to(user / "disk")
    assert machine.run("uninstall", "--purge", "--yes").returncode == 0
    assert names(user) == set()
    assert machine.home.is_symlink()


def test_a_socket_among_the_temporary_files_goes_too(user: Path) -> None:
    machine = Machine(user, "x" * 100)
    machine.home.mkdir(mode=0o700)
    (machine.home / "config.toml").write_text(CONFIGURATION)
    with zmesh.connect("code", home=machine.home):
        assert short_directory(machine.home).exists()
    kill_daemon(machine.home)  # which leaves its socket
    assert machine.run("uninstall", "--keep-data").returncode == 0
    assert not short_directory(machine.home).exists()


def test_a_daemon_that_is_stopped_is_ended_all_the_same(machine: Machine) -> None:
    pid = running(machine.home)
    assert pid
    os.kill(pid, signal.SIGSTOP)
    assert machine.run("uninstall", "--purge", "--yes").returncode == 0
    assert not machine.home.exists()


def test_a_daemon_that_cannot_even_be_killed_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for patience in ("DRAINED", "KILLED"):
        monkeypatch.setattr(f"zmesh.daemon.ending.{patience}", 0.2)
    monkeypatch.setattr("zmesh.daemon.ending._signal", lambda *_: None)  # its disk hangs
    machine.inside = True
    pid = running(machine.home)
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        said = machine.run("uninstall", "--purge", "--yes")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert said.returncode == 1
    assert f"process {pid}, does not end" in said.stderr
    assert (machine.home / "device.key").exists()


def test_who_is_connected_does_not_bring_it_back(machine: Machine, user: Path) -> None:
    with zmesh.connect("code", home=machine.home) as code:
        assert machine.run("uninstall", "--purge", "--yes").returncode == 0
        with pytest.raises(zmesh.MeshError):
            code.poll(timeout=60)
    assert names(user) == set()


def test_who_listens_does_not_bring_it_back_where_data_is_kept(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmesh.daemon.road.PATIENCE", 1.0)
    with zmesh.connect("code", home=machine.home) as code:
        assert machine.run("uninstall", "--keep-data").returncode == 0
        with pytest.raises(zmesh.DaemonUnreachable):
            code.poll(timeout=10)
    assert running(machine.home) is None
    assert not (machine.home / "daemon").exists()


# --- at a terminal ---


def typed(machine: Machine, answer: str, *words: str) -> tuple[int, str]:
    """Run it at a terminal, and type an answer when it asks; returns exit code and what was shown."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"ZMESH_HOME": str(machine.home), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "zmesh", "uninstall", *words], env=environment, stdin=theirs, stdout=theirs,
        stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown, asked, end = b"", False, time.monotonic() + 30
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    shown += os.read(ours, 4096)
                except OSError:
                    break
            if not asked and b"]: " in shown:
                asked = os.write(ours, f"{answer}\n".encode()) > 0
        return process.wait(10), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_at_a_terminal_it_shows_what_there_is_and_asks(machine: Machine, user: Path) -> None:
    code, shown = typed(machine, "stop")
    assert code == 1
    assert running(machine.home)
    assert f"process {running(machine.home)}" in shown
    assert str(machine.home / "device.key") in shown
    assert str(machine.home / "peers/laptop") in shown
    assert "KiB" in shown
    assert typed(machine, "n", "--purge")[0] == 1
    assert running(machine.home)
    assert typed(machine, "keep")[0] == 0
    assert (machine.home / "device.key").exists()
    assert running(machine.home) is None
    assert typed(machine, "delete")[0] == 0
    assert names(user) == set()
