"""`zmesh admin pause`, `resume`, `drain`, `disconnect` and `reconnect`: two daemons of two devices, as processes."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.commands import Machine, until
from tests.daemon_home import PORT, daemon_pid, kill_daemon
from tests.mesh.crew import mesh_of_homes

PORTS = {"ada": PORT, "bob": PORT + 2_000}
SOON = 30.0


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines of one mesh whose daemons are up and linked; commands run in this process."""
    ada, bob = (Machine(tmp_path, name) for name in PORTS)
    for machine, other in ((ada, bob), (bob, ada)):
        machine.home.mkdir(mode=0o700)
        machine.inside = True
        (machine.home / "config.toml").write_text(
            f'name = "{machine.name}"\nport = {PORTS[machine.name]}\ndiscovery = ["static"]\n'
            f'peers = ["tcp://127.0.0.1:{PORTS[other.name]}"]\n'
        )
    mesh_of_homes({machine.name: machine.home for machine in (ada, bob)})
    try:
        for machine in (ada, bob):
            assert machine.run("up").returncode == 0
        until(lambda: linked(ada) == ["bob"] and linked(bob) == ["ada"], SOON)
        yield ada, bob
    finally:
        for machine in (ada, bob):
            kill_daemon(machine.home)


def linked(machine: Machine) -> list[str]:
    return [peer["name"] for peer in machine.json("peers") if peer["linked"]]


def trouble(machine: Machine) -> str:
    (peer,) = machine.json("peers")
    return str(peer["trouble"])


def send(machine: Machine, to: str, text: str) -> dict[str, str]:
    told: dict[str, str] = machine.json("send", "--as", machine.name, to, text)
    return told


def take(machine: Machine) -> list[str]:
    """The bodies of what lies in the mailbox that is named as the machine."""
    ended = machine.run("inbox", "--as", machine.name, "--json")
    return [json.loads(line)["body"]["text"] for line in ended.stdout.splitlines()]


@contextmanager
def stopped(machine: Machine) -> Iterator[None]:
    """Its daemon does nothing, as if its machine slept; its connections stay."""
    pid = daemon_pid(machine.home)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def audit(machine: Machine) -> list[tuple[str, str]]:
    return [(line["kind"], line["text"]) for line in machine.json("admin", "log")]


def test_a_pause_lasts_over_a_restart_and_mail_flows_after_it(machines: tuple[Machine, Machine]) -> None:
    ada, bob = machines
    take(ada)
    take(bob)
    said = ada.run("admin", "pause").stdout
    assert said == "paused: mail to and from other machines waits until `zmesh admin resume`\n"
    assert ada.json("admin", "pause")["changed"] is False
    until(lambda: "it is paused" in trouble(bob), SOON)
    there, back = send(ada, "bob@bob", "there"), send(bob, "ada@ada", "back")
    assert "zmesh admin resume" in there["warning"]
    assert ada.run("down").returncode == 0
    assert ada.run("up").returncode == 0
    assert linked(ada) == []
    assert "zmesh admin resume" in trouble(ada)
    status = ada.run("status").stdout
    assert f"PAUSED     since {time.strftime('%Y-')}" in status
    assert "by process " in status
    assert ada.json("status")["traffic"]["paused"]["by"].startswith("process ")
    assert "this peer is paused" in ada.fails(3, "wait", there["id"], "--until", "stored", "--timeout", "0")
    assert "paused" in [finding["check"] for finding in json.loads(ada.run("doctor", "--json").stdout)]
    assert send(ada, "ada@ada", "to myself")["state"] == "stored"
    assert take(ada) == ["to myself"]
    assert ada.run("admin", "resume").stdout == "resumed: mail goes on\n"
    assert "nothing was paused" in ada.run("admin", "resume").stdout
    until(lambda: linked(ada) == ["bob"] and linked(bob) == ["ada"], SOON)
    assert ada.run("wait", there["id"], "--until", "stored", "--timeout", "30s").returncode == 0
    assert bob.run("wait", back["id"], "--until", "stored", "--timeout", "30s").returncode == 0
    assert (take(ada), take(bob)) == (["back"], ["there"])
    kinds = [kind for kind, _ in audit(ada)]
    assert [kinds.count(f"admin.{verb}") for verb in ("pause", "resume")] == [4, 4]
    assert all("asks" in text or "done" in text for _, text in audit(ada))


def test_a_peer_is_disconnected_until_it_is_reconnected(machines: tuple[Machine, Machine]) -> None:
    ada, bob = machines
    take(bob)
    completed = ada.run(_ZMESH_COMPLETE="bash_complete", COMP_WORDS="zmesh admin disconnect b", COMP_CWORD="3").stdout
    assert completed == "plain,bob\n"
    name = str(ada.json("admin", "disconnect", "bob")["peer"])
    assert name.startswith("bob~")
    assert "it was so before" in ada.run("admin", "disconnect", name).stdout
    until(lambda: "it has disconnected this peer" in trouble(bob), SOON)
    sent = send(ada, "bob@bob", "later")
    assert f"zmesh admin reconnect {name}" in sent["warning"]
    for machine in machines:  # whichever is started anew
        assert machine.run("down").returncode == 0
        assert machine.run("up").returncode == 0
    assert linked(ada) == []
    assert f"zmesh admin reconnect {name}" in trouble(ada)
    assert f"CUT OFF    {name} since" in ada.run("status").stdout
    assert "no revocation" in ada.run("admin", "disconnect", "--help").stdout
    assert ada.run("admin", "reconnect", "bob").stdout == "bob is wanted again\n", "as it was asked for"
    assert ada.run("wait", sent["id"], "--until", "stored", "--timeout", "30s").returncode == 0
    assert take(bob) == ["later"]
    assert ada.run("admin", "reconnect", name).stdout == f"{name} was not disconnected\n"
    assert "did you mean bob?" in ada.fails(1, "admin", "disconnect", "bobb")
    assert any(kind == "admin.disconnect" and "not done: no peer is called 'bobb'" in text for kind, text in audit(ada))
    assert "zmesh admin pause" in ada.fails(2, "admin", "disconnect", "ada")


def test_a_daemon_is_drained_and_ended(machines: tuple[Machine, Machine]) -> None:
    ada, bob = machines
    take(bob)
    for number in range(5):
        send(ada, "bob@bob", str(number))
    send(ada, "x@nowhere", "for nobody")
    pid = daemon_pid(ada.home)
    drained = ada.run("admin", "drain", "--then-down")
    assert drained.returncode == 0, drained.stderr
    assert f"drained: the daemon, process {pid}, is down" in drained.stdout
    assert "not there yet: 1" in drained.stdout
    assert daemon_pid(ada.home) == 0
    assert take(bob) == list("01234")
    send(ada, "bob@bob", "a new daemon takes sends")


def test_who_is_drained_takes_no_sends_and_lists_what_stays(machines: tuple[Machine, Machine]) -> None:
    ada, bob = machines
    take(bob)
    assert bob.run("down").returncode == 0
    until(lambda: linked(ada) == [], SOON)
    send(ada, "bob@bob", "later")
    told = ada.json("admin", "drain")
    assert told["drained"]
    assert list(told["away"].values()) == [1]
    assert "`zmesh admin resume`" in ada.fails(1, "send", "--as", "ada", "bob@bob", "no")
    assert "DRAINING   by process" in ada.run("status").stdout
    said = ada.run("admin", "drain").stdout
    assert "kept for bob~" in said
    assert "drained: nothing new is taken until" in said
    assert ada.run("admin", "resume").stdout == "resumed: mail goes on\n"
    send(ada, "bob@bob", "yes")
    ada.run("admin", "pause")
    assert "paused" in ada.fails(1, "admin", "drain")


def test_a_drain_whose_time_is_over_is_exit_code_3(machines: tuple[Machine, Machine]) -> None:
    ada, bob = machines
    take(bob)
    with stopped(bob):
        sent = send(ada, "bob@bob", "slow")
        pid = daemon_pid(ada.home)
        errors = ada.fails(3, "admin", "drain", "--timeout", "0.1s", "--then-down")
        assert "still on the way" in errors
        assert daemon_pid(ada.home) == pid
    assert ada.run("admin", "drain", "--timeout", "30s").returncode == 0
    assert ada.run("wait", sent["id"], "--until", "stored", "--timeout", "0").returncode == 0
