"""How a joiner finds its inviter on the local network: by the nameplate of the code, announced over multicast DNS.

What is announced is the nameplate and the door's port, while an invitation is open; neither says anything of the code.
What is found is hearsay: whoever answers under a nameplate proves by the pairing itself that it knows the code. This
module must never dial; without multicast the joiner is told an address instead.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

from zmesh.discovery import interfaces
from zmesh.discovery.mdns import open_sockets
from zmesh.protocol.bounds import MAX_ENDPOINTS

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

SERVICE: Final = "_zmesh-pair._tcp.local."
MAX_FOUND: Final = 16  # announcers of one nameplate that are looked up: anybody can announce any number
GOODBYE: Final = 2.0  # seconds; it takes 0.3 s when the network is well
RESOLVE_MS: Final = 3000  # three of zeroconf's queries, enough at 30 % loss
_VERSION: Final = "1"

Door = tuple[str, int]
"""Address and port."""


class Announcement:
    """Announces the nameplates of open invitations."""

    def __init__(self) -> None:
        self._zeroconf: AsyncZeroconf | None = None
        self._shown: tuple[frozenset[str], int] = (frozenset(), 0)
        self._instance = secrets.token_hex(6)

    async def show(self, nameplates: frozenset[str], port: int) -> None:
        """Announce these, and no others, at the door's port.

        Raises:
            OSError: There is no multicast here; the text says why.
        """
        if (nameplates, port) == self._shown:
            return
        await self.close()
        if not nameplates:
            return
        try:
            self._zeroconf = open_sockets()
            for nameplate in sorted(nameplates):
                service = _service(nameplate, self._instance, port)
                await self._zeroconf.async_register_service(service, cooperating_responders=True)
        except Exception as error:  # OSError, RuntimeError and zeroconf's own
            await self.close()
            raise OSError(str(error) or type(error).__name__) from error
        self._shown = (nameplates, port)

    async def close(self) -> None:
        """Withdraw everything."""
        zeroconf, self._zeroconf, self._shown = self._zeroconf, None, (frozenset(), 0)
        if zeroconf is not None:
            with contextlib.suppress(Exception):  # a goodbye is a courtesy
                async with asyncio.timeout(GOODBYE):
                    await zeroconf.async_unregister_all_services()
            await zeroconf.async_close()


def _service(nameplate: str, instance: str, port: int) -> "AsyncServiceInfo":
    """Write an announcement; the loopback address only if there is no other."""
    from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415 - 60 ms that only pairing needs

    label = f"{nameplate}-{instance}"
    found = [ip_address(text.partition("%")[0]) for _, text in interfaces.addresses()]
    if not found:
        raise OSError("no interface has an address")
    usable = [ip for ip in found if isinstance(ip, IPv4Address) or not ip.is_link_local]  # that needs an interface
    far = [ip for ip in usable if not ip.is_loopback] or usable
    return AsyncServiceInfo(
        SERVICE,
        f"{label}.{SERVICE}",
        addresses=[ip.packed for ip in sorted(far, key=_order)[:MAX_ENDPOINTS]],
        port=port,
        properties={"v": _VERSION, "n": nameplate},
        server=f"{label}.local.",
    )


async def find(nameplate: str, patience: float) -> AsyncGenerator[list[Door], None]:
    """Yield the doors that announce a nameplate, each once, as they are heard of; close it when that is enough.

    What comes together is one announcement: the addresses of one machine, each of which leads to the same door.

    Args:
        nameplate: Of the code.
        patience: Seconds to listen after each that was found; what the caller does meanwhile does not count.

    Raises:
        OSError: There is no multicast here; the text says why.
    """
    from zeroconf.asyncio import AsyncServiceBrowser  # noqa: PLC0415 - see Announcement

    found: asyncio.Queue[list[Door]] = asyncio.Queue(MAX_FOUND)
    tasks: dict[str, asyncio.Task[None]] = {}

    def heard(zeroconf: "Zeroconf", service_type: str, name: str, state_change: "ServiceStateChange") -> None:
        wanted = state_change.name != "Removed" and name.startswith(f"{nameplate}-")
        if wanted and name not in tasks and len(tasks) < MAX_FOUND:
            resolving = _resolve(zeroconf, service_type, name, nameplate, found)
            tasks[name] = asyncio.get_running_loop().create_task(resolving)

    try:
        sockets = open_sockets()
    except RuntimeError as error:
        raise OSError(str(error)) from error
    browser = AsyncServiceBrowser(sockets.zeroconf, SERVICE, handlers=[heard])
    seen: set[Door] = set()
    try:
        while (doors := await _next(found, patience)) is not None:
            if fresh := [door for door in doors if door not in seen]:
                seen.update(fresh)
                yield fresh
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await browser.async_cancel()
        await sockets.async_close()


async def _next(found: asyncio.Queue[list[Door]], patience: float) -> list[Door] | None:
    try:
        async with asyncio.timeout(patience):
            return await found.get()
    except TimeoutError:
        return None


async def _resolve(
    zeroconf: "Zeroconf", service_type: str, name: str, nameplate: str, found: asyncio.Queue[list[Door]]
) -> None:
    from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415 - see Announcement

    info = AsyncServiceInfo(service_type, name)
    if await info.async_request(zeroconf, RESOLVE_MS):
        found.put_nowait(doors_of(info, nameplate))


def doors_of(info: Any, nameplate: str) -> list[Door]:
    """Return the addresses of an announcement, IPv4 first: none if it is malformed or of another nameplate.

    Args:
        info: A service as zeroconf has resolved it, made by anybody.
        nameplate: Of the code.
    """
    if not info.port or (info.properties.get(b"v"), info.properties.get(b"n")) != (
        _VERSION.encode(),
        nameplate.encode(),
    ):
        return []
    addresses = [ip_address(text.partition("%")[0]) for text in info.parsed_addresses()]
    usable = [ip for ip in addresses if not ip.is_multicast and not ip.is_unspecified and not _is_broadcast(ip)]
    return [(str(ip), info.port) for ip in sorted(usable, key=_order)[:MAX_ENDPOINTS]]


def _is_broadcast(ip: IPv4Address | IPv6Address) -> bool:
    return ip == IPv4Address("255.255.255.255")


def _order(ip: IPv4Address | IPv6Address) -> tuple[bool, int, bytes]:
    """IPv4 first, then those that lead far."""
    return ip.is_loopback, ip.version, ip.packed
