"""The kill storm on the daemon as a test: a short one always, a long one in the soak; and the test of its judge."""

import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import zmesh
from tests.daemon.storm.__main__ import FRAME
from tests.daemon.storm.nemesis import CREW, Storm
from tests.daemon.storm.verdict import judge
from tests.daemon.storm.worker import PEER
from tests.daemon_home import daemon_pid, daemons
from tests.storm.processes import disk_directory

SECONDS = int(os.environ.get("ZMESH_DAEMON_STORM_SECONDS", "20"))
SEED = int(os.environ.get("ZMESH_STORM_SEED", "0")) or secrets.randbits(32)


def storm(seconds: int) -> None:
    """Run a storm; it prints its totals and the command that repeats it."""
    verdict = FRAME.rage(seconds, SEED)
    assert verdict.offences == []
    assert verdict.totals["kills"] > seconds / 10
    assert verdict.totals["acknowledged"] > verdict.totals["kills"], "nothing much was sent between the kills"


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_whoever_is_killed() -> None:
    storm(SECONDS)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_two_minutes_of_kills() -> None:
    storm(120)


# --- the judge ---


@pytest.fixture(scope="module")
def aftermath() -> Iterator[Path]:
    """The store and the logs of a storm that is over before its first kill."""
    with disk_directory("zmesh-judge-") as path:
        assert Storm(1, path).run(0.0, print).offences == []
        yield path


@pytest.fixture
def evidence(aftermath: Path, tmp_path: Path) -> Path:
    """A copy of them, to be tampered with."""
    return Path(shutil.copytree(aftermath, tmp_path / "evidence", ignore=shutil.ignore_patterns("socket")))


def rule(evidence: Path) -> list[str]:
    return judge(evidence / "home", [evidence / f"{name}.log" for *_, name in CREW]).offences


def change(evidence: Path, sql: str) -> None:
    with closing(sqlite3.connect(evidence / "home" / "peers" / PEER / "store.db")) as connection, connection:
        assert connection.execute(sql).rowcount == 1


def line_of(evidence: Path, kind: str) -> tuple[Path, list[str]]:
    """A line of a kind, and the log it is in."""
    for *_, name in CREW:
        for line in (evidence / f"{name}.log").read_text().splitlines():
            if line.startswith(f"{kind} "):
                return evidence / f"{name}.log", line.split()
    raise AssertionError(f"no {kind} in any log")


def say(evidence: Path, kind: str, *words: str) -> None:
    """Write such a line again, with other words behind its id."""
    log, line = line_of(evidence, kind)
    with log.open("a") as file:
        file.write(" ".join([kind, line[1], *words]) + "\n")


def test_the_judge_finds_nothing_when_all_went_well(evidence: Path) -> None:
    assert rule(evidence) == []


def test_the_judge_finds_a_lost_message_and_one_that_was_not_handled(evidence: Path) -> None:
    _, (_, first, *_) = line_of(evidence, "S")
    change(evidence, f"UPDATE inbox SET state = 0 WHERE id = x'{first}'")  # noqa: S608
    assert any("acknowledged sends are not handled" in offence for offence in rule(evidence))
    assert any("were done and are not handled" in offence for offence in rule(evidence))
    change(evidence, f"DELETE FROM inbox WHERE id = x'{first}'")  # noqa: S608
    assert any("acknowledged sends are LOST" in offence for offence in rule(evidence))
    change(evidence, f"DELETE FROM outbox WHERE id = x'{first}'")  # noqa: S608
    assert any("not in the outbox" in offence for offence in rule(evidence))


def test_the_judge_finds_what_was_done_twice_or_came_after_its_end(evidence: Path) -> None:
    say(evidence, "D", "1")
    assert any("done twice" in offence for offence in rule(evidence))
    _, (_, ident, when) = line_of(evidence, "D")
    with line_of(evidence, "R")[0].open("a") as file:
        file.write(f"R {ident} 2 1 {int(when) + 10**12}\n")
    assert any("delivered after they were done" in offence for offence in rule(evidence))


def test_the_judge_finds_wrong_answers(evidence: Path) -> None:
    with (evidence / "north.log").open("a") as file:
        file.write("A 10 11\n" + "".join(f"P {number:032x} {7:032x}\n" for number in range(3)))
    offences = rule(evidence)
    assert any("answer another question" in offence for offence in offences)
    assert any("too many answers" in offence for offence in offences)


def test_a_process_that_is_a_daemon_of_the_home_is_found(daemon_home: Path) -> None:
    assert daemons(daemon_home) == []
    zmesh.connect("code").close()
    assert daemons(daemon_home) == [daemon_pid(daemon_home)]
    assert daemons(daemon_home.parent) == []
