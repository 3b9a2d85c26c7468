"""`zmesh admin pause`, `resume`, `disconnect`, `reconnect` and `drain`: the daemon's traffic with other machines.

None of these may say that something is done before the daemon has it on disk.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click

from zmesh.cli.admin import act
from zmesh.cli.options import COMPLETION_PATIENCE, json_option, own_place, read_timeout
from zmesh.cli.printing import harmless, print_json
from zmesh.cli.status import ENDING
from zmesh.daemon.client import Client
from zmesh.daemon.connecting import connected
from zmesh.daemon.errand import ask_daemon, wait_until_gone
from zmesh.errors import DaemonError, MeshError, WaitTimeout

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

LOOK_EVERY: Final = 0.2  # seconds; a look costs the daemon some 10 ms for 100,000 messages
SAY_EVERY: Final = 1.0  # seconds between two lines about what is left
RELINK: Final = 3.0  # seconds in which a link that has just broken, or a daemon that has just started, is linked again

Values = dict[str, Any]
Say = Callable[[str], None]


def complete_peer(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":  # noqa: ARG001 - click's
    """Name the other peers that the running daemon knows."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - while completing only

    with suppress(OSError, MeshError):
        peers = ask_daemon(own_place()[1], "peers", COMPLETION_PATIENCE)
        return [CompletionItem(peer["name"]) for peer in peers if peer["name"].startswith(incomplete.lower())]
    return []


@click.command()
@json_option
def pause(*, as_json: bool) -> None:
    """Exchange no mail with other machines until `zmesh admin resume`.

    Links end, and the others see that this peer is paused. Mail waits at both ends; programs of this machine go on
    sending, and go on among themselves. A pause lasts over restarts of the daemon. It does not shut anybody out: see
    zmesh trust.
    """
    done = act("pause")
    _tell(done, "paused: mail to and from other machines waits until `zmesh admin resume`", as_json=as_json)


@click.command()
@json_option
def resume(*, as_json: bool) -> None:
    """End a pause or a drain: links come up again at once, and new sends are taken.

    A peer that was disconnected by itself stays so until `zmesh admin reconnect`.
    """
    done = act("resume")
    text = "resumed: mail goes on" if done["changed"] else "nothing was paused or drained: mail goes on as before"
    _tell(done | {"changed": True}, text, as_json=as_json)


@click.command()
@click.argument("peer", shell_complete=complete_peer)
@json_option
def disconnect(*, peer: str, as_json: bool) -> None:
    """Exchange no mail with one other peer until `zmesh admin reconnect`.

    PEER is its name, or its store id or the beginning of that, as `zmesh peers --json` prints it; name~STORE tells
    namesakes apart. Mail for it waits. It is told so, and so it is whenever it asks; this lasts over restarts of the
    daemon, and concerns no other peer of its machine. It is no revocation: what it may do here is as before, and it is
    a member of the mesh as before. `zmesh trust revoke` shuts a machine out.
    """
    done = act("disconnect", peer=peer)
    name = _as_asked(peer, done["peer"])
    _tell(done, f"{name} is disconnected: mail waits until `zmesh admin reconnect {name}`", as_json=as_json)


@click.command()
@click.argument("peer", shell_complete=complete_peer)
@json_option
def reconnect(*, peer: str, as_json: bool) -> None:
    """Exchange mail with a peer again that was disconnected.

    PEER as of `zmesh admin disconnect`.
    """
    done = act("reconnect", peer=peer)
    name = _as_asked(peer, done["peer"])
    text = f"{name} is wanted again" if done["changed"] else f"{name} was not disconnected"
    _tell(done | {"changed": True}, text, as_json=as_json)


@click.command()
@click.option("--timeout", callback=read_timeout, help="How long to wait at most, such as 30s or 15m.")
@click.option("--then-down", is_flag=True, help="End the daemon once nothing is left that can go out.")
@json_option
def drain(*, timeout: float | None, then_down: bool, as_json: bool) -> None:
    """Take no new sends, and wait until what can go out has been stored at its recipients.

    From now on a send fails, and says why; answers to what lies in mailboxes still go out. What is for peers that are
    not linked stays here, on disk, and is listed. New sends are taken again after `zmesh admin resume`, or when the
    daemon is started anew. Exit code 3 when the time is over first; nothing new is taken then, either.
    """
    act("drain")
    end = None if timeout is None else time.monotonic() + timeout
    with connected() as client:
        left = _watch(client, end, (lambda _: None) if as_json else (lambda line: click.echo(harmless(line))))
    drained = not left["going"]
    pid = _end() if drained and then_down else None
    if as_json:
        print_json(left | {"drained": drained, "ended": pid})
    else:
        for line in _kept(left):
            click.echo(harmless(line))
    if not drained:
        raise WaitTimeout(
            f"not drained after {timeout:g} s: {_listed(left['going'])} still on the way. Nothing new is taken until "
            "`zmesh admin resume`; the same command goes on waiting"
        )
    if not as_json:
        how = f"the daemon, process {pid}, is down" if pid else "nothing new is taken until `zmesh admin resume`"
        click.echo(f"drained: {how}")


def _tell(done: Values, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        click.echo(harmless(text if done["changed"] else f"{text} (it was so before)"))


def _as_asked(asked: str, peer: str) -> str:
    """Return what a peer is called: the name that was asked for, which was clear enough, or `name~STORE`."""
    name = asked.strip().lower()
    return name if peer.startswith(f"{name}~") else peer


def _watch(client: Client, end: float | None, say: Say) -> Values:
    """Wait until nothing is left that can go out; return what is left then, or when the time is over.

    Raises:
        DaemonError: Somebody has resumed it, or the daemon was started anew: it takes new sends.
    """
    begun, said, last = time.monotonic(), "", 0.0
    while True:
        left: Values = client.call("admin.leaving")
        if not left["draining"]:
            raise DaemonError("nothing is being drained any more: somebody has resumed it, or started the daemon anew")
        now = time.monotonic()
        over = end is not None and now >= end
        if over or not (left["going"] or (left["away"] and now < begun + RELINK)):
            return left
        line = f"to go: {_listed(left['going'])}" + (f", {left['refused']} refused for now" if left["refused"] else "")
        if left["going"] and line != said and now >= last + SAY_EVERY:
            say(line)
            said, last = line, now
        time.sleep(LOOK_EVERY if end is None else max(0.0, min(LOOK_EVERY, end - now)))


def _kept(left: Values) -> list[str]:
    """Say what cannot go out now, in lines."""
    lines = [f"kept for {_listed(left['away'])}: not linked"] if left["away"] else []
    if left["nowhere"]:
        lines.append(f"kept for peers or mailboxes that are not there yet: {left['nowhere']}")
    return lines


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{peer} {count}" for peer, count in sorted(counts.items()))


def _end() -> int:
    """End the daemon, and wait until it is gone; return what its process id was."""
    _, place = own_place()
    pid = int(ask_daemon(place, "daemon.down")["pid"])
    wait_until_gone(place, pid, ENDING)
    return pid
