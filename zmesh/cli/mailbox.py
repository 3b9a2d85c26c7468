"""`zmesh mailbox`: the mailboxes of this machine, and what is to be done with mail that nobody takes.

Mail stays in its peer's store: this module must never make a copy of a message anywhere else.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from zmesh.cli.admin import asking
from zmesh.cli.options import complete_mailbox, json_option, read_ident, read_mailbox
from zmesh.cli.printing import print_json, print_table
from zmesh.daemon.connecting import connected

_OTHER_PEER: Final = (
    "mail cannot be moved to another peer: its senders know that it is stored here, and would never hear what became "
    "of it there. Name a mailbox of this machine; what is to go elsewhere is sent again"
)
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _read_own(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Read the name of a mailbox of this machine."""
    if value is not None and ("@" in value or "~" in value):
        raise click.BadParameter(_OTHER_PEER, ctx, param)
    return read_mailbox(ctx, param, value)


def _name(label: str) -> Callable[[_Command], _Command]:
    """Return the argument that names a mailbox."""
    return click.argument(label.lower(), metavar=label, callback=_read_own, shell_complete=complete_mailbox)


@click.group()
def mailbox() -> None:
    """Show the mailboxes of this machine, and move, replay or remove what nobody takes.

    A mailbox stays when its agent has gone, and keeps its mail. `zmesh inbox --peek` shows what is in one.
    """


@mailbox.command("list")
@json_option
def list_all(*, as_json: bool) -> None:
    """List all mailboxes: what waits, is taken or dead in them, and who takes it."""
    found = _call("list")
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("there is no mailbox yet: zmesh inbox --as NAME makes one of that name")
        return
    print_table(
        ("MAILBOX", "WAITING", "LEASED", "DEAD", "BYTES", "HOLDERS"),
        [_row(info) for info in found],
        faint=[not info["holders"] and not info["waiting"] for info in found],
    )


def _row(info: dict[str, Any]) -> tuple[str, ...]:
    pids = ", ".join(str(program["pid"]) for program in info["programs"])
    holders = f"{len(info['holders'])}" + (f" (process {pids})" if pids else "") if info["holders"] or pids else ""
    numbers = (info["waiting"], info["leased"], info["dead"], info["size"])
    return (info["name"], *map(str, numbers), holders)


@mailbox.command()
@_name("FROM")
@_name("TO")
@json_option
def move(*, as_json: bool, **names: str) -> None:
    """Move what nobody has taken out of the mailbox FROM into TO, both of this machine.

    Messages keep their ids and attempts, and their senders' receipts go on. What somebody has taken stays with them;
    dead messages go along, and stay dead.
    """
    source, target = names["from"], names["to"]
    done = _call("move", by=asking(), name=source, into=target)
    if as_json:
        print_json({"from": source, "to": target, **done})
        return
    dead = f", and {_messages(done['dead'])} that {_is(done['dead'])} dead" if done["dead"] else ""
    click.echo(f"{_messages(done['moved'])} moved from {source} to {target}{dead}")


@mailbox.command()
@_name("NAME")
@click.argument("ident", metavar="[ID]", required=False, callback=read_ident)
@json_option
def replay(*, name: str, ident: bytes | None, as_json: bool) -> None:
    """Have the dead messages of the mailbox NAME delivered again, or the one with the given ID.

    They are delivered as if nobody had ever taken them, and do not expire; their senders see them as stored again.
    """
    done = _call("replay", by=asking(), name=name, ident=ident)
    if as_json:
        print_json({"mailbox": name, **done})
        return
    count = done["replayed"]
    click.echo(f"{_messages(count)} of {name} {_is(count)} delivered again" if count else f"nothing in {name} is dead")


@mailbox.command()
@_name("NAME")
@json_option
def remove(*, name: str, as_json: bool) -> None:
    """Remove the mailbox NAME, if it is empty and nobody takes its messages."""
    done = _call("remove", by=asking(), name=name)
    if as_json:
        print_json(done)
        return
    click.echo(f"the mailbox {name} is removed; what is sent to it from now on waits at its sender")


def _call(verb: str, **arguments: Any) -> Any:
    with connected() as client:
        return client.call(f"mailbox.{verb}", **arguments)


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
