"""Repeats seeds: `python -m tests.simulator --seed N`, or many: `python -m tests.simulator --seeds A:B`."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulator.faults import FAULTS, planted
from tests.simulator.plan import summary
from tests.simulator.storm import Report, run
from tests.simulator.world import Trace

WORKERS = 2


def attempt(seed: int, fault: str = "", trace: Trace | None = None) -> tuple[Report | None, str]:
    """Run a seed, with a planted fault if one is named; return its report, or why it failed."""
    with planted(fault):
        try:
            return run(seed, trace), ""
        except Exception as error:  # noqa: BLE001 - whatever the core raises is what a storm is looking for
            return None, f"{type(error).__name__}: {error}"


def command(seed: int, fault: str = "") -> str:
    """Return the command that repeats a seed."""
    return f"python -m tests.simulator --seed {seed}" + (f" --fault {fault}" if fault else "")


def attempts(seeds: range, fault: str) -> Iterator[tuple[int, Report | None, str]]:
    """Run many seeds in parallel; yield them in order."""
    with ProcessPoolExecutor(WORKERS) as pool:
        results = pool.map(attempt, seeds, [fault] * len(seeds), chunksize=4)
        for seed, (report, failure) in zip(seeds, results, strict=True):
            yield seed, report, failure


def one(seed: int, fault: str, *, verbose: bool, digest: bool) -> int:
    """Run one seed and print everything about it; an exception shows where it came from."""
    trace = Trace(verbose=verbose) if verbose or digest else None
    with planted(fault):
        report = run(seed, trace)
    if digest:
        print(report.digest)
    print(json.dumps(dict(sorted(report.totals.items()))))
    print(json.dumps(summary(report.plan)))
    return 0


def many(seeds: range, fault: str) -> int:
    """Run many seeds; print those that failed with the command that repeats each, and the totals."""
    started = time.perf_counter()
    totals: Counter[str] = Counter()
    failed = 0
    for seed, report, failure in attempts(seeds, fault):
        if report is not None:
            totals.update(report.totals)
            continue
        failed += 1
        print(f"{command(seed, fault)}\n    {failure[:600]}")
    seconds = time.perf_counter() - started
    print(json.dumps(dict(sorted(totals.items()))))
    print(f"{len(seeds)} seeds, {failed} failed, {seconds:.1f} s")
    return 1 if failed else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the seed to run")
    parser.add_argument("--seeds", metavar="A:B", help="run the seeds from A to B-1")
    parser.add_argument("--fault", default="", choices=["", *FAULTS], help="a bug to plant first")
    parser.add_argument("--verbose", action="store_true", help="print every event")
    parser.add_argument("--trace-digest", action="store_true", help="print a digest over every event")
    given = parser.parse_args()
    if given.seeds:
        first, _, last = given.seeds.partition(":")
        return many(range(int(first), int(last)), given.fault)
    return one(given.seed, given.fault, verbose=given.verbose, digest=given.trace_digest)


if __name__ == "__main__":
    sys.exit(main())
