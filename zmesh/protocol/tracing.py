"""Questions about a message's life: how often another device may ask, and what it is answered.

A question is answered only to the device that has sent that very message to this store, or to which it went; everybody
else is told the same as of a message that never was. Times travel as ages: no two clocks are ever compared. This module
must never let a question cost more than a look into the store.
"""

from collections.abc import Iterable

from zmesh.protocol.bounds import MAX_PEERS, STEPS_PER_TRACE, TRACES_AT_ONCE, TRACES_PER_SECOND
from zmesh.protocol.bucket import Bucket
from zmesh.protocol.frames import Step, Trace, Traced
from zmesh.protocol.ownership import owns
from zmesh.protocol.record import record


class Questions:
    """How often each device may ask."""

    def __init__(self) -> None:
        """Begin with nobody having asked."""
        self._buckets: dict[str, Bucket] = {}

    def allow(self, device: str, now: float) -> bool:
        """Count a question of a device, or say that it asks too often.

        Args:
            device: As CURVE named it.
            now: Seconds.
        """
        bucket = self._buckets.pop(device, None) or Bucket(TRACES_PER_SECOND, TRACES_AT_ONCE, now)
        if len(self._buckets) >= MAX_PEERS:
            del self._buckets[next(iter(self._buckets))]  # who has asked nothing for longest
        self._buckets[device] = bucket
        if not bucket.holds(1, now):
            return False
        bucket.take(1)
        return True


@record
class Life:
    """What this store knows of one message.

    Attributes:
        store: The other store: where it came from, or where it went; empty while that is not known.
        sent: True when it came from the other store, False when it went there: as whoever asks would say it.
        state: Where it stands here, a word.
        attempts: As in `Traced`.
        steps: As in `Traced`.
    """

    store: bytes
    sent: bool
    state: str
    attempts: int
    steps: tuple[Step, ...]


def answer(question: Trace, device: str, lives: Iterable[Life]) -> Traced:
    """Return what a device is told that asks about a message.

    Args:
        question: What it asks.
        device: As CURVE named it.
        lives: What is known here of messages with that id; two devices may use the same one.
    """
    for life in lives:
        if life.sent == question.sent and life.store and owns(device, life.store):
            return Traced(question.id, question.sent, life.state, life.attempts, life.steps[-STEPS_PER_TRACE:])
    return Traced(question.id, question.sent)
