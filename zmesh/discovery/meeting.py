"""Meeting a member at its door: each shows that it is one, and says where its peers can be dialled.

This is how members find each other without multicast, and how one learns of a member it has never heard of. The
question is open, as the membership entries before it are; the answer is sealed to the device that asks, so a stranger
who repeats somebody's question has nothing of it, and it names the question, so an answer of yesterday is none today.
This module must never answer who is no member, nor believe an answer of one.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import msgpack

from zmesh.discovery.address_book import AddressBook
from zmesh.discovery.address_record import AddressRecord, dialled, pack_records, read_record, unpack_records
from zmesh.discovery.sighting import MAX_PORT
from zmesh.errors import DeviceKeyError, PairingError, TrustError
from zmesh.protocol.bounds import MAX_PEERS
from zmesh.trust.device import curve_key
from zmesh.trust.frames import pack_entries, unpack_entries
from zmesh.trust.refusal import Refusal
from zmesh.trust.trust_store import TrustStore
from zmesh.trust.visitor import ask

MAX_LINEAGE: Final = 512 * 1024  # bytes of entries in an answer, half of what a visitor takes
MAX_RECORDS: Final = 384 * 1024  # bytes of records in an answer: those of 1,000 peers
TRY_PATIENCE: Final = 2.0  # seconds to connect back to who asks
_FORMAT: Final = 1
_NONCE_BYTES: Final = 16
_BACK: Final = ("", "reached", "refused", "silence")


@dataclass(frozen=True, slots=True)
class Meeting:
    """What a visit has brought.

    Attributes:
        store: Id of the store that lives there.
        device: Its device.
        name: Its name.
        skew: Seconds its clock is ahead of ours, give or take the time of the visit.
        back: How a connection back to us went: "reached", "refused", "silence", or "" when none was asked for.
        seen: The address under which it saw us, numeric; empty when it did not say.
        ourselves: True when it was our own door that was visited.
    """

    store: bytes
    device: str
    name: str
    skew: float
    back: str
    seen: str
    ourselves: bool = False


class Meetings:
    """Both sides of meetings, for one peer."""

    def __init__(self, store: TrustStore, book: AddressBook, news: Callable[[], None]) -> None:
        """Take the membership, the address book, and what to call when the membership has changed."""
        self._store, self._book, self._news = store, book, news
        self._asking: dict[bytes, bool] = {}  # nonces of our visits under way: True once it came to our own door

    # --- at our own door ---

    async def receive(self, question: bytes, where: str) -> bytes:
        """Answer who knocks.

        Args:
            question: Of a stranger.
            where: The address it came from.

        Raises:
            Refusal: It is no member, or this device is none, or has no address book in use.
            PairingError: The question is malformed.
        """
        guest, port, nonce, quiet = _read_question(question)
        self._check(guest)
        if nonce in self._asking:
            self._asking[nonce] = True
        before = self._book.latest(guest)
        back = await _try(where, port) if port else ""
        own = self._check(guest)  # once more: that took its time
        if not quiet:
            self._book.take(guest)  # anybody can repeat somebody's question, so it is not newer for having come now
        answer = self._answer(guest, own, before, (back, where, nonce))
        return own.public + bytes(_box(self._store, guest.public).encrypt(answer))

    def _check(self, guest: AddressRecord) -> AddressRecord:
        """Return the own record, if who asks is a member."""
        own = self._book.record
        member = self._store.membership.members.get(guest.public)
        me = self._store.me()
        none = own is None and (me is None or me.revoked)
        if none or guest.mesh != self._store.mesh or member is None:
            raise Refusal("stranger")
        if member.revoked:
            raise Refusal("revoked")
        if own is None:  # a member, whose address book was not started
            raise Refusal("closed")
        return own

    def _answer(
        self, guest: AddressRecord, own: AddressRecord, before: AddressRecord | None, visit: tuple[str, str, bytes]
    ) -> bytes:
        known = self._book.records()
        others = [record for record in known if record is own or record.sighting.store != guest.sighting.store]
        if before is not None and before.payload != guest.payload:
            others.append(before)  # its own of earlier, or that of a copy: it can tell
        if guest.public == own.public and self._book.elsewhere is not None:
            others.append(self._book.elsewhere)  # a program of this device, which looks for copies of it
        entries = next(iter(pack_entries(self._store.lineage(own.public), MAX_LINEAGE)), b"")
        records = next(iter(pack_records(others, MAX_RECORDS)), b"")  # the own one is the first
        packed: bytes = msgpack.packb([_FORMAT, entries, records, time.time_ns() // 10**6, *visit])
        return packed

    # --- at a door elsewhere ---

    async def visit(self, host: str, door: int, *, dial: int = 0, back: int = 0, quiet: bool = False) -> Meeting:
        """Visit a door, and take in what its peer says: who it is, and where it and others can be dialled.

        Args:
            host: Name or address.
            door: Port of the door.
            dial: Port of the peer at that address, where this is known; else the port it names is taken.
            back: Port at this host that it is to connect back to, 0 for none.
            quiet: Who asks is no peer that can be dialled: our address is to be forgotten there.

        Raises:
            Unreachable: Nobody answers there.
            Refusal: This device is no member there.
            PairingError: Whoever answers is no member, or does not speak as it should.
        """
        own = self._book.record
        if own is None:
            raise PairingError("this device is in no mesh yet: found one with `zmesh invite`, or join one")
        nonce = secrets.token_bytes(_NONCE_BYTES)
        question = msgpack.packb([_FORMAT, own.payload, own.signature, back, nonce, quiet])
        asked = time.time()
        self._asking[nonce] = False
        try:
            answer, address = await ask(host, door, self._store.lineage(own.public), question)
        finally:
            ourselves = self._asking.pop(nonce)
        entries, records, now, tried, seen = self._open(answer, nonce)
        self._believe(entries)
        meeting = self._learn(answer[:32], records, address, dial)
        skew = now / 1000 - (asked + time.time()) / 2
        return Meeting(*meeting, skew=skew, back=tried, seen=seen, ourselves=ourselves)

    def _open(self, answer: bytes, nonce: bytes) -> tuple[bytes, bytes, int, str, str]:
        from nacl.exceptions import CryptoError  # noqa: PLC0415 - 30 ms that only those who meet need

        try:
            plain = _box(self._store, answer[:32]).decrypt(answer[32:])
            fields = msgpack.unpackb(plain, max_map_len=0, max_ext_len=0)
        except (CryptoError, DeviceKeyError, ValueError, TypeError, RecursionError):
            raise PairingError("what answers there is no zmesh peer that knows this device") from None
        kinds = [int, bytes, bytes, int, str, str, bytes]
        if not isinstance(fields, list) or [type(value) for value in fields[:7]] != kinds or fields[0] != _FORMAT:
            raise PairingError("the peer there speaks another version: upgrade zmesh on the older machine")
        _, entries, records, now, back, seen, named = fields[:7]
        if named != nonce:
            raise PairingError("what answers there repeats an answer to somebody else's question")
        return entries, records, now, back if back in _BACK else "", _numeric(seen)

    def _believe(self, entries: bytes) -> None:
        try:
            if entries and self._store.take(unpack_entries(entries)):
                self._news()
        except TrustError as error:
            raise PairingError(f"what the peer there shows of its membership is not to be believed: {error}") from error

    def _learn(self, public: bytes, records: bytes, address: str, dial: int) -> tuple[bytes, str, str]:
        """Take in the records; the first is that of the peer itself."""
        if not self._store.membership.is_member(public):
            raise PairingError("what answers there is no member of this device's mesh")
        try:
            first, *others = unpack_records(records, MAX_PEERS)
        except ValueError as error:
            raise PairingError(f"the peer there does not say where it can be dialled: {error}") from error
        if first.public != public:
            raise PairingError("the peer there shows another one's address")
        sighting = first.sighting
        self._book.take(first, direct=True)
        self._book.report(dialled(sighting, address, dial))
        for record in others:
            self._book.take(record)
        return sighting.store, sighting.device, sighting.name


def _read_question(question: bytes) -> tuple[AddressRecord, int, bytes, bool]:
    try:
        fields = msgpack.unpackb(question, max_map_len=0, max_ext_len=0)
        kinds = [int, bytes, bytes, int, bytes]
        if not isinstance(fields, list) or [type(value) for value in fields[:5]] != kinds or fields[0] != _FORMAT:
            raise ValueError("its form is not known here")  # noqa: TRY301 - garbage is garbage
        _, payload, signature, port, nonce = fields[:5]
        if not 0 <= port <= MAX_PORT or len(nonce) != _NONCE_BYTES:
            raise ValueError("it names no port, or is no question of its own")  # noqa: TRY301
        return read_record(payload, signature), port, nonce, fields[5:6] == [True]
    except (ValueError, RecursionError) as error:
        raise PairingError(f"a question at the door cannot be read: {error}") from None


def _numeric(seen: str) -> str:
    """Return an address that a peer has named as addresses are written; nothing if it is none."""
    try:
        ip = ip_address(seen.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def _box(store: TrustStore, public: bytes) -> Any:
    from nacl.public import Box, PrivateKey, PublicKey  # noqa: PLC0415 - see `Meetings._open`

    return Box(PrivateKey(store.device.curve_secret), PublicKey(curve_key(public)))


async def _try(host: str, port: int) -> str:
    """Connect to a port, and hang up."""
    try:
        async with asyncio.timeout(TRY_PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return "refused"
    except (OSError, TimeoutError):
        return "silence"
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(TRY_PATIENCE):
            await writer.wait_closed()
    return "reached"
