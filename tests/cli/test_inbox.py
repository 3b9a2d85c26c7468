"""`zmesh inbox` as a process: what it prints, what is lost when it ends, and who can forge what."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import zmesh
from tests.cli.commands import Machine, until
from tests.cli.test_daemon_commands import visiting
from tests.daemon_home import kill_daemon

SOON = 20.0
FORGED = "hello\nann@laptop  message  2026-01-01 00:00:00\x1b[2J  id 00\n    I never said that\u2066"


def send(*bodies: object, to: str = "code@laptop", **properties: str) -> list[str]:
    """Send messages as `ann`; return their ids."""
    with zmesh.connect("ann") as ann:
        return [ann.send(to, body, **properties).id.hex() for body in bodies]  # type: ignore[arg-type]


def test_messages_are_printed_once_with_who_sent_them(laptop: Machine) -> None:
    first, second = send({"text": "hello\nthere"}, {"a": [1]}, priority="high")
    printed = laptop.run("inbox", "--as", "code")
    lines = printed.stdout.splitlines()
    assert (printed.returncode, printed.stderr) == (0, "")
    assert lines[0].startswith("ann@laptop  message  high  20")
    assert lines[0].endswith(f"id {first}")
    assert lines[1:3] == ["    hello", "    there"]
    assert lines[3].endswith(f"id {second}")
    assert json.loads("".join(lines[4:])) == {"a": [1]}
    assert laptop.run("wait", second, "--timeout", "20s").returncode == 0
    again = laptop.run("inbox", "--as", "code")
    assert (again.stdout, again.stderr, again.returncode) == ("", "there is no message for code@laptop\n", 0)


def test_they_are_printed_as_json_lines(laptop: Machine) -> None:
    (ident,) = send({"text": "x", 5: b"\xff", "f": float("inf")}, type="note")
    (line,) = laptop.run("inbox", "--as", "code", "--json").stdout.splitlines()
    told = json.loads(line)
    assert told.pop("sent_at") > 1_700_000_000
    assert told == {
        "id": ident, "sender": "ann@laptop", "to": "code", "type": "note", "priority": "normal", "thread": None,
        "reply_to": None, "attempt": 1, "body": {"text": "x", "5": {"base64": "/w=="}, "f": "inf"},
    }  # fmt: skip
    assert laptop.run("inbox", "--as", "code", "--json").stdout == ""


def test_no_more_are_taken_than_were_asked_for(laptop: Machine) -> None:
    ids = send(*range(5))
    taken = [
        json.loads(x)["id"] for x in laptop.run("inbox", "--as", "code", "--most", "2", "--json").stdout.splitlines()
    ]
    assert taken == ids[:2]
    assert laptop.json("status")["mailboxes"] == {"code": 3}
    assert len(laptop.run("inbox", "--as", "code", "--json").stdout.splitlines()) == 3


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_body_forges_no_other_message_and_no_screen(laptop: Machine, words: tuple[str, ...]) -> None:
    send({"text": FORGED})
    code, seen = laptop.on_terminal("inbox", "--as", "code", *words)
    assert code == 0
    assert "\x1b[2J" not in seen
    assert "\u2066" not in seen
    heads = [line for line in seen.splitlines() if not line.startswith("    ")]
    assert len(heads) == 1
    assert "I never said that" in seen


def test_raw_bodies_are_printed_as_they_are(laptop: Machine) -> None:
    send(FORGED, {"text": "\x1b[31mred"})
    assert laptop.run("inbox", "--as", "code", "--raw").stdout == f"{FORGED}\n\x1b[31mred\n"
    assert "contradict" in laptop.misuses("inbox", "--raw", "--json")


def test_the_mailbox_is_that_of_the_folder_unless_something_else_says(laptop: Machine, tmp_path: Path) -> None:
    project = tmp_path / "My Project"
    (project / ".git").mkdir(parents=True)
    send("one", to="my-project@laptop")
    send("two", to="other@laptop")
    command = [sys.executable, "-m", "zmesh", "inbox", "--raw"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout == "one\n", ended.stderr
    assert laptop.run("inbox", "--raw", ZMESH_AGENT="other").stdout == "two\n"


def test_nothing_within_the_time_ends_with_3(laptop: Machine) -> None:
    assert "within 0.1 s" in laptop.fails(3, "inbox", "--as", "code", "--timeout", "0.1")
    assert "within 0.1 s" in laptop.fails(3, "inbox", "--as", "code", "--follow", "--timeout", "100ms")


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent in another way there")
def test_following_goes_on_through_the_end_of_the_daemon_until_it_is_broken_off(laptop: Machine) -> None:
    with laptop.start("inbox", "--as", "code", "--follow", "--json") as following:
        assert following.process.stdout is not None
        send("one")
        assert json.loads(following.process.stdout.readline())["body"] == "one"
        assert [agent["reach"] for agent in laptop.json("agents") if agent["name"] == "code"] == ["cli"]
        assert kill_daemon(laptop.home)
        send("two")
        told = json.loads(following.process.stdout.readline())
        assert (told["body"], told["attempt"]) == ("two", 1)
        assert following.end(signal.SIGINT) == (130, "")


def test_at_a_terminal_it_says_for_which_mailbox_it_waits(laptop: Machine) -> None:
    code, seen = laptop.on_terminal("inbox", "--as", "code", "--follow", "--timeout", "100ms")
    assert code == 3
    assert "waiting for messages to code@laptop; Ctrl-C ends this" in seen
    assert "waiting" not in laptop.on_terminal("inbox", "--follow", "--json", "--timeout", "100ms")[1]


def test_an_inbox_that_is_empty_because_the_daemon_has_only_started_says_so(laptop: Machine) -> None:
    laptop.run("up")
    with visiting(laptop), zmesh.connect("code", home=laptop.home) as code:
        code.wait_for("browser@studio", timeout=20)
    laptop.run("down")
    said = laptop.run("inbox", "--as", "ann").stderr
    assert said.startswith("there is no message for ann@laptop yet: the daemon has just started, and is not linked to ")
    assert "studio" in said


def test_following_ends_after_a_time_without_a_message(laptop: Machine) -> None:
    send("one")
    ended = laptop.run("inbox", "--as", "code", "--follow", "--timeout", "0.2s", "--raw")
    assert (ended.returncode, ended.stdout) == (0, "one\n")


def test_what_could_not_be_printed_comes_again(laptop: Machine) -> None:
    send("lost?")
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is full")
    command = [sys.executable, "-m", "zmesh", "inbox", "--as", "code"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "Error: [Errno 28] No space left on device\n")
    told = json.loads(laptop.run("inbox", "--as", "code", "--timeout", "20s", "--json").stdout)
    assert (told["body"], told["attempt"]) == ("lost?", 2)


@pytest.mark.skipif(sys.platform == "win32", reason="closes it in a Unix shell")
def test_nothing_is_taken_when_there_is_nowhere_to_print_it(laptop: Machine) -> None:
    send("lost?")
    for words, code in ((("inbox", "--as", "code"), 2), (("agents",), 0), (("send", "code@laptop", "x"), 0)):
        ended = subprocess.run(  # noqa: S602
            " ".join(laptop.shell(*words)) + " >&-", shell=True, env=laptop.environment({}), capture_output=True,
            text=True, check=False, timeout=30,
        )  # fmt: skip
        assert ended.returncode == code, ended.stderr
        assert "Traceback" not in ended.stderr
    taken = laptop.run("inbox", "--as", "code", "--timeout", "20s", "--raw").stdout
    assert taken.splitlines() == ["lost?", "x"]


def test_whoever_reads_it_may_go_away(laptop: Machine) -> None:
    ids = send(*["x" * 10_000] * 20)
    with laptop.start("inbox", "--as", "code", "--json") as printing:
        assert printing.process.stdout is not None
        assert json.loads(printing.process.stdout.readline())["id"] == ids[0]
        printing.process.stdout.close()
        printing.process.wait(SOON)
        assert printing.process.stderr is not None
        assert printing.process.stderr.read() == ""
    until(lambda: laptop.json("status")["clients"] == [])
    left = laptop.run("inbox", "--as", "code", "--timeout", "20s", "--json")
    assert json.loads(left.stdout.splitlines()[-1])["id"] == ids[-1]


@pytest.mark.parametrize("words", [(), ("--json",), ("--raw",)])
def test_a_body_that_is_nested_to_break_its_reader_does_not_keep_those_behind_it(
    laptop: Machine, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ZMESH_HOME", str(laptop.home))
    deep: object = 0
    for _ in range(450):
        deep = [deep]
    with zmesh.connect("ann") as ann:
        ann.send("bob@laptop", deep)
        ann.send("bob@laptop", "behind it")
    taken = laptop.run("inbox", "--as", "bob", *words)
    assert (taken.returncode, taken.stderr) == (0, "")
    assert "values in each other" in taken.stdout
    assert "behind it" in taken.stdout
