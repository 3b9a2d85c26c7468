"""The guardian by itself: what it keeps of an adapter's words, and that it goes with whoever has started it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.adapted import alive, command, noted
from tests.storm.processes import wait_until
from zmesh.daemon.guardian import LOG_BYTES, LOGS, READ, SAID, Log, harmless
from zmesh.peer.lock_file import LockFile

SOON = 20.0
posix = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


# --- the log ---


def test_the_last_line_is_the_last_that_says_something(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    assert log.last == ""
    log.note("begins")
    assert log.last == "", "that was not the adapter"
    log.take(b"Traceback\n  here\nValue")
    log.take(b"Error: no \xff\x1b[2J\n \n\n")
    assert log.last == "ValueError: no \ufffd?[2J"
    log.take(b"x" * (2 * READ))
    assert log.last == "x" * SAID
    assert (tmp_path / "log").read_bytes().splitlines()[0].endswith(b" begins")


def test_a_line_of_ours_begins_a_line(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.take(b"half")
    log.note("ends")
    log.take(b" whole\n")
    log.note("ends")
    kept = (tmp_path / "log").read_text()
    assert [line.startswith("--- ") for line in kept.splitlines()] == [False, True, False, True]


def test_files_are_turned_over_and_go_on_where_an_earlier_run_has_left_them(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0" * (LOG_BYTES - 10))
    log = Log(path)
    log.take(b"1" * 10)
    assert path.stat().st_size == LOG_BYTES
    for digit in b"23456":
        log.take(bytes([digit]) * (LOG_BYTES - 1))
    names = [path, *(tmp_path / f"log.{number + 1}" for number in range(LOGS))]
    assert [name.read_bytes()[:1] for name in names] == [b"6", b"5", b"4", b"3"]
    assert sorted(tmp_path.iterdir()) == sorted(names)
    full = Log(path)
    full.take(b"77")
    assert path.read_bytes() == b"77"


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    log = Log(tmp_path / "no" / "log")
    log.note("begins")
    log.take(b"said\n")
    assert log.last == "said"


def test_what_is_told_is_one_line_of_bounded_length() -> None:
    assert harmless("a\nb\x1b[0m\u202e" + "c" * SAID) == "a?b?[0m?" + "c" * (SAID - 8)


# --- the process ---


class Guardian:
    """One that is asked as the daemon does."""

    def __init__(self, home: Path, *words: str, program: tuple[str, ...] = ()) -> None:
        home.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zmesh.daemon.guardian"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.order = {
            "command": list(program or command(home, *words)), "environment": dict(os.environ), "directory": str(home),
            "log": str(home / "log"), "lock": str(home / "lock"),
        }  # fmt: skip

    def say(self, text: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def begin(self) -> None:
        self.say(json.dumps(self.order).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        heard: dict[str, Any] = json.loads(line) if line else {}
        return heard

    def leave(self) -> int:
        """Go, as a daemon that is killed, and wait for its end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            return self.process.wait(SOON)
        finally:
            self.process.kill()
            self.process.stdout.close()


@posix
def test_it_begins_nothing_for_who_has_gone(tmp_path: Path) -> None:
    silent = Guardian(tmp_path)
    assert silent.leave() == 0
    half = Guardian(tmp_path)
    half.say(b'{"command"')
    assert half.leave() == 0
    assert not (tmp_path / "lock").exists()


@posix
def test_it_waits_for_what_is_left_of_another_one(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock")
    lock.acquire()
    first, second = Guardian(tmp_path), Guardian(tmp_path)
    for guardian in (first, second):
        guardian.begin()
        assert guardian.hear() == {"waits": os.getpid()}
    assert first.leave() == 0, "it does not wait for ever"
    assert noted(tmp_path) == []
    lock.release()
    pid = second.hear()["started"]
    assert alive(pid)
    second.leave()
    assert not alive(pid)


@posix
def test_it_ends_what_it_guards_and_says_how_it_went(tmp_path: Path) -> None:
    guardian = Guardian(tmp_path, "children")
    guardian.begin()
    pid = guardian.hear()["started"]
    wait_until(lambda: noted(tmp_path), SOON, "it is at work")
    assert noted(tmp_path) == [pid]
    guardian.process.send_signal(signal.SIGHUP)  # to the daemon, and to all that is called as it is
    assert guardian.process.stdin is not None
    guardian.process.stdin.close()
    assert guardian.hear() == {"ended": -15, "said": ""}
    assert guardian.leave() == 0
    assert not alive(pid)
    assert not alive(noted(tmp_path, "children")[0])


@posix
def test_what_it_cannot_do_is_told(tmp_path: Path) -> None:
    missing = Guardian(tmp_path, program=("no-such\x1bprogram",))
    missing.begin()
    assert missing.hear() == {"refused": "[Errno 2] No such file or directory: 'no-such\\x1bprogram'"}
    assert missing.leave() == 1
    nowhere = Guardian(tmp_path)
    nowhere.order["lock"] = str(tmp_path / "no" / "lock")
    nowhere.begin()
    assert "cannot write" in nowhere.hear()["refused"]
    assert nowhere.leave() == 0
