"""The mailboxes of one peer as whoever looks after them sees them: what is in them, and moving, replaying, removing.

Looking takes nothing: no message is leased, and no attempt counted. This module must never touch what somebody holds.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any, TypeVar

from zmesh.errors import MailboxBusy, UnknownMessage
from zmesh.peer.arguments import checked_count, checked_id, checked_name
from zmesh.peer.driver import Driver
from zmesh.peer.mail_reader import Glance, count_dead, read_dead, read_glances
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.protocol.bounds import MAILBOX_MESSAGES, MAX_PEEKED, PEEKED_BYTES
from zmesh.protocol.commands import MoveMail, RemoveMailbox, Replay
from zmesh.protocol.envelope import Envelope, unpack_envelope
from zmesh.protocol.errors import ProtocolError
from zmesh.protocol.messages import InMessage
from zmesh.protocol.states import Received

WAITING, LEASED, DELAYED, DEAD = "waiting", "leased", "delayed", "dead"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HolderInfo:
    """Who takes messages from a mailbox.

    Attributes:
        reach: How it is reached, a word.
        here: False once it has gone and its leases have not returned yet.
        leased: How many messages it has.
    """

    reach: str
    here: bool
    leased: int


@dataclass(frozen=True, slots=True)
class MailboxInfo:
    """One mailbox of this peer.

    Attributes:
        name: Its name.
        waiting: Messages that nobody has, those that are to come again later included.
        leased: Messages that somebody has.
        dead: Messages that were given up on; they are kept.
        size: Octets of the bodies that wait or are leased.
        holders: Who takes its messages.
    """

    name: str
    waiting: int
    leased: int
    dead: int
    size: int
    holders: tuple[HolderInfo, ...]


@dataclass(frozen=True, slots=True)
class Peeked:
    """A message that was looked at.

    Attributes:
        glance: What the store has of it.
        envelope: What it says about itself; None when that cannot be read.
        state: `waiting`, `leased`, `delayed` (it was given back, and comes again later) or `dead`.
        due_in: Seconds until one that is delayed comes again, else None.
        age: Seconds since it came, None when that is not remembered.
    """

    glance: Glance
    envelope: Envelope | None
    state: str
    due_in: float | None
    age: float | None


class Mailboxes:
    """All mailboxes of one peer.

    Attributes:
        reviving: Held while dead messages are replayed, moved or purged: what was read of them is still so when it is
            acted on. What is replayed has its body still, and is where it was.
    """

    def __init__(self, driver: Driver, store: SqliteStore) -> None:
        """Take the peer's driver and store."""
        self._driver, self._store = driver, store
        self.reviving = asyncio.Lock()

    async def list_all(self) -> list[MailboxInfo]:
        """Return all mailboxes by name, those that only dead messages are left of included.

        Raises:
            StoreError, PeerClosed: The store cannot be asked.
        """
        dead = await self._read(count_dead)
        inbox = self._driver.core.node.inbox
        leased: dict[str, int] = {}
        for message in inbox.messages.by_row.values():
            if message.state is Received.LEASED:
                leased[message.mailbox] = leased.get(message.mailbox, 0) + 1
        infos = [MailboxInfo(name, 0, 0, count, 0, ()) for name, count in dead.items() if name not in inbox.mailboxes]
        for name, mailbox in inbox.mailboxes.items():
            has = leased.get(name, 0)
            holders = [HolderInfo(each.reach, each.here, len(each.leases)) for each in mailbox.holders.values()]
            waiting = max(0, mailbox.count - has)
            infos.append(MailboxInfo(name, waiting, has, dead.get(name, 0), mailbox.size, tuple(holders)))
        return sorted(infos, key=lambda info: info.name)

    # --- looking ---

    async def peek(self, name: str, most: int = 20, *, dead: bool = False) -> tuple[list[Peeked], int]:
        """Look at what is in a mailbox, without taking anything.

        Args:
            name: Of the mailbox.
            most: How many messages at most, up to `MAX_PEEKED`; those that come next come first.
            dead: Look at its dead messages instead.

        Returns:
            The messages, and how many there are in all.

        Raises:
            AddressError: There is no such mailbox.
            TypeError, ValueError: `most` is no number, or out of its range.
            StoreError, PeerClosed: The store cannot be asked.
        """
        if checked_count(most, "most") > MAX_PEEKED:
            raise ValueError(f"most is at most {MAX_PEEKED}, not {most}")
        inbox = self._driver.core.node.inbox
        name = checked_name(name, "mailbox")
        if dead:
            return await self._peek_dead(name, most)
        inbox.opened(name)
        there = [each for each in inbox.messages.by_row.values() if each.mailbox == name and each.committed]
        first = {each.row: each for each in nsmallest(most, there, key=lambda each: (each.klass, each.row))}
        glances = await self._read(lambda connection: read_glances(connection, list(first), PEEKED_BYTES))
        ages = self._ages()
        return [self._live(glance, first[glance.row], ages) for glance in glances], len(there)

    async def _peek_dead(self, name: str, most: int) -> tuple[list[Peeked], int]:
        rows = await self._read(lambda connection: read_dead(connection, name, most))
        glances = await self._read(lambda connection: read_glances(connection, [row.row for row in rows], PEEKED_BYTES))
        count = (await self._read(count_dead)).get(name, 0)
        ages = self._ages()
        return [
            Peeked(each, _opened(each), DEAD, None, ages.get((each.id, each.source))) for each in glances
        ], count  # fmt: skip

    def _live(self, glance: Glance, message: InMessage, ages: dict[tuple[bytes, bytes], float]) -> Peeked:
        due_in = message.due - self._driver.now()
        state = LEASED if message.state is Received.LEASED else DELAYED if due_in > 0 else WAITING
        return Peeked(
            glance, _opened(glance), state, due_in if state == DELAYED else None, ages.get((glance.id, glance.source))
        )

    def _ages(self) -> dict[tuple[bytes, bytes], float]:
        now = self._driver.now()
        return {(ident, store): now - at for at, ident, store in self._driver.core.node.inbox.arrivals}

    # --- changing ---

    async def move(self, name: str, into: str) -> tuple[int, int]:
        """Move what nobody has leased into another mailbox of this peer, ids and attempts kept; dead ones stay dead.

        Returns:
            How many messages that wait were moved, and how many dead ones.

        Raises:
            AddressError: There is no such mailbox.
            ValueError: The two are one.
            MeshFull: There is no room in the other one.
            StoreError: It could not be written to disk; everything is where it was.
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
        """
        name, into = checked_name(name, "mailbox"), checked_name(into, "mailbox")
        self._driver.core.node.inbox.opened(name)
        live = gone = 0
        async with self.reviving:
            while True:
                rows = await self._read(lambda connection: read_dead(connection, name, MAILBOX_MESSAGES))
                dead = tuple(row.row for row in rows)
                mailbox = self._driver.core.node.inbox.opened(name)  # it may have gone meanwhile
                before = mailbox.count
                ticket = self._driver.number()
                settled = self._driver.submit(ticket, MoveMail(ticket, name, into, dead))
                live += before - mailbox.count
                await settled
                gone += len(dead)
                if len(dead) < MAILBOX_MESSAGES:
                    return live, gone

    async def replay(self, name: str, ident: bytes | None = None) -> int:
        """Have dead messages of a mailbox delivered again, as if nobody had taken them; their senders are told.

        Args:
            name: Of the mailbox.
            ident: The one message; None for all.

        Returns:
            How many.

        Raises:
            AddressError: There is no such mailbox.
            UnknownMessage: It has no such dead message.
            MeshFull: There is no room in it; none is delivered again.
            StoreError: It could not be written to disk; they are dead as before.
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
        """
        name = checked_name(name, "mailbox")
        wanted = b"" if ident is None else checked_id(ident, "ident")
        inbox = self._driver.core.node.inbox
        inbox.opened(name)
        async with self.reviving:
            found = await self._read(lambda connection: read_dead(connection, name, MAILBOX_MESSAGES, wanted))
            rows = tuple(row for row in found if row.row not in inbox.messages.by_row)
            if wanted and not rows:
                text = f"mailbox {name!r} has no dead message {wanted.hex()}: `zmesh inbox --peek --dead`"
                raise UnknownMessage(text)
            if rows:
                ticket = self._driver.number()
                await self._driver.submit(ticket, Replay(ticket, name, rows))
        return len(rows)

    async def remove(self, name: str) -> None:
        """Remove a mailbox that is empty and that nobody holds.

        Raises:
            AddressError: There is no such mailbox.
            MailboxBusy: Somebody is there, something is in it, or messages are just arriving.
            StoreError: It could not be written to disk; it is there as before.
            PeerClosed, WrongLoop: The peer is not running, or runs in another event loop.
        """
        name = checked_name(name, "mailbox")
        self._driver.core.node.inbox.opened(name)
        dead = (await self._read(count_dead)).get(name, 0)
        if dead:
            raise MailboxBusy(
                f"mailbox {name!r} is not empty: {dead} dead messages are in it, which `zmesh mailbox replay {name}` "
                f"delivers again, and `zmesh mailbox move {name} OTHER` takes elsewhere"
            )
        ticket = self._driver.number()
        await self._driver.submit(ticket, RemoveMailbox(ticket, name))

    async def _read(self, question: Callable[[Any], T]) -> T:
        self._driver.check()
        return await asyncio.wrap_future(self._store.query(question))


def _opened(glance: Glance) -> Envelope | None:
    try:
        return unpack_envelope(glance.envelope)
    except ProtocolError:  # of another version
        return None
