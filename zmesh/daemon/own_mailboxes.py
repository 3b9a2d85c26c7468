"""Mailboxes that programs have for themselves: the first one in a folder is `api`, further ones are `api.2`, `api.3`.

Those with a number are temporary: what is in one goes into `api` when its program has ended, or has not come back to a
daemon that was started again. Which ones they are is kept in the peer's store. This module must never end a mailbox
that somebody has made by its name.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final

import msgpack

from zmesh.errors import MailboxBusy, MeshError, MeshFull
from zmesh.peer.arguments import checked_name
from zmesh.peer.peer import Peer
from zmesh.protocol.bounds import MAX_AGENTS, MAX_NAME

KEY: Final = "temporary mailboxes"
RETRY: Final = 0.2  # seconds until the end of a mailbox is tried again: something was just arriving
FULL_RETRY: Final = 10.0  # seconds, when the other mailbox had no room
NUMBERED: Final = MAX_NAME - 1 - len(str(MAX_AGENTS))  # characters that a dot and the highest number leave of a name
_log = logging.getLogger("zmesh.daemon")


class OwnMailboxes:
    """Who has which mailbox for itself, at one daemon."""

    def __init__(self, peer: Peer) -> None:
        """Read from the peer's store which mailboxes are temporary; the peer runs."""
        self._peer = peer
        self._taken: set[str] = set()
        self._base: dict[str, str] = _read(peer.store.meta.get(KEY, b""))
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def claim(self, base: str, was: str = "") -> str:
        """Return the mailbox that a program has for itself from now on.

        Args:
            base: The name that it would have alone.
            was: The one it had before the daemon was started again; empty for none.

        Raises:
            AddressError: The name breaks the grammar.
            MeshFull: There are too many.
        """
        base = checked_name(base, "agent name")
        if was and was not in self._taken and base in (was, self._base.get(was)):
            return self._take(was, base)
        for number in range(1, MAX_AGENTS):
            name = base if number == 1 else f"{base[:NUMBERED]}.{number}"
            if self._is_free(name, base):
                return self._take(name, base)
        raise MeshFull(f"{MAX_AGENTS} programs have mailboxes called {base!r} already")

    def release(self, name: str) -> None:
        """The program that had a mailbox for itself has ended."""
        self._taken.discard(name)
        if name in self._base and not self._closed:  # else it is the daemon that ends
            self._end(name)

    async def end_forsaken(self, grace: float) -> None:
        """End what programs had at a daemon before this one, and have not come back for within `grace` seconds."""
        await asyncio.sleep(grace)
        for name in [name for name in self._base if name not in self._taken]:
            self._end(name)

    async def close(self) -> None:
        """End none from now on: programs come back to the next daemon, which ends what nobody comes back for."""
        self._closed = True
        tasks = list(self._ending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_free(self, name: str, base: str) -> bool:
        """Say whether nobody has it: a numbered one must be temporary, or not be there at all."""
        mailbox = self._peer.driver.core.node.inbox.mailboxes.get(name)
        if name in self._taken or (mailbox is not None and mailbox.attached):
            return False
        return name == base or mailbox is None or self._base.get(name) == base

    def _take(self, name: str, base: str) -> str:
        self._taken.add(name)
        ending = self._ending.pop(name, None)
        if ending is not None:
            ending.cancel()
        if name != base and name not in self._base:
            self._base[name] = base
            self._write()  # before the mailbox is made: the store does both in order
        return name

    # --- the end ---

    def _end(self, name: str) -> None:
        if name not in self._ending:
            self._ending[name] = asyncio.get_running_loop().create_task(self._merge(name))

    async def _merge(self, name: str) -> None:
        try:
            while not await self._merged(name, self._base[name]):
                pass
            self._base.pop(name, None)
            self._write()
        except MeshError as error:  # the peer is closing, or its disk is full: the next daemon sees to it
            _log.warning("mailbox %s stays: %s", name, error)
        finally:
            self._ending.pop(name, None)

    async def _merged(self, name: str, base: str) -> bool:
        if name not in self._peer.driver.core.node.inbox.mailboxes:
            return True
        try:
            await self._peer.merge(name, base)
        except (MailboxBusy, MeshFull) as error:
            await asyncio.sleep(RETRY if isinstance(error, MailboxBusy) else FULL_RETRY)
            return False
        return True

    def _write(self) -> None:
        with suppress(MeshError):  # the store is closed
            self._peer.store.put_meta(KEY, msgpack.packb(self._base))


def _read(kept: bytes) -> dict[str, str]:
    with suppress(ValueError, TypeError):
        known = msgpack.unpackb(kept) if kept else {}
        if isinstance(known, dict):
            return {str(name): str(base) for name, base in known.items()}
    return {}
