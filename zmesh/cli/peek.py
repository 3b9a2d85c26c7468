"""What is in a mailbox, shown without taking anything: `zmesh inbox --peek`.

Of a body only its first line is shown, and of a long one only its beginning is known. This module must never lease a
message, nor make the mailbox it looks into.
"""

from pathlib import Path
from typing import Any, Final

import click

from zmesh.cli.printing import body_text, duration, print_json, print_table
from zmesh.daemon.connecting import connected
from zmesh.daemon.naming import agent_name
from zmesh.errors import AddressError, BodyError
from zmesh.peer.arguments import checked_name
from zmesh.peer.body import unpack_body
from zmesh.peer.home import home_directory

PEEKED: Final = 20  # messages that are shown when nobody says how many
LINE: Final = 120  # characters of a first line
_TEXT: Final = b"\x81\xa4text"  # the beginning of {"text": ...}
_LENGTHS: Final = {0xD9: 2, 0xDA: 3, 0xDB: 5}  # octets before a text of more than 31, by the first one


def show_peeked(mailbox: str | None, most: int, *, dead: bool, as_json: bool) -> None:
    """Look into a mailbox.

    Args:
        mailbox: Its name; None for the one of this folder.
        most: How many messages at most.
        dead: Whether the dead ones are to be shown.
        as_json: As one JSON value.

    Raises:
        MeshError: There is no such mailbox, or the daemon cannot be asked.
    """
    name = mailbox or checked_name(agent_name(Path.cwd(), home_directory(None)), "agent name")
    with connected() as client:
        try:
            told = client.call("mailbox.peek", name=name, most=most, dead=dead)
        except AddressError as error:  # the only thing about the name that can be wrong here
            text = f"there is no mailbox {name!r} here: zmesh inbox --as {name} makes it, zmesh mailbox list shows all"
            raise AddressError(text) from error
    messages = [_described(message) for message in told["messages"]]
    if as_json:
        print_json({"mailbox": name, "count": told["count"], "messages": messages})
        return
    if not messages:
        click.echo(f"there is no {'dead ' if dead else ''}message in the mailbox {name}", err=True)
        return
    print_table(("ID", "FROM", "TYPE", "PRIORITY", "STATE", "CAME", "TAKEN", "BODY"), [_row(each) for each in messages])
    if told["count"] > len(messages):
        click.echo(f"and {told['count'] - len(messages)} more: --limit shows them", err=True)


def _described(message: dict[str, Any]) -> dict[str, Any]:
    beginning, packed = message.pop("body")
    return message | {"id": message["id"].hex(), "line": first_line(beginning, message["size"], packed=packed)}


def _row(message: dict[str, Any]) -> tuple[str, ...]:
    state = message["state"]
    if message["due_in"] is not None:
        state += f" for {duration(message['due_in'])}"
    came = "" if message["age"] is None else f"{duration(message['age'])} ago"
    return (
        message["id"], message["sender"], message["type"], message["priority"], state, came, str(message["attempts"]),
        message["line"],
    )  # fmt: skip


def first_line(beginning: bytes, size: int, *, packed: bool) -> str:
    """Return the first line of a body, of which only the beginning may be known; not made harmless.

    Args:
        beginning: Its first octets.
        size: How many it has.
        packed: Whether it is msgpack.
    """
    if len(beginning) == size:
        try:
            text = body_text(unpack_body(beginning, packed=packed))
        except BodyError as error:
            return f"({error})"
    elif packed:
        text = _text_of(beginning) or f"({size} octets)"
    else:
        text = beginning.decode(errors="replace")
    line, _, more = text.lstrip().partition("\n")
    cut = line[:LINE]
    return cut + ("..." if cut != line or more or len(beginning) < size else "")


def _text_of(beginning: bytes) -> str:
    """Return the beginning of a long text, of a body that is one or of `{"text": ...}`; empty for any other body."""
    rest = beginning.removeprefix(_TEXT)
    skipped = _LENGTHS.get(rest[0]) if rest else None
    return "" if skipped is None else rest[skipped:].decode(errors="ignore")
