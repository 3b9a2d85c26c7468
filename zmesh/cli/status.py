"""`zmesh status` and `zmesh down`: the daemon as it is, and its end. Neither must ever start one."""

import time
from pathlib import Path
from typing import Any, Final

import click

from zmesh.cli.options import json_option, own_place
from zmesh.cli.printing import duration, harmless, print_json
from zmesh.daemon.errand import ask_daemon, wait_until_gone
from zmesh.daemon.wishes import forget
from zmesh.errors import MeshError

ENDING: Final = 60.0  # seconds for a daemon to write down what it has and say goodbye; it takes well below one
SHOWN: Final = 10  # clients or mailboxes that are named; the others are counted


@click.command()
@json_option
def status(*, as_json: bool) -> None:
    """Say whether this machine's daemon runs, where, with whom, and what waits.

    Exit code 1 when none runs; it is not started.
    """
    home, place = own_place()
    try:
        told = ask_daemon(place, "daemon.status")
    except OSError:
        _tell_absence(home, as_json=as_json)
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

    Programs that were connected do not start it again. Whoever comes next does. One that does not answer is killed,
    which loses nothing either.
    """
    home, place = own_place()
    try:
        pid = ask_daemon(place, "daemon.down")["pid"]
        wait_until_gone(place, pid, ENDING)
    except (OSError, MeshError):  # none runs; or it does not listen, or not answer, or not come to its end
        from zmesh.daemon.ending import end  # noqa: PLC0415 - seldom needed

        pid = end(home)
    forget(place)  # one that was killed could not
    if as_json:
        print_json({"ended": pid})
    else:
        click.echo("the daemon of this machine does not run" if pid is None else f"the daemon, process {pid}, is down")


def _tell_absence(home: Path, *, as_json: bool) -> None:
    """Nobody listens: say whether it is because there is no daemon."""
    from zmesh.daemon.ending import running  # noqa: PLC0415 - seldom needed

    pid = running(home)
    if as_json:
        print_json({"running": False} | ({} if pid is None else {"pid": pid}))
    elif pid is None:
        click.echo("the daemon of this machine does not run: `zmesh up` starts it, and so does the next message")
    else:
        click.echo(
            f"the daemon of this machine, process {pid or '(unknown)'}, does not listen: it starts, or ends, or its "
            "socket was removed. If that stays so, `zmesh down` ends it"
        )


def describe(told: dict[str, Any]) -> list[str]:
    """Return what the daemon says of itself, in lines for people."""
    lines = [
        f"{told['name']} is up: process {told['pid']}, zmesh {told['version']}, for {duration(told['uptime'])}",
        *(f"address    {endpoint}" for endpoint in told["endpoints"]),
        f"door       port {told['door']}",
        f"linked     {', '.join(told['linked']) or 'nobody yet'}",
        *_halts(told.get("traffic", {})),
        f"clients    {_named(_client(client) for client in told['clients']) if told['clients'] else 'none'}",
        f"to send    {_count(told['outgoing'])}",
        f"to take    {_named(f'{name} {count}' for name, count in sorted(told['mailboxes'].items())) or 'nothing'}",
        f"home       {told['home']}",
        f"health     {told['health']}",
        *(f"           {_part(part)}" for part in told["parts"] if part["trouble"] or part["kind"] != "peer"),
    ]
    return [*lines, *(f"TROUBLE    {trouble}" for trouble in told["troubles"])]


def _halts(traffic: dict[str, Any]) -> list[str]:
    """Say what an administrator has halted; a daemon of an older version tells nothing of that."""
    lines: list[str] = []
    if paused := traffic.get("paused"):
        lines.append(f"PAUSED     {_since(paused)}: no mail to or from other machines until zmesh admin resume")
    if draining := traffic.get("draining"):
        lines.append(f"DRAINING   by {draining}: nothing new is sent until zmesh admin resume")
    for halted in traffic.get("disconnected", ()):
        peer = halted["peer"]
        lines.append(f"CUT OFF    {peer} {_since(halted)}: no mail until zmesh admin reconnect {peer}")
    return lines


def _since(halted: dict[str, Any]) -> str:
    return f"since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(halted['since']))}, by {halted['by']}"


def _client(client: dict[str, Any]) -> str:
    holds = f", holds {client['holds']}" if client["holds"] else ""
    return f"{client['mailbox'] or '(no mailbox)'} (process {client['pid'] or '?'}{holds})"


def _part(part: dict[str, Any]) -> str:
    kind = "" if part["kind"] == "peer" else f"{part['kind']} "
    process = f" (process {part['pid']})" if part["pid"] else ""
    why = part["trouble"] or part["says"]
    return f"{kind}{part['part']}{process} {part['state']}{f': {why}' if why else ''}"


def _named(words: Any) -> str:
    named = list(words)
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return ", ".join(named[:SHOWN]) + more


def _count(messages: int) -> str:
    return f"{messages} message{'' if messages == 1 else 's'}" if messages else "nothing"
