"""The reader: drains a socket in bounded turns, survives its callback, and stays silent once stopped."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import zmq

from tests.waiting import until
from zmesh.peer.zmq_reader import FRAMES_SKIPPED, MESSAGES_PER_TURN, Intake, Reader

Socket = zmq.Socket[bytes]


def pair(test: Callable[[Socket, Socket], Awaitable[None]]) -> None:
    async def body() -> None:
        context: zmq.Context[Socket] = zmq.Context()
        near, far = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        for end in (near, far):
            end.setsockopt(zmq.SNDHWM, 0)
            end.setsockopt(zmq.RCVHWM, 0)
        near.bind("inproc://pair")
        far.connect("inproc://pair")
        try:
            await test(near, far)
        finally:
            context.destroy(0)

    asyncio.run(body())


def test_everything_is_read_in_turns_that_leave_time_for_others() -> None:
    async def test(near: Socket, far: Socket) -> None:
        got: list[bytes] = []
        others: list[int] = []
        reader = Reader(asyncio.get_running_loop(), near, lambda: got.append(near.recv(zmq.DONTWAIT)))
        count = 10 * MESSAGES_PER_TURN
        for number in range(count):
            far.send(b"%d" % number)
        reader.start()
        reader.start()
        while len(got) < count:
            others.append(len(got))
            await asyncio.sleep(0)
        assert got == [b"%d" % number for number in range(count)]
        assert max(after - before for before, after in pairwise(others)) <= MESSAGES_PER_TURN
        far.send(b"later")
        await until(lambda: got[-1] == b"later", what="a message after the silence")
        reader.stop()
        reader.stop()

    pair(test)


def test_a_stopped_reader_reads_nothing_until_it_is_started_again() -> None:
    async def test(near: Socket, far: Socket) -> None:
        got: list[bytes] = []

        def take() -> None:
            got.append(near.recv(zmq.DONTWAIT))
            reader.stop()

        reader = Reader(asyncio.get_running_loop(), near, take)
        reader.poke()
        far.send(b"one")
        far.send(b"two")
        reader.start()
        await until(lambda: got, what="the first")
        reader.poke()
        await asyncio.sleep(0.05)
        assert got == [b"one"]
        reader.start()
        await until(lambda: got == [b"one", b"two"], what="the second")

    pair(test)


def test_a_message_sent_back_from_within_does_not_stall_the_socket() -> None:
    async def test(near: Socket, far: Socket) -> None:
        loop, got = asyncio.get_running_loop(), 0

        def echo(socket: Socket, reader: Callable[[], Reader]) -> None:
            nonlocal got
            message = socket.recv(zmq.DONTWAIT)
            got += 1
            socket.send(message)
            reader().poke()

        one = Reader(loop, near, lambda: echo(near, lambda: one))
        two = Reader(loop, far, lambda: echo(far, lambda: two))
        one.start()
        two.start()
        far.send(b"ball")
        two.poke()
        await until(lambda: got >= 5000, what="5,000 passes")
        one.stop()
        two.stop()

    pair(test)


def test_too_many_parts_are_skipped_in_pieces() -> None:
    async def test(near: Socket, far: Socket) -> None:
        intake = Intake(near, 2)
        far.send_multipart([b"x"] * (3 * FRAMES_SKIPPED))
        far.send_multipart([b"a", b"b"])
        pieces = 0
        while (frames := intake.read()) is None:
            pieces += 1
        assert pieces == 3
        assert [frame.bytes for frame in frames] == [b"a", b"b"]

    pair(test)
