"""Every example runs as it stands, as its reader would run it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SECONDS = 60


@contextmanager
def started(home: Path, name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """An example in a process of its own, ended when the test is."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / name, *arguments],
        env=os.environ | {"ZMESH_HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def printed(home: Path, name: str, *arguments: str) -> list[str]:
    """What an example prints until it ends, which must be a success."""
    with started(home, name, *arguments) as process:
        out, errors = process.communicate(timeout=SECONDS)
        assert (errors, process.returncode) == ("", 0)
        return out.splitlines()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that an example prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def hello(home: Path) -> None:
    lines = printed(home, "hello.py")
    assert lines[0] in ("sent: waiting", "sent: queued", "sent: sent")
    assert lines[1:] == ["stored: stored", "code@laptop says: Research OAuth 2.0", "handled: handled"]
    assert printed(home, "hello.py")[1:] == lines[1:]  # the stores are there already


def ask_and_answer(home: Path) -> None:
    answer = "browser@studio answers: You asked 'What is OAuth 2.0?'. I would read the RFC."
    with started(home, "ask_and_answer.py", "ask", "What is OAuth 2.0?") as asking:
        with started(home, "ask_and_answer.py", "answer") as answering:
            assert line_of(answering) == "browser@studio is listening"
            assert line_of(answering) == "code@pipeline asks: What is OAuth 2.0?"
            out, errors = asking.communicate(timeout=SECONDS)
            assert (out.splitlines(), errors, asking.returncode) == ([answer], "", 0)
        with started(home, "ask_and_answer.py", "answer") as again:  # killed, and started again
            assert printed(home, "ask_and_answer.py", "ask", "Again?")[0].startswith(
                "browser@studio answers: You asked"
            )
            assert line_of(again) == "browser@studio is listening"
    with started(home, "ask_and_answer.py") as wrong:
        _, errors = wrong.communicate(timeout=SECONDS)
        assert "In one terminal:" in errors
        assert wrong.returncode == 1


RUNS: dict[str, Callable[[Path], None]] = {"hello.py": hello, "ask_and_answer.py": ask_and_answer}


@pytest.mark.parametrize("name", RUNS)
def test_it_runs(name: str, tmp_path: Path) -> None:
    RUNS[name](tmp_path / "home")


def test_every_example_is_run_here() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_it_says_how_to_run_it(name: str) -> None:
    source = (EXAMPLES / name).read_text(encoding="utf-8")
    assert f"python examples/{name}" in source.split('"""')[1]
