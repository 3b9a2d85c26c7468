"""The clock, the pace and the order statistics that all parts of the benchmark share."""

import time
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Final

from zmesh.cli.bench.sizes import BODY_BYTES

_STAMP_BYTES: Final = 8
_FILLER: Final = bytes(range(256)) * (BODY_BYTES // 256)


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
