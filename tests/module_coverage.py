"""Fails unless each module of zmesh/protocol is covered, every branch of it, by its own test file alone.

``python tests/module_coverage.py`` measures them all, two at a time; names (``wire inbox``) measure those modules only.
A module is covered by ``tests/protocol/test_<module>.py``: lines that only other tests reach do not count, so this
script must never combine the data of two test files.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "zmesh" / "protocol"
TESTS = ROOT / "tests" / "protocol"
AT_ONCE = 2


def measured_modules() -> list[str]:
    """Every module of the package but its front page."""
    return sorted(path.stem for path in SOURCES.glob("*.py") if path.name != "__init__.py")


def shortfall(module: str) -> str:
    """What keeps the module from full coverage, or nothing."""
    source = SOURCES / f"{module}.py"
    test = TESTS / f"test_{module}.py"
    for path in (source, test):
        if not path.is_file():
            return f"there is no {path.relative_to(ROOT)}"
    with tempfile.TemporaryDirectory() as scratch:
        coverage = [sys.executable, "-m", "coverage"]
        include = f"--include={source.relative_to(ROOT)}"
        environment = os.environ | {"COVERAGE_FILE": str(Path(scratch, "data"))}
        pytest = ["-m", "pytest", str(test.relative_to(ROOT)), "-q", "-p", "no:cacheprovider"]
        for command in (
            [*coverage, "run", "--branch", include, *pytest],
            [*coverage, "report", include, "--show-missing", "--precision=2", "--fail-under=100"],
        ):
            ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            if ended.returncode:
                return f"{' '.join(command[1:])}\n{ended.stdout}{ended.stderr}".rstrip()
    return ""


def main() -> int:
    """Measure the modules named on the command line, or all of them; the exit code is 1 if one falls short."""
    modules = sys.argv[1:] or measured_modules()
    failures = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for module, reason in zip(modules, pool.map(shortfall, modules), strict=True):
            if reason:
                failures += 1
                print(f"zmesh/protocol/{module}.py: {reason}\n")
    if failures:
        print(f"module coverage: {failures} of {len(modules)} modules of zmesh/protocol fall short")
        return 1
    print(f"module coverage: {len(modules)} modules of zmesh/protocol, each 100% by its own tests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
