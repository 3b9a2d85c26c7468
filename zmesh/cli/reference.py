"""docs/CLI.md, written from the commands themselves: `python -m zmesh.cli.reference > docs/CLI.md`.

A test compares the two. This module must never say anything of a command that the command does not say itself.
"""

import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Final

import click

from zmesh.cli.main import COMMANDS, SECTIONS, main

HEAD: Final = """# Commands

Written by `python -m zmesh.cli.reference`; `zmesh COMMAND --help` says the same.

- Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 timed out, 130 broken off with Ctrl-C.
- A time is a number and a unit: `90`, `30s`, `15m`, `2h`, `7d`, or `never`.
- `--json` prints one JSON value, or JSON Lines where messages or events come one by one. Bytes in it are
  `{"base64": "..."}`; keys of a body that are no text are written as one.
- What others have said is printed with control characters escaped, so that it cannot steer a terminal, unless `--raw`
  says otherwise. The answer that `zmesh ask` prints to a pipe is as it is.
- `ZMESH_HOME` names the home, `ZMESH_AGENT` the mailbox, `NO_COLOR` takes the colours away.
"""
_BREAK: Final = "\b\n"  # before lines that click leaves as they are


def pages() -> Iterator[str]:
    """Write the whole document, piece by piece."""
    yield HEAD
    root = click.Context(main, info_name="zmesh")
    for title, names in SECTIONS.items():
        yield f"## {title}\n"
        for name in names:
            command = main.get_command(root, name)
            assert command is not None, COMMANDS[name]
            yield from _command(command, click.Context(command, parent=root, info_name=name), "###")


def _command(command: click.Command, context: click.Context, level: str) -> Iterator[str]:
    yield f"{level} {context.command_path}\n"
    yield f"```\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```\n"
    yield _prose(command.help or "") + "\n"
    options = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    rows = [f"| `{_cell(names)}` | {_cell(text)} |" for names, text in records if "--help" not in names]
    if rows:
        yield "\n".join(["| option | |", "|---|---|", *rows, ""])
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, click.Context(inner, parent=context, info_name=name), f"{level}#")


def _prose(text: str) -> str:
    """Return a command's help as Markdown; the lines that click leaves as they are become a block of code."""
    paragraphs = re.split(r"\n\n+", cleandoc(text))
    return "\n\n".join(
        f"```\n{part.removeprefix(_BREAK)}\n```" if part.startswith(_BREAK) else part for part in paragraphs
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print("\n".join(pages()), end="")  # noqa: T201 - this is the generator's output
