"""Ring 2: whole meshes on a fake clock, network and disk. A failure prints the command that repeats it."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulator.__main__ import attempt, command
from tests.simulator.faults import FAULTS
from tests.waiting import ENOUGH

ROOT = Path(__file__).resolve().parent.parent
SEEDS = 1_000
CHUNK = 100
SOAK_SEEDS = 10_000
FAULT_SEEDS = 2_000  # every planted fault must be caught within so many


def run_seeds(seeds: range) -> Counter[str]:
    """Run seeds, print their totals, and fail with what went wrong in each."""
    totals: Counter[str] = Counter()
    failures: list[str] = []
    for seed in seeds:
        report, failure = attempt(seed)
        if report is None:
            failures.append(f"{command(seed)}\n    {failure}")
            continue
        assert report.plan.stores >= 3
        assert report.totals["sends"] >= 200
        assert report.plan.crashes >= 5  # one that is due while its store is down does not happen
        assert report.totals["partitions"] >= 1
        totals.update(report.totals)
    print(f"seeds {seeds.start} to {seeds.stop - 1}: {dict(sorted(totals.items()))}")
    assert not failures, "\n".join(failures)
    return totals


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_storms_lose_nothing(first: int) -> None:
    totals = run_seeds(range(first, first + CHUNK))
    # A chunk in which some kind of fault never happened proves little.
    for kind in ("rollbacks", "holes", "stalls", "pauses", "jumps", "disk full", "moves", "cuts", "hostile", "failed"):
        assert totals[kind], kind
    for state in ("HANDLED", "EXPIRED"):
        assert totals[f"state {state}"], state


@pytest.mark.soak
@pytest.mark.parametrize("first", range(SEEDS, SEEDS + SOAK_SEEDS, 500))
def test_ten_thousand_storms_lose_nothing(first: int) -> None:
    run_seeds(range(first, first + 500))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault: str) -> None:
    for seed in range(FAULT_SEEDS):
        report, failure = attempt(seed, fault)
        if report is None:
            print(f"{command(seed, fault)}\n    {failure}")
            return
    pytest.fail(f"{fault} was not caught within {FAULT_SEEDS} seeds")


def test_at_least_twenty_faults_are_planted() -> None:
    assert len(FAULTS) >= 20


@pytest.mark.parametrize("seed", [3, 11])
def test_a_seed_repeats_to_the_byte(seed: int) -> None:
    digests = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulator", "--seed", str(seed), "--trace-digest"],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
            timeout=ENOUGH,
        ).stdout
        for salt in ("1", "4242")
    ]
    assert digests[0] == digests[1]
    assert len(digests[0].splitlines()[0]) == 32


def test_another_seed_is_another_storm() -> None:
    reports = [attempt(seed)[0] for seed in (3, 4)]
    assert all(reports)
    assert len({str(report.totals) for report in reports if report}) == 2
