"""How much one peer keeps and takes, as its owner wants it: the quotas, which may change while it runs.

What is over a quota is refused with a clear error, and never dropped: a quota that is set below what is there already
only keeps more from coming. No quota may be so low that a message could never pass, nor so high that memory is not
bounded any more.
"""

from collections.abc import Mapping
from typing import Final

from zmesh.protocol.bounds import (
    MAILBOX_BYTES,
    MAILBOX_MESSAGES,
    MAX_BODY,
    MOST_BYTES,
    MOST_MESSAGES,
    MOST_RATE_BYTES,
    MOST_RATE_MESSAGES,
    QUOTA_BYTES,
    QUOTA_MESSAGES,
    RATE_BYTES,
    RATE_MESSAGES,
)
from zmesh.protocol.record import record


@record
class Quotas:
    """What is bounded, and how.

    Attributes:
        peer_messages, peer_bytes: Un-ended messages to one other peer, and their bodies; the same again for all
            messages to peers and mailboxes that are not there yet.
        mailbox_messages, mailbox_bytes: Un-ended messages in one mailbox, and their bodies.
        device_messages, device_bytes: Messages a second that are taken from one other device, and their bodies, where
            no limit of its own was set for it.
    """

    peer_messages: int
    peer_bytes: int
    mailbox_messages: int
    mailbox_bytes: int
    device_messages: int
    device_bytes: int


RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "peer_messages": (1, MOST_MESSAGES),
    "peer_bytes": (MAX_BODY, MOST_BYTES),
    "mailbox_messages": (1, MOST_MESSAGES),
    "mailbox_bytes": (MAX_BODY, MOST_BYTES),
    "device_messages": (1, MOST_RATE_MESSAGES),
    "device_bytes": (1, MOST_RATE_BYTES),
}
"""The least and the most of each quota."""


def default_quotas() -> Quotas:
    """Return what holds where nobody has said otherwise."""
    return Quotas(
        QUOTA_MESSAGES, QUOTA_BYTES, MAILBOX_MESSAGES, MAILBOX_BYTES, int(RATE_MESSAGES), int(RATE_BYTES)
    )  # fmt: skip


def checked_quotas(quotas: Quotas) -> Quotas:
    """Return these quotas.

    Raises:
        ValueError: One of them is out of its range.
    """
    for name in RANGES:
        check_quota(name, getattr(quotas, name))
    return quotas


def check_quota(name: str, value: object) -> int:
    """Return the value of one quota.

    Args:
        name: Of `RANGES`.
        value: Whatever somebody wrote.

    Raises:
        ValueError: It is no whole number in the range of that quota.
    """
    least, most = RANGES[name]
    if type(value) is not int or not least <= value <= most:
        text = f"{name.replace('_', '.')} = {value!r:.80}: a quota is a whole number, this one from {least} to {most}"
        raise ValueError(text)
    return value
