"""What programs are called by the folder they work in: the table `[folders]` of the configuration.

    [folders]
    "~/projects/api" = "backend"

Two projects whose folders are called alike get names of their own so. Short-lived programs read this: the module must
load nothing heavy, and is not to complain about other settings.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from zmesh.errors import ConfigurationError
from zmesh.protocol.address import is_name

FILE: Final = "config.toml"
MAX_BYTES: Final = 64 * 1024  # of the file: everything there is to say has a few lines
MAX_FOLDERS: Final = 256  # projects of one user that have a name of their own
KEY: Final = "folders"


def read_file(path: Path) -> tuple[str, os.stat_result | None]:
    """Return the text of the configuration, and whose that is; nothing when there is none.

    Raises:
        ConfigurationError: It cannot be read, or is no text, or too long.
    """
    try:
        with path.open("rb") as file:
            text, status = file.read(MAX_BYTES + 1), os.fstat(file.fileno())
    except FileNotFoundError:
        return "", None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error
    if len(text) > MAX_BYTES:
        raise ConfigurationError(f"{path} is longer than {MAX_BYTES} bytes")
    try:
        return text.decode("utf-8-sig"), status  # some editors begin with a mark of the byte order
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def check_folders(key: str, value: object) -> None:
    """Check the table.

    Raises:
        ValueError: Something in it is wrong; the message names it.
    """
    if not isinstance(value, dict) or len(value) > MAX_FOLDERS:
        raise ValueError(f'{key} is a table of at most {MAX_FOLDERS} folders, such as "~/projects/api" = "backend"')
    for folder, name in value.items():
        if not is_name(name):
            raise ValueError(
                f"{key}: {folder!r:.80} = {name!r:.80}: no agent name: 1 to 63 letters, digits, '.', '_', '-'"
            )
        if not _place(folder).is_absolute():
            raise ValueError(f"{key}: {folder!r:.80} is no whole path: begin with / or ~")


def named_folder(home: Path, folder: Path) -> str:
    """Return what programs in a folder are called, as the configuration says of it or of one above; or nothing.

    Raises:
        ConfigurationError: The file or the table cannot be read.
    """
    path = home / FILE
    text, _ = read_file(path)
    if KEY not in text:
        return ""
    import tomllib  # noqa: PLC0415 - 5 ms, which most programs need not wait for

    try:
        said: Any = tomllib.loads(text).get(KEY, {})
        check_folders(KEY, said)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return _nearest(said, folder)


def _nearest(said: Mapping[str, str], folder: Path) -> str:
    names = {_place(text): name for text, name in said.items()}
    return next((names[each] for each in (folder, *folder.parents) if each in names), "")


def _place(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # the home of somebody who is not here
        return Path(text)
