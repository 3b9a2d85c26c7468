"""Changes one setting in the text of `config.toml`, and nothing else in it: comments, order and spaces stay.

The file is the user's own. What is written must say exactly what was there and the change; if it would not, nothing is
written. The library for that is loaded only when something is to be changed.
"""

import contextlib
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from zmesh.errors import ConfigurationError

UNSET: Final = object()
"""Stands for the value of a setting that is to be taken out."""
_BARE: Final = re.compile(r"(?<!\r)\n")
_MODE: Final = 0o600  # of a new file: whatever it may say one day is nobody else's matter


def changed(text: str, path: Sequence[str], value: object) -> str:
    """Return a text that says something else for one key.

    Args:
        text: Valid TOML.
        path: The names that lead to the key.
        value: What it is to be; `UNSET` to take it out.

    Raises:
        ConfigurationError: It is written in a way that cannot be changed here.
    """
    import tomlkit  # noqa: PLC0415 - see above
    from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415

    refusals = (TOMLKitError, ValueError, TypeError, KeyError, AttributeError)
    with contextlib.suppress(*refusals):
        expected = tomllib.loads(text)
        _change(expected, path, value, _nest)
        for add in (_dot, _inline):
            with contextlib.suppress(*refusals):
                document = tomlkit.parse(text)
                _change(document, path, value, add)
                written = tomlkit.dumps(document)
                if "\r\n" in text and not _BARE.search(text):
                    written = _BARE.sub("\r\n", written)
                if _without_empty(tomllib.loads(written)) == _without_empty(expected):
                    return written
    raise ConfigurationError(f"{'.'.join(path)} cannot be changed as the file is written: change it there by hand")


def _change(table: Any, path: Sequence[str], value: object, add: Callable[[Any, Sequence[str], object], None]) -> None:
    for depth, name in enumerate(path[:-1]):
        if name not in table:
            if value is not UNSET:
                add(table, path[depth:], value)
            return
        table = table[name]
    if value is not UNSET:
        table[path[-1]] = value
    elif path[-1] in table:
        del table[path[-1]]


def _nest(table: Any, path: Sequence[str], value: object) -> None:
    """Put a value where there is no table for it yet, in plain dicts."""
    for name in path[:-1]:
        table = table.setdefault(name, {})
    table[path[-1]] = value


def _dot(table: Any, path: Sequence[str], value: object) -> None:
    """The same in a document: `environment.TOKEN` in the table that is there, `mailbox.bytes` in a new `[quotas]`."""
    import tomlkit  # noqa: PLC0415 - as above

    if isinstance(table, tomlkit.TOMLDocument):
        table[path[0]] = tomlkit.table()
        table, path = table[path[0]], path[1:]
    table.append(tomlkit.key(list(path)) if len(path) > 1 else path[0], value)


def _inline(table: Any, path: Sequence[str], value: object) -> None:
    """The same, within a table that is on one line."""
    import tomlkit  # noqa: PLC0415 - as above

    inner = tomlkit.inline_table()
    _nest(inner, path[1:], value)
    table[path[0]] = inner


def _without_empty(table: Any) -> Any:
    """Return a table without empty tables in it: one that has lost its last key may be written, or not."""
    if not isinstance(table, dict):
        return table
    inner = {name: _without_empty(value) for name, value in table.items()}
    return {name: value for name, value in inner.items() if value != {}}


def write_file(path: Path, text: str) -> None:
    """Put a text in the place of a file, all of it or nothing; mode and, where it is a link, the link stay.

    Raises:
        ConfigurationError: It cannot be written, or is not to be; the file is as it was.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.stat().st_mode & stat.S_IWUSR:  # a new file in its place would be
            raise ConfigurationError(f"{path} is read-only: chmod u+w, or change it by hand")
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".new")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                os.chmod(name, target.stat().st_mode & 0o7777 if target.exists() else _MODE)  # noqa: PTH101
                file.write(text)
                file.flush()
                os.fsync(handle)
            os.replace(name, target)  # noqa: PTH105
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)  # noqa: PTH108
            raise
        _sync(target.parent)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror or error}") from error


def _sync(directory: Path) -> None:
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
