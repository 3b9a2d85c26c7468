"""Homes in which something is in the place of the daemon's files: each is a line that names it, or no matter at all."""

import signal
import subprocess

import pytest

from tests.cli.commands import Machine
from tests.daemon_home import daemon_pid
from tests.storm.processes import wait_until
from zmesh.daemon.place import place_of
from zmesh.daemon.process import ERRORS, LOG, STARTING
from zmesh.daemon.wishes import FILE
from zmesh.errors import WaitTimeout

SOON = 20.0


@pytest.mark.parametrize("name", [LOG, ERRORS, STARTING, "lock", "socket"])
def test_what_is_in_the_place_of_a_file_is_named(laptop: Machine, name: str) -> None:
    at = place_of(laptop.home).directory / name
    at.mkdir()
    said = laptop.fails(1, "up")
    assert str(at) in said
    assert "directory" in said
    assert said.count("\n") == 1, "a line, and no traceback of the daemon's"
    assert laptop.run("status").returncode == 1
    assert laptop.run("down").returncode == 0
    at.rmdir()


@pytest.mark.parametrize("name", [FILE, "ended", "address.json"])
def test_what_only_helps_may_be_missing(laptop: Machine, name: str) -> None:
    (place_of(laptop.home).directory / name).mkdir()
    pid = laptop.json("up")["pid"]
    assert laptop.run("send", "--as", "ann", "ann@laptop", "x").returncode == 0
    assert laptop.json("down") == {"ended": pid}


def test_what_was_wished_of_a_daemon_that_was_killed_or_never_came_up_is_forgotten_by_down(laptop: Machine) -> None:
    for harm in ("kill", "fail"):
        if harm == "kill":
            assert laptop.json("up", "--name", "tower")["name"] == "tower"
            pid = daemon_pid(laptop.home)
            subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(pid)], check=True, timeout=SOON)
            wait_until(lambda pid=pid: daemon_pid(laptop.home) != pid, SOON, "it is gone")  # type: ignore[misc]
        else:
            socket = place_of(laptop.home).directory / "socket"
            socket.unlink(missing_ok=True)
            socket.mkdir()
            laptop.fails(1, "up", "--name", "tower")
            socket.rmdir()
        assert laptop.json("down") == {"ended": None}
        assert laptop.json("up")["name"] == "laptop"
        laptop.json("down")


def test_a_token_that_cannot_be_used_is_told_also_where_the_daemon_runs(
    laptop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait that is over is an `OSError` too, by which it is seen that no daemon runs."""

    tokens = ["one that is used up by the first attempt"]

    def join(_: str | None) -> None:
        if tokens:
            tokens.pop()
            raise WaitTimeout("nobody answers")

    laptop.json("up")
    monkeypatch.setattr("zmesh.cli.up._join", join)
    laptop.inside = True
    assert "nobody answers" in laptop.fails(3, "up")
