"""`zmesh peers` and `zmesh agents` as processes: tables and JSON, of what is there and of what has gone."""

import subprocess

import zmesh
from tests.cli.commands import Machine
from tests.cli.test_daemon_commands import visiting
from tests.daemon_home import daemon_pid
from zmesh.cli.roster import _peer_row


def test_nobody_is_there_yet_and_both_start_the_daemon(laptop: Machine) -> None:
    assert laptop.run("peers").stdout.startswith("no other peer is known yet: zmesh invite")
    assert daemon_pid(laptop.home)
    assert laptop.run("agents").stdout.startswith("no agent is known yet")
    assert (laptop.json("peers"), laptop.json("agents")) == ([], [])


def test_who_is_there_is_listed_and_who_has_gone_looks_so(laptop: Machine) -> None:
    with zmesh.connect("code", role="coder", project="zmesh") as code, visiting(laptop):
        code.wait_for("browser@studio", timeout=20)
        (peer,) = laptop.json("peers")
        assert set(peer) == {"name", "store", "linked", "agents", "queued", "trouble", "heard"}
        assert (peer["name"], peer["linked"], peer["agents"], peer["queued"]) == ("studio", True, ["browser"], 0)
        own, other = laptop.json("agents")
        assert (own["address"], own["role"], own["project"], own["reach"]) == (
            "code@laptop",
            "coder",
            "zmesh",
            "client",
        )
        assert (other["address"], other["capabilities"], other["fresh"]) == (
            "browser@studio",
            ["web", "\U0001f600"],
            True,
        )
        heads, *lines = laptop.run("agents").stdout.splitlines()
        assert heads.split() == ["AGENT", "STATUS", "ROLE", "CAN", "PROJECT", "REACH", "SEEN"]
        assert lines[0].split() == ["code@laptop", "idle", "coder", "zmesh", "client", "now"]
        assert lines[1].startswith("browser@studio")
        assert "web, \U0001f600" in lines[1]
        peers = laptop.run("peers").stdout.splitlines()
        assert peers[1].split()[:4] == ["studio", "linked", "1", "0"]
    heads, *lines = laptop.run("agents").stdout.splitlines()
    stale = next(line for line in lines if line.startswith("browser@studio"))
    assert "(stale: heard " in stale
    assert "not linked" in laptop.run("peers").stdout


def test_namesakes_are_told_apart() -> None:
    peer = {
        "name": "studio",
        "store": "abcdefghijkl",
        "linked": True,
        "agents": [],
        "queued": 0,
        "heard": 1.0,
        "trouble": "",
    }
    assert _peer_row(peer, {"studio"})[0] == "studio~abcdefgh"
    assert _peer_row(peer, ())[0] == "studio"


def test_a_table_has_colours_on_a_terminal_unless_they_are_not_wished(laptop: Machine) -> None:
    with zmesh.connect("code"):
        code, seen = laptop.on_terminal("agents", COLUMNS="100")
        assert code == 0
        assert "\x1b[" in seen
        code, seen = laptop.on_terminal("agents", NO_COLOR="1", COLUMNS="100")
        assert "\x1b[3" not in seen
        assert "code@laptop" in seen
        assert "\x1b" not in laptop.run("agents").stdout


def test_whoever_reads_the_list_may_go_away(laptop: Machine) -> None:
    for number in range(3):
        zmesh.connect(f"agent{number}").close()
    command = " ".join(laptop.shell("agents")) + " | head -1"
    ended = subprocess.run(  # noqa: S602
        command, shell=True, env=laptop.environment({}), capture_output=True, text=True, check=False
    )
    assert (ended.stdout.split()[0], ended.stderr) == ("AGENT", "")
