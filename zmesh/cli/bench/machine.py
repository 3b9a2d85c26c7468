"""What the figures of a benchmark depend on besides the program: the machine, its disk and the versions below it."""

import os
import platform
import sqlite3
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import zmq

import zmesh

_IN_MEMORY: Final = frozenset(("tmpfs", "ramfs"))


def filesystem(path: Path) -> str:
    """Return the type of the filesystem a directory is on, or "unknown" where the system does not list its mounts."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    listed = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    real = path.resolve()
    holding = [(Path(point), kind) for point, kind in listed if real.is_relative_to(Path(point))]
    return max(holding, key=lambda mount: len(mount[0].parts), default=(path, "unknown"))[1]


def disk(asked: Path | None) -> Path:
    """Return where to put the stores: where asked, or the temporary directory unless that is only in memory."""
    if asked is not None:
        return asked
    usual = Path(tempfile.gettempdir())
    return Path.home() if filesystem(usual) in _IN_MEMORY else usual


def facts(directory: Path) -> dict[str, Any]:
    """Return what the figures depend on."""
    try:
        client: str | None = version("nats-py")
    except PackageNotFoundError:
        client = None
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "zmesh": zmesh.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "filesystem": filesystem(directory),
        "load_before": load,
        "sqlite": sqlite3.sqlite_version,
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
        "nats_py": client,
    }
