"""`zmesh trust`: who is a member, who may go, and who this device is.

A recovery phrase must never be asked for on the command line, where others see it: it is read from the terminal or a
pipe.
"""

import json
import time
from typing import Any, Final

import click

from zmesh.cli.invite import open_store
from zmesh.errors import DeviceKeyError, MeshError, TrustError
from zmesh.protocol.address import check_name
from zmesh.protocol.directory import near_names
from zmesh.trust.device import fingerprint, read_device, readable
from zmesh.trust.entry import Certificate, Entry, Genesis, Joining, Rename, Revocation
from zmesh.trust.membership import Member
from zmesh.trust.trust_store import RECOVERY_BYTES, TrustStore
from zmesh.trust.words import read_words

SHORTEST: Final = 4  # characters of a device id that name a member


@click.group()
def trust() -> None:
    """Show and change who is trusted."""


@trust.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(*, as_json: bool) -> None:
    """Show who this device is."""
    with open_store() as store:
        me, device, mesh = store.me(), store.device.id, store.mesh.hex()
    revoked = me is not None and me.revoked
    if as_json:
        known = {"device": device, "name": me.name if me else None, "mesh": mesh or None, "revoked": revoked}
        click.echo(json.dumps(known))
        return
    click.echo(f"device  {readable(device)}")
    click.echo(f"name    {me.name if me else '(in no mesh yet: zmesh invite, or zmesh join CODE)'}")
    if mesh:
        click.echo(f"mesh    {mesh[:16]}")
    if me is not None and me.revoked:
        click.echo(f"REVOKED {me.reason or '(no reason given)'}")


@trust.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def list_(*, as_json: bool) -> None:
    """List all members, and who was revoked."""
    with open_store() as store:
        membership = store.membership
    members = list(membership.members.values())
    if as_json:
        click.echo(json.dumps([_as_json(member) for member in members]))
        return
    for member in members:
        inviter = membership.by_device(member.inviter)
        how = f"invited by {inviter.name}" if inviter else "founder"
        gone = f"  REVOKED{': ' + member.reason if member.reason else ''}" if member.revoked else ""
        click.echo(f"{member.name:<20} {readable(member.device)}  {how}, {_day(member.at)}{gone}")
    if not members:
        click.echo("this device is in no mesh yet: `zmesh invite` founds one, `zmesh join CODE` joins one")


@trust.command()
@click.argument("who")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def log(*, who: str, as_json: bool) -> None:
    """List what a device has signed: WHO is its name or its id."""
    with open_store() as store:
        member = find_member(store, who)
        entries, membership = store.log(member.public), store.membership
    honoured = len(member.honoured(entries))
    if as_json:
        rows = [
            {"number": entry.seq, "at": entry.at, "void": entry.seq > honoured, **_said(entry)} for entry in entries
        ]
        click.echo(json.dumps(rows))
        return
    for entry in entries:
        said = _said(entry)
        about = membership.by_device(said.get("device", ""))
        text = " ".join(str(part) for part in (said["says"], said.get("name") or (about.name if about else "")) if part)
        click.echo(f"{entry.seq:>5}  {_day(entry.at)}  {text}{'' if entry.seq <= honoured else '  VOID'}")


@trust.command()
@click.argument("who")
@click.option("--reason", default="", help="Why; all members see it.")
@click.option("--last", type=click.IntRange(0), help="Honour its entries up to this number only; see zmesh trust log.")
@click.option("--all", "nothing", is_flag=True, help="Do not honour any entry it has signed: whom it invited goes too.")
@click.option("--recovery", is_flag=True, help="Ask for the recovery phrase, to revoke the founder.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def revoke(*, who: str, reason: str, last: int | None, nothing: bool, recovery: bool, as_json: bool) -> None:
    """Shut a device out, for good: WHO is its name or its id.

    Its entries so far stay honoured, unless --last or --all says otherwise.
    """
    if nothing and last is not None:
        raise click.UsageError("--all and --last contradict each other")
    with open_store() as store:
        member = find_member(store, who)
        if member.public == store.device.public and not recovery:
            raise TrustError(
                f"{member.name} is this device itself, and a revocation is for good: `zmesh trust leave` leaves the "
                "mesh; if it is to be shut out, revoke it from another one"
            )
        revocation = store.revocation(member.public, 0 if nothing else last, reason)
        if recovery:
            phrase = click.prompt("Recovery phrase", hide_input=True, err=True)
            store.recover(_octets(phrase), revocation)
        elif store.membership.may_revoke(store.device.public, member.public):
            store.say(revocation)
        else:
            raise TrustError(_not_yours(store, member))
        out = [gone for gone in store.membership.members.values() if gone.public == member.public]
    _report(out[0], f"{member.name} is revoked here, and wherever this is heard of", as_json=as_json)


@trust.command()
@click.argument("who")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def rename(*, who: str, name: str, as_json: bool) -> None:
    """Call a device differently: WHO is its name or its id."""
    try:
        called = check_name(name, "peer name")
    except MeshError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error
    with open_store() as store:
        member = find_member(store, who)
        if not store.membership.may_revoke(store.device.public, member.public):
            raise TrustError(f"{member.name} was not invited by this device: it can rename itself")
        if any(other.public != member.public for other in store.membership.by_name(called)):
            raise TrustError(f"another member is called {called}: choose another name")
        store.say(Rename(member.public, called))
        renamed = store.membership.members[member.public]
    _report(renamed, f"{member.name} is called {renamed.name} now", as_json=as_json)


@trust.command()
@click.confirmation_option(prompt="Leave the mesh? The others list this device until one of them revokes it")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def leave(*, as_json: bool) -> None:
    """Leave the mesh."""
    with open_store() as store:
        if not store.mesh:
            raise TrustError("this device is in no mesh: there is nothing to leave")
        mesh = store.mesh.hex()
        store.leave()
    click.echo(json.dumps({"left": mesh}) if as_json else "this device is in no mesh any more")


def _octets(phrase: str) -> bytes:
    words = phrase.split()
    if len(words) != RECOVERY_BYTES:
        raise TrustError(f"a recovery phrase has {RECOVERY_BYTES} words, not {len(words)}")
    return read_words(words)


def _not_yours(store: TrustStore, member: Member) -> str:
    inviter = store.membership.by_device(member.inviter)
    if inviter is None:
        return f"{member.name} founded the mesh: only its recovery phrase can revoke it (--recovery)"
    return f"{member.name} was not invited by this device: {inviter.name}, or who invited that, may revoke it"


def find_member(store: TrustStore, who: str) -> Member:
    """Return the member that somebody means; who is not revoked comes first.

    Raises:
        TrustError: There is none, or more than one.
    """
    plain = "".join(who.split()).replace("-", "").lower()
    with_check = SHORTEST
    try:
        plain = read_device(who)
        with_check = len(plain)
    except DeviceKeyError:
        pass  # a name, or the beginning of an id
    found = [
        member
        for member in store.membership.members.values()
        if member.name == who.strip().lower() or (len(plain) >= with_check and member.device.startswith(plain))
    ]
    found = [member for member in found if not member.revoked] or found
    if len(found) != 1:
        several = ", ".join(f"{member.name} {readable(member.device)}" for member in found)
        near = near_names(who.strip().lower(), (member.name for member in store.membership.members.values()))
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise TrustError(f"{who!r} is {f'several: {several}' if found else f'no member{hint}: see zmesh trust list'}")
    return found[0]


def _said(entry: Entry) -> dict[str, Any]:
    match entry.body:
        case Genesis(name=name):
            return {"says": "founded", "name": name}
        case Joining():
            return {"says": "joined"}
        case Certificate(device=device, name=name):
            return {"says": "invited", "name": name, "device": fingerprint(device)}
        case Revocation(device=device, last=last, reason=reason):
            return {"says": "revoked", "device": fingerprint(device), "last": last, "reason": reason}
        case Rename(device=device, name=name):
            return {"says": "renamed", "name": name, "device": fingerprint(device)}
        case unknown:
            return {"says": f"something of a later zmesh ({unknown.kind})"}


def _day(at: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _report(member: Member, text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(_as_json(member)) if as_json else text)


def _as_json(member: Member) -> dict[str, object]:
    return {
        "name": member.name, "device": member.device, "inviter": member.inviter or None, "at": member.at,
        "revoked": member.revoked, "reason": member.reason,
    }  # fmt: skip
