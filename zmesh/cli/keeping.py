"""`zmesh admin compact`, `purge`, `quota` and `settings`: keeping the store small, and the bounds as they are wanted.

Each command asks the daemon, and prints what came of it. Nothing here may change a store itself.
"""

import sys
import threading
from concurrent.futures import Future
from typing import Any, Final

import click

from zmesh.cli.admin import act
from zmesh.cli.options import json_option
from zmesh.cli.printing import print_json
from zmesh.daemon.connecting import connected
from zmesh.protocol.bounds import KIB

LOOK_EVERY: Final = 0.1  # seconds between looks at how far it is, on a terminal
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")


def _watched(what: str, verb: str, **arguments: Any) -> Any:
    """Ask for something that may take a while; on a terminal a bar shows how far it is.

    Raises:
        MeshError: It could not be done.
    """
    if not sys.stderr.isatty():
        return act(verb, **arguments)
    from rich.console import Console  # noqa: PLC0415 - on a terminal only, as the following
    from rich.progress import Progress  # noqa: PLC0415

    answer: Future[Any] = Future()

    def ask() -> None:
        try:
            answer.set_result(act(verb, **arguments))
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            answer.set_exception(error)

    thread = threading.Thread(target=ask, daemon=True)
    with Progress(console=Console(stderr=True), transient=True) as bar, connected() as looking:
        task = bar.add_task(what, total=None)
        thread.start()
        while thread.is_alive():
            told = looking.call("admin.progress")
            bar.update(task, completed=told["done"], total=told["total"] or None)
            thread.join(LOOK_EVERY)
    return answer.result()


def size(octets: float) -> str:
    """Write a number of bytes with the unit in which it can be read."""
    unit = 0
    while octets >= KIB and unit < len(_UNITS) - 1:
        octets, unit = octets / KIB, unit + 1
    return f"{octets:.0f} {_UNITS[unit]}" if not unit else f"{octets:.1f} {_UNITS[unit]}"


@click.command()
@json_option
def compact(*, as_json: bool) -> None:
    """Give free space of the store back to the file system.

    The daemon goes on meanwhile: it is done in small steps between commits. A store that is used gives back what it
    does not need by itself, but for a few MiB; this is for when the disk is wanted for something else.
    """
    told = _watched("giving back", "compact")
    if as_json:
        print_json(told)
        return
    for when in ("before", "after"):
        sizes = told[when]
        whole = size(sizes["file"] + sizes["log"])
        click.echo(f"{when:<7} {whole}, of which {size(sizes['free'])} free and {size(sizes['log'])} write-ahead log")
