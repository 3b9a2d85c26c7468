"""`make install`: the command is there afterwards, from the sources as they stand, and can be removed again."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 100.0


@pytest.mark.skipif(sys.platform == "win32", reason="make and a Unix shell")
def test_it_puts_the_command_where_it_says(tmp_path: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    clone = tmp_path / "clone"
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).exists() and not name.startswith("tests/"):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    stale = clone / "build" / "lib" / "zmesh" / "gone.py"  # of an earlier version
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    home = tmp_path / "a home"
    # No registry is asked: what is needed comes from the tests' own environment.
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    environment = kept | {
        "HOME": str(home), "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0",
        "PYTHONPATH": sysconfig.get_path("purelib"),
    }  # fmt: skip

    def run(*words: str | Path) -> str:
        ended = subprocess.run(
            [*map(str, words)], cwd=clone, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    said = run("make", "install", f"PYTHON={sys.executable}")
    command = home / ".local" / "bin" / "zmesh"
    assert f'export PATH="{command.parent}:$PATH"' in said
    assert "Usage: zmesh" in run(command, "--help")
    place = home / ".local" / "lib" / "zmesh-agents"
    where = run(place / "bin" / "python", "-P", "-c", "import zmesh; print(zmesh.__file__)").strip()
    assert Path(where).is_relative_to(place), "not the clone's"
    assert not (Path(where).parent / "gone.py").exists()
    assert not (clone / "build").exists()
    removal = run(command, "uninstall", "--keep-data", "--yes").splitlines()[-1].partition(": ")[2]
    assert removal.startswith("rm -r "), removal
    run("sh", "-c", removal)
    assert not command.is_symlink()
    assert not place.exists()
