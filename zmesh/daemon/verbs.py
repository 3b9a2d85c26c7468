"""What programs can ask the daemon for, as a verb and its arguments; the same for the blocking and the async client.

Bodies are packed here, so that a wrong one is refused where it was made. This module must never talk to anybody.
"""

import os
import time
from typing import Any, Final

from zmesh.peer.body import pack_body
from zmesh.peer.duration import parse_timeout

_TIME_BYTES: Final = 6
_RANDOM_BYTES: Final = 10

Values = dict[str, Any]
Request = tuple[str, Values]


def new_id() -> bytes:
    """Return the id of a new message: 16 bytes, the first six its milliseconds, so that ids of one store rise."""
    return int(time.time() * 1000).to_bytes(_TIME_BYTES, "big") + os.urandom(_RANDOM_BYTES)


def send(
    to: str,
    body: Any,
    *,
    type: str,  # noqa: A002 - the public name
    priority: str,
    ttl: float | str | None,
    thread: bytes | None,
    reply_to: bytes | None,
    strict: bool,
) -> Request:
    """Send a message; arguments as in `Agent.send`.

    Raises:
        BodyError: The body cannot be sent.
    """
    return "send", {
        "ident": new_id(), "to": to, "body": list(pack_body(body)), "type": type, "priority": priority,
        "ttl": ttl, "thread": thread, "reply_to": reply_to, "strict": strict,
    }  # fmt: skip


def ask(
    to: str,
    body: Any,
    *,
    timeout: float | str | None,
    type: str,  # noqa: A002 - the public name
    priority: str,
    strict: bool,
) -> Request:
    """Ask for an answer; arguments as in `Agent.ask`.

    Raises:
        BodyError, ValueError: The body cannot be sent, or the timeout is none.
    """
    return "ask", {
        "ident": new_id(), "to": to, "body": list(pack_body(body)), "timeout": parse_timeout(timeout), "type": type,
        "priority": priority, "strict": strict,
    }  # fmt: skip


def poll(most: int, timeout: float | str | None) -> Request:
    """Take messages; arguments as in `Agent.poll`."""
    return "poll", {"most": most, "timeout": parse_timeout(timeout)}


def done(lease: int, turn: int, reply: Any, type: str) -> Request:  # noqa: A002 - the public name
    """Finish a message; None for no answer."""
    answer = None if reply is None else list(pack_body(reply))
    return "done", {"lease": lease, "turn": turn, "reply": answer, "type": type}


def nack(lease: int, delay: float | None, *, counted: bool) -> Request:
    """Give a message back; arguments as in `Message.nack`."""
    return "nack", {"lease": lease, "delay": delay, "counted": counted}


def reply(lease: int, turn: int, body: Any, type: str) -> Request:  # noqa: A002 - the public name
    """Answer a message without finishing it."""
    return "reply", {"lease": lease, "turn": turn, "body": list(pack_body(body)), "type": type}


def wait(ident: bytes, until: str, timeout: float | str | None) -> Request:
    """Wait until a message is `stored` or `handled`."""
    return "wait", {"ident": ident, "until": until, "timeout": parse_timeout(timeout)}


def report(health: str, text: str) -> Request:
    """Say how the program itself is.

    Raises:
        TypeError, ValueError: That can be nothing of the kind.
    """
    from zmesh.daemon.reports import checked_report  # noqa: PLC0415 - for adapters, and no short command

    state, line = checked_report(health, text)
    return "report", {"health": state.value, "text": line}


def find(address: str, timeout: float | str | None) -> Request:
    """Wait until an agent is there."""
    return "find", {"address": address, "timeout": parse_timeout(timeout)}
