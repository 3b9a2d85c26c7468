"""What commands about messages have in common: options, kinds of values, and how they come to the daemon.

A value that is wrong in itself is wrong usage and never gets to the daemon. Completion must never start one.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from zmesh.daemon.client import Client
from zmesh.daemon.connecting import connected
from zmesh.daemon.errand import ask_daemon
from zmesh.daemon.naming import agent_name
from zmesh.daemon.place import Place, place_of
from zmesh.errors import MeshError
from zmesh.peer.arguments import checked_name
from zmesh.peer.duration import parse_timeout, parse_ttl
from zmesh.peer.home import home_directory
from zmesh.protocol.bounds import ID_BYTES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

REACH: Final = "cli"
COMPLETION_PATIENCE: Final = 1.0  # seconds that somebody who has pressed Tab waits
_Command = TypeVar("_Command", bound=Callable[..., Any])


def read_timeout(ctx: click.Context, param: click.Parameter, value: str | float | None) -> float | None:
    """Read how long to wait, such as 30s or 15m; None for as long as it takes."""
    return _duration(ctx, param, value, parse_timeout)


def read_ttl(ctx: click.Context, param: click.Parameter, value: str | float | None) -> float | None:
    """Read a ttl such as 7d; None for "never"."""
    return _duration(ctx, param, value, parse_ttl)


def _duration(
    ctx: click.Context,
    param: click.Parameter,
    value: str | float | None,
    parse: Callable[[str | float | None, str], float | None],
) -> float | None:
    try:
        return parse(value, "the time")
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def read_ident(ctx: click.Context, param: click.Parameter, value: str | None) -> bytes | None:
    """Read the id of a message, as `zmesh send` prints it."""
    if value is None:
        return None
    with suppress(ValueError):
        ident = bytes.fromhex(value)
        if len(ident) == ID_BYTES:
            return ident
    text = f"{value!r:.80} is no message id: {2 * ID_BYTES} hexadecimal digits, as zmesh send prints them"
    raise click.BadParameter(text, ctx, param)


def read_mailbox(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Read the name of a mailbox."""
    try:
        return None if value is None else checked_name(value, "agent name")
    except MeshError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def complete_address(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":  # noqa: ARG001 - click's
    """Name the agents that the running daemon knows."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - while completing only

    found = [agent for agent in _known_agents() if agent["address"].startswith(incomplete.lower())]
    return [CompletionItem(agent["address"], help=agent["role"]) for agent in found]


def complete_mailbox(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":  # noqa: ARG001 - click's
    """Name the mailboxes of this machine."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - while completing only

    agents = _known_agents()
    own = [agent["name"] for agent in agents if agent["peer"] == agents[0]["peer"]]  # our own come first
    return [CompletionItem(name) for name in own if name.startswith(incomplete.lower())]


def as_option(command: _Command) -> _Command:
    """Add `--as`."""
    text = "The mailbox that is yours; ZMESH_AGENT, [folders] in config.toml, or the project's folder, by default."
    return click.option(
        "--as", "mailbox", metavar="AGENT", callback=read_mailbox, shell_complete=complete_mailbox, help=text
    )(command)


def json_option(command: _Command) -> _Command:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")(command)


def opened(mailbox: str | None, *, here: bool, timeout: float | None = None) -> Client:
    """Return a client with a mailbox; the daemon is started if it is not running.

    Args:
        mailbox: Its name; None for the one of this folder.
        here: Whether others shall see that somebody is there to take messages.
        timeout: Seconds that the user has; None for as long as is reasonable.

    Raises:
        MeshError: As of `zmesh.connect`.
    """
    name = mailbox or checked_name(agent_name(Path.cwd(), home_directory(None)), "agent name")
    return connected(timeout=timeout, mailbox=name, reach=REACH, here=here)


def own_place() -> tuple[Path, Place]:
    """Return the home, and where its daemon listens.

    Raises:
        StoreError, DaemonError: They cannot be used.
    """
    home = home_directory(None)
    return home, place_of(home)


def _known_agents() -> list[dict[str, Any]]:
    with suppress(OSError, MeshError):
        return list(ask_daemon(own_place()[1], "agents", COMPLETION_PATIENCE))
    return []
