"""`zmesh up`: host this machine's peer, in the foreground."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from typing import Final

import click

from zmesh.cli.invite import open_store, peer_name
from zmesh.cli.join import pair_with
from zmesh.discovery.visits import PORT
from zmesh.errors import MeshError, TransportError
from zmesh.peer.configuration import load_configuration
from zmesh.peer.home import home_directory
from zmesh.peer.peer import Peer
from zmesh.trust.device import readable
from zmesh.trust.invitation import take_token

SHORT: Final = 8  # characters of a store's id that tell namesakes apart, as everywhere


@click.command()
@click.option("--foreground", is_flag=True, help="Stay in the foreground, which is the only way there is yet.")
@click.option("--name", help="What the peer is called: the device's name in the mesh, or the host's, by default.")
@click.option(
    "--port", type=click.IntRange(1, 65534), help=f"Where to listen, {PORT} by default; the door is at the next port."
)
@click.option("--peer", "peers", multiple=True, metavar="ADDRESS", help="Where another peer is, if it is not found.")
def up(*, foreground: bool, name: str | None, port: int | None, peers: tuple[str, ...]) -> None:
    """Host this machine's peer until it is interrupted."""
    if not foreground:
        raise click.UsageError("say --foreground: a peer in the background is not there yet")
    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    configuration = load_configuration(home_directory(None))
    name = name or configuration.name or None
    token = take_token(os.environ)
    with open_store() as store:
        if token is not None and not store.mesh:
            welcome, inviter = asyncio.run(pair_with(token, store.device, peer_name(name), None))
            store.join(welcome.mesh, welcome.entries, inviter=inviter)
        me = store.me()
        called = me.name if me is not None and name is None else peer_name(name)
        click.echo(f"this device is {readable(store.device.id)}")
        if me is not None and me.revoked:
            click.echo("it was revoked: no other machine talks to it. zmesh doctor says how to begin anew", err=True)
    asyncio.run(_host(called, port or configuration.port, peers or None))


async def _host(name: str, port: int, peers: Iterable[str] | None) -> None:
    try:
        peer = Peer(name, bind=f"tcp://*:{port}", peers=peers)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        await peer.start()
    except TransportError as error:
        peer = Peer(name, peers=peers)
        await peer.start()
        here = peer.endpoints[0].rpartition(":")[2]
        click.echo(f"{error}. This time it listens at port {here}, which is free", err=True)
    try:
        click.echo(f"{name} is up at {', '.join(peer.endpoints)}, its door at port {peer.door}")
        await _until_signal(peer)
    finally:
        await peer.close()
    click.echo(f"{name} is down")


async def _until_signal(peer: Peer) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(name, over.set)
        except NotImplementedError:  # Windows: Ctrl-C ends the loop by itself
            continue
    watching = asyncio.ensure_future(_watch(peer))
    waiting = asyncio.ensure_future(over.wait())
    try:
        await asyncio.wait({watching, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
    finally:
        for task in (watching, waiting):
            task.cancel()
        await asyncio.gather(watching, waiting, return_exceptions=True)


def namesakes(peer: Peer) -> list[str]:
    """Return a line about each name that more than one of those has that are there, this peer included."""
    called: dict[str, list[str]] = {peer.name: [f"{peer.name}~{peer.id[:SHORT]} (this one)"]}
    for info in peer.peers():
        if info.linked:
            called.setdefault(info.name, []).append(f"{info.name}~{info.store[:SHORT]}")
    return [
        f"{len(those)} peers are called {name}: {', '.join(those)}. Nothing is sent to a name that two answer to: stop "
        "one of them, and start it again with another (zmesh up --name NAME, or name in its config.toml). The mail it "
        "has stays with the old name"
        for name, those in sorted(called.items())
        if len(those) > 1
    ]


async def _watch(peer: Peer) -> None:
    """Say who comes and goes, and who cannot be told apart."""
    before: set[str] = set()
    told: list[str] = []
    while True:
        same = namesakes(peer)
        for line in same:
            if line not in told:
                click.echo(line, err=True)
        told = same
        now = {info.name for info in peer.peers() if info.linked}
        for name in sorted(now - before):
            click.echo(f"{name} is linked")
        for name in sorted(before - now):
            click.echo(f"{name} is gone")
        before = now
        try:
            await peer.driver.change()
        except MeshError as error:
            click.echo(str(error), err=True)
            return
