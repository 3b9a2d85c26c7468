"""The command `zmesh bench`: which measurements run, in which order, and how their figures are shown."""

import json
import os
import platform
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import click
import zmq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import zmesh
from zmesh.cli.bench import measurements
from zmesh.cli.bench.measurements import Figures
from zmesh.cli.bench.rival import ALWAYS, Nats
from zmesh.cli.bench.scale import FULL, MAX_ROUNDS, QUICK, Sizes
from zmesh.cli.bench.summary import Line, Runs, lines, medians
from zmesh.protocol.bounds import MAX_AGENTS

Run = Callable[[Path, Sizes], Figures]
NAMES: Final = ("throughput", "latency", "raw", "memory", "drain", "agents")
_TOO_OLD: Final = "this nats-server does not know sync_interval (2.10 and later do): its strict figures are missing"
_FLOOR: Final = (
    "the lines of the floor are measured one after the other: where other work uses the disk, they can contradict "
    "each other"
)
_BELOW_TEN: Final = 10.0
_THOUSAND: Final = 1000.0
_IN_MEMORY: Final = frozenset(("tmpfs", "ramfs"))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value with every run instead of the table.")
@click.option("--compare", type=click.Choice(["nats"]), help="Measure the rival too, in the same rounds.")
@click.option("--rounds", type=click.IntRange(1, MAX_ROUNDS), default=5, show_default=True, help="Runs of each.")
@click.option("--quick", is_flag=True, help="One round with small counts: shows that it works, not how fast it is.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Measure this; may be repeated.")
@click.option(
    "--agents", type=click.IntRange(2, MAX_AGENTS), help="Measure one daemon with so many agents, and nothing else."
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="On the disk to measure; by default the temporary directory, or the home if that is in memory.",
)
def bench(
    *,
    as_json: bool,
    compare: str | None,
    rounds: int,
    quick: bool,
    only: Sequence[str],
    agents: int | None,
    directory: Path | None,
) -> None:
    """Measure this machine's mesh between real processes, alone or beside NATS JetStream.

    Each round makes one run of each measurement in turn; a figure is the median of its runs. Nothing but this command
    should be running meanwhile.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything is cleaned up
    rival = Nats.find() if compare else None
    sizes = QUICK if quick else FULL
    if agents is not None:
        sizes, only = replace(sizes, agents=agents), [*only, "agents"]
    with tempfile.TemporaryDirectory(prefix="zmesh-bench-", dir=disk(directory)) as made:
        place = Path(made)
        machine = facts(place, rival)
        plan, notes = _plan(only or NAMES, rival, place)
        runs = _measure(plan, 1 if quick else rounds, sizes, place)
    table = lines(runs, judge=not quick)
    if as_json:
        click.echo(json.dumps(_report(machine, sizes, runs, table, notes), indent=2))
    else:
        _show(machine, runs, table, notes)


def _plan(chosen: Sequence[str], rival: Nats | None, place: Path) -> tuple[dict[str, Run], list[str]]:
    """Return the measurements of one round, each rival's run right after ours, and what there is to say about it."""
    notes: list[str] = []
    plan: dict[str, Run] = {}
    strict = False
    if rival is not None and {"throughput", "latency"}.intersection(chosen):
        strict = rival.always_syncs(_fresh(place, "try"))
        notes += [] if strict else [_TOO_OLD]
    if "latency" in chosen:
        notes.append(_FLOOR)
    for name in (name for name in NAMES if name in chosen):
        plan[name] = getattr(measurements, name)
        if name == "latency":
            plan["floor"] = measurements.floor
        if rival is not None and name in {"throughput", "latency"}:
            rivals = rival.throughput if name == "throughput" else rival.latency
            plan[f"nats-{name}"] = rivals
            if strict:
                plan[f"nats-{name}-{ALWAYS}"] = partial(rivals, sync=ALWAYS)
    return plan, notes


def _measure(plan: dict[str, Run], rounds: int, sizes: Sizes, place: Path) -> dict[str, list[Figures]]:
    runs: dict[str, list[Figures]] = {name: [] for name in plan}
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    screen = Console(stderr=True)
    # Twice a second: the bar must not cost what is measured anything.
    with Progress(*columns, console=screen, disable=not screen.is_terminal, refresh_per_second=2) as progress:
        task = progress.add_task("", total=rounds * len(plan))
        for number in range(1, rounds + 1):
            for name, run in plan.items():
                progress.update(task, description=f"round {number} of {rounds}: {name}")
                with tempfile.TemporaryDirectory(dir=place) as own:
                    runs[name].append(run(Path(own), sizes))
                progress.advance(task)
    return runs


def _fresh(place: Path, name: str) -> Path:
    made = place / name
    made.mkdir()
    return made


# --- what is shown ---


def _report(
    machine: dict[str, Any], sizes: Sizes, runs: Runs, table: Sequence[Line], notes: Sequence[str]
) -> dict[str, Any]:
    return {
        "machine": machine,
        "sizes": asdict(sizes),
        "measurements": {name: {"median": medians(each), "runs": list(each)} for name, each in runs.items()},
        "lines": [asdict(line) for line in table],
        "notes": list(notes),
    }


def _show(machine: dict[str, Any], runs: Runs, table: Sequence[Line], notes: Sequence[str]) -> None:
    rounds = len(next(iter(runs.values())))
    shown = Table(
        title=f"zmesh bench: medians of {rounds} interleaved run{'s' if rounds > 1 else ''}", title_justify="left"
    )
    judged = any(line.passed is not None for line in table)
    shown.add_column("what")
    shown.add_column("figure", justify="right")
    if rounds > 1:
        shown.add_column("runs", justify="right")
    shown.add_column("goal")
    if judged:
        shown.add_column("verdict")
    for line in table:
        figure = f"{_number(line.figure)} {line.unit}" if line.figure is not None else "not measured"
        spread = " - ".join(map(_number, line.spread)) if line.spread else ""
        verdict = {True: "[green]pass[/]", False: "[red]miss[/]", None: ""}[line.passed]
        shown.add_row(line.what, figure, *[spread] * (rounds > 1), line.goal, *[verdict] * judged)
    screen = Console()
    screen.print(shown)
    for note in notes:
        screen.print(f"Note: {note}")
    screen.print(", ".join(f"{name} {value}" for name, value in machine.items() if value is not None), highlight=False)


def _number(value: float) -> str:
    if value >= _THOUSAND:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < _BELOW_TEN else f"{value:.1f}"


# --- the machine ---


def filesystem(path: Path) -> str:
    """Return the type of the filesystem a directory is on, or "unknown" where the system does not list its mounts."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    listed = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    real = path.resolve()
    holding = [(Path(point), kind) for point, kind in listed if real.is_relative_to(Path(point))]
    return max(holding, key=lambda mount: len(mount[0].parts), default=(path, "unknown"))[1]


def disk(asked: Path | None) -> Path:
    """Return where to put the stores: where asked, or the temporary directory unless that is only in memory."""
    if asked is not None:
        return asked
    usual = Path(tempfile.gettempdir())
    return Path.home() if filesystem(usual) in _IN_MEMORY else usual


def facts(directory: Path, rival: Nats | None) -> dict[str, Any]:
    """Return what the figures depend on; of the rival only when it is measured."""
    client: str | None = None
    if rival is not None:
        with suppress(PackageNotFoundError):
            client = version("nats-py")
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "zmesh": zmesh.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "filesystem": filesystem(directory),
        "load_before": load,
        "sqlite": sqlite3.sqlite_version,
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
        "nats_py": client,
        "nats_server": rival.server_version if rival else None,
    }
