"""`zmesh send`, `ask` and `wait` as processes: what is printed, what arrives, and with which exit code they end."""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

import zmesh
from tests.cli.commands import Machine
from tests.daemon_home import daemon_pid
from zmesh.daemon.client import ClientMessage

SOON = 20.0
RED = "\x1b[31m"
TURNED = "\u202e"  # right-to-left override


@contextmanager
def answering(reply: object) -> Iterator[None]:
    """An agent `code` that answers every message so."""
    with zmesh.connect("code") as code:
        code.on()(lambda _: reply)

        def listen() -> None:
            with suppress(zmesh.PeerClosed):
                code.listen(SOON)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield
        code.close()
        thread.join()


def received(laptop: Machine, *words: str, stdin: str = "") -> ClientMessage:
    """What arrives of a message that is sent so."""
    with zmesh.connect("code") as code:
        sent = laptop.run("send", *words, stdin=stdin)
        assert sent.returncode == 0, sent.stderr
        (message,) = code.poll(timeout=SOON)
    return message


def test_what_is_sent_is_told_and_arrives(laptop: Machine) -> None:
    with zmesh.connect("code") as code:
        printed = laptop.run("send", "--as", "ann", "code", "hello")
        (message,) = code.poll(timeout=SOON)
    assert (printed.returncode, printed.stderr) == (0, "")
    ident, address, state = printed.stdout.split()
    assert (ident, address, state) == (message.id.hex(), "code@laptop", "stored")
    assert (message.body, message.sender, message.type) == ({"text": "hello"}, "ann@laptop", "message")


def test_all_its_properties_can_be_said(laptop: Machine) -> None:
    thread, question = bytes(range(16)), bytes(range(16, 32))
    options = ("--type", "command", "--priority", "high", "--ttl", "1h", "--thread", thread.hex())
    message = received(laptop, "code", "[1, 2.5, null]", "--json-body", *options, "--reply-to", question.hex())
    assert (message.type, message.priority, message.body) == ("command", "high", [1, 2.5, None])
    assert (message.thread, message.reply_to) == (thread, question)


@pytest.mark.parametrize(
    ("words", "stdin", "body"),
    [
        ((), "a line\n", {"text": "a line"}),
        (("-",), "two\nlines\r\n", {"text": "two\nlines"}),
        (("--bytes",), "as\nit is\n", b"as\nit is\n"),
        (("--json-body",), '{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (("",), "not this", {"text": ""}),
    ],
)
def test_standard_input_is_sent_where_there_is_no_text(
    laptop: Machine, words: tuple[str, ...], stdin: str, body: object
) -> None:
    assert received(laptop, "code", *words, stdin=stdin).body == body


def test_a_message_that_is_empty_because_its_input_was_is_told(laptop: Machine) -> None:
    sent = laptop.run("send", "--as", "ann", "code@laptop")
    assert (sent.returncode, sent.stderr.splitlines()[0]) == (
        0,
        "warning: standard input is empty, and so is the message",
    )
    assert "empty" not in laptop.run("send", "--as", "ann", "code@laptop", "").stderr, "that was said so"


def test_what_was_sent_is_told_as_json_with_what_the_sender_should_know(laptop: Machine) -> None:
    told = laptop.json("send", "--as", "ann", "nobody@laptop", "hello")
    assert set(told) == {"id", "address", "state", "warning", "detail"}
    assert (told["address"], told["state"]) == ("nobody@laptop", "waiting")
    assert "nobody" in told["warning"]
    shown = laptop.run("send", "--as", "ann", "nobody@laptop", "hello")
    assert shown.stderr == f"warning: {told['warning']}\n"
    assert len(shown.stdout.split()) == 3


def test_a_sender_is_not_seen_as_somebody_who_takes_messages(laptop: Machine) -> None:
    laptop.run("send", "--as", "ann", "code@laptop", "hello")
    (ann,) = laptop.json("agents")
    assert (ann["address"], ann["status"], ann["reach"], ann["last_seen"]) == ("ann@laptop", "away", "", None)


def test_it_waits_until_the_message_is_handled(laptop: Machine) -> None:
    with answering(None):
        told = laptop.json("send", "code", "x", "--wait", "handled", "--timeout", "20s")
        assert told["state"] == "handled"
        assert laptop.run("wait", told["id"]).stdout.split()[2] == "handled"
        assert laptop.json("wait", told["id"], "--until", "stored")["state"] == "handled"


def test_a_wait_that_is_over_says_where_the_message_stands_and_ends_with_3(laptop: Machine) -> None:
    with zmesh.connect("code"):
        ended = laptop.run("send", "code", "x", "--wait", "handled", "--timeout", "0")
        ident, _, state = ended.stdout.split()
        assert (ended.returncode, state) == (3, "stored")
        assert "is stored, not handled" in ended.stderr
        assert laptop.run("wait", ident, "--timeout", "0").returncode == 3
        assert laptop.run("wait", ident, "--until", "stored").returncode == 0


def test_a_question_prints_its_answer(laptop: Machine) -> None:
    with answering({"text": "far\nvery far"}):
        asked = laptop.run("ask", "--as", "ann", "code", "how far?")
        assert (asked.stdout, asked.returncode) == ("far\nvery far\n", 0)
        told = laptop.json("ask", "--as", "ann", "code", "how far?")
    assert (told["body"], told["sender"], told["type"]) == ({"text": "far\nvery far"}, "code@laptop", "reply")


def test_a_question_without_an_answer_ends_with_3(laptop: Machine) -> None:
    with zmesh.connect("code"):
        assert "within 0.1 s" in laptop.fails(3, "ask", "code", "how far?", "--timeout", "0.1")


def test_an_answer_cannot_steer_a_terminal_unless_that_is_wished(laptop: Machine) -> None:
    with answering({"text": f"{RED}red{TURNED}\ttab\nline\r"}):
        assert laptop.on_terminal("ask", "code", "?") == (0, "\\x1b[31mred\\u202e\ttab\nline\\r\n")
        assert laptop.on_terminal("ask", "code", "?", "--raw") == (0, f"{RED}red{TURNED}\ttab\nline\r\n")
        assert laptop.run("ask", "code", "?").stdout == f"{RED}red{TURNED}\ttab\nline\n"  # \r\n is read as \n
    with answering(b"\x00\x7f"):
        assert laptop.run("ask", "code", "?").stdout == "\x00\x7f"


def test_what_is_wrong_in_itself_never_gets_to_a_daemon(laptop: Machine) -> None:
    for words in (
        ("send",),
        ("send", "code", "{", "--json-body"),
        ("send", "code", "x", "--bytes"),
        ("send", "code", "x", "--ttl", "soon"),
        ("send", "code", "x", "--thread", "ab"),
        ("send", "code", "x", "--priority", "hasty"),
        ("send", "code", "x", "--as", "no name"),
        ("ask", "code", "x", "--timeout", "soon"),
        ("wait", "xyz"),
    ):
        assert laptop.misuses(*words)
    assert 'in quotes, "hello world"' in laptop.misuses("send", "code", "hello", "world")
    assert "in quotes" in laptop.misuses("ask", "code", "--as", "ann", "who", "are you?")
    assert "say --bytes" in laptop.misuses("send", "code", "-", stdin=b"\xff\xfe")
    assert daemon_pid(laptop.home) == 0


def test_words_that_are_no_text_are_wrong_usage(laptop: Machine) -> None:
    for words in (("code@\udcff", "x"), ("code@laptop", "x", "--type", "\udcff")):
        assert "cannot be sent" in laptop.fails(2, "send", "--as", "ann", *words)


def test_what_the_daemon_refuses_is_a_line_and_an_exit_code(laptop: Machine) -> None:
    said = laptop.fails(1, "send", "nobody", "x")
    assert "no agent is called 'nobody'" in said
    assert "nobody@PEER, or nobody@laptop for one of this machine: the message then waits" in said
    assert laptop.run("send", "nobody@laptop", "x").returncode == 0
    assert "nobody" in laptop.fails(1, "send", "nobody@laptop", "x", "--strict")
    assert "not a valid agent name" in laptop.fails(2, "send", "no name", "x")
    assert "printable" in laptop.fails(2, "send", "code@laptop", "x", "--type", RED)
    assert "more than 262144 bytes" in laptop.fails(1, "send", "code@laptop", stdin="x" * 300_000)
    assert "no message 0" in laptop.fails(1, "wait", "0" * 32)
    told = laptop.fails(1, "send", "code", "x", ZMESH_HOME="/dev/null/home")
    assert "set ZMESH_HOME to another place" in told


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent in another way there")
def test_a_wait_can_be_broken_off_quietly(laptop: Machine) -> None:
    with zmesh.connect("code") as code:
        with laptop.start("send", "code", "x", "--wait", "handled", "--json") as sending:
            (message,) = code.poll(timeout=SOON)
            ended = sending.end(signal.SIGINT)
        assert ended == (130, "")
        assert [json.loads(told)["id"] for told in sending.lines] in ([message.id.hex()], [])  # [] before it is told
