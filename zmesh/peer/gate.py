"""Who may come in and whom we dial: the membership, as the link asks for it.

This device's own peers are always admitted: there is no boundary between programs of one user on one machine. Others
are as the membership logs say, which any process of this device may change; `watch` looks for that. This module must
never admit a key by anything but its own bytes, and never dial a device whose key it does not know.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from zmesh.errors import TrustError
from zmesh.peer.zap import REVOKED, STRANGER, Admission
from zmesh.trust.device import Device
from zmesh.trust.trust_store import TrustStore

LOOK_EVERY: Final = 0.5  # seconds between looks at the logs; one costs 20 microseconds
_log = logging.getLogger("zmesh.trust")


class Gate:
    """Answers for one device.

    Attributes:
        store: The membership logs.
        own: Id of this device.
    """

    def __init__(self, device: Device, store: TrustStore) -> None:
        """Take the device and its logs."""
        self.store, self.own = store, device.id
        self._device = device
        self._own = Admission.member(device.id)
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def admit(self, key: bytes) -> Admission:
        """Decide about a CURVE key of 32 bytes."""
        if key == self._device.curve_public:
            return self._own
        member = self.store.membership.by_curve(key)
        if member is None:
            return STRANGER
        return REVOKED if member.revoked or self._shut else Admission.member(member.device)

    def knows(self, device: str) -> bool:
        """Say whether a device is this one, or a member."""
        return self.server_key(device) is not None

    def server_key(self, device: str) -> bytes | None:
        """Return the CURVE key to expect when a device is dialled; None when it is no member."""
        if device == self._device.id:
            return self._device.curve_public
        member = self.store.membership.by_device(device)
        return None if member is None or member.revoked or self._shut else member.curve

    def name_of(self, device: str) -> str:
        """Return what a device is called, or the beginning of its id."""
        member = self.store.membership.by_device(device)
        return member.name if member else device[:8]

    @property
    def _shut(self) -> bool:
        """True when this device itself was revoked: then it knows nobody."""
        me = self.store.me()
        return me is not None and me.revoked

    # --- changes ---

    def watch(self, changed: Callable[[frozenset[str]], None]) -> None:
        """Call `changed` with the devices that are members no more, whenever the logs have changed; until `close`."""
        self._task = asyncio.get_running_loop().create_task(self._watch(changed, self._members(), self.store.heads()))

    def look(self) -> None:
        """Look at the logs now: they have changed."""
        self._news.set()

    async def close(self) -> None:
        """Stop watching and close the logs."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.store.close()

    async def _watch(
        self, changed: Callable[[frozenset[str]], None], members: frozenset[str], heads: dict[bytes, tuple[int, bytes]]
    ) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._news.wait()
            self._news.clear()
            try:
                self.store.refresh()
            except TrustError as error:
                _log.warning("%s", error)
                continue
            if self.store.heads() != heads:
                gone = members - self._members()
                members, heads = self._members(), self.store.heads()
                changed(gone)

    def _members(self) -> frozenset[str]:
        devices = (member.device for member in self.store.membership.members.values())
        return frozenset(device for device in devices if self.knows(device))
