"""What the fault tests share: peers that know of this host only, their mail, and what only root can do to them."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import zmq

import zmesh
from tests.storm.processes import Child
from tests.waiting import until
from zmesh.trust.device import Device

LOCAL = "tcp://127.0.0.1:*"
PATIENCE = 45.0  # seconds for what takes a fraction of one on a machine that is not busy


def run(test: Callable[[], Coroutine[Any, Any, None]], seconds: float = 100) -> None:
    """Run a test in a loop of its own."""
    asyncio.run(asyncio.wait_for(test(), seconds))


def make_peer(name: str, home: Path, bind: str = LOCAL) -> zmesh.Peer:
    """Describe a peer."""
    return zmesh.Peer(name, home=home, discovery=["rendezvous"], bind=bind)


@contextlib.asynccontextmanager
async def peers(home: Path, *names: str) -> AsyncIterator[tuple[zmesh.Peer, ...]]:
    """Run peers in this process."""
    async with contextlib.AsyncExitStack() as stack:
        yield tuple([await stack.enter_async_context(make_peer(name, home)) for name in names])


def knows(peer: zmesh.Peer, agent: str, other: str) -> bool:
    """Say whether the peer has a link to the other one and sees its agent."""
    return any(info.linked and info.name == other and agent in info.agents for info in peer.peers())


async def meet(peer: zmesh.Peer, address: str) -> None:
    """Wait until the peer is linked with the one an address names, and sees the agent."""
    agent, _, other = address.partition("@")
    await until(lambda: knows(peer, agent, other), PATIENCE, f"{peer.name} sees {address}")


def linked(peer: zmesh.Peer, other: str) -> bool:
    """Say whether the link to the other one is up."""
    return any(info.linked for info in peer.peers() if info.name == other)


async def send_all(agent: zmesh.Agent, to: str, bodies: list[Any], **options: Any) -> list[zmesh.Receipt]:
    """Send all at once, in order, and wait until all are on the sender's disk."""
    return list(await asyncio.gather(*[agent.send(to, body, **options) for body in bodies]))


async def all_stored(receipts: list[zmesh.Receipt], seconds: float = PATIENCE) -> None:
    """Wait until all are in the recipient's store."""
    async with asyncio.timeout(seconds):
        for receipt in receipts:
            await receipt.stored()


async def collect(agent: zmesh.Agent, count: int, seconds: float = PATIENCE) -> list[zmesh.Message]:
    """Take so many messages and finish them."""
    taken: list[zmesh.Message] = []
    finishing: list[Awaitable[object]] = []
    async with asyncio.timeout(seconds):
        async with contextlib.aclosing(agent.inbox()) as inbox:
            async for message in inbox:
                taken.append(message)
                finishing.append(message.done())
                if len(taken) == count:
                    break
        await asyncio.gather(*finishing)
    return taken


async def nothing_more(agent: zmesh.Agent) -> None:
    """Make sure that nothing waits in the mailbox, without waiting for something that may never come."""
    assert await agent.poll(timeout=0.0) == []


def second_home(home: Path, at: Path) -> Path:
    """Make a home of the same device that meets the other home's peers: two of one name can run, each in its own."""
    Device.load_or_create(home / "device.key")
    at.mkdir(mode=0o700, exist_ok=True)
    (at / "device.key").write_bytes((home / "device.key").read_bytes())
    (at / "device.key").chmod(0o600)
    (home / "rendezvous").mkdir(mode=0o700, exist_ok=True)
    (at / "rendezvous").symlink_to(home / "rendezvous")
    return at


def store_file(home: Path, peer: str) -> Path:
    """Return where a peer keeps its mail."""
    return home / "peers" / peer / "store.db"


# --- processes ---


@contextlib.contextmanager
def puppet(role: str, name: str, home: Path, *options: str, before: tuple[str, ...] = ()) -> Iterator[Child]:
    """Run a peer in another process (see `tests.faults.puppet`) and kill it in the end."""
    arguments = [role, name, str(home), str(puppet_log(home, name)), *options]
    child = Child(name, "tests.faults.puppet", arguments, home / f"{name}.err", before)
    try:
        yield child
    except BaseException as error:
        error.add_note(f"{child} wrote:\n{child.tail()}")
        raise
    finally:
        child.kill()


def puppet_log(home: Path, name: str) -> Path:
    """Return where a puppet writes what it does."""
    return home / f"{name}.log"


# --- what only root can do ---


def needs_root(why: str) -> None:
    """Skip the test for ordinary users; fail where continuous integration must not skip it."""
    if os.name == "posix" and os.geteuid() == 0:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"this must run as root under CI: {why}")
    pytest.skip(f"needs root: {why}")


def command(*words: str) -> None:
    """Run a program to its end, which must be a success."""
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 0, f"{' '.join(words)}: {ended.stderr or ended.stdout}"


@contextlib.contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """Mount a disk of this size, and unmount it in the end."""
    needs_root("a small disk has to be mounted")
    at.mkdir(parents=True, mode=0o700, exist_ok=True)
    command("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(at))
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=False, timeout=20)


def fill(disk: Path) -> Path:
    """Take up all space that is left; return the file that does."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


# --- outsiders ---


class Outsider:
    """A client that obeys nobody's rules, only CURVE's."""

    def __init__(self, device: Device, server: Device, endpoint: str, routing_id: bytes = b"") -> None:
        """Dial.

        Args:
            device: Whose key it shows.
            server: Whose key it expects.
            endpoint: Where.
            routing_id: What it calls its connection; empty for what the other side chooses.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.CURVE_SERVERKEY, server.curve_public)
        self._socket.setsockopt(zmq.CURVE_PUBLICKEY, device.curve_public)
        self._socket.setsockopt(zmq.CURVE_SECRETKEY, device.curve_secret)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, 1000)
        if routing_id:
            self._socket.setsockopt(zmq.ROUTING_ID, routing_id)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
        self._refusals = 0
        self._socket.connect(endpoint)

    def __enter__(self) -> Self:
        return self

    @property
    def refusals(self) -> int:
        """How many handshakes came to nothing."""
        with contextlib.suppress(zmq.Again):
            while self._monitor.recv_multipart(zmq.DONTWAIT):
                self._refusals += 1
        return self._refusals

    def __exit__(self, *_: object) -> None:
        self._context.destroy(0)

    @property
    def admitted(self) -> bool:
        """True once the handshake is over."""
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT)

    @property
    def heard(self) -> bool:
        """True if there is an answer."""
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    async def send(self, parts: list[bytes]) -> None:
        """Send, once the connection is there; a peer may have hung up on what came before, and may do so again."""

        def sent() -> bool:
            with contextlib.suppress(zmq.Again):
                self._socket.send_multipart(parts, zmq.DONTWAIT)
                return True
            return False

        await until(sent, PATIENCE, "the outsider is connected")

    async def receive(self) -> list[bytes]:
        """Return the next answer."""
        answer: list[bytes] = []

        def answered() -> bool:
            with contextlib.suppress(zmq.Again):
                answer.extend(self._socket.recv_multipart(zmq.DONTWAIT))
            return bool(answer)

        await until(answered, PATIENCE, "an answer to the outsider")
        return answer
