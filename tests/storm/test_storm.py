"""The kill storm as a test, and the test of its judge: what it must notice is planted into a storm that went well."""

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.storm.__main__ import FRAME
from tests.storm.nemesis import SENDERS, Storm
from tests.storm.processes import disk_directory
from tests.storm.verdict import Verdict, judge
from tests.storm.worker import TARGET

KILLS = int(os.environ.get("ZMESH_STORM_KILLS", "50"))
SEED = int(os.environ.get("ZMESH_STORM_SEED", "0")) or secrets.randbits(32)
SECONDS_PER_KILL = 10  # on a very busy machine


def storm(kills: int, seed: int) -> None:
    """Run a storm; it prints its totals and the command that repeats it."""
    verdict = FRAME.rage(kills, seed)
    assert verdict.offences == []
    assert verdict.totals["kills"] == kills
    assert verdict.totals["acknowledged"] > kills, "nothing much was sent between the kills"


@pytest.mark.timeout(120 + SECONDS_PER_KILL * KILLS)
def test_nothing_acknowledged_is_lost_doubled_or_overtaken_whoever_is_killed() -> None:
    storm(KILLS, SEED)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_ten_thousand_kills() -> None:
    storm(10_000, SEED)


# --- the judge ---


@pytest.fixture(scope="module")
def aftermath() -> Iterator[Path]:
    """The stores and logs of a short storm."""
    with disk_directory("zmesh-judge-") as path:
        remains = Storm(1, path, keep=True)
        assert remains.run(2, print).offences == []
        yield path / "part-1"


@pytest.fixture
def evidence(aftermath: Path, tmp_path: Path) -> Path:
    """A copy of them, to be tampered with."""
    return Path(shutil.copytree(aftermath, tmp_path / "evidence"))


def store(evidence: Path, name: str) -> Path:
    return evidence / "peers" / name / "store.db"


def rule(evidence: Path) -> Verdict:
    senders = {store(evidence, name): evidence / f"{name}.log" for name in SENDERS}
    return judge(senders, store(evidence, TARGET), evidence / f"{TARGET}.log")


def change(evidence: Path, name: str, sql: str) -> None:
    with closing(sqlite3.connect(store(evidence, name))) as connection, connection:
        assert connection.execute(sql).rowcount == 1


def rewrite(evidence: Path, name: str, edit: Callable[[list[str]], list[str]]) -> None:
    log = evidence / f"{name}.log"
    log.write_text("".join(f"{line}\n" for line in edit(log.read_text().splitlines())))


def test_the_judge_finds_nothing_when_all_went_well(evidence: Path) -> None:
    verdict = rule(evidence)
    assert verdict.offences == []
    assert verdict.totals["acknowledged"] <= verdict.totals["stored"]


def test_the_judge_finds_a_lost_message(evidence: Path) -> None:
    change(evidence, TARGET, "DELETE FROM inbox WHERE row = 5")
    assert any("acknowledged sends are LOST" in offence for offence in rule(evidence).offences)


def test_the_judge_finds_a_message_that_its_sender_has_forgotten(evidence: Path) -> None:
    change(evidence, SENDERS[0], "DELETE FROM outbox WHERE row = 5")
    offences = rule(evidence).offences
    assert any("are not in the sender's store" in offence for offence in offences)
    assert any("stored that nobody sent" in offence for offence in offences)


def test_the_judge_finds_a_message_that_ended_otherwise(evidence: Path) -> None:
    change(evidence, SENDERS[1], "UPDATE outbox SET state = 9 WHERE row = 5")
    (offence,) = rule(evidence).offences
    assert offence.startswith("1 messages ended otherwise than stored: ")
    assert offence.endswith(" LOST")


def test_the_judge_finds_a_message_stored_twice(evidence: Path) -> None:
    change(
        evidence,
        TARGET,
        "INSERT INTO inbox SELECT (SELECT max(row) + 1 FROM inbox), id, 'another device', source, mailbox, klass, "
        "state, attempts, due, deadline, size FROM inbox WHERE row = 5",
    )
    assert any("ids are twice in an inbox" in offence for offence in rule(evidence).offences)


def test_the_judge_finds_a_message_that_overtook_another(evidence: Path) -> None:
    def crossed(lines: list[str]) -> list[str]:
        sends = [at for at, line in enumerate(lines) if line.startswith("S ") and " normal " in line]
        first, last = sends[0], sends[-1]
        numbers = lines[first].rpartition(" ")[2], lines[last].rpartition(" ")[2]
        lines[first] = f"{lines[first].rpartition(' ')[0]} {numbers[1]}"
        lines[last] = f"{lines[last].rpartition(' ')[0]} {numbers[0]}"
        return lines

    rewrite(evidence, SENDERS[0], crossed)
    offences = rule(evidence).offences
    assert offences
    assert all("messages of class NORMAL overtook others" in offence for offence in offences)


def test_the_judge_finds_what_was_delivered_after_it_was_done(evidence: Path) -> None:
    def again(lines: list[str]) -> list[str]:
        done = next(line.split()[1] for line in lines if line.startswith("D "))
        return [*lines, f"R {done} 1 1"]

    rewrite(evidence, TARGET, again)
    offences = rule(evidence).offences
    assert any("delivered after they were done" in offence for offence in offences)
    assert any("deliveries have the same number" in offence for offence in offences)


def test_the_judge_finds_what_was_never_handled(evidence: Path) -> None:
    change(evidence, TARGET, "UPDATE inbox SET state = 0 WHERE row = 5")
    offences = rule(evidence).offences
    assert any("messages are not handled" in offence for offence in offences)
    assert any("messages were done and are not handled" in offence for offence in offences)


def test_the_judge_leaves_out_a_line_that_a_kill_has_torn(evidence: Path) -> None:
    before = rule(evidence).totals["acknowledged"]
    with (evidence / f"{SENDERS[0]}.log").open("a") as log:
        log.write("S 0123456789")
    rewrite(evidence, SENDERS[1], lambda lines: [*lines, "S 0123", "L 9"])
    verdict = rule(evidence)
    assert verdict.offences == []
    assert verdict.totals["acknowledged"] == before


def test_the_judge_finds_a_lost_answer(evidence: Path) -> None:
    change(evidence, SENDERS[0], "DELETE FROM inbox WHERE row = (SELECT max(row) FROM inbox)")
    offences = rule(evidence).offences
    assert any("1 answers are LOST" in offence for offence in offences)


def test_the_judge_finds_an_answer_that_comes_under_two_ids(evidence: Path) -> None:
    change(
        evidence,
        SENDERS[0],
        "INSERT INTO inbox SELECT (SELECT max(row) + 1 FROM inbox), randomblob(16), device, source, mailbox, klass, "
        "state, attempts, due, deadline, size FROM inbox WHERE row = (SELECT max(row) FROM inbox)",
    )
    assert any("1 answers answer nothing" in offence for offence in rule(evidence).offences)
