"""Writes the test vectors beside this file: ``python -m tests.protocol.vectors.generate``.

Run it again only when the wire changes: an implementation in another language was checked with what is there.
"""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

import msgpack

from zmesh.errors import AddressError
from zmesh.protocol import frames
from zmesh.protocol.address import Address
from zmesh.protocol.bounds import MAX_ENVELOPE, MAX_NAME, NO_ID
from zmesh.protocol.codec import MAX_LIMIT, MAX_NUMBER, encode
from zmesh.protocol.envelope import Envelope, unpack_envelope
from zmesh.protocol.errors import ProtocolError
from zmesh.protocol.frames import (
    Ack,
    AgentRecord,
    Bye,
    Cancel,
    Changes,
    Cursor,
    Data,
    Ending,
    Fate,
    Frame,
    Gone,
    Have,
    Hello,
    Item,
    Ops,
    Outcome,
    Peers,
    Ping,
    Reset,
    Step,
    Trace,
    Traced,
    Unknown,
)
from zmesh.protocol.ownership import owns, store_of

HERE = Path(__file__).parent
EXACT_IN_A_DOUBLE = 1 << 53
Vector = dict[str, Any]

# --- values as JSON ---------------------------------------------------------------------------------------------------


def as_json(value: object) -> Any:
    """Write a field as README.md says."""
    if dataclasses.is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [as_json(entry) for entry in value]
    if isinstance(value, bytes):
        return value.hex()
    if type(value) is int and value > EXACT_IN_A_DOUBLE:
        return str(value)
    return value


def from_json(kind: Any, value: Any) -> Any:
    """Read a field of the given type."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return typing.cast("Any", kind)(**{name: from_json(hints[name], entry) for name, entry in value.items()})
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        if inner[-1] is ...:
            return tuple(from_json(inner[0], entry) for entry in value)
        return tuple(from_json(t, entry) for t, entry in zip(inner, value, strict=True))
    if isinstance(kind, types.UnionType):
        return None if value is None else from_json(typing.get_args(kind)[0], value)
    return bytes.fromhex(value) if kind is bytes else kind(value)


def described(frame: Frame) -> Vector:
    """Return kind and fields of a frame."""
    return {"kind": type(frame).__name__.upper(), "fields": as_json(frame)}


def frame_from(kind: str, fields: Vector) -> Frame:
    """Return the frame that was described."""
    frame: Frame = from_json(getattr(frames, kind.capitalize()), fields)
    return frame


def load(name: str) -> list[Vector]:
    """Read the vectors of one file."""
    vectors: list[Vector] = json.loads((HERE / name).read_text(encoding="utf-8"))
    return vectors


def name_of(vector: Vector) -> str:
    """Return what a vector is called."""
    return str(vector["name"])


# --- frames -----------------------------------------------------------------------------------------------------------

LINK = bytes(range(0xA0, 0xA8))
STORE = bytes(range(16))
M1, M2, M3 = bytes(range(16, 32)), bytes(range(32, 48)), b"\xff" * 16
NONE = (0,) * 5
LIMITS = (1024,) * 5
ENVELOPE = Envelope("inbox", "code@studio", "chat", b"", b"", 1_767_225_600_000, packed=True)
HELLO = Hello(1, 1, STORE, "studio", ("tcp://192.0.2.7:5670",), b"", False, 0, (Cursor(0, NO_ID),) * 5, LIMITS)  # noqa: FBT003

FRAMES: dict[str, Frame] = {
    "hello, first of a fresh store": HELLO,
    "hello, answers another": dataclasses.replace(
        HELLO,
        endpoints=("tcp://192.0.2.7:5670", "tcp://[2001:db8::7]:5670"),
        echo=bytes(range(0xB0, 0xB8)),
        up=True,
        epoch=2,
        cursors=(Cursor(7, M1), Cursor(0, NO_ID), Cursor(300, M2), Cursor(70_000, NO_ID), Cursor(1, M3)),
        limits=(1031, 1024, 1324, 71_024, 1025),
    ),
    "hello, no endpoints": dataclasses.replace(HELLO, endpoints=()),
    "hello, largest numbers": dataclasses.replace(
        HELLO, proto_max=255, epoch=MAX_NUMBER, cursors=(Cursor(MAX_NUMBER, M3),) * 5, limits=(MAX_LIMIT,) * 5
    ),
    "reset": Reset(),
    "data, one message": Data(1, 2, 0, 1, (Item(M1, 604_800_000, ENVELOPE.pack(), msgpack.packb({"text": "hello"})),)),
    "data, a batch with an empty place": Data(
        3,
        4,
        65_535,
        65_537,
        (Item(M1, None, ENVELOPE.pack(), b"one"), Item(M2, 0, b"", b""), Item(M3, 1, ENVELOPE.pack(), b"three")),
    ),
    "data, a void number": Data(1, 0, 1, 2, (Item(NO_ID, None, b"", b""),)),
    "data, an empty body": Data(1, 0, 0, 1, (Item(M1, 5000, ENVELOPE.pack(), b""),)),
    "ack, nothing received yet": Ack(0, NONE, LIMITS, (), (), 0, 0),
    "ack, endings and a rewind": Ack(
        1,
        (0, 12, 40, 0, 0),
        (1024, 1036, 1064, 1024, 1024),
        (Ending(1, 12, "skipped", ""), Ending(2, 39, "mailbox-full", "the mailbox \u2018inbox\u2019 is full")),
        ((2, 41),),
        17,
        3,
    ),
    "outcome": Outcome(5, 6, (Fate("handled", "", (M1, M2)), Fate("dead", "8 attempts", (M3,)))),
    "outcome, none": Outcome(6, 6, ()),
    "cancel": Cancel((M1, M2)),
    "ping": Ping(1, (0, 3, 900, 0, 0), (0, 3, 880, 0, 0), 4),
    "peers, an empty roster": Peers(1, 0, 1, ()),
    "peers, a page": Peers(
        12,
        1,
        3,
        (AgentRecord("coder", "reviewer", ("python", "d\u00e9ploiement"), attached=True), AgentRecord("inbox")),
    ),
    "peers, where somebody was, what is being done there, and on what": Peers(
        3,
        0,
        1,
        (
            AgentRecord("coder", attached=True, project="zmesh", status="busy", reach="program"),
            AgentRecord("clerk", attached=True, status="out-to-lunch", reach="push"),
            AgentRecord("inbox", project="d\u00e9pot", since_ms=90_061_000),
        ),
    ),
    "changes": Changes(13, 12, (AgentRecord("coder", "reviewer", ("python",), attached=True, status="idle"),)),
    "changes, none": Changes(2, 1, ()),
    "gone": Gone(2, 3, 41, 57, M3),
    "gone, one number": Gone(1, 0, 9, 9, NO_ID),
    "have": Have(bytes(range(32)), b"in the words of the layer above"),
    "ops": Ops(b"\x01", b""),
    "trace": Trace(M1, sent=True),
    "traced": Traced(M1, True, "handled", 2, (Step("stored", 4_000), Step("given-back", 70), Step("done", 0))),  # noqa: FBT003
    "traced, nothing known": Traced(M2, sent=False),
    "bye, closing": Bye("closing", ""),
    "bye, version": Bye("version", "I speak 2 to 3 and you speak 1 to 1"),
}


def head(kind: int, payload: bytes, version: int = 1) -> bytes:
    """Return part 0."""
    return b"ZM" + bytes([version, kind]) + LINK + payload


def pack(*fields: object) -> bytes:
    """Return the msgpack array of these fields."""
    data: bytes = msgpack.packb(fields)
    return data


def nested(depth: int) -> list[Any]:
    """Return an array that holds one that holds one: so many in all."""
    return [nested(depth - 1)] if depth > 1 else []


HELLO_FIELDS = msgpack.unpackb(encode(LINK, HELLO)[0][12:])
ROW = (M1, None, b"", 0)

READ_ONLY: dict[str, tuple[list[bytes], Frame]] = {
    "cancel, numbers in their longest forms": (
        [head(6, b"\xdd\0\0\0\1\xdd\0\0\0\1\xc6\0\0\0\x10" + M1)],
        Cancel((M1,)),
    ),
    "gone, numbers in their longest forms": (
        [head(9, b"\xdc\0\5" + b"".join(b"\xcf" + n.to_bytes(8, "big") for n in (2, 3, 41, 57)) + b"\xc5\0\x10" + M3)],
        Gone(2, 3, 41, 57, M3),
    ),
    "gone, signed numbers that are not negative": (
        [head(9, b"\x95" + b"".join(b"\xd3" + n.to_bytes(8, "big") for n in (2, 3, 41, 57)) + pack(M3)[1:])],
        Gone(2, 3, 41, 57, M3),
    ),
    "bye, trailing fields": ([head(10, pack("closing", "", "new", [1, [2]], b"x"))], Bye("closing", "")),
    "reset, trailing fields": ([head(2, pack(1, None))], Reset()),
    "reset, floats among the trailing fields": ([head(2, pack(1.5, float("inf")))], Reset()),
    "reset, arrays nested 16 deep": ([head(2, pack(nested(15)))], Reset()),
    "hello, endpoints of a later kind are ignored": (
        [head(1, pack(*HELLO_FIELDS[:4], ["quic://[::1]:5670", HELLO.endpoints[0], "x"], *HELLO_FIELDS[5:]))],
        HELLO,
    ),
    "bye, what is not printable": (
        [head(10, pack("closing", "a\nb\x1b[2Jc\u202ed"))],
        Bye("closing", "a?b?[2Jc?d"),
    ),
    "data, trailing fields in a row": (
        [head(3, pack(1, 2, 0, 1, [(*ROW, "new", 7)])), b""],
        Data(1, 2, 0, 1, (Item(M1, None, b"", b""),)),
    ),
    "peers, an agent of which less is said": (
        [head(8, pack(1, 0, 1, [("coder", "", [], True), ("inbox", "", [], False, "zmesh")]))],
        Peers(
            1,
            0,
            1,
            (AgentRecord("coder", attached=True, status="idle"), AgentRecord("inbox", project="zmesh")),
        ),
    ),
    "hello, of a later version": ([head(1, pack(*HELLO_FIELDS, "new"), 9)], HELLO),
    "reset, of a later version": ([head(2, pack(), 9)], Reset()),
    "bye, of a later version": ([head(10, pack("version", ""), 9)], Bye("version", "")),
    "an unknown kind is skipped": ([head(0x7F, b"\xc1 this is not msgpack")], Unknown(0x7F)),
    "an unknown kind with two parts is skipped": ([head(0x20, pack()), b"second"], Unknown(0x20)),
}

# --- what is refused --------------------------------------------------------------------------------------------------

FIVE = (1, 2, 3, 4, 5)
REFUSED: dict[str, tuple[str, list[bytes]]] = {
    "three parts": ("bad-parts", [head(3, pack(1, 2, 0, 1, [ROW])), b"", b""]),
    "data without bodies": ("bad-parts", [head(3, pack(1, 2, 0, 1, [ROW]))]),
    "reset with a second part": ("bad-parts", [head(2, pack()), b""]),
    "no magic": ("bad-magic", [b"GET / HTTP/1.1\r\n"]),
    "a short header": ("bad-magic", [b"ZM\x01\x02" + LINK[:7]]),
    "an empty part": ("bad-magic", [b""]),
    "version zero": ("bad-version", [head(2, pack(), 0)]),
    "a later version": ("bad-version", [head(7, pack(1, FIVE, FIVE, 7), 2)]),
    "an unknown kind of a later version": ("bad-version", [head(0x7F, pack(), 2)]),
    "an unknown kind that must be understood": ("bad-kind", [head(0x80, pack())]),
    "nothing after the link id": ("bad-msgpack", [head(2, b"")]),
    "a map instead of an array": ("bad-msgpack", [head(2, b"\x80")]),
    "a map among the trailing fields": ("bad-msgpack", [head(2, b"\x91\x80")]),
    "a number instead of an array": ("bad-msgpack", [head(2, b"\x01")]),
    "two values": ("bad-msgpack", [head(2, b"\x90\x90")]),
    "the reserved octet": ("bad-msgpack", [head(2, b"\x91\xc1")]),
    "an incomplete array": ("bad-msgpack", [head(9, b"\x94\x01\x02\x03")]),
    "a text that is not UTF-8": ("bad-msgpack", [head(10, b"\x92\xa1\xff\xa0")]),
    "a surrogate in UTF-8": ("bad-msgpack", [head(10, b"\x92\xa3\xed\xa0\x80\xa0")]),
    "an array of 513 entries": ("bad-msgpack", [head(2, pack([0] * 513))]),
    "arrays nested 17 deep": ("bad-msgpack", [head(2, pack(nested(16)))]),
    "an extension type among the trailing fields": ("bad-msgpack", [head(2, pack(msgpack.ExtType(5, b"x")))]),
    "an extension type without octets": ("bad-msgpack", [head(2, pack(msgpack.ExtType(5, b"")))]),
    "a timestamp among the trailing fields": ("bad-msgpack", [head(2, pack(msgpack.Timestamp(1)))]),
    "2049 arrays": ("bad-msgpack", [head(2, pack(*[[[]] * 511] * 4))]),
    "a missing field": ("bad-field", [head(9, pack(1, 2, 3, 4))]),
    "a text where bytes belong": ("bad-field", [head(6, pack(["m" * 16]))]),
    "bytes where a text belongs": ("bad-field", [head(10, pack(b"closing", ""))]),
    "true where a number belongs": ("bad-field", [head(9, pack(1, 2, True, True, M1))]),  # noqa: FBT003
    "a float where a number belongs": ("bad-field", [head(9, pack(1, 2, 3.0, 4, M1))]),
    "a number where a flag belongs": ("bad-field", [head(8, pack(1, 0, 1, [("coder", "", [], 1)]))]),
    "a negative number": ("bad-field", [head(9, pack(1, 2, -3, 4, M1))]),
    "a number of 2^62": ("bad-field", [head(9, pack(1, 2, 3, MAX_NUMBER + 1, M1))]),
    "a limit of 2^63": ("bad-field", [head(4, pack(0, NONE, (MAX_LIMIT + 1,) * 5, [], [], 0, 0))]),
    "an id of 15 octets": ("bad-field", [head(6, pack([M1[:15]]))]),
    "four classes": ("bad-field", [head(7, pack(1, FIVE[:4], FIVE, 7))]),
    "six classes": ("bad-field", [head(7, pack(1, FIVE, (*FIVE, 6), 7))]),
    "class five": ("bad-field", [head(9, pack(1, 5, 3, 4, M1))]),
    "an empty range": ("bad-field", [head(9, pack(1, 2, 4, 3, M1))]),
    "epoch zero": ("bad-field", [head(7, pack(0, FIVE, FIVE, 7))]),
    "hello with a name in capitals": ("bad-field", [head(1, pack(*HELLO_FIELDS[:3], "Studio", *HELLO_FIELDS[4:]))]),
    "hello with an echo of 7 octets": ("bad-field", [head(1, pack(*HELLO_FIELDS[:5], LINK[:7], *HELLO_FIELDS[6:]))]),
    "data without items": ("bad-field", [head(3, pack(1, 2, 0, 1, [])), b""]),
    "data with number zero": ("bad-field", [head(3, pack(1, 2, 0, 0, [ROW])), b""]),
    "data with more body than said": ("bad-field", [head(3, pack(1, 2, 0, 1, [ROW])), b"x"]),
    "data with less body than said": ("bad-field", [head(3, pack(1, 2, 0, 1, [(M1, None, b"", 2)])), b"x"]),
    "data with a negative ttl": ("bad-field", [head(3, pack(1, 2, 0, 1, [(M1, -1, b"", 0)])), b""]),
    "data with a ttl of more than 366 days": (
        "bad-field",
        [head(3, pack(1, 2, 0, 1, [(M1, 366 * 86_400_000 + 1, b"", 0)])), b""],
    ),
    "ack with a code of 33 characters": ("bad-field", [head(4, pack(1, FIVE, FIVE, [(0, 1, "x" * 33, "")], [], 0, 0))]),
    "ack with a row that is too short": ("bad-field", [head(4, pack(1, FIVE, FIVE, [(0, 1, "")], [], 0, 0))]),
    "peers with a status in capitals": ("bad-field", [head(8, pack(1, 0, 1, [("coder", "", [], True, "", "BUSY")]))]),
    "changes since nothing": ("bad-field", [head(13, pack(1, 0, []))]),
    "trace with a number for a flag": ("bad-field", [head(14, pack(M1, 1))]),
    "traced with two words for a step": ("bad-field", [head(15, pack(M1, True, "stored", 1, [("given back", 5)]))]),  # noqa: FBT003
    "peers with a page beyond the pages": ("bad-field", [head(8, pack(1, 1, 1, []))]),
}

# --- envelopes, addresses and stores ----------------------------------------------------------------------------------

GOOD = ("inbox", "code@studio", "chat", b"", b"", 0, False)
ENVELOPES: dict[str, bytes] = {
    "plain": ENVELOPE.pack(),
    "a reply in a thread": dataclasses.replace(ENVELOPE, thread=M1, reply_to=M2, packed=False).pack(),
    "a type in another script": dataclasses.replace(ENVELOPE, type="\u4f60\u597d").pack(),
    "the longest names": Envelope(
        "a" * MAX_NAME, "b" * MAX_NAME + "@" + "c" * MAX_NAME, "\u00fc" * MAX_NAME, M1, M2, (1 << 63) - 1, packed=True
    ).pack(),
    "trailing fields": pack(*GOOD, "new", ["a", [1]], 1.5),
    "a map among the trailing fields": pack(*GOOD, {"a": 1}),
    "an extension type among the trailing fields": pack(*GOOD, msgpack.ExtType(5, b"x")),
    "arrays nested 17 deep": pack(*GOOD, nested(16)),
    "six fields": pack(*GOOD[:6]),
    "a map": msgpack.packb({"to": "inbox"}),
    "no msgpack": b"\xc1",
    "too long": pack(*GOOD, b"x" * MAX_ENVELOPE),
    "a recipient in capitals": pack("Inbox", *GOOD[1:]),
    "a recipient at a peer": pack("inbox@studio", *GOOD[1:]),
    "a sender without a peer": pack("inbox", "code", *GOOD[2:]),
    "a sender with a store": pack("inbox", "code@studio~abcd", *GOOD[2:]),
    "an empty type": pack(*GOOD[:2], "", *GOOD[3:]),
    "a type of 64 characters": pack(*GOOD[:2], "x" * 64, *GOOD[3:]),
    "a type with an escape": pack(*GOOD[:2], "\x1b[31m", *GOOD[3:]),
    "a type with a bidirectional mark": pack(*GOOD[:2], "a\u202eb", *GOOD[3:]),
    "a thread of 8 octets": pack(*GOOD[:3], b"x" * 8, *GOOD[4:]),
    "a reply_to that is a text": pack(*GOOD[:4], "x" * 16, *GOOD[5:]),
    "a time before 1970": pack(*GOOD[:5], -1, GOOD[6]),
    "a number for the body's form": pack(*GOOD[:6], 1),
}
DEVICE = "abcdefghijklmnopqrstuvwxyz234567"
STORE = store_of(DEVICE, bytes(range(8)))
STORES: dict[str, tuple[str, bytes]] = {
    "a store of its device": (DEVICE, STORE),
    "the same nonce on another device": (DEVICE[::-1], store_of(DEVICE[::-1], STORE[8:])),
    "a store of another device": (DEVICE[::-1], STORE),
    "another nonce": (DEVICE, STORE[:8] + bytes(8)),
}
ADDRESSES = [
    "browser",
    "browser@studio",
    "browser@studio~abcd",
    " Browser @ Studio ~ ABCD ",
    "a.b_c-d@0",
    "x" * MAX_NAME,
    "",
    "@studio",
    "browser@",
    "browser@studio~",
    "browser@studio~abc",
    "browser@studio~abc1",
    "browser~abcd",
    "a@b@c",
    "-a",
    "a b",
    "x" * (MAX_NAME + 1),
    "caf\u00e9",
    "\u212aelvin",
]


def envelope_vector(name: str, data: bytes) -> Vector:
    """Describe an envelope, or its refusal."""
    try:
        return {"name": name, "data": data.hex(), "fields": as_json(unpack_envelope(data))}
    except ProtocolError as error:
        return {"name": name, "data": data.hex(), "error": error.code}


def address_vector(text: str) -> Vector:
    """Describe an address, or its refusal."""
    try:
        address = Address.parse(text)
    except AddressError:
        return {"text": text, "error": "address"}
    return {"text": text, "canonical": str(address), **as_json(address)}


def documents() -> dict[str, str]:
    """Return the text of every file."""
    written = [
        {"name": n, "encode": True, "parts": as_json(tuple(encode(LINK, f))), "link": LINK.hex(), **described(f)}
        for n, f in FRAMES.items()
    ]
    read = [
        {"name": n, "encode": False, "parts": as_json(tuple(parts)), "link": LINK.hex(), **described(f)}
        for n, (parts, f) in READ_ONLY.items()
    ]
    files = {
        "frames.json": written + read,
        "refused.json": [{"name": n, "parts": as_json(tuple(p)), "error": e} for n, (e, p) in REFUSED.items()],
        "envelopes.json": [envelope_vector(n, data) for n, data in ENVELOPES.items()],
        "addresses.json": [address_vector(text) for text in ADDRESSES],
        "stores.json": [
            {"name": n, "device": device, "store": store.hex(), "owned": owns(device, store)}
            for n, (device, store) in STORES.items()
        ],
    }
    return {name: json.dumps(vectors, indent=1) + "\n" for name, vectors in files.items()}


if __name__ == "__main__":
    for filename, content in documents().items():
        (HERE / filename).write_text(content, encoding="utf-8")
