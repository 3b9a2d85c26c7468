"""Starting parts, talking to them, and making sure that they end.

A worker must never outlive the `with` block it was started in, whatever happens there; it is ended by its own pid.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from zmesh.cli.bench.scale import START_SECONDS, STEP_SECONDS, STOP_SECONDS
from zmesh.errors import MeshError

_TAIL: Final = 2000  # characters of a failed part's standard error that are shown
_LOOK: Final = 0.02  # seconds between two looks at parts that work together


class BenchError(MeshError):
    """A measurement could not be made; the message says which step failed and how."""


class Worker:
    """One part, in a process of its own."""

    def __init__(self, role: str, home: Path) -> None:
        """Start the process.

        Args:
            role: One of `parts.ROLES`.
            home: Existing directory: `ZMESH_HOME` of the process, and where its standard error goes.
        """
        self._role = role
        self._asked = ""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ZMESH_")}
        environment |= {"ZMESH_HOME": str(home)}
        self._errors_path = home / f"{role}-{os.urandom(4).hex()}.stderr"
        self._errors = self._errors_path.open("wb")
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
            [sys.executable, "-m", "zmesh.cli.bench.parts", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        assert self._process.stdout is not None
        threading.Thread(target=_collect, args=(self._process.stdout, self._answers), daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        """Be the worker."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process: by the end of its input, or else by force."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # it may be gone already
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS if kind is None else 2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def ask(self, verb: str, **arguments: Any) -> None:
        """Tell the part what to do; `answer` waits for what comes of it."""
        self._asked = verb
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"verb": verb, **arguments}) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failure("it has ended") from error

    def answer(self, seconds: float = STEP_SECONDS) -> dict[str, Any]:
        """Wait for the answer to what was asked.

        Raises:
            BenchError: There is none in time, or the part failed.
        """
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise self._failure(f"not done after {seconds:.0f} s") from None
        if not line:
            raise self._failure("it has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise self._failure(answer["error"])
        return answer

    def has_answered(self) -> bool:
        """Say whether `answer` would return, or fail, at once."""
        return not self._answers.empty()

    def call(self, verb: str, seconds: float = STEP_SECONDS, **arguments: Any) -> dict[str, Any]:
        """Tell the part what to do and wait for the answer."""
        self.ask(verb, **arguments)
        return self.answer(seconds)

    def start(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """`call` for a step that only brings something up."""
        return self.call(verb, START_SECONDS, **arguments)

    def _failure(self, reason: str) -> BenchError:
        self._errors.flush()
        tail = self._errors_path.read_text(errors="replace")[-_TAIL:].strip()
        return BenchError(f"{self._role}, {self._asked}: {reason}" + (f"\n{tail}" if tail else ""))


def together(*workers: Worker) -> list[dict[str, Any]]:
    """Wait for the answers of parts that work with each other; whichever fails first is heard first."""
    deadline = time.monotonic() + STEP_SECONDS
    answers: dict[Worker, dict[str, Any]] = {}
    while len(answers) < len(workers):
        late = time.monotonic() > deadline
        for worker in workers:
            if worker not in answers and (late or worker.has_answered()):
                answers[worker] = worker.answer(0.0 if late else STOP_SECONDS)
        time.sleep(_LOOK)
    return [answers[worker] for worker in workers]


def _collect(lines: IO[str], answers: queue.Queue[str]) -> None:
    """Move a part's answers into the queue; an empty one is the end."""
    with lines:
        for line in lines:
            answers.put(line)
    answers.put("")
