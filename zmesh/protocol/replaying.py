"""Dead messages that are delivered again, because what made their holders fail is mended.

A replayed message begins anew: no attempts are counted, and its ttl, which bounded the wait until the first lease, is
over. Its sender is told, in the transaction that brings it back. It must never come back twice.
"""

from typing import TYPE_CHECKING

from zmesh.errors import MeshFull
from zmesh.protocol.journal import InRow, ReviveIn
from zmesh.protocol.messages import InMessage
from zmesh.protocol.states import RECEIVER, Received, step

if TYPE_CHECKING:
    from zmesh.protocol.commands import Replay
    from zmesh.protocol.mailbox import Mailbox
    from zmesh.protocol.node import Node


def replay(node: "Node", command: "Replay") -> None:
    """Carry out the command.

    Raises:
        AddressError: There is no such mailbox.
        MeshFull: There is no room in it; none is delivered again.
    """
    inbox = node.inbox
    mailbox = inbox.opened(command.name)
    rows = [row for row in command.rows if row.mailbox == mailbox.name and row.row not in inbox.messages.by_row]
    if mailbox.full(inbox.quotas, sum(row.size for row in rows), len(rows)):
        text = (
            f"mailbox {mailbox.name!r} has no room for {len(rows)} more messages: work some off, name one by its id, "
            "or raise the quota (`zmesh admin quota`)"
        )
        raise MeshFull(text)
    for row in rows:
        _revive(node, mailbox, row)
    node.turn.settle(command.ticket)


def _revive(node: "Node", mailbox: "Mailbox", row: InRow) -> None:
    inbox, turn = node.inbox, node.turn
    message = InMessage(InRow(row.row, row.id, row.source, row.mailbox, row.klass, 0, 0.0, None, row.size))
    message.state = step(RECEIVER, Received.DEAD, "replayed")
    message.committed = False  # until then it is dead
    inbox.messages.keep(message)
    mailbox.arriving += 1
    turn.persist(ReviveIn(row.row))
    node.report(message, "replayed", "")

    def commit() -> None:
        mailbox.arriving -= 1
        message.committed = True
        inbox.leases.offer(message)

    def abort(_: str) -> None:
        mailbox.arriving -= 1
        inbox.messages.drop(message)

    turn.then(commit, abort)
