"""zmesh: a brokerless peer mesh for AI agents.

    async with zmesh.Peer("pipeline") as peer:
        code = await peer.agent("code")
        receipt = await code.send("browser@studio", {"text": "hello"})
        await receipt.stored(timeout=10)

This module only names what is public; importing it must stay light: sockets and databases come with first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zmesh.errors import (
    AddressError,
    AmbiguousAddress,
    BodyError,
    BodyTooLarge,
    ConfigurationError,
    DaemonError,
    DaemonUnreachable,
    DeviceKeyError,
    LeaseLost,
    MailboxBusy,
    MeshError,
    MeshFull,
    MessageDead,
    MessageExpired,
    MessageLost,
    MessageRefused,
    NoAnswer,
    PairingError,
    PeerClosed,
    PeerFailed,
    PeerHalted,
    PeerRunning,
    ServiceError,
    StoreError,
    StoreFull,
    TransportError,
    TrustError,
    UnknownAgent,
    UnknownMessage,
    WaitTimeout,
    WrongLoop,
)

if TYPE_CHECKING:
    from zmesh.daemon.async_client import AsyncClient
    from zmesh.daemon.client import Client
    from zmesh.daemon.connecting import connect, connect_async
    from zmesh.peer.agent import Agent
    from zmesh.peer.arguments import PriorityName, StatusName
    from zmesh.peer.message import Message
    from zmesh.peer.peer import Peer
    from zmesh.peer.peer_info import PeerInfo
    from zmesh.peer.receipt import Receipt
    from zmesh.peer.roster import AgentInfo

__version__ = "0.1.0"

__all__ = [
    "AddressError",
    "Agent",
    "AgentInfo",
    "AmbiguousAddress",
    "AsyncClient",
    "BodyError",
    "BodyTooLarge",
    "Client",
    "ConfigurationError",
    "DaemonError",
    "DaemonUnreachable",
    "DeviceKeyError",
    "LeaseLost",
    "MailboxBusy",
    "MeshError",
    "MeshFull",
    "Message",
    "MessageDead",
    "MessageExpired",
    "MessageLost",
    "MessageRefused",
    "NoAnswer",
    "PairingError",
    "Peer",
    "PeerClosed",
    "PeerFailed",
    "PeerHalted",
    "PeerInfo",
    "PeerRunning",
    "PriorityName",
    "Receipt",
    "ServiceError",
    "StatusName",
    "StoreError",
    "StoreFull",
    "TransportError",
    "TrustError",
    "UnknownAgent",
    "UnknownMessage",
    "WaitTimeout",
    "WrongLoop",
    "connect",
    "connect_async",
]

_HOMES = {
    "Agent": "zmesh.peer.agent",
    "AgentInfo": "zmesh.peer.roster",
    "AsyncClient": "zmesh.daemon.async_client",
    "Client": "zmesh.daemon.client",
    "Message": "zmesh.peer.message",
    "Peer": "zmesh.peer.peer",
    "PeerInfo": "zmesh.peer.peer_info",
    "PriorityName": "zmesh.peer.arguments",
    "Receipt": "zmesh.peer.receipt",
    "StatusName": "zmesh.peer.arguments",
    "connect": "zmesh.daemon.connecting",
    "connect_async": "zmesh.daemon.connecting",
}


def __getattr__(name: str) -> Any:
    """Import a public class or function at its first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'zmesh' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
