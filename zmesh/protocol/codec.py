"""Turns frames into bytes and hostile bytes into frames.

Part 0 is `b"ZM"`, the version, the kind, the link id and a msgpack array; part 1, present in DATA only, is the bodies
one after the other. Unknown trailing fields are ignored. `decode` raises `ProtocolError` and nothing else, whatever the
bytes are; it must never allocate more than a small multiple of what arrived.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from zmesh.protocol.address import is_name, is_word
from zmesh.protocol.bounds import (
    AGENTS_PER_PAGE,
    BATCH_MESSAGES,
    CANCELS_PER_FRAME,
    CLASSES,
    ENDINGS_PER_ACK,
    ID_BYTES,
    LINK_ID_BYTES,
    MAX_AGENTS,
    MAX_BODY,
    MAX_CAPABILITIES,
    MAX_CODE,
    MAX_ENDPOINT,
    MAX_ENDPOINTS,
    MAX_ENVELOPE,
    MAX_FRAME,
    MAX_LOG_BYTES,
    MAX_LOG_ID,
    MAX_NAME,
    MAX_TEXT,
    MAX_TTL,
    MAX_WORD,
    OUTCOMES_PER_FRAME,
    PROTOCOL_MAX,
    STEPS_PER_TRACE,
)
from zmesh.protocol.errors import ProtocolError
from zmesh.protocol.frames import (
    AWAY,
    IDLE,
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
    Kind,
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
from zmesh.protocol.packed import unpack_array

MAGIC: Final = b"ZM"
HEADER_BYTES: Final = len(MAGIC) + 2 + LINK_ID_BYTES
MAX_NUMBER: Final = (1 << 62) - 1  # half of what SQLite and msgpack hold: a number plus a window never overflows
MAX_LIMIT: Final = (1 << 63) - 1  # credit lies a window beyond the number
MAX_TTL_MS: Final = int(MAX_TTL * 1000)
_PARTS: Final = 2  # header and bodies
_MUST_UNDERSTAND: Final = 0x80
_READABLE_IN_ANY_VERSION: Final = frozenset({Kind.HELLO, Kind.RESET, Kind.BYE})

_ENDPOINT: Final = re.compile(r"tcp://[^\s/@]+:[0-9]{1,5}")  # others are of a later kind, and ignored

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_AGENT_FIELDS: Final = 4  # of an agent, at least

Fields = list[Any]
_Encoded = tuple[Kind, tuple[Any, ...]]


# --- encoding ---


def encode(link: bytes, frame: Frame) -> list[bytes]:
    """Return the parts of one multipart message.

    Args:
        link: The sender's link id, 8 bytes.
        frame: What to send.
    """
    assert len(link) == LINK_ID_BYTES
    if isinstance(frame, Data):
        items = [(item.id, _fit_ttl(item.ttl_ms), item.envelope, len(item.body)) for item in frame.items]
        fields = (frame.epoch, frame.klass, frame.floor, frame.first, items)
        return [_part(link, Kind.DATA, fields), b"".join([item.body for item in frame.items])]
    kind, plain = _ENCODERS[type(frame)](frame)
    return [_part(link, kind, plain)]


def _part(link: bytes, kind: Kind, fields: tuple[Any, ...]) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return b"%b%c%c%b%b" % (MAGIC, PROTOCOL_MAX, kind, link, packed)


def _fit(text: str, most: int) -> str:
    """Cut a text for people to its bound and make it printable."""
    return _printable(text[:most])


def _printable(text: str) -> str:
    """Replace what would forge lines in a log, lead a terminal astray, or cannot be UTF-8."""
    return _UNPRINTABLE.sub("?", text)


def _fit_ttl(ttl_ms: int | None) -> int | None:
    """Keep a ttl readable whatever the store's clock did: a batch that is refused would stop its stream for good."""
    return None if ttl_ms is None else max(0, min(ttl_ms, MAX_TTL_MS))


def _encode_hello(f: Hello) -> _Encoded:
    cursors = [(c.number, c.id, c.confirmed) for c in f.cursors]
    # A machine may have more interfaces than fit: what is cut here is a hint, and a refused HELLO is no link at all.
    endpoints = [e for e in f.endpoints if len(e) <= MAX_ENDPOINT][:MAX_ENDPOINTS]
    return Kind.HELLO, (
        f.proto_min, f.proto_max, f.store, f.name, endpoints, f.echo, f.up, f.epoch, cursors, f.limits,
    )  # fmt: skip


def _encode_ack(f: Ack) -> _Encoded:
    endings = [(e.klass, e.number, _fit(e.code, MAX_CODE), _fit(e.text, MAX_TEXT)) for e in f.endings]
    return Kind.ACK, (f.epoch, f.cursors, f.limits, endings, f.rewinds, f.outcomes, f.roster)


def _encode_outcome(f: Outcome) -> _Encoded:
    fates = [(_fit(fate.code, MAX_CODE), _fit(fate.text, MAX_TEXT), fate.ids) for fate in f.fates]
    return Kind.OUTCOME, (f.base, f.first, fates)


def _encode_peers(f: Peers) -> _Encoded:
    return Kind.PEERS, (f.version, f.page, f.pages, _agent_rows(f.agents))


def _agent_rows(agents: Sequence[AgentRecord]) -> list[tuple[Any, ...]]:
    return [
        (a.name, a.role, a.capabilities, a.attached, a.project, a.status, a.reach, _fit_since(a.since_ms))
        for a in agents
    ]


def _encode_traced(f: Traced) -> _Encoded:
    return Kind.TRACED, (f.id, f.sent, f.state, f.attempts, [(s.what, _fit_since(s.age_ms)) for s in f.steps])


def _fit_since(since_ms: int | None) -> int | None:
    """Keep a time readable whatever the store's clock did, as `_fit_ttl`."""
    return None if since_ms is None else max(0, min(since_ms, MAX_NUMBER))


_ENCODERS: Final[dict[type[Any], Callable[[Any], _Encoded]]] = {
    Hello: _encode_hello,
    Reset: lambda _: (Kind.RESET, ()),
    Ack: _encode_ack,
    Outcome: _encode_outcome,
    Cancel: lambda f: (Kind.CANCEL, (f.ids,)),
    Ping: lambda f: (Kind.PING, (f.epoch, f.last, f.floors, f.roster)),
    Peers: _encode_peers,
    Gone: lambda f: (Kind.GONE, (f.epoch, f.klass, f.first, f.last, f.id)),
    Have: lambda f: (Kind.HAVE, (f.log, f.content)),
    Ops: lambda f: (Kind.OPS, (f.log, f.content)),
    Changes: lambda f: (Kind.CHANGES, (f.version, f.base, _agent_rows(f.agents))),
    Trace: lambda f: (Kind.TRACE, (f.id, f.sent)),
    Traced: _encode_traced,
    Bye: lambda f: (Kind.BYE, (_fit(f.code, MAX_CODE), _fit(f.text, MAX_TEXT))),
}


# --- decoding ---


def decode(parts: Sequence[bytes]) -> tuple[bytes, Frame]:
    """Read one multipart message.

    Args:
        parts: The parts as they arrived, without routing id.

    Returns:
        The link id of the header and the frame; `Unknown` for a kind that may be skipped.

    Raises:
        ProtocolError: `bad-parts`, `bad-magic`, `bad-version`, `bad-kind`, `bad-msgpack`, `bad-field`.
    """
    if not 1 <= len(parts) <= _PARTS or sum(map(len, parts)) > MAX_FRAME:
        raise ProtocolError("bad-parts", f"{len(parts)} parts with {sum(map(len, parts))} bytes")
    head = parts[0]
    if len(head) < HEADER_BYTES or head[:2] != MAGIC:
        raise ProtocolError("bad-magic", "this is not a zmesh frame")
    version, number, link = head[2], head[3], head[4:HEADER_BYTES]
    if version == 0 or (version > PROTOCOL_MAX and number not in _READABLE_IN_ANY_VERSION):
        raise ProtocolError("bad-version", f"version {version} is not spoken here, {PROTOCOL_MAX} is the newest")
    decoder = _DECODERS.get(number)
    if decoder is None:
        if number >= _MUST_UNDERSTAND:
            raise ProtocolError("bad-kind", f"kind {number:#04x} must be understood and is not")
        return link, Unknown(number)
    if (len(parts) == _PARTS) != (number == Kind.DATA):
        raise ProtocolError("bad-parts", f"a frame of kind {number:#04x} with {len(parts)} parts")
    fields = _unpack(head)
    if len(fields) < _FIELD_COUNT[number]:
        raise ProtocolError("bad-field", f"{len(fields)} fields in a frame of kind {number:#04x}")
    return link, decoder(fields, parts[-1])


def _unpack(head: bytes) -> Fields:
    try:
        return unpack_array(memoryview(head)[HEADER_BYTES:])
    except ValueError as error:
        raise ProtocolError("bad-msgpack", str(error)) from None


def _bad(what: str) -> ProtocolError:
    return ProtocolError("bad-field", what)


def _number(value: object, what: str, low: int = 0, high: int = MAX_NUMBER) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _bad(f"{what} is not a number from {low} to {high}")
    return value


def _sequence(value: object, what: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise _bad(f"{what} is not an array of at most {most}")
    return value


def _row(value: object, what: str, width: int) -> list[Any]:
    if not isinstance(value, list) or len(value) < width:
        raise _bad(f"an entry of {what} has not {width} fields")
    return value[:width]


def _per_class(value: object, what: str, high: int = MAX_NUMBER) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != CLASSES:
        raise _bad(f"{what} has not {CLASSES} numbers")
    return tuple([_number(v, what, 0, high) for v in value])


def _id(value: object, what: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != ID_BYTES:
        raise _bad(f"{what} is not an id of {ID_BYTES} bytes")
    return value


def _text(value: object, what: str, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise _bad(f"{what} is not a text of at most {most} characters")
    return _printable(value)


def _flag(value: object, what: str) -> bool:
    if type(value) is not bool:
        raise _bad(f"{what} is neither true nor false")
    return value


def _word(value: object, what: str) -> str:
    if not is_word(value):
        raise _bad(f"{what} is not a word of at most {MAX_WORD} letters")
    return str(value)


def _name(value: object, what: str) -> str:
    if not is_name(value):
        raise _bad(f"{what} is not a name")
    return str(value)


def _decode_hello(f: Fields, _: bytes) -> Hello:
    echo = f[5]
    if not isinstance(echo, bytes) or len(echo) not in (0, LINK_ID_BYTES):
        raise _bad("echo is not a link id")
    rows = [_row(c, "cursors", 3) for c in _sequence(f[8], "cursors", CLASSES)]
    if len(rows) != CLASSES:
        raise _bad(f"cursors has not {CLASSES} entries")
    endpoints = [_text(e, "an endpoint", MAX_ENDPOINT) for e in _sequence(f[4], "endpoints", MAX_ENDPOINTS)]
    return Hello(
        proto_min=_number(f[0], "proto_min", 1, 255),
        proto_max=_number(f[1], "proto_max", 1, 255),
        store=_id(f[2], "store"),
        name=_name(f[3], "the peer's name"),
        endpoints=tuple([e for e in endpoints if _ENDPOINT.fullmatch(e)]),
        echo=echo,
        up=_flag(f[6], "up"),
        epoch=_number(f[7], "epoch"),
        cursors=tuple(
            [
                Cursor(_number(n, "a cursor"), _id(i, "a cursor's id"), _number(c, "a confirmed number"))
                for n, i, c in rows
            ]
        ),
        limits=_per_class(f[9], "limits", MAX_LIMIT),
    )


def _decode_data(f: Fields, bodies: bytes) -> Data:
    rows = _sequence(f[4], "items", BATCH_MESSAGES)
    if not rows:
        raise _bad("items is empty")
    items: list[Item] = []
    start = 0
    for row in rows:
        ident, ttl, envelope, size = _row(row, "items", 4)
        _id(ident, "a message's id")
        if ttl is not None:
            _number(ttl, "a ttl", 0, MAX_TTL_MS)
        if not isinstance(envelope, bytes) or len(envelope) > MAX_ENVELOPE:
            raise _bad(f"an envelope is not bytes, at most {MAX_ENVELOPE}")
        end = start + _number(size, "a body's size", 0, MAX_BODY)
        items.append(Item(ident, ttl, envelope, bodies[start:end]))
        start = end
    if start != len(bodies):
        raise _bad(f"the bodies have {len(bodies)} bytes, the header says {start}")
    first = _number(f[3], "first", 1, MAX_NUMBER - BATCH_MESSAGES)
    klass = _number(f[1], "class", 0, CLASSES - 1)
    return Data(_number(f[0], "epoch", 1), klass, _number(f[2], "floor"), first, tuple(items))


def _decode_ack(f: Fields, _: bytes) -> Ack:
    endings = []
    for row in _sequence(f[3], "endings", ENDINGS_PER_ACK):
        klass, number, code, text = _row(row, "endings", 4)
        klass = _number(klass, "an ending's class", 0, CLASSES - 1)
        code, text = _text(code, "an ending's code", MAX_CODE), _text(text, "an ending's text", MAX_TEXT)
        endings.append(Ending(klass, _number(number, "an ending's number", 1), code, text))
    rewinds = []
    for row in _sequence(f[4], "rewinds", CLASSES):
        klass, number = _row(row, "rewinds", 2)
        rewinds.append((_number(klass, "a rewind's class", 0, CLASSES - 1), _number(number, "a rewind", 1)))
    cursors, limits = _per_class(f[1], "cursors"), _per_class(f[2], "limits", MAX_LIMIT)
    outcomes, roster = _number(f[5], "outcomes"), _number(f[6], "roster")
    return Ack(_number(f[0], "epoch"), cursors, limits, tuple(endings), tuple(rewinds), outcomes, roster)


def _decode_outcome(f: Fields, _: bytes) -> Outcome:
    fates = []
    room = OUTCOMES_PER_FRAME
    for row in _sequence(f[2], "fates", OUTCOMES_PER_FRAME):
        code, text, ids = _row(row, "fates", 3)
        names = tuple([_id(i, "an outcome's id") for i in _sequence(ids, "ids", room)])
        room -= len(names)
        fates.append(Fate(_text(code, "a fate's code", MAX_CODE), _text(text, "a fate's text", MAX_TEXT), names))
    first = _number(f[1], "first", 0, MAX_NUMBER - OUTCOMES_PER_FRAME)
    return Outcome(_number(f[0], "base"), first, tuple(fates))


def _decode_cancel(f: Fields, _: bytes) -> Cancel:
    return Cancel(tuple([_id(i, "an id") for i in _sequence(f[0], "ids", CANCELS_PER_FRAME)]))


def _decode_ping(f: Fields, _: bytes) -> Ping:
    last, floors = _per_class(f[1], "last"), _per_class(f[2], "floors")
    return Ping(_number(f[0], "epoch", 1), last, floors, _number(f[3], "roster"))


def _decode_peers(f: Fields, _: bytes) -> Peers:
    agents = _agents(f[3])
    pages = _number(f[2], "pages", 1, MAX_AGENTS // AGENTS_PER_PAGE + 1)
    return Peers(_number(f[0], "version", 1), _number(f[1], "page", 0, pages - 1), pages, agents)


def _decode_changes(f: Fields, _: bytes) -> Changes:
    return Changes(_number(f[0], "version", 1), _number(f[1], "base", 1), _agents(f[2]))


def _agents(value: object) -> tuple[AgentRecord, ...]:
    return tuple([_agent(row) for row in _sequence(value, "agents", AGENTS_PER_PAGE)])


def _agent(value: object) -> AgentRecord:
    if not isinstance(value, list) or len(value) < _AGENT_FIELDS:
        raise _bad(f"an entry of agents has not {_AGENT_FIELDS} fields")
    absent = ("", IDLE if value[3] is True else AWAY, "", None)  # in place of the later fields, if they are not there
    row = [*value, *absent[len(value) - _AGENT_FIELDS :]]
    name, role, capabilities, attached, project, status, reach, since = row[: _AGENT_FIELDS + len(absent)]
    words = [_text(c, "a capability", MAX_NAME) for c in _sequence(capabilities, "capabilities", MAX_CAPABILITIES)]
    return AgentRecord(
        name=_name(name, "an agent"),
        role=_text(role, "a role", MAX_NAME),
        capabilities=tuple(words),
        attached=_flag(attached, "attached"),
        project=_text(project, "a project", MAX_NAME),
        status=_word(status, "a status"),
        reach="" if reach == "" else _word(reach, "a way to reach an agent"),
        since_ms=None if since is None else _number(since, "a time since"),
    )


def _decode_gone(f: Fields, _: bytes) -> Gone:
    first, last = _number(f[2], "first", 1), _number(f[3], "last", 1)
    if first > last:
        raise _bad("the range is empty")
    return Gone(_number(f[0], "epoch", 1), _number(f[1], "class", 0, CLASSES - 1), first, last, _id(f[4], "id"))


def _log(f: Fields) -> tuple[bytes, bytes]:
    log, content = f[0], f[1]
    if not isinstance(log, bytes) or not 1 <= len(log) <= MAX_LOG_ID:
        raise _bad(f"a log's id is not 1 to {MAX_LOG_ID} bytes")
    if not isinstance(content, bytes) or len(content) > MAX_LOG_BYTES:
        raise _bad(f"what is said of a log is not bytes, at most {MAX_LOG_BYTES}")
    return log, content


def _decode_traced(f: Fields, _: bytes) -> Traced:
    steps = [_row(row, "steps", 2) for row in _sequence(f[4], "steps", STEPS_PER_TRACE)]
    return Traced(
        id=_id(f[0], "id"),
        sent=_flag(f[1], "sent"),
        state="" if f[2] == "" else _word(f[2], "a state"),
        attempts=_number(f[3], "attempts"),
        steps=tuple([Step(_word(what, "a step"), _number(age, "an age")) for what, age in steps]),
    )


def _decode_bye(f: Fields, _: bytes) -> Bye:
    return Bye(_text(f[0], "code", MAX_CODE), _text(f[1], "text", MAX_TEXT))


_DECODERS: Final[dict[int, Callable[[Fields, bytes], Frame]]] = {
    Kind.HELLO: _decode_hello,
    Kind.RESET: lambda _fields, _bodies: Reset(),
    Kind.DATA: _decode_data,
    Kind.ACK: _decode_ack,
    Kind.OUTCOME: _decode_outcome,
    Kind.CANCEL: _decode_cancel,
    Kind.PING: _decode_ping,
    Kind.PEERS: _decode_peers,
    Kind.GONE: _decode_gone,
    Kind.BYE: _decode_bye,
    Kind.HAVE: lambda f, _: Have(*_log(f)),
    Kind.OPS: lambda f, _: Ops(*_log(f)),
    Kind.CHANGES: _decode_changes,
    Kind.TRACE: lambda f, _: Trace(_id(f[0], "id"), _flag(f[1], "sent")),
    Kind.TRACED: _decode_traced,
}
_FIELD_COUNT: Final[dict[int, int]] = {
    Kind.HELLO: 10, Kind.RESET: 0, Kind.DATA: 5, Kind.ACK: 7, Kind.OUTCOME: 3, Kind.CANCEL: 1, Kind.PING: 4,
    Kind.PEERS: 4, Kind.GONE: 5, Kind.BYE: 2,
    Kind.HAVE: 2, Kind.OPS: 2, Kind.CHANGES: 3, Kind.TRACE: 2, Kind.TRACED: 5,
}  # fmt: skip
