"""A test that hangs where no timeout reaches it is ended, named and counted as failed, and the others still run."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The watch of all tests, with a grace of one second.
WATCH = """\
import tests.conftest
from tests.conftest import pytest_configure, pytest_runtest_protocol, pytest_runtest_teardown, pytest_timeout_set_timer

tests.conftest.GRACE = 1
tests.conftest.FORKED = 2
"""

# The first one leaves a child behind that holds the worker's pipe; the second one hangs after its timeout has ended it.
HANGING = """\
import os, signal, threading, time
import pytest

def wait_for_ever():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def test_deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    if os.fork() == 0:
        wait_for_ever()
    wait_for_ever()

@pytest.fixture
def stubborn():
    yield
    wait_for_ever()

def test_stubborn(stubborn):
    wait_for_ever()

def test_last():
    pass
"""


def test_a_test_that_no_timeout_ends_is_named_and_the_others_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(WATCH)
    (tmp_path / "test_hanging.py").write_text(HANGING)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 1\n")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == 1, ended.stdout
    for name in ("test_deaf", "test_stubborn"):
        assert f"crashed while running 'test_hanging.py::{name}'" in ended.stdout
    assert f'{tmp_path / "test_hanging.py"}", line 7 in wait_for_ever' in ended.stdout  # where it stands
    assert "3 failed, 1 passed" in ended.stdout  # what is stubborn fails by its timeout, too
