"""What the daemon answers about its peer's mailboxes: the verbs `mailbox.*`, for `zmesh mailbox` and `inbox --peek`.

This module must never lease a message, nor make a mailbox.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from zmesh.daemon.session import Session
from zmesh.errors import AddressError, UnknownMessage
from zmesh.peer.mailboxes import Mailboxes, Peeked
from zmesh.protocol.priority import Priority

Values = dict[str, Any]


class MailboxVerbs:
    """The verbs, carried out on one peer."""

    def __init__(self, mailboxes: Mailboxes, sessions: Callable[[], Iterable[Session]]) -> None:
        """Take the peer's mailboxes, and what says which programs are there."""
        self._mailboxes, self._sessions = mailboxes, sessions

    async def list_all(self) -> list[Values]:
        """Name all mailboxes, what is in them and which programs have them."""
        programs: dict[str, list[Values]] = {}
        for session in self._sessions():
            if session.mailbox:
                programs.setdefault(session.mailbox, []).append({"pid": session.pid, "holds": session.holds})
        return [asdict(info) | {"programs": programs.get(info.name, [])} for info in await self._mailboxes.list_all()]

    async def peek(self, *, name: str, most: int, dead: bool) -> Values:
        """Look at messages."""
        messages, count = await self._mailboxes.peek(name, most, dead=dead)
        return {"count": count, "messages": [_told(message) for message in messages]}

    async def move(self, *, name: str, into: str) -> Values:
        """Move what nobody has."""
        moved, dead = await self._mailboxes.move(name, into)
        return {"moved": moved, "dead": dead}

    async def replay(self, *, name: str, ident: bytes | None, again: bool = False) -> Values:
        """Have dead messages delivered again; with `again`, that may have been done already."""
        try:
            return {"replayed": await self._mailboxes.replay(name, ident)}
        except UnknownMessage:
            if not again:
                raise
            return {"replayed": 0}

    async def remove(self, *, name: str, again: bool = False) -> Values:
        """Remove an empty mailbox; with `again`, that may have been done already."""
        try:
            await self._mailboxes.remove(name)
        except AddressError:
            if not again:
                raise
        return {"removed": name}


def _told(message: Peeked) -> Values:
    glance, envelope = message.glance, message.envelope
    return {
        "id": glance.id, "sender": envelope.sender if envelope else "", "type": envelope.type if envelope else "",
        "priority": Priority(glance.klass).name.lower(), "sent_at": envelope.sent_at / 1000 if envelope else None,
        "state": message.state, "due_in": message.due_in, "age": message.age, "attempts": glance.attempts,
        "size": glance.size, "body": [glance.beginning, envelope.packed if envelope else False],
    }  # fmt: skip
