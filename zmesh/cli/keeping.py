"""`zmesh admin compact`, `purge`, `quota` and `settings`: keeping the store small, and the bounds as they are wanted.

Each command asks the daemon, and prints what came of it. Nothing here may change a store itself.
"""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import click

from zmesh.cli.admin import act
from zmesh.cli.options import complete_mailbox, json_option, read_mailbox, read_ttl
from zmesh.cli.printing import duration, harmless, print_json, print_table
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


# --- purge ---


def _read_age(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read how old something is to be, such as 7d; None where nothing is said of it."""
    age = None if value is None else read_ttl(ctx, param, value)
    if value is not None and age is None:
        raise click.BadParameter("nothing is older than for ever", ctx, param)
    return age


@click.command()
@click.option("--expired", is_flag=True, help="Sent messages that have expired or were cancelled; the default.")
@click.option("--ended", is_flag=True, help="Sent messages that were handled, refused or lost.")
@click.option("--dead", is_flag=True, help="Dead messages: bodies of received ones, which can then not be replayed.")
@click.option("--older-than", "older", metavar="TIME", callback=_read_age, help="Only what was here before: 7d, 12h.")
@click.option("--mailbox", metavar="AGENT", callback=read_mailbox, shell_complete=complete_mailbox,
              help="Only messages to this mailbox of this machine.")  # fmt: skip
@click.option("--dry-run", "dry", is_flag=True, help="Only count, and touch nothing.")
@json_option
def purge(
    *, expired: bool, ended: bool, dead: bool, older: float | None, mailbox: str | None, dry: bool, as_json: bool
) -> None:
    """Forget messages that have ended, and say how many that were.

    Nothing that has not ended is touched. Of what was sent goes the record, and with it the receipt. Of what was
    received stays the record, by which a message is recognised that comes a second time: nothing is ever delivered
    twice because of this. The daemon goes on meanwhile. Afterwards the space is free for new messages; zmesh admin
    compact gives it back to the file system.
    """
    chosen = {"expired": expired, "ended": ended, "dead": dead}
    kinds = [kind for kind, wanted in chosen.items() if wanted] or ["expired"]
    wanted = {"kinds": kinds, "mailbox": mailbox, "older": older}
    if dry:
        with connected() as client:
            told = client.call("admin.purgeable", **wanted)
    else:
        told = _watched("forgetting", "purge", **wanted)
    if as_json:
        print_json({"dry_run": dry} | told)
        return
    _tell_purge(told, "would go" if dry else "went", older)


def _tell_purge(told: dict[str, Any], went: str, older: float | None) -> None:
    for side, states in told["gone"].items():
        for state, count in states.items():
            click.echo(f"{side + ', ' + state:<20} {count['messages']:>9,} {went}, {size(count['bytes'])}")
    if not any(told["gone"].values()):
        click.echo("there is nothing of that kind to forget")
    kept = told["kept"]
    click.echo(f"{'received, ended':<20} {kept['known']:>9,} stay known, so that none is ever taken twice")
    click.echo(f"{'sent, stored there':<20} {kept['awaited']:>9,} stay: it is not said yet what became of them")
    if older is not None and told["known_for"] < older:
        click.echo(f"how old messages are is known for the last {duration(told['known_for'])} only: older ones stay")


# --- compact ---


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


# --- quota ---


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def quota(ctx: click.Context, *, as_json: bool) -> None:
    """Show how much of what is bounded is used; change a bound.

    peer: un-ended messages to one other peer. mailbox: un-ended messages in one. device: what another device has sent,
    of what may come at once, ten seconds' worth of its rate; zmesh grant limit sets that for one device.
    """
    if ctx.invoked_subcommand is not None:
        return
    with connected() as client:
        rows = client.call("admin.quotas")
    if as_json:
        print_json(rows)
        return
    used = [row for row in rows if row["messages"]["used"] or row["bytes"]["used"]]
    shown = used or rows[:1]
    cells = [
        (row["quota"], row["of"] or "(nobody yet)", _use(row["messages"], "{:,}".format), _use(row["bytes"], size))
        for row in shown
    ]
    print_table(("QUOTA", "OF", "MESSAGES", "BYTES"), cells)
    if len(rows) > len(shown):
        click.echo(f"{len(rows) - len(shown)} more are not used at all")


def _use(value: dict[str, int], written: Callable[[int], str]) -> str:
    return f"{written(value['used'])} of {written(value['limit'])}"


@quota.command("set")
@click.argument("name")
@click.argument("limit")
@json_option
def set_quota(*, name: str, limit: str, as_json: bool) -> None:
    """Change a bound of this machine's peers, such as mailbox.messages 50000, or mailbox.bytes 256M.

    There are peer.messages, peer.bytes, mailbox.messages, mailbox.bytes, device.messages and device.bytes, the last
    two per second. It holds at once, and is written into config.toml. What is there already stays.
    """
    _tell_change(act("set", key=f"quotas.{name}", value=limit), as_json=as_json)


@quota.command("unset")
@click.argument("name")
@json_option
def unset_quota(*, name: str, as_json: bool) -> None:
    """Give a bound its default again."""
    _tell_change(act("unset", key=f"quotas.{name}"), as_json=as_json)


# --- settings ---


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def settings(ctx: click.Context, *, as_json: bool) -> None:
    """Show all settings, where they come from, and which of them hold at once when they are changed."""
    if ctx.invoked_subcommand is not None:
        return
    with connected() as client:
        rows = client.call("admin.settings")
    if as_json:
        print_json(rows)
        return
    lives = {True: "at once", False: "at the next start"}
    print_table(
        ("SETTING", "VALUE", "FROM", "A CHANGE HOLDS"),
        [(row["key"], _value(row["value"]), row["source"], lives[row["live"]]) for row in rows],
    )


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@settings.command("set")
@click.argument("key")
@click.argument("value")
@json_option
def set_setting(*, key: str, value: str, as_json: bool) -> None:
    """Change a setting in config.toml, where comments and order stay, and have the daemon take it.

    Lists are written with commas: discovery rendezvous,mdns. What would not load is refused, and nothing is changed.
    """
    _tell_change(act("set", key=key, value=value), as_json=as_json)


@settings.command("unset")
@click.argument("key")
@json_option
def unset_setting(*, key: str, as_json: bool) -> None:
    """Take a setting out of config.toml: it is as by default again."""
    _tell_change(act("unset", key=key), as_json=as_json)


def _tell_change(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    key, value = told["key"], told["value"]
    said = f"{key} is not in the file any more" if value is None else f"{key} = {_value(value)}"
    effects = {
        "now": "it holds now",
        "restart": "it holds when the daemon is started again: zmesh down, then zmesh up",
    }
    effect = effects.get(told["effect"], f"it is in the file, and does not hold: {told['effect']} says otherwise")
    click.echo(harmless(f"{said}: {effect}"))
    if key == "name" and told["effect"] == "restart":
        click.echo("a peer of another name has mailboxes of its own: mail stays with the name it has come to")
    if told["also"]:
        click.echo(f"the file had been changed before; taken as well: {', '.join(told['also'])}")
    others = [other for other in told["restart"] if other != key]
    if others:
        click.echo(f"at the next start: {', '.join(others)}")
