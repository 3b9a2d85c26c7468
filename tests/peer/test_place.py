"""A peer is used where it was started: elsewhere an error names the rule, and harms neither side."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.conftest import new_peer, take, two_agents
from tests.waiting import until

SOON = 20.0
RULE = "in the event loop it was started in, and nowhere else: .*run_coroutine_threadsafe"
FORKED = "belongs to process {}, of which this one is a fork: open a peer of another name here"
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


async def verbs(peer: zmesh.Peer, code: zmesh.Agent, receipt: zmesh.Receipt) -> list[Callable[[], Awaitable[Any]]]:
    """Everything a program can do with a peer."""
    await code.send("code", "taken")
    message = await take(code)

    async def now(call: Callable[[], object]) -> None:
        call()

    return [
        lambda: code.send("code", "hello"),
        lambda: code.ask("code", "hello", timeout=1),
        lambda: anext(code.inbox()),
        code.poll,
        code.detach,
        lambda: code.receipt(receipt.id),
        lambda: code.receipt(bytes(range(16))),
        receipt.stored,
        lambda: now(receipt.cancel),
        message.done,
        lambda: message.reply("hello"),
        message.nack,
        lambda: peer.agent("other"),
        lambda: peer.wait_for("nobody"),
        lambda: now(peer.peers),
    ]


async def refused(calls: list[Callable[[], Awaitable[Any]]], rule: str) -> None:
    for call in calls:
        async with asyncio.timeout(SOON):
            with pytest.raises(zmesh.WrongLoop, match=rule):
                await call()


def in_thread(coroutine: Coroutine[Any, Any, None]) -> BaseException | None:
    """Run it in a loop of another thread; return what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(coroutine)
        except BaseException as error:  # noqa: BLE001 - the test must see it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return raised[0] if raised else None


def test_another_thread_is_refused_and_told_the_way(home: Path) -> None:
    async def scenario() -> None:
        async with new_peer("laptop", home) as laptop:
            code = await laptop.agent("code")
            receipt = await code.send("code@nowhere", "hello")
            calls = await verbs(laptop, code, receipt)
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(None, in_thread, refused([*calls, laptop.close], RULE)) is None
            assert [message.body for message in await code.poll()] == []
            await code.send("code", "unharmed")
            assert [message.body for message in await code.poll()] == ["unharmed"]

            def as_told() -> str:
                return asyncio.run_coroutine_threadsafe(sent(), loop).result(SOON).state

            async def sent() -> zmesh.Receipt:
                return await code.send("code", "from a thread")

            assert await loop.run_in_executor(None, as_told) == "stored"

    asyncio.run(scenario())


def test_another_loop_of_the_same_thread_is_refused(home: Path) -> None:
    kept: list[Any] = []

    async def first() -> None:
        laptop = new_peer("laptop", home)
        await laptop.start()
        kept[:] = [laptop, await laptop.agent("code")]

    async def second() -> None:
        laptop, code = kept
        with pytest.raises(zmesh.WrongLoop, match=RULE):
            code.send("code", "hello")
        with pytest.raises(zmesh.WrongLoop, match=RULE):
            await laptop.close()

    with asyncio.Runner() as runner, asyncio.Runner() as other:
        runner.run(first())
        other.run(second())
        with pytest.raises(zmesh.WrongLoop, match=RULE):
            kept[1].send("code", "in no loop at all")
        runner.run(kept[0].close())


def fork(child: Callable[[], object]) -> int:
    """Run `child` in a fork, which ends with 0 when that returns; the loop of the parent is not the child's."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        asyncio._set_running_loop(None)  # noqa: SLF001 - as `multiprocessing` has it, in a fresh main function
        child()
        status = 0
    except BaseException as error:  # noqa: BLE001 - it must not run on as a second test session
        print(repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(status)


async def ended(pid: int) -> int:
    """The exit status of a child, which must end."""
    found: list[tuple[int, int]] = []

    def gone() -> bool:
        found[:] = [os.waitpid(pid, os.WNOHANG)]
        return found[0][0] == pid

    try:
        await until(gone, 30, "the end of the child")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)  # noqa: ASYNC222 - it has just been killed
        raise
    return os.waitstatus_to_exitcode(found[0][1])


@FORKS
def test_a_forked_process_is_refused_at_once_and_can_open_a_peer_of_its_own(home: Path) -> None:
    async def scenario() -> None:
        async with two_agents(home) as (code, browser):
            receipt = await code.send("browser@nowhere", "hello")
            laptop = next(peer for peer in peers if peer.name == "laptop")
            calls = await verbs(laptop, code, receipt)
            rule = FORKED.format(os.getpid())

            async def child() -> None:
                await refused(calls, rule)
                with pytest.raises(zmesh.PeerRunning):
                    await new_peer("laptop", home).start()
                await laptop.close()  # nothing of it is this process's
                async with new_peer("child", home) as own:
                    sender = await own.agent("sender")
                    sent = await sender.send("browser@studio", "from a fork")
                    await sent.stored(timeout=SOON)

            assert await ended(fork(lambda: asyncio.run(child()))) == 0
            assert (await take(browser)).body == "from a fork"
            await (await code.send("browser@studio", "from its parent")).stored(timeout=SOON)
            assert (await take(browser)).body == "from its parent"

    peers: list[zmesh.Peer] = []
    started = zmesh.Peer.start

    async def start(peer: zmesh.Peer) -> None:
        peers.append(peer)
        await started(peer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zmesh.Peer, "start", start)
        asyncio.run(scenario())


PROGRAM = """
import asyncio, os, sys, time, zmesh

async def main():
    async with zmesh.Peer("laptop", bind="tcp://127.0.0.1:*") as laptop:
        code = await laptop.agent("code")
        for n in range(10):
            await code.send("browser@nowhere", n)
        pid = os.fork()
        if pid == 0:
            sys.exit(7)  # leaves the peer's block, and the loop
        deadline = time.monotonic() + 30
        while (over := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        print(os.waitstatus_to_exitcode(over[1]) if over[0] else "hangs", flush=True)
        wal = os.path.exists(os.path.join(os.environ["ZMESH_HOME"], "peers", "laptop", "store.db-wal"))
        print(wal, [path for path in os.listdir(os.path.join(os.environ["ZMESH_HOME"], "rendezvous"))] != [])
        receipt = await asyncio.wait_for(code.send("code", "the parent goes on"), 20)
        print(receipt.state, flush=True)

asyncio.run(main())
"""


@FORKS
@pytest.mark.usefixtures("home")
def test_a_forked_process_that_leaves_ends_and_takes_nothing_with_it() -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            printed, errors = await process.communicate()
        assert printed.decode().split() == ["7", "True", "True", "stored"], errors.decode()
        assert process.returncode == 0

    asyncio.run(scenario())
