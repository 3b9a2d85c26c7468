"""A systemd that is run for a test: a user instance in a mount namespace of its own, where it can be made."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNTIME = "/run/user/0"
SYSTEMD = Path("/lib/systemd/systemd")
SCRIPT = f"""
mount -t tmpfs tmpfs /run && mkdir -p -m 700 /run/systemd/system {RUNTIME} && exec {SYSTEMD} --user --log-level=err
"""
SECONDS = 20.0


@contextmanager
def systemd(home: Path) -> Iterator[tuple[str, ...]]:
    """Run a user instance whose user has that home; yields the words that run a command beside it."""
    tools = ("unshare", "nsenter", "systemctl")
    if sys.platform != "linux" or os.geteuid() != 0 or not SYSTEMD.exists() or not all(map(shutil.which, tools)):
        pytest.skip("needs root and systemd")
    environment = {"HOME": str(home), "XDG_RUNTIME_DIR": RUNTIME, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", SCRIPT],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    enter = (
        "nsenter",
        "-t",
        str(process.pid),
        "-m",
        "env",
        *(f"{name}={value}" for name, value in environment.items()),
    )
    try:
        if not _is_up(process, enter):
            process.kill()
            pytest.skip(f"systemd does not run here: {process.communicate()[1][-300:]}")
        yield enter
    finally:
        process.terminate()
        try:
            process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _is_up(process: "subprocess.Popen[str]", enter: tuple[str, ...]) -> bool:
    end = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < end:
        asked = subprocess.run(
            [*enter, "systemctl", "--user", "is-system-running"], capture_output=True, text=True, check=False
        )
        if asked.stdout.strip() in ("running", "degraded"):
            return True
        time.sleep(0.02)
    return False
