"""`zmesh join`: become a member of the mesh of the machine that shows the code."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncGenerator
from typing import Final

import click

from zmesh.cli.invite import in_words, open_store, peer_name, rights
from zmesh.discovery.visits import DOOR, read_named
from zmesh.errors import PairingError, WaitTimeout
from zmesh.trust.device import Device, readable
from zmesh.trust.grants import EVERYBODY
from zmesh.trust.invitation import CODE_ATTEMPTS, JOIN_VARIABLE, Secret, read_secret, take_token
from zmesh.trust.pairing import Welcome
from zmesh.trust.refusal import Refusal
from zmesh.trust.trust_store import TrustStore
from zmesh.trust.visitor import Unreachable, pair

LISTEN: Final = 10.0  # seconds in which an inviter on this network is heard
MORE: Final = 2.0  # seconds more, after one has refused: another may have the same nameplate, and has been asked too
LONGEST: Final = 60.0  # seconds in which doors are tried: anybody can announce any number of them
Machines = AsyncGenerator[list[tuple[str, int]], None]
_AGAIN: Final = "if it says there that this machine has joined, ask for a new code: joining again is safe"


def _place(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Read an address such as 192.0.2.7:40123."""
    if value is None:
        return None
    try:
        named = read_named(value, DOOR)
    except ValueError:
        text = f"{value!r} is no address: it looks like 192.0.2.7 or [2001:db8::7]:{DOOR}"
        raise click.BadParameter(text, ctx, param) from None
    return named.host, named.port


@click.command()
@click.argument("code", required=False)
@click.option(
    "--at", metavar="HOST[:PORT]", callback=_place, help="Where the other machine waits, if it is not found by itself."
)
@click.option("--name", help="What this machine is called; its host name by default.")
@click.option("--leave", is_flag=True, help="Leave the mesh that this machine is in.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def join(*, code: str | None, at: tuple[str, int] | None, name: str | None, leave: bool, as_json: bool) -> None:
    """Join the mesh of the machine that shows CODE, such as 7-lantern-clover.

    Without CODE the token in the environment variable ZMESH_JOIN is taken.
    """
    secret = _secret(code)
    called = peer_name(name)
    with open_store() as store:
        if store.mesh and not leave:
            raise PairingError("this machine is in a mesh already: with --leave it leaves that one and joins the other")
        welcome, inviter = asyncio.run(pair_with(secret, store.device, called, at))
        store.join(welcome.mesh, welcome.entries, leave=leave, inviter=inviter)
        _tell(store, as_json=as_json)


def _secret(code: str | None) -> Secret:
    try:
        token = take_token(os.environ)  # in any case, so that nothing started from here inherits it
        secret = token if code is None else read_secret(code)
    except PairingError as error:
        raise click.UsageError(str(error)) from error
    if secret is None:
        raise click.UsageError(f"type the code that `zmesh invite` shows, or set {JOIN_VARIABLE} to a token")
    return secret


def _tell(store: TrustStore, *, as_json: bool) -> None:
    me = store.me()
    assert me is not None
    names = [member.name for member in store.membership.members.values() if not member.revoked]
    may = rights(store, EVERYBODY)
    if as_json:
        joined = {"mesh": store.mesh.hex(), "name": me.name, "device": me.device, "members": names, "may": may}
        click.echo(json.dumps(joined))
        return
    others = [member.name for member in store.membership.members.values() if member != me and not member.revoked]
    click.echo(f"{me.name} is a member now, with {', '.join(others)}.")
    click.echo(f"The other machine must show this fingerprint:\n\n    {readable(me.device)}\n")
    click.echo(in_words("Each of them", may))
    if others:
        click.echo(f'\nMailboxes here and there can reach each other now: zmesh send NAME@{others[0]} "hello"')


async def pair_with(
    secret: Secret, device: Device, name: str, at: tuple[str, int] | None
) -> tuple[Welcome, tuple[str, int]]:
    """Find the inviter, or take its address, and pair.

    Returns:
        What it says, and where its door is.

    Raises:
        WaitTimeout: It is not found.
        PairingError: It does not let this machine in.
    """
    if at is not None:
        try:
            return await pair(*at, secret, device, name), at
        except Unreachable as error:
            raise Unreachable(f"{error}; {_AGAIN}") from error
    from zmesh.discovery.pairing import find  # noqa: PLC0415 - zeroconf takes 60 ms to load

    trouble: PairingError | None = None
    wrong, end = 0, time.monotonic() + LONGEST
    try:
        async with contextlib.aclosing(find(secret.nameplate, LISTEN)) as machines:
            while doors := await _next(machines, MORE if isinstance(trouble, Refusal) else None):
                try:
                    return await _knock(doors, secret, device, name, end)
                except PairingError as error:  # somebody else may have the same nameplate
                    trouble = error if trouble is None or not isinstance(error, Unreachable) else trouble
                    wrong += isinstance(error, Refusal) and error.reason == "code"
                if time.monotonic() > end:
                    break
                if wrong >= CODE_ATTEMPTS:  # each may have been a guess at the code by who pretends to be the inviter
                    break
    except OSError as error:
        raise PairingError(
            f"there is no multicast here ({error}): name the other machine with --at HOST:PORT"
        ) from error
    if isinstance(trouble, Unreachable):
        raise Unreachable(f"{trouble}; {_AGAIN}") from trouble
    if trouble is not None:
        raise trouble
    raise WaitTimeout(
        "no machine on this network shows that code: see that `zmesh invite` still waits there, or name its address "
        f"with --at HOST:PORT; {_AGAIN}"
    )


async def _next(machines: Machines, seconds: float | None) -> list[tuple[str, int]] | None:
    """Return the doors of the next machine; None when there is none, or none within that time."""
    try:
        async with asyncio.timeout(seconds):
            return await anext(machines, None)
    except TimeoutError:
        return None


async def _knock(
    doors: list[tuple[str, int]], secret: Secret, device: Device, name: str, end: float
) -> tuple[Welcome, tuple[str, int]]:
    """Pair at the first address of a machine that answers: at another one a wrong code would be counted once more.

    Raises:
        PairingError: None of them answers, or whoever does lets nobody in.
    """
    trouble = Unreachable("nobody answers")
    for host, port in doors:
        try:
            return await pair(host, port, secret, device, name), (host, port)
        except Unreachable as error:
            trouble = error
        if time.monotonic() > end:
            break
    raise trouble
