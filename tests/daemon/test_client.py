"""Programs and their daemon, as real processes: messages, leases, and a daemon that is killed under them."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import zmesh
from tests.daemon_home import daemon_pid, kill_daemon
from zmesh.daemon.connecting import connected

SOON = 20.0
TAKER = """
import os
import zmesh
[message] = zmesh.connect('code').poll(timeout=20)
print(message.body, flush=True)
os._exit(9)
"""
pytestmark = pytest.mark.usefixtures("daemon_home")


def test_a_message_goes_from_one_program_to_another_and_its_answer_back(daemon_home: Path) -> None:
    with zmesh.connect("code") as code, zmesh.connect("browser") as browser:
        assert (code.address, code.peer) == ("code@laptop", "laptop")
        receipt = browser.send("code", {"text": "hello"}, type="greeting", priority="high")
        (message,) = code.poll(timeout=SOON)
        assert (message.body, message.type, message.priority) == ({"text": "hello"}, "greeting", "high")
        assert (message.sender, message.id) == ("browser@laptop", receipt.id)
        message.done({"text": "and to you"})
        receipt.handled(timeout=SOON)
        (answer,) = browser.poll(timeout=SOON)
        assert (answer.body, answer.reply_to) == ({"text": "and to you"}, receipt.id)
    assert daemon_pid(daemon_home)


def test_what_a_killed_program_had_taken_goes_to_the_next_one() -> None:
    with zmesh.connect("browser") as browser:
        receipt = browser.send("code@laptop", "work")
        script = (
            "import zmesh, os\n[m] = zmesh.connect('code').poll(timeout=20)\nprint(m.body, flush=True)\nos._exit(9)"
        )
        taken = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert (taken.stdout, taken.returncode) == ("work\n", 9), taken.stderr
        with zmesh.connect("code") as code:
            (message,) = code.poll(timeout=SOON)
            assert (message.id, message.attempt) == (receipt.id, 2)
            message.done()


def test_a_killed_daemon_is_started_again_and_leases_go_on(daemon_home: Path) -> None:
    with zmesh.connect("code") as code, zmesh.connect("browser") as browser:
        receipt = browser.send("code", "work")
        (message,) = code.take(timeout=SOON)
        first = kill_daemon(daemon_home)
        late = browser.send("code", "more")
        message.done("done")
        (answer,) = browser.poll(timeout=SOON)
        assert (answer.body, answer.reply_to) == ("done", receipt.id)
        (more,) = code.take(timeout=SOON)
        assert (more.id, more.attempt) == (late.id, 1)
        more.done()
        assert daemon_pid(daemon_home) not in (0, first)


def test_a_question_gets_its_answer_although_the_daemon_is_killed(daemon_home: Path) -> None:
    with zmesh.connect("code") as code, zmesh.connect("browser") as browser:
        answers: list[zmesh.MeshError | str] = []

        def ask() -> None:
            try:
                answers.append(browser.ask("code", "how far?", timeout=SOON).body)
            except zmesh.MeshError as error:
                answers.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        (question,) = code.take(timeout=SOON)
        kill_daemon(daemon_home)
        question.done("far")
        asking.join(2 * SOON)
        assert answers == ["far"]


def test_an_answer_that_came_while_the_daemon_was_away_is_found() -> None:
    async def answered_meanwhile() -> bytes:
        """The daemon's own peer, in this process: it stores the question and its answer, and nobody hears of it."""
        async with zmesh.Peer("laptop", discovery=[]) as peer:
            browser, code = await peer.agent("browser"), await peer.agent("code")
            receipt = await browser.send("code", "how far?", type="ask")
            (question,) = await code.poll(timeout=SOON)
            await question.done("far")
            return receipt.id

    import asyncio  # noqa: PLC0415

    ident = asyncio.run(answered_meanwhile())
    with zmesh.connect("browser") as browser:
        arguments = {
            "ident": ident, "to": "code", "body": [b"\xa8how far?", True], "timeout": SOON, "type": "ask",
            "priority": "normal", "strict": False, "again": True,
        }  # fmt: skip
        assert browser.call("ask", **arguments)["body"] == [b"\xa3far", True]
        assert browser.poll() == []


def test_a_daemon_that_was_told_to_end_stays_down_until_somebody_needs_it(
    daemon_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmesh.daemon.road.PATIENCE", 0.5)
    with zmesh.connect("code") as code:
        code.call("daemon.down")
        with pytest.raises(zmesh.DaemonUnreachable, match="`zmesh up` starts it again"):
            code.poll(timeout=60)
    assert daemon_pid(daemon_home) == 0
    with connected() as looking:
        assert looking.call("daemon.status")["name"] == "laptop"


def test_errors_of_the_daemon_come_as_they_are_raised_there() -> None:
    with zmesh.connect("code") as code:
        with pytest.raises(zmesh.UnknownAgent, match="nobody"):
            code.send("nobody@laptop", "x", strict=True)
        with pytest.raises(ValueError, match="priority"):
            code.send("code", "x", priority="hasty")
        with pytest.raises(zmesh.UnknownMessage):
            code.receipt(bytes(16))
        with pytest.raises(zmesh.BodyTooLarge):
            code.send("code", bytes(300_000))
        assert code.poll() == []
        with pytest.raises(zmesh.DaemonError, match="does not know 'dance'"):
            code.call("dance")
    with pytest.raises(zmesh.PeerClosed):
        code.send("code", "x")
