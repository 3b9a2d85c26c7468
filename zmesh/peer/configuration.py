"""The configuration: one TOML file in the home, `config.toml`, which need not be there.

What a program says goes before the environment, and that before the file. This module must never take a value it does
not understand for the default: a slip is an error that names the variable, or the file and the line.
"""

import difflib
import os
import tomllib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from zmesh.discovery.sighting import MAX_PORT
from zmesh.discovery.visits import MAX_NAMED, PORT, Named, read_named
from zmesh.errors import ConfigurationError
from zmesh.peer import configured_quotas
from zmesh.peer.adapter_settings import AdapterSettings, check_own, read_adapters
from zmesh.peer.arguments import brief, several
from zmesh.peer.configured_quotas import check_quotas, read_quotas
from zmesh.peer.folders import FILE, KEY, check_folders, read_file
from zmesh.protocol.address import is_name
from zmesh.protocol.quotas import Quotas, default_quotas

PEERS_VARIABLE: Final = "ZMESH_PEERS"
DISCOVERY_VARIABLE: Final = "ZMESH_DISCOVERY"
DISCOVERY: Final = ("rendezvous", "static", "mdns")
"""The sources of addresses, the most trusted one first: this host's directory; what was named, and what members tell
each other; multicast. The addresses that the store remembers are dialled always."""

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the file says.

    Attributes:
        name: What this machine's peer is called; empty for the device's name in the mesh, or the host's.
        port: Where this machine's peer listens; its door is at the next one.
        peers: Addresses of peers elsewhere.
        discovery: Sources of addresses, of `DISCOVERY`.
        adapters: Programs that this machine's daemon runs.
        quotas: How much its peers keep and take.
    """

    name: str = ""
    port: int = PORT
    peers: tuple[str, ...] = ()
    discovery: tuple[str, ...] = DISCOVERY
    adapters: tuple[AdapterSettings, ...] = ()
    quotas: Quotas = field(default_factory=default_quotas)


def load_configuration(home: Path) -> Configuration:
    """Read the file in a home; without one, everything is as it is by default.

    Raises:
        ConfigurationError: It cannot be read, or something in it is wrong; the message names it.
    """
    path = home / FILE
    text, status = read_file(path)
    return read_configuration(text, path, status)


def read_configuration(text: str, path: Path, status: os.stat_result | None) -> Configuration:
    """Read what a configuration says.

    Args:
        text: Of the file.
        path: Where it lies, or is to lie.
        status: Of the file; None for one that there is not.

    Raises:
        ConfigurationError: Something in it is wrong; the message names it.
    """
    try:
        said = _checked(tomllib.loads(text), text)
    except ValueError as error:  # TOMLDecodeError is one
        raise ConfigurationError(f"{path}: {error}") from error
    if said.adapters and status is not None:
        check_own(status, path)
    return said


def chosen_peers(asked: Iterable[str] | None, configured: Iterable[str]) -> tuple[Named, ...]:
    """Return the addresses that a program names, or else `ZMESH_PEERS`, or else the file.

    Raises:
        TypeError, ValueError: One of them is none, or they are too many; the message names the variable, if it is that.
    """
    if asked is None:
        listed = os.environ.get(PEERS_VARIABLE)
        if listed is not None:
            return _from(PEERS_VARIABLE, lambda: _read_peers(listed.replace(",", " ").split()))
    return _read_peers(several(configured if asked is None else asked, "peers", "['tcp://192.0.2.7:7420']"))


def chosen_sources(asked: Iterable[str] | None, configured: Iterable[str]) -> tuple[str, ...]:
    """Return the sources of addresses that a program names, or else `ZMESH_DISCOVERY`, or else the file.

    Raises:
        TypeError, ValueError: One of them is none; the message names the variable, if it is that.
    """
    if asked is None:
        listed = os.environ.get(DISCOVERY_VARIABLE)
        if listed is not None:
            return _from(DISCOVERY_VARIABLE, lambda: _read_sources(listed.replace(",", " ").split()))
    return _read_sources(several(configured if asked is None else asked, "discovery", "['rendezvous']"))


def _from(variable: str, read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None


def _read_peers(texts: Collection[str]) -> tuple[Named, ...]:
    if len(texts) > MAX_NAMED:
        raise ValueError(f"{len(texts)} addresses of peers are named, more than {MAX_NAMED}: members tell the others")
    return tuple([read_named(text) for text in texts])


def _read_sources(chosen: Collection[str]) -> tuple[str, ...]:
    for name in chosen:
        if name not in DISCOVERY:
            raise ValueError(f"{brief(name)} is no source of addresses: choose among {', '.join(DISCOVERY)}")
    return tuple(name for name in DISCOVERY if name in chosen)


def _checked(said: dict[str, Any], text: str) -> Configuration:
    for key, value in said.items():
        try:
            _check(key, value)
        except ValueError as error:
            raise ValueError(f"{error}{'' if key == 'adapters' else _line_of(key, text)}") from None
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
    values.pop(KEY, None)  # `named_folder` reads it, each time anew
    if configured_quotas.KEY in values:
        values[configured_quotas.KEY] = read_quotas(said[configured_quotas.KEY])
    return Configuration(**values | {"adapters": read_adapters(said.get("adapters", {}))})


def _line_of(key: str, text: str) -> str:
    """Say in which line a key is; nothing when it is written in a way that is not looked for."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.partition("=")[0].partition(".")[0].strip(" \t[]\"'") == key:
            return f" (at line {number})"
    return ""


def _check(key: str, value: object) -> None:
    check = _CHECKS.get(key)
    if check is None:
        near = difflib.get_close_matches(key, _CHECKS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_CHECKS)}"
        raise ValueError(f"{key!r} is no setting: {hint}")
    check(key, value)


def _check_name(key: str, value: object) -> None:
    if not is_name(value):
        raise ValueError(f"{key} = {value!r:.80} is no peer name: 1 to 63 letters, digits, '.', '_' or '-'")


def _check_port(key: str, value: object) -> None:
    if type(value) is not int or not 0 < value < MAX_PORT:
        raise ValueError(f"{key} = {value!r:.80} is no port: 1 to {MAX_PORT - 1}, and the next one is the door's")


def _check_peers(key: str, value: object) -> None:
    if not isinstance(value, list) or len(value) > MAX_NAMED:
        raise ValueError(f'{key} is a list of at most {MAX_NAMED} addresses, such as ["tcp://192.0.2.7:{PORT}"]')
    for each in value:
        try:
            read_named(each)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None


def _check_discovery(key: str, value: object) -> None:
    if not isinstance(value, list) or not set(map(str, value)) <= set(DISCOVERY):
        raise ValueError(f"{key} = {value!r:.80} is no list of some of {', '.join(DISCOVERY)}")


def _check_adapters(_: str, value: object) -> None:
    read_adapters(value)


_CHECKS: Final = {
    "name": _check_name, "port": _check_port, "peers": _check_peers, "discovery": _check_discovery,
    "adapters": _check_adapters, configured_quotas.KEY: check_quotas, KEY: check_folders,
}  # fmt: skip
