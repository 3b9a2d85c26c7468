"""An adapter for tests, as `python adapter_program.py FOLDER [WORDS]`: it leaves traces in a folder, and does as told.

`pids` gets a line per process that begins, `two` is there if two were there at once. It uses nothing of zmesh unless
told to report.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOREVER = 600.0


def main(folder: Path, words: list[str]) -> None:
    """Do what the words say, and then nothing."""
    held = (folder / "one").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        (folder / "two").touch()
    if "stubborn" in words:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "slow" in words:
        signal.signal(signal.SIGTERM, _end_slowly)
    if "children" in words:
        child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({FOREVER})"])
        _note(folder, "children", child.pid)
    if "stray" in words:
        stray = subprocess.Popen(["sleep", str(FOREVER)], start_new_session=True)
        _note(folder, "stray", stray.pid)
    if "environment" in words:
        (folder / "environment").write_bytes(Path("/proc/self/environ").read_bytes())
        (folder / "place").write_text(f"{Path.cwd()}\n{os.getpgid(0) == os.getpid()}\n{sys.stdin.read()!r}\n")
    _note(folder, "pids", os.getpid())
    if "report" in words:
        _report(words)
    if "crash" in words:
        sys.exit("out of \x1b[31mluck")
    time.sleep(FOREVER)


def _end_slowly(*_: object) -> None:
    time.sleep(3)
    sys.exit(0)


def _note(folder: Path, name: str, pid: int) -> None:
    with (folder / name).open("a") as file:
        file.write(f"{pid}\n")


def _report(words: list[str]) -> None:
    import zmesh  # noqa: PLC0415 - the others start faster without

    with zmesh.connect("desk") as client:
        client.report(*words[words.index("report") + 1 :])
        time.sleep(FOREVER)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
