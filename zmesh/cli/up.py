"""`zmesh up`: bring this machine's daemon up, in the background or here.

A token in `ZMESH_JOIN` is used in this process, and must never reach the one that stays.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from zmesh.cli.options import json_option, own_place
from zmesh.cli.printing import harmless, print_json
from zmesh.cli.status import describe
from zmesh.daemon.errand import ask_daemon
from zmesh.daemon.place import Place
from zmesh.daemon.process import start
from zmesh.errors import DaemonError, DaemonUnreachable, MeshError
from zmesh.protocol.address import check_name

LAST_PORT: Final = 65534  # the door is at the next one


@click.command()
@click.option("--foreground", is_flag=True, help="Stay in the foreground, and say who comes and goes.")
@click.option("--name", help="What the peer is called: the device's name in the mesh, or the host's, by default.")
@click.option(
    "--port", type=click.IntRange(1, LAST_PORT), help="Where to listen, 7420 by default; the door is at the next port."
)
@click.option("--peer", "peers", multiple=True, metavar="ADDRESS", help="Where another peer is, if it is not found.")
@json_option
def up(*, foreground: bool, name: str | None, port: int | None, peers: tuple[str, ...], as_json: bool) -> None:
    """Bring up this machine's daemon: the peer that all its programs share.

    What --name, --port and --peer say holds until `zmesh down`; what is to hold every time goes into config.toml.
    With a token in the environment variable ZMESH_JOIN, a machine that is in no mesh joins one first.
    """
    words = _words(name, port, peers)
    if foreground:
        from zmesh.cli.foreground import host  # noqa: PLC0415 - loads the whole peer

        host(words, as_json=as_json)
        return
    home, place = own_place()
    try:
        told, before = ask_daemon(place, "daemon.status"), True
    except OSError:
        told, before = _started(home, place, name, words), False
    else:
        _join(told["name"])
    if as_json:
        print_json({"running": True, "started": not before} | told)
    else:
        _tell(told, before=before)
    if before:
        _check(told, name, port, peers)


def _started(home: Path, place: Place, name: str | None, words: Sequence[str]) -> dict[str, Any]:
    """Start the daemon, and return what it says of itself."""
    _join(name)
    start(home, place, words)
    try:
        told: dict[str, Any] = ask_daemon(place, "daemon.status")
    except OSError as error:
        raise DaemonUnreachable("the daemon has come up, and was ended at once: `zmesh up` starts it again") from error
    return told


def _words(name: str | None, port: int | None, peers: Sequence[str]) -> list[str]:
    """Return what the daemon is told; wrong usage ends here, and not in the daemon's log."""
    words: list[str] = []
    try:
        if name is not None:
            words += ["--name", check_name(name, "peer name")]
        if port is not None:
            words += ["--port", str(port)]
        if peers:
            from zmesh.discovery.visits import read_named  # noqa: PLC0415 - loads asyncio

            for peer in peers:
                read_named(peer)
                words += ["--peer", peer]
    except (MeshError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    return words


def _join(name: str | None) -> None:
    if "ZMESH_JOIN" in os.environ:
        from zmesh.cli.foreground import join_by_token  # noqa: PLC0415 - loads the whole peer

        join_by_token(name)


def _tell(told: dict[str, Any], *, before: bool) -> None:
    for line in describe(told):
        if before or line.startswith((told["name"], "address", "door", "TROUBLE")):
            click.echo(harmless(line.replace(" is up: ", " is up already: ", 1) if before else line))


def _check(told: dict[str, Any], name: str | None, port: int | None, peers: Sequence[str]) -> None:
    """Say what is not as it was asked for.

    Raises:
        DaemonError: Something is not.
    """
    other: list[str] = []
    if name is not None and check_name(name, "peer name") != told["name"]:
        other.append(f"--name {name}")
    if port is not None and not any(endpoint.endswith(f":{port}") for endpoint in told["endpoints"]):
        other.append(f"--port {port}")
    other += [f"--peer {peer}" for peer in peers]
    if other:
        raise DaemonError(
            f"{told['name']} runs already, and stays as it is: `zmesh down`, then `zmesh up {' '.join(other)}`"
        )
