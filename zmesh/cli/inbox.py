"""`zmesh inbox`: take messages from a mailbox and print them.

A message is done once it was printed and what was printed has left this process; until then it is leased, and comes
again, to whoever asks next, should this process end. So a message may be printed twice, and is never lost here.
"""

import sys
import time
from collections.abc import Callable
from typing import Final

import click

from zmesh.cli.options import as_option, opened, read_timeout
from zmesh.cli.peek import PEEKED, show_peeked
from zmesh.cli.printing import body_of, body_text, described, harmless, print_body, print_json
from zmesh.daemon.client import LISTEN, Client, ClientMessage
from zmesh.daemon.silence import NotHeard
from zmesh.errors import DaemonUnreachable, LeaseLost, WaitTimeout
from zmesh.protocol.bounds import MAX_PEEKED

AT_ONCE: Final = 100  # messages leased at a time
SETTLED: Final = 5.0  # seconds after its start in which a daemon links to those that are there
SHOWN: Final = 3  # peers that are named
INDENT: Final = "    "  # before each line of a body: no body can look like the head of another message


@click.command()
@as_option
@click.option(
    "--most", type=click.IntRange(1), metavar="N", help="Take so many at most; all that are there by default."
)
@click.option(
    "--timeout",
    metavar="TIME",
    callback=read_timeout,
    help="Wait so long for a message, where none is there; not at all by default.",
)
@click.option(
    "--follow", is_flag=True, help="Go on taking messages as they come, until --timeout has passed without one."
)
@click.option("--raw", is_flag=True, help="Print the bodies only, as they are, on a terminal too.")
@click.option("--json", "as_json", is_flag=True, help="Print the messages as JSON Lines; with --peek, as one value.")
@click.option("--peek", is_flag=True, help="Show what is there and take nothing; whoever holds it notices nothing.")
@click.option("--dead", is_flag=True, help="With --peek: show the messages that were given up on.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_PEEKED),
    metavar="N",
    help=f"With --peek: so many at most; {PEEKED} by default.",
)
def inbox(
    *,
    mailbox: str | None,
    most: int | None,
    timeout: float | None,
    follow: bool,
    raw: bool,
    as_json: bool,
    peek: bool,
    dead: bool,
    limit: int | None,
) -> None:
    """Take the messages of a mailbox, and print them; each is handled once it was printed.

    Exit code 3 when none came within --timeout.
    """
    if peek:
        if most is not None or timeout is not None or follow or raw:
            raise click.UsageError(
                "--peek takes nothing and waits for nothing: only --dead, --limit and --json go with it"
            )
        show_peeked(mailbox, limit or PEEKED, dead=dead, as_json=as_json)
        return
    if dead or limit is not None:
        raise click.UsageError("--dead and --limit go with --peek")
    if raw and as_json:
        raise click.UsageError("--raw and --json contradict each other")
    if sys.__stdout__ is None:  # what would be printed to nowhere would be lost
        raise click.UsageError("standard output is closed: there is nowhere to print messages to")
    show: Callable[[ClientMessage], None] = _show
    if raw:
        show = _show_raw
    elif as_json:
        show = _show_json
    patience = timeout if timeout is not None or follow else 0.0
    with opened(mailbox, here=follow, timeout=patience) as client:
        taken = _take_all(client, show, most, patience, follow=follow)
        if not taken and patience:
            raise WaitTimeout(f"no message for {client.address} came within {patience:g} s")
        if not taken and not as_json:
            click.echo(f"there is no message for {client.address}{_not_yet(client)}", err=True)


def _tell_whose(client: Client) -> None:
    """Tell a person what is waited for, and where messages are to be sent to."""
    if sys.stderr.isatty():
        click.echo(f"waiting for messages to {client.address}; Ctrl-C ends this", err=True)


def _not_yet(client: Client) -> str:
    """Say what may be on its way still, to a daemon that this very command has started, as it may be."""
    if client.call("daemon.status")["uptime"] > SETTLED:
        return ""
    away = sorted({peer["name"] for peer in client.peers() if not peer["linked"]})
    if not away:
        return ""
    return f" yet: the daemon has just started, and is not linked to {', '.join(away[:SHOWN])} (--timeout 10s waits)"


def _take_all(
    client: Client, show: Callable[[ClientMessage], None], most: int | None, patience: float | None, *, follow: bool
) -> int:
    """Take and print messages; return how many."""
    if follow and show is _show:
        _tell_whose(client)
    count = 0
    while most is None or count < most:
        wait = patience if follow or not count else 0.0
        messages = _take(client, AT_ONCE if most is None else min(AT_ONCE, most - count), wait)
        for message in messages:
            show(message)
            sys.stdout.flush()
            _finish(message)
        count += len(messages)
        if not messages:
            break
    return count


def _take(client: Client, most: int, patience: float | None) -> list[ClientMessage]:
    """Wait for messages; a wait without an end is made of many."""
    end = None if patience is None else time.monotonic() + patience
    while True:
        left = LISTEN if end is None else max(0.0, min(LISTEN, end - time.monotonic()))
        try:
            messages = client.take(most, left)
        except NotHeard as error:
            if end is None:  # nobody has said how long
                raise DaemonUnreachable(str(error)) from error
            raise
        if messages or (end is not None and time.monotonic() >= end):
            return messages


def _finish(message: ClientMessage) -> None:
    try:
        message.done()
    except LeaseLost as error:
        click.echo(f"warning: {message.id.hex()} may come again: {error}", err=True)


# --- the three ways of printing a message ---


def _show(message: ClientMessage) -> None:
    about = [click.style(message.sender, bold=True), message.type]
    if message.priority != "normal":
        about.append(message.priority)
    about += [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(message.sent_at)), f"id {message.id.hex()}"]
    if message.reply_to:
        about.append(f"answers {message.reply_to.hex()}")
    if message.attempt > 1:
        about.append(f"attempt {message.attempt}")
    body = harmless(body_text(body_of(message)), lines=True)
    lines = "\n".join(INDENT + line for line in body.split("\n"))
    click.echo(f"{'  '.join(about)}\n{lines}")


def _show_raw(message: ClientMessage) -> None:
    print_body(body_of(message), exact=True)


def _show_json(message: ClientMessage) -> None:
    print_json(described(message))
