"""Who this store is: its id, the file, machine and device it belongs to, and what becomes of it when those change.

Two stores with one id would issue the same numbers for different messages. So a store whose file or machine is not the
one it was made on becomes another one, with streams of its own; its mail is kept. It must never keep the old id "to be
nice": the original may still be running. The same is done when its device has a new key: its id names the old one, and
no peer would believe it.
"""

import hashlib
import logging
import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from zmesh.peer.commands import LIVE
from zmesh.peer.connection import Connection
from zmesh.protocol.ownership import NONCE_BYTES, owns, store_of
from zmesh.protocol.states import Sent

_log = logging.getLogger("zmesh.peer")
_MACHINE_ID: Final = Path("/etc/machine-id")
STORE, CREATED, FILE, MACHINE = "store", "created", "file", "machine"
RESERVED: Final = frozenset({STORE, CREATED, FILE, MACHINE})

_EXPIRING_THEN: Final = "it was expiring when the store took a new id: it may have arrived"

# What a store with a new id forgets: everything that belongs to streams between the old id and others.
_FORGET: Final = (
    "DELETE FROM out_stream",
    "DELETE FROM in_stream",
    "DELETE FROM ending",
    "DELETE FROM outcome",
    # What may have been handed over is in doubt (`OutMessage.doubt`), which an epoch above the first one says.
    f"DELETE FROM outbody WHERE row IN (SELECT row FROM outbox WHERE state = {int(Sent.EXPIRING)})",  # noqa: S608
    f"""UPDATE outbox SET state = {int(Sent.LOST)}, detail = '{_EXPIRING_THEN}'
        WHERE state = {int(Sent.EXPIRING)}""",  # noqa: S608
    f"""UPDATE outbox SET state = {int(Sent.WAITING)}, dest = x'',
        epoch = iif(number > 0 OR epoch > 1, 2, 0), number = 0 WHERE state IN ({LIVE})""",  # noqa: S608
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is.

    Attributes:
        file: The file's number on its file system; 0 where there is none.
        machine: Names the machine, hashed.
        device: The id of the device.
    """

    file: int
    machine: bytes
    device: str

    def differs(self, meta: dict[str, bytes]) -> list[str]:
        """Say what is not as it was when the store got its id."""
        differences = []
        if self.file and int(meta[FILE]) not in (0, self.file):
            differences.append("it is a copy of the file that it was")
        if meta[MACHINE] != self.machine:
            differences.append("it is on another machine")
        if not owns(self.device, meta[STORE]):
            differences.append("it was made with another device key")
        return differences


def machine_name() -> str:
    """Return what names this machine: its machine-id on Linux, else a hardware address."""
    try:
        name = _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        name = ""
    return name or f"node-{uuid.getnode():012x}"


def place(path: Path, machine: str | None, device: str) -> Place:
    """Return where the store at `path` is.

    Args:
        path: The database file.
        machine: Names the machine; None for the real one. It is kept only as a hash.
        device: The id of the device.
    """
    named = machine_name() if machine is None else machine
    return Place(path.stat().st_ino, hashlib.sha256(b"zmesh store\0" + named.encode()).digest(), device)


def read_meta(connection: Connection) -> dict[str, bytes]:
    """Return all of the meta table.

    Raises:
        StoreError: The file cannot be read.
    """
    return {key: bytes(value) for key, value in connection.execute("SELECT key, value FROM meta")}


def write_meta(connection: Connection, meta: dict[str, bytes]) -> None:
    """Insert or replace these keys; the caller commits.

    Raises:
        StoreError: The file cannot be written.
    """
    for item in meta.items():
        connection.execute("REPLACE INTO meta (key, value) VALUES (?, ?)", item)


def settle(connection: Connection, path: Path, where: Place) -> tuple[dict[str, bytes], bool]:
    """Make sure that the store has an id that is its own, inside a transaction of the caller's.

    Args:
        connection: Opened and migrated.
        path: The database file, for the log.
        where: Where it is.

    Returns:
        The meta table, and True when the store had to take a new id.

    Raises:
        StoreError: The file cannot be read or written.
    """
    meta = read_meta(connection)
    new = STORE not in meta
    differences = [] if new else where.differs(meta)
    if not new and not differences:
        return meta, False
    today = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    ident = store_of(where.device, secrets.token_bytes(NONCE_BYTES))
    fresh = {STORE: ident, FILE: b"%d" % where.file, MACHINE: where.machine}
    if new:
        fresh[CREATED] = today.encode()
    else:
        text = f"store {meta[STORE].hex()} is now {fresh[STORE].hex()}, because {' and '.join(differences)} ({today})"
        _log.warning("%s: %s. What was not yet delivered is sent by the new one", path, text)
        for statement in _FORGET:
            connection.execute(statement)
        connection.execute("INSERT INTO audit (at, kind, text) VALUES (0, 'adopted', ?)", (text,))
    write_meta(connection, fresh)
    return meta | fresh, not new
