"""Starting the daemon: once, whoever wants it, whatever happens meanwhile, and with nothing of its starter in it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import zmesh
from tests.daemon_home import daemon_pid, daemons, kill_daemon
from tests.faults.support import fill, small_disk
from tests.storm.processes import wait_until
from zmesh.daemon import process
from zmesh.daemon.connecting import connected
from zmesh.daemon.place import LOCK, Place, place_of
from zmesh.daemon.process import ERRORS, STARTING, clean, listens, start
from zmesh.errors import DaemonUnreachable
from zmesh.peer.lock_file import LockFile

SECRETS = {
    "CLAUDECODE": "1", "CLAUDE_CODE_SSE_PORT": "1", "CLAUDE_PID": "1", "CODEX_HOME": "x", "ZMESH_JOIN": "code",
    "ZMESH_AGENT": "code", "ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k", "GEMINI_API_KEY": "k", "GITHUB_TOKEN": "t",
    "my_secret": "s", "DB_PASSWORD": "p", "ZMESH_ALIVE": "7",
}  # fmt: skip


# --- the environment ---


def test_what_belongs_to_the_agent_that_starts_it_is_left_out() -> None:
    kept = {"PATH": "/bin", "HOME": "/home/me", "ZMESH_HOME": "/h", "ZMESH_PEERS": "tcp://a:1", "LANG": "C"}
    assert clean(kept | SECRETS) == kept


def test_relative_folders_of_python_are_found_from_elsewhere_too() -> None:
    said = clean({"PYTHONPATH": os.pathsep.join([".", "/abs", "lib"])})["PYTHONPATH"].split(os.pathsep)
    assert said == [str(Path.cwd()), "/abs", str(Path.cwd() / "lib")]


def test_a_daemon_has_nothing_of_its_starter(
    daemon_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    read, write = os.pipe()
    os.set_inheritable(write, True)  # noqa: FBT003 - its own
    start(daemon_home, place_of(daemon_home))
    pid = daemon_pid(daemon_home)
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert {entry.partition(b"=")[0].decode() for entry in environment} & set(SECRETS) <= {"ZMESH_ALIVE"}
    assert f"ZMESH_HOME={daemon_home}".encode() in environment
    assert Path(f"/proc/{pid}/cwd").resolve() == daemon_home
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(status[1]) != os.getpid(), "it is nobody's child"
    assert int(status[3]) != os.getsid(0), "it is in a session of its own"
    os.close(write)
    assert os.read(read, 1) == b"", "it has inherited no descriptor"
    os.close(read)


# --- once ---


def test_twenty_programs_at_once_start_one_daemon_and_all_are_answered(daemon_home: Path) -> None:
    script = "import zmesh; c = zmesh.connect('code'); print(c.call('daemon.status')['pid'])"
    programs = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(20)
    ]
    ended = [program.communicate(timeout=100) for program in programs]
    assert {out for out, _ in ended} == {f"{daemon_pid(daemon_home)}\n"}, [error for _, error in ended if error]
    assert daemons(daemon_home) == [daemon_pid(daemon_home)]


def test_a_starter_that_is_killed_while_it_starts_leaves_it_to_the_others(daemon_home: Path) -> None:
    place = place_of(daemon_home)
    script = (
        "import sys; from pathlib import Path; from zmesh.daemon import process\n"
        "from zmesh.daemon.place import place_of\n"
        "made = process._Started\n"
        "def started(*given):\n    made(*given); print('started', flush=True); sys.stdin.read()\n"
        "process._Started = started\n"
        f"process.start(Path({str(daemon_home)!r}), place_of(Path({str(daemon_home)!r})))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"started\n"
        starter.kill()
    start(daemon_home, place)
    pid = daemon_pid(daemon_home)
    wait_until(lambda: daemons(daemon_home) == [pid], 20, "there is one daemon")
    with zmesh.connect("code") as code:
        assert code.call("daemon.status")["pid"] == pid


def test_who_comes_while_another_one_starts_waits_for_that(daemon_home: Path) -> None:
    place = place_of(daemon_home)
    other = LockFile(place.directory / STARTING)
    other.acquire()
    ended: list[BaseException | None] = []

    def begin() -> None:
        try:
            start(daemon_home, place)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            ended.append(error)
        else:
            ended.append(None)

    waiting = threading.Thread(target=begin)
    waiting.start()
    other.release()
    waiting.join(60)
    assert ended == [None]
    assert listens(place)


def test_a_daemon_that_was_killed_while_it_started_is_started_again(
    daemon_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = process._Started  # noqa: SLF001
    began: list[int] = []

    def begin(home: Path, place: Place, words: tuple[str, ...]) -> process._Started:
        begun = made(home, place, words)
        began.append(1)
        if len(began) == 1:
            wait_until(lambda: daemons(home), 20, "it begins")
            for pid in daemons(home):
                os.kill(pid, signal.SIGKILL)
        return begun

    monkeypatch.setattr(process, "_Started", begin)
    start(daemon_home, place_of(daemon_home))
    assert len(began) == 2
    assert daemon_pid(daemon_home)


def test_a_daemon_that_is_coming_to_its_end_is_waited_for(daemon_home: Path) -> None:
    """Its socket is gone before its store is drained: who comes then must not be told that it runs already."""
    place = place_of(daemon_home)
    ending = LockFile(place.directory / LOCK)
    ending.acquire()
    results: list[object] = []

    def begin() -> None:
        with zmesh.connect("code") as code:
            results.append(code.call("daemon.status")["pid"])

    waiting = threading.Thread(target=begin)
    waiting.start()
    wait_until(lambda: daemons(daemon_home), 20, "the next one begins")
    ending.release()
    waiting.join(60)
    assert results == [daemon_pid(daemon_home)]


# --- what a kill leaves behind ---


def test_what_a_killed_daemon_leaves_behind_needs_no_human(daemon_home: Path) -> None:
    place = place_of(daemon_home)
    for _ in range(3):
        with zmesh.connect("code") as code:
            assert code.poll() == []
        assert kill_daemon(daemon_home)
        assert place.socket_path is not None
        assert place.socket_path.exists()
        assert not listens(place)


def test_a_port_that_others_have_by_now_is_no_daemon(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.daemon.place.UNIX", False)
    place = place_of(home)
    listener, _ = place.listen()
    with listener:
        place.connect(1.0).close()
        assert not listens(place), "nobody holds the daemon's lock"
        lock = LockFile(place.directory / LOCK)
        lock.acquire()
        assert listens(place)
        lock.release()


def test_a_stopped_daemon_is_there_and_none_is_started_beside_it(daemon_home: Path) -> None:
    start(daemon_home, place_of(daemon_home))
    pid = daemon_pid(daemon_home)
    os.kill(pid, signal.SIGSTOP)
    try:
        start(daemon_home, place_of(daemon_home))
        assert daemons(daemon_home) == [pid]
    finally:
        os.kill(pid, signal.SIGCONT)


# --- when it does not come up ---


def unreachable(call: Callable[[], object]) -> str:
    with pytest.raises(DaemonUnreachable) as caught:
        call()
    return str(caught.value)


def test_a_daemon_that_ends_at_once_shows_its_last_words(daemon_home: Path) -> None:
    (daemon_home / "config.toml").write_text("port = 'seven'\n")
    text = unreachable(lambda: zmesh.connect("code"))
    assert "has ended at once" in text
    assert "config.toml" in text
    assert daemons(daemon_home) == []


def test_a_daemon_that_does_not_come_up_in_time_is_told_of(daemon_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PATIENCE", 0.3)
    place = place_of(daemon_home)
    starter = LockFile(place.directory / STARTING)
    starter.acquire()
    assert "has said nothing" in unreachable(lambda: start(daemon_home, place))
    (place.directory / ERRORS).write_text("out of luck")
    assert "out of luck" in unreachable(lambda: start(daemon_home, place))
    starter.release()


def test_a_program_that_cannot_be_started_is_told_of(daemon_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(daemon_home / "no-python"))
    assert "cannot be started" in unreachable(lambda: start(daemon_home, place_of(daemon_home)))
    assert "cannot be started" in unreachable(lambda: connected(daemon_home))


def test_a_daemon_survives_its_starter(daemon_home: Path) -> None:
    script = "import zmesh, os; zmesh.connect('code'); os.kill(os.getpid(), 9)"
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", script], check=False, timeout=60, start_new_session=True)
    assert listens(place_of(daemon_home)), time.monotonic() - began


def test_a_disk_that_is_full_is_told_also_where_the_daemon_cannot_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it has to say would go to that disk."""
    with small_disk(tmp_path / "disk", "256k") as disk:
        monkeypatch.setenv("ZMESH_HOME", str(disk))
        place_of(disk)
        fill(disk)
        with pytest.raises(DaemonUnreachable, match="is full"):
            zmesh.connect("code")
