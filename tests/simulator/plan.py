"""What one seed's storm is made of: swarm testing, so each seed draws which faults are on and how strong they are.

A storm that has every fault at once hides the bugs that need one fault alone; so most are off in any one seed. This
module only draws; it must never look at the mesh.
"""

from dataclasses import dataclass
from random import Random
from typing import Any


@dataclass(frozen=True)
class Plan:
    """The strength of everything, for one seed. Times are in seconds.

    Attributes:
        stores: How many stores; `devices` says which device each belongs to.
        sends: Sends of the workload, replies not counted.
        storm: Length of the first phase.
        burst: Sends in a row of one sender.
        latency: Of the network, one way; `jitter` is added.
        buffer: Frames that fit into one connection.
        crashes, partitions, cuts, stalls, holes, pauses, jumps, rollbacks, full, moves: How many of each happen.
        late: Chance that the frames a cut connection had delivered to the far machine still arrive later.
        survive: Chance that frames not yet written at a cut go out on the next connection.
        duplicate: Chance that a frame of a cut connection arrives once more.
        silent: Chance that a reconnect tells the sender nothing.
        hostile: Hostile frames per second.
        commit: Seconds one commit takes; `group` is how many share one.
        local, replies, cancels, ghosts, late_mailboxes, retries: Chances in the workload.
        nack, hold, leave: Chances that a consumer gives a message back, keeps it, or goes away.
        body: Largest body in bytes.
        bounds: Protocol bounds that are made small for this seed.
        halts: How often a store is paused or disconnects another one, until it is released.
        tidyings: How often somebody moves what is in a mailbox into another one, or replays what is dead.
        walls: How many pairs of stores there are of which one cannot dial the other; `walls_stay` when they do.
    """

    stores: int
    devices: tuple[int, ...]
    sends: int
    storm: float
    burst: int
    latency: float
    jitter: float
    buffer: int
    crashes: int
    partitions: int
    cuts: int
    stalls: int
    holes: int
    pauses: int
    jumps: int
    rollbacks: int
    full: int
    moves: int
    late: float
    survive: float
    duplicate: float
    silent: float
    hostile: float
    commit: float
    group: int
    local: float
    replies: float
    cancels: float
    ghosts: float
    late_mailboxes: float
    retries: float
    short_ttl: float
    nack: float
    hold: float
    leave: float
    body: int
    deferred: bool
    bounds: tuple[tuple[str, int], ...]
    walls: int
    walls_stay: bool
    halts: int
    tidyings: int


def draw(random: Random) -> Plan:
    """Draw the plan of a seed."""

    def some(chance: float, least: int, most: int) -> int:
        return random.randint(least, most) if random.random() < chance else 0

    def rate(chance: float, most: float) -> float:
        return random.random() * most if random.random() < chance else 0.0

    stores = random.choice((3, 3, 3, 4))
    devices = tuple(range(stores)) if random.random() < 0.7 else (0, 0, *range(1, stores - 1))
    return Plan(
        stores=stores,
        devices=devices,
        sends=random.randint(200, 240),
        storm=random.choice((8.0, 15.0, 30.0)),
        burst=random.choice((1, 4, 20, 60)),
        latency=random.choice((0.0005, 0.005, 0.05)),
        jitter=random.choice((0.0, 0.002, 0.05)),
        buffer=random.choice((150, 400, 1000, 1000)),
        crashes=random.randint(6, 9),
        partitions=random.randint(1, 3),
        cuts=some(0.7, 1, 25),
        stalls=some(0.3, 1, 3),
        holes=some(0.4, 1, 3),
        pauses=some(0.3, 1, 3),
        jumps=some(0.2, 1, 2),
        rollbacks=some(0.35, 1, 2),
        full=some(0.35, 1, 4),
        moves=some(0.25, 1, 2),
        late=rate(0.6, 1.0),
        survive=rate(0.5, 1.0),
        duplicate=rate(0.4, 0.5),
        silent=rate(0.6, 1.0),
        hostile=rate(0.4, 6.0),
        commit=random.choice((0.0005, 0.004, 0.03)),
        group=random.choice((1, 4, 64)),
        local=rate(0.7, 0.2),
        replies=rate(0.7, 0.4),
        cancels=rate(0.5, 0.15),
        ghosts=rate(0.4, 0.05),
        late_mailboxes=rate(0.5, 0.4),
        retries=random.random(),
        short_ttl=rate(0.6, 0.3),
        nack=rate(0.5, 0.4),
        hold=rate(0.4, 0.05),
        leave=rate(0.5, 0.05),
        body=random.choice((20, 20, 2000, 60_000)),
        deferred=random.random() < 0.5,
        bounds=_draw_bounds(random),
        walls=some(0.4, 1, 3),
        walls_stay=random.random() < 0.6,
        halts=some(0.4, 1, 6),
        tidyings=some(0.5, 1, 20),
    )


def _draw_bounds(random: Random) -> tuple[tuple[str, int], ...]:
    choices: dict[str, tuple[int, ...]] = {
        "WINDOW_MESSAGES": (3, 10, 40),
        "BATCH_MESSAGES": (1, 3, 8),
        "ENDINGS_PER_ACK": (5, 8),
        "OUTCOMES_PER_FRAME": (2, 8),
        "MARK_AHEAD": (1, 4, 16),
        "IN_FLIGHT_BYTES": (3000, 20_000),
        "CACHED_BODY_BYTES": (100, 2000),
        "MAILBOX_MESSAGES": (4, 12, 40),
        "QUOTA_MESSAGES": (20, 60),
        "MAX_ATTEMPTS": (3,),
        "CANCELS_PER_FRAME": (1, 2),
    }
    if random.random() < 0.3:
        return ()
    chosen: list[tuple[str, int]] = []
    for name, values in choices.items():
        if random.random() < (0.6 if name == "MAX_ATTEMPTS" else 0.35):
            chosen.append((name, random.choice(values)))
    return tuple(chosen)


def summary(plan: Plan) -> dict[str, Any]:
    """Return what is on in the plan, for a report of a failing seed."""
    return {name: value for name, value in vars(plan).items() if value not in (0, 0.0, ())}
