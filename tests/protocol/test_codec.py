"""Frames to bytes and back; hostile bytes to a ProtocolError and nothing else."""

import copy
import time
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgpack import fallback

from tests.protocol.vectors import generate
from zmesh.protocol import codec
from zmesh.protocol.bounds import (
    AGENTS_PER_PAGE,
    BATCH_BYTES,
    BATCH_MESSAGES,
    CANCELS_PER_FRAME,
    CLASSES,
    ENDINGS_PER_ACK,
    ID_BYTES,
    LINK_ID_BYTES,
    MAX_AGENTS,
    MAX_ARRAY,
    MAX_ARRAYS,
    MAX_BODY,
    MAX_CAPABILITIES,
    MAX_CODE,
    MAX_DEPTH,
    MAX_ENDPOINT,
    MAX_ENDPOINTS,
    MAX_ENVELOPE,
    MAX_FRAME,
    MAX_LOG_BYTES,
    MAX_LOG_ID,
    MAX_NAME,
    MAX_TEXT,
    MAX_WORD,
    MIB,
    OUTCOMES_PER_FRAME,
    PROTOCOL_MAX,
    STEPS_PER_TRACE,
)
from zmesh.protocol.codec import (
    HEADER_BYTES,
    MAGIC,
    MAX_LIMIT,
    MAX_NUMBER,
    MAX_TTL_MS,
    decode,
    encode,
)
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
from zmesh.protocol.priority import Priority

unhurried = settings(deadline=None)  # a busy machine is no reason to fail
LINK = b"LINKLINK"
CODES = {"bad-parts", "bad-magic", "bad-version", "bad-kind", "bad-msgpack", "bad-field"}

# --- strategies: every frame within its bounds ------------------------------------------------------------------------

links = st.binary(min_size=LINK_ID_BYTES, max_size=LINK_ID_BYTES)
ids = st.binary(min_size=ID_BYTES, max_size=ID_BYTES)
counts = st.integers(0, MAX_NUMBER)
positive = st.integers(1, MAX_NUMBER)
classes = st.integers(0, CLASSES - 1)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
MISLEADING = "\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
printable = st.characters(exclude_categories=("Cc", "Cs"), exclude_characters=MISLEADING)
codes = st.text(printable, max_size=MAX_CODE)
texts = st.text(printable, max_size=MAX_TEXT)
hosts = st.from_regex(r"[a-z0-9.:%\[\]-]{1,80}", fullmatch=True)
endpoints = st.builds("tcp://{}:{}".format, hosts, st.integers(0, 65535))


def tuples(entries: st.SearchStrategy[Any], most: int, least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(entries, min_size=least, max_size=most).map(tuple)


def per_class(entries: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return tuples(entries, CLASSES, CLASSES)


limits = per_class(st.integers(0, MAX_LIMIT))
hellos = st.builds(
    Hello,
    proto_min=st.integers(1, 255),
    proto_max=st.integers(1, 255),
    store=ids,
    name=names,
    endpoints=tuples(endpoints, MAX_ENDPOINTS),
    echo=st.just(b"") | links,
    up=st.booleans(),
    epoch=counts,
    cursors=per_class(st.builds(Cursor, counts, ids, counts)),
    limits=limits,
)
items = st.builds(
    Item,
    id=ids,
    ttl_ms=st.none() | st.integers(0, MAX_TTL_MS),
    envelope=st.binary(max_size=200),
    body=st.binary(max_size=200),
)
datas = st.builds(
    Data,
    epoch=positive,
    klass=classes,
    floor=counts,
    first=st.integers(1, MAX_NUMBER - BATCH_MESSAGES),
    items=tuples(items, BATCH_MESSAGES, 1),
)
acks = st.builds(
    Ack,
    epoch=counts,
    cursors=per_class(counts),
    limits=limits,
    endings=tuples(st.builds(Ending, classes, positive, codes, texts), ENDINGS_PER_ACK),
    rewinds=tuples(st.tuples(classes, positive), CLASSES),
    outcomes=counts,
    roster=counts,
)
logs = st.binary(min_size=1, max_size=MAX_LOG_ID)
outcomes = st.builds(
    Outcome,
    base=counts,
    first=st.integers(0, MAX_NUMBER - OUTCOMES_PER_FRAME),
    fates=tuples(st.builds(Fate, codes, texts, tuples(ids, 20)), 20),
)
words = st.from_regex(r"[a-z][a-z-]{0,15}", fullmatch=True)
agents = st.builds(
    AgentRecord,
    names,
    st.text(printable, max_size=MAX_NAME),
    tuples(st.text(printable, max_size=MAX_NAME), MAX_CAPABILITIES),
    st.booleans(),
    st.text(printable, max_size=MAX_NAME),
    words,
    words | st.just(""),
    st.none() | counts,
)


@st.composite
def rosters(draw: st.DrawFn) -> Peers:
    pages = draw(st.integers(1, MAX_AGENTS // AGENTS_PER_PAGE + 1))
    return Peers(draw(positive), draw(st.integers(0, pages - 1)), pages, draw(tuples(agents, 10)))


@st.composite
def gones(draw: st.DrawFn) -> Gone:
    first = draw(positive)
    return Gone(draw(positive), draw(classes), first, draw(st.integers(first, MAX_NUMBER)), draw(ids))


frames: st.SearchStrategy[Frame] = st.one_of(
    hellos,
    st.just(Reset()),
    datas,
    acks,
    outcomes,
    st.builds(Cancel, tuples(ids, CANCELS_PER_FRAME)),
    st.builds(Ping, positive, per_class(counts), per_class(counts), counts),
    rosters(),
    gones(),
    st.builds(Bye, codes, texts),
    st.builds(Have, logs, st.binary(max_size=200)),
    st.builds(Ops, logs, st.binary(max_size=200)),
    st.builds(Changes, positive, positive, tuples(agents, 10)),
    st.builds(Trace, ids, st.booleans()),
    st.builds(
        Traced, ids, st.booleans(), words | st.just(""), counts, tuples(st.builds(Step, words, counts), STEPS_PER_TRACE)
    ),
)

# --- one good frame of each kind, as the fields of its header ---------------------------------------------------------

ID = b"m" * ID_BYTES
FIVE = [1, 2, 3, 4, 5]
GOOD: dict[Kind, list[Any]] = {
    Kind.HELLO: [1, 1, ID, "studio", ["tcp://[::1]:5600"], LINK, True, 3, [[n, ID, 1 + n] for n in [*FIVE]], [*FIVE]],
    Kind.RESET: [],
    Kind.DATA: [1, 2, 3, 4, [[ID, 1000, b"envelope", 4], [ID, None, b"", 0]]],
    Kind.ACK: [1, [*FIVE], [*FIVE], [[2, 7, "denied", "not for you"]], [[1, 9]], 5, 6],
    Kind.OUTCOME: [4, 5, [["handled", "", [ID, ID]]]],
    Kind.CANCEL: [[ID]],
    Kind.PING: [1, [*FIVE], [*FIVE], 7],
    Kind.PEERS: [9, 0, 2, [["coder", "reviewer", ["python"], True, "zmesh", "busy", "program", 5]]],
    Kind.GONE: [1, 2, 3, 4, ID],
    Kind.BYE: ["closing", "see you"],
    Kind.HAVE: [b"log", b"content"],
    Kind.OPS: [b"l" * MAX_LOG_ID, b""],
    Kind.CHANGES: [9, 7, [["coder", "", [], False, "", "away", "", None]]],
    Kind.TRACE: [ID, True],
    Kind.TRACED: [ID, False, "stored", 2, [["taken", 1500]]],
}
LIMITS = {(Kind.HELLO, 9), (Kind.ACK, 2)}

Path_ = tuple[int, ...]


def head(kind: int, payload: bytes, version: int = PROTOCOL_MAX) -> bytes:
    return b"%b%c%c%b%b" % (MAGIC, version, kind, LINK, payload)


def parts_of(kind: int, fields: object, version: int = PROTOCOL_MAX) -> list[bytes]:
    first = head(kind, msgpack.packb(fields), version)
    return [first, b"body"] if kind == Kind.DATA else [first]


def leaves(value: object, path: Path_ = ()) -> Iterator[tuple[Path_, object]]:
    yield path, value
    if isinstance(value, list):
        for place, entry in enumerate(value):
            yield from leaves(entry, (*path, place))


PLACES = [(kind, path, value) for kind, fields in GOOD.items() for path, value in leaves(fields) if path]


def replaced(kind: Kind, path: Path_, value: object) -> list[Any]:
    fields = copy.deepcopy(GOOD[kind])
    within = fields
    for place in path[:-1]:
        within = within[place]
    within[path[-1]] = value
    return fields


def refused(parts: list[bytes]) -> str:
    with pytest.raises(ProtocolError) as caught:
        decode(parts)
    assert caught.value.code in CODES
    return caught.value.code


def assert_read_or_refused(parts: list[bytes]) -> None:
    """Decoding ends in a ProtocolError or in a frame that can be sent on."""
    try:
        link, frame = decode(parts)
    except ProtocolError:
        assert refused(parts)
        return
    assert type(link) is bytes
    if not isinstance(frame, Unknown):
        assert decode(encode(link, frame)) == (link, frame)


# --- what we send -----------------------------------------------------------------------------------------------------


@unhurried
@given(links, frames)
def test_what_is_encoded_is_decoded(link: bytes, frame: Frame) -> None:
    parts = encode(link, frame)
    assert len(parts) == (2 if isinstance(frame, Data) else 1)
    assert decode(parts) == (link, frame)


@pytest.mark.parametrize("kind", list(Kind))
def test_the_good_frames_are_good(kind: Kind) -> None:
    link, frame = decode(parts_of(kind, GOOD[kind]))
    assert link == LINK
    assert type(frame).__name__.upper() == kind.name
    assert encode(link, frame) == parts_of(kind, GOOD[kind])


def test_a_link_id_has_eight_bytes() -> None:
    for link in (b"", b"short", b"too long for one"):
        with pytest.raises(AssertionError):
            encode(link, Reset())


HOSTILE_TEXTS = ["x" * 5000, "\ud800" * 300, "a\udfffb", "\U0001f600" * 300, "", "\x00", "a\nb\x1b[2Jc\u202ed"]


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
@pytest.mark.parametrize(
    "frame_of",
    [
        Bye,
        lambda code, text: Ack(0, (0,) * 5, (0,) * 5, (Ending(0, 1, code, text),), (), 0, 0),
        lambda code, text: Outcome(0, 1, (Fate(code, text, (ID,)),)),
    ],
)
def test_a_text_for_people_is_cut_so_that_the_other_side_reads_it(
    frame_of: Callable[[str, str], Frame], text: str
) -> None:
    _, frame = decode(encode(LINK, frame_of(text, text)))
    clean = "".join("?" if unicodedata.category(c) in ("Cc", "Cs") or c in MISLEADING else c for c in text)
    assert frame == frame_of(clean[:MAX_CODE], clean[:MAX_TEXT])


@pytest.mark.parametrize(
    "other", ["x", "quic://10.0.0.1:5", "tcp://10.0.0.1", "tcp://a b:5", "tcp://10.0.0.1:5/x", "tcp://u@h:5", ""]
)
def test_an_endpoint_of_another_kind_is_ignored(other: str) -> None:
    good = "tcp://[fe80::1%eth0]:5600"
    _, frame = decode(encode(LINK, hello((other, good))))
    assert frame == hello((good,))


def hello(endpoints: tuple[str, ...]) -> Hello:
    return Hello(1, 1, ID, "studio", endpoints, b"", False, 0, (Cursor(0, bytes(16)),) * 5, (0,) * 5)  # noqa: FBT003


def test_a_machine_with_many_interfaces_says_hello_with_the_first_of_them() -> None:
    many = tuple(f"tcp://10.0.0.{n}:5600" for n in range(40))
    sent = hello(("tcp://" + "x" * MAX_ENDPOINT, *many))
    assert decode(encode(LINK, sent)) == (LINK, hello(many[:MAX_ENDPOINTS]))


def test_subclasses_of_text_number_and_bytes_are_sent_as_what_they_are() -> None:
    class Text(str):
        __slots__ = ()

    class Octets(bytes):
        __slots__ = ()

    sent = Data(1, Priority.BULK, 0, 1, (Item(Octets(ID), None, Octets(b"e"), Octets(b"b")),))
    assert decode(encode(LINK, sent)) == (LINK, Data(1, 4, 0, 1, (Item(ID, None, b"e", b"b"),)))
    assert decode(encode(LINK, Bye(Text("closing"), Text("x")))) == (LINK, Bye("closing", "x"))


@pytest.mark.parametrize(("ttl", "read"), [(None, None), (-1, 0), (5, 5), (1 << 70, MAX_TTL_MS)])
def test_a_ttl_is_readable_whatever_the_clock_did(ttl: int | None, read: int | None) -> None:
    _, frame = decode(encode(LINK, Data(1, 0, 0, 1, (Item(ID, ttl, b"", b""),))))
    assert frame == Data(1, 0, 0, 1, (Item(ID, read, b"", b""),))


WIDE = "\U0001f600"
WORDY = AgentRecord(
    "a" * MAX_NAME, WIDE * MAX_NAME, (WIDE * MAX_NAME,) * MAX_CAPABILITIES, attached=True, project=WIDE * MAX_NAME,
    status="s" * MAX_WORD, reach="r" * MAX_WORD, since_ms=MAX_NUMBER,
)  # fmt: skip
LONGEST: dict[str, Frame] = {
    "hello": Hello(
        255,
        255,
        ID,
        "n" * MAX_NAME,
        ("tcp://" + WIDE * (MAX_ENDPOINT - 12) + ":65535",) * MAX_ENDPOINTS,
        LINK,
        True,  # noqa: FBT003
        MAX_NUMBER,
        (Cursor(MAX_NUMBER, ID, MAX_NUMBER),) * CLASSES,
        (MAX_LIMIT,) * CLASSES,
    ),
    # A batch may begin one octet below BATCH_BYTES and then take the largest message.
    "data": Data(
        MAX_NUMBER,
        CLASSES - 1,
        MAX_NUMBER,
        MAX_NUMBER - BATCH_MESSAGES,
        (Item(ID, MAX_TTL_MS, b"e" * MAX_ENVELOPE, b""),) * (BATCH_MESSAGES - 2)
        + (Item(ID, MAX_TTL_MS, b"e" * MAX_ENVELOPE, b"b" * BATCH_BYTES),)
        + (Item(ID, MAX_TTL_MS, b"e" * MAX_ENVELOPE, b"b" * MAX_BODY),),
    ),
    "ack": Ack(
        MAX_NUMBER,
        (MAX_NUMBER,) * CLASSES,
        (MAX_LIMIT,) * CLASSES,
        (Ending(CLASSES - 1, MAX_NUMBER, WIDE * MAX_CODE, WIDE * MAX_TEXT),) * ENDINGS_PER_ACK,
        ((CLASSES - 1, MAX_NUMBER),) * CLASSES,
        MAX_NUMBER,
        MAX_NUMBER,
    ),
    "outcome, one fate": Outcome(MAX_NUMBER, 1, (Fate("dead", "", (ID,) * OUTCOMES_PER_FRAME),)),
    "outcome, many fates": Outcome(
        MAX_NUMBER,
        MAX_NUMBER - OUTCOMES_PER_FRAME,
        (Fate(WIDE * MAX_CODE, WIDE * MAX_TEXT, (ID,)),) * OUTCOMES_PER_FRAME,
    ),
    "cancel": Cancel((ID,) * CANCELS_PER_FRAME),
    "ping": Ping(MAX_NUMBER, (MAX_NUMBER,) * CLASSES, (MAX_NUMBER,) * CLASSES, MAX_NUMBER),
    "peers, plain names": Peers(
        MAX_NUMBER,
        0,
        1,
        (AgentRecord("a" * MAX_NAME, "r" * MAX_NAME, ("c" * MAX_NAME,) * MAX_CAPABILITIES, attached=True),)
        * AGENTS_PER_PAGE,
    ),
    "changes": Changes(MAX_NUMBER, MAX_NUMBER, (WORDY,) * AGENTS_PER_PAGE),
    "gone": Gone(MAX_NUMBER, CLASSES - 1, MAX_NUMBER, MAX_NUMBER, ID),
    "bye": Bye(WIDE * MAX_CODE, WIDE * MAX_TEXT),
    "traced": Traced(ID, True, "s" * MAX_WORD, MAX_NUMBER, (Step("w" * MAX_WORD, MAX_NUMBER),) * STEPS_PER_TRACE),  # noqa: FBT003
}


@pytest.mark.parametrize("name", LONGEST)
def test_the_longest_frame_of_each_kind_is_read(name: str) -> None:
    parts = encode(LINK, LONGEST[name])
    assert sum(map(len, parts)) <= MAX_FRAME
    assert decode(parts) == (LINK, LONGEST[name])


def test_the_longest_page_of_a_roster_is_read() -> None:
    page = Peers(MAX_NUMBER, 0, 1, (WORDY,) * AGENTS_PER_PAGE)
    assert decode(encode(LINK, page)) == (LINK, page)
    assert sum(map(len, encode(LINK, page))) < MAX_FRAME


def test_an_agent_of_which_less_is_said_is_idle_when_it_is_there_and_else_away() -> None:
    rows = [["code", "", [], True], ["shell", "", [], False], ["browser", "", [], True, "zmesh"]]
    _, frame = decode(parts_of(Kind.PEERS, [1, 0, 1, rows]))
    assert isinstance(frame, Peers)
    assert [(agent.status, agent.reach, agent.since_ms, agent.project) for agent in frame.agents] == [
        ("idle", "", None, ""),
        ("away", "", None, ""),
        ("idle", "", None, "zmesh"),
    ]


@pytest.mark.parametrize("status", ["dozing", "a", "out-to-lunch"])
def test_a_status_that_is_not_known_here_is_taken_as_it_is(status: str) -> None:
    _, frame = decode(parts_of(Kind.CHANGES, [2, 1, [["code", "", [], True, "", status, "carrier-pigeon", None]]]))
    assert isinstance(frame, Changes)
    assert (frame.agents[0].status, frame.agents[0].reach) == (status, "carrier-pigeon")


@pytest.mark.parametrize("word", ["", "Busy", "busy!", "-", "b\x1b[2J", "busy\n", "x" * (MAX_WORD + 1), "zu tun", 3])
@pytest.mark.parametrize("place", [5, 6])
def test_what_is_no_word_is_refused(word: object, place: int) -> None:
    row = ["code", "", [], True, "", "busy", "program", None]
    row[place] = word
    if (word, place) == ("", 6):
        decode(parts_of(Kind.CHANGES, [2, 1, [row]]))
    else:
        assert refused(parts_of(Kind.CHANGES, [2, 1, [row]])) == "bad-field"


@pytest.mark.parametrize(("said", "sent"), [(-5, 0), (MAX_NUMBER + 5, MAX_NUMBER), (7, 7), (None, None)])
def test_how_long_nobody_was_there_can_always_be_read(said: int | None, sent: int | None) -> None:
    _, frame = decode(encode(LINK, Changes(2, 1, (AgentRecord("code", since_ms=said),))))
    assert isinstance(frame, Changes)
    assert frame.agents[0].since_ms == sent


def test_the_pages_suffice_for_the_largest_roster() -> None:
    pages = -(-MAX_AGENTS // AGENTS_PER_PAGE)
    last = Peers(1, pages - 1, pages, ())
    assert decode(encode(LINK, last)) == (LINK, last)


# --- what they send: the container ------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [[], [b"", b"", b""], [head(2, b"\x90")] * 3, [bytes(MAX_FRAME + 1)]])
def test_too_many_parts_or_bytes_are_refused(parts: list[bytes]) -> None:
    assert refused(parts) == "bad-parts"


def test_the_bound_of_a_frame_is_the_sum_of_its_parts() -> None:
    good = parts_of(Kind.DATA, GOOD[Kind.DATA])
    assert refused([good[0], bytes(MAX_FRAME - len(good[0]))]) == "bad-field"
    assert refused([good[0], bytes(MAX_FRAME - len(good[0]) + 1)]) == "bad-parts"


@pytest.mark.parametrize("kind", list(Kind))
def test_only_data_has_a_second_part(kind: Kind) -> None:
    first = head(kind, msgpack.packb(GOOD[kind]))
    assert refused([first] if kind == Kind.DATA else [first, b""]) == "bad-parts"


@pytest.mark.parametrize("first", [b"", b"Z", b"ZM", MAGIC + bytes(9), b"zm" + bytes(10), b"GET / HTTP/1.1\r\n"])
def test_what_does_not_begin_as_a_frame_is_refused(first: bytes) -> None:
    assert refused([first]) == "bad-magic"


@pytest.mark.parametrize("kind", [*Kind, 0x00, 0x7F, 0x80, 0xFF])
def test_version_zero_is_refused(kind: int) -> None:
    assert refused([head(kind, b"\x90", 0)]) == "bad-version"


@pytest.mark.parametrize("version", [PROTOCOL_MAX + 1, 255])
@pytest.mark.parametrize("kind", [*Kind, 0x70, 0xF0])
def test_of_a_newer_version_only_hello_reset_and_bye_are_read(kind: int, version: int) -> None:
    if kind in {Kind.HELLO, Kind.RESET, Kind.BYE}:
        known = GOOD[Kind(kind)]
        assert decode(parts_of(kind, [*known, "new"], version)) == decode(parts_of(kind, known))
    else:
        assert refused(parts_of(kind, GOOD.get(Kind(kind), []) if kind in set(Kind) else [], version)) == "bad-version"


@pytest.mark.parametrize("kind", [k for k in range(0x80) if k not in set(Kind)])
@pytest.mark.parametrize("more", [[], [b"second"]])
def test_unknown_kinds_below_0x80_are_skipped_unread(kind: int, more: list[bytes]) -> None:
    assert decode([head(kind, b"\xc1 anything"), *more]) == (LINK, Unknown(kind))


@pytest.mark.parametrize("kind", range(0x80, 0x100))
def test_unknown_kinds_from_0x80_are_refused(kind: int) -> None:
    assert refused([head(kind, b"\x90")]) == "bad-kind"


@pytest.mark.parametrize("kind", list(Kind))
def test_unknown_trailing_fields_are_ignored(kind: Kind) -> None:
    def longer(value: object) -> object:
        """Lengthen rows, but not the arrays whose length means something."""
        if isinstance(value, list) and value and all(isinstance(v, list) for v in value):
            return [[*map(longer, v), "new", None] for v in value]
        return value

    fields = [longer(f) for f in GOOD[kind]]
    later = [*fields, "new", [1, [2]], None, b"x", 1.5, float("nan")]
    assert decode(parts_of(kind, later)) == decode(parts_of(kind, GOOD[kind]))


@pytest.mark.parametrize("kind", [k for k in Kind if GOOD[k]])
def test_missing_fields_are_refused(kind: Kind) -> None:
    for count in range(len(GOOD[kind])):
        assert refused(parts_of(kind, GOOD[kind][:count])) == "bad-field"


ROWS: list[tuple[Kind, Path_]] = [
    *[(Kind.HELLO, path) for path in [(8,), (8, 0), (9,)]],
    *[(Kind.DATA, path) for path in [(4, 0), (4, 1)]],
    *[(Kind.ACK, path) for path in [(1,), (2,), (3, 0), (4, 0)]],
    (Kind.OUTCOME, (2, 0)),
    *[(Kind.PING, path) for path in [(1,), (2,)]],
    (Kind.PEERS, (3, 0)),
    (Kind.CHANGES, (2, 0)),
]
LEAST = {Kind.PEERS: 4, Kind.CHANGES: 4}
"""Rows of which the last fields may be absent."""


@pytest.mark.parametrize(("kind", "path"), ROWS)
def test_a_short_row_is_refused(kind: Kind, path: Path_) -> None:
    [row] = [value for k, p, value in PLACES if (k, p) == (kind, path) and isinstance(value, list)]
    for count in range(LEAST.get(kind, len(row))):
        assert refused(parts_of(kind, replaced(kind, path, row[:count]))) == "bad-field"


# --- what they send: the fields ---------------------------------------------------------------------------------------

ANYTHING: list[Any] = [
    None,
    True,
    0,
    -1,
    5,
    1 << 62,
    1 << 63,
    (1 << 64) - 1,
    -(1 << 63),
    1.0,
    float("nan"),
    "",
    "1",
    "x" * 10_000,
    b"",
    b"x" * (ID_BYTES + 1),
    b"x" * 10_000,
    [],
    [None],
    [[]],
    [[[]]],
    [0] * MAX_ARRAY,
    [[0] * 10] * 65,
    {},
    {"a": 1},
    msgpack.ExtType(42, b"x" * 20),
    msgpack.Timestamp(1, 2),
]


def wrong_for(value: object) -> list[Any]:
    """What can never stand where `value` stands."""
    never: list[Any] = [1.0, msgpack.ExtType(1, b"x" * ID_BYTES), msgpack.Timestamp(1), {"a": 1}]
    if isinstance(value, bool):
        return [*never, 0, 1, None, "true", b"", []]
    if isinstance(value, int):
        return [*never, True, False, -1, 1 << 63, (1 << 64) - 1, str(value), b"1", [value]]
    if isinstance(value, bytes):
        return [*never, value.decode(), None, 0, [value], b"x" * (MAX_LOG_BYTES + 1)]
    if isinstance(value, str):
        return [*never, value.encode(), None, 0, [value], "x" * 300]
    if isinstance(value, list):
        return [*never, None, 0, "", b"", {}, [value] * MAX_ARRAY]
    return never


@pytest.mark.parametrize(("kind", "path", "value"), PLACES)
def test_every_field_refuses_every_wrong_type(kind: Kind, path: Path_, value: object) -> None:
    for wrong in wrong_for(value):
        assert refused(parts_of(kind, replaced(kind, path, wrong))) in {"bad-field", "bad-msgpack"}, wrong


@pytest.mark.parametrize(("kind", "path", "value"), PLACES)
def test_every_field_survives_anything(kind: Kind, path: Path_, value: object) -> None:
    assert value is not ANYTHING
    for other in ANYTHING:
        assert_read_or_refused(parts_of(kind, replaced(kind, path, other)))


@pytest.mark.parametrize(("kind", "path", "value"), [p for p in PLACES if type(p[2]) is int])
def test_only_a_limit_may_exceed_the_largest_number(kind: Kind, path: Path_, value: int) -> None:
    parts = parts_of(kind, replaced(kind, path, value + MAX_NUMBER))
    if (kind, path[0]) in LIMITS:
        assert decode(parts)
    else:
        assert refused(parts) == "bad-field"


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        (Kind.HELLO, (0,), 0),
        (Kind.HELLO, (1,), 256),
        (Kind.HELLO, (3,), "Studio"),
        (Kind.HELLO, (3,), ""),
        (Kind.HELLO, (4,), ["x"] * (MAX_ENDPOINTS + 1)),
        (Kind.HELLO, (4,), ["x" * (MAX_ENDPOINT + 1)]),
        (Kind.HELLO, (5,), b"short"),
        (Kind.HELLO, (8,), [[1, ID, 0]] * (CLASSES - 1)),
        (Kind.HELLO, (8,), [[1, ID, 0]] * (CLASSES + 1)),
        (Kind.HELLO, (9,), [1] * (CLASSES + 1)),
        (Kind.DATA, (0,), 0),
        (Kind.DATA, (1,), CLASSES),
        (Kind.DATA, (3,), 0),
        (Kind.DATA, (3,), MAX_NUMBER - BATCH_MESSAGES + 1),
        (Kind.DATA, (4,), []),
        (Kind.DATA, (4,), [[ID, None, b"", 0]] * (BATCH_MESSAGES + 1)),
        (Kind.DATA, (4, 0, 1), MAX_TTL_MS + 1),
        (Kind.DATA, (4, 0, 2), bytes(MAX_ENVELOPE + 1)),
        (Kind.DATA, (4, 0, 3), 3),
        (Kind.DATA, (4, 0, 3), 5),
        (Kind.DATA, (4, 1, 3), MAX_BODY + 1),
        (Kind.ACK, (3,), [[0, 1, "", ""]] * (ENDINGS_PER_ACK + 1)),
        (Kind.ACK, (3, 0, 0), CLASSES),
        (Kind.ACK, (3, 0, 1), 0),
        (Kind.ACK, (3, 0, 2), "x" * (MAX_CODE + 1)),
        (Kind.ACK, (3, 0, 3), "x" * (MAX_TEXT + 1)),
        (Kind.ACK, (4,), [[0, 1]] * (CLASSES + 1)),
        (Kind.ACK, (4, 0, 1), 0),
        (Kind.OUTCOME, (1,), MAX_NUMBER - OUTCOMES_PER_FRAME + 1),
        (Kind.OUTCOME, (2,), [["", "", []]] * (OUTCOMES_PER_FRAME + 1)),
        (Kind.OUTCOME, (2,), [["", "", [ID] * 300]] * 2),
        (Kind.CANCEL, (0,), [ID] * (CANCELS_PER_FRAME + 1)),
        (Kind.PING, (0,), 0),
        (Kind.PEERS, (0,), 0),
        (Kind.PEERS, (1,), 2),
        (Kind.PEERS, (2,), 0),
        (Kind.PEERS, (2,), MAX_AGENTS // AGENTS_PER_PAGE + 2),
        (Kind.PEERS, (3,), [["a", "", [], True]] * (AGENTS_PER_PAGE + 1)),
        (Kind.PEERS, (3, 0, 0), "A"),
        (Kind.PEERS, (3, 0, 1), "x" * (MAX_NAME + 1)),
        (Kind.PEERS, (3, 0, 2), ["x"] * (MAX_CAPABILITIES + 1)),
        (Kind.PEERS, (3, 0, 2), ["x" * (MAX_NAME + 1)]),
        (Kind.GONE, (0,), 0),
        (Kind.GONE, (2,), 0),
        (Kind.GONE, (2,), 5),
        (Kind.BYE, (0,), "x" * (MAX_CODE + 1)),
        (Kind.BYE, (1,), "x" * (MAX_TEXT + 1)),
        (Kind.HAVE, (0,), b""),
        (Kind.HAVE, (0,), b"l" * (MAX_LOG_ID + 1)),
        (Kind.HAVE, (1,), "text"),
        (Kind.OPS, (0,), "log"),
        (Kind.OPS, (1,), bytes(MAX_LOG_BYTES + 1)),
    ],
)
def test_one_beyond_a_bound_is_refused(kind: Kind, path: Path_, value: object) -> None:
    assert refused(parts_of(kind, replaced(kind, path, value))) in {"bad-field", "bad-msgpack"}


# --- what they send: hostile msgpack ----------------------------------------------------------------------------------

HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "a number": b"\x01",
    "nil": b"\xc0",
    "a text": b"\xa1x",
    "bytes": b"\xc4\x01x",
    "the reserved octet": b"\xc1",
    "an incomplete array": b"\x95\x01",
    "two values": b"\x90\x90",
    "a map": b"\x80",
    "a map in an array": b"\x91\x80",
    "an array as key": b"\x91\x81\x90\x01",
    "a map as key": b"\x91\x81\x80\x01",
    "a number as key": b"\x91\x81\x01\x01",
    "text that is not UTF-8": b"\x91\xa1\xff",
    "a lone surrogate": b"\x91\xa3\xed\xa0\x80",
    "overlong UTF-8": b"\x91\xa2\xc0\x80",
    "a timestamp of a wrong length": b"\x91\xd4\xff\x00",
    "a timestamp with too many nanoseconds": b"\x91\xc7\x0c\xff" + b"\xff" * 12,
    "an extension without octets": b"\x91\xc7\x00\x05",
    "a timestamp": b"\x91\xd6\xff\x00\x00\x00\x01",
    "an extension cut short": b"\x91\xc9\xff\xff\xff\xff\x00",
    "an array of four billion": b"\xdd\xff\xff\xff\xff",
    "a map of four billion": b"\xdf\xff\xff\xff\xff",
    "bytes of four billion": b"\x91\xc6\xff\xff\xff\xff",
    "a text of four billion": b"\x91\xdb\xff\xff\xff\xff",
    "deep arrays": b"\x91" * 1000 + b"\xc0",
    "very deep arrays": b"\x91" * (MIB - 100),
    "very deep maps": b"\x81\xa0" * (MIB // 2 - 100),
    "deep and wide arrays": b"\xdd\x00\x0f\x00\x00" * (MIB // 5 - 100),
    "deep arrays as wide as allowed": b"\xdc\x02\x00" * (MIB // 3 - 100),
    "a million empty maps": b"\xdd\x00\x0f\xf0\x00" + b"\x80" * 0xFF000,
    "a million empty arrays": b"\xdd\x00\x0f\xf0\x00" + b"\x90" * 0xFF000,
    "a million empty arrays in arrays": b"\xdc\x02\x00" + (b"\xdc\x02\x00" + b"\x90" * 512) * 512 * 3,
    "a million numbers in arrays": b"\xdc\x02\x00" + (b"\xdc\x02\x00" + b"\xcd\x7f\xff" * 512) * 512,
    "short texts in arrays": b"\xdc\x02\x00" + (b"\xdc\x02\x00" + b"\xa3\xe2\x82\xac" * 512) * 512,
    "timestamps in arrays": b"\xdc\x02\x00" + (b"\xdc\x02\x00" + b"\xd6\xff\x00\x00\x00\x01" * 512) * 512,
    "floats": b"\xdc\x02\x00" + (b"\xdc\x02\x00" + b"\xca\x7f\xc0\x00\x00" * 512) * 512,
}
PURE_PYTHON_READS_SLOWLY = 20_000
UNPACKERS = {"C": msgpack.unpackb, "Python": fallback.unpackb}


@pytest.mark.parametrize("unpacker", UNPACKERS)
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", [Kind.DATA, Kind.ACK, Kind.RESET])
def test_hostile_msgpack_is_refused(monkeypatch: pytest.MonkeyPatch, kind: Kind, name: str, unpacker: str) -> None:
    monkeypatch.setattr(msgpack, "unpackb", UNPACKERS[unpacker])
    payload = HOSTILE[name][: MAX_FRAME - HEADER_BYTES]
    if unpacker == "Python":
        payload = payload[:PURE_PYTHON_READS_SLOWLY]
    parts = [head(kind, payload), *([b""] if kind == Kind.DATA else [])]
    if kind == Kind.RESET:  # needs no field, so that whatever msgpack can read is a good one
        assert_read_or_refused(parts)
    else:
        assert refused(parts) in {"bad-msgpack", "bad-field"}


def test_an_unpacker_without_words_is_quoted_by_its_error() -> None:
    with pytest.raises(ProtocolError, match="bad-msgpack: FormatError"):
        decode([head(Kind.BYE, b"\xc1")])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_frame_costs_little_memory_and_time(name: str) -> None:
    parts = [head(Kind.ACK, HOSTILE[name][: MAX_FRAME - HEADER_BYTES])]
    began = time.perf_counter()
    refused(parts)
    assert time.perf_counter() - began < 2.0
    tracemalloc.start()
    try:
        refused(parts)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * MIB


def test_the_number_of_arrays_is_bounded() -> None:
    rows: list[Any] = [[[]] * (MAX_ARRAY - 1)] * 3 + [[[]] * (MAX_ARRAYS - 3 * MAX_ARRAY - 3)]
    assert decode(parts_of(Kind.RESET, [rows])) == (LINK, Reset())
    assert refused(parts_of(Kind.RESET, [rows, []])) == "bad-msgpack"
    assert refused(parts_of(Kind.RESET, [[0] * (MAX_ARRAY + 1)])) == "bad-msgpack"


def test_the_depth_of_arrays_is_bounded() -> None:
    """In fields that are unknown too: how deep another reader's stack goes is not part of the wire."""
    nested: list[Any] = []
    for _ in range(MAX_DEPTH - 2):
        nested = [nested]
    assert decode(parts_of(Kind.BYE, [*GOOD[Kind.BYE], nested])) == (LINK, Bye("closing", "see you"))
    assert refused(parts_of(Kind.BYE, [*GOOD[Kind.BYE], [nested]])) == "bad-msgpack"


@pytest.mark.parametrize("extension", [msgpack.ExtType(5, b"x"), msgpack.ExtType(5, b""), msgpack.Timestamp(1, 2)])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_header_holds_no_extension_types(kind: Kind, extension: object) -> None:
    for later in (extension, [[extension]]):
        assert refused(parts_of(kind, [*GOOD[kind], later])) == "bad-msgpack"


# --- what they send: noise --------------------------------------------------------------------------------------------


@unhurried
@given(st.lists(st.binary(max_size=300), max_size=3))
@example([MAGIC])
def test_arbitrary_bytes_are_a_frame_or_a_protocol_error(parts: list[bytes]) -> None:
    assert_read_or_refused(parts)


@unhurried
@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=300), st.lists(st.binary(max_size=20), max_size=1))
def test_arbitrary_bytes_in_a_header_are_a_frame_or_a_protocol_error(
    version: int, kind: int, payload: bytes, more: list[bytes]
) -> None:
    assert_read_or_refused([head(kind, payload, version), *more])


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(),
    st.text(max_size=40),
    st.binary(max_size=40),
    st.sampled_from([ID, LINK, FIVE, msgpack.ExtType(9, b""), msgpack.Timestamp(0)]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@unhurried
@given(st.sampled_from(list(Kind)), st.lists(values, max_size=11))
def test_arbitrary_values_in_a_header_are_a_frame_or_a_protocol_error(kind: Kind, fields: list[Any]) -> None:
    assert_read_or_refused(parts_of(kind, fields))


@unhurried
@given(st.sampled_from(PLACES), values)
def test_an_arbitrary_value_in_a_good_frame_is_read_or_refused(
    place: tuple[Kind, Path_, object], value: object
) -> None:
    kind, path, _ = place
    assert_read_or_refused(parts_of(kind, replaced(kind, path, value)))


@unhurried
@given(frames, st.data())
def test_a_damaged_frame_is_a_frame_or_a_protocol_error(frame: Frame, data: st.DataObject) -> None:
    parts = encode(LINK, frame)
    octets = bytearray(parts[0])
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    assert_read_or_refused([bytes(octets), *parts[1:]])


@unhurried
@given(frames, st.data())
def test_a_truncated_or_longer_frame_is_refused(frame: Frame, data: st.DataObject) -> None:
    parts = encode(LINK, frame)
    which = data.draw(st.integers(0, len(parts) - 1))
    part = parts[which]
    longer = part + data.draw(st.binary(min_size=1, max_size=9))
    assert refused([longer if n == which else p for n, p in enumerate(parts)])
    if part:
        shorter = part[: data.draw(st.integers(0, len(part) - 1))]
        assert refused([shorter if n == which else p for n, p in enumerate(parts)])


# --- the vectors for other implementations ----------------------------------------------------------------------------

VECTORS = Path(generate.__file__).parent


def test_the_vectors_are_what_their_script_writes() -> None:
    for name, text in generate.documents().items():
        assert (VECTORS / name).read_text(encoding="utf-8") == text, f"run {generate.__name__} again"


@pytest.mark.parametrize("vector", generate.load("frames.json"), ids=generate.name_of)
def test_a_vector_is_read_as_it_says(vector: dict[str, Any]) -> None:
    link, frame = decode([bytes.fromhex(part) for part in vector["parts"]])
    assert link.hex() == vector["link"]
    assert generate.described(frame) == {"kind": vector["kind"], "fields": vector["fields"]}


@pytest.mark.parametrize("vector", [v for v in generate.load("frames.json") if v["encode"]], ids=generate.name_of)
def test_a_vector_is_written_as_it_says(vector: dict[str, Any]) -> None:
    parts = encode(bytes.fromhex(vector["link"]), generate.frame_from(vector["kind"], vector["fields"]))
    assert [part.hex() for part in parts] == vector["parts"]


@pytest.mark.parametrize("vector", generate.load("refused.json"), ids=generate.name_of)
def test_a_refused_vector_is_refused_as_it_says(vector: dict[str, Any]) -> None:
    assert refused([bytes.fromhex(part) for part in vector["parts"]]) == vector["error"]


def test_the_vectors_show_every_kind_and_every_error() -> None:
    assert {v["kind"] for v in generate.load("frames.json")} == {kind.name for kind in Kind} | {"UNKNOWN"}
    assert {v["error"] for v in generate.load("refused.json")} == CODES


def test_the_codec_raises_no_other_code() -> None:
    source = Path(codec.__file__).read_text(encoding="utf-8")
    raised = {line.split('"')[1] for line in source.splitlines() if "ProtocolError(" in line and '"' in line}
    assert raised == CODES
