"""What tests of adapters share: settings of adapters that leave traces, and who is alive."""

import sys
from contextlib import suppress
from pathlib import Path

from zmesh.peer.adapter_settings import AdapterSettings

PROGRAM = Path(__file__).with_name("adapter_program.py")


def command(folder: Path, *words: str) -> tuple[str, ...]:
    """The command of an adapter that does what these words say."""
    return sys.executable, str(PROGRAM), str(folder), *words


def adapter(folder: Path, *words: str, name: str = "desktop") -> AdapterSettings:
    """The settings of one."""
    return AdapterSettings(name, command(folder, *words))


def table(folder: Path, *words: str, name: str = "desktop") -> str:
    """The same in the configuration file."""
    return f"[adapters.{name}]\ncommand = {list(command(folder, *words))}\n"


def shell(script: str, name: str = "desktop") -> AdapterSettings:
    """The settings of a shell script."""
    return AdapterSettings(name, ("sh", "-c", script))


def noted(folder: Path, name: str = "pids") -> list[int]:
    """The processes that have left their ids, the oldest first."""
    with suppress(FileNotFoundError):
        return [int(line) for line in (folder / name).read_text().splitlines(keepends=True) if line.endswith("\n")]
    return []


def alive(pid: int) -> bool:
    """Say whether a process is there, and more than a trace that nobody has taken note of."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def guardian_of(pid: int) -> int:
    """The process that guards an adapter."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent > 1, f"process {pid} has lost its guardian"
    return parent
