"""The life of a message for `zmesh trace`: what this daemon knows of it, and what the peer at its other end says.

All times are placed on this machine's clock, those of the other side by their age when it answered. This module must
never mix what was seen here with what was only told.
"""

import asyncio
import time
from typing import Any, Final

from zmesh.daemon.lives import Lives, known_of
from zmesh.errors import UnknownMessage
from zmesh.peer.peer import Peer
from zmesh.peer.store_reader import read_trace
from zmesh.protocol.bounds import TRACE_PATIENCE

MAX_ASKED: Final = 8  # peers asked of one message: more than one other only if several have used the same id
NOT_LINKED: Final = "it is not linked"
SILENT: Final = f"no answer within {TRACE_PATIENCE:g} s: its zmesh may be an older one"

Values = dict[str, Any]


async def traced(peer: Peer, lives: Lives, ident: bytes) -> Values:
    """Return what is known of a message, here and at its other end.

    Raises:
        UnknownMessage: Nothing is known of it here.
    """
    out, received = await asyncio.wrap_future(peer.store.query(lambda connection: read_trace(connection, ident)))
    if out is None and not received:
        raise UnknownMessage(f"no message {ident.hex()} is remembered by this peer, sent or received")
    dest = (b"", out.receipt.dest) if out is not None else ()
    sources = tuple(one.source for one in received)
    own = peer.driver.core.node.store
    seen = lives.seen(ident, (*dest, *sources))
    for source in dict.fromkeys(sources):
        if source != own:  # of what is sent here by this very peer it has noted that already
            seen += peer.tracing.arrived(ident, source)
    known = known_of(peer, out, received)
    others = ([(known["outgoing"], out.receipt.dest, True)] if out is not None else []) + [
        (told, one.source, False) for told, one in zip(known["incoming"], received, strict=True)
    ]
    asked = [_there(peer, store, ident, sent=sent) for _, store, sent in others[:MAX_ASKED]]
    placed = _placed(seen, time.time())
    answers = await asyncio.gather(*asked)
    for number, (told, _, _) in enumerate(others):
        told["there"] = answers[number] if number < MAX_ASKED else None
    return known | {"steps": placed}


async def _there(peer: Peer, store: bytes, ident: bytes, *, sent: bool) -> Values | None:
    """Return what the peer at the other end says; None when there is none, or it is this one.

    `said` tells whether it did; `knows`, whether it knows of that message; `within`, by how many seconds its times may
    be off at most.
    """
    node = peer.driver.core.node
    if not store or store == node.store:
        return None
    remote = node.remotes.get(store)
    silent = {"peer": remote.name if remote else "", "said": False, "knows": False, "why": NOT_LINKED, "steps": []}
    if remote is None or not remote.up:
        return silent
    answer = await peer.tracing.ask(store, ident, sent=sent)
    if answer is None:
        return silent | {"why": SILENT}
    told = answer.frame
    steps = [(step.what.replace("-", " "), step.age_ms / 1000) for step in told.steps]
    return {
        "peer": remote.name, "said": True, "knows": bool(told.state), "why": "", "state": told.state,
        "attempts": told.attempts, "steps": _placed(steps, time.time() - answer.within), "within": answer.within,
    }  # fmt: skip


def _placed(seen: list[tuple[str, float]], now: float) -> list[Values]:
    """Return steps with their times, the earliest first."""
    return sorted(({"at": max(0.0, now - age), "what": what} for what, age in seen), key=lambda step: step["at"])
