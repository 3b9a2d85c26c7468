"""Meetings at real doors: members find out where they are; strangers, and who repeats what a member said, do not."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.public import Box, PrivateKey, PublicKey

from tests.stores import store_of as make_store
from tests.trust.support import DEVICES, Scribe, living, open_store, rows
from tests.waiting import until
from zmesh.discovery.address_book import AddressBook
from zmesh.discovery.address_record import AddressRecord, pack_records, sign_record
from zmesh.discovery.meeting import Meetings
from zmesh.discovery.sighting import Sighting
from zmesh.errors import PairingError
from zmesh.trust.device import Device
from zmesh.trust.door import Door
from zmesh.trust.entry import Rename
from zmesh.trust.frames import DONE, MAX_KNOCK, MEET, REFUSED, SHOW, pack_entries, receive, send
from zmesh.trust.pairing import MAX_MESSAGE
from zmesh.trust.refusal import Refusal
from zmesh.trust.trust_store import TrustStore
from zmesh.trust.visitor import Unreachable

HERE = "127.0.0.1"
ADA, BOB, CID = range(3)


def store_of(number: int) -> bytes:
    return make_store(DEVICES[number].id, 1)


def own(number: int, port: int = 7000) -> Sighting:
    return Sighting(
        store_of(number), f"peer{number}", DEVICES[number].id, (f"tcp://192.0.2.{number + 1}:{port}",), "own", 7421
    )


class House:
    """A device with its book, its meetings and its door."""

    def __init__(self, store: TrustStore, number: int) -> None:
        self.store, self.number = store, number
        self.found: list[Sighting] = []
        self.news: list[bool] = []
        self.book = AddressBook(store, lambda *_: None)
        self.meetings = Meetings(store, self.book, lambda: self.news.append(True))
        self.door = Door(store, lambda: self.news.append(True), 5.0, self.meetings.receive)

    async def open(self) -> None:
        await self.book.start(own(self.number), self.found.append)
        await self.door.open(HERE)

    async def visit(self, other: "House", **words: Any) -> Any:
        return await self.meetings.visit(HERE, other.door.port, **words)

    def knows(self, number: int) -> list[int]:
        return [each.version for each in self.book.records() if each.public == DEVICES[number].public]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[TrustStore]]:
    """Ada, Bob and Cid, in one mesh, which all know."""
    scribe = Scribe()
    for guest in (BOB, CID):
        scribe.invite(ADA, guest)
    made = [open_store(tmp_path, number) for number in range(3)]
    for store in made:
        store.join(scribe.mesh, scribe.entries)
    yield made
    for store in made:
        store.close()


@asynccontextmanager
async def houses(stores: list[TrustStore]) -> AsyncIterator[list[House]]:
    made = [House(store, number) for number, store in enumerate(stores)]
    for house in made:
        await house.open()
    try:
        yield made
    finally:
        for house in made:
            await house.door.close()
            await house.book.stop()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await until(lambda: not [task for task in others if not task.done()], what="the end of all tasks")

    asyncio.run(limited())


async def refused(attempt: Awaitable[object]) -> str:
    with pytest.raises(Refusal) as caught:
        await attempt
    return caught.value.reason


def test_two_members_say_where_they_are_and_whom_they_know(stores: list[TrustStore]) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, bob, cid):
            bob.book.take(sign_record(DEVICES[CID], cid.store.mesh, own(CID), 5))
            meeting = await ada.visit(bob, dial=7420)
            assert (meeting.store, meeting.device, meeting.name) == (store_of(BOB), DEVICES[BOB].id, "peer1")
            assert (meeting.back, meeting.seen) == ("", HERE)
            assert abs(meeting.skew) < 30
            assert [seen.endpoints for seen in ada.found] == [
                ("tcp://192.0.2.2:7000",), ("tcp://127.0.0.1:7420", "tcp://192.0.2.2:7000"), ("tcp://192.0.2.3:7000",),
            ]  # fmt: skip
            assert [seen.device for seen in bob.found[-1:]] == [DEVICES[ADA].id]
            assert ada.knows(CID) == [5]
            assert ada.book.record
            assert bob.knows(ADA) == [ada.book.record.version]

    run(test)


def test_without_a_port_the_one_it_names_is_dialled_where_it_answered(stores: list[TrustStore]) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, bob, _):
            await ada.visit(bob)
            assert ada.found[1].endpoints[0] == "tcp://127.0.0.1:7000"

    run(test)


def test_the_clock_of_the_other_side_is_compared(stores: list[TrustStore], monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, bob, _):
            real = time.time_ns
            monkeypatch.setattr("time.time_ns", lambda: real() + 3600 * 10**9)
            assert 3590 < (await ada.visit(bob)).skew < 3610

    run(test)


def test_a_copy_of_this_very_peer_is_told_from_our_own_door(stores: list[TrustStore], tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with open_store(tmp_path / "copy", ADA) as copied:
        copied.join(stores[ADA].mesh, stores[ADA].beyond({}))

        async def test() -> None:
            async with houses(stores) as (ada, bob, _), AsyncExitStack() as stack:
                copy = House(copied, ADA)
                await copy.open()
                stack.push_async_callback(copy.door.close)
                await copy.book.start(own(ADA, 7007), copy.found.append)
                itself, other = await ada.visit(ada), await ada.visit(copy)
                assert (itself.store, itself.ourselves) == (store_of(ADA), True)
                assert (other.store, other.ourselves) == (store_of(ADA), False)
                # Where there is no multicast, the door of a third one tells the later of the two.
                ada.found.clear()
                copy.found.clear()
                await ada.visit(bob)
                await copy.visit(bob)
                assert ("tcp://192.0.2.1:7000",) in [seen.endpoints for seen in copy.found]
                assert store_of(ADA) not in [seen.store for seen in ada.found]

        run(test)


@pytest.mark.parametrize("expected", ["reached", "refused"])
def test_the_way_back_is_tried_when_asked_for(stores: list[TrustStore], expected: str) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, bob, cid):
            port = cid.door.port
            if expected == "refused":
                await cid.door.close()
            assert (await ada.visit(bob, back=port)).back == expected

    run(test)


def test_the_way_back_may_lead_nowhere(stores: list[TrustStore], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.discovery.meeting.TRY_PATIENCE", 0.1)

    async def test() -> None:
        with socket.create_server((HERE, 0), backlog=0) as full, ExitStack() as waiting:
            port = full.getsockname()[1]
            for _ in range(4):  # nobody accepts, and there is no more room to wait
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)  # noqa: FBT003
                one.connect_ex((HERE, port))
            async with houses(stores) as (ada, bob, _):
                assert (await ada.visit(bob, back=port)).back == "silence"

    run(test)


def test_a_member_of_which_the_other_has_never_heard_is_known_afterwards(tmp_path: Path) -> None:
    """Cid was invited by Bob while Ada was off; each lacks what the other knows."""
    scribe = Scribe()
    scribe.invite(ADA, BOB)
    with open_store(tmp_path, ADA) as old, open_store(tmp_path, CID) as new:
        old.join(scribe.mesh, scribe.entries)
        scribe.invite(BOB, CID)
        new.join(scribe.mesh, scribe.entries)

        async def test() -> None:
            ada, cid = House(old, ADA), House(new, CID)
            await ada.open()
            await cid.open()
            assert living(old) == {"ada", "bob"}
            await cid.visit(ada)
            assert living(old) == {"ada", "bob", "cid"}
            assert ada.news
            assert ada.knows(CID)
            old.say(Rename(DEVICES[ADA].public, "queen"))
            await cid.visit(ada)
            assert living(new) == {"queen", "bob", "cid"}, "and the visitor learns what it lacked"
            assert cid.news
            for house in (ada, cid):
                await house.door.close()

        run(test)


def test_a_peer_that_visits_itself_learns_its_own_store_and_nothing_else(stores: list[TrustStore]) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, *_):
            assert (await ada.visit(ada)).store == store_of(ADA)
            assert [record.public for record in ada.book.records()] == [DEVICES[ADA].public]

    run(test)


def test_who_is_in_no_mesh_does_not_ask(tmp_path: Path) -> None:
    async def test() -> None:
        with open_store(tmp_path, ADA) as store, pytest.raises(PairingError, match="in no mesh"):
            await House(store, ADA).meetings.visit(HERE, 1)

    run(test)


# --- who gets no answer ---


def test_a_revoked_member_is_refused_and_its_record_not_kept(stores: list[TrustStore]) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, bob, _):
            stores[ADA].say(stores[ADA].revocation(DEVICES[BOB].public))
            assert await refused(bob.visit(ada)) == "revoked"
            assert ada.found == []
            with pytest.raises(PairingError, match="no member"):
                await ada.visit(bob)
            assert ada.found == []

    run(test)


def test_a_device_that_was_revoked_itself_answers_nobody(stores: list[TrustStore]) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, bob, _):
            stores[BOB].take(rows([stores[ADA].say(stores[ADA].revocation(DEVICES[BOB].public))]))
            bob.book.recheck()
            assert await refused(ada.visit(bob)) == "stranger"

    run(test)


def test_a_member_without_an_address_book_says_so_to_members_only(stores: list[TrustStore]) -> None:
    """As with a `discovery` that leaves static out: whoever asks is no stranger."""

    async def test() -> None:
        async with houses(stores) as (ada, bob, _):
            await bob.book.stop()
            assert await refused(ada.visit(bob)) == "closed"
            foreign = sign_record(DEVICES[4], ada.store.mesh, own(4), 5)
            assert await refused(put(bob, question(foreign))) == "stranger"

    run(test)


def test_a_member_of_another_mesh_learns_nothing(tmp_path: Path, stores: list[TrustStore]) -> None:
    async def test() -> None:
        with open_store(tmp_path, 4) as foreign:
            foreign.found("eve")
            eve = House(foreign, 4)
            await eve.open()
            async with houses(stores) as (ada, *_):
                assert await refused(eve.visit(ada)) == "entries"
                assert await refused(ada.visit(eve)) == "entries"
                assert await refused(put(ada, question(eve.book.record))) == "stranger", "without its entries neither"
                assert (ada.found, eve.found) == ([], [])
            await eve.door.close()

    run(test)


def test_a_record_of_another_mesh_is_refused_although_a_member_has_signed_it(stores: list[TrustStore]) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, *_):
            record = sign_record(DEVICES[BOB], b"m" * 32, own(BOB), 5)
            assert await refused(put(ada, question(record))) == "stranger"
            assert ada.found == []

    run(test)


def question(record: AddressRecord | None, port: int = 0, nonce: bytes = b"n" * 16) -> bytes:
    assert record
    packed: bytes = msgpack.packb([1, record.payload, record.signature, port, nonce])
    return packed


async def put(house: House, message: bytes) -> bytes:
    """Put a question at a door as a stranger does; return the answer.

    Raises:
        Refusal: It was refused.
    """
    reader, writer = await asyncio.open_connection(HERE, house.door.port)
    try:
        await send(writer, MEET, message, 5)
        kind, answer = await receive(reader, MAX_MESSAGE, 5)
    finally:
        writer.close()
        await writer.wait_closed()
    if kind == REFUSED:
        raise Refusal(answer.decode())
    assert kind == MEET
    return answer


def test_who_repeats_a_members_question_learns_the_device_key_and_no_more(stores: list[TrustStore]) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, bob, _):
            message = question(bob.book.record)
            answers = [await put(ada, message) for _ in range(2)]
            for answer in answers:
                assert answer[:32] == DEVICES[ADA].public
                for word in (b"ada", b"peer0", store_of(ADA), stores[ADA].mesh, b"192.0.2"):
                    assert word not in answer[32:]
                for device in DEVICES[2:]:
                    with pytest.raises(Exception, match="ecrypt"):
                        open_answer(answer, device)
                assert open_answer(answer, DEVICES[BOB])[0] == 1
            assert answers[0][32:] != answers[1][32:]

    run(test)


def open_answer(answer: bytes, device: Device) -> list[Any]:
    from zmesh.trust.device import curve_key  # noqa: PLC0415

    box = Box(PrivateKey(device.curve_secret), PublicKey(curve_key(answer[:32])))
    fields: list[Any] = msgpack.unpackb(box.decrypt(answer[32:]))
    return fields


def test_who_repeats_an_old_question_brings_no_old_address_back(stores: list[TrustStore]) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, bob, _):
            old = question(bob.book.record)
            await bob.book.update(own(BOB, 7777))
            await bob.visit(ada)
            assert bob.book.record
            await put(ada, old)
            assert ada.knows(BOB) == [bob.book.record.version]
            assert ada.found[-1].endpoints == ("tcp://192.0.2.2:7777",)

    run(test)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=9) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=10,
)


def deep() -> bytes:
    return b"\x91" * 1000 + b"\x01"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.binary(max_size=200) | values.map(msgpack.packb) | st.just(b"\x80") | st.just(deep()))
def test_any_question_is_answered_or_refused(
    stores: list[TrustStore], caplog: pytest.LogCaptureFixture, message: bytes
) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, *_):
            assert await refused(put(ada, message)) in ("stranger", "trouble")
            assert ada.found == []

    run(test)
    assert "Traceback" not in caplog.text, "strangers can bring it about at any rate"


@pytest.mark.parametrize("change", [{"port": -1}, {"port": 65536}, {"nonce": b""}, {"nonce": b"n" * 17}])
def test_a_question_out_of_bounds_is_refused(stores: list[TrustStore], change: dict[str, Any]) -> None:
    async def test() -> None:
        async with houses(stores) as (ada, bob, _):
            assert await refused(put(ada, question(bob.book.record, **change))) == "trouble"

    run(test)


# --- doors that lie ---


@asynccontextmanager
async def liar(answer: Callable[[bytes], object], kind: bytes = MEET) -> AsyncIterator[int]:
    """A door that takes all entries and answers the question as the test says; with None it says no more."""

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            said, message = await receive(reader, MAX_KNOCK, 5)
            while said == SHOW:
                await send(writer, DONE, b"", 5)
                said, message = await receive(reader, MAX_KNOCK, 5)
            made = answer(message)
            if isinstance(made, bytes):
                await send(writer, kind, made, 5)
            await reader.read()
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(visit, HERE, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def sealed(message: bytes, number: int, *fields: object, claim: int | None = None) -> bytes:
    """An answer to Ada by a device, with those fields; the nonce of the question stands for `...`."""
    nonce = msgpack.unpackb(message)[4]
    packed = msgpack.packb([nonce if field is ... else field for field in fields])
    box = Box(PrivateKey(DEVICES[number].curve_secret), PublicKey(DEVICES[ADA].curve_public))
    return DEVICES[number if claim is None else claim].public + bytes(box.encrypt(packed))


def records_of(*records: AddressRecord) -> bytes:
    return next(iter(pack_records(records, 1 << 20)), b"")


def record(number: int, mesh: bytes, version: int = 1) -> AddressRecord:
    return sign_record(DEVICES[number], mesh, own(number), version)


def against_ada(
    stores: list[TrustStore], answer: Callable[[bytes], bytes | None], match: str, kind: bytes = MEET
) -> House:
    """Let Ada visit a liar; she must find out, and believe nothing."""
    made: list[House] = []

    async def test() -> None:
        async with houses(stores) as (ada, *_), liar(answer, kind) as port:
            made.append(ada)
            with pytest.raises(PairingError, match=match):
                await ada.meetings.visit(HERE, port)
            assert ada.found == []

    run(test)
    return made[0]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(max_size=120) | st.just(bytes(32)) | st.just(b"\x01" + bytes(90)))
def test_an_answer_of_garbage_is_an_error_and_no_more(stores: list[TrustStore], garbage: bytes) -> None:
    """Half of all keys of 32 bytes are points of the curve, and half are not."""
    against_ada(stores, lambda _: garbage, "no zmesh peer that knows this device")


def test_an_answer_that_is_too_long_is_not_read(stores: list[TrustStore]) -> None:
    against_ada(stores, lambda _: bytes(MAX_MESSAGE + 1), "a frame of")


@pytest.mark.parametrize(
    ("kind", "match"), [(DONE, "does not speak"), (b"Z", "does not speak"), (REFUSED, "could not")]
)
def test_an_answer_of_another_kind_is_none(stores: list[TrustStore], kind: bytes, match: str) -> None:
    against_ada(stores, lambda _: b"", match, kind)


@pytest.mark.parametrize(
    "fields",
    [
        (), (1,), (2, b"", b"", 1, "", "", ...), (1, "", b"", 1, "", "", ...), (1, b"", None, 1, "", "", ...),
        (1, b"", b"", 1.5, "", "", ...), (1, b"", b"", True, "", "", ...), (1, b"", b"", 1, b"", "", ...),
        (1, b"", b"", 1, "", [], ...), (1, b"", b"", 1, "", ""), (1, b"", b"", 1, "", "", "n"),
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_of_another_version(stores: list[TrustStore], fields: tuple[object, ...]) -> None:
    against_ada(stores, lambda message: sealed(message, BOB, *fields), "another version")


def test_an_answer_that_is_no_list_is_of_another_version(stores: list[TrustStore]) -> None:
    def answer(_: bytes) -> bytes:
        box = Box(PrivateKey(DEVICES[BOB].curve_secret), PublicKey(DEVICES[ADA].curve_public))
        return DEVICES[BOB].public + bytes(box.encrypt(msgpack.packb("hello")))

    against_ada(stores, answer, "another version")


def test_an_answer_of_yesterday_is_none_today(stores: list[TrustStore]) -> None:
    """Who sits on the way has recorded a meeting, and plays it at an address of its own."""

    async def test() -> None:
        async with houses(stores) as (ada, bob, _):
            kept: list[bytes] = []

            async def recorded(message: bytes) -> bytes:
                kept.append(await put(bob, message))
                return kept[-1]

            asked: list[bytes] = []
            async with liar(asked.append) as port:
                visiting = asyncio.ensure_future(ada.meetings.visit(HERE, port))
                await until(lambda: asked, what="the question")
                visiting.cancel()
                await asyncio.gather(visiting, return_exceptions=True)
            answer = await recorded(asked[0])
            async with liar(lambda _: answer) as port:
                with pytest.raises(PairingError, match="somebody else's question"):
                    await ada.meetings.visit(HERE, port)
            assert ada.found == []

    run(test)


def test_an_answer_by_another_device_than_it_says_cannot_be_read(stores: list[TrustStore]) -> None:
    mesh = stores[ADA].mesh
    against_ada(
        stores,
        lambda message: sealed(message, 4, 1, b"", records_of(record(BOB, mesh)), 1, "", "", ..., claim=BOB),
        "no zmesh peer that knows this device",
    )


def test_an_answer_by_a_stranger_is_not_believed(stores: list[TrustStore]) -> None:
    mesh = stores[ADA].mesh
    against_ada(
        stores, lambda message: sealed(message, 4, 1, b"", records_of(record(BOB, mesh)), 1, "", "", ...), "no member"
    )


def test_entries_of_a_stranger_are_not_kept(stores: list[TrustStore]) -> None:
    scribe = Scribe()
    scribe.invite(ADA, 4)
    alone = [entry for entry in scribe.entries if entry.author == DEVICES[4].public]
    (entries,) = pack_entries(alone, 1 << 20)
    ada = against_ada(stores, lambda message: sealed(message, 4, 1, entries, b"", 1, "", "", ...), "not to be believed")
    assert "eve" not in living(ada.store)


@pytest.mark.parametrize("form", ["none", "garbage", "deep", "forged", "another's", "another mesh's"])
def test_a_member_that_shows_no_record_of_its_own_is_not_believed(stores: list[TrustStore], form: str) -> None:
    mesh = stores[ADA].mesh
    good = record(BOB, mesh)
    shown = {
        "none": b"",
        "garbage": b"\xc1",
        "deep": msgpack.packb([[deep(), bytes(64)]]),
        "forged": msgpack.packb([[good.payload, bytes(64)]]),
        "another's": records_of(record(CID, mesh), good),
        "another mesh's": records_of(record(CID, b"m" * 32)),
    }[form]
    against_ada(stores, lambda message: sealed(message, BOB, 1, b"", shown, 1, "", "", ...), "the peer there")


def test_what_a_member_says_of_the_visit_is_taken_for_what_it_may_be(stores: list[TrustStore]) -> None:
    async def test() -> None:
        def answer(message: bytes) -> bytes:
            said = ("\x1b[31mcome", "<script>" * 9)
            return sealed(message, BOB, 1, b"", records_of(record(BOB, stores[ADA].mesh)), 1, *said, ...)

        async with houses(stores) as (ada, *_), liar(answer) as port:
            meeting = await ada.meetings.visit(HERE, port)
            assert (meeting.back, meeting.seen) == ("", "")

    run(test)


def test_records_of_others_that_a_member_passes_on_are_checked_like_any(stores: list[TrustStore]) -> None:
    """An old one of Cid, one of a stranger, one of another mesh."""

    async def test() -> None:
        mesh = stores[ADA].mesh

        def answer(message: bytes) -> bytes:
            passed = [record(BOB, mesh), record(CID, mesh, 3), record(4, mesh), record(CID, b"m" * 32, 9)]
            return sealed(message, BOB, 1, b"", records_of(*passed), 1, "", "", ...)

        async with houses(stores) as (ada, *_), liar(answer) as port:
            ada.book.take(record(CID, mesh, 5))
            await ada.meetings.visit(HERE, port)
            assert ada.knows(CID) == [5]
            assert {seen.device for seen in ada.found} == {DEVICES[BOB].id, DEVICES[CID].id}

    run(test)


def test_a_door_that_hangs_is_given_up(stores: list[TrustStore], monkeypatch: pytest.MonkeyPatch) -> None:
    from zmesh.trust import visitor  # noqa: PLC0415

    monkeypatch.setattr(visitor.ask, "__kwdefaults__", {"patience": 0.1})

    async def test() -> None:
        async with houses(stores) as (ada, *_), liar(lambda _: None) as port:
            with pytest.raises(Unreachable, match="broke off"):
                await ada.meetings.visit(HERE, port)

    run(test)
