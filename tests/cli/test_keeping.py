"""`zmesh admin compact`, `purge`, `quota` and `settings` as processes."""

import pytest

import zmesh
from tests.cli.commands import Machine, until
from tests.daemon_home import daemon_pid
from zmesh.cli.keeping import size


def kinds(laptop: Machine) -> list[str]:
    """What the audit log says was done, the latest last."""
    return [line["kind"] for line in laptop.json("admin", "log") if line["text"].startswith("done")]


def test_the_store_is_made_smaller_while_it_is_used(laptop: Machine) -> None:
    with zmesh.connect("code") as code:
        for _ in range(60):
            code.send("code", bytes(200_000))
        while code.poll(timeout=0):
            pass
        pid = daemon_pid(laptop.home)
        told = laptop.json("admin", "compact")
        assert told["before"]["file"] + told["before"]["log"] > told["after"]["file"]
        assert (told["after"]["free"], told["after"]["log"]) == (0, 0)
        assert (laptop.home / "peers" / "laptop" / "store.db").stat().st_size >= told["after"]["file"]
        shown = laptop.run("admin", "compact").stdout.splitlines()
        assert [line.split()[0] for line in shown] == ["before", "after"]
        assert code.send("code", "x").state == "stored"
    assert daemon_pid(laptop.home) == pid
    assert kinds(laptop) == ["admin.compact"] * 2


def test_on_a_terminal_it_shows_how_far_it_is(laptop: Machine) -> None:
    code, seen = laptop.on_terminal("admin", "compact")
    assert code == 0, seen
    assert "giving back" in seen
    assert seen.rstrip().splitlines()[-1].startswith("after")


@pytest.mark.parametrize(
    ("octets", "words"), [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1 << 31, "2.0 GiB")]
)
def test_sizes_are_written_with_a_unit(octets: int, words: str) -> None:
    assert size(octets) == words


def test_ended_messages_are_forgotten_as_far_as_it_was_said(laptop: Machine) -> None:
    with zmesh.connect("code") as code:
        code.send("code", "to be handled")
        assert len(code.poll(timeout=20)) == 1
        code.poll(timeout=0)
        late = code.send("nobody@nowhere", "to be cancelled")
        late.cancel()
        until(lambda: late.refresh() == "expired")
        code.send("nobody@nowhere", "waits")
        counted = laptop.json("admin", "purge", "--expired", "--ended", "--dry-run")
        states = {state: count["messages"] for state, count in counted["gone"]["sent"].items()}
        assert (counted["dry_run"], states) == (True, {"handled": 1, "expired": 1})
        assert kinds(laptop) == []
        shown = laptop.run("admin", "purge", "--older-than", "1h", "--mailbox", "code").stdout
        assert "nothing of that kind" in shown
        assert "known for the last" in shown
        went, known, _ = laptop.run("admin", "purge").stdout.splitlines()
        assert went.startswith("sent, expired ")
        assert " 1 went, " in went
        assert " ".join(known.split()) == "received, ended 1 stay known, so that none is ever taken twice"
        told = laptop.json("admin", "purge", "--ended", "--dead")
        assert told["gone"] == {"sent": {"handled": {"messages": 1, "bytes": told["gone"]["sent"]["handled"]["bytes"]}},
                                "received": {}}  # fmt: skip
        assert laptop.run("trace", late.id.hex()).returncode == 1
        assert laptop.json("status")["outgoing"] == 1
    assert kinds(laptop) == ["admin.purge"] * 3


def test_what_makes_no_sense_is_refused_before_anything_is_asked(laptop: Machine) -> None:
    assert "for ever" in laptop.misuses("admin", "purge", "--older-than", "never")
    assert "at most" in laptop.misuses("admin", "purge", "--older-than", "9000d")
    assert "agent name" in laptop.misuses("admin", "purge", "--mailbox", "a b")
    assert daemon_pid(laptop.home) == 0
    assert "no mailbox 'nobody' here" in laptop.fails(2, "admin", "purge", "--mailbox", "nobody")


def test_bounds_are_shown_with_their_use_and_changed_while_the_daemon_runs(laptop: Machine) -> None:
    with zmesh.connect("code") as code:
        code.send("code", "first")
        code.send("nobody@nowhere", "x" * 2000)
        rows = {(row["quota"], row["of"]): row for row in laptop.json("admin", "quota")}
        assert rows["mailbox", "code"]["messages"] == {"used": 1, "limit": 20_000}
        assert rows["peer", ""]["messages"]["used"] == 1
        shown = laptop.run("admin", "quota").stdout
        assert "1 of 20,000" in shown
        assert "of 512.0 MiB" in shown
        told = laptop.json("admin", "quota", "set", "mailbox.messages", "1")
        assert (told["effect"], told["value"]) == ("now", 1)
        with pytest.raises(zmesh.MeshFull, match="mailbox 'code' is full"):
            code.send("code", "second")
        assert (
            "mailbox.bytes = 1048576: it holds now" in laptop.run("admin", "quota", "set", "mailbox.bytes", "1M").stdout
        )
        assert "from 1 to" in laptop.fails(1, "admin", "quota", "set", "mailbox.messages", "0")
        assert "is no amount" in laptop.fails(1, "admin", "quota", "set", "mailbox.messages", "many")
        assert "not in the file any more" in laptop.run("admin", "quota", "unset", "mailbox.messages").stdout
        code.send("code", "second")
        laptop.run("down")
        rows = {(row["quota"], row["of"]): row for row in laptop.json("admin", "quota")}
        assert rows["mailbox", "code"]["bytes"]["limit"] == 1 << 20, "what was set outlives the daemon"
    assert kinds(laptop) == ["admin.set", "admin.set", "admin.unset"]


def test_settings_are_shown_and_changed_in_the_users_own_file(laptop: Machine) -> None:
    config = laptop.home / "config.toml"
    config.write_text(f"# mine\n{config.read_text()}")
    config.chmod(0o640)
    before = config.read_text()
    rows = {row["key"]: row for row in laptop.json("admin", "settings")}
    assert (rows["name"]["value"], rows["name"]["source"], rows["name"]["live"]) == ("laptop", "file", False)
    pid = daemon_pid(laptop.home)
    shown = laptop.run("admin", "settings").stdout
    assert "at the next start" in shown
    assert "at once" in shown
    assert laptop.json("admin", "settings", "set", "discovery", "rendezvous,static")["effect"] == "now"
    assert (
        "peers = tcp://127.0.0.1:9: it holds now"
        in laptop.run("admin", "settings", "set", "peers", "tcp://127.0.0.1:9").stdout
    )
    until(lambda: any("127.0.0.1:9" in trouble for trouble in laptop.json("status")["troubles"]))
    named = laptop.run("admin", "settings", "set", "name", "tower").stdout
    assert "zmesh down, then zmesh up" in named
    assert "mail stays with the name it has come to" in named
    assert any("another name" in trouble for trouble in laptop.json("status")["troubles"])
    assert "at the next start: name" in laptop.run("admin", "settings", "unset", "peers").stdout
    assert "no setting: did you mean 'peers'" in laptop.fails(1, "admin", "settings", "set", "peer", "x")
    said = config.read_text()
    assert said.startswith("# mine\n")
    assert said == before.replace('"laptop"', '"tower"').replace('["rendezvous"]', '["rendezvous", "static"]')
    assert config.stat().st_mode & 0o777 == 0o640
    assert daemon_pid(laptop.home) == pid
    assert laptop.json("admin", "settings", ZMESH_PEERS="192.0.2.7")[2]["source"] == "default", (
        "the daemon's environment"
    )
