"""`zmesh trace`: a message's life across both peers, as this one has seen it and as the other one tells it.

All times are this machine's. What the other peer tells is marked as its own, and placed here by how long ago it was. A
time that is not known must never be guessed.
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
    "stored": "came, and is kept on disk",
    "expiring": "its time is over; whether it was stored in time is asked",
}

_THERE: Final = {"given": "given to it, and kept on disk"}


@click.command()
@click.argument("ident", metavar="ID", callback=read_ident)
@json_option
def trace(*, ident: bytes, as_json: bool) -> None:
    """Draw the life of the message ID, sent from this machine or received here.

    The peer at the other end is asked for what it has seen, if it is linked. All times are this machine's: the other
    peer says how long ago something was. Times are kept for the last 4096 messages, until the daemon ends; what became
    of a message is kept longer.
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
    ends = [one for one in (outgoing, *incoming) if one is not None]
    if outgoing is not None:
        yield f"to {outgoing['address']}{_about(outgoing)}"
    for one in incoming:
        yield f"in the mailbox {one['mailbox']}, from {one['peer'] or 'a peer that is not known any more'}{_about(one)}"
    seen = {step["what"] for step in told["steps"]}
    if outgoing is not None and "given" not in seen:
        yield f"  {UNKNOWN}            given to the daemon, and kept on disk"
    before = None
    for at, what in sorted(_steps(told, seen), key=lambda step: step[0]):
        yield f"  {_clock(at)}  {_later(before, at):>8}  {what}"
        before = at
    for end in _unseen(outgoing, incoming, seen):
        yield f"  {UNKNOWN}            {end}"
    if outgoing is not None and outgoing["state"] in ("waiting", "queued", "sent", "expiring"):
        linked = "linked" if outgoing["linked"] else "not linked"
        where = f"; {outgoing['peer']} is {linked}" if outgoing["peer"] else "; nobody knows that peer yet"
        yield f"  {_clock(time.time())}       now  {outgoing['state']}{_why(outgoing)}{where}"
    for one in ends:
        if (there := _there(one)) is not None:
            yield f"  {_said(there, sent=one is outgoing)}"


def _steps(told: dict[str, Any], seen: set[str]) -> Iterator[tuple[float, str]]:
    """Return what was seen here, and at the other end, each with its time."""
    outgoing = told["outgoing"]
    for step in told["steps"]:
        if step["what"] != "done" or "handled" not in seen:  # else it has not left this machine, and is told twice
            yield step["at"], _words(step["what"], outgoing)
    for one in (outgoing, *told["incoming"]):
        there = _there(one) or {"steps": ()}
        for step in there["steps"]:
            yield step["at"], f"{there['peer']}: {_THERE.get(step['what'], step['what'])}"


def _there(one: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what the other end has told; None when it is on this machine, or the daemon is an older one."""
    return None if one is None else one.get("there")


def _said(there: dict[str, Any], *, sent: bool) -> str:
    """Return what is to be said of the other end as a whole."""
    who = there["peer"] or "the other peer"
    if not there["said"]:
        return f"{who} did not say what it knows: {there['why']}"
    if not there["knows"]:
        return f"{who} knows of no such message"
    taken = f", taken {there['attempts']} times" if sent and there["attempts"] > 1 else ""
    off = f"; its times are right within {there['within']:.3f} s" if there["steps"] else "; it remembers no times"
    return f"{who} says it is {there['state']}{taken}{off}"


def _unseen(outgoing: dict[str, Any] | None, incoming: list[dict[str, Any]], seen: set[str]) -> Iterator[str]:
    """Return what has happened although nobody remembers when."""
    if outgoing is not None and outgoing["state"] in _AT_RECIPIENT and outgoing["state"] not in seen:
        yield _words(outgoing["state"], outgoing)
    for one in incoming if outgoing is None else ():
        taken = f", taken {one['attempts']} times" if one["attempts"] > 1 else ""
        if one["state"] not in seen and not (one["state"] == "handled" and "done" in seen):
            yield f"{one['state']} here{taken}"


def _words(what: str, outgoing: dict[str, Any] | None) -> str:
    if what in _AT_RECIPIENT and outgoing is not None:
        there = _there(outgoing)
        heard = "heard: " if there is not None and there["steps"] else ""  # what it says itself stands beside that
        return f"{heard}{what} {outgoing['peer'] and 'at ' + outgoing['peer']}".rstrip() + _why(outgoing)
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
