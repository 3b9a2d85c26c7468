"""From the runs of a benchmark to its figures, and from those to a verdict for each goal that has one.

A figure is the median of its runs. This module must never drop a run or round one: the table rounds, the data does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from zmesh.cli.bench.measurements import Figures

Runs = Mapping[str, Sequence[Figures]]
"""The figures of each run, by measurement."""

TIMES_NATS: Final = 2.0
TIMES_FLOOR: Final = 2.0
DRAIN_SECONDS: Final = 10.0
AGENTS: Final = 1000
AGENTS_MB: Final = 150.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.

    Attributes:
        measurement: Whose runs it is made from.
        what: What the figure is, in words.
        figure: The median of the runs, or a ratio of such medians; None when it was not measured.
        unit: Of the figure.
        spread: The smallest and the largest of the runs; None for a ratio.
        goal: What the design asks for, in words; empty when it asks for nothing.
        passed: Whether it is met; None when there is no goal, or the run says nothing about it.
    """

    measurement: str
    what: str
    figure: float | None
    unit: str
    spread: tuple[float, float] | None = None
    goal: str = ""
    passed: bool | None = None


_FIGURES: Final[tuple[tuple[str, str, str, str], ...]] = (
    ("throughput", "stored_per_s", "1 KiB messages: stored", "msg/s"),
    ("throughput", "handled_per_s", "1 KiB messages: handled", "msg/s"),
    ("nats-throughput", "stored_per_s", "NATS: acknowledged", "msg/s"),
    ("nats-throughput", "in_tasks_per_s", "NATS, 500 publish() tasks", "msg/s"),
    ("nats-throughput-always", "stored_per_s", "NATS, sync always: acknowledged", "msg/s"),
    ("latency", "send_p50_ms", "send() to own disk, p50", "ms"),
    ("latency", "inbox_p50_ms", "send() to inbox, p50", "ms"),
    ("latency", "inbox_p95_ms", "send() to inbox, p95", "ms"),
    ("latency", "inbox_p99_ms", "send() to inbox, p99", "ms"),
    ("floor", "commit_p50_ms", "floor: one FULL commit, p50", "ms"),
    ("floor", "way_p50_ms", "floor: one CURVE way, p50", "ms"),
    ("floor", "sum_p50_ms", "floor: 2 commits + 1 way", "ms"),
    ("floor", "chain_p50_ms", "floor: the same, as one chain, p50", "ms"),
    ("nats-latency", "send_p50_ms", "NATS: publish to ack, p50", "ms"),
    ("nats-latency", "inbox_p50_ms", "NATS: publish to consumer, p50", "ms"),
    ("nats-latency-always", "send_p50_ms", "NATS, sync always: to ack, p50", "ms"),
    ("nats-latency-always", "inbox_p50_ms", "NATS, sync always: to consumer", "ms"),
    ("raw", "received_per_s", "bare CURVE sockets, 1 KiB", "msg/s"),
    ("memory", "idle_mib", "peer's memory, idle", "MiB"),
    ("memory", "queued_mib", "peer's memory, with a queue", "MiB"),
    ("drain", "queue_per_s", "queueing for an absent peer", "msg/s"),
    ("drain", "drain_s", "draining after its return", "s"),
    ("agents", "agents", "agents on one daemon", ""),
    ("agents", "connect_s", "all of them connected after", "s"),
    ("agents", "delivered_per_s", "messages among them, each once", "msg/s"),
    ("agents", "idle_mb", "the daemon's memory, idle", "MB"),
    ("agents", "peak_mb", "the daemon's memory, at most", "MB"),
)
"""Measurement, figure, what the table calls it, unit."""


def medians(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure over the runs."""
    return {name: median(run[name] for run in runs) for name in runs[0]}


def lines(runs: Runs, *, judge: bool) -> list[Line]:
    """Return the table: the ratios with goals first, then every figure that was measured.

    Args:
        runs: What was measured.
        judge: False for a quick run, whose counts are too small for a verdict.
    """
    middle = {name: medians(each) for name, each in runs.items()}
    ratios = (
        _ratio(middle, "throughput", "stored_per_s", ("nats-throughput", "stored_per_s"), TIMES_NATS, at_least=True),
        _ratio(middle, "latency", "inbox_p50_ms", ("floor", "sum_p50_ms"), TIMES_FLOOR, at_least=False),
    )
    table = [line for line in ratios if line is not None]
    for measurement, name, what, unit in _FIGURES:
        if measurement not in middle:
            continue
        values = [run[name] for run in runs[measurement]]
        line = Line(measurement, what, middle[measurement][name], unit, (min(values), max(values)))
        if name == "drain_s":
            line = Line(
                measurement, what, line.figure, unit, line.spread,
                goal=f"at most {DRAIN_SECONDS:.0f} s", passed=middle[measurement][name] <= DRAIN_SECONDS,
            )  # fmt: skip
        if name == "peak_mb":
            enough = middle[measurement]["agents"] >= AGENTS
            line = Line(
                measurement, what, line.figure, unit, line.spread, goal=f"under {AGENTS_MB:.0f} MB, {AGENTS:,} agents",
                passed=middle[measurement][name] < AGENTS_MB if enough else None,
            )  # fmt: skip
        table.append(line)
    return table if judge else [_unjudged(line) for line in table]


def _ratio(
    middle: Mapping[str, Figures],
    measurement: str,
    name: str,
    against: tuple[str, str],
    times: float,
    *,
    at_least: bool,
) -> Line | None:
    if measurement not in middle:
        return None
    rival, its_name = against
    what = "stored / NATS acknowledged" if at_least else "send() to inbox, p50 / floor"
    goal = f"{'at least' if at_least else 'at most'} {times:.0f}x"
    if rival not in middle:
        return Line(measurement, what, None, "x", goal=goal)
    figure = middle[measurement][name] / middle[rival][its_name]
    return Line(measurement, what, figure, "x", goal=goal, passed=figure >= times if at_least else figure <= times)


def _unjudged(line: Line) -> Line:
    return Line(line.measurement, line.what, line.figure, line.unit, line.spread, line.goal)
