"""A process ends between two steps of a delivery: what was begun is done again, and nobody sees it twice."""

import asyncio
from pathlib import Path

import zmesh
from tests.faults.puppet import MAILBOX
from tests.faults.support import PATIENCE, collect, nothing_more, peers, puppet, puppet_log, run, store_file
from tests.storm.journal import DONE, GOT, read_lines
from tests.storm.verdict import query
from tests.waiting import until

QUESTIONS = 4


def lines(home: Path, name: str, kind: str) -> list[list[str]]:
    """Return what a puppet wrote down of one kind."""
    return [words for words in read_lines(puppet_log(home, name)) if words[0] == kind]


def test_a_message_delivered_to_a_process_that_dies_comes_again_as_the_second_attempt(home: Path) -> None:
    async def test() -> None:
        async with peers(home, "a") as (a,):
            sender = await a.agent("sender")
            receipt = await sender.send(f"{MAILBOX}@b", "precious")
            with puppet("hold", "b", home):
                await until(lambda: lines(home, "b", GOT), PATIENCE, "the delivery")
                await receipt.stored(PATIENCE)
            with puppet("consume", "b", home) as child:
                await receipt.handled(PATIENCE)
                child.tell("quit")
                assert child.end() == 0
            first, second = lines(home, "b", GOT)
            assert first[1:4] == [receipt.id.hex(), "1", "precious"]
            assert second[1:4] == [receipt.id.hex(), "2", "precious"]
        assert query(store_file(home, "b"), "SELECT attempts, state FROM inbox") == [(2, 2)]

    run(test)


def test_a_question_is_answered_once_by_a_peer_that_is_killed_before_it_answers(home: Path) -> None:
    async def test() -> None:
        async with peers(home, "a") as (a,):
            asker = await a.agent("asker")
            with puppet("hold", "b", home):
                asking = asyncio.create_task(asker.ask(f"{MAILBOX}@b", "who?", timeout=PATIENCE))
                await until(lambda: lines(home, "b", GOT), PATIENCE, "the question")
            with puppet("answer", "b", home):
                answer = await asking
                assert answer.body == {"answer": "who?"}
                assert answer.sender == f"{MAILBOX}@b"
                await nothing_more(asker)
        assert [line[2] for line in lines(home, "b", GOT)] == ["1", "2"]
        assert query(store_file(home, "a"), "SELECT count(*) FROM inbox") == [(1,)]

    run(test)


def test_an_answer_that_was_committed_arrives_once_though_its_peer_is_killed_at_once(home: Path) -> None:
    async def ask(asker: zmesh.Agent, number: int) -> None:
        with puppet("answer", "b", home) as child:
            asking = asyncio.create_task(asker.ask(f"{MAILBOX}@b", number, timeout=PATIENCE))
            await until(lambda: len(lines(home, "b", DONE)) > number, PATIENCE, "the answer is on the answerer's disk")
            child.kill()
        with puppet("idle", "b", home):  # the peer alone delivers what was left behind
            assert (await asking).body == {"answer": number}

    async def test() -> None:
        async with peers(home, "a") as (a,):
            asker = await a.agent("asker")
            for number in range(QUESTIONS):
                await ask(asker, number)
            await nothing_more(asker)
        assert query(store_file(home, "a"), "SELECT count(*), count(DISTINCT id) FROM inbox") == [(QUESTIONS,) * 2]

    run(test)


def test_an_asker_that_was_killed_finds_the_answer_in_its_inbox(home: Path) -> None:
    async def test() -> None:
        with puppet("ask", "a", home, f"{MAILBOX}@b"), puppet("hold", "b", home):
            await until(lambda: lines(home, "b", GOT), PATIENCE, "the question")
        with puppet("answer", "b", home):
            async with peers(home, "a") as (a,):
                (answer,) = await collect(await a.agent(MAILBOX), 1)
                (question,) = lines(home, "b", GOT)[:1]
                assert answer.reply_to.hex() == question[1]
                assert answer.body == {"answer": "who?"}

    run(test)


def test_a_sender_killed_right_after_send_has_returned_delivers_in_its_next_life(home: Path) -> None:
    async def test() -> None:
        with puppet("send", "a", home, f"{MAILBOX}@b", "50", "100"):
            await until(lambda: len(lines(home, "a", "S")) == 50, PATIENCE, "the sends have returned")
        async with peers(home, "b") as (b,):
            receiver = await b.agent(MAILBOX)
            with puppet("idle", "a", home):
                messages = await collect(receiver, 50)
            assert [message.body["n"] for message in messages] == list(range(50))
            assert [message.id.hex() for message in messages] == [line[1] for line in lines(home, "a", "S")]
            await nothing_more(receiver)

    run(test)
