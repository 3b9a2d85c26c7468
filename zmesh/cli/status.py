"""`zmesh status` and `zmesh down`: the daemon as it is, and its end. Neither must ever start one."""

from typing import Any, Final

import click

from zmesh.cli.options import json_option, own_place
from zmesh.cli.printing import duration, harmless, print_json
from zmesh.daemon.errand import ask_daemon, wait_until_gone

ENDING: Final = 60.0  # seconds for a daemon to write down what it has and say goodbye; it takes well below one
SHOWN: Final = 10  # clients or mailboxes that are named; the others are counted


@click.command()
@json_option
def status(*, as_json: bool) -> None:
    """Say whether this machine's daemon runs, where, with whom, and what waits.

    Exit code 1 when none runs; it is not started.
    """
    try:
        told = ask_daemon(own_place()[1], "daemon.status")
    except OSError:
        if as_json:
            print_json({"running": False})
        else:
            click.echo("the daemon of this machine does not run: `zmesh up` starts it, and so does the next message")
        click.get_current_context().exit(1)
    if as_json:
        print_json({"running": True} | told)
        return
    for line in describe(told):
        click.echo(harmless(line))


@click.command()
@json_option
def down(*, as_json: bool) -> None:
    """End this machine's daemon, and wait until it is gone; messages for it wait where they are.

    Programs that were connected do not start it again. Whoever comes next does.
    """
    _, place = own_place()
    try:
        pid = ask_daemon(place, "daemon.down")["pid"]
    except OSError:
        pid = None
    if pid is not None:
        wait_until_gone(place, pid, ENDING)
    if as_json:
        print_json({"ended": pid})
    else:
        click.echo("the daemon of this machine does not run" if pid is None else f"the daemon, process {pid}, is down")


def describe(told: dict[str, Any]) -> list[str]:
    """Return what the daemon says of itself, in lines for people."""
    lines = [
        f"{told['name']} is up: process {told['pid']}, zmesh {told['version']}, for {duration(told['uptime'])}",
        *(f"address    {endpoint}" for endpoint in told["endpoints"]),
        f"door       port {told['door']}",
        f"linked     {', '.join(told['linked']) or 'nobody yet'}",
        f"clients    {_named(_client(client) for client in told['clients']) if told['clients'] else 'none'}",
        f"to send    {_count(told['outgoing'])}",
        f"to take    {_named(f'{name} {count}' for name, count in sorted(told['mailboxes'].items())) or 'nothing'}",
        f"home       {told['home']}",
        f"health     {told['health']}",
        *(f"           {_part(part)}" for part in told["parts"] if part["trouble"] or _kind(part)),
    ]
    return [*lines, *(f"TROUBLE    {trouble}" for trouble in told["troubles"])]


def _client(client: dict[str, Any]) -> str:
    holds = f", holds {client['holds']}" if client["holds"] else ""
    return f"{client['mailbox'] or '(no mailbox)'} (process {client['pid'] or '?'}{holds})"


def _part(part: dict[str, Any]) -> str:
    process = f" (process {part['pid']})" if part.get("pid") else ""
    why = part["trouble"] or part.get("says")
    return f"{_kind(part)}{part['part']}{process} {part['state']}{f': {why}' if why else ''}"


def _kind(part: dict[str, Any]) -> str:
    """Say what kind of part it is; nothing for those of the peer, the only ones that older daemons know."""
    kind = part.get("kind", "peer")
    return "" if kind == "peer" else f"{kind} "


def _named(words: Any) -> str:
    named = list(words)
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return ", ".join(named[:SHOWN]) + more


def _count(messages: int) -> str:
    return f"{messages} message{'' if messages == 1 else 's'}" if messages else "nothing"
