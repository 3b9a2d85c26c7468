"""Changes one setting in the text of `config.toml`, and nothing else in it: comments, order and spaces stay.

The file is the user's own. What is written must say exactly what was there and the change; if it would not, nothing is
written. The library for that is loaded only when something is to be changed.
"""

import contextlib
import os
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from zmesh.errors import ConfigurationError

UNSET: Final = object()
"""Stands for the value of a setting that is to be taken out."""
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

    expected = tomllib.loads(text)
    try:
        _change(expected, path, value)
        document = tomlkit.parse(text)
        _change(document, path, value)
        written = tomlkit.dumps(document)
        said = tomllib.loads(written)
    except (TOMLKitError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _by_hand(path) from error
    if _without_empty(said) != _without_empty(expected):
        raise _by_hand(path)
    return written


def _change(table: Any, path: Sequence[str], value: object) -> None:
    for depth, name in enumerate(path[:-1]):
        if name not in table:
            if value is UNSET:
                return
            _add(table, path[depth:], value)
            return
        table = table[name]
    if value is not UNSET:
        table[path[-1]] = value
    elif path[-1] in table:
        del table[path[-1]]


def _add(table: Any, path: Sequence[str], value: object) -> None:
    """Put a value where there is no table for it yet: `[quotas]` with `mailbox.messages`."""
    inner: Any = {}
    table[path[0]] = inner if type(table) is dict else _table()
    inner = table[path[0]]
    if type(table) is dict or len(path) == 2:  # noqa: PLR2004 - a table and a key in it
        for name in path[1:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
        return
    import tomlkit  # noqa: PLC0415 - as above

    inner.append(tomlkit.key(list(path[1:])), value)


def _table() -> Any:
    import tomlkit  # noqa: PLC0415 - as above

    return tomlkit.table()


def _without_empty(table: Any) -> Any:
    """Return a table without empty tables in it: one that has lost its last key may be written, or not."""
    if not isinstance(table, dict):
        return table
    inner = {name: _without_empty(value) for name, value in table.items()}
    return {name: value for name, value in inner.items() if value != {}}


def _by_hand(path: Sequence[str]) -> ConfigurationError:
    return ConfigurationError(f"{'.'.join(path)} cannot be changed as the file is written: change it there by hand")


def write_file(path: Path, text: str) -> None:
    """Put a text in the place of a file, all of it or nothing; mode and, where it is a link, the link stay.

    Raises:
        ConfigurationError: It cannot be written; the file is as it was.
    """
    target = Path(os.path.realpath(path))
    try:
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
