"""`zmesh peers` and `zmesh agents`: who is there, and how far that can be believed.

Nothing stale must look as if it were true now.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any

import click

from zmesh.cli.options import json_option
from zmesh.cli.printing import duration, print_json, print_table
from zmesh.daemon.connecting import connected


@click.command()
@json_option
def peers(*, as_json: bool) -> None:
    """List the other peers that are known, linked ones first."""
    with connected() as client:
        found = client.peers()
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo(
            "no other peer is known yet: zmesh invite brings another machine in, zmesh doctor says what is wrong"
        )
        return
    count = Counter(peer["name"] for peer in found)
    doubled = {name for name, each in count.items() if each > 1}
    print_table(
        ("PEER", "LINK", "AGENTS", "WAITING", "HEARD", "TROUBLE"),
        [_peer_row(peer, doubled) for peer in found],
        faint=[not peer["linked"] for peer in found],
    )


@click.command()
@json_option
def agents(*, as_json: bool) -> None:
    """List all agents that are known: those of this machine first, then those of linked peers.

    What is said of an agent whose peer is not linked is as old as it says.
    """
    with connected() as client:
        found = client.agents()
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no agent is known yet: zmesh inbox --as NAME makes a mailbox of that name")
        return
    print_table(
        ("AGENT", "STATUS", "ROLE", "CAN", "PROJECT", "REACH", "SEEN"),
        [_agent_row(agent) for agent in found],
        faint=[not agent["fresh"] for agent in found],
    )


def _peer_row(peer: dict[str, Any], doubled: Collection[str]) -> list[str]:
    link = "linked" if peer["linked"] else "not linked"
    name = f"{peer['name']}~{peer['store'][:8]}" if peer["name"] in doubled else peer["name"]
    return [name, link, str(len(peer["agents"])), str(peer["queued"]), _ago(peer["heard"]), peer["trouble"]]


def _agent_row(agent: dict[str, Any]) -> list[str]:
    stale = "" if agent["fresh"] else f" (stale: heard {_ago(agent['as_of'])})"
    return [
        agent["address"], agent["status"] + stale, agent["role"], ", ".join(agent["capabilities"]), agent["project"],
        agent["reach"], "now" if agent["fresh"] and agent["last_seen"] == 0 else _ago(agent["last_seen"]),
    ]  # fmt: skip


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{duration(seconds)} ago"
