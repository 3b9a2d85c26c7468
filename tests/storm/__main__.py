"""The kill storm on real processes: `python -m tests.storm --kills N --seed S`."""

import argparse
import contextlib
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.storm.nemesis import Storm
from tests.storm.processes import disk_directory
from tests.storm.verdict import Verdict


def command(kills: int, seed: int) -> str:
    """Return the command that repeats a storm."""
    return f"python -m tests.storm --kills {kills} --seed {seed}"


@contextlib.contextmanager
def place(home: Path | None) -> Iterator[Path]:
    """Return where the stores lie: a given directory, which stays, or one that goes."""
    if home is None:
        with disk_directory("zmesh-storm-") as path:
            yield path
    else:
        home.mkdir(parents=True, exist_ok=True)
        yield home


def rage(kills: int, seed: int, home: Path | None = None) -> Verdict:
    """Carry out a storm and print its totals and the command that repeats it."""
    began = time.monotonic()
    print(command(kills, seed), flush=True)
    with place(home) as path:
        storm = Storm(seed, path)
        try:
            storm.run(kills, lambda line: print(line, flush=True))
        finally:
            verdict = storm.verdict
            print(json.dumps(dict(sorted(verdict.totals.items()))))
            for offence in verdict.offences:
                print(f"OFFENCE: {offence}")
            lost = sum("LOST" in offence for offence in verdict.offences)
            print(f"{len(verdict.offences)} offences, {lost} of them losses, {time.monotonic() - began:.1f} s")
            print(f"again: {command(kills, seed)}", flush=True)
    return verdict


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how often to kill")
    parser.add_argument("--seed", type=int, default=None, help="repeats the plan of a storm; chosen when left out")
    parser.add_argument("--home", type=Path, default=None, help="keep the stores here")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.randrange(1 << 32)
    return 1 if rage(given.kills, seed, given.home).offences else 0


if __name__ == "__main__":
    sys.exit(main())
