"""What people type as the name and the value of a setting, as the configuration has it.

It must never guess what is not clear: what it does not know is read as TOML, or else is a text, and is checked with
the file.
"""

import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from zmesh.errors import ConfigurationError
from zmesh.peer import configured_quotas
from zmesh.peer.arguments import brief
from zmesh.peer.folders import KEY
from zmesh.protocol.bounds import KIB, MIB

LISTS: Final = ("peers", "discovery")
"""Settings that are lists of texts, typed with commas between them."""
_TEXTS: Final = ("name",)
_UNITS: Final = {"": 1, "K": KIB, "M": MIB, "G": KIB * MIB}
_AMOUNT: Final = re.compile(r"(\d[\d_]{0,15})\s*([KMG]?)(?:i?B)?(?:/s)?", re.IGNORECASE)


def path_of(key: str) -> Sequence[str]:
    """Return the names that lead to a setting; what stands behind `folders.` is one name, dots and all.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(key, str):
        raise ConfigurationError(f"{brief(key)} is no name of a setting: that is a text")
    table, dot, rest = key.partition(".")
    path = [KEY, rest] if table == KEY and dot else key.split(".")
    if not all(path):
        raise ConfigurationError(f"{brief(key)} is no name of a setting: zmesh admin settings lists them")
    return path


def read_value(key: str, text: str) -> Any:
    """Return the value of a setting.

    Args:
        key: Its name.
        text: As somebody typed it: `studio`, `7420`, `128M`, `rendezvous,mdns`.

    Raises:
        ConfigurationError: It can be none of this setting.
    """
    table = path_of(key)[0]
    if not isinstance(text, str):
        raise ConfigurationError(f"{key} = {brief(text)}: a value is written as a text")
    if key in LISTS and not text.lstrip().startswith("["):
        return text.replace(",", " ").split()
    if key in _TEXTS or table == KEY:
        return text
    if table == configured_quotas.KEY:
        return _amount(key, text)
    with suppress(ValueError):
        return tomllib.loads(f"value = {text}")["value"]
    return text


def _amount(key: str, text: str) -> int:
    match = _AMOUNT.fullmatch(text.strip())
    counted = not key.endswith(".bytes")
    if match is None or (counted and match[2]):
        example = "50000" if counted else "128M"
        raise ConfigurationError(f"{key} = {brief(text)} is no amount: write {example}")
    return int(match[1].replace("_", "")) * _UNITS[match[2].upper()]
