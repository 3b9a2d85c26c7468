"""What `config.toml` says of adapters, the programs that the daemon runs beside itself: `[adapters.NAME]`.

Whoever can write that file has the daemon run what he likes. So this module must never take a program from a file that
another user can change, nor let anything through that a system could not run as it is written.
"""

import difflib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zmesh.errors import ConfigurationError
from zmesh.peer.arguments import brief
from zmesh.protocol.address import is_name

MAX_ADAPTERS: Final = 16  # each is a process, one that guards it, and a thread: more are better one program
MAX_WORDS: Final = 64  # of a command
MAX_VARIABLES: Final = 64  # of an environment, besides what the daemon has
MAX_TEXT: Final = 4096  # characters of a word or a variable: paths are no longer
OURS: Final = ("ZMESH_HOME", "ZMESH_ADAPTER")
"""What the daemon says itself: another home would be another daemon's."""

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """One adapter; two that are equal need no restart.

    Attributes:
        name: Of the adapter, by the grammar of agents.
        command: The program, found along `PATH`, and its arguments.
        environment: Variables besides those of the daemon.
    """

    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


def read_adapters(said: object) -> tuple[AdapterSettings, ...]:
    """Read the table of all adapters.

    Raises:
        ValueError: Something in it is wrong; the message names it.
    """
    if not isinstance(said, dict) or not all(isinstance(table, dict) for table in said.values()):
        raise ValueError('adapters are tables such as [adapters.desktop] with command = ["program", "argument"]')
    if len(said) > MAX_ADAPTERS:
        raise ValueError(f"{len(said)} adapters, more than {MAX_ADAPTERS}: let one program do the work of several")
    return tuple([_read(name, table) for name, table in said.items()])


def check_own(file: os.stat_result, path: Path) -> None:
    """See that nobody else can change a file that names programs to run, nor put another one in its place.

    Args:
        file: Of the file that was read.
        path: Where it lies.

    Raises:
        ConfigurationError: Somebody can, or it cannot be told.
    """
    if os.name != "posix":  # the user profile's access list protects it
        return
    try:
        folder = path.parent.stat()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path.parent}: {error.strerror or error}") from error
    for what, status in ((path, file), (path.parent, folder)):
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & _OTHERS:
            raise ConfigurationError(
                f"{path} names programs to run, and others can change {what} (owner {status.st_uid}, mode "
                f"{stat.S_IMODE(status.st_mode):04o}): make it yours alone (chmod go-w), or take the adapters out"
            )


def _read(name: str, table: dict[str, Any]) -> AdapterSettings:
    if not is_name(name):
        raise ValueError(f"{brief(name)} is no adapter name: 1 to 63 small letters, digits, '.', '_' or '-'")
    for key in table:
        if key not in ("command", "environment"):
            near = difflib.get_close_matches(key, ("command", "environment"), 1)
            hint = f"did you mean {near[0]!r}?" if near else "there are command, environment"
            raise ValueError(f"adapters.{name}: {brief(key)} is no setting: {hint}")
    command = table.get("command")
    if not isinstance(command, list) or not 0 < len(command) <= MAX_WORDS or not command[0]:
        raise ValueError(f'adapters.{name}: command is a list of 1 to {MAX_WORDS} texts, such as ["program", "word"]')
    for word in command:
        _check_text(f"adapters.{name}: command", word)
    return AdapterSettings(name, tuple(command), _environment(name, table.get("environment", {})))


def _environment(name: str, said: object) -> tuple[tuple[str, str], ...]:
    where = f"adapters.{name}: environment"
    if not isinstance(said, dict) or len(said) > MAX_VARIABLES:
        raise ValueError(f'{where} is a table of at most {MAX_VARIABLES} texts, such as {{DISPLAY = ":0"}}')
    for variable, value in said.items():
        if not _VARIABLE.fullmatch(variable) or len(variable) > MAX_TEXT:
            raise ValueError(f"{where}: {brief(variable)} is no name of a variable: letters, digits and '_'")
        if variable.upper() in OURS:
            raise ValueError(f"{where}: {variable} is said by the daemon itself")
        _check_text(f"{where}: {brief(variable)}", value)
    return tuple(sorted(said.items()))


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
        raise ValueError(f"{what}: {brief(value)} is no text of at most {MAX_TEXT} characters")
