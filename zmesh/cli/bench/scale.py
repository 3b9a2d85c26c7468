"""What all parts of the benchmark share: its counts, its pace and limits of time, the clock, the order statistics.

Every count and limit is here, once. Nothing here may start, open or send anything.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

BODY_BYTES: Final = 1024  # the size the design's goals name
IN_FLIGHT: Final = 500  # sent and not yet stored, for zmesh and for the rival
PACE: Final = 50  # messages per second in every latency measurement: idle, and still a few hundred samples
STEP_SECONDS: Final = 120.0  # the longest any one step may take; beyond it the benchmark fails and says where
START_SECONDS: Final = 30.0  # for a process to come up, or two peers to meet
STOP_SECONDS: Final = 10.0  # for a process to end by itself before it is killed
MAX_ROUNDS: Final = 100
_STAMP_BYTES: Final = 8
_FILLER: Final = bytes(range(256)) * (BODY_BYTES // 256)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What one run of each measurement does.

    Attributes:
        warm_up: Messages of each burst before its measured part, for zmesh and for the rival.
        burst: Messages of one throughput run.
        paced: Messages of one latency run.
        raw: Messages of one run of bare sockets.
        queued: Messages queued for the memory figure.
        backlog: Messages queued for a peer that is away, then drained.
        mailboxes: Over how many mailboxes the backlog is spread: one holds at most 20,000.
        agents: Agents on one daemon, each with a connection of its own.
        each: Messages that each of them sends, and receives.
    """

    warm_up: int
    burst: int
    paced: int
    raw: int
    queued: int
    backlog: int
    mailboxes: int
    agents: int
    each: int


FULL: Final = Sizes(
    warm_up=2000, burst=20_000, paced=250, raw=200_000, queued=10_000, backlog=100_000, mailboxes=10, agents=1000,
    each=20,
)  # fmt: skip
QUICK: Final = Sizes(
    warm_up=50, burst=400, paced=15, raw=2000, queued=500, backlog=2000, mailboxes=2, agents=20, each=5
)


def now() -> int:
    """Return nanoseconds of the monotonic clock, which all processes of a machine share (Linux: CLOCK_MONOTONIC)."""
    return time.monotonic_ns()


def stamped(number: int) -> bytes:
    """Return a body of `BODY_BYTES` that carries a time or a number."""
    return number.to_bytes(_STAMP_BYTES, "big") + _FILLER[_STAMP_BYTES:]


def stamp(body: bytes) -> int:
    """Return what `stamped` put into a body."""
    return int.from_bytes(body[:_STAMP_BYTES], "big")


def beats(count: int, rate: float) -> Iterator[float]:
    """Yield `count` times how long to sleep until the next fixed point of time: a late turn delays none after it."""
    start = time.monotonic()
    for number in range(count):
        yield max(0.0, start + number / rate - time.monotonic())


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile; `share` is in (0, 1]."""
    return sorted(values)[ceil(share * len(values)) - 1]


def percentiles(name: str, nanoseconds: Sequence[int]) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds, as `name_p50_ms` and so on."""
    return {f"{name}_p{share}_ms": percentile(nanoseconds, share / 100) / 1e6 for share in (50, 95, 99)}
