"""How fast peers find each other, and how fast traffic goes on after a fault: the figures of the design's table.

    python -m tests.mesh.figures [--starts 50] [--discovery rendezvous,static,mdns] [--json FILE] [WHAT ...]

WHAT is some of `discovery`, `loss`, `restart`, `plug`, `cable` and `silence`; all of them by default. Machines are
network namespaces, so it has to be run by root. Every figure ends by itself; the whole takes about half an hour.

What is measured, each time between two events, by the one clock that all machines share:

    discovery   one peer is up and quiet, the other one, which it has never heard of, starts: until both are linked.
                From the start of its program (interpreter and imports included), and from the return of Peer.start()
    loss        the same, with 30 % of all packets lost
    restart     SIGKILL of the receiver in a stream of messages, and a new start: until the next message is taken.
                From the start of its program, and from the return of Peer.start()
    plug        5 s of silent loss in a stream of messages: until the next message is taken, from the first packet that
                goes through
    cable       the same, but the receiver's interface is without a carrier for 5 s
    silence     as `plug`, 60 s

The last three measure several pairs of machines at once.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.mesh.crew import DISCOVERY, Hand, crew, everybody, mesh_of
from tests.mesh.lan import Lan, Machine, lan

LOSS = 0.3
QUIET = 2.0  # seconds after which a peer that has started says nothing more by mDNS
BRIEF = 5.0  # seconds of silence
LONG = 60.0
PAIRS = {"plug": 5, "cable": 5, "silence": 10}  # at once
AT_REST = 1.0  # seconds of traffic between two faults


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        what: What was measured.
        goal: Of the design, in words; empty if it says nothing.
        seconds: Each measurement, sorted.
        missed: How often the event did not happen in time.
    """

    what: str
    goal: str
    seconds: tuple[float, ...]
    missed: int = 0

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.seconds) if self.seconds else float("nan")

    @property
    def p95(self) -> float:
        """The 95th percentile by nearest rank, in seconds."""
        return self.seconds[-(-95 * len(self.seconds) // 100) - 1] if self.seconds else float("nan")

    def __str__(self) -> str:
        """One line of the table."""
        worst = self.seconds[-1] if self.seconds else float("nan")
        missed = f"   {self.missed} NEVER" if self.missed else ""
        numbers = f"{self.median:>8.2f}{self.p95:>8.2f}{worst:>8.2f}"
        return f"{self.what:<52}{len(self.seconds):>5}{numbers}   {self.goal}{missed}"


HEAD = f"{'seconds':<52}{'n':>5}{'p50':>8}{'p95':>8}{'max':>8}   goal"


def figure(what: str, goal: str, measured: Sequence[float | None]) -> Figure:
    """Make a figure of measurements; None stands for one that did not come in time."""
    return Figure(what, goal, tuple(sorted(each for each in measured if each is not None)), measured.count(None))


# --- discovery ---


def find_each_other(network: Lan, discovery: str, number: int) -> tuple[float | None, float | None]:
    """Let a peer start near another one, neither of which was ever there; return the seconds of `discovery`."""
    quiet, fresh = (Hand(network.machines[0], f"quiet{number}", discovery), None)
    try:
        quiet.ready()
        time.sleep(QUIET)
        fresh = Hand(network.machines[1], f"fresh{number}", discovery)
        fresh.ready()
        try:
            linked = max(everybody((quiet, fresh), "until", 1))
        except AssertionError:  # not within the program's patience
            return None, None
        _, up = fresh.say("started")
        return linked - fresh.spawned, linked - up
    finally:
        quiet.close()
        if fresh is not None:
            fresh.close()


def discovery_figures(root: Path, starts: int, discovery: str, loss: float | None = None) -> list[Figure]:
    """Measure `discovery`, or `loss`."""
    with lan(root, "one", "two", loss=loss) as network:
        mesh_of(network.machines)
        pairs = [find_each_other(network, discovery, number) for number in range(starts)]
    kind, goal = (f"discovery, {loss:.0%} loss", "p50 1 s") if loss else ("discovery, quiet LAN", "p50 0.3 s")
    return [
        figure(f"{kind}, from the program's start", "", [pair[0] for pair in pairs]),
        figure(f"{kind}, from Peer.start()", goal, [pair[1] for pair in pairs]),
    ]


# --- recovery ---


def restart_figures(root: Path, starts: int, discovery: str) -> list[Figure]:
    """Measure `restart`."""
    seconds: list[tuple[float, float]] = []
    with lan(root, "one", "two") as network:
        mesh_of(network.machines)
        with crew(*network.machines, discovery=discovery) as (sender, receiver):
            everybody((sender, receiver), "until", 1)
            sender.say("pulse", "box@two")
            for _ in range(starts):
                receiver.say("arrived", time.monotonic() + AT_REST)
                receiver.kill()
                receiver = Hand(network.machines[1], discovery=discovery)  # noqa: PLW2901 - killed by `crew` or here
                try:
                    receiver.ready()
                    _, up = receiver.say("started")
                    arrived = receiver.say("arrived", 0)
                except BaseException:
                    receiver.close()
                    raise
                seconds.append((arrived - receiver.spawned, arrived - up))
            receiver.close()
    return [
        figure("restart, from the program's start", "", [pair[0] for pair in seconds]),
        figure("restart, from Peer.start()", "p95 1 s", [pair[1] for pair in seconds]),
    ]


def interrupted(
    pairs: Sequence[tuple[Hand, Hand]],
    seconds: float,
    fault: Callable[[Machine], None],
    end: Callable[[Machine], None],
) -> list[float]:
    """Interrupt streams of messages; return when each goes on after the end of the fault."""
    for _, receiver in pairs:
        receiver.say("arrived", time.monotonic() + AT_REST)
    for _, receiver in pairs:
        fault(receiver.machine)
    time.sleep(seconds)
    ended: list[float] = []
    for _, receiver in pairs:
        before = time.monotonic()
        end(receiver.machine)
        receiver.tell("arrived", before)
        ended.append(before)
    return [receiver.ready() - moment for (_, receiver), moment in zip(pairs, ended, strict=True)]


def fault_figures(root: Path, starts: int, discovery: str, what: str) -> list[Figure]:
    """Measure `plug`, `cable` or `silence`."""
    count, length = min(PAIRS[what], starts), LONG if what == "silence" else BRIEF
    names = [f"{side}{number}" for number in range(count) for side in ("left", "right")]
    seconds: list[float] = []
    with lan(root, *names) as network:

        def pull(machine: Machine) -> None:
            network.carrier(machine, up=False)

        def put_in(machine: Machine) -> None:
            network.carrier(machine, up=True)

        for left, right in zip(network.machines[::2], network.machines[1::2], strict=True):
            mesh_of((left, right))
        with crew(*network.machines, discovery=discovery) as hands:
            everybody(hands, "until", 1)
            pairs = list(zip(hands[::2], hands[1::2], strict=True))
            for number, (sender, _) in enumerate(pairs):
                sender.say("pulse", f"box@right{number}")
            fault, end = (pull, put_in) if what == "cable" else (network.unplug, network.plug)
            for _ in range(-(-starts // count)):
                seconds += interrupted(pairs, length, fault, end)
    kind = "without carrier" if what == "cable" else "of silent loss"
    goal = "p95 3 s" if what == "silence" else "p95 1 s"
    return [figure(f"link up after {length:.0f} s {kind}, {count} pairs", goal, seconds)]


# --- the command ---

FIGURES: dict[str, Callable[[Path, int, str], list[Figure]]] = {
    "discovery": discovery_figures,
    "loss": lambda root, starts, discovery: discovery_figures(root, starts, discovery, LOSS),
    "restart": restart_figures,
    "plug": lambda root, starts, discovery: fault_figures(root, starts, discovery, "plug"),
    "cable": lambda root, starts, discovery: fault_figures(root, starts, discovery, "cable"),
    "silence": lambda root, starts, discovery: fault_figures(root, starts, discovery, "silence"),
}


def measure(whats: Sequence[str], starts: int, discovery: str, file: Path | None) -> None:
    """Measure figures; print each as it comes, and write all so far to the file."""
    print(HEAD, flush=True)
    rows: list[dict[str, Any]] = []
    for what in whats:
        with tempfile.TemporaryDirectory(prefix="zmesh-figures-") as root:
            for each in FIGURES[what](Path(root), starts, discovery):
                print(each, flush=True)
                rows.append(asdict(each) | {"p50": each.median, "p95": each.p95})
        if file is not None:
            file.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mesh.figures", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"some of {', '.join(FIGURES)}; all by default")
    parser.add_argument("--starts", type=int, default=50, help="measurements of each figure (%(default)s)")
    parser.add_argument("--discovery", default=DISCOVERY, help="sources of addresses (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements there")
    options = parser.parse_args(arguments)
    for what in options.what:
        if what not in FIGURES:
            parser.error(f"{what} is no figure: choose among {', '.join(FIGURES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the machines are removed
    measure(options.what or list(FIGURES), options.starts, options.discovery, options.json)


if __name__ == "__main__":
    main(sys.argv[1:])
