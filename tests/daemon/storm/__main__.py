"""The kill storm on the daemon: `python -m tests.daemon.storm --seconds N --seed S`."""

import argparse
import contextlib
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.daemon.storm.nemesis import Storm
from tests.storm.processes import disk_directory
from tests.storm.verdict import Verdict


def command(seconds: float, seed: int) -> str:
    """Return the command that repeats a storm."""
    return f"python -m tests.daemon.storm --seconds {seconds:g} --seed {seed}"


@contextlib.contextmanager
def place(given: Path | None) -> Iterator[Path]:
    """Return where the store lies: a given directory, which stays, or one that goes."""
    if given is None:
        with disk_directory("zmesh-daemon-storm-") as path:
            yield path
    else:
        given.mkdir(parents=True, exist_ok=True)
        yield given


def rage(seconds: float, seed: int, given: Path | None = None) -> Verdict:
    """Carry out a storm and print its totals and the command that repeats it."""
    began = time.monotonic()
    print(command(seconds, seed), flush=True)
    with place(given) as path:
        storm = Storm(seed, path)
        try:
            storm.run(seconds, lambda line: print(line, flush=True))
        finally:
            verdict = storm.verdict
            print(json.dumps(dict(sorted(verdict.totals.items()))))
            for offence in verdict.offences:
                print(f"OFFENCE: {offence}")
            print(f"{len(verdict.offences)} offences, {time.monotonic() - began:.1f} s")
            print(f"again: {command(seconds, seed)}", flush=True)
    return verdict


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.daemon.storm", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to kill")
    parser.add_argument("--seed", type=int, default=None, help="repeats the plan of a storm; chosen when left out")
    parser.add_argument("--place", type=Path, default=None, help="keep the store and the logs in this empty directory")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.randrange(1 << 32)
    return 1 if rage(given.seconds, seed, given.place).offences else 0


if __name__ == "__main__":
    sys.exit(main())
