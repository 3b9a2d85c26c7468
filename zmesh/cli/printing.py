"""How commands print: values as JSON, text of others made harmless, tables.

What a peer has said may hold anything: escape sequences that rewrite a terminal, marks that reverse the order of
letters. Whatever this module returns as text for a terminal holds nothing of the kind. It must never load rich unless
a table is drawn.
"""

import json
import math
import sys
from binascii import b2a_base64
from collections.abc import Sequence
from typing import Any, Final

import click

from zmesh.daemon.told import ToldMessage
from zmesh.errors import BodyError

_SPACES: Final = frozenset("\xa0\u1680\u2002\u2003\u2009\u202f\u3000")  # visible as spaces, and no more than that
MAX_DEPTH: Final = 100  # values in each other: Python follows some 300 of them, and nobody reads that
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def harmless(text: str, *, lines: bool = False) -> str:
    """Return a text with everything escaped that would not be seen, or would steer a terminal.

    Args:
        text: Of whomever.
        lines: Let line breaks and tabs be what they are.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _SPACES or (lines and c in "\n\t") else c.encode("unicode_escape").decode()
        for c in text
    )


def to_json(value: Any, depth: int = 0) -> Any:
    """Return a msgpack value as JSON can carry it: bytes as `{"base64": ...}`, keys as texts, no NaN.

    What lies too deep becomes a text that says so: a sender may nest as deep as would end whoever follows.
    """
    match value:
        case bytes():
            return {"base64": b2a_base64(value, newline=False).decode()}
        case dict() | list() | tuple() if depth >= MAX_DEPTH:
            return f"(more than {MAX_DEPTH} values in each other)"
        case dict():
            return {_key(key, depth + 1): to_json(each, depth + 1) for key, each in value.items()}
        case list() | tuple():
            return [to_json(each, depth + 1) for each in value]
        case None | bool() | int() | float() | str() if not isinstance(value, float) or math.isfinite(value):
            return value
    return str(value)  # no number, or an extension type of msgpack, such as a time


def _key(key: Any, depth: int) -> str:
    return key if isinstance(key, str) else json.dumps(to_json(key, depth))


def body_text(body: Any) -> str:
    """Return a body for people: the text of `{"text": ...}`, or of a body that is one; everything else as JSON."""
    match body:
        case {"text": str(text), **rest} if not rest:
            return text
        case str():
            return body
    return json.dumps(to_json(body), ensure_ascii=False, indent=2)


def described(message: ToldMessage) -> dict[str, Any]:
    """Return a message as it is printed with --json."""
    return {
        "id": message.id.hex(), "sender": message.sender, "to": message.to, "type": message.type,
        "priority": message.priority, "thread": message.thread.hex() or None,
        "reply_to": message.reply_to.hex() or None, "sent_at": message.sent_at, "attempt": message.attempt,
        "body": to_json(body_of(message)),
    }  # fmt: skip


def body_of(message: ToldMessage) -> Any:
    """Return the body of a message; words about it where the sender's bytes cannot be read."""
    try:
        return message.body
    except BodyError as error:
        return f"({error})"


def print_body(body: Any, *, exact: bool) -> None:
    """Print a body.

    Args:
        body: Of whomever.
        exact: Whether it is printed as it is, bytes without a line break after them.
    """
    if exact and isinstance(body, bytes):
        click.echo(body, nl=False)
    else:
        text = body_text(body)
        click.echo(text if exact else harmless(text, lines=True), color=True)  # False would take escapes away


def print_json(value: Any) -> None:
    """Print one JSON value on one line."""
    click.echo(json.dumps(value))


def duration(seconds: float) -> str:
    """Write how long something took, or ago it was, in its two largest units at most."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR}h"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, faint: Sequence[bool] = ()) -> None:
    """Draw a table; on a pipe each row is one line, however long.

    Args:
        columns: Their titles.
        rows: Texts, of whomever.
        faint: For each row, whether it is of less interest.
    """
    import shutil  # noqa: PLC0415 - as the following

    from rich.console import Console  # noqa: PLC0415 - takes longer to load than most commands take
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns:
        table.add_column(title, overflow="fold")
    for number, row in enumerate(rows):
        style = "dim" if number < len(faint) and faint[number] else ""
        table.add_row(*(Text(harmless(cell)) for cell in row), style=style)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1 << 12
    console = Console(file=sys.stdout, highlight=False, width=width)
    with console.capture() as drawn:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in drawn.get().splitlines()))
