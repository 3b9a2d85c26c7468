"""Mail that goes into another mailbox of this store, and mailboxes that go because nothing is in them.

Ids, attempts and delays are kept, and within a class the order of arrival. To its sender a message is as stored as
before, so nobody is told. What somebody has leased, or may come back for, must never be moved.
"""

from typing import TYPE_CHECKING

from zmesh.errors import MailboxBusy, MeshFull
from zmesh.protocol.journal import DropMailbox, MoveIn
from zmesh.protocol.merging import shift
from zmesh.protocol.states import Received

if TYPE_CHECKING:
    from zmesh.protocol.commands import MoveMail, RemoveMailbox
    from zmesh.protocol.node import Node


def move(node: "Node", command: "MoveMail") -> None:
    """Carry out the command.

    Raises:
        AddressError: There is no such mailbox.
        ValueError: The two are one.
        MeshFull: There is no room in the other one; nothing was moved.
    """
    inbox, turn = node.inbox, node.turn
    source, target = inbox.opened(command.name), inbox.opened(command.into)
    if source is target:
        text = f"what is in mailbox {source.name!r} is there already"
        raise ValueError(text)
    by_row = inbox.messages.by_row
    messages = [each for each in by_row.values() if each.mailbox == source.name and inbox.leases.free(each)]
    if target.full(inbox.quotas, sum(message.size for message in messages), len(messages)):
        text = (
            f"mailbox {target.name!r} has no room for the {len(messages)} messages of {source.name!r}: work some off, "
            "or raise the quota (`zmesh admin quota`)"
        )
        raise MeshFull(text)
    rows = [message.row for message in messages] + [row for row in command.dead if row not in by_row]
    for row in rows:
        turn.persist(MoveIn(row, target.name))
    shift(messages, source, target)
    inbox.leases.moved(messages)

    def abort(_: str) -> None:
        there = [message for message in messages if by_row.get(message.row) is message]
        shift([message for message in there if message.state is Received.STORED], target, source)
        inbox.leases.dispatch(source)

    turn.then(None, abort)
    turn.settle(command.ticket)
    inbox.leases.dispatch(target)


def remove(node: "Node", command: "RemoveMailbox") -> None:
    """Carry out the command.

    Raises:
        AddressError: There is no such mailbox.
        MailboxBusy: Somebody is there, something is in it, or messages are just arriving.
    """
    inbox, turn = node.inbox, node.turn
    mailbox = inbox.opened(command.name)
    if mailbox.holders:
        text = f"mailbox {mailbox.name!r} is in use: end who takes its messages, then try again"
        raise MailboxBusy(text)
    if mailbox.count or mailbox.arriving or node.placing.waits_here(mailbox.name):
        text = f"mailbox {mailbox.name!r} is not empty: {mailbox.count} messages are in it, or are just arriving"
        raise MailboxBusy(text)
    turn.persist(DropMailbox(mailbox.name))
    inbox.remove(mailbox)
    node.changed()

    def abort(_: str) -> None:
        inbox.put_back(mailbox)
        node.changed()

    turn.then(None, abort)
    turn.settle(command.ticket)
