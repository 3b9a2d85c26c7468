"""The settings of a running daemon: what holds, where that comes from, and changing it.

What is changed is written into `config.toml`, checked first, and then read as at SIGHUP. This module must never write
a file that would not load, nor say that something has taken effect that has not.
"""

import asyncio
import logging
import os
import tomllib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from zmesh.daemon.place import place_of
from zmesh.daemon.settings_file import UNSET, changed, write_file
from zmesh.daemon.settings_value import path_of, read_value
from zmesh.daemon.wishes import wishes
from zmesh.errors import ConfigurationError, MeshError
from zmesh.peer import configured_quotas
from zmesh.peer.adapter_settings import AdapterSettings
from zmesh.peer.configuration import (
    DISCOVERY_VARIABLE,
    PEERS_VARIABLE,
    Configuration,
    chosen_peers,
    chosen_sources,
    load_configuration,
    read_configuration,
)
from zmesh.peer.folders import FILE, MAX_BYTES, read_file
from zmesh.peer.peer import Peer

FIXED: Final = ("name", "port")
"""What a daemon is from its start to its end: its store is found by its name, and others know it by its port."""
HIDDEN: Final = "(not shown)"
"""Stands for what nobody is to read in a log: environments of adapters hold keys and passwords."""
VARIABLES: Final = {"peers": PEERS_VARIABLE, "discovery": DISCOVERY_VARIABLE}
_log = logging.getLogger("zmesh.daemon")

Values = dict[str, Any]


class Settings:
    """The settings of one daemon.

    Attributes:
        stale: What the file says that this process cannot take, in words; empty when there is nothing.
    """

    def __init__(
        self,
        peer: Peer,
        configuration: Configuration,
        peers: Sequence[str] | None,
        run: Callable[[tuple[AdapterSettings, ...]], object] = lambda _: None,
    ) -> None:
        """Take the peer, which is running.

        Args:
            peer: The daemon's.
            configuration: As it was when the daemon was started.
            peers: Addresses that the command line named, which go before the configuration.
            run: Told which adapters are to run.
        """
        self.stale = ""
        self._peer, self._started, self._wished, self._run = peer, configuration, peers, run
        self._now = configuration
        self._path = peer.home / FILE
        self._turn = asyncio.Lock()

    # --- taking what the file says ---

    async def reload(self) -> Values:
        """Take what the file says now.

        Returns:
            `live`: settings that hold from now on; `restart`: those that hold at the next start.
            `trouble`: what was wrong with the file, of which then nothing was taken; or empty.
        """
        async with self._turn:
            return await self._reload()

    async def _reload(self) -> Values:
        peer, before = self._peer, self._now
        try:
            now = load_configuration(peer.home)
            chosen_sources(None, now.discovery)  # before anything is changed
            peer.look_for(self._wished)
            peer.driver.limit(now.quotas)
            await peer.find_by(None)
            self._run(now.adapters)
        except (MeshError, ValueError) as error:
            self.stale = f"{FILE} was changed, and is not used: {error}"
            _log.warning("%s", self.stale)
            return {"live": [], "restart": [], "trouble": str(error)}
        self._now = now
        fixed = [name for name in FIXED if getattr(now, name) != getattr(self._started, name)]
        self.stale = f"{FILE} says another {', '.join(fixed)}: `zmesh down`, then `zmesh up`" if fixed else ""
        _log.info("%s was read again%s", FILE, f"; {self.stale}" if self.stale else "")
        live = [key for key, value in _leaves(now) if value != dict(_leaves(before))[key] and key not in FIXED]
        live += ["adapters"] if now.adapters != before.adapters else []
        return {"live": live, "restart": fixed, "trouble": ""}

    # --- telling ---

    async def tell(self) -> list[Values]:
        """Tell every setting: `key`, `value`, `source`, and whether a change is `live`.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        text, _ = read_file(self._path)
        try:
            said = tomllib.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"{self._path}: {error}") from error
        told = []
        for key, value in _leaves(self._now):
            own = self._effective(key)
            found = own() if own is not None else value
            told.append(_row(key, found, self._source(key, said), live=key not in FIXED))
        for key, value in _others(said):
            told.append(_row(key, HIDDEN if is_secret(key) else value, "file", live=True))
        return told

    def _effective(self, key: str) -> Callable[[], Any] | None:
        """Return what tells the value that holds, where that is not what the configuration says."""
        peer, now = self._peer, self._now
        rules: dict[str, Callable[[], Any]] = {
            "name": lambda: peer.name,
            "port": lambda: int(peer.endpoints[0].rpartition(":")[2]) if peer.endpoints else now.port,
            "peers": lambda: [str(each) for each in chosen_peers(self._wished, now.peers)],
            "discovery": lambda: list(chosen_sources(None, now.discovery)),
        }
        return rules.get(key)

    def _source(self, key: str, said: Values) -> str:
        wished = wishes(place_of(self._peer.home), ())
        if key in ("name", "port", "peers") and getattr(wished, key):
            return "command line"
        if VARIABLES.get(key, "") in os.environ:
            return f"environment, {VARIABLES[key]}"
        table: Any = said
        for name in path_of(key):
            if not isinstance(table, dict) or name not in table:
                return "default"
            table = table[name]
        return "file"

    # --- changing ---

    async def set(self, *, key: str, value: str) -> Values:
        """Write a setting into the file, and take what that says.

        Returns:
            `key` and `value`; `effect`, as in `_effect`; `also` and `restart`: what else the file said, taken now or at
            the next start, if it was changed by hand before.

        Raises:
            ConfigurationError: There is no such setting, or the value is none for it, or the file cannot be written.
        """
        return await self._put(key, read_value(key, value))

    async def unset(self, *, key: str, again: bool = False) -> Values:
        """Take a setting out of the file; as `set`. With `again`, it may have been done already."""
        return await self._put(key, UNSET, again=again)

    async def _put(self, key: str, value: object, *, again: bool = False) -> Values:
        async with self._turn:
            text, written = await self._changed(key, value, again=again)
            while read_file(self._path)[0] != text:  # somebody has saved it meanwhile
                text, written = await self._changed(key, value, again=again)
            write_file(self._path, written)
            took = await self._reload()
            if took["trouble"]:
                raise ConfigurationError(f"{FILE} was written, and is not used: {took['trouble']}")
        also = [each for each in took["live"] if each not in (key, key.partition(".")[0])]
        value = None if value is UNSET else HIDDEN if is_secret(key) else value
        return {"key": key, "value": value, "effect": self._effect(key), "also": also, "restart": took["restart"]}

    async def _changed(self, key: str, value: object, *, again: bool) -> tuple[str, str]:
        """Return what the file says, and what it is to say."""
        path = path_of(key)
        text, status = read_file(self._path)
        read_configuration(text, self._path, status)  # what does not load is not touched
        if value is UNSET and not again and not _is_there(tomllib.loads(text), path):
            raise ConfigurationError(f"{FILE} does not say {key}: zmesh admin settings shows where it comes from")
        written = await asyncio.get_running_loop().run_in_executor(None, changed, text, path, value)
        if len(written.encode()) > MAX_BYTES:
            raise ConfigurationError(f"{self._path} would be longer than {MAX_BYTES} bytes")
        read_configuration(written, self._path, status)
        return text, written

    def _effect(self, key: str) -> str:
        """Say since when a setting holds that is in the file.

        Returns:
            "now"; "restart": when the daemon is started again; or what goes before the file.
        """
        source = self._source(key, {})
        if source != "default":
            return source
        if key in FIXED:
            return "now" if getattr(self._now, key) == getattr(self._started, key) else "restart"
        return "now"


def is_secret(key: str) -> bool:
    """Say whether the value of a setting may be one that is nobody's business."""
    return key.startswith("adapters.") and not key.endswith(".command")


def discreet(arguments: Values) -> Values:
    """Return what an administrator has asked for as it may be written down."""
    secret = "value" in arguments and is_secret(str(arguments.get("key")))
    return arguments | {"value": HIDDEN} if secret else arguments


def _row(key: str, value: Any, source: str, *, live: bool) -> Values:
    return {"key": key, "value": value, "source": source, "live": live}


def _leaves(configuration: Configuration) -> Iterator[tuple[str, Any]]:
    """Yield what every daemon has a value for."""
    yield "name", configuration.name
    yield "port", configuration.port
    yield "peers", list(configuration.peers)
    yield "discovery", list(configuration.discovery)
    for name, field in configured_quotas.NAMES.items():
        yield f"{configured_quotas.KEY}.{name}", getattr(configuration.quotas, field)


def _others(said: Values) -> Iterator[tuple[str, Any]]:
    """Yield what the file says beyond that."""
    known = {"name", "port", "peers", "discovery", configured_quotas.KEY}
    for table, value in said.items():
        if table not in known:
            yield from _flat(table, value)


def _flat(within: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _flat(f"{within}.{name}", each)
    else:
        yield within, value


def _is_there(table: Any, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(table, dict) or name not in table:
            return False
        table = table[name]
    return True
