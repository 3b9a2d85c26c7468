"""The end of a mailbox: what is in it goes into another one of this store, and it is no more.

Ids, attempts and delays are kept, and within a class the order of arrival; nobody is told of it, for to its sender a
message is as stored as before. It must never be done while somebody is there who may hold a message.
"""

from collections import deque
from collections.abc import Iterable

from zmesh.errors import MailboxBusy, MeshFull
from zmesh.protocol import journal
from zmesh.protocol.commands import MergeMailbox
from zmesh.protocol.inbox import Inbox
from zmesh.protocol.mailbox import Mailbox
from zmesh.protocol.messages import InMessage
from zmesh.protocol.states import Received
from zmesh.protocol.turn import Turn


def merge(inbox: Inbox, turn: Turn, command: MergeMailbox) -> None:
    """Carry out the command.

    Raises:
        AddressError: There is no such mailbox.
        ValueError: The two are one.
        MailboxBusy: Somebody is there, or messages are just arriving.
        MeshFull: There is no room in the other one.
    """
    source, target = inbox.opened(command.name), inbox.opened(command.into)
    if source is target:
        text = f"mailbox {source.name!r} cannot be merged into itself"
        raise ValueError(text)
    if source.holders or source.arriving or source.fetching:
        text = f"mailbox {source.name!r} is in use: detach who takes its messages, then try again"
        raise MailboxBusy(text)
    if target.full(inbox.quotas, source.size, source.count):
        text = f"mailbox {target.name!r} has no room for the {source.count} messages of {source.name!r}: work some off"
        raise MeshFull(text)
    messages = [message for message in inbox.messages.by_row.values() if message.mailbox == source.name]
    turn.persist(journal.MergeMailbox(source.name, target.name))
    shift(messages, source, target)
    inbox.leases.moved(messages)
    inbox.remove(source)

    def abort(_: str) -> None:
        inbox.put_back(source)
        there = [message for message in messages if inbox.messages.by_row.get(message.row) is message]
        shift([message for message in there if message.state is Received.STORED], target, source)

    turn.then(None, abort)
    turn.settle(command.ticket)
    inbox.leases.dispatch(target)


def shift(messages: Iterable[InMessage], source: Mailbox, target: Mailbox) -> None:
    """Put messages from one mailbox into another one, in their old order; for the records in memory only."""
    rows = set()
    for message in messages:
        rows.add(message.row)
        message.mailbox = target.name
        source.count -= 1
        source.size -= message.size
        target.count += 1
        target.size += message.size
    for klass, queue in enumerate(source.ready):
        moved = [message for message in queue if message.row in rows]
        if moved:
            source.ready[klass] = deque(message for message in queue if message.row not in rows)
            target.ready[klass] = deque(sorted([*target.ready[klass], *moved], key=lambda message: message.row))
