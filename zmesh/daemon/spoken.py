"""How messages and receipts are written in the frames between a client and the daemon, on the daemon's side.

A message is told with all that it takes to go on with it after the daemon was ended and started. This module must
never unpack a body: it is looked at where it is used.
"""

from typing import Any

from zmesh.errors import AddressError, DaemonError
from zmesh.peer.arguments import (
    brief,
    checked_address,
    checked_count,
    checked_id,
    checked_id_or_none,
    checked_name,
    checked_priority,
    checked_type,
)
from zmesh.peer.body import PackedBody
from zmesh.peer.message import Message
from zmesh.peer.receipt import Receipt
from zmesh.protocol.effects import Delivery
from zmesh.protocol.envelope import Envelope

Values = dict[str, Any]


def packed(body: Any) -> PackedBody:
    """Read a body: its bytes, and whether they are msgpack.

    Raises:
        DaemonError: It is not written so.
    """
    match body:
        case [bytes() as data, bool() as is_packed]:
            return PackedBody(data, is_packed)
    raise DaemonError("a body is its bytes, and whether they are msgpack")


def described(message: Message) -> Values:
    """Write a message that was leased to the client."""
    delivery = message.delivery
    return {
        "lease": delivery.row,
        "id": message.id,
        "source": message.store,
        "sender": message.sender,
        "to": message.to,
        "type": message.type,
        "priority": message.priority,
        "thread": message.thread,
        "reply_to": message.reply_to,
        "sent_at": delivery.envelope.sent_at,
        "attempt": message.attempt,
        "body": [delivery.body, delivery.envelope.packed],
    }


def to_delivery(told: Values) -> Delivery:
    """Read what `described` has written, without the body.

    Raises:
        DaemonError: It is not what it has written.
    """
    try:
        envelope = Envelope(
            to=checked_name(told["to"], "mailbox"),
            sender=checked_address(told["sender"]),
            type=checked_type(told["type"]),
            thread=checked_id_or_none(told["thread"], "thread"),
            reply_to=checked_id_or_none(told["reply_to"], "reply_to"),
            sent_at=_number(told["sent_at"]),
            packed=False,
        )
        return Delivery(
            0, checked_count(told["lease"], "lease"), checked_id(told["id"], "id"),
            checked_id(told["source"], "source"), envelope, checked_priority(told["priority"]),
            checked_count(told["attempt"], "attempt"), b"",
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AddressError) as error:
        raise DaemonError(f"a message that is said to be held is not one: {error}") from None


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"a number, not {brief(value)}")
    return value


def standing(receipt: Receipt) -> Values:
    """Write how a message that was sent gets on."""
    return {
        "id": receipt.id,
        "address": receipt.address,
        "state": receipt.state,
        "warning": receipt.warning,
        "detail": receipt.detail,
    }
