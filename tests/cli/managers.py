"""A systemd that is run for a test: a user instance in a mount namespace of its own, where it can be made."""

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNTIME = "/run/user/0"
SYSTEMD = Path("/lib/systemd/systemd")
CGROUPS = Path("/sys/fs/cgroup")
SCRIPT = f"""
mount -t tmpfs tmpfs /run && mkdir -p -m 700 /run/systemd/system {RUNTIME} && exec {SYSTEMD} --user --log-level=err
"""
JOIN = f"""
for folder; do
    echo $$ > "$folder/cgroup.procs" || exit 1
done
exec unshare -m --propagation private sh -c '{SCRIPT}'
"""
SECONDS = 20.0


@contextmanager
def systemd(home: Path) -> Iterator[tuple[str, ...]]:
    """Run a user instance whose user has that home; yields the words that run a command beside it."""
    tools = ("unshare", "nsenter", "systemctl")
    if sys.platform != "linux" or os.geteuid() != 0 or not SYSTEMD.exists() or not all(map(shutil.which, tools)):
        pytest.skip("needs root and systemd")
    environment = {"HOME": str(home), "XDG_RUNTIME_DIR": RUNTIME, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with cgroup() as folders:
        yield from _run(environment, folders)


def _run(environment: dict[str, str], folders: list[Path]) -> Iterator[tuple[str, ...]]:
    process = subprocess.Popen(
        ["sh", "-c", JOIN, "sh", *map(str, folders)],
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


@contextmanager
def cgroup() -> Iterator[list[Path]]:
    """Make a cgroup of the test's own in each hierarchy; what is in it is moved out, and it is removed, in the end.

    A systemd takes the cgroup it is started in for its root, and moves whatever processes are there into a scope: in
    the machine's own root these would be everybody's.
    """
    ours = Path("/proc/self/cgroup").read_text()
    own = f"zmesh-test-{os.getpid()}-{secrets.token_hex(3)}"
    unified = [CGROUPS] if (CGROUPS / "cgroup.procs").exists() else []
    folders: list[Path] = []
    try:
        try:
            for root in unified or sorted(path.parent for path in CGROUPS.glob("*/cgroup.procs")):
                if not root.is_symlink() and root.name != "cpuset":  # which takes nobody in before it is set up
                    (root / own).mkdir()
                    folders.append(root / own)
        except OSError as error:
            pytest.skip(f"no cgroups can be made here: {error}")
        if not folders:
            pytest.skip("there are no cgroups here")
        yield folders
    finally:
        for folder in folders:
            _empty(folder)
    assert Path("/proc/self/cgroup").read_text() == ours, "systemd has moved processes that are not the test's"


def _empty(folder: Path) -> None:
    """Remove a cgroup with those in it; processes that are left go back to where they came from."""
    for inner in [path for path in folder.iterdir() if path.is_dir()]:
        _empty(inner)
    for pid in (folder / "cgroup.procs").read_text().split():
        with suppress(OSError):
            (folder.parent / "cgroup.procs").write_text(pid)
    with suppress(OSError):
        folder.rmdir()


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
