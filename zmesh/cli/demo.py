"""`zmesh demo`: two real peers on this machine, one of them killed in the middle of its work, and nothing lost.

What it claims at the end is read from the two stores after both processes have ended, and compared with what the
sending process had printed as acknowledged. It must never show a figure that was not counted in this run.
"""

import asyncio
import json
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from zmesh.protocol.states import Sent

QUESTION: Final = "What is known about token refresh in OAuth 2.0?"
PATIENCE: Final = 60.0  # seconds for any one step; all of them take a second or two
CLASSES: Final = ("critical", "high", "normal", "low", "bulk")


class DemoFailed(click.ClickException):
    """A step of the demo did not come about."""


class PeerProcess:
    """One peer in a process of its own."""

    def __init__(self, name: str, home: Path) -> None:
        self.name, self.home = name, home
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Start it, and wait until its peer is up."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ZMESH_")}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "zmesh.cli.demo_peer", self.name, str(self.home),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
        )  # fmt: skip
        await self.expect("up")

    async def tell(self, **command: Any) -> None:
        """Send it a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await self.process.stdin.drain()

    async def event(self) -> dict[str, Any]:
        """Return its next event.

        Raises:
            DemoFailed: It has ended, or nothing came.
        """
        assert self.process.stdout is not None
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        except TimeoutError:
            raise DemoFailed(f"{self.name} has said nothing for {PATIENCE:.0f} s") from None
        if not line.endswith(b"\n"):
            raise DemoFailed(f"{self.name} has ended unexpectedly: its error is above")
        event: dict[str, Any] = json.loads(line)
        return event

    async def expect(self, name: str) -> dict[str, Any]:
        """Return the next event of that name; others are passed over."""
        while (event := await self.event())["event"] != name:
            pass
        return event

    async def end(self) -> None:
        """Let it close its peer: what its receipts have heard last is on disk then, too."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), PATIENCE)

    async def kill(self) -> None:
        """End it as a power cut would: SIGKILL, no goodbye."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@dataclass(slots=True)
class Sending:
    """What the sending process has said."""

    acknowledged: dict[str, int] = field(default_factory=dict)  # class by message id, in the order of send()
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the stores say, beside what was acknowledged."""

    acknowledged: int
    arrived: int
    lost: int
    duplicates: int
    disordered: int
    confirmed: int

    @property
    def good(self) -> bool:
        """True when every acknowledged message arrived once and in order, and its receipt says so."""
        return self.acknowledged == self.arrived == self.confirmed and not (
            self.lost + self.duplicates + self.disordered
        )


@click.command()
@click.option(
    "--messages", default=2000, show_default=True, type=click.IntRange(10, 100_000), help="Size of the burst."
)
@click.option("--keep", is_flag=True, help="Keep the two stores, and say where they are.")
def demo(messages: int, *, keep: bool) -> None:
    """Two peers find each other, talk, and survive a SIGKILL in the middle."""
    console = Console()
    with _ending_signals(), _home(console, keep=keep) as home:
        verdict = asyncio.run(_run(console, home, messages))
        _show(console, verdict)
    if not verdict.good:
        raise DemoFailed(
            "the stores do not agree with what was acknowledged: please report this, with the output above"
        )


@contextmanager
def _ending_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the demo as Ctrl-C does: by an exception, so that everything is cleaned up."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {getattr(signal, name): signal.signal(getattr(signal, name), _leave) for name in names}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _: object) -> None:
    for again in (signal.SIGTERM, number):
        signal.signal(again, signal.SIG_IGN)  # a second one must not break off the cleaning up
    sys.exit(128 + number)


@contextmanager
def _home(console: Console, *, keep: bool) -> Iterator[Path]:
    if keep:
        home = Path(tempfile.mkdtemp(prefix="zmesh-demo-"))
        yield home
        console.print(f"The stores are kept in {home}")
        return
    with tempfile.TemporaryDirectory(prefix="zmesh-demo-") as name:
        yield Path(name)


@asynccontextmanager
async def _peers(home: Path) -> AsyncIterator[tuple[PeerProcess, PeerProcess]]:
    laptop, studio = PeerProcess("laptop", home), PeerProcess("studio", home)
    try:
        await asyncio.gather(laptop.start(), studio.start())
        yield laptop, studio
    finally:
        for peer in (laptop, studio):
            if hasattr(peer, "process"):
                await peer.kill()


async def _run(console: Console, home: Path, messages: int) -> Verdict:
    console.print("[bold]zmesh[/bold]: AI agents talk to each other directly. No server, no broker, no internet.\n")
    async with _peers(home) as (laptop, studio):
        found = await laptop.expect("found")
        console.print(
            f"1. Two processes started, [cyan]laptop[/cyan] and [magenta]studio[/magenta]. They found each other and "
            f"linked, encrypted, [bold]{found['seconds']:.2f} s[/bold] after laptop began to look."
        )
        await _converse(console, laptop)
        sending = await _storm(console, laptop, studio, messages)
        await asyncio.gather(laptop.end(), studio.end())
    console.print("4. Both processes are gone. This is what their [bold]two SQLite files[/bold] say:\n")
    return _judge(home, sending)


async def _converse(console: Console, laptop: PeerProcess) -> None:
    await laptop.tell(ask=QUESTION)
    answer = await laptop.expect("answer")
    console.print("2. Their agents talk:")
    console.print(f"     [cyan]code@laptop[/cyan]         {QUESTION}")
    console.print(f"     [magenta]{answer['sender']}[/magenta]     {answer['text']}")
    console.print(f"   Question and answer, each on both disks: [bold]{answer['seconds'] * 1000:.0f} ms[/bold].")


async def _storm(console: Console, laptop: PeerProcess, studio: PeerProcess, messages: int) -> Sending:
    console.print(
        f"3. {messages} messages in five priorities, and a [red]SIGKILL[/red] for studio half way. "
        "A message is acknowledged once it is on laptop's disk."
    )
    sending = Sending()
    columns = (TextColumn("   {task.description:>22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        acknowledged = progress.add_task("acknowledged", total=messages)
        stored = progress.add_task("stored by studio", total=messages)
        # Its output is read all the time: a full pipe would stop it.
        reading = asyncio.create_task(_drain(studio))
        await laptop.tell(burst=messages)
        killed = False
        while (event := await laptop.event())["event"] != "finished":
            if event["event"] == "sent":
                sending.acknowledged[event["id"]] = event["klass"]
            elif event["event"] == "stored":
                sending.stored = event["count"]
            progress.update(acknowledged, completed=len(sending.acknowledged))
            progress.update(stored, completed=sending.stored)
            pending = len(sending.acknowledged) - sending.stored
            if not killed and pending and len(sending.acknowledged) * 2 >= messages:
                killed = True
                await studio.kill()
                reading.cancel()
                progress.console.print(
                    f"   [red]SIGKILL[/red] studio, with {pending} messages not confirmed. Restarting it."
                )
                await studio.start()
                reading = asyncio.create_task(_drain(studio))
        reading.cancel()
    return sending


async def _drain(peer: PeerProcess) -> None:
    assert peer.process.stdout is not None
    while await peer.process.stdout.readline():
        pass


def _rows(home: Path, peer: str, question: str) -> list[Any]:
    path = home / "peers" / peer / "store.db"
    connection = sqlite3.connect(path)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def _judge(home: Path, sending: Sending) -> Verdict:
    """Compare the stores with what the sender was told."""
    arrived = [ident.hex() for (ident,) in _rows(home, "studio", "SELECT id FROM inbox ORDER BY row")]
    states = {ident.hex(): state for ident, state in _rows(home, "laptop", "SELECT id, state FROM outbox")}
    wanted = sending.acknowledged
    relevant = [ident for ident in arrived if ident in wanted]
    disordered = 0
    for klass in range(len(CLASSES)):
        there = [ident for ident in relevant if wanted[ident] == klass]
        sent = [ident for ident, at in wanted.items() if at == klass]
        disordered += sum(one != other for one, other in zip(there, sent, strict=False))
    return Verdict(
        acknowledged=len(wanted),
        arrived=len(set(relevant)),
        lost=len(wanted.keys() - set(relevant)),
        duplicates=len(relevant) - len(set(relevant)),
        disordered=disordered,
        confirmed=sum(states.get(ident) in (Sent.STORED, Sent.HANDLED) for ident in wanted),
    )


def _show(console: Console, verdict: Verdict) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2))
    rows = (
        ("acknowledged to the sender", verdict.acknowledged, True),
        ("in the receiver's inbox", verdict.arrived, verdict.arrived == verdict.acknowledged),
        ("lost", verdict.lost, verdict.lost == 0),
        ("delivered twice", verdict.duplicates, verdict.duplicates == 0),
        ("out of order within a priority", verdict.disordered, verdict.disordered == 0),
        ("receipts that say stored or handled", verdict.confirmed, verdict.confirmed == verdict.acknowledged),
    )
    for text, count, good in rows:
        table.add_row(f"   {text}", f"[{'green' if good else 'red'}]{count}[/]")
    console.print(table)
    console.print("\nThe same in your own program: README.md, and [bold]examples/[/bold].")
