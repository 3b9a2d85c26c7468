"""Peer exchange: members tell each other where their peers can be dialled, by records that prove who says so.

Each peer gives its own record to all it is linked with, all it knows to a link that has come up, and what is new to it
to a few more. So who has lost everybody's address but one finds the others again. This module must never report what a
device says that is no member, nor let an old record take the place of a newer one because it was passed on.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from zmesh.discovery.address_record import MAX_VERSION, AddressRecord, pack_records, sign_record, unpack_records
from zmesh.discovery.sighting import Sighting
from zmesh.protocol.bounds import MAX_LOG_BYTES, MAX_PEERS
from zmesh.trust.trust_store import TrustStore

RELAYS: Final = 3  # linked peers that are told of news: it reaches 1,000 in some seconds, and a mesh is not flooded
MAX_OF_DEVICE: Final = 64  # records of one device, which signs what it likes; it has a store for each of its peers
_MS: Final = 1000

Key = tuple[bytes, bytes]  # a device's key and a store: no device's record takes the place of another's

Say = Callable[[bytes, bytes], None]
"""Sends packed records to a store whose link is up; otherwise it does nothing."""


class AddressBook:
    """The source "exchange": own record, those of others, and who knows which of them.

    Attributes:
        trouble: None, always.
        elsewhere: The last record of the own store that is not the one which counts: of earlier, or a copy's.
    """

    def __init__(self, store: TrustStore, say: Say, up: Callable[[bytes], bool] = lambda _: True) -> None:
        """Take the membership, the way to the others, and what says whether the link to a store is up."""
        self.trouble: str | None = None
        self._store, self._say, self._up = store, say, up
        self._own: Sighting | None = None
        self._found: Callable[[Sighting], None] = lambda _: None
        self._record: AddressRecord | None = None
        self.elsewhere: AddressRecord | None = None
        self._records: dict[Key, AddressRecord] = {}  # the latest is the last
        self._told: dict[bytes, dict[Key, int]] = {}  # linked store: which version of each record it knows

    async def start(self, own: Sighting, found: Callable[[Sighting], None]) -> None:
        """Sign the own record, and report others from now on."""
        self._own, self._found = own, found
        self._sign()

    async def update(self, own: Sighting) -> None:
        """Sign a new record, and give it to all who are linked."""
        self._own = own
        self.renew()

    async def stop(self) -> None:
        """Report nothing more, and give the own record to nobody: it would not be kept right."""
        self._found = lambda _: None
        self._own = self._record = None
        self._told.clear()

    # --- the own record ---

    @property
    def record(self) -> AddressRecord | None:
        """The own record; None while this device is no member of a mesh, or nothing was started."""
        return self._record

    def records(self) -> list[AddressRecord]:
        """Return all records of members, the own one first."""
        return self._own_records() + [record for record in self._records.values() if self._counts(record)]

    def renew(self) -> None:
        """The own addresses or the mesh have changed: sign anew, and tell all who are linked."""
        self._sign()
        for store in list(self._told):
            self._bring(store, self._own_records())

    def _own_records(self) -> list[AddressRecord]:
        return [self._record] if self._record is not None else []

    def _sign(self) -> None:
        me = self._store.me()
        before, own = self._record, self._own
        self._record = None
        if own is not None and me is not None and not me.revoked:
            version = max(time.time_ns() * _MS // 10**9, before.version + 1 if before is not None else 1)
            version = min(version, MAX_VERSION - 1)
            self._record = sign_record(self._store.device, self._store.mesh, own, version)

    # --- those of others ---

    def linked(self, store: bytes) -> None:
        """A link has come up: its peer is given all that is known."""
        if len(self._told) >= MAX_PEERS:
            self._told.pop(next(iter(self._told)))
        self._told[store] = {}
        self._bring(store, self.records())

    def received(self, store: bytes, message: bytes) -> None:
        """A linked peer has given records.

        Raises:
            ValueError: One of them is malformed or forged; those before it were kept.
        """
        news: list[AddressRecord] = []
        known = self._told.setdefault(store, {}) if len(self._told) < MAX_PEERS else self._told.get(store, {})
        try:
            for record in unpack_records(message, MAX_PEERS):
                if self.take(record, direct=record.sighting.store == store):
                    news.append(record)
                if _key(record) in self._records:
                    known[_key(record)] = record.version
        finally:
            self._relay(news, but=store)

    def take(self, record: AddressRecord, *, direct: bool = False) -> bool:
        """Keep and report a record, if it is of a member and newer than what is known.

        Args:
            record: Whoever has passed it on.
            direct: It comes from its own peer, whose clock may have gone back.

        Returns:
            True when it was news.
        """
        own = self._own is not None and record.sighting.store == self._own.store
        known = self._records.get(_key(record))
        if own or not self._counts(record):
            if own and self._record is not None and record.payload != self._record.payload:
                self.elsewhere = record
                self._found(record.sighting)  # we have moved, or somebody else runs this store
            return False
        if known is not None and (known.payload == record.payload or (known.version >= record.version and not direct)):
            return False
        if known is None:
            self._make_room(record.public)
        self._records.pop(_key(record), None)
        self._records[_key(record)] = record
        self._found(record.sighting)
        return True

    def latest(self, record: AddressRecord) -> AddressRecord | None:
        """Return the record that is kept of the same store, if there is one."""
        return self._records.get(_key(record))

    def _make_room(self, public: bytes) -> None:
        """Before a device's record is added: its oldest goes if it has too many, else one of who has the most."""
        count = Counter(device for device, _ in self._records)
        if count[public] < MAX_OF_DEVICE:
            if len(self._records) < MAX_PEERS:
                return
            ((public, _),) = count.most_common(1)
        self._forget(next(key for key in self._records if key[0] == public))

    def _forget(self, key: Key) -> None:
        del self._records[key]
        for known in self._told.values():
            known.pop(key, None)

    def report(self, sighting: Sighting) -> None:
        """Report what was found out about a member's addresses otherwise."""
        self._found(sighting)

    def recheck(self) -> None:
        """The membership has changed: report again what is of members, and forget the rest."""
        if self._record is None or not self._counts(self._record):
            self.renew()
        for key in [key for key, record in self._records.items() if not self._counts(record)]:
            self._forget(key)
        for record in list(self._records.values()):
            self._found(record.sighting)

    def _counts(self, record: AddressRecord) -> bool:
        return record.mesh == self._store.mesh and self._store.membership.is_member(record.public)

    # --- passing on ---

    def _relay(self, news: list[AddressRecord], but: bytes) -> None:
        others = [store for store in self._told if store != but and self._up(store)]
        for store in random.sample(others, min(RELAYS, len(others))):
            self._bring(store, news)

    def _bring(self, store: bytes, records: list[AddressRecord]) -> None:
        known = self._told[store]
        lacking = [
            record
            for record in records
            if record.sighting.store != store and known.get(_key(record), 0) < record.version
        ]
        known |= {_key(record): record.version for record in lacking}
        for message in pack_records(lacking, MAX_LOG_BYTES):
            self._say(store, message)


def _key(record: AddressRecord) -> Key:
    return record.public, record.sighting.store
