"""Every example runs as it stands, as its reader would run it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon_home import kill_daemon
from tests.storm.processes import wait_until

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
        process.communicate(timeout=30)


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
    assert lines[1:] == ["stored: stored", "code@hello-laptop says: Research OAuth 2.0", "handled: handled"]
    assert printed(home, "hello.py")[1:] == lines[1:]  # the stores are there already


def listener(home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text('discovery = ["rendezvous"]\nport = 17480\nname = "laptop"\n')
    try:
        with started(home, "listener.py") as listening:
            assert line_of(listening) == "librarian@laptop listens"
            assert printed(home, "listener.py", "What is OAuth 2.0?") == ["I would read the RFC."]
            assert line_of(listening) == "reader@laptop asks: What is OAuth 2.0?"
    finally:
        kill_daemon(home)


def disk_space(home: Path) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    path = home / "config.toml"
    plain = 'discovery = ["rendezvous"]\nport = 17486\nname = "laptop"\n'
    command = [sys.executable, str(EXAMPLES / "disk_space.py"), "1000000"]
    path.write_text(f"{plain}[adapters.disk]\ncommand = {command}\n")
    path.chmod(0o600)
    environment = os.environ | {"ZMESH_HOME": str(home), "PYTHONPATH": str(ROOT)}

    def zmesh(*words: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "zmesh", *words], env=environment, capture_output=True, text=True, timeout=SECONDS,
            check=True,
        )  # fmt: skip
        return ended.stdout

    try:
        zmesh("up")
        little = r"adapter disk \(process \d+\) degraded: \d+ GiB are free, less than 1000000\n"
        wait_until(lambda: re.search(little, zmesh("status")), SECONDS, "the daemon runs it, and it says how it is")
        assert re.fullmatch(r"\d+ GiB are free\n", zmesh("ask", "--as", "ann", "disk", "how much?"))
        path.write_text(plain)
        zmesh("down")
        with started(home, "disk_space.py", "0") as by_hand:
            assert line_of(by_hand) == "disk@laptop answers"
            assert re.search(r"client disk \(process \d+\) healthy: \d+ GiB are free\n", zmesh("status"))
            by_hand.send_signal(signal.SIGINT)
            assert (by_hand.communicate(timeout=SECONDS)[1], by_hand.returncode) == ("", 0)
    finally:
        kill_daemon(home)


def ask_and_answer(home: Path) -> None:
    answer = "librarian@answering answers: You asked 'What is OAuth 2.0?'. I would read the RFC."
    with started(home, "ask_and_answer.py", "ask", "What is OAuth 2.0?") as asking:
        with started(home, "ask_and_answer.py", "answer") as answering:
            assert line_of(answering) == "librarian@answering is listening"
            assert line_of(answering) == "code@asking asks: What is OAuth 2.0?"
            out, errors = asking.communicate(timeout=SECONDS)
            said = ["asking librarian@answering", answer]
            assert (out.splitlines(), errors, asking.returncode) == (said, "", 0)
        with started(home, "ask_and_answer.py", "answer") as again:  # killed, and started again
            assert printed(home, "ask_and_answer.py", "ask", "Again?")[1].startswith(
                "librarian@answering answers: You asked"
            )
            assert line_of(again) == "librarian@answering is listening"
    with started(home, "ask_and_answer.py") as wrong:
        _, errors = wrong.communicate(timeout=SECONDS)
        assert "In one terminal:" in errors
        assert wrong.returncode == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent in another way there")
@pytest.mark.parametrize(("role", "code"), [("answer", 0), ("ask", 130)])
def test_ctrl_c_ends_it_without_a_traceback(role: str, code: int, tmp_path: Path) -> None:
    with started(tmp_path, "ask_and_answer.py", "answer") as answering:
        assert line_of(answering) == "librarian@answering is listening"
        if role == "answer":
            answering.send_signal(signal.SIGINT)
            assert (answering.communicate(timeout=SECONDS)[1], answering.returncode) == ("", code)
            return
        answering.send_signal(signal.SIGSTOP)  # so that no answer comes before the Ctrl-C
        with started(tmp_path, "ask_and_answer.py", "ask", "why?") as asking:
            assert line_of(asking) == "asking librarian@answering"
            asking.send_signal(signal.SIGINT)
            assert (asking.communicate(timeout=SECONDS)[1], asking.returncode) == ("", code)


def test_no_example_is_in_the_way_of_another_or_of_the_readme() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (*EXAMPLES.glob("*.py"), ROOT / "README.md")]
    names = [set(re.findall(r"zmesh\.Peer\(\"([^\"]+)\"\) as", text)) for text in texts]
    assert sum(map(bool, names)) == len(names) - 2, "all but two run peers of their own"
    assert len(set.union(*names)) == sum(map(len, names))


RUNS: dict[str, Callable[[Path], None]] = {
    "hello.py": hello,
    "ask_and_answer.py": ask_and_answer,
    "listener.py": listener,
    "disk_space.py": disk_space,
}


@pytest.mark.parametrize("name", RUNS)
def test_it_runs(name: str, tmp_path: Path) -> None:
    RUNS[name](tmp_path / "home")


def test_every_example_is_run_here() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_it_says_how_to_run_it(name: str) -> None:
    source = (EXAMPLES / name).read_text(encoding="utf-8")
    assert f"python examples/{name}" in source.split('"""')[1]
