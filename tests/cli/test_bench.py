"""`zmesh bench` as a real process: the shape of what it prints, its errors, and that nothing of it stays behind.

Never its speed: a slow machine is no failure.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import ENOUGH, killed_in_the_end
from zmesh.cli.bench.command import _show
from zmesh.cli.bench.scale import percentile, stamp, stamped
from zmesh.cli.bench.summary import lines

NATS = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
COMMAND = (sys.executable, "-m", "zmesh.cli.main")


def environment(**changes: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ZMESH_")} | changes


def zmesh(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env=environment(**changes))


def quick(place: Path, *arguments: str) -> dict[str, Any]:
    """What a quick run says, when it leaves nothing behind."""
    ended = zmesh("bench", "--quick", "--json", "--dir", place, *arguments)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert list(place.iterdir()) == []
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


def figures(report: dict[str, Any], name: str) -> dict[str, float]:
    """The figures of a measurement, each of which must be plausible: positive, and of one run."""
    measured = report["measurements"][name]
    assert measured["runs"] == [measured["median"]]
    assert all(0 < figure < 1e7 for figure in measured["median"].values()), measured
    found: dict[str, float] = measured["median"]
    return found


def test_everything_is_measured(tmp_path: Path) -> None:
    report = quick(tmp_path)
    assert set(report["measurements"]) == {"throughput", "latency", "floor", "raw", "memory", "drain", "agents"}
    throughput = figures(report, "throughput")
    assert throughput["handled_per_s"] <= throughput["stored_per_s"]
    assert figures(report, "raw")["received_per_s"] > throughput["stored_per_s"]
    latency = figures(report, "latency")
    assert latency["inbox_p50_ms"] <= latency["inbox_p95_ms"] <= latency["inbox_p99_ms"]
    floor = figures(report, "floor")
    assert floor["sum_p50_ms"] == pytest.approx(2 * floor["commit_p50_ms"] + floor["way_p50_ms"])
    assert set(figures(report, "memory")) == {"idle_mib", "queued_mib"}
    assert 5 < figures(report, "memory")["idle_mib"] < 500
    assert set(figures(report, "drain")) == {"queue_per_s", "drain_s"}
    agents = figures(report, "agents")
    assert set(agents) == {"agents", "connect_s", "delivered_per_s", "idle_mb", "peak_mb"}
    assert 5 < agents["idle_mb"] < 500
    assert report["machine"]["cores"] >= 1
    assert [line["what"] for line in report["lines"] if line["goal"]] == [
        "stored / NATS acknowledged",
        "send() to inbox, p50 / floor",
        "draining after its return",
        "the daemon's memory, at most",
    ]
    assert {line["passed"] for line in report["lines"]} == {None}  # a quick run judges nothing


def test_so_many_agents_on_one_daemon_and_nothing_else_can_be_measured(tmp_path: Path) -> None:
    report = quick(tmp_path, "--agents", "9")
    assert set(report["measurements"]) == {"agents"}
    assert figures(report, "agents")["agents"] == 9
    assert report["sizes"]["agents"] == 9
    ended = zmesh("bench", "--agents", "1")
    assert ended.returncode == 2
    assert "--agents" in ended.stderr


@pytest.mark.parametrize(("agents", "peak", "passed"), [(1000, 149.0, True), (1000, 151.0, False), (999, 1.0, None)])
def test_the_memory_of_a_daemon_is_judged_with_a_thousand_agents(agents: int, peak: float, passed: object) -> None:
    run = {"agents": agents, "connect_s": 1.0, "delivered_per_s": 1.0, "idle_mb": 1.0, "peak_mb": peak}
    (line,) = (line for line in lines({"agents": [run]}, judge=True) if line.goal)
    assert line.passed is passed


@pytest.mark.skipif(NATS is None, reason="nats-server is not installed: ./.ci/setup nats-server")
def test_the_rival_is_measured_in_the_same_rounds(tmp_path: Path) -> None:
    report = quick(tmp_path, "--compare", "nats", "--only", "throughput", "--only", "latency")
    strict = {"nats-throughput-always", "nats-latency-always"} & set(report["measurements"])
    assert set(report["measurements"]) - strict == {"throughput", "nats-throughput", "latency", "floor", "nats-latency"}
    said = [note for note in report["notes"] if "sync_interval" in note]
    assert bool(strict) != bool(said)  # measured, or said why not
    for name in report["measurements"]:
        assert figures(report, name)
    assert report["machine"]["nats_server"][0].isdigit()
    assert report["machine"]["nats_py"][0].isdigit()
    ratio = report["lines"][0]
    ours, theirs = (
        report["measurements"][name]["median"]["stored_per_s"] for name in ("throughput", "nats-throughput")
    )
    assert ratio["figure"] == pytest.approx(ours / theirs)


def test_the_table_is_for_people(tmp_path: Path) -> None:
    ended = zmesh("bench", "--quick", "--only", "raw", "--dir", tmp_path, NO_COLOR="1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "bare CURVE sockets" in ended.stdout
    assert "msg/s" in ended.stdout
    heads = next(line for line in ended.stdout.splitlines() if "what" in line)
    assert [head.strip() for head in heads.split("┃")[1:-1]] == ["what", "figure", "goal"]  # one run, and no verdict
    assert " - " not in ended.stdout
    assert "nats" not in ended.stdout
    load = re.search(r"load_before ([\d.]+)", ended.stdout.replace("\n", " "))
    assert load is None or len(load[1].partition(".")[2]) <= 2


def test_a_table_of_several_rounds_shows_their_range_and_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    runs = {"drain": [{"queue_per_s": 1.0, "drain_s": seconds} for seconds in (1.0, 2.0, 30.0)]}
    _show({"zmesh": "0", "nats_py": None}, runs, lines(runs, judge=True), ["a note"])
    shown = capsys.readouterr().out
    heads = next(line for line in shown.splitlines() if "what" in line)
    assert [head.strip() for head in heads.split("┃")[1:-1]] == ["what", "figure", "runs", "goal", "verdict"]
    assert "1.00 - 30.0" in shown
    assert "pass" in shown
    assert "Note: a note" in shown
    assert "nats" not in shown


def test_a_missing_rival_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    program = (
        "import zmesh.cli.bench.rival as rival; rival._PLACES = ('/nonexistent',); "
        "from zmesh.cli.main import main; main(['bench', '--compare', 'nats'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=ENOUGH
    )
    assert ended.returncode == 1
    assert "apt-get install nats-server" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the children through /proc")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_benchmark_that_is_stopped_leaves_no_process_behind(tmp_path: Path, how: signal.Signals) -> None:
    arguments = ["bench", "--only", "drain", "--dir", str(tmp_path)]
    with (
        subprocess.Popen([*COMMAND, *arguments], env=environment(), stdout=subprocess.DEVNULL) as process,
        killed_in_the_end(process),
    ):
        children = wait_for_children(process.pid)
        process.send_signal(how)
        process.wait(30)
    wait_until_gone(children)
    if how == signal.SIGTERM:
        assert process.returncode == 128 + signal.SIGTERM
        assert list(tmp_path.iterdir()) == []


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"{left} are still there after 30 s"
        time.sleep(0.02)


def wait_for_children(pid: int) -> list[int]:
    """The children of a process, once there are two."""
    deadline = time.monotonic() + 30
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    while len(found := listing.read_text().split()) < 2:
        assert time.monotonic() < deadline, "no children within 30 s"
        time.sleep(0.02)
    return [int(child) for child in found]


def test_help_is_light() -> None:
    program = (
        "import sys\nfrom zmesh.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(*sorted({'zmq', 'rich', 'sqlite3', 'asyncio', 'nats'} & set(sys.modules)), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=ENOUGH)
    assert "bench" in ended.stdout
    assert ended.stderr.strip() == ""


def test_wrong_usage_has_its_own_exit_code() -> None:
    ended = zmesh("bench", "--only", "nothing")
    assert ended.returncode == 2


# --- figures ---


def test_percentiles_are_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert percentile([7.0], 0.5) == 7


def test_a_body_carries_its_stamp() -> None:
    assert len(stamped(1)) == 1024
    assert stamp(stamped(2**60)) == 2**60


@pytest.mark.parametrize(("ours", "passed"), [(200.0, True), (199.0, False)])
def test_goals_are_judged_by_medians(ours: float, passed: bool) -> None:  # noqa: FBT001
    runs = {
        "throughput": [{"stored_per_s": rate, "handled_per_s": 1.0} for rate in (1.0, ours, 1000.0)],
        "nats-throughput": [{"stored_per_s": rate, "in_tasks_per_s": 1.0} for rate in (90.0, 100.0, 101.0)],
    }
    ratio = lines(runs, judge=True)[0]
    assert (ratio.figure, ratio.passed) == (ours / 100, passed)
    assert lines(runs, judge=False)[0].passed is None


def test_a_goal_without_its_rival_is_not_judged() -> None:
    ratio = lines({"throughput": [{"stored_per_s": 1.0, "handled_per_s": 1.0}]}, judge=True)[0]
    assert (ratio.figure, ratio.passed) == (None, None)
    assert ratio.goal
