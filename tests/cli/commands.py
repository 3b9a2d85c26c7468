"""Runs the real commands as processes, each machine with a home of its own, and with a network of its own if it can."""

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from click.testing import CliRunner

from zmesh.cli.main import main
from zmesh.trust.device import Device
from zmesh.trust.trust_store import TrustStore

ROOT = Path(__file__).parents[2]
SECONDS = 30.0


class Machine:
    """A user on a machine: a home, and the commands typed there."""

    def __init__(self, home: Path, name: str, enter: tuple[str, ...] = ()) -> None:
        self.home, self.name, self._enter = home / name, name, enter
        self.inside = False  # True: commands run in this process, a quarter of a second faster each

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [*self._enter, sys.executable, "-m", "zmesh", *words]

    def shell(self, *words: str) -> list[str]:
        """The words of a shell that run a command."""
        return [shlex.quote(word) for word in self._command(words)]

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        """The environment of a command."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("ZMESH_")}
        return plain | {"ZMESH_HOME": str(self.home), "PYTHONPATH": str(ROOT), "COLUMNS": "200"} | more

    def run(self, *words: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; no traceback may be seen."""
        if self.inside:
            result = CliRunner().invoke(main, words, stdin, env=self.environment(environment), prog_name="zmesh")
            assert isinstance(result.exception, SystemExit | None), result.exception
            return subprocess.CompletedProcess(words, result.exit_code, result.stdout, result.stderr)
        ended = subprocess.run(
            self._command(words), env=self.environment(environment), input=stdin, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended

    def json(self, *words: str, **environment: str) -> Any:
        """Run a command that succeeds and prints one JSON value."""
        ended = self.run(*words, "--json", **environment)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def fails(self, code: int, *words: str, stdin: str = "", **environment: str) -> str:
        """Run a command that fails with that exit code; returns what it said."""
        ended = self.run(*words, stdin=stdin, **environment)
        assert ended.returncode == code, (ended.returncode, ended.stdout, ended.stderr)
        return ended.stderr

    def on_terminal(self, *words: str, **environment: str) -> tuple[int, str]:
        """Run a command whose output is a terminal; returns its exit code and what is seen there."""
        import pty  # noqa: PLC0415 - there is none on Windows

        ours, theirs = pty.openpty()
        with subprocess.Popen(
            self._command(words), env=self.environment({"TERM": "xterm-256color"} | environment),
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            os.close(theirs)
            seen = b""
            with contextlib.suppress(OSError):  # EIO: the other end was closed
                while data := os.read(ours, 65536):
                    seen += data
            os.close(ours)
            code = process.wait(SECONDS)
        text = seen.decode().replace("\r\n", "\n")
        assert "Traceback" not in text, text
        return code, text

    def misuses(self, *words: str, stdin: bytes = b"") -> str:
        """Run a command that is refused as wrong usage, in this process, for there are many ways of that."""
        ended = CliRunner().invoke(main, words, stdin, env={"ZMESH_HOME": str(self.home)}, prog_name="zmesh")
        assert ended.exit_code == 2, ended.output
        return ended.output

    def found(self) -> str:
        """Found a mesh without a command; returns its id."""
        self.home.mkdir(mode=0o700)
        with TrustStore(self.home / "trust.db", Device.load_or_create(self.home / "device.key")) as store:
            return store.found(self.name).mesh.hex()

    def start(self, *words: str) -> "Running":
        """Start a command."""
        return Running(self._command(words), self.environment({}))


class Running:
    """A command that is running, and the JSON Lines it prints."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._watch = threading.Timer(SECONDS, self.process.kill)
        self._watch.start()
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.cancel()
        self.process.kill()
        self.process.communicate(timeout=30)

    def event(self, name: str) -> dict[str, Any]:
        """Read until it says that; each line is one JSON value."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            said: dict[str, Any] = json.loads(line)
            if said["event"] == name:
                return said
        assert self.process.stderr
        raise AssertionError(f"it ended without saying {name}: {self.lines} {self.process.stderr.read()}")

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Wait for its end, perhaps after a signal; returns exit code and what it said as errors."""
        if number is not None:
            self.process.send_signal(number)
        rest, errors = self.process.communicate(timeout=SECONDS)
        self.lines += rest.splitlines()
        assert "Traceback" not in errors, errors
        return self.process.returncode, errors


def until(condition: Any, seconds: float = 10) -> None:
    """Return as soon as the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)


@contextmanager
def network(*, up: bool = True) -> Iterator[tuple[str, ...] | None]:
    """The words that run a command in a network with a loopback and nothing else; None where that cannot be made."""
    name = f"zmesh-{os.getpid()}-{secrets.token_hex(3)}"
    ip = shutil.which("ip")
    if os.geteuid() != 0 or ip is None:
        yield None
        return
    if subprocess.run([ip, "netns", "add", name], capture_output=True, check=False, timeout=30).returncode:
        yield None
        return
    try:
        if up:
            subprocess.run([ip, "-n", name, "link", "set", "lo", "up"], check=True, timeout=30)
        yield (ip, "netns", "exec", name)
    finally:
        subprocess.run([ip, "netns", "delete", name], check=True, timeout=30)
