"""The ladder: all sources of sightings at once, merged into one picture with one callback.

Any source alone suffices, and one that fails must never keep the others from working. The ladder remembers addresses
only; it must never claim that a peer is there or gone.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from zmesh.discovery.sighting import Sighting, Source
from zmesh.protocol.bounds import MAX_ENDPOINTS, MAX_PEERS, MAX_STORES

RESERVED: Final = MAX_ENDPOINTS // 4  # first endpoints of each source that the lies of another cannot push out
_log = logging.getLogger("zmesh.discovery")


class Discovery:
    """Runs sources and reports, per store, the union of what they say: the latest first, at most 16 endpoints."""

    def __init__(
        self,
        sources: Sequence[Source],
        found: Callable[[Sighting], None],
        double: Callable[[Sighting], None] = lambda _: None,
    ) -> None:
        """Take the sources, the most trusted one first, and the callback.

        Args:
            sources: What to start; they are started and stopped in this order.
            found: Called in the loop with a merged sighting whenever one differs from what was last reported.
            double: Called when the own store is said to be at addresses which are not those that are announced.
        """
        self._sources = tuple(sources)
        self._found, self._double = found, double
        self._own: Sighting | None = None
        self._by_source: dict[bytes, dict[str, Sighting]] = {}
        self._reported: dict[bytes, Sighting] = {}
        self._full_logged = False
        self._changing = asyncio.Lock()  # sources are started, told and stopped one after the other

    @property
    def troubles(self) -> tuple[str, ...]:
        """What keeps sources from working, one text each; empty when all is well."""
        return tuple(source.trouble for source in self._sources if source.trouble is not None)

    def known(self) -> tuple[Sighting, ...]:
        """Return the merged sighting of every store seen so far."""
        return tuple(self._reported.values())

    async def start(self, own: Sighting) -> None:
        """Announce `own` through every source and begin to report others."""
        self._own = own
        async with self._changing:
            await self._start(self._sources)

    async def change(self, sources: Sequence[Source]) -> None:
        """Go on with these sources: those that are new are started, those that are not among them are stopped.

        What a stopped source has said stays a hint, as the addresses do that the store remembers.
        """
        async with self._changing:
            before, self._sources = self._sources, tuple(sources)
            await self._stop([source for source in before if source not in self._sources])
            await self._start([source for source in self._sources if source not in before])

    async def revive(self) -> None:
        """Stop and start again the sources that have a trouble."""
        async with self._changing:
            for source in self._sources:
                if source.trouble is None or self._own is None:
                    continue
                try:
                    await source.stop()
                    await source.start(self._own, self._take)
                except Exception:  # noqa: BLE001 - one source must not keep the others from working
                    _log.exception("the discovery source %s could not be started again", type(source).__name__)

    async def update(self, own: Sighting) -> None:
        """Announce `own`, whose endpoints or name have changed, through every source."""
        async with self._changing:
            self._own = own
            for source in self._sources:
                try:
                    await source.update(own)
                except Exception:  # noqa: BLE001 - one source must not keep the others from working
                    _log.exception("the discovery source %s did not take the new address", type(source).__name__)

    async def stop(self) -> None:
        """Withdraw all announcements; nothing is reported afterwards."""
        self._own = None
        async with self._changing:
            await self._stop(self._sources)

    async def _start(self, sources: Iterable[Source]) -> None:
        for source in sources:
            if self._own is None:
                return  # it was stopped meanwhile
            try:
                await source.start(self._own, self._take)
            except Exception:  # noqa: BLE001 - one source must not keep the others from working
                _log.exception("the discovery source %s failed to start; the others go on", type(source).__name__)

    async def _stop(self, sources: Iterable[Source]) -> None:
        for source in sources:
            try:
                await source.stop()
            except Exception:  # noqa: BLE001 - one source must not keep the others from working
                _log.exception("the discovery source %s failed to stop", type(source).__name__)

    def repeat(self) -> None:
        """Report again what is known: somebody may be welcome now who was not."""
        for merged in self.known() if self._own is not None else ():
            self._tell(merged)

    def _take(self, sighting: Sighting) -> None:
        """Merge one sighting; tell about it if the picture changed."""
        if self._own is None:
            return
        if sighting.store == self._own.store:
            self._take_own(sighting, self._own)
            return
        if sighting.store not in self._by_source and self._is_full(sighting.device):
            self._log_full()
            return
        by_source = self._by_source.setdefault(sighting.store, {})
        before = by_source.pop(sighting.source, None)
        older = before.endpoints if before is not None and before.device == sighting.device else ()
        endpoints = tuple(dict.fromkeys(sighting.endpoints + older))[:MAX_ENDPOINTS]
        by_source[sighting.source] = replace(sighting, endpoints=endpoints)  # last in the dict: the latest
        merged = _merge(by_source)
        if merged != self._reported.get(sighting.store):
            self._reported[sighting.store] = merged
            self._tell(merged)

    def _take_own(self, sighting: Sighting, own: Sighting) -> None:
        elsewhere = tuple(endpoint for endpoint in sighting.endpoints if endpoint not in own.endpoints)
        if elsewhere:
            self._double(replace(sighting, endpoints=elsewhere))

    def _is_full(self, device: str) -> bool:
        """Say whether there is no place for one more store of a device: anybody can announce stores in its name."""
        of_device = sum(seen.device == device for seen in self._reported.values())
        own = self._own is not None and device == self._own.device
        return len(self._by_source) >= MAX_PEERS or (of_device >= MAX_STORES and not own)

    def _tell(self, merged: Sighting) -> None:
        try:
            self._found(merged)
        except Exception:  # noqa: BLE001 - nor a reader of sightings its source
            _log.exception("the sighting of %s could not be used", merged.name)

    def _log_full(self) -> None:
        if not self._full_logged:
            self._full_logged = True
            _log.warning(
                "more than %d peers, or %d of one device, are announced around here; the later ones are ignored",
                MAX_PEERS,
                MAX_STORES,
            )


def _merge(by_source: dict[str, Sighting]) -> Sighting:
    latest_first = [by_source[source] for source in reversed(by_source)]
    # Whoever claims another's store neither adds to its addresses nor has a share of them.
    latest_first = [sighting for sighting in latest_first if sighting.device == latest_first[0].device]
    heads = [endpoint for sighting in latest_first for endpoint in sighting.endpoints[:RESERVED]]
    tails = [endpoint for sighting in latest_first for endpoint in sighting.endpoints[RESERVED:]]
    endpoints = tuple(dict.fromkeys(heads + tails))[:MAX_ENDPOINTS]
    door = next((sighting.door for sighting in latest_first if sighting.door), 0)
    return replace(latest_first[0], endpoints=endpoints, source="+".join(sorted(by_source)), door=door)
