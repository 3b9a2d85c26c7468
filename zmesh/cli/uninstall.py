"""`zmesh uninstall`: remove what zmesh has made on this machine, and say how the program itself is removed.

Keys and mail must never go without a clear word of the user's: nobody can make them again.
"""

import json
import shlex
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import click

from zmesh.daemon.belongings import KEPT, Belonging
from zmesh.daemon.clearing import Cleared, Plan, clear, plan
from zmesh.errors import ServiceError
from zmesh.peer.home import home_path

DISTRIBUTION: Final = "zmesh-agents"
SHOWN: Final = 10  # of the things that are left: a home may be a whole user's by mistake
_DELETE, _KEEP, _STOP = "delete", "keep", "stop"


@click.command()
@click.option("--keep-data", is_flag=True, help="Keep the device key, trust, mail and settings.")
@click.option("--purge", is_flag=True, help="Delete these too, for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def uninstall(*, keep_data: bool, purge: bool, yes: bool, as_json: bool) -> None:
    """Remove what zmesh has made on this machine: the service, the daemon, its files.

    Shows what there is, and asks before it deletes keys and mail. What zmesh has not made stays, and is named.
    """
    if keep_data and purge:
        raise click.UsageError("--keep-data and --purge contradict each other")
    terminal = sys.stdin.isatty() and not as_json
    if not (keep_data or purge) and (yes or not terminal):
        raise click.UsageError("say what becomes of keys and mail: --keep-data, or --purge")
    if purge and not yes and not terminal:
        raise click.UsageError("--purge deletes keys and mail for good: say --yes too, where nobody can be asked")
    home = home_path()
    there = plan(home)
    if not as_json:
        _show(there)
    if not keep_data and not yes and any(file.what in KEPT for file in there.found.files):
        keep_data = _asked(purge=purge)
    done = clear(home, keep=keep_data)
    if as_json:
        click.echo(json.dumps(_as_json(home, done)))
    else:
        _report(home, done)
    if done.trouble:
        raise ServiceError(f"{done.trouble}. Its file is removed")


def _show(there: Plan) -> None:
    if there.daemon is not None:
        click.echo(f"{'daemon':<24} process {there.daemon}")
    if there.service is not None:
        click.echo(f"{'service':<24} {there.service}")
    for what, files in _grouped(there.found.files).items():
        places = sorted({_place(there.found.home, file.path) for file in files})
        click.echo(f"{what:<24} {_size(files)}  {', '.join(map(str, places))}")
    if not there.found.files and there.service is None:
        click.echo(f"there is nothing of zmesh's in {there.found.home}")


def _asked(*, purge: bool) -> bool:
    """Ask what becomes of keys and mail; return whether they are kept."""
    if purge:
        click.confirm("Delete keys and mail too, for good?", abort=True)
        return False
    answer = click.prompt(
        "Keys and mail: delete them for good, keep them, or stop here?",
        type=click.Choice((_DELETE, _KEEP, _STOP)),
        default=_STOP,
    )
    if answer == _STOP:
        raise click.Abort
    return bool(answer == _KEEP)


def _report(home: Path, done: Cleared) -> None:
    click.echo(f"removed: {len(done.removed)} files, {_size(done.removed)}")
    if done.kept:
        click.echo(f"kept: {len(done.kept)} files, {_size(done.kept)}, in {home}")
    if done.rest:
        more = f", and {len(done.rest) - SHOWN} more" if len(done.rest) > SHOWN else ""
        names = ", ".join(ascii(str(path)).strip("'\"") for path in done.rest[:SHOWN])
        click.echo(f"left, for it is not zmesh's: {names}{more}")
    click.echo(f"the program itself: {_program()}")


def _as_json(home: Path, done: Cleared) -> dict[str, object]:
    def listed(files: Iterable[Belonging]) -> dict[str, dict[str, int]]:
        return {
            what: {"files": len(each), "bytes": sum(file.size for file in each)}
            for what, each in _grouped(files).items()
        }

    return {
        "home": str(home),
        "home_left": done.home,
        "daemon": done.daemon,
        "service": str(done.service) if done.service else None,
        "removed": listed(done.removed),
        "kept": listed(done.kept),
        "rest": [str(path) for path in done.rest],
        "trouble": done.trouble,
        "program": _program(),
    }


def _grouped(files: Iterable[Belonging]) -> dict[str, list[Belonging]]:
    groups: dict[str, list[Belonging]] = {}
    for file in files:
        groups.setdefault(file.what, []).append(file)
    return groups


def _place(home: Path, path: Path) -> Path:
    """Return what is shown of where a file is: itself in the home, else its directory."""
    return path if path.parent == home else path.parent


def _size(files: Iterable[Belonging]) -> str:
    size = float(sum(file.size for file in files))
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - of each in the next one
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _program() -> str:
    """Return the command that removes the program."""
    parts = Path(sys.prefix).parts
    if "pipx" in parts:
        return f"pipx uninstall {DISTRIBUTION}"
    if "uv" in parts and "tools" in parts:
        return f"uv tool uninstall {DISTRIBUTION}"
    place = Path(sys.prefix)
    if place.parts[-2:] == ("lib", DISTRIBUTION):  # `make install`
        return f"rm -r {shlex.join((str(place), str(place.parents[1] / 'bin' / 'zmesh')))}"
    try:
        by_uv = (distribution(DISTRIBUTION).read_text("INSTALLER") or "").strip() == "uv"
    except PackageNotFoundError:
        by_uv = False
    quoted = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return (
        f"uv pip uninstall --python {quoted} {DISTRIBUTION}" if by_uv else f"{quoted} -m pip uninstall {DISTRIBUTION}"
    )
