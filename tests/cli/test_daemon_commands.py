"""`zmesh up`, `status` and `down` as processes; and the daemon that they bring up, look at and end."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import zmesh
from tests.cli.commands import Machine, until
from tests.daemon_home import PORT, daemon_pid, kill_daemon
from zmesh.daemon.place import place_of

OTHER_PORT = PORT + 2_000
"""Where daemons of these tests listen that are told where."""


@contextmanager
def visiting(laptop: Machine) -> Iterator[None]:
    """A peer `studio` with the agent `browser` is there."""
    over = threading.Event()

    async def visit() -> None:
        async with zmesh.Peer("studio", home=laptop.home, discovery=["rendezvous"], bind="tcp://127.0.0.1:*") as studio:
            await studio.agent("browser", role="researcher", capabilities=["web", "\U0001f600"])
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(visit()))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_it_is_brought_up_looked_at_and_ended(laptop: Machine) -> None:
    up = laptop.run("up")
    assert up.returncode == 0, up.stderr
    pid = daemon_pid(laptop.home)
    assert up.stdout.splitlines()[0].startswith(f"laptop is up: process {pid}, zmesh {zmesh.__version__}, for ")
    assert f":{PORT}" in up.stdout
    again = laptop.run("up")
    assert (again.returncode, daemon_pid(laptop.home)) == (0, pid)
    assert f"laptop is up already: process {pid}" in again.stdout
    assert laptop.run("status").stdout.startswith(f"laptop is up: process {pid}")
    down = laptop.run("down")
    assert (down.returncode, down.stdout) == (0, f"the daemon, process {pid}, is down\n")
    assert daemon_pid(laptop.home) == 0
    assert laptop.run("status").returncode == 1


def test_all_of_them_speak_json(laptop: Machine) -> None:
    told = laptop.json("up", "--name", "tower")
    running = {
        "running", "name", "version", "pid", "home", "since", "uptime", "endpoints", "door", "clients", "health",
        "linked", "outgoing", "mailboxes", "parts", "traffic", "troubles",
    }  # fmt: skip
    assert set(told) == running | {"started"}
    assert (told["started"], told["name"]) == (True, "tower")
    assert (told["health"], {part["part"]: part["state"] for part in told["parts"]}) == (
        "healthy", {"store": "healthy", "link": "healthy", "door": "healthy", "discovery": "healthy"},
    )  # fmt: skip
    assert laptop.json("up")["started"] is False
    found = laptop.json("status")
    assert set(found) == running
    assert (found["pid"], found["clients"], found["linked"], found["mailboxes"]) == (told["pid"], [], [], {})
    assert laptop.json("down") == {"ended": told["pid"]}
    assert laptop.json("down") == {"ended": None}


def test_a_daemon_that_does_not_run_is_not_started_by_a_look(laptop: Machine) -> None:
    looked = laptop.run("status")
    assert (looked.returncode, looked.stderr) == (1, "")
    assert "does not run: `zmesh up` starts it" in looked.stdout
    looked = laptop.run("status", "--json")
    assert (looked.returncode, json.loads(looked.stdout)) == (1, {"running": False})
    ended = laptop.run("down")
    assert (ended.returncode, ended.stdout) == (0, "the daemon of this machine does not run\n")
    assert daemon_pid(laptop.home) == 0
    (place_of(laptop.home).directory / "socket").touch()
    assert laptop.run("status").returncode == 1


def test_it_says_who_is_there_and_what_waits(laptop: Machine) -> None:
    with zmesh.connect("code") as code, zmesh.connect("ann") as ann:
        for _ in range(3):
            ann.send("code", "x")
        (first,) = code.take(1)
        ann.send("nobody@elsewhere", "x")
        told = laptop.json("status")
        text = laptop.run("status").stdout
    mine = os.getpid()
    assert {"pid": mine, "mailbox": "code", "holds": 1} in told["clients"]
    assert (told["mailboxes"], told["outgoing"]) == ({"code": 3}, 1)
    assert f"code (process {mine}, holds 1)" in text
    assert "to take    code 3" in text
    assert "to send    1 message\n" in text
    assert first.body == "x"


def test_one_that_runs_stays_as_it_is_and_that_is_said(laptop: Machine) -> None:
    laptop.run("up")
    pid = daemon_pid(laptop.home)
    for words in (("--name", "tower"), ("--port", "17555"), ("--peer", "192.0.2.7")):
        said = laptop.fails(1, "up", *words)
        assert f"`zmesh down`, then `zmesh up {' '.join(words)}`" in said
    assert laptop.run("up", "--name", "Laptop", "--port", str(PORT)).returncode == 0
    assert daemon_pid(laptop.home) == pid


def test_what_was_said_when_it_came_up_holds_until_it_is_told_to_end(laptop: Machine) -> None:
    told = laptop.json("up", "--name", "tower", "--port", str(OTHER_PORT), "--peer", "192.0.2.7")
    assert any(endpoint.endswith(f":{OTHER_PORT}") for endpoint in told["endpoints"])
    laptop.run("send", "--as", "ann", "code@tower", "x")
    kill_daemon(laptop.home)
    assert "code@tower" in laptop.run("send", "--as", "ann", "code@tower", "y").stdout
    back = laptop.json("status")
    assert back["name"] == "tower"
    assert any(endpoint.endswith(f":{OTHER_PORT}") for endpoint in back["endpoints"])
    laptop.run("down")
    assert laptop.json("up")["name"] == "laptop"


def test_wrong_words_are_told_before_anything_is_started(laptop: Machine) -> None:
    assert "not a valid peer name" in laptop.misuses("up", "--name", "no name")
    assert "no address of a peer" in laptop.misuses("up", "--peer", "http://x")
    assert laptop.misuses("up", "--port", "65535")
    (laptop.home / "config.toml").write_text("port = 'x'\n")
    said = laptop.fails(1, "up")
    assert "config.toml" in said
    assert daemon_pid(laptop.home) == 0


def test_a_port_that_is_taken_is_told(laptop: Machine) -> None:
    import socket  # noqa: PLC0415

    with socket.create_server(("", PORT)):
        up = laptop.run("up")
    assert up.returncode == 0
    assert "TROUBLE    " in up.stdout
    assert str(PORT) in up.stdout.split("TROUBLE")[1]


def test_its_environment_has_nothing_of_an_agent_or_a_token(laptop: Machine) -> None:
    if not Path("/proc").exists():
        pytest.skip("reads the environment through /proc")
    laptop.run("up", **dict.fromkeys(("CLAUDE_CODE_SESSION_ID", "ZMESH_AGENT", "SOME_TOKEN"), "secret"))
    environment = Path(f"/proc/{daemon_pid(laptop.home)}/environ").read_bytes()
    assert b"secret" not in environment
    assert b"ZMESH_HOME" in environment


@pytest.mark.skipif(sys.platform == "win32", reason="ended in another way there")
def test_in_the_foreground_it_says_who_comes_and_goes_and_serves_programs(laptop: Machine) -> None:
    with laptop.start("up", "--foreground", "--json") as hosting:
        device = hosting.event("device")
        up = hosting.event("up")
        assert up["name"] == "laptop"
        assert laptop.json("status")["pid"] == hosting.process.pid
        assert "runs already" in laptop.fails(1, "up", "--foreground")
        assert laptop.run("send", "--as", "ann", "code@laptop", "x").returncode == 0

        with visiting(laptop):
            assert hosting.event("linked")["name"] == "studio"
        assert hosting.event("gone")["name"] == "studio"
        assert hosting.end(signal.SIGTERM) == (0, "")
    assert json.loads(hosting.lines[-1]) == {"event": "down", "name": "laptop"}
    assert device["device"]
    assert laptop.run("status").returncode == 1


def test_a_foreground_daemon_can_be_told_to_end(laptop: Machine) -> None:
    with laptop.start("up", "--foreground", "--json", "--name", "tower") as hosting:
        hosting.event("up")
        assert laptop.json("down") == {"ended": hosting.process.pid}
        until(lambda: hosting.process.poll() is not None)
        assert hosting.end() == (0, "")
