"""The verbs of an administrator that concern the daemon's traffic with other peers.

This module must never do anything itself: the peer does, and its core keeps to it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from zmesh.daemon.administration import Administrator

Values = dict[str, Any]


async def _pause(administrator: "Administrator", arguments: Values) -> Values:
    return {"paused": True, "changed": await administrator.traffic.pause(**arguments)}


async def _resume(administrator: "Administrator", _: Values) -> Values:
    return {"paused": False, "changed": await administrator.traffic.resume()}


async def _drain(administrator: "Administrator", arguments: Values) -> Values:
    return {"draining": True, "changed": await administrator.traffic.drain(**arguments)}


async def _disconnect(administrator: "Administrator", arguments: Values) -> Values:
    peer, changed = await administrator.traffic.disconnect(arguments["peer"], arguments["by"])
    return {"peer": peer, "disconnected": True, "changed": changed}


async def _reconnect(administrator: "Administrator", arguments: Values) -> Values:
    peer, changed = await administrator.traffic.reconnect(arguments["peer"])
    return {"peer": peer, "disconnected": False, "changed": changed}


async def _leaving(administrator: "Administrator", _: Values) -> Values:
    return asdict(administrator.traffic.leaving()) | {"draining": administrator.traffic.standing().draining}


ACTS: Final[dict[str, Callable[["Administrator", Values], Awaitable[Any]]]] = {
    "admin.pause": _pause,
    "admin.resume": _resume,
    "admin.drain": _drain,
    "admin.disconnect": _disconnect,
    "admin.reconnect": _reconnect,
}
"""Verbs that do something. All of them may come twice; `changed` says whether this one did anything."""
LOOKS: Final[dict[str, Callable[["Administrator", Values], Awaitable[Any]]]] = {"admin.leaving": _leaving}
"""Verbs that change nothing."""
SIGNED: Final = frozenset(ACTS)
"""Verbs whose arguments say who asks: that is kept with what they do."""
