"""The demo as a user runs it: what it shows is what happened, and it leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.waiting import killed_in_the_end
from zmesh.cli.demo import Sending, Verdict, _judge
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.trust.device import Device

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 100
ROWS = {
    "acknowledged to the sender": 200,
    "in the receiver's inbox": 200,
    "lost": 0,
    "delivered twice": 0,
    "out of order within a priority": 0,
    "receipts that say stored or handled": 200,
}


def run(*arguments: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZMESH_")}
    environment |= {"TMPDIR": str(scratch), "COLUMNS": "200", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "zmesh", "demo", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)


def processes_with(text: str) -> list[str]:
    """The command lines of all processes that name a directory of the test."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if text in line:
            lines.append(line)
    return lines


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo may write."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def kept(scratch: Path) -> tuple[str, Path]:
    """What a demo of 200 messages shows, and the home that it kept."""
    ended = run("--messages", "200", "--keep", scratch=scratch)
    assert (ended.returncode, ended.stderr) == (0, "")
    (home,) = scratch.iterdir()
    return ended.stdout, home


def test_the_demo_kills_a_peer_and_nothing_is_lost(kept: tuple[str, Path]) -> None:
    shown, _ = kept
    for text, figure in ROWS.items():
        assert re.search(rf"^ *{re.escape(text)} +{figure} *$", shown, re.MULTILINE), text
    assert re.search(r"They found each other and linked, encrypted, \d+\.\d\d s", shown)
    assert re.search(r"research@studio +What is known about .*: three papers, one of them good", shown)
    killed = re.search(r"SIGKILL studio, with (\d+) messages not confirmed", shown)
    assert killed is not None
    assert 0 < int(killed[1]) <= 200


def test_keep_keeps_the_stores_and_no_process(kept: tuple[str, Path]) -> None:
    shown, home = kept
    assert f"The stores are kept in {home}\n" in shown
    assert sorted(path.parent.name for path in home.glob("peers/*/store.db")) == ["laptop", "studio"]
    assert processes_with(str(home)) == []
    device = Device.load_or_create(home / "device.key")
    for peer in ("laptop", "studio"):
        store = SqliteStore(home / "peers" / peer, device.id)
        store.open()  # nobody holds its lock, and it is whole
        store.close()


def test_without_keep_nothing_is_left(tmp_path: Path) -> None:
    ended = run("--messages", "10", scratch=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert processes_with(str(tmp_path)) == []
    assert "kept in" not in ended.stdout


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes through /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_no_process_behind(how: signal.Signals, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZMESH_")}
    environment |= {"TMPDIR": str(tmp_path), "COLUMNS": "200", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "zmesh", "demo", "--messages", "100000"]
    errors = tmp_path.parent / f"{tmp_path.name}.errors"
    with (
        errors.open("w") as written,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=written, text=True) as process,
        killed_in_the_end(process),
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("3. "):  # in the middle of the burst
                break
        wait_for(lambda: len(processes_with(str(tmp_path))) == 2, "two peers")
        process.send_signal(how)
        process.stdout.read()
    wait_for(lambda: not processes_with(str(tmp_path)), "the end of both peers")
    if how != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []
        assert process.returncode == 128 + how
    assert "Traceback" not in errors.read_text()


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within 30 s"
        time.sleep(0.02)


@pytest.mark.parametrize("arguments", [["--messages", "9"], ["--messages", "many"], ["--what"]])
def test_wrong_usage_starts_nothing(arguments: list[str], tmp_path: Path) -> None:
    ended = run(*arguments, scratch=tmp_path)
    assert ended.returncode == 2
    assert "Usage:" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_verdict_finds_what_is_wrong(kept: tuple[str, Path]) -> None:
    _, home = kept
    assert _judge(home, Sending()) == Verdict(0, 0, 0, 0, 0, 0)
    made_up = Sending(acknowledged={"00" * 16: 0})
    verdict = _judge(home, made_up)
    assert verdict == Verdict(acknowledged=1, arrived=0, lost=1, duplicates=0, disordered=0, confirmed=0)
    assert not verdict.good
    good = Verdict(acknowledged=2, arrived=2, lost=0, duplicates=0, disordered=0, confirmed=2)
    assert good.good
    for wrong in ({"arrived": 1}, {"lost": 1}, {"duplicates": 1}, {"disordered": 1}, {"confirmed": 1}):
        fields = {name: getattr(good, name) for name in good.__slots__} | wrong
        assert not Verdict(**fields).good
