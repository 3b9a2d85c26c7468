"""What programs wait for: commands to be on disk, things that may happen, changes of who is there.

Each is a future. This module must never leave one open when the peer ends, nor complain of one that nobody awaits.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

from zmesh.errors import MeshError
from zmesh.peer.connection import failed_commit
from zmesh.protocol.effects import Failed, Settled

_NOBODY: Final = (None, None)


class Awaited:
    """The futures of one driver."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin with none, in the loop of the peer."""
        self._loop = loop
        self._commands: dict[int, tuple[Callable[[Settled], None], asyncio.Future[Any]]] = {}
        self._promises: WeakSet[asyncio.Future[Any]] = WeakSet()
        self._watchers: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        """Return how many commands are not on disk yet."""
        return len(self._commands)

    # --- commands ---

    def add(self, ticket: int, settle: Callable[[Settled], None], future: asyncio.Future[Any]) -> None:
        """A command was accepted: `settle` is called once it is on disk, unless `future` is done before."""
        self._commands[ticket] = (settle, future)

    def settled(self, effect: Settled) -> None:
        """A command is on disk."""
        settle, future = self._commands.pop(effect.ticket, _NOBODY)
        if settle is not None and future is not None and not future.done():
            settle(effect)

    def failed(self, effect: Failed) -> None:
        """A command is not on disk, and never will be."""
        _, future = self._commands.pop(effect.ticket, _NOBODY)
        if future is not None and not future.done():
            future.set_exception(failed_commit(effect.reason))

    # --- what may happen ---

    def promise(self) -> asyncio.Future[Any]:
        """Return a future that fails when the peer ends, if nothing else has become of it before."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._promises.add(future)
        return future

    async def change(self) -> None:
        """Wait for the next `changed`."""
        watcher: asyncio.Future[None] = self.promise()
        self._watchers.append(watcher)
        try:
            await watcher
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def changed(self) -> None:
        """A roster, a name or a link has changed."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    # --- the end ---

    def fail(self, fault: MeshError) -> None:
        """The peer has ended: nothing of all that will come."""
        for future in [*(future for _, future in self._commands.values()), *self._promises]:
            if not future.done():
                future.set_exception(fault)
                future.exception()  # nobody may be waiting any more: that is no error
        self._commands.clear()
