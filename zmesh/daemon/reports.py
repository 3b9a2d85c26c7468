"""What programs that are connected say of their own health: adapters that the daemon runs, and others.

A report lives as long as the connection it came by. This module must never believe a report for longer than that, nor
take a good word for a process that does not run.
"""

import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any, Final

from zmesh.daemon.health import Health, worst
from zmesh.errors import MeshFull
from zmesh.peer.arguments import brief

MAX_REPORTS: Final = 64  # programs that report; people read them all, and there are few adapters on a machine
MAX_TEXT: Final = 200  # characters of a report: a line
SAYABLE: Final = (Health.HEALTHY, Health.DEGRADED, Health.FAILED)
"""What a program can be that says so itself: what recovers is not there, or says what is left to do."""

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What one program says.

    Attributes:
        name: Of its mailbox.
        adapter: As which adapter the daemon has started it; empty where it was not the daemon.
        pid: Its process, as it says.
        state: How it is.
        text: Why, or what it wants known; one line.
        since: When it began to be so, on the clock of `Reports`.
    """

    name: str
    adapter: str
    pid: int
    state: Health
    text: str
    since: float


def checked_report(health: object, text: object) -> tuple[Health, str]:
    """Return what a program says of its health.

    Raises:
        TypeError, ValueError: That can be nothing of the kind.
    """
    named = {state.value: state for state in SAYABLE}
    if not isinstance(health, str) or health not in named:
        raise ValueError(f"no health is called {brief(health)}; choose one of {', '.join(named)}")
    if not isinstance(text, str):
        raise TypeError(f"the text of a report is a text, not {brief(text)}")
    line = " ".join(text.split())
    if len(line) > MAX_TEXT:
        raise ValueError(f"the text of a report is at most {MAX_TEXT} characters long, not {len(line)}: make it a line")
    return named[health], line


class Reports:
    """All that is said now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing."""
        self._clock = clock
        self._said: dict[object, Report] = {}

    def say(self, who: object, state: Health, text: str, *, name: str, adapter: str, pid: int) -> None:
        """Take a report in place of the one before.

        Args:
            who: The connection.
            state: How the program is.
            text: Why.
            name: As of `Report`.
            adapter: As of `Report`.
            pid: As of `Report`.

        Raises:
            MeshFull: Too many programs report.
        """
        before = self._said.get(who)
        if before is None and len(self._said) >= MAX_REPORTS:
            raise MeshFull(f"{MAX_REPORTS} programs report their health to the daemon already: end some of them")
        since = before.since if before is not None and before.state is state else self._clock()
        self._said[who] = Report(name, adapter, pid, state, text, since)

    def forget(self, who: object) -> None:
        """The connection has ended."""
        self._said.pop(who, None)

    def of_adapter(self, name: str) -> Report | None:
        """Return what an adapter says; the worst of it, if it has several connections."""
        said = [report for report in self._said.values() if report.adapter == name]
        state = worst(report.state for report in said)
        return next((report for report in said if report.state is state), None)

    def of_others(self, adapters: Container[str]) -> list[Values]:
        """Return how the programs are that are none of these adapters, as `Supervisor.report` does."""
        now = self._clock()
        return [
            {
                "part": report.name, "kind": "client", "state": report.state.value, "for": round(now - report.since, 3),
                "trouble": trouble_of(report), "restarts": 0, "says": report.text, "pid": report.pid or None,
            }
            for report in self._said.values() if report.adapter not in adapters
        ]  # fmt: skip


def trouble_of(report: Report) -> str:
    """Return the trouble that a program says it has; empty if it has none."""
    return "" if report.state is Health.HEALTHY else report.text or "it does not say why"
