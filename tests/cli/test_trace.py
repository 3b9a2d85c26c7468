"""`zmesh trace` as a process, and what it draws: nothing that was not seen, and no time that is not known."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

import zmesh
from tests.cli.commands import Machine
from tests.daemon_home import PORT, kill_daemon
from tests.trust.support import DEVICES, bring_in
from tests.waiting import until
from zmesh.cli.trace import UNKNOWN, drawn
from zmesh.daemon.tracing import NOT_LINKED, SILENT
from zmesh.trust.trust_store import TrustStore

SOON = 20.0
TIME = r"\d\d:\d\d:\d\d\.\d\d\d"


@pytest.fixture
def studio(laptop: Machine) -> Iterator[Machine]:
    """Another machine of laptop's mesh, with a daemon of its own that is not up yet."""
    other = Machine(laptop.home.parent, "studio")
    stores = []
    for machine, device in zip((laptop, other), DEVICES, strict=False):
        machine.home.mkdir(mode=0o700, exist_ok=True)
        (machine.home / "device.key").touch(mode=0o600)
        (machine.home / "device.key").write_bytes(device.seed)
        stores.append(TrustStore(machine.home / "trust.db", device))
    with stores[0] as founder, stores[1] as elsewhere:
        founder.found("laptop")
        bring_in(founder, elsewhere)
    for machine, port, more in ((laptop, PORT, ""), (other, PORT + 2000, f'peers = ["tcp://127.0.0.1:{PORT}"]\n')):
        said = f'name = "{machine.name}"\ndiscovery = ["static"]\nport = {port}\n{more}'
        (machine.home / "config.toml").write_text(said.replace('"home"', '"laptop"'))
    yield other
    kill_daemon(other.home)


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


def test_two_daemons_draw_one_life_together_from_either_end(laptop: Machine, studio: Machine) -> None:
    with zmesh.connect("ann") as ann, zmesh.connect("code", home=studio.home) as code:
        ann.wait_for("code@studio", SOON)
        code.wait_for("ann@laptop", SOON)
        receipt = ann.send("code@studio", "x", type="note")
        receipt.stored(SOON)
        (message,) = code.take(timeout=SOON)
        there = laptop.json("trace", receipt.id.hex())["outgoing"]["there"]
        assert (there["peer"], there["said"], there["knows"], there["state"]) == ("studio", True, True, "leased")
        assert [step["what"] for step in there["steps"]] == ["stored", "taken"]
        message.done()
        receipt.handled(SOON)
        told = laptop.json("trace", receipt.id.hex())
        there = told["outgoing"]["there"]
        assert (there["state"], there["attempts"]) == ("handled", 1)
        assert [step["what"] for step in there["steps"]] == ["stored", "taken", "done"]
        given, handled = told["steps"][0]["at"], told["steps"][-1]["at"]
        for step in there["steps"]:  # one clock, as both run here: placed where it was, as exactly as it says
            assert given - there["within"] - 0.01 <= step["at"] <= handled + there["within"] + 0.01
        lines = shown(laptop, receipt.id)
        assert {"T T studio: stored", "T T studio: taken", "T T studio: done"} < set(lines)
        assert re.fullmatch(r"studio says it is handled; its times are right within \d\.\d{3} s", lines[-1])
        back = studio.json("trace", receipt.id.hex())
        assert [step["what"] for step in back["steps"]] == ["stored", "taken", "done"]
        assert [step["what"] for step in back["incoming"][0]["there"]["steps"]] == ["given", "stored", "handled"]
        assert "T T laptop: handled" in shown(studio, receipt.id)
        assert "laptop: given to it, and kept on disk" in "".join(shown(studio, receipt.id))
    kill_daemon(studio.home)
    with zmesh.connect("ann") as ann:
        asyncio.run(until(lambda: not any(peer["linked"] for peer in ann.peers()), SOON, "the end of the link"))
    silent = laptop.json("trace", receipt.id.hex())["outgoing"]["there"]
    assert (silent["said"], silent["why"]) == (False, NOT_LINKED)
    assert shown(laptop, receipt.id)[-1] == f"studio did not say what it knows: {NOT_LINKED}"


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


@pytest.mark.parametrize(
    ("there", "last"),
    [
        ({"said": False, "why": SILENT}, f"studio did not say what it knows: {SILENT}"),
        ({"said": True, "knows": False}, "studio knows of no such message"),
        (
            {"said": True, "knows": True, "state": "dead", "attempts": 8},
            "studio says it is dead, taken 8 times; it remembers no times",
        ),
    ],
)
def test_what_the_other_end_says_as_a_whole_comes_last(there: dict[str, Any], last: str) -> None:
    outgoing = {"address": "b@studio", "peer": "studio", "linked": True, "state": "stored", "detail": "", "sender": ""}
    lines = list(drawn({"outgoing": outgoing | {"there": {"peer": "studio", "steps": []} | there}, "incoming": [],
                        "steps": [{"at": 1.0, "what": "given"}, {"at": 2.0, "what": "stored"}]}))  # fmt: skip
    assert lines[-1] == f"  {last}"
    assert lines[-2].endswith("  stored at studio")


def test_of_a_message_from_elsewhere_it_is_told_what_became_of_it_here() -> None:
    one: dict[str, Any] = {"mailbox": "code", "peer": "", "state": "handled", "attempts": 2, "sender": ""}
    lines = list(drawn({"outgoing": None, "incoming": [one], "steps": []}))
    assert lines == [
        "in the mailbox code, from a peer that is not known any more",
        f"  {UNKNOWN}            handled here, taken 2 times",
    ]
    done = [{"at": 1.0, "what": "taken"}, {"at": 2.25, "what": "done"}]
    assert list(drawn({"outgoing": None, "incoming": [one], "steps": done}))[-1].split()[1:] == ["+1.250s", "done"]
