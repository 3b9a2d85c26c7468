"""`zmesh trace`: a message's life across both peers, as far as it was seen from here.

All times are this machine's: what happened elsewhere is told with the time at which it was heard of. A time that is
not known must never be guessed.
"""

import time
from collections.abc import Iterator
from typing import Any, Final

import click

from zmesh.cli.options import json_option, read_ident
from zmesh.cli.printing import harmless, print_json
from zmesh.daemon.connecting import connected

UNKNOWN: Final = "--:--:--.---"
_AT_RECIPIENT: Final = ("stored", "handled", "expired", "refused", "dead", "lost")
_HERE: Final = {
    "given": "given to the daemon, and kept on disk",
    "taken": "taken",
    "done": "done",
    "given back": "given back",
    "expiring": "its time is over; whether it was stored in time is asked",
}


@click.command()
@click.argument("ident", metavar="ID", callback=read_ident)
@json_option
def trace(*, ident: bytes, as_json: bool) -> None:
    """Draw the life of the message ID, sent from this machine or received here.

    Times are this machine's: when something was seen or heard of here. They are kept for the last 4096 messages, until
    the daemon ends; what became of a message is kept longer.
    """
    with connected() as client:
        told = client.call("trace", ident=ident)
    if as_json:
        print_json({"id": ident.hex()} | told)
        return
    for line in drawn(told):
        click.echo(harmless(line))


def drawn(told: dict[str, Any]) -> Iterator[str]:
    """Return the lines of a message's life, from what the daemon has told."""
    outgoing, incoming = told["outgoing"], told["incoming"]
    if outgoing is not None:
        yield f"to {outgoing['address']}{_about(outgoing)}"
    for one in incoming:
        yield f"in the mailbox {one['mailbox']}, from {one['peer'] or 'a peer that is not known any more'}{_about(one)}"
    before = None
    seen = {step["what"] for step in told["steps"]}
    if outgoing is not None and "given" not in seen:
        yield f"  {UNKNOWN}            given to the daemon, and kept on disk"
    for step in told["steps"]:
        if step["what"] == "done" and "handled" in seen:  # it has not left this machine
            continue
        yield f"  {_clock(step['at'])}  {_later(before, step['at']):>8}  {_words(step['what'], outgoing)}"
        before = step["at"]
    for end in _unseen(outgoing, incoming, seen):
        yield f"  {UNKNOWN}            {end}"
    if outgoing is not None and outgoing["state"] in ("waiting", "queued", "sent", "expiring"):
        linked = "linked" if outgoing["linked"] else "not linked"
        where = f"; {outgoing['peer']} is {linked}" if outgoing["peer"] else "; nobody knows that peer yet"
        yield f"  {_clock(time.time())}       now  {outgoing['state']}{_why(outgoing)}{where}"


def _unseen(outgoing: dict[str, Any] | None, incoming: list[dict[str, Any]], seen: set[str]) -> Iterator[str]:
    """Return what has happened although nobody remembers when."""
    if outgoing is not None and outgoing["state"] in _AT_RECIPIENT and outgoing["state"] not in seen:
        yield _words(outgoing["state"], outgoing)
    for one in incoming if outgoing is None else ():
        taken = f", taken {one['attempts']} times" if one["attempts"] > 1 else ""
        if not (one["state"] == "handled" and "done" in seen):
            yield f"{one['state']} here{taken}"


def _words(what: str, outgoing: dict[str, Any] | None) -> str:
    if what in _AT_RECIPIENT and outgoing is not None:
        return f"{what} {outgoing['peer'] and 'at ' + outgoing['peer']}".rstrip() + _why(outgoing)
    return _HERE.get(what, what)


def _why(outgoing: dict[str, Any]) -> str:
    return f" ({outgoing['detail']})" if outgoing["detail"] else ""


def _about(message: dict[str, Any]) -> str:
    if not message["sender"]:
        return ""
    return f", {message['type']} from {message['sender']}, whose clock said {_clock(message['sent_at'])}"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}"


def _later(before: float | None, at: float) -> str:
    return "" if before is None else f"+{at - before:.3f}s"
