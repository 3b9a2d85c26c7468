"""`zmesh doctor`: what keeps this machine from talking to the others, and what to do about it.

It looks and changes nothing: no peer is started or stopped, nothing is announced. Whatever is wrong with the home must
become a line of the report, never a traceback, and no text of others is printed that was not made printable.
"""

import asyncio
import contextlib
import json
import logging
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from zmesh.daemon.errand import ask_daemon
from zmesh.daemon.place import place_of
from zmesh.discovery.diagnosis import OK, TROUBLE, WARNING, Finding, diagnose
from zmesh.discovery.examination import Examination
from zmesh.discovery.observation import Observed
from zmesh.discovery.visits import Named, read_named
from zmesh.errors import DeviceKeyError, MeshError, TrustError
from zmesh.peer.configuration import DISCOVERY, PEERS_VARIABLE, Configuration, chosen_sources, load_configuration
from zmesh.peer.home import device_key_path, home_directory, rendezvous_directory, trust_path
from zmesh.trust.device import Device, read_device
from zmesh.trust.membership import Member
from zmesh.trust.trust_store import TrustStore

COLOURS: Final = {OK: "green", WARNING: "yellow", TROUBLE: "red"}
INDENT: Final = " " * 9
DAEMON_PATIENCE: Final = 2.0  # seconds for the daemon to answer; without it the report has everything else
SHORTEST: Final = 4  # characters of a device id that name a member
_Opened = TypeVar("_Opened")


@click.command()
@click.option("--for", "who", metavar="MEMBER", help="Look for this member only: its name or its id.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(*, who: str | None, as_json: bool) -> None:
    """Find out what keeps this machine from talking to the others, and say what to do.

    Exit code 0 when nothing is in trouble, 1 otherwise.
    """
    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    logging.getLogger("zmesh").addHandler(logging.NullHandler())  # what it would log is in the report
    findings = [_printable(finding) for finding in [*diagnose(_observe(who)), *_halts()]]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        _show(findings)
    if any(finding.level == TROUBLE for finding in findings):
        click.get_current_context().exit(1)


def _observe(who: str | None) -> Observed:
    """Open what can be opened, and examine."""
    faults: list[str] = []
    home = _opened(lambda: home_directory(None), faults)
    device = _opened(lambda: Device.load_or_create(device_key_path(home)), faults) if home is not None else None
    store = _opened(lambda: TrustStore(trust_path(home), device), faults) if home is not None and device else None
    try:
        only = _find(store, who) if who is not None else None
        configuration = (
            _opened(lambda: load_configuration(home), faults) if home is not None else None
        ) or Configuration()
        named = _named(faults, configuration.peers)
        sources = _sources(faults, configuration.discovery)
        if home is None:
            observed = Observed(sys.platform)
        else:
            examination = Examination(
                store, rendezvous_directory(home), named, only, port=configuration.port, sources=sources
            )
            observed = asyncio.run(examination.run())
    finally:
        if store is not None:
            store.close()
    return replace(observed, version=_version(home), faults=(*faults, *observed.faults), descriptors=_descriptors())


def _halts() -> list[Finding]:
    """Ask the daemon, if it runs, what an administrator has halted: then silence is no illness."""
    told: dict[str, Any] = {}
    with contextlib.suppress(OSError, MeshError):
        home = home_directory(None)
        if (home / "daemon").is_dir():  # nothing is made where there was no daemon yet
            told = ask_daemon(place_of(home), "daemon.status", DAEMON_PATIENCE).get("traffic", {})
    findings: list[Finding] = []
    if paused := told.get("paused"):
        what = f"this machine's peer is paused by {paused['by']}: it exchanges no mail with other machines"
        findings.append(Finding("paused", WARNING, what, "`zmesh admin resume` ends that"))
    for halted in told.get("disconnected", ()):
        peer = halted["peer"]
        what = f"{peer} was disconnected here by {halted['by']}: no mail is exchanged with it"
        findings.append(Finding("disconnected", WARNING, what, f"`zmesh admin reconnect {peer}` ends that", peer))
    return findings


def _opened(action: Callable[[], _Opened], faults: list[str]) -> _Opened | None:
    try:
        return action()
    except MeshError as error:
        faults.append(str(error))
        return None


def _named(faults: list[str], configured: tuple[str, ...]) -> tuple[Named, ...]:
    """Read `ZMESH_PEERS`, or else what the configuration names, as a peer does that is started here."""
    listed, named = os.environ.get(PEERS_VARIABLE), []
    for text in configured if listed is None else listed.replace(",", " ").split():
        try:
            named.append(read_named(text))
        except ValueError as error:
            faults.append(f"{PEERS_VARIABLE}: {error}")
    return tuple(named)


def _sources(faults: list[str], configured: tuple[str, ...]) -> tuple[str, ...]:
    """Read `ZMESH_DISCOVERY`, or else what the configuration says; a slip is told, and all are taken."""
    try:
        return chosen_sources(None, configured)
    except ValueError as error:
        faults.append(str(error))
        return DISCOVERY


def _find(store: TrustStore | None, who: str) -> Member:
    """Return the member that somebody means.

    Raises:
        TrustError: There is none, or more than one, or it is this device.
    """
    plain = "".join(who.split()).replace("-", "").lower()
    with contextlib.suppress(DeviceKeyError):  # a name, or the beginning of an id
        plain = read_device(who)
    members = store.membership.members.values() if store is not None else ()
    others = [member for member in members if store is not None and member.public != store.device.public]
    found = [
        member
        for member in others
        if not member.revoked
        and (member.name == who.strip().lower() or (len(plain) >= SHORTEST and member.device.startswith(plain)))
    ]
    if len(found) != 1:
        raise TrustError(f"{who!r} is {'more than one' if found else 'no other'} member: see zmesh trust list")
    return found[0]


def _version(home: Path | None) -> str:
    try:
        ours = version("zmesh-agents")
    except PackageNotFoundError:
        ours = "(not installed)"
    where = f", its home is {home}" if home is not None else ""
    return f"zmesh {ours} on Python {platform.python_version()}, {platform.system()} {platform.release()}{where}"


def _descriptors() -> int | None:
    """Return how many files a peer may open: it raises its soft limit to the hard one."""
    try:
        import resource  # noqa: PLC0415 - not on Windows, which has no such limit
    except ImportError:
        return None
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def _printable(finding: Finding) -> Finding:
    """Replace what would forge lines, or lead a terminal astray."""

    def plain(text: str) -> str:
        return "".join(character if character.isprintable() else "?" for character in text)

    return replace(finding, what=plain(finding.what), advice=plain(finding.advice), member=plain(finding.member))


def _show(findings: list[Finding]) -> None:
    terminal = sys.stdout.isatty()
    colour = terminal and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size().columns if terminal else 1 << 20  # who reads a pipe wants whole lines

    def line(mark: str, text: str) -> str:
        return click.wrap_text(text, width, mark, INDENT)

    for finding in findings:
        mark = (finding.level.upper() if finding.level == TROUBLE else finding.level).ljust(len(INDENT))
        text = line(mark, finding.what)
        click.echo(
            click.style(text[: len(mark)], fg=COLOURS[finding.level], bold=True) + text[len(mark) :], color=colour
        )
        if finding.advice:
            click.echo(line(f"{INDENT}-> ", finding.advice))
    troubles = sum(finding.level == TROUBLE for finding in findings)
    warnings = sum(finding.level == WARNING for finding in findings)
    click.echo(f"\n{troubles} in trouble, {warnings} to look at" if troubles + warnings else "\nall is well")
