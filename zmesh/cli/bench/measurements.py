"""What is measured of zmesh and of the machine under it: each function is one run and returns its figures.

A run starts from nothing, in a directory of its own, and leaves nothing behind. It must not judge: figures that cannot
be (messages missing, twice or out of order) are an error, a slow figure is a figure.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from zmesh.cli.bench.scale import PACE, Sizes
from zmesh.cli.bench.workers import BenchError, Worker, together

Figures = dict[str, float]
_SENDER, _RECEIVER = "bench-a", "bench-b"
_TO = f"sink@{_RECEIVER}"
_PROCESSES = 4  # over which agents are spread


def throughput(place: Path, sizes: Sizes) -> Figures:
    """Durable, encrypted, acknowledged messages from one peer process to another, which finishes each."""
    with Worker("peer", place) as receiver, Worker("peer", place) as sender:
        _introduce(sender, receiver)
        _burst(sender, receiver, sizes.warm_up)
        sent = _burst(sender, receiver, sizes.burst)
    return {
        "stored_per_s": sizes.burst / sent["stored_s"],
        "handled_per_s": sizes.burst / sent["handled_s"],
    }


def latency(place: Path, sizes: Sizes) -> Figures:
    """From the call of send() to the recipient's inbox loop, at an idle pace."""
    with Worker("peer", place) as receiver, Worker("peer", place) as sender:
        _introduce(sender, receiver)
        return _pace(sender, receiver, sizes.paced, {"to": _TO})


def floor(place: Path, sizes: Sizes) -> Figures:
    """Two commits and one encrypted way: what the machine needs at the same pace with no protocol at all."""
    with Worker("floor", place) as lonely:
        lonely.start("database", path=str(place / "lonely.db"))
        commit = lonely.call("commit_paced", count=sizes.paced, rate=PACE)
    with Worker("floor", place) as receiver, Worker("floor", place) as sender:
        sender.start("connect", **receiver.start("bind"))
        way = _pace(sender, receiver, sizes.paced, {})
        # And both in one chain: commit, send, receive, commit.
        sender.start("database", path=str(place / "sender.db"))
        receiver.start("database", path=str(place / "receiver.db"))
        chain = _pace(sender, receiver, sizes.paced, {})
    return (
        commit
        | way
        | {name.replace("way", "chain"): figure for name, figure in chain.items()}
        | {"sum_p50_ms": 2 * commit["commit_p50_ms"] + way["way_p50_ms"]}
    )


def raw(place: Path, sizes: Sizes) -> Figures:
    """Bare CURVE sockets: encrypted, neither durable nor acknowledged."""
    with Worker("floor", place) as receiver, Worker("floor", place) as sender:
        sender.start("connect", **receiver.start("bind"))
        receiver.ask("receive", count=sizes.raw)
        sender.ask("send", count=sizes.raw)
        sent, received = together(sender, receiver)
    return {"received_per_s": sizes.raw / ((received["at"] - sent["at"]) / 1e9)}


def memory(place: Path, sizes: Sizes) -> Figures:
    """The resident set of a peer process: idle, and with messages queued for a peer that is away."""
    with Worker("peer", place) as receiver, Worker("peer", place) as sender:
        _introduce(sender, receiver)
        idle = sender.call("memory")["rss_mib"]
        receiver.call("shut")
        sender.call("queue", to=[_TO], count=sizes.queued)
        return {"idle_mib": idle, "queued_mib": sender.call("memory")["rss_mib"]}


def drain(place: Path, sizes: Sizes) -> Figures:
    """Messages queued for a peer that is away: seconds from the start of its return until it has stored them all."""
    boxes = [f"sink{number}" for number in range(sizes.mailboxes)]
    with Worker("peer", place) as receiver, Worker("peer", place) as sender:
        _introduce(sender, receiver, boxes)
        receiver.call("shut")
        to = [f"{box}@{_RECEIVER}" for box in boxes]
        queued = sender.call("queue", to=to, count=sizes.backlog)
        back = receiver.call("open", name=_RECEIVER, agents=boxes)
        drained = sender.call("drained", name=_RECEIVER)
    return {
        "queue_per_s": sizes.backlog / queued["queue_s"],
        "drain_s": (drained["at"] - back["at"]) / 1e9,
    }


def agents(place: Path, sizes: Sizes) -> Figures:
    """Agents on one daemon, each with a connection of its own, that send to each other; the daemon's memory."""
    shares = [range(sizes.agents)[start::_PROCESSES] for start in range(_PROCESSES)]
    firsts = [sum(map(len, shares[:number])) for number in range(_PROCESSES)]
    with ExitStack() as stack:
        daemon = stack.enter_context(Worker("daemon", place))
        daemon.start("open")
        crews = [stack.enter_context(Worker("agents", place)) for _ in shares]
        for crew, first, share in zip(crews, firsts, shares, strict=True):
            crew.ask("open", first=first, count=len(share))
        connected = max(answer["connect_s"] for answer in together(*crews))
        idle = daemon.call("memory")
        for crew in crews:
            crew.ask("exchange", agents=sizes.agents, each=sizes.each)
        answers = together(*crews)
        memory = daemon.call("memory")
    count = sum(answer["received"] for answer in answers)
    if count != sizes.agents * sizes.each:
        raise BenchError(f"{sizes.agents * sizes.each} messages were sent, and {count} came: please report this")
    return {
        "agents": sizes.agents,
        "connect_s": connected,
        "delivered_per_s": count / max(answer["seconds"] for answer in answers),
        "idle_mb": idle["rss_mb"],
        "peak_mb": memory["peak_mb"],
    }


def _introduce(sender: Worker, receiver: Worker, boxes: list[str] | None = None) -> None:
    boxes = boxes or ["sink"]
    receiver.start("open", name=_RECEIVER, agents=boxes)
    sender.start("open", name=_SENDER, agents=["source"])
    sender.start("meet", name=_RECEIVER, agent=boxes[-1])


def _burst(sender: Worker, receiver: Worker, count: int) -> dict[str, Any]:
    receiver.ask("receive", count=count)
    sender.ask("send", to=_TO, count=count)
    sent, received = together(sender, receiver)
    if received != {"count": count, "distinct": count, "ordered": True}:
        raise BenchError(f"{count} messages were sent in order, and what came is {received}: please report this")
    return sent


def _pace(sender: Worker, receiver: Worker, count: int, arguments: dict[str, Any]) -> Figures:
    receiver.ask("receive_paced", count=count)
    sender.ask("send_paced", count=count, rate=PACE, **arguments)
    sent, received = together(sender, receiver)
    return sent | received
