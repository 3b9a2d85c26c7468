"""The `zmesh` command itself: it knows the names of its commands and loads one when that one is run.

This module must import no command and nothing heavy: `zmesh --help` is answered without sockets, databases or rich.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

from zmesh.errors import MeshError, WaitTimeout

TIMED_OUT: Final = 3
"""The exit code of a wait that ended without what it waited for; 1 is a refusal or failure, 2 is wrong usage."""

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "bench": ("zmesh.cli.bench.command:bench", "Measure this machine's mesh, alone or beside NATS JetStream."),
    "grant": ("zmesh.cli.grant:grant", "Show and change what other machines may do here."),
    "invite": ("zmesh.cli.invite:invite", "Let another machine into this one's mesh."),
    "join": ("zmesh.cli.join:join", "Join the mesh of a machine that shows a code."),
    "service": ("zmesh.cli.service:service", "Have this system start the daemon at login."),
    "uninstall": ("zmesh.cli.uninstall:uninstall", "Remove what zmesh has made on this machine."),
    "up": ("zmesh.cli.up:up", "Host this machine's peer."),
    "trust": ("zmesh.cli.trust:trust", "Show and change who is trusted."),
    "doctor": ("zmesh.cli.doctor:doctor", "Say what keeps this machine from talking to the others."),
    "demo": ("zmesh.cli.demo:demo", "Run a small mesh on this machine and show what it does."),
}
"""Name of each command: where it is, as `module:attribute`, and what `zmesh --help` says about it."""


class _TimedOut(click.ClickException):
    exit_code = TIMED_OUT


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run, or asked for their own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(COMMANDS.items())])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of the mesh becomes its text and an exit code, never a traceback."""
        try:
            return super().invoke(ctx)
        except MeshError as error:
            raise (_TimedOut if isinstance(error, WaitTimeout) else click.ClickException)(str(error)) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zmesh-agents", prog_name="zmesh")
def main() -> None:
    """Let AI agents talk to each other directly: durable, encrypted messages with no server in between."""


if __name__ == "__main__":
    main()
