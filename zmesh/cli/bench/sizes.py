"""How much each measurement does: every count, pace and time limit of the benchmark, in one place."""

from dataclasses import dataclass
from typing import Final

BODY_BYTES: Final = 1024  # the size the design's goals name
IN_FLIGHT: Final = 500  # sent and not yet stored, for zmesh and for the rival
PACE: Final = 50  # messages per second in every latency measurement: idle, and still a few hundred samples
STEP_SECONDS: Final = 120.0  # the longest any one step may take; beyond it the benchmark fails and says where
START_SECONDS: Final = 30.0  # for a process to come up, or two peers to meet
STOP_SECONDS: Final = 10.0  # for a process to end by itself before it is killed
MAX_ROUNDS: Final = 100


@dataclass(frozen=True, slots=True)
class Sizes:
    """What one run of each measurement does.

    Attributes:
        warm_up: Messages of each burst before its measured part, for zmesh and for the rival.
        burst: Messages of one throughput run.
        paced: Messages of one latency run.
        raw: Messages of one run of bare sockets.
        queued: Messages queued for the memory figure.
        backlog: Messages queued for a peer that is away, then drained.
        mailboxes: Over how many mailboxes the backlog is spread: one holds at most 20,000.
    """

    warm_up: int
    burst: int
    paced: int
    raw: int
    queued: int
    backlog: int
    mailboxes: int


FULL: Final = Sizes(warm_up=2000, burst=20_000, paced=250, raw=200_000, queued=10_000, backlog=100_000, mailboxes=10)
QUICK: Final = Sizes(warm_up=50, burst=400, paced=15, raw=2000, queued=500, backlog=2000, mailboxes=2)
