"""`zmesh up --foreground`: the daemon in this process, saying who comes and goes; and joining a mesh by a token.

This module must never hide why the peer has ended.
"""

import asyncio
import json
import os
from collections.abc import Sequence

import click

from zmesh.cli.invite import open_store, peer_name
from zmesh.cli.join import pair_with
from zmesh.cli.printing import harmless
from zmesh.daemon.host import Daemon, run_until_signal
from zmesh.daemon.namesakes import namesakes
from zmesh.daemon.program import daemon_of
from zmesh.errors import MeshError
from zmesh.peer.configuration import load_configuration
from zmesh.peer.home import home_directory
from zmesh.peer.peer import Peer
from zmesh.trust.device import readable
from zmesh.trust.invitation import take_token


def join_by_token(name: str | None) -> None:
    """Join the mesh of whoever made the token in `ZMESH_JOIN`, unless this machine is in one; forget the token.

    Raises:
        PairingError, WaitTimeout: It cannot.
    """
    token = take_token(os.environ)
    name = name or load_configuration(home_directory(None)).name or None
    with open_store() as store:
        if token is not None and not store.mesh:
            welcome, inviter = asyncio.run(pair_with(token, store.device, peer_name(name), None))
            store.join(welcome.mesh, welcome.entries, inviter=inviter)


def host(words: Sequence[str], *, as_json: bool) -> None:
    """Be the daemon until it is told to end.

    Args:
        words: As of `zmesh.daemon.program.daemon_of`.
        as_json: Print JSON Lines.

    Raises:
        MeshError: As of `Daemon.run`.
    """
    join_by_token(words[words.index("--name") + 1] if "--name" in words else None)
    say = _Teller(as_json=as_json)
    with open_store() as store:
        me, device = store.me(), readable(store.device.id)
    say(f"this device is {device}", event="device", device=device)
    if me is not None and me.revoked:
        click.echo("it was revoked: no other machine talks to it. zmesh doctor says how to begin anew", err=True)
    watching: list[asyncio.Task[None]] = []

    def begun(daemon: Daemon) -> None:
        peer = daemon.peer
        if daemon.notice:
            click.echo(harmless(daemon.notice), err=True)
        text = f"{peer.name} is up at {', '.join(peer.endpoints)}, its door at port {peer.door}"
        say(text, event="up", name=peer.name, endpoints=list(peer.endpoints), door=peer.door)
        watching.append(asyncio.get_running_loop().create_task(_watch(peer, say)))

    daemon = None

    def described() -> Daemon:
        nonlocal daemon
        daemon = daemon_of(home_directory(None), words)
        return daemon

    run_until_signal(described, begun)
    if daemon is not None:
        say(f"{daemon.peer.name} is down", event="down", name=daemon.peer.name)


async def _watch(peer: Peer, say: "_Teller") -> None:
    """Say who comes and goes, and who cannot be told apart, until the peer ends."""
    before: set[str] = set()
    told: list[str] = []
    while True:
        same = namesakes(peer)
        for line in same:
            if line not in told:
                click.echo(harmless(line), err=True)
        told = same
        now = {info.name for info in peer.peers() if info.linked}
        for name in sorted(now - before):
            say(f"{name} is linked", event="linked", name=name)
        for name in sorted(before - now):
            say(f"{name} is gone", event="gone", name=name)
        before = now
        try:
            await peer.driver.change()
        except MeshError:  # whoever runs the daemon hears it too
            return


class _Teller:
    """Says what happens, in words or as JSON Lines."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, text: str, **event: object) -> None:
        click.echo(json.dumps(event) if self._as_json else harmless(text))
