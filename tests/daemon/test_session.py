"""One client of the daemon, also a hostile or a mad one: none of its mistakes is anybody else's."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.daemon.served import Raw, serving
from tests.waiting import until
from zmesh.daemon.session import MAX_REQUESTS, Session
from zmesh.daemon.wire import FAILED, HEAD, HELLO, MAX_FRAME, MAX_HELD, OK, VERSION, pack
from zmesh.protocol.bounds import MAX_ATTEMPTS

ID = bytes(range(16))
BODY = [b"hello", False]
SEND = {"ident": ID, "to": "code", "body": BODY, "type": "x", "priority": "normal", "ttl": None, "thread": None,
        "reply_to": None, "strict": False}  # fmt: skip
ASK = {"ident": ID, "to": "other", "body": BODY, "timeout": 0.01, "type": "x", "priority": "normal", "strict": False}
REQUESTS: dict[str, dict[str, Any]] = {
    "poll": {"most": 1, "timeout": 0.0},
    "forget": {"number": 7},
    "done": {"lease": 1, "turn": 0, "reply": BODY, "type": "x"},
    "nack": {"lease": 1, "delay": 0.0, "counted": True},
    "reply": {"lease": 1, "turn": 0, "body": BODY, "type": "x"},
    "status": {"status": "busy"},
    "report": {"health": "degraded", "text": "no display"},
    "send": SEND,
    "ask": ASK,
    "ping": {},
    "receipt": {"ident": ID},
    "wait": {"ident": ID, "until": "stored", "timeout": 0.0},
    "cancel": {"ident": ID},
    "trace": {"ident": ID},
    "peers": {},
    "agents": {},
    "find": {"address": "code", "timeout": 0.0},
}
HELD = {"lease": 1, "id": ID, "source": ID, "sender": "code@laptop", "to": "code", "type": "x", "priority": "normal",
        "thread": b"", "reply_to": b"", "sent_at": 0, "attempt": 1}  # fmt: skip
GREETING = {"v": VERSION, "pid": 1, "held": [HELD], "mailbox": "code", "here": True, "reach": "client", "role": "r",
            "capabilities": ["c"], "project": "p", "status": "busy", "adapter": "desktop",
            "report": {"health": "failed", "text": "x"}}  # fmt: skip
WRONG: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 2**64 - 1, 1.5, float("nan"), float("inf"), "", "x", "x" * 300, "a b", b"", b"x", ID,
    [], [1], [b"x", 1], [b"\xc1", True], ["x", True], [b"\x91" * 2000, True], [[]], {}, {"a": 1}, [None] * 40, "\0",
)  # fmt: skip


def is_short(timeout: Any) -> bool:
    """Say whether a request with that timeout is answered soon, rightly or wrongly."""
    return timeout is not None and not (isinstance(timeout, int | float) and timeout > 2)


async def taken(peer: zmesh.Peer, raw: Raw, count: int = 1) -> list[dict[str, Any]]:
    """Send messages to the client's mailbox, and let it take them."""
    agent = await peer.agent("other")
    for number in range(count):
        await agent.send("code", {"n": number})
    _, status, messages = await raw.ask("poll", {"most": count, "timeout": 10.0})
    assert (status, len(messages)) == (OK, count)
    return list(messages)


def test_every_verb_is_tried() -> None:
    assert set(REQUESTS) | {"hello"} == set(Session._VERBS)  # noqa: SLF001


@pytest.mark.parametrize("verb", sorted(REQUESTS))
def test_wrong_arguments_of_any_verb_are_errors_of_that_request_and_of_nothing_else(verb: str, home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, _, place):
            raw = await Raw.greeted(place)
            await peer.agent("other")
            names = REQUESTS[verb]
            wrong = [names | {name: value} for name in names for value in WRONG if name != "timeout" or is_short(value)]
            wrong += [{key: names[key] for key in names if key != name} for name in names]
            wrong += [names | {"self": 1}, names | {"no such": 1}, {"": 1}]
            for arguments in wrong:
                (message,) = await taken(peer, raw) if verb in {"done", "nack", "reply"} else [{}]
                if message and arguments.get("lease") == 1:
                    arguments["lease"] = message["lease"]
                answer = await raw.ask(verb, arguments)
                assert answer[1] in {OK, FAILED}, arguments
                if answer[1] == FAILED:
                    name, text = answer[2:]
                    assert name != "PeerFailed", (arguments, text)
                    assert "an error in zmesh" not in text, (arguments, text)
                    assert len(text) <= 2000
                if message:
                    await raw.ask("done", {"lease": message["lease"]})
            assert (await raw.ask("send", SEND | {"ident": b"i" * 16}))[1] == OK

    asyncio.run(scenario())


def test_wrong_arguments_of_a_hello_are_errors_and_nothing_is_left_of_them(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, server, place):
            await peer.agent("other")
            wrong = [GREETING | {name: value} for name in GREETING for value in WRONG]
            wrong += [GREETING | {"held": [HELD | {name: value}]} for name in HELD for value in WRONG]
            wrong += [GREETING | {"held": [{}]}, GREETING | {"held": [7]}, {}, {"v": VERSION + 1}]
            for arguments in wrong:
                raw = await Raw.connect(place)
                answer = await raw.ask("hello", arguments, HELLO)
                if answer[1] == FAILED:
                    assert answer[2] != "PeerFailed", (arguments, answer)
                    assert "an error in zmesh" not in answer[3], (arguments, answer)
                await raw.close()
            await until(lambda: not server.sessions)
            await until(lambda: not any(info.last_seen == 0 for info in peer.agents() if info.name != "other"))
            await (await Raw.greeted(place)).close()

    asyncio.run(scenario())


@pytest.mark.parametrize("verb", ["", "dance", "__init__", "_VERBS", 7, None, [1], {"a": 1}, b"poll", "x" * 100_000])
def test_an_unknown_verb_is_an_error(verb: Any, home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (_, _, place):
            raw = await Raw.greeted(place)
            _, status, name, text = await raw.ask(verb, {})
            assert (status, name) == (FAILED, "DaemonError")
            assert len(text) <= 2000
            assert (await raw.ask("poll", {}))[1:] == [OK, []]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        (MAX_FRAME + 1).to_bytes(HEAD, "big"),
        b"\0\0\0\1\xc1",
        b"\0\0\0\0",
        pack([1, "poll", []]),
        pack([1, "poll", None]),
        pack(["one", "poll", {}]),
        pack([5, "poll", {"timeout": 9.0}]) * 2,
    ],
)
def test_garbage_ends_the_connection_and_no_other(data: bytes, home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (_, server, place):
            good, bad = await Raw.greeted(place), await Raw.greeted(place, "bad")
            bad.writer.write(data)
            while await bad.heard():
                pass
            await until(lambda: len(server.sessions) == 1)
            assert (await good.ask("poll", {}))[1:] == [OK, []]

    asyncio.run(scenario())


def test_before_its_hello_a_client_has_no_mailbox_and_a_second_one_is_refused(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, _, place):
            raw = await Raw.connect(place)
            for verb in ("poll", "send", "ask", "status"):
                _, status, name, text = await raw.ask(verb, REQUESTS[verb])
                assert (status, name) == (FAILED, "DaemonError"), text
                assert "which mailbox" in text
            for number in range(2):
                raw.say("hello", {"v": VERSION, "mailbox": f"box{number}"}, number)
            answers = sorted([await raw.heard(), await raw.heard()])
            assert [answer[1] for answer in answers] == [OK, FAILED]
            assert [info.name for info in peer.agents() if info.last_seen == 0] == ["box0"]

    asyncio.run(scenario())


def test_a_client_of_another_version_is_told_what_to_do(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (_, _, place):
            answer = await (await Raw.connect(place)).ask("hello", {"v": VERSION + 1}, HELLO)
            assert answer[1:3] == [FAILED, "DaemonError"]
            assert "`zmesh down`" in answer[3]

    asyncio.run(scenario())


def test_one_request_too_many_is_refused_and_the_others_go_on(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, _, place):
            raw = await Raw.greeted(place)
            numbers = [raw.say("poll", {"most": 1, "timeout": 60.0}) for _ in range(MAX_REQUESTS)]
            late = raw.say("peers", {})
            number, status, name, text = await raw.heard()
            assert (number, status, name) == (late, FAILED, "MeshFull")
            assert str(MAX_REQUESTS) in text
            agent = await peer.agent("other")
            for number in range(MAX_REQUESTS):
                await agent.send("code", number)
            answers = [await raw.heard() for _ in numbers]
            assert sorted(answer[0] for answer in answers) == numbers
            assert all(len(answer[2]) == 1 for answer in answers)

    asyncio.run(scenario())


def test_a_client_that_never_reads_its_answers_is_not_heard_further_and_harms_nobody(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, server, place):
            raw, good = await Raw.greeted(place), await Raw.greeted(place, "good")
            agent = await peer.agent("other")
            await asyncio.gather(*(agent.send("code", bytes(200_000)) for _ in range(40)))
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(40):
                raw.say("poll", {"most": 1, "timeout": 60.0})
            (session,) = (each for each in server.sessions if each.mailbox == "code")
            await until(lambda: session.holds == 40)
            for _ in range(10_000):
                raw.say("agents", {})
            await asyncio.sleep(0)
            assert (await good.ask("send", SEND | {"to": "good"}))[1] == OK
            assert session.holds == 40
            raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
            answers = [await raw.heard() for _ in range(10_040)]
            assert {answer[2] for answer in answers if answer[1] == FAILED} <= {"MeshFull"}
            assert sum(bool(answer[2]) for answer in answers if answer[1] == OK) > 40
            raw.writer.transport.abort()
            await until(lambda: len(server.sessions) == 1)

    asyncio.run(scenario())


def test_a_client_that_holds_too_much_gets_no_more(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmesh.daemon.session.MAX_HELD", 3)
    assert MAX_HELD > 3

    async def scenario() -> None:
        async with serving(home) as (peer, _, place):
            raw = await Raw.greeted(place)
            agent = await peer.agent("other")
            await asyncio.gather(*(agent.send("code", number) for number in range(5)))
            _, _, messages = await raw.ask("poll", {"most": 5, "timeout": 5.0})
            assert len(messages) == 3
            _, status, name, text = await raw.ask("poll", {"most": 1})
            assert (status, name) == (FAILED, "MeshFull")
            assert "`done`" in text
            assert (await raw.ask("done", {"lease": messages[0]["lease"]}))[1] == OK
            first, second = raw.say("poll", {"most": 5, "timeout": 5.0}), raw.say("poll", {"most": 5, "timeout": 5.0})
            answers = sorted([await raw.heard(), await raw.heard()])
            assert [answer[:2] for answer in answers] == [[first, OK], [second, FAILED]], "what is under way counts"

    asyncio.run(scenario())


def test_what_comes_with_the_last_words_of_a_client_is_carried_out(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, server, place):
            raw = await Raw.greeted(place)
            (message,) = await taken(peer, raw)
            raw.writer.write(pack([8, "done", {"lease": message["lease"]}]) + pack([9, "send", SEND | {"to": "other"}]))
            raw.writer.close()
            await until(lambda: not server.sessions)
            (got,) = await (await peer.agent("other")).poll(timeout=5)
            assert got.id == ID
            assert await (await peer.attach("code")).take(9, 0.2) == []

    asyncio.run(scenario())


def test_what_a_client_has_taken_goes_to_others_when_it_is_gone(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, _, place):
            raw = await Raw.greeted(place)
            messages = await taken(peer, raw, 3)
            await raw.close()
            other = await Raw.greeted(place)
            again: list[dict[str, Any]] = []
            while len(again) < 3:  # each is leased alone: one of them may have ended its holder
                _, _, more = await other.ask("poll", {"most": 3, "timeout": 10.0})
                for message in more:
                    await other.ask("done", {"lease": message["lease"]})
                again += more
            assert sorted(m["id"] for m in again) == sorted(m["id"] for m in messages)
            assert {m["attempt"] for m in again} == {2}

    asyncio.run(scenario())


def test_a_daemon_that_ends_keeps_what_its_clients_have_for_them(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, server, place):
            raw = await Raw.greeted(place)
            (message,) = await taken(peer, raw)
            await server.close()
            assert await raw.heard() == []
            assert await (await peer.attach("code")).take(1, 0.2) == []
        told = {name: value for name, value in message.items() if name != "body"}
        async with zmesh.Peer("laptop", home=home, discovery=[], lease_grace=30.0) as peer:
            again = await peer.attach("code")
            from zmesh.daemon.spoken import to_delivery  # noqa: PLC0415

            await again.reclaim(to_delivery(told)).done()

    asyncio.run(scenario())


def test_a_forgotten_poll_is_answered_as_such_and_leaves_everything_to_others(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, _, place):
            raw = await Raw.greeted(place)
            number = raw.say("poll", {"most": 5, "timeout": 60.0})
            forget = raw.say("forget", {"number": number})
            answers = sorted([await raw.heard(), await raw.heard()])
            assert [answer[:2] for answer in answers] == [[number, FAILED], [forget, OK]]
            (message,) = await taken(peer, raw)
            done = raw.say("done", {"lease": message["lease"]})
            raw.say("forget", {"number": done})
            answers = sorted([await raw.heard(), await raw.heard()])
            assert [answer[1] for answer in answers] == [OK, OK], "what does not wait is not broken off"

    asyncio.run(scenario())


def test_polls_that_are_forgotten_all_the_time_cost_a_message_no_attempt(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, _, place):
            raw = await Raw.greeted(place)
            agent = await peer.agent("other")
            receipt = await agent.send("code", "often")
            for _ in range(3 * MAX_ATTEMPTS):
                number = raw.say("poll", {"most": 1, "timeout": 60.0})
                raw.say("forget", {"number": number})
                for answer in (await raw.heard(), await raw.heard()):
                    for told in answer[2] if answer[:2] == [number, OK] else []:
                        await raw.ask("nack", {"lease": told["lease"], "delay": 0.0, "counted": False})
            _, _, (message,) = await raw.ask("poll", {"most": 1, "timeout": 10.0})
            assert (message["id"], message["attempt"]) == (receipt.id, 1)

    asyncio.run(scenario())


def test_a_row_that_is_leased_anew_while_its_nack_is_written_is_held(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, _, place):
            raw = await Raw.greeted(place)
            (message,) = await taken(peer, raw)
            for _ in range(20):
                poll = raw.say("poll", {"most": 1, "timeout": 10.0})
                raw.say("nack", {"lease": message["lease"], "delay": 0.0, "counted": False})
                answers = {answer[0]: answer for answer in (await raw.heard(), await raw.heard())}
                (message,) = answers[poll][2]
            assert (await raw.ask("done", {"lease": message["lease"]}))[1] == OK

    asyncio.run(scenario())


def test_the_answer_to_a_question_is_leased_until_its_asker_has_it(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, server, place):
            other = await peer.agent("other")
            raw = await Raw.greeted(place)
            raw.say("ask", ASK | {"timeout": 30.0})
            (question,) = await other.poll(timeout=10)
            await question.done("far")
            assert (await raw.heard())[1] == OK
            await raw.close()  # before it could say that it has it
            await until(lambda: not server.sessions)
            (answer,) = await (await peer.agent("code")).poll(timeout=10)
            assert (answer.body, answer.reply_to, answer.attempt) == ("far", ID, 2)

    asyncio.run(scenario())


def test_the_same_send_twice_is_one_message(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (_, _, place):
            raw = await Raw.greeted(place)
            for _, again in itertools.product(range(2), (False, True)):
                _, status, told = await raw.ask("send", SEND | ({"again": True} if again else {}))
                assert (status, told["id"], told["address"]) == (OK, ID, "code@laptop")
            _, _, messages = await raw.ask("poll", {"most": 9, "timeout": 5.0})
            assert [message["id"] for message in messages] == [ID]
            await raw.ask("done", {"lease": messages[0]["lease"]})
            assert (await raw.ask("send", SEND))[2]["state"] == "handled"
            assert (await raw.ask("poll", {"most": 9}))[2] == []

    asyncio.run(scenario())


def test_what_was_begun_when_the_end_of_the_connection_is_seen_is_carried_out(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, server, place):
            raw = await Raw.greeted(place)
            (message,) = await taken(peer, raw)
            (session,) = server.sessions
            session._begin([99, "done", {"lease": message["lease"]}])  # noqa: SLF001
            await session.close()
            assert (await peer.receipt(message["id"])).state == "handled"

    asyncio.run(scenario())


def test_the_end_of_a_lease_is_not_the_end_of_the_next_one_of_that_row(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, server, place):
            raw = await Raw.greeted(place)
            (message,) = await taken(peer, raw)
            (session,) = server.sessions
            row, held = message["lease"], session._held  # noqa: SLF001
            nack = asyncio.create_task(session._nack(lease=row, delay=60.0))  # noqa: SLF001
            await asyncio.sleep(0)
            assert row not in held, "it may be leased anew from now on"
            anew = object()
            held[row] = anew  # type: ignore[assignment]
            await nack
            assert held.pop(row) is anew

    asyncio.run(scenario())


def test_who_comes_back_late_hears_whether_it_was_itself_or_another_who_finished(home: Path) -> None:
    """Whether a `done` that was under way when the daemon went has come to be is seen by how often it was taken."""

    async def scenario() -> None:
        async with serving(home) as (peer, _, place):
            raw = await Raw.greeted(place)
            own, others, back = await taken(peer, raw, 3)
            await raw.ask("done", {"lease": own["lease"]})
            await raw.close()
            code = await peer.attach("code")
            given_back = False
            for _ in range(3):  # each alone, as the one before it may have ended its holder
                (message,) = await code.take(1, 10.0)
                if message.id == back["id"] and not given_back:
                    given_back = True
                    await message.nack(0.0, counted=False)
                else:
                    await message.done()
            assert given_back
            held = [{name: of for name, of in message.items() if name != "body"} for message in (own, others, back)]
            late = await Raw.connect(place)
            _, status, told = await late.ask("hello", {"v": VERSION, "mailbox": "code", "held": held}, HELLO)
            assert (status, told["gone"]) == (OK, [own["lease"]])
            assert told["taken"] == [others["lease"], back["lease"]]

    asyncio.run(scenario())
