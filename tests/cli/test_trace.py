"""`zmesh trace` as a process, and what it draws: nothing that was not seen, and no time that is not known."""

import re
from typing import Any

import pytest

import zmesh
from tests.cli.commands import Machine
from tests.daemon_home import kill_daemon
from zmesh.cli.trace import UNKNOWN, drawn

SOON = 20.0
TIME = r"\d\d:\d\d:\d\d\.\d\d\d"


def shown(laptop: Machine, ident: bytes) -> list[str]:
    """The lines of a trace, without the times that are known."""
    ended = laptop.run("trace", ident.hex())
    assert ended.returncode == 0, ended.stderr
    return [" ".join(re.sub(rf"{TIME}|\+\d+\.\d\d\ds", "T", line).split()) for line in ended.stdout.splitlines()]


def test_the_life_of_a_message_is_drawn_with_its_times(laptop: Machine) -> None:
    with zmesh.connect("code") as code, zmesh.connect("ann") as ann:
        receipt = ann.send("code", "x", type="note")
        (message,) = code.take(timeout=SOON)
        assert shown(laptop, receipt.id) == [
            "to code@laptop",
            "in the mailbox code, from laptop, note from ann@laptop, whose clock said T",
            "T given to the daemon, and kept on disk",
            "T T stored at laptop",
            "T T taken",
        ]
        message.done({"text": "an answer"})
        receipt.handled(SOON)
        assert shown(laptop, receipt.id)[-2:] == ["T T taken", "T T handled at laptop"]
        told = laptop.json("trace", receipt.id.hex())
        assert [step["what"] for step in told["steps"]] == ["given", "stored", "taken", "handled", "done"]
        assert [step["at"] for step in told["steps"]] == sorted(step["at"] for step in told["steps"])
        assert (told["id"], told["outgoing"]["state"]) == (receipt.id.hex(), "handled")
        assert [(one["mailbox"], one["state"], one["attempts"]) for one in told["incoming"]] == [("code", "handled", 1)]
        (answer,) = ann.take(timeout=SOON)
        assert shown(laptop, answer.id)[2:4] == ["T given to the daemon, and kept on disk", "T T stored at laptop"]
        answer.nack()
        assert shown(laptop, answer.id)[-1] == "T T given back"


def test_after_the_daemon_was_killed_states_are_known_and_times_are_not(laptop: Machine) -> None:
    with zmesh.connect("code") as code, zmesh.connect("ann") as ann:
        receipt, waits = ann.send("code", "x"), ann.send("nobody@elsewhere", "x")
        (message,) = code.take(timeout=SOON)
        message.done()
        receipt.handled(SOON)
    kill_daemon(laptop.home)
    assert shown(laptop, receipt.id) == [
        "to code@laptop",
        "in the mailbox code, from laptop",
        f"{UNKNOWN} given to the daemon, and kept on disk",
        f"{UNKNOWN} handled at laptop",
    ]
    assert shown(laptop, waits.id)[1:] == [
        f"{UNKNOWN} given to the daemon, and kept on disk",
        "T now waiting; nobody knows that peer yet",
    ]


def test_what_was_never_here_is_told(laptop: Machine) -> None:
    assert "no message 0000" in laptop.fails(1, "trace", "0" * 32)
    assert "no message id" in laptop.misuses("trace", "0" * 31)


@pytest.mark.parametrize(
    ("state", "seen", "last"),
    [
        ("sent", ["given"], "now sent (slow); studio is linked"),
        ("refused", ["given", "refused"], "refused at studio (slow)"),
        ("dead", ["given", "stored"], f"{UNKNOWN} dead at studio (slow)"),
        ("expired", [], f"{UNKNOWN} expired at studio (slow)"),
    ],
)
def test_of_a_message_to_elsewhere_only_what_was_heard_is_drawn(state: str, seen: list[str], last: str) -> None:
    outgoing = {"address": "b@studio", "peer": "studio", "linked": True, "state": state, "detail": "slow", "sender": ""}
    steps = [{"at": 1.5 + number, "what": what} for number, what in enumerate(seen)]
    lines = list(drawn({"outgoing": outgoing, "incoming": [], "steps": steps}))
    assert lines[0] == "to b@studio"
    assert " ".join(lines[-1].split()).endswith(last)
    assert (UNKNOWN in lines[1]) == ("given" not in seen)


def test_of_a_message_from_elsewhere_it_is_told_what_became_of_it_here() -> None:
    one: dict[str, Any] = {"mailbox": "code", "peer": "", "state": "handled", "attempts": 2, "sender": ""}
    lines = list(drawn({"outgoing": None, "incoming": [one], "steps": []}))
    assert lines == [
        "in the mailbox code, from a peer that is not known any more",
        f"  {UNKNOWN}            handled here, taken 2 times",
    ]
    done = [{"at": 1.0, "what": "taken"}, {"at": 2.25, "what": "done"}]
    assert list(drawn({"outgoing": None, "incoming": [one], "steps": done}))[-1].split()[1:] == ["+1.250s", "done"]
