"""One run of one adapter, as the daemon sees it: its guardian is started, heard, and told to end it.

Everything that blocks happens in a thread of its own, for an event loop cannot wait for processes on every system.
This module must never leave a process of the adapter behind because its guardian has gone.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from zmesh.daemon.guardian import KILLED, LOOK_EVERY, PATIENCE
from zmesh.daemon.naming import ADAPTER
from zmesh.daemon.process import clean
from zmesh.peer.adapter_settings import AdapterSettings

ENDING: Final = PATIENCE + 3 * KILLED  # seconds for a guardian to end its adapter; then it is killed itself
_APART: Final = 0x08000000 if os.name == "nt" else 0  # CREATE_NO_WINDOW

Values = dict[str, Any]


class Guarded:
    """One run.

    Attributes:
        begun: Done with the process id of the adapter once it runs.
        over: Done with the reason, in words, once nothing of it is there.
        waits: True while something of the run before is still there.
    """

    def __init__(self, settings: AdapterSettings, home: Path, directory: Path) -> None:
        """Start it; the running event loop hears what becomes of it.

        Args:
            settings: What to run.
            home: Of the daemon's state, in which it works.
            directory: For its log and its lock.
        """
        self._loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[int] = self._loop.create_future()
        self.over: asyncio.Future[str] = self._loop.create_future()
        self.waits = False
        self._group = 0
        self._guardian: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._unwanted = False
        self._why = ""
        order = {
            "command": list(settings.command),
            "environment": environment_of(settings, home, os.environ),
            "directory": str(home),
            "log": str(directory / f"adapter-{settings.name}.log"),
            "lock": str(directory / f"adapter-{settings.name}.lock"),
        }
        thread = threading.Thread(target=self._run, args=(order,), name=f"adapter {settings.name}", daemon=True)
        thread.start()

    async def end(self) -> None:
        """End it, and wait until nothing of it is there."""
        self._let_go()
        if not await self._over_within(ENDING):
            self._kill()
            await self._over_within(KILLED)

    async def _over_within(self, seconds: float) -> bool:
        return bool((await asyncio.wait({self.over}, timeout=seconds))[0])

    def _let_go(self) -> None:
        """Close the guardian's pipe, by which it knows."""
        with self._lock:
            self._unwanted = True
            if self._guardian is not None and self._guardian.stdin is not None:
                with contextlib.suppress(OSError):
                    self._guardian.stdin.close()

    def _kill(self) -> None:
        with self._lock:
            if self._guardian is not None:
                self._guardian.kill()

    # --- the thread ---

    def _run(self, order: Values) -> None:
        try:
            self._hear(self._start(order))
        except OSError as error:
            self._why = f"its guardian cannot be started: {error.strerror or error}"
        finally:
            self._call(self.over, self._why or "it was told to end")

    def _start(self, order: Values) -> "subprocess.Popen[bytes]":
        errors = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            guardian = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "zmesh.daemon.guardian", order["log"]],
                env=clean(os.environ),
                cwd=order["directory"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                start_new_session=True,
                creationflags=_APART,
            )
        finally:
            os.close(errors)
        assert guardian.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: that is heard
            guardian.stdin.write(json.dumps(order).encode() + b"\n")
        with self._lock:
            self._guardian = guardian
            if self._unwanted:
                guardian.stdin.close()
        return guardian

    def _hear(self, guardian: "subprocess.Popen[bytes]") -> None:
        assert guardian.stdout is not None
        with guardian.stdout as told:
            for line in iter(told.readline, b""):
                with contextlib.suppress(ValueError, TypeError):  # half a line of one that was killed
                    self._take(json.loads(line))
        code = guardian.wait()
        self._let_go()
        if not self._why:
            self._clear()
            self._why = f"its guardian has ended with {described(code)}"

    def _take(self, told: Values) -> None:
        match told:
            case {"waits": _}:
                self.waits = True
            case {"started": int(pid)}:
                self.waits = False
                self._group = pid
                self._call(self.begun, pid)
            case {"refused": str(why)}:
                self._why = f"cannot be started: {why}"
            case {"ended": int(code), "said": str(said)}:
                self._why = f"ended with {described(code)}{': ' if said else ''}{said}"

    def _clear(self) -> None:
        """Kill what a guardian that was killed has left, and wait until it is gone."""
        if not self._group or sys.platform == "win32":
            return
        end = time.monotonic() + KILLED
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < end:
                os.killpg(self._group, signal.SIGKILL)
                time.sleep(LOOK_EVERY)

    def _call(self, future: "asyncio.Future[Any]", value: Any) -> None:
        def settle() -> None:
            if not future.done():
                future.set_result(value)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(settle)


def environment_of(settings: AdapterSettings, home: Path, here: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an adapter: the daemon's, without what belongs to an agent, and its own."""
    return clean(here) | dict(settings.environment) | {"ZMESH_HOME": str(home), ADAPTER: settings.name}


def described(code: int) -> str:
    """Name an exit code, or the signal that it stands for."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
