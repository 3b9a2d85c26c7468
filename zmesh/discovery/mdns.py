"""Discovery on the local network: multicast DNS by python-zeroconf, of the service type `_zmesh._tcp`.

What is announced: the store id (also as the instance name), the peer's name, its device, its addresses. What is heard
is a hint that anybody can forge: sightings of devices that are not accepted go no further than this module, silence
means nothing, and a removal is not reported. No exception may leave `start`: without multicast the mesh goes on by its
other sources. Nothing here may resolve synchronously inside a handler, and zeroconf (60 ms) is imported on use only.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from zmesh.discovery import interfaces
from zmesh.discovery.sighting import MAX_PORT, Endpoint, Sighting, parse_endpoint, store_id, store_text
from zmesh.protocol.bounds import MAX_ENDPOINTS

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

SERVICE: Final = "_zmesh._tcp.local."
INTERFACE_INTERVAL: Final = 5.0  # seconds between looks at the interfaces: one ifaddr call, under 1 ms
RESOLVE_TIMEOUT_MS: Final = 3000  # three of zeroconf's queries, enough at 30 % loss
MAX_RESOLVING: Final = 128  # at once; each sends queries, and a stranger can announce any number of names
CLOSE_TIMEOUT: Final = 2.0  # seconds for the goodbye; it takes 0.3 s when the network is well
MAX_FOREIGN: Final = 256  # stores of others that are remembered, should they become members
MAX_TXT: Final = 200  # bytes, the advice of RFC 6763 section 6.2
_VERSION: Final = b"1"
_log = logging.getLogger("zmesh.discovery.mdns")


class MdnsSource:
    """Announces this peer by mDNS and reports others of accepted devices.

    Attributes:
        trouble: Why mDNS does not work here and what to do about it, or None.
    """

    def __init__(self, accept: Callable[[str], bool]) -> None:
        """Take the filter on device ids; it is asked for each sighting, before anything is dialled."""
        self.trouble: str | None = None
        self._accept = accept
        self._found: Callable[[Sighting], None] = lambda _: None
        self._own: Sighting | None = None
        self._silent = False
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._foreign: dict[bytes, Sighting] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._broadcasts: set[asyncio.Future[Any]] = set()

    async def start(self, own: Sighting, found: Callable[[Sighting], None]) -> None:
        """Announce `own` and report others from now on; if that cannot be done, say so in `trouble` and in the log.

        A start that failed is repeated whenever the interfaces change, so a host that boots before its network is
        there needs nobody's help.
        """
        self._own, self._found = own, found
        before = _addresses()
        await self._try_open(own)
        self._watcher = asyncio.get_running_loop().create_task(self._watch_interfaces(before))

    async def listen(self, found: Callable[[Sighting], None]) -> None:
        """Report others from now on, and announce nothing; `stop` ends it.

        Raises:
            OSError: There is no multicast here, or another program keeps the port to itself.
        """
        self._found, self._silent = found, True
        try:
            await self._open(None)
        except Exception as error:  # RuntimeError and zeroconf's own
            if isinstance(error, OSError):
                raise
            raise OSError(str(error) or type(error).__name__) from error

    async def update(self, own: Sighting) -> None:
        """Announce `own` instead of what was announced so far."""
        self._own = own
        if self._zeroconf is None:
            return
        with _logged("announcing the new addresses"):
            self._keep(await self._zeroconf.async_update_service(_announcement(own)))

    async def stop(self) -> None:
        """Say goodbye (0.3 s, 2 s at most) and close."""
        self._own, self._silent = None, False
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        await self._close()

    async def _try_open(self, own: Sighting) -> None:
        try:
            await self._open(own)
        except Exception as error:  # noqa: BLE001 - OSError, RuntimeError and zeroconf's own: none may leave
            trouble = (
                f"mDNS does not work here: {str(error) or type(error).__name__}. Peers elsewhere are found by static "
                "addresses only; check that an interface has multicast and no program keeps UDP port 5353 to itself"
            )
            if trouble != self.trouble:
                _log.warning("%s", trouble)
            self.trouble = trouble
        else:
            self.trouble = None

    async def _open(self, own: Sighting | None) -> None:
        from zeroconf.asyncio import AsyncServiceBrowser  # noqa: PLC0415

        if not interfaces.addresses():
            raise OSError("no interface has an address")
        try:
            self._zeroconf = open_sockets()
            self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._on_change])
            if own is not None:
                self._keep(await self._zeroconf.async_register_service(_announcement(own), cooperating_responders=True))
        except BaseException:  # Ctrl-C too: what zeroconf has begun would complain when the loop ends
            await self._close()
            raise

    async def _close(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        browser, self._browser = self._browser, None
        tasks: list[asyncio.Future[Any]] = [*self._resolving.values(), *self._broadcasts]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if zeroconf is None:
            return
        with _logged("saying goodbye"):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if browser is not None:
                    await browser.async_cancel()
                await zeroconf.async_unregister_all_services()
        with _logged("closing"):
            await zeroconf.async_close()

    def _keep(self, broadcast: object) -> None:
        """Hold on to the repetitions of an announcement, which zeroconf runs as a task of 0.5 s."""
        if isinstance(broadcast, asyncio.Future):
            self._broadcasts.add(broadcast)
            broadcast.add_done_callback(self._broadcast_done)

    def _broadcast_done(self, broadcast: asyncio.Future[Any]) -> None:
        self._broadcasts.discard(broadcast)
        if not broadcast.cancelled() and broadcast.exception() is not None:
            _log.warning("mDNS: an announcement could not be sent: %s", broadcast.exception())

    # --- others ---

    def _on_change(
        self, zeroconf: "Zeroconf", service_type: str, name: str, state_change: "ServiceStateChange"
    ) -> None:
        """Take a browser event; whatever is not in the cache already is asked for in a task."""
        from zeroconf import ServiceStateChange as Change  # noqa: PLC0415
        from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415

        own = self._own
        if state_change is Change.Removed or (own is None and not self._silent) or self._zeroconf is None:
            return
        if service_type != SERVICE or _store_of(name) is None:
            return
        info = AsyncServiceInfo(service_type, name)
        if info.load_from_cache(zeroconf):
            self._report(info)
        elif name in self._resolving:
            return  # what has changed will be in the answer
        elif len(self._resolving) < MAX_RESOLVING:
            self._resolving[name] = asyncio.get_running_loop().create_task(self._resolve(zeroconf, info))
        else:
            _log.debug("mDNS: too many names at once, %s waits for its next announcement", name)

    async def _resolve(self, zeroconf: "Zeroconf", info: "AsyncServiceInfo") -> None:
        try:
            with _logged(f"resolving {info.name}"):
                if await info.async_request(zeroconf, RESOLVE_TIMEOUT_MS):
                    self._report(info)
        finally:
            self._resolving.pop(info.name, None)

    def _report(self, info: "AsyncServiceInfo") -> None:
        """Report a resolved service, if it is well-formed and of an accepted device."""
        try:
            sighting = _sighting(info)
        except ValueError as error:
            _log.debug("mDNS: %s is ignored: %s", info.name, error)
            return
        own = self._own
        if own is not None and sighting.store == own.store and set(sighting.endpoints) <= set(own.endpoints):
            return  # what we have announced ourselves; anything else in our name is somebody else's
        if self._accept(sighting.device):
            self._found(sighting)
        elif len(self._foreign) < MAX_FOREIGN:
            self._foreign[sighting.store] = sighting

    def recheck(self) -> None:
        """Ask again about the devices that were not accepted: one of them may be a member now."""
        foreign, self._foreign = self._foreign, {}
        for sighting in foreign.values():
            if self._accept(sighting.device):
                self._found(sighting)
            else:
                self._foreign[sighting.store] = sighting

    # --- interfaces ---

    async def _watch_interfaces(self, before: frozenset[tuple[str, str]] | None) -> None:
        """Join the interfaces that come (Wi-Fi, VPN, cable) and leave those that go."""
        while True:
            await asyncio.sleep(INTERFACE_INTERVAL)
            now = _addresses()
            if now in (before, None) or self._own is None:
                continue
            before = now
            if self._zeroconf is None:
                await self._try_open(self._own)
            else:
                with _logged("following a change of interfaces"):
                    await self._zeroconf.async_update_interfaces()


def _addresses() -> frozenset[tuple[str, str]] | None:
    """Return what `interfaces.addresses` does; None while the system does not tell."""
    try:
        return interfaces.addresses()
    except OSError:
        return None


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a warning."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - OSError, RuntimeError, TimeoutError and zeroconf's own
        _log.warning("mDNS: %s failed: %s", what, str(error) or type(error).__name__)


def open_sockets() -> "AsyncZeroconf":
    """Open the multicast sockets, for IPv6 too where the host has it.

    Raises:
        OSError: There is no multicast, or another program keeps the port to itself.
        RuntimeError: There is no usable interface.
    """
    from zeroconf import IPVersion  # noqa: PLC0415
    from zeroconf.asyncio import AsyncZeroconf  # noqa: PLC0415

    logging.getLogger("zeroconf").setLevel(
        logging.ERROR
    )  # it warns with a traceback of each interface without multicast
    try:
        return AsyncZeroconf(ip_version=IPVersion.All)
    except (OSError, RuntimeError):
        return AsyncZeroconf(ip_version=IPVersion.V4Only)


def _announcement(own: Sighting) -> "AsyncServiceInfo":
    """Write a sighting as a service; the loopback address only if there is no other."""
    from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415

    endpoints = [parse_endpoint(endpoint) for endpoint in own.endpoints]
    far = [endpoint for endpoint in endpoints if not endpoint.ip.is_loopback] or endpoints
    port = far[0].port
    label = store_text(own.store)
    properties = {"v": _VERSION, "id": label, "n": own.name, "d": own.device, "o": str(own.door)}
    return AsyncServiceInfo(
        SERVICE,
        f"{label}.{SERVICE}",
        addresses=[endpoint.ip.packed for endpoint in far if endpoint.port == port],
        port=port,
        properties=properties,
        server=f"{label}.local.",  # not the host's name: each peer has its own set of addresses
    )


def _sighting(info: "AsyncServiceInfo") -> Sighting:
    """Read a service.

    Raises:
        ValueError: It is not one of zmesh's, or something in it breaks a rule.
    """
    if len(info.text) > MAX_TXT or info.port is None:
        raise ValueError("its TXT record is too long, or it has no port")
    properties = {key: value or b"" for key, value in info.properties.items()}
    store = _store_of(info.name)
    if store is None or (properties.get(b"id"), properties.get(b"v")) != (store_text(store).encode(), _VERSION):
        raise ValueError("its name and its TXT record do not belong together")
    endpoints = [str(Endpoint(ip_address(address), info.port)) for address in info.parsed_addresses()]
    usable = tuple(endpoint for endpoint in endpoints if _is_usable(endpoint))[:MAX_ENDPOINTS]
    name, device = properties.get(b"n", b"").decode(), properties.get(b"d", b"").decode()
    return Sighting(store, name, device, usable, "mdns", _door(properties.get(b"o", b"0")))


def _door(text: bytes) -> int:
    """Read the door's port.

    Raises:
        ValueError: It is none.
    """
    if not text.isdigit() or len(text) > len(str(MAX_PORT)):
        raise ValueError("its door has no port")
    return int(text)


def _is_usable(endpoint: str) -> bool:
    try:
        parse_endpoint(endpoint)
    except ValueError:
        return False
    return True


def _store_of(name: str) -> bytes | None:
    """Return the store that an instance name stands for, or None."""
    try:
        return store_id(name.removesuffix(f".{SERVICE}"))
    except ValueError:
        return None
