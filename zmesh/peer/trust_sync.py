"""Keeps the membership logs of members in step, over their links.

When a link comes up, each side says how far it knows each log (HAVE); who knows more sends what the other lacks (OPS).
What is new here goes to all who are linked. Entries prove themselves, so it does not matter who passes them on; this
module must never take one into the logs but through `TrustStore.take`, which checks it.
"""

from collections.abc import Callable
from typing import Any

import msgpack

from zmesh.errors import TrustError
from zmesh.peer.gate import Gate
from zmesh.protocol.bounds import MAX_LOG_BYTES
from zmesh.protocol.frames import Have, Ops
from zmesh.trust.entry import KEY_BYTES, MAX_SEQ
from zmesh.trust.frames import pack_entries, unpack_entries
from zmesh.trust.ledger import MAX_ENTRIES
from zmesh.trust.membership import MAX_MEMBERS

Place = tuple[int, bytes]  # number and hash of the last entry of a log

Say = Callable[[bytes, Have | Ops], None]
"""Sends a frame to a store whose link is up; otherwise it does nothing."""


class TrustSync:
    """The membership logs of one device, as its links see them."""

    def __init__(self, gate: Gate, say: Say, changed: Callable[[], None]) -> None:
        """Take the logs, the way to the others, and what to call when they have brought news."""
        self._store, self._say, self._changed = gate.store, say, changed
        self._known: dict[bytes, dict[bytes, Place]] = {}  # what each linked store knows, by log

    def linked(self, store: bytes) -> None:
        """A link has come up."""
        self._known[store] = {}
        self._tell(store)

    def received(self, store: bytes, frame: Have | Ops) -> None:
        """A frame came.

        Raises:
            TrustError: It is malformed, or an entry in it cannot be believed; the others were kept.
        """
        if frame.log != self._store.mesh:
            return  # of another mesh, or of one that we have left
        if isinstance(frame, Have):
            self._known[store] = _read_vector(frame.content)
            if self._lacks(self._known[store]):
                self._tell(store)  # it may have come back without our noticing, and does not know what we have
            self._bring(store)
            return
        if self._store.take(unpack_entries(frame.content)):
            self._tell(store)  # it need not send that back, and may have more
            self._changed()

    def spread(self) -> None:
        """There is news: tell all who are linked what they lack, as far as we know."""
        for store in list(self._known):
            self._bring(store)

    def _lacks(self, known: dict[bytes, Place]) -> bool:
        """Say whether somebody knows more of a log than we do."""
        have = self._store.have()
        return any(seq > have.get(author, 0) for author, (seq, _) in known.items())

    def _tell(self, store: bytes) -> None:
        if self._store.mesh:
            self._say(store, Have(self._store.mesh, _pack_vector(self._store.heads())))

    def _bring(self, store: bytes) -> None:
        known = self._known[store]
        for _ in range(MAX_ENTRIES):  # each round brings one at least
            lacking = self._store.beyond(known)
            if not lacking:
                return
            for content in pack_entries(lacking, MAX_LOG_BYTES):
                self._say(store, Ops(self._store.mesh, content))
            known |= {entry.author: (entry.seq, entry.hash) for entry in lacking}


def _pack_vector(heads: dict[bytes, Place]) -> bytes:
    packed: bytes = msgpack.packb([value for author, place in heads.items() for value in (author, *place)])
    return packed


def _read_vector(content: bytes) -> dict[bytes, Place]:
    flat = _read(content)
    if len(flat) % 3 or len(flat) > 6 * MAX_MEMBERS:
        raise TrustError("a vector of membership logs has the wrong length")
    vector: dict[bytes, Place] = {}
    for author, seq, digest in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        if not _is_key(author) or not _is_key(digest) or type(seq) is not int or not 1 <= seq <= MAX_SEQ:
            raise TrustError("a vector of membership logs names what is no log")
        vector[author] = seq, digest
    return vector


def _is_key(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == KEY_BYTES


def _read(content: bytes) -> list[Any]:
    try:
        flat = msgpack.unpackb(content, max_map_len=0, max_ext_len=0)
    except (ValueError, RecursionError) as error:
        raise TrustError(f"what came of the membership logs cannot be read: {error}") from None
    if not isinstance(flat, list):
        raise TrustError("what came of the membership logs is no list")
    return flat
