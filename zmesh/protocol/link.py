"""The link machine: one peer's connection to another store, from the first dial to the last ping.

It decides when to dial, to say HELLO, to ping and to give up on a connection, and it never decides anything about
messages. A link is UP when the other side has echoed our present link id; it stays so until the connection is
replaced, the other side resets it, or nothing is heard for too long. Whenever a link leaves UP it draws a new id, so
that what the other side says of our streams is known to be younger than the id it echoes.
"""

from dataclasses import dataclass

from zmesh.protocol.backoff import Backoff
from zmesh.protocol.bounds import (
    ABSENT_AFTER,
    ABSENT_REDIAL,
    BYE_REDIAL,
    DIAL_PATIENCE,
    HELLO_FIRST,
    HELLO_MAX,
    IDLE_PING,
    LINK_ID_BYTES,
    MAX_ENDPOINTS,
    PING_FIRST,
    PING_MAX,
    REDIAL_FIRST,
    REDIAL_MAX,
    SILENCE,
    STALLED,
)
from zmesh.protocol.entropy import Entropy
from zmesh.protocol.states import LINK, Link, step

NEVER = float("inf")
_HELLO_GAP = 0.01  # seconds between two HELLOs at least: two peers that restart together must not talk in circles


@dataclass(frozen=True, slots=True)
class Act:
    """What the link wants done: dial `endpoint`, hang up, say HELLO, or ping."""

    dial: str = ""
    hangup: bool = False
    hello: bool = False
    ping: bool = False


NOTHING = Act()


class LinkMachine:
    """The link to one store.

    Attributes:
        state: As in `states.Link`.
        id: Our link id; frames we send carry it.
        peer_id: Their link id, empty before their first HELLO.
        endpoints: Where to dial, best first.
        heard: When the last valid frame came, seconds.
    """

    def __init__(self, entropy: Entropy, now: float) -> None:
        """Begin with no connection."""
        self.state = Link.IDLE
        self.id = b""
        self.peer_id = b""
        self.endpoints: tuple[str, ...] = ()
        self.heard = now
        self._entropy = entropy
        self._dialled = ""
        self._next = 0  # which endpoint is tried next
        self._since = now  # when the last sign of life was, or the wish to link
        self._redial = Backoff(REDIAL_FIRST, REDIAL_MAX)
        self._dial_at = NEVER
        self._give_up_at = NEVER
        self._hello = Backoff(HELLO_FIRST, HELLO_MAX)
        self._hello_at = NEVER
        self._said_hello = float("-inf")
        self._ping = Backoff(PING_FIRST, PING_MAX)
        self._ping_at = NEVER
        self._waiting = False  # something is unconfirmed
        self._waits_since = now

    # --- what happens to it ---

    def sighted(self, endpoints: tuple[str, ...], now: float) -> Act:
        """Addresses were learned, by discovery or from a HELLO; the newest come first."""
        fresh = tuple(dict.fromkeys(endpoints + self.endpoints))[:MAX_ENDPOINTS]
        moved = bool(endpoints) and self._dialled not in endpoints
        self.endpoints = fresh
        if not fresh or self.state is Link.UP or (self.state is not Link.IDLE and not moved):
            return NOTHING
        self._next = 0
        self._since = now
        self._redial.reset()
        return self._dial(now)

    def ready(self, now: float) -> Act:
        """The connection is there, for the first time or again after a silent reconnect."""
        if self.state is Link.IDLE:
            return NOTHING
        self._step("ready")
        return self._greet(now)

    def lost(self, now: float) -> Act:
        """A frame could not be sent: wait for the connection to be writable again, but not for long."""
        if self.state in (Link.GREETING, Link.UP):
            self._step("dial")
            self._ping_at = self._hello_at = NEVER
            self._give_up_at = now + DIAL_PATIENCE
        return NOTHING

    def reset(self, link: bytes, now: float) -> Act:
        """The other side does not know the link id `link`."""
        if link != self.id or self.state not in (Link.GREETING, Link.UP):
            return NOTHING
        self._step("reset")
        return self._greet(now)

    def greeted(self, link: bytes, echo: bytes, now: float, *, up: bool) -> Act:
        """A HELLO came.

        Args:
            link: Their link id.
            echo: The link id of ours they know.
            now: Seconds.
            up: They know that we know theirs.
        """
        self.heard = self._since = now
        renewed, self.peer_id = link != self.peer_id, link
        if self.state is Link.UP and echo != self.id:
            self._step("reset")
            return self._greet(now)
        if self.state is Link.GREETING and echo == self.id:
            self._step("echoed")
            self._hello_at = self._give_up_at = NEVER
            self._redial.reset()
            self._ping.reset()
            self._ping_at = now + IDLE_PING
        if self.state is Link.UP:
            # They greet and greet: our answers get lost on the way, maybe in a connection that is stuck.
            self._give_up_at = NEVER if up else min(self._give_up_at, now + DIAL_PATIENCE)
        if self.state in (Link.GREETING, Link.UP) and (renewed or not up or echo != self.id):
            return self._say_hello(now)
        return NOTHING

    def doubt(self, now: float) -> Act:
        """What their HELLO says needs a second witness: greet again under a new id."""
        self._step("reset")
        return self._greet(now)

    def bye(self, now: float, *, delay: float = BYE_REDIAL) -> Act:
        """They leave, or we will not talk to them: hang up and try again later."""
        self.peer_id = b""
        if self.state is Link.IDLE:
            return NOTHING
        self._step("close")
        self._hello_at = self._ping_at = self._give_up_at = NEVER
        self._dial_at = now + max(delay, self._redial.next(self._entropy.fraction()))
        return Act(hangup=True)

    def hear(self, now: float) -> None:
        """A valid frame came that is no HELLO: they know our link."""
        self.heard = self._since = now
        if self.state is Link.UP:
            self._give_up_at = NEVER

    def expect(self, now: float, *, waiting: bool, progress: bool = False) -> None:
        """Say whether anything is unconfirmed: then pings are frequent.

        Args:
            now: Seconds.
            waiting: Something was sent and is not confirmed.
            progress: Something was confirmed just now: begin again with short intervals.
        """
        if self.state is not Link.UP:
            return
        if waiting and not self._waiting:
            self._waits_since = now
        if waiting and (progress or not self._waiting):
            self._ping.reset()
            # Never later than planned: while one class makes progress, the lost tail of another must be noticed.
            self._ping_at = min(self._ping_at, now + self._ping.next(self._entropy.fraction()))
        elif not waiting and self._waiting:
            self._ping_at = now + IDLE_PING
        self._waiting = waiting

    # --- time ---

    def timer(self) -> float:
        """Return when `wake` is due."""
        silent = self._silent_at() if self.state is Link.UP else NEVER
        return min(self._dial_at, self._give_up_at, self._hello_at, self._ping_at, silent)

    def wake(self, now: float) -> Act:
        """Do what is due."""
        if now >= self._dial_at:
            return self._dial(now)
        if now >= self._give_up_at or (self.state is Link.UP and now >= self._silent_at()):
            return self._replace(now)
        if now >= self._hello_at:
            self._hello_at = NEVER
            return self._say_hello(now)
        if now >= self._ping_at:
            interval = self._ping.next(self._entropy.fraction()) if self._waiting else IDLE_PING
            self._ping_at = now + interval
            return Act(ping=True)
        return NOTHING

    def _silent_at(self) -> float:
        return max(self.heard, self._waits_since) + STALLED if self._waiting else self.heard + SILENCE

    # --- doing it ---

    def _dial(self, now: float) -> Act:
        self._dialled = self.endpoints[self._next % len(self.endpoints)]
        self._next += 1
        self._step("dial")
        self._dial_at = self._hello_at = self._ping_at = NEVER
        self._give_up_at = now + DIAL_PATIENCE
        return Act(dial=self._dialled)

    def _replace(self, now: float) -> Act:
        """Give up on the connection; dial again soon, or seldom when nobody has answered for long."""
        fraction = self._entropy.fraction()
        absent = now - self._since > ABSENT_AFTER
        delay = ABSENT_REDIAL * (0.75 + 0.5 * fraction) if absent else self._redial.next(fraction)
        self._step("close")
        self._hello_at = self._ping_at = self._give_up_at = NEVER
        self._dial_at = now + delay
        return Act(hangup=True)

    def _greet(self, now: float) -> Act:
        self.id = self._entropy.token(LINK_ID_BYTES)
        self._waiting = False
        self._hello.reset()
        self._ping_at = NEVER
        self._give_up_at = now + DIAL_PATIENCE
        return self._say_hello(now)

    def _say_hello(self, now: float) -> Act:
        if now < self._said_hello + _HELLO_GAP:
            self._hello_at = min(self._hello_at, self._said_hello + _HELLO_GAP)
            return NOTHING
        self._said_hello = now
        if self.state is Link.GREETING:
            self._hello_at = now + self._hello.next(self._entropy.fraction())
        return Act(hello=True)

    def _step(self, event: str) -> None:
        self.state = step(LINK, self.state, event)
