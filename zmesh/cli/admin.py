"""`zmesh admin`: what an administrator does to the running daemon, and the log of it.

The commands are in modules of their own, one for each kind of work; this one must import none of them before it is run.
"""

import os
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

from zmesh.cli.options import json_option
from zmesh.cli.printing import print_json, print_table
from zmesh.daemon.connecting import connected

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "pause": ("zmesh.cli.traffic:pause", "Exchange no mail with other machines."),
    "resume": ("zmesh.cli.traffic:resume", "End a pause or a drain."),
    "drain": ("zmesh.cli.traffic:drain", "Take no new sends, and wait until what can go out is out."),
    "disconnect": ("zmesh.cli.traffic:disconnect", "Exchange no mail with one other peer."),
    "reconnect": ("zmesh.cli.traffic:reconnect", "Exchange mail with that peer again."),
    "log": ("zmesh.cli.admin:log", "Show what was done by hand, and what went wrong."),
    "purge": ("zmesh.cli.keeping:purge", "Forget messages that have ended."),
    "quota": ("zmesh.cli.keeping:quota", "Show how much of what is bounded is used; change a bound."),
    "settings": ("zmesh.cli.keeping:settings", "Show the settings, and where they come from; change them."),
    "compact": ("zmesh.cli.keeping:compact", "Give free space of the store back to the file system."),
}
"""Name of each command: where it is, as `module:attribute`, and what `zmesh admin --help` says about it."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Name all commands, in the order in which they are told."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands)
def admin() -> None:
    """Look after the running daemon.

    Whatever is done here is in the audit log: who asked for it, and what came of it.
    """


def act(verb: str, **arguments: Any) -> Any:
    """Ask the daemon, which is started if it does not run, to do something; it notes who asks.

    Raises:
        MeshError: It cannot be done.
    """
    with connected() as client:
        return client.call(f"admin.{verb}", by=asking(), **arguments)


def asking() -> str:
    """Return who asks, for the audit log: the shell or the program that runs this command, which goes on after it."""
    return f"process {os.getppid()}"


@click.command()
@click.option("-n", "--lines", "most", metavar="N", type=click.IntRange(1, 1000), default=20, show_default=True,
              help="How many lines, the latest ones.")  # fmt: skip
@json_option
def log(*, most: int, as_json: bool) -> None:
    """Show the audit log of this machine's peer, the latest lines last.

    It holds what was done by `zmesh admin`, and what the peer found worth keeping: losses, disks that went back in
    time, frames that were forged.
    """
    with connected() as client:
        lines = client.call("admin.log", most=most)
    if as_json:
        print_json(lines)
        return
    if not lines:
        click.echo("the audit log is empty: nothing was done by hand, and nothing has gone wrong")
        return
    rows = [
        [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line["at"])), line["kind"], line["text"]] for line in lines
    ]
    print_table(("TIME", "WHAT", "TEXT"), rows)
