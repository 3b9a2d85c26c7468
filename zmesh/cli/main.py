"""The `zmesh` command itself: it knows the names of its commands and loads one when that one is run.

This module must import no command and nothing heavy: `zmesh --help` is answered without sockets, databases or rich.
"""

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from zmesh.errors import AddressError, MeshError, WaitTimeout

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

FAILED, MISUSED, TIMED_OUT, INTERRUPTED = 1, 2, 3, 130
"""Exit codes: a refusal or failure, wrong usage, a wait that ended without what it waited for, Ctrl-C."""

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "send": ("zmesh.cli.send:send", "Send a message to an agent."),
    "ask": ("zmesh.cli.send:ask", "Send a question, and print its answer."),
    "inbox": ("zmesh.cli.inbox:inbox", "Take messages and print them."),
    "mailbox": ("zmesh.cli.mailbox:mailbox", "Show mailboxes, and move, replay or remove what nobody takes."),
    "wait": ("zmesh.cli.send:wait", "Wait until a message is stored, or handled."),
    "trace": ("zmesh.cli.trace:trace", "Draw a message's life, as far as it is known here."),
    "agents": ("zmesh.cli.roster:agents", "List all agents, here and elsewhere."),
    "peers": ("zmesh.cli.roster:peers", "List the other peers."),
    "up": ("zmesh.cli.up:up", "Bring this machine's daemon up."),
    "status": ("zmesh.cli.status:status", "Say whether the daemon runs, with whom, and what waits."),
    "down": ("zmesh.cli.status:down", "End this machine's daemon."),
    "admin": ("zmesh.cli.admin:admin", "Look after the running daemon."),
    "doctor": ("zmesh.cli.doctor:doctor", "Say what keeps this machine from talking to the others."),
    "completion": ("zmesh.cli.completion:completion", "Print what makes the shell complete zmesh's words."),
    "invite": ("zmesh.cli.invite:invite", "Let another machine into this one's mesh."),
    "join": ("zmesh.cli.join:join", "Join the mesh of a machine that shows a code."),
    "service": ("zmesh.cli.service:service", "Have this system start the daemon at login."),
    "uninstall": ("zmesh.cli.uninstall:uninstall", "Remove what zmesh has made on this machine."),
    "trust": ("zmesh.cli.trust:trust", "Show and change who is trusted."),
    "grant": ("zmesh.cli.grant:grant", "Show and change what other machines may do here."),
    "demo": ("zmesh.cli.demo:demo", "Run a small mesh on this machine and show what it does."),
    "bench": ("zmesh.cli.bench.command:bench", "Measure this machine's mesh, alone or beside NATS JetStream."),
}
"""Name of each command: where it is, as `module:attribute`, and what `zmesh --help` says about it."""

SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Messages": ("send", "ask", "inbox", "mailbox", "wait", "trace"),
    "Who is there": ("agents", "peers"),
    "This machine": ("up", "status", "down", "service", "admin", "doctor", "completion", "uninstall"),
    "Other machines": ("invite", "join", "trust", "grant"),
    "Try it out": ("demo", "bench"),
}
"""The commands as `zmesh --help` lists them."""


class _Misuse(click.ClickException):
    exit_code = MISUSED


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a slip in its name is answered with near ones."""
        name = args[0]
        if not (name.startswith("-") or ctx.resilient_parsing) and name not in COMMANDS:
            from difflib import get_close_matches  # noqa: PLC0415 - only after a slip

            near = get_close_matches(name, COMMANDS)
            hint = f": did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"there is no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the list of commands without importing them."""
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(len("completion")), COMMANDS[name][1]) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete the name of a command without importing any."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - while completing only

        names = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line; what cannot be printed is a line and an exit code, too."""
        if sys.stdout is None:  # it was closed: nobody wants to read
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - until the process ends
        if sys.stdin is None:
            sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - as above
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # what the terminal has no letters for
        try:
            return super().main(*args, **extra)
        except OSError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(FAILED)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of the mesh becomes its text and an exit code, never a traceback."""
        try:
            return super().invoke(ctx)
        except MeshError as error:
            raise _told(error) from error
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None


def _told(error: Exception) -> click.ClickException:
    """Return an error of the mesh as its text and an exit code; text of peers in it is made harmless."""
    from zmesh.cli.printing import harmless  # noqa: PLC0415 - only where something has failed

    text = harmless(str(error), lines=True)
    if isinstance(error, WaitTimeout):
        return _TimedOut(text)
    if isinstance(error, AddressError | ValueError | TypeError):
        return _Misuse(text)
    return click.ClickException(text)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zmesh-agents", prog_name="zmesh")
def main() -> None:
    """Let AI agents talk to each other directly: durable, encrypted messages with no server in between.

    \b
    Two terminals, one message:
        zmesh inbox --as bob --follow
        zmesh send --as ann bob "hello"

    On two machines: zmesh invite on the one, zmesh join on the other, and then "bob@laptop" for bob.

    The first command starts this machine's daemon, which holds the mail. `zmesh COMMAND --help` says more.
    """  # noqa: D301 - the \b is click's: leave the lines as they are


if __name__ == "__main__":
    main()
