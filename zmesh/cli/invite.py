"""`zmesh invite`: let another machine into this one's mesh, which is founded if there is none yet.

The invitation lives as long as this command, however that ends: it is withdrawn, and if the command was killed, the
door of this machine's peer sees that nobody holds it. The code and the recovery phrase are printed where the person
asked for them, and must never go to a log.
"""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack

import click

from zmesh.discovery import interfaces
from zmesh.discovery.probes import main_address
from zmesh.discovery.rendezvous import running
from zmesh.discovery.sighting import parse_endpoint
from zmesh.discovery.visits import DOOR
from zmesh.errors import MeshError, PairingError, TrustError, WaitTimeout
from zmesh.peer.duration import parse_ttl
from zmesh.peer.home import device_key_path, home_directory, rendezvous_directory, trust_path
from zmesh.protocol.address import check_name, is_name
from zmesh.trust.device import Device, readable
from zmesh.trust.door import Door
from zmesh.trust.grants import CAPABILITIES, allows
from zmesh.trust.invitation import CODE_LIFE, MAX_CODE_LIFE, MAX_TOKEN_LIFE, TOKEN_LIFE, Secret
from zmesh.trust.invitations import Invitation
from zmesh.trust.trust_store import TrustStore
from zmesh.trust.words import spell

MAX_PLACES = 3  # addresses that are shown: a laptop with containers has a dozen
LOOK_EVERY = 0.25  # seconds between looks at the invitation: another process may serve it


def _lifetime(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a time such as 10m or 1d."""
    if value is None:
        return None
    try:
        seconds = parse_ttl(value, "the time")
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error
    if seconds is None:
        raise click.BadParameter("an invitation ends some day: write a time such as 10m", ctx, param)
    return seconds


@click.command()
@click.option("--token", is_flag=True, help="Make a token of 256 bits for machines, in place of a code for people.")
@click.option(
    "--expires", metavar="TIME", callback=_lifetime, help="How long it may be used: 10m for a code, 1d for a token."
)
@click.option("--name", help="What this machine is called, when it founds the mesh; its host name by default.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Where to wait for the other machine: at the door of this machine's peer by default, or its port.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what happens as JSON Lines.")
def invite(*, token: bool, expires: float | None, name: str | None, port: int, as_json: bool) -> None:
    """Let another machine into the mesh: type what this prints there."""
    life = expires or (TOKEN_LIFE if token else CODE_LIFE)
    longest = MAX_TOKEN_LIFE if token else MAX_CODE_LIFE
    if life > longest:
        raise click.BadParameter(f"at most {longest:.0f} seconds", param_hint="--expires")
    called = peer_name(name)
    with open_store() as store:
        if not store.mesh:
            _found(store, called, as_json=as_json)
        try:
            asyncio.run(_wait(store, life, port, token=token, as_json=as_json))
        except KeyboardInterrupt:
            click.echo("\nthe invitation is withdrawn: nobody can use it any more", err=True)
            raise
        except asyncio.CancelledError:
            raise click.ClickException("the invitation is withdrawn: nobody can use it any more") from None


def _found(store: TrustStore, name: str, *, as_json: bool) -> None:
    founding = store.found(name)
    phrase = " ".join(spell(founding.recovery))
    _say(
        {"event": "founded", "mesh": founding.mesh.hex(), "recovery": phrase},
        f"{name} has founded a mesh. Should this machine ever be stolen, only these words can shut it out; write them "
        f"down now, they are shown once:\n\n    {phrase}\n",
        as_json=as_json,
    )


async def _wait(store: TrustStore, life: float, port: int, *, token: bool, as_json: bool) -> None:
    from zmesh.discovery.pairing import Announcement  # noqa: PLC0415 - zeroconf takes 60 ms to load

    async with AsyncExitStack() as stack:
        _end_with("SIGTERM", "SIGHUP")  # the second: the window was closed
        port = await _door(store, port, stack)
        end = time.monotonic() + life
        secret = store.invite(life, token=token, held=True)
        stack.callback(_withdraw, store, secret)
        announcement = Announcement()
        stack.push_async_callback(announcement.close)
        places = _places(port)
        hint = f"with --at {places[0]}"
        if places[1:]:
            hint += f" (or {' or '.join(places[1:])}, whichever it can reach)"
        try:
            await announcement.show(frozenset({secret.nameplate}), port)
            hint = f"or, if it does not find this one, {hint}"
        except OSError as error:
            click.echo(
                f"There is no multicast here ({error}), so the other machine needs this one's address.", err=True
            )
        said = {"event": "invited", "secret": secret.text, "port": port, "at": places, "expires_in": life}
        _say(said, f"On the other machine, type:\n\n    zmesh join {secret.text}\n\n{hint}", as_json=as_json)
        await _until_used(store, secret, end, as_json=as_json)


def _places(port: int) -> list[str]:
    """Return where the door can be dialled, as --at takes it: first the address by which this machine goes elsewhere.

    The host's name stands in where no address can be read: nobody may know it there.
    """
    try:
        listed = [str(parse_endpoint(text).ip) for text in interfaces.far(interfaces.endpoints(port, ipv6=True))]
    except OSError:
        listed = [host_name()]
    main = main_address()
    hosts = sorted(listed, key=lambda host: host != main)[:MAX_PLACES]
    bare = port == DOOR
    return [host if bare else f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts]


async def _door(store: TrustStore, port: int, stack: AsyncExitStack) -> int:
    """Return the port of the door: that of this machine's peer if it runs, or else one that is opened for now."""
    here = [seen.door for seen in running(rendezvous_directory(home_directory(None))) if seen.door]
    if not port and DOOR in here:
        return DOOR
    door = Door(store)
    try:
        await door.open(port=port or DOOR)
    except TrustError:
        if port:
            raise
        if here:
            return here[0]
        await door.open()
    stack.push_async_callback(door.close)
    stack.push_async_callback(door.settle)  # its last message may be on the way
    return door.port


def _end_with(*names: str) -> None:
    """Let signals end the command as Ctrl-C does, so that the invitation is withdrawn."""
    task = asyncio.current_task()
    assert task is not None
    for name in names:
        with contextlib.suppress(NotImplementedError, AttributeError):  # Windows
            asyncio.get_running_loop().add_signal_handler(getattr(signal, name), task.cancel)


def _withdraw(store: TrustStore, secret: Secret) -> None:
    with contextlib.suppress(MeshError):  # it expires by itself, and its door is shut
        store.invitations.withdraw(secret)


async def _until_used(store: TrustStore, secret: Secret, end: float, *, as_json: bool) -> None:
    failed = 0
    while not (stands := _look(store, secret)).used:
        if stands.failed > failed:
            failed = stands.failed
            text = f"Somebody has tried to join and failed; {_left(stands.left)}."
            _say({"event": "failed", "left": stands.left}, text, as_json=as_json)
        if stands.spent:
            raise PairingError(
                "the invitation was tried too often and is void. If nobody mistyped the code, somebody on this "
                "network guesses: see who is there, then make a new one with `zmesh invite`"
            )
        left = end - time.monotonic()
        if left <= 0:
            raise WaitTimeout("nobody joined in time: the invitation is over. Make a new one with `zmesh invite`")
        _count_down(left, as_json=as_json)
        await asyncio.sleep(LOOK_EVERY)
    _count_down(None, as_json=as_json)
    store.refresh()
    member = store.membership.by_device(stands.used)
    called = member.name if member else "?"
    may = rights(store, stands.used)
    _say(
        {"event": "joined", "name": called, "device": stands.used, "may": may},
        f"{called} is a member now. It must show this fingerprint there:\n\n    {readable(stands.used)}\n\n"
        "If it does not say so there: zmesh invite again, joining once more is safe.\n"
        f"{in_words(called, may)}",
        as_json=as_json,
    )


def _left(attempts: int) -> str:
    return "1 attempt is left" if attempts == 1 else f"{attempts or 'no'} attempts are left"


def _look(store: TrustStore, secret: Secret) -> Invitation:
    stands = store.invitations.look(secret)
    if stands is None:
        raise PairingError("the invitation was withdrawn by another command: make a new one with `zmesh invite`")
    return stands


def _count_down(left: float | None, *, as_json: bool) -> None:
    if as_json or not sys.stderr.isatty():
        return
    text = "" if left is None else f"waiting, {int(left) // 60}:{int(left) % 60:02d} left "
    click.echo(f"\r{text:<24}\r{text}", nl=False, err=True)


def _say(event: dict[str, object], text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(event) if as_json else text)


# --- what the commands of this area share ---


def open_store() -> TrustStore:
    """Open the trust store of this user."""
    home = home_directory(None)
    return TrustStore(trust_path(home), Device.load_or_create(device_key_path(home)))


def rights(store: TrustStore, device: str) -> list[str]:
    """Return what a device may do here; `EVERYBODY` stands for a member about whom nothing is said."""
    now = time.time()
    return [name for name in CAPABILITIES if allows(store.grants.rules, name, device, "", now)]


def in_words(who: str, may: list[str]) -> str:
    """Say what somebody may do here, and how to change that."""
    never = [name for name in CAPABILITIES if name not in may]
    return (
        f"{who} may do this here: {', '.join(may) or 'nothing'}{'; not ' + ', '.join(never) if never else ''}. "
        "`zmesh grant --help` says what that means, and how to change it."
    )


def peer_name(name: str | None) -> str:
    """Return the name that was asked for, or else the host's.

    Raises:
        click.BadParameter: It is no name.
    """
    try:
        return check_name(name, "peer name") if name is not None else host_name()
    except MeshError as error:
        raise click.BadParameter(str(error), param_hint="--name") from error


def host_name() -> str:
    """Return this host's name as far as it is a name for a peer."""
    plain = socket.gethostname().partition(".")[0].lower()
    cleaned = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in plain).strip("._-")
    return cleaned if is_name(cleaned) else "machine"
