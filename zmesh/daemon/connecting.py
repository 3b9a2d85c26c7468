"""How a program gets its client: which home, which mailbox, and the daemon started if it is not there.

Light: no socket library, database or event loop is loaded in the program. This module must never start a daemon for
another home than the one the program was told.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmesh.daemon.client import Client
from zmesh.daemon.connection import Connection
from zmesh.daemon.naming import ADAPTER, AGENT, agent_name
from zmesh.daemon.place import place_of
from zmesh.daemon.process import start
from zmesh.peer.arguments import checked_name
from zmesh.peer.home import home_directory

if TYPE_CHECKING:
    from zmesh.daemon.async_client import AsyncClient


def connect(
    name: str | None = None,
    *,
    home: Path | str | None = None,
    role: str | None = None,
    capabilities: Iterable[str] | None = None,
    project: str | None = None,
) -> Client:
    """Connect to this machine's daemon, which is started if it is not running.

    Args:
        name: The mailbox of this program, which it shares with others that ask for the same. None for `ZMESH_AGENT`,
            or else for one of its own that is called as the project's folder, or as the configuration says of that:
            `api`, and `api.2` for a second program there, whose mail goes into `api` when it ends.
        home: Where its state lies; None for `ZMESH_HOME`, or else the platform's place.
        role: As of `Peer.agent`.
        capabilities: As of `Peer.agent`.
        project: As of `Peer.agent`.

    Returns:
        A blocking client, to be closed, or used in `with`.

    Raises:
        DaemonUnreachable: The daemon cannot be started; the message shows what it said.
        AddressError, TypeError, ValueError: As of `Peer.agent`.
        StoreError: The home cannot be made.
    """
    return connected(home, **_described(name, home_directory(home), role, capabilities, project))


def connect_async(
    name: str | None = None,
    *,
    home: Path | str | None = None,
    role: str | None = None,
    capabilities: Iterable[str] | None = None,
    project: str | None = None,
) -> "AsyncClient":
    """Return an async client of this machine's daemon, to be used in `async with`, or with `start()` and `close()`.

    Arguments and errors as of `connect`; it connects when it is started.
    """
    from zmesh.daemon.async_client import AsyncClient  # noqa: PLC0415 - asyncio, which others need not load
    from zmesh.daemon.async_connection import AsyncConnection  # noqa: PLC0415

    at = home_directory(home)
    place = place_of(at)
    said = _described(name, at, role, capabilities, project)
    return AsyncClient(AsyncConnection(place, lambda: start(at, place), **said))


def _described(
    name: str | None, home: Path, role: str | None, capabilities: Iterable[str] | None, project: str | None
) -> dict[str, Any]:
    own = name is None and not os.environ.get(AGENT)
    mailbox = checked_name(agent_name(Path.cwd(), home) if name is None else name, "agent name")
    words = None if capabilities is None else list(capabilities)
    described: dict[str, Any] = {"role": role, "capabilities": words, "project": project}
    if os.environ.get(ADAPTER):
        described["adapter"] = os.environ[ADAPTER]
    return {"mailbox": mailbox, "own": own, "reach": "client", **described}


def connected(home: Path | str | None = None, *, timeout: float | None = None, **said: Any) -> Client:
    """Return a client that says this of itself; without a mailbox it can only look around.

    Args:
        home: As of `connect`.
        timeout: As of `Connection`.
        said: What every hello says, see `Session`.
    """
    at = home_directory(home)
    place = place_of(at)
    return Client(Connection(place, lambda: start(at, place), timeout=timeout, **said))
