"""The frame around a storm on real processes: its command line, its place on disk, its totals, how to repeat it."""

import argparse
import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.storm.processes import disk_directory
from tests.storm.verdict import Verdict


class Storm(Protocol):
    """What kills, and judges what is left."""

    verdict: Verdict

    def run(self, amount: int, say: Callable[[str], None], /) -> object:
        """Carry it out; `amount` is how long or how often to kill."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One kind of storm.

    Attributes:
        module: The package that `python -m` runs.
        unit: What `amount` counts: kills, seconds.
        amount: How long a storm is when nothing is said.
        storm: Makes a storm of a seed and an empty directory.
    """

    module: str
    unit: str
    amount: int
    storm: Callable[[int, Path], Storm]

    def command(self, amount: int, seed: int) -> str:
        """Return the command that repeats a storm."""
        return f"python -m {self.module} --{self.unit} {amount} --seed {seed}"

    def rage(self, amount: int, seed: int, given: Path | None = None) -> Verdict:
        """Carry out a storm and print its totals and the command that repeats it."""
        began = time.monotonic()
        print(self.command(amount, seed), flush=True)
        with self._place(given) as path:
            storm = self.storm(seed, path)
            try:
                storm.run(amount, lambda line: print(line, flush=True))
            finally:
                verdict = storm.verdict
                print(json.dumps(dict(sorted(verdict.totals.items()))))
                for offence in verdict.offences:
                    print(f"OFFENCE: {offence}")
                lost = sum("LOST" in offence for offence in verdict.offences)
                print(f"{len(verdict.offences)} offences, {lost} of them losses, {time.monotonic() - began:.1f} s")
                print(f"again: {self.command(amount, seed)}", flush=True)
        return verdict

    def main(self) -> int:
        """Read the command line, and do what it says; return the exit code."""
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description="A storm on real processes.")
        parser.add_argument(f"--{self.unit}", dest="amount", type=int, default=self.amount, help="how much to kill")
        parser.add_argument("--seed", type=int, default=None, help="repeats the plan of a storm; chosen when left out")
        parser.add_argument("--place", type=Path, default=None, help="keep stores and logs in this empty directory")
        given = parser.parse_args()
        seed = given.seed if given.seed is not None else random.randrange(1 << 32)
        return 1 if self.rage(given.amount, seed, given.place).offences else 0

    @contextlib.contextmanager
    def _place(self, given: Path | None) -> Iterator[Path]:
        """Return where the stores lie: a given directory, which stays, or one that goes."""
        if given is None:
            with disk_directory("zmesh-storm-") as path:
                yield path
        else:
            given.mkdir(parents=True, exist_ok=True)
            yield given
