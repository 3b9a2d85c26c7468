"""`zmesh grant`: what other devices may do here, how much of it, and until when.

Each capability is a command of its own. What may harm this machine must never be granted without saying until when.
"""

import json
import re
import time
from datetime import datetime
from math import inf
from typing import Final

import click

from zmesh.cli.invite import open_store
from zmesh.cli.trust import SHORTEST, find_member
from zmesh.errors import MeshError, TrustError
from zmesh.peer.configuration import load_configuration
from zmesh.peer.duration import parse_ttl
from zmesh.peer.home import home_directory
from zmesh.protocol.address import check_name
from zmesh.protocol.bounds import KIB, MAX_BODY, MIB
from zmesh.protocol.directory import near_names
from zmesh.trust.grants import CAPABILITIES, DEFAULTS, EVERYBODY, Grant, Limits, check_capability
from zmesh.trust.trust_store import TrustStore

LIMIT: Final = "limit"
_UNITS: Final = {"": 1, "K": KIB, "M": MIB, "G": KIB * MIB}
_TIMES: Final = {"": 1, "s": 1, "m": 60, "h": 3600}
_AMOUNT: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([KMG]?)(?:i?B)?(?:/(s|m|h))?", re.IGNORECASE)
_HELP: Final = {
    "chat": "Messages of any type that is not named below.",
    "task": "Messages of the types `task` and `command`.",
    "inject": "Messages pushed into a running session.",
    "exec": "Messages of the type `exec`: run a program.",
    "file.write": "Messages of the type `file.write`: write a file.",
}


class _Capabilities(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; for one that there is not, name those that look like it."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            near = near_names(args[0], self.commands)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(CAPABILITIES)}"
            raise click.UsageError(f"there is no capability {args[0]!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Capabilities)
def grant() -> None:
    """Show and change what other machines may do here.

    WHO is a member's name or id, one agent of it (code@laptop), or '*' for all members. The most specific rule decides.
    Without a rule members may chat, task and inject; exec and file.write are never allowed without one.
    """


# --- rules ---


def _add(capability: str) -> None:
    """Make the command of one capability."""

    @grant.command(capability, short_help=_HELP[capability])
    @click.argument("who")
    @click.option(
        "--for", "span", metavar="TIME", callback=_end_of_span, help="How long: 30m, 2h, 7d, or never to end."
    )
    @click.option("--until", metavar="WHEN", callback=_end, help="Until when: 2027-01-31, 2027-01-31T18:00, or never.")
    @click.option("--deny", is_flag=True, help="Forbid it instead.")
    @click.option("--json", "as_json", is_flag=True, help="Print the rule as JSON.")
    def command(*, who: str, span: float | None, until: float | None, deny: bool, as_json: bool) -> None:
        if span is not None and until is not None:
            raise click.UsageError("--for and --until say the same: give one of them")
        end = until if span is None else span
        if end is None and not deny and capability not in DEFAULTS:
            raise click.UsageError(f"say until when {capability} is allowed: --for 2h, say, or --until never")
        with open_store() as store:
            device, agent = _whom(store, who)
            rule = Grant(capability, device, agent, not deny, None if end in (None, inf) else end, time.time())
            store.grants.put(rule)
            _report(store, rule, as_json=as_json)

    command.help = f"Allow WHO: {_HELP[capability]}"


def _end_of_span(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a time such as 2h; return when that is over, seconds since 1970, and infinity for never."""
    if value is None:
        return None
    try:
        seconds = parse_ttl(value, "the time")
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error
    return inf if seconds is None else time.time() + seconds


def _end(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a date, by this machine's clock and in its time zone unless it names another one."""
    if value is None or value == "never":
        return None if value is None else inf
    try:
        end = datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        text = f"{value!r} is no time: write 2027-01-31, 2027-01-31T18:00, or never"
        raise click.BadParameter(text, ctx, param) from error
    if end <= time.time():
        raise click.BadParameter(f"{value} is over", ctx, param)
    return end


for _capability in CAPABILITIES:
    _add(_capability)


# --- limits ---


def _rate(ctx: click.Context, param: click.Parameter, value: str | None) -> float:
    """Read an amount such as 100/s, 1M/s or 64K; 0 where none was given."""
    if value is None:
        return 0.0
    match = _AMOUNT.fullmatch(value.strip())
    counted = param.name == "messages"
    timed = param.name != "size"
    if match is None or float(match[1]) <= 0 or (counted and match[2]) or (not timed and match[3]):
        example = {"messages": "100/s", "octets": "1M/s"}.get(str(param.name), "64K")
        text = f"{value!r} is no such limit: write {example}; to take nothing, deny it (zmesh grant chat WHO --deny)"
        raise click.BadParameter(text, ctx, param)
    return float(match[1]) * _UNITS[match[2].upper()] / _TIMES[(match[3] or "").lower()]


@grant.command(LIMIT)
@click.argument("who")
@click.option("--messages", metavar="RATE", callback=_rate, help="At most so many messages: 100/s, 600/m.")
@click.option("--bytes", "octets", metavar="RATE", callback=_rate, help="At most so much of bodies: 1M/s, 500K/s.")
@click.option("--size", metavar="SIZE", callback=_rate, help="No body larger than that: 64K.")
@click.option("--json", "as_json", is_flag=True, help="Print the limits as JSON.")
def limit(*, who: str, messages: float, octets: float, size: float, as_json: bool) -> None:
    """Limit how much WHO may send: a member, or '*' for each member.

    Ten seconds' worth may come at once. What is over a rate is taken later; a body over the size is refused.
    """
    if not (messages or octets or size):
        raise click.UsageError("say what is limited: --messages, --bytes or --size")
    if size and not 1 <= size <= MAX_BODY:
        raise click.BadParameter(f"between 1 byte and {MAX_BODY // KIB}K, which no body exceeds", param_hint="--size")
    with open_store() as store:
        device, agent = _whom(store, who)
        if agent:
            raise TrustError(f"limits are for a whole device: write {who.rpartition('@')[2]}")
        store.grants.limit(device, Limits(messages, octets, int(size)))
        found = _limits_json(store, device)
        click.echo(json.dumps(found) if as_json else _limits_line(found))


# --- both ---


@grant.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def list_(*, as_json: bool) -> None:
    """List all rules and limits, and what holds without any."""
    with open_store() as store:
        now = time.time()
        rules = [_rule_json(store, rule) for rule in store.grants.rules if rule.until is None or rule.until > now]
        limits = [_limits_json(store, device) for device in store.grants.limits]
    defaults = {capability: capability in DEFAULTS for capability in CAPABILITIES}
    quotas = load_configuration(home_directory()).quotas
    usual = {"messages": quotas.device_messages, "bytes": quotas.device_bytes, "size": MAX_BODY}
    if as_json:
        known = {"default": defaults, "grants": rules, "default_limits": usual, "limits": limits}
        click.echo(json.dumps(known))
        return
    for words in (*map(_rule_line, rules), *map(_limits_line, limits)):
        click.echo(words)
    may, not_ = (", ".join(name for name in CAPABILITIES if defaults[name] is given) for given in (True, False))
    click.echo(f"{'otherwise' if rules else 'all members'}: {may}; not {not_}")


@grant.command()
@click.argument("what")
@click.argument("who")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def remove(*, what: str, who: str, as_json: bool) -> None:
    """Remove a rule, or the limits: WHAT is a capability, or limit."""
    with open_store() as store:
        if what != LIMIT:
            check_capability(what)
        device, agent = _ruled(store, who) or _whom(store, who)
        removed = store.grants.unlimit(device) if what == LIMIT else store.grants.remove(what, device, agent)
        if not removed:
            raise TrustError(
                f"there is no {'limit' if what == LIMIT else f'rule about {what}'} for {who}: zmesh grant list"
            )
    click.echo(json.dumps({"removed": what, "who": who}) if as_json else f"{what} for {who}: removed")


def _whom(store: TrustStore, who: str) -> tuple[str, str]:
    """Return device id and agent of whom somebody means; the agent is empty for the whole device.

    Raises:
        TrustError: It is nobody, is this device, was revoked, or cannot be meant yet.
    """
    if who == EVERYBODY:
        return EVERYBODY, ""
    if who.startswith("#"):
        raise TrustError(f"{who} would be a room, and there are no rooms yet: name a member, an agent of one, or '*'")
    agent, at, place = who.rpartition("@")
    if at:
        try:
            agent = check_name(agent, "agent name")
        except MeshError as error:
            raise TrustError(str(error)) from error
    if at and place == EVERYBODY:
        raise TrustError(f"an agent belongs to a device: write {agent}@MEMBER, or '*' for all members")
    member = find_member(store, place)
    if member.device == store.device.id:
        raise TrustError(f"{member.name} is this device: between its own programs there is no boundary, nor any limit")
    if member.revoked:
        raise TrustError(f"{member.name} was revoked: nothing of it is taken any more")
    return member.device, agent


def _ruled(store: TrustStore, who: str) -> tuple[str, str] | None:
    """Return the one that has a rule or a limit and is meant, a member or not any more; None when that is not clear."""
    agent, _, place = who.rpartition("@")
    known = {rule.device for rule in store.grants.rules} | set(store.grants.limits)
    plain = place.replace("-", "").lower()
    found = [
        device
        for device in known
        if _name(store, device) == place.lower() or (len(plain) >= SHORTEST and device.startswith(plain))
    ]
    return (found[0], agent) if len(found) == 1 else None


def _name(store: TrustStore, device: str) -> str:
    member = store.membership.by_device(device)
    return EVERYBODY if device == EVERYBODY else member.name if member else device


def _rule_json(store: TrustStore, rule: Grant) -> dict[str, object]:
    name = _name(store, rule.device)
    return {
        "capability": rule.capability, "who": f"{rule.agent}@{name}" if rule.agent else name, "device": rule.device,
        "agent": rule.agent or None, "allow": rule.allow, "until": rule.until, "at": rule.at,
    }  # fmt: skip


def _rule_line(rule: dict[str, object]) -> str:
    end = rule["until"]
    when = "for good" if not isinstance(end, float) else time.strftime("until %Y-%m-%d %H:%M", time.localtime(end))
    return f"{rule['who']}: {rule['capability']} {'allowed' if rule['allow'] else 'DENIED'} {when}"


def _limits_json(store: TrustStore, device: str) -> dict[str, object]:
    limits = store.grants.limits[device]
    return {
        "who": _name(store, device), "device": device, "messages": limits.messages or None,
        "bytes": limits.octets or None, "size": limits.size or None,
    }  # fmt: skip


def _limits_line(limits: dict[str, object]) -> str:
    units = {"messages": "messages a second", "bytes": "bytes a second", "size": "bytes in one body"}
    said = [f"{limits[name]:,.10g} {unit}" for name, unit in units.items() if limits[name] is not None]
    return f"{limits['who']}: at most {', '.join(said)}"


def _report(store: TrustStore, rule: Grant, *, as_json: bool) -> None:
    shown = _rule_json(store, rule)
    click.echo(json.dumps(shown) if as_json else _rule_line(shown))
