"""`zmesh inbox --peek` as a process, and first lines of bodies, whatever is in them."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zmesh
from tests.cli.commands import Machine
from zmesh.cli.peek import LINE, first_line
from zmesh.protocol.bounds import MAX_ATTEMPTS, PEEKED_BYTES

SOON = 20.0


def test_what_is_there_is_shown_again_and_again_and_whoever_holds_it_goes_on(laptop: Machine) -> None:
    with zmesh.connect("ann") as ann, zmesh.connect("code") as code:
        first, second = (ann.send("code", {"text": text}, type="note").id.hex() for text in ("hi\nthere", "y" * 500))
        (message,) = code.take(1, SOON)
        for _ in range(2):
            told = laptop.json("inbox", "--as", "code", "--peek")
            assert (told["mailbox"], told["count"]) == ("code", 2)
            taken, waits = told["messages"]
            assert (taken["id"], taken["state"], taken["attempts"], taken["line"]) == (first, "leased", 1, "hi...")
            assert (waits["id"], waits["state"], waits["attempts"]) == (second, "waiting", 0)
            assert (waits["sender"], waits["type"], waits["priority"]) == ("ann@laptop", "note", "normal")
            assert 0 <= waits["age"] < SOON
            assert waits["sent_at"] > 1_700_000_000
        shown = laptop.run("inbox", "--as", "code", "--peek", "--limit", "1")
        heads, line = shown.stdout.splitlines()
        assert heads.split() == ["ID", "FROM", "TYPE", "PRIORITY", "STATE", "CAME", "TAKEN", "BODY"]
        assert line.split()[:5] == [first, "ann@laptop", "note", "normal", "leased"]
        assert shown.stderr == "and 1 more: --limit shows them\n"
        message.done()
        assert [each.id.hex() for each in code.take(10, SOON)] == [second]


def test_dead_messages_are_shown_apart(laptop: Machine) -> None:
    with zmesh.connect("ann") as ann, zmesh.connect("code") as code:
        ident = ann.send("code", "poison").id.hex()
        for _ in range(MAX_ATTEMPTS):
            (message,) = code.take(1, SOON)
            message.nack(0.0)
    assert laptop.run("inbox", "--as", "code", "--peek").stderr == "there is no message in the mailbox code\n"
    told = laptop.json("inbox", "--as", "code", "--peek", "--dead")
    assert [(each["id"], each["state"], each["line"]) for each in told["messages"]] == [(ident, "dead", "poison")]


def test_a_mailbox_that_is_not_there_is_not_made(laptop: Machine) -> None:
    said = laptop.fails(2, "inbox", "--as", "nobody", "--peek")
    assert "there is no mailbox 'nobody' here: zmesh inbox --as nobody makes it" in said
    assert laptop.json("mailbox", "list") == []


@pytest.mark.parametrize(
    "words",
    [
        ("--peek", "--follow"),
        ("--peek", "--most", "2"),
        ("--peek", "--raw"),
        ("--peek", "--timeout", "5s"),
        ("--dead",),
        ("--limit", "3"),
        ("--peek", "--limit", "0"),
        ("--peek", "--limit", "100000"),
    ],
)
def test_what_does_not_go_together_is_refused(laptop: Machine, words: tuple[str, ...]) -> None:
    laptop.misuses("inbox", *words)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"text": "one\ntwo"}, "one..."),
        ("\n\n  one", "one"),
        ({"a": [1, 2]}, "{..."),
        (None, "null"),
        ("x" * (LINE + 1), "x" * LINE + "..."),
    ],
)
def test_of_a_body_its_first_line_is_shown(body: object, line: str) -> None:
    packed = msgpack.packb(body)
    assert first_line(packed, len(packed), packed=True) == line


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"text": "\u00fc" * PEEKED_BYTES}, "\u00fc" * LINE + "..."),
        ("one\n" + "x" * PEEKED_BYTES, "one..."),
        ([b"x" * PEEKED_BYTES], f"({PEEKED_BYTES + 4} octets)..."),
    ],
)
def test_of_a_long_body_only_the_beginning_is_needed(body: object, line: str) -> None:
    packed = msgpack.packb(body)
    assert first_line(packed[:PEEKED_BYTES], len(packed), packed=True) == line
    assert first_line(b"plain\xff" + bytes(5), 1000, packed=False).startswith("plain\ufffd")


@given(st.binary(max_size=200), st.integers(0, 300), st.booleans())
def test_whatever_a_body_is_it_has_a_first_line(beginning: bytes, more: int, packed: bool) -> None:  # noqa: FBT001
    line = first_line(beginning, len(beginning) + more, packed=packed)
    assert "\n" not in line
    assert len(line) <= 2 * LINE
