"""The link machine: one peer's connection to another store, from the first dial to the last ping.

It decides when to dial, to say HELLO, to ping and to give up on a connection, and it never decides anything about
messages. A link is UP when the other side has echoed our present link id; it stays so until the connection is
replaced, the other side resets it, or nothing is heard for too long. After it has left UP it greets under a new id, so
that what the other side says of our streams is known to be younger than the id it echoes.

Where to dial is hearsay: what a peer announces may not be reachable from here, and what is stale may come first. So all
addresses are tried in turn. A sighting may cut an attempt short, once, for an address that has not just been tried; a
connection that is ready, which only the right device can bring about, is first given the time of an answer.

Who calls and cannot be dialled is greeted on the connection it has made (`way_back`): then the link goes `via` that
one, and dialling goes on in the background, ever more rarely. Only a connection of our own that is ready replaces it.
"""

from zmesh.protocol.backoff import Backoff
from zmesh.protocol.bounds import (
    ABSENT_AFTER,
    ABSENT_REDIAL,
    BYE_REDIAL,
    DIAL_PATIENCE,
    GREET_PATIENCE,
    HELLO_FIRST,
    HELLO_MAX,
    IDLE_PING,
    LINK_ID_BYTES,
    MAX_ENDPOINTS,
    OVERSLEPT,
    PING_FIRST,
    PING_MAX,
    REDIAL_FIRST,
    REDIAL_MAX,
    SILENCE,
    STALLED,
)
from zmesh.protocol.deadlines import LONG_AGO, NEVER
from zmesh.protocol.entropy import Entropy
from zmesh.protocol.record import record
from zmesh.protocol.states import LINK, Link, step
from zmesh.protocol.way_back import WayBack

_HELLO_GAP = 0.01  # seconds between two HELLOs at least: two peers that restart together must not talk in circles
_NOT_AGAIN = (
    2 * DIAL_PATIENCE
)  # an address that brought nothing cuts no attempt short for so long: another has its turn


@record
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
        endpoints: Where to dial, best first; the one that answered last is always among them.
        heard: When the last valid frame came, seconds.
        via: The connection of theirs that our frames go back on; empty while they go on our own.
        held: An administrator wants no link: nothing is dialled.
    """

    def __init__(self, entropy: Entropy, now: float) -> None:
        """Begin with no connection."""
        self.state = Link.IDLE
        self.id = b""
        self.peer_id = b""
        self.endpoints: tuple[str, ...] = ()
        self.heard = now
        self.via = b""
        self.held = False
        self._entropy = entropy
        self._way = WayBack()
        self._probing = False  # a connection of our own is being dialled beside the one of theirs
        self._probe = Backoff(REDIAL_MAX, ABSENT_AFTER)
        self._announced: tuple[str, ...] = ()  # in their last HELLO
        self._dialled = ""
        self._dialled_at = LONG_AGO
        self._ready_at = LONG_AGO  # when the connection was last there anew
        self._tried: dict[str, float] = {}  # endpoints dialled since the last echo, and when
        self._wish = ""  # the endpoint that a sighting wants dialled next
        self._kept = ""  # the endpoint that answered last; before there is one, the first that was dialled
        self._answers = False  # it did so when it was last dialled
        self._since = now  # when the last sign of life was, or the wish to link
        self._redial = Backoff(REDIAL_FIRST, REDIAL_MAX)
        self._dial_at = NEVER
        self._give_up_at = NEVER
        self._hello = Backoff(HELLO_FIRST, HELLO_MAX)
        self._hello_at = NEVER
        self._unheard = Backoff(GREET_PATIENCE, DIAL_PATIENCE)
        self._unheard_for = NEVER  # seconds that they may greet and not know our link, until we take their way
        self._said_hello = LONG_AGO
        self._ping = Backoff(PING_FIRST, PING_MAX)
        self._ping_at = NEVER
        self._waiting = False  # something is unconfirmed
        self._waits_since = now

    # --- what happens to it ---

    def sighted(self, endpoints: tuple[str, ...], now: float) -> Act:
        """Addresses were learned, by discovery or from a HELLO; the newest come first."""
        self._learn(endpoints)
        if self.held or not self.endpoints or (self.state is Link.UP and not self.via):
            return NOTHING
        fresh = next((each for each in endpoints if self._promises(each, now)), "")
        if self.state is not Link.IDLE and (not fresh or self._dialled in endpoints):
            return NOTHING
        self._wish = fresh or self._wish
        self._since = now
        self._redial.reset()
        self._probe.reset()
        return self._dial_soon(now)

    def announced(self, endpoints: tuple[str, ...], now: float) -> Act:
        """Their HELLO says where they are: if they have left the address we dialled for another, we follow at once."""
        before, self._announced = self._announced, endpoints
        left = self._dialled in before and self._dialled not in endpoints
        if self.state is Link.UP and endpoints and left:
            self._wish = next((each for each in endpoints if each not in before), endpoints[0])
            self._learn(endpoints)
            return self._dial_soon(now)
        return self.sighted(endpoints, now)

    def moved(self, now: float, *, gone: bool) -> Act:
        """This host's addresses have changed: dial who is not linked, and if some are gone, everybody.

        A connection from an address that is gone does not end, it only falls silent.
        """
        unwanted = self.state is Link.IDLE and self._dial_at == NEVER  # we have ended it for good, or never began
        if not self.endpoints or unwanted or (self.state is Link.UP and not gone and not self.via):
            return NOTHING
        self._wish = self._kept
        self._since = now
        self._redial.reset()
        return self._dial_soon(now)

    def ready(self, now: float) -> Act:
        """The connection is there, for the first time or again after a silent reconnect."""
        if self.state is Link.IDLE:
            return NOTHING
        self._step("ready")
        if self.via:
            self.via, self._probing, self._dial_at = b"", False, NEVER
        self._ready_at = now
        self._kept, self._answers = self._dialled, True
        return self._greet(now)

    def lost(self, now: float, path: bytes = b"") -> Act:
        """A frame could not be sent, on our own connection or on their `path`.

        Our own one is waited for to be writable again, but not for long.
        """
        if self.state in (Link.GREETING, Link.UP) and path == self.via:
            if path:
                return self._close(now + self._redial.next(self._entropy.fraction()), now)
            self._step("dial")
            self._ping_at = self._hello_at = NEVER
            self._ready_at, self._answers = LONG_AGO, False
            self._give_up_at = self._patience(now)
        return NOTHING

    def reset(self, link: bytes, now: float) -> Act:
        """The other side does not know the link id `link`."""
        if link != self.id or self.state not in (Link.GREETING, Link.UP):
            return NOTHING
        greeting = self.state is Link.GREETING
        self._step("reset")
        if not greeting:
            return self._greet(now)
        # Whoever resets every greeting must neither keep us greeting for ever nor make us greet faster.
        self.id = self._entropy.token(LINK_ID_BYTES)
        return NOTHING

    def greeted(self, link: bytes, echo: bytes, now: float, *, up: bool, path: bytes = b"") -> Act:
        """A HELLO came.

        Args:
            link: Their link id.
            echo: The link id of ours they know.
            now: Seconds.
            up: They know that we know theirs.
            path: Their connection that it came on; empty if it came on our own.
        """
        self.heard = self._since = now
        renewed, self.peer_id = link != self.peer_id, link
        if self.via or self.state is not Link.UP:
            self._way.called(path, now)
        if self.via and self._way.path not in (b"", self.via) and (renewed or self.state is Link.GREETING):
            return self._turn_to(self._way.path, now)  # they have made a new connection: the old one is of no use
        if self.state is Link.UP and echo != self.id:
            self._step("reset")
            return self._greet(now)
        if self.state is Link.GREETING and echo == self.id:
            self._come_up(now)
        if self.state is Link.GREETING and path and not self.via:
            self._give_up_at = min(self._give_up_at, now + self._unheard_for)
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
            self._way.forget()
            return NOTHING
        act = self._close(now + max(delay, self._redial.next(self._entropy.fraction())), now)
        self._way.forget()
        return act

    def hold(self, now: float) -> Act:
        """An administrator wants no link: hang up, and dial no more."""
        act = self.bye(now, delay=NEVER)
        self.held, self._dial_at = True, NEVER
        return act

    def free(self, now: float) -> Act:
        """A link is wanted again: dial at once what answered last."""
        self.held, self._wish = False, self._kept
        return self.sighted((), now)

    def hear(self, now: float, path: bytes = b"") -> None:
        """A valid frame came that is no HELLO: they know our link. `path` as in `greeted`."""
        self.heard = self._since = now
        if self.state is Link.UP:
            self._give_up_at = NEVER
        else:
            self._way.called(path, now)

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
        other = self._silent_at() if self.state is Link.UP else self._answer_at()
        return min(self._dial_at, self._give_up_at, self._hello_at, self._ping_at, other)

    def wake(self, now: float) -> Act:
        """Do what is due."""
        if now > self.timer() + OVERSLEPT:
            self._since = now  # this machine has slept, or its clock has jumped: nobody was silent meanwhile
        if now >= self._answer_at():
            path = self._way.take(now)
            return self._turn_to(path, now) if path else NOTHING
        if now >= self._dial_at:
            self._dial_at = NEVER
            return self._end_probe(now) if self._probing and not self._wish else self._dial_soon(now)
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

    def _answer_at(self) -> float:
        """Return when to greet on the connection of theirs, if there is no better one till then."""
        return self._way.due() if self.state in (Link.IDLE, Link.DIALING) else NEVER

    # --- where to dial ---

    def _learn(self, endpoints: tuple[str, ...]) -> None:
        """Put endpoints before those that are known, but none before the one that works."""
        best = (self._kept,) if self.state is Link.UP and not self.via else ()
        known = tuple(dict.fromkeys(best + endpoints + self.endpoints))
        self.endpoints = known[:MAX_ENDPOINTS]
        if self._kept and self._kept not in self.endpoints:
            self.endpoints = (*known[: MAX_ENDPOINTS - 1], self._kept)

    def _promises(self, endpoint: str, now: float) -> bool:
        """Say whether an attempt may be cut short for this endpoint."""
        return now >= self._tried_at(endpoint) + _NOT_AGAIN or (self._answers and endpoint == self._kept)

    def _tried_at(self, endpoint: str) -> float:
        return self._tried.get(endpoint, LONG_AGO)

    def _dial_soon(self, now: float) -> Act:
        """Dial, but leave what has answered the time to answer again, and never dial in a frenzy."""
        answers = self.state is Link.DIALING and self._dialled == self._kept and self._answers
        due = max(self._dialled_at + (HELLO_MAX if answers else REDIAL_FIRST), self._ready_at + HELLO_MAX)
        if now >= due:
            return self._dial(now)
        self._dial_at = min(self._dial_at, due)
        return NOTHING

    def _dial(self, now: float) -> Act:
        endpoint = self._choose()
        # Where nobody answered before, nobody is waited for at length while there is an address that answers.
        brief = self._answers and endpoint != self._kept and endpoint in self._tried
        self._dialled, self._wish = endpoint, ""
        self._kept = self._kept or endpoint
        self._tried = {each: at for each, at in self._tried.items() if each in self.endpoints}
        self._tried[endpoint] = self._dialled_at = now
        self._ready_at = LONG_AGO
        if self.via:
            self._probing, self._dial_at = True, self._patience(now)
            return Act(dial=endpoint)
        self._step("dial")
        self._dial_at = self._hello_at = self._ping_at = NEVER
        self._give_up_at = self._patience(now, HELLO_MAX if brief else DIAL_PATIENCE)
        return Act(dial=endpoint)

    def _choose(self) -> str:
        """Return what a sighting asks for, or by turns what answered last and what was not tried for longest."""
        if self._wish in self.endpoints:
            return self._wish
        if self._kept in self.endpoints and self._kept != self._dialled:
            return self._kept
        return min(self.endpoints, key=self._tried_at)

    def _patience(self, now: float, most: float = DIAL_PATIENCE) -> float:
        """Return when an attempt that begins now is given up; two sides must not stay in step."""
        return now + most * (0.75 + 0.25 * self._entropy.fraction())

    # --- the connection of theirs ---

    def _turn_to(self, path: bytes, now: float) -> Act:
        """Greet on a connection that they have made; what is being dialled goes on being dialled."""
        if self.state is Link.IDLE:
            self._dial_at = self._probe_at(now)
        elif self.state is Link.DIALING:
            self._probing, self._dial_at = True, self._give_up_at
        self._step("their way")
        self.via = path
        return self._greet(now)

    def _end_probe(self, now: float) -> Act:
        self._probing = False
        self._dial_at = self._probe_at(now)
        return Act(hangup=True)

    def _probe_at(self, now: float) -> float:
        """Return when to dial beside a connection of theirs: soon while there is an address that was not tried."""
        if not self.endpoints:
            return NEVER
        untried = any(each not in self._tried for each in self.endpoints)
        return now + (self._redial if untried else self._probe).next(self._entropy.fraction())

    # --- doing it ---

    def _come_up(self, now: float) -> None:
        self._step("echoed")
        self._hello_at = self._give_up_at = NEVER
        if not self.via:
            self._dial_at = NEVER
            self._tried, self._wish = {}, ""
            self._way.forget()
            self._probe.reset()
            self._unheard.reset()
        self._learn(())
        self._redial.reset()
        self._ping.reset()
        self._ping_at = now + IDLE_PING

    def _close(self, dial_at: float, now: float) -> Act:
        self._step("close")
        if self.via:
            self._way.failed(self.via, now)
        self.via, self._probing = b"", False
        self._ready_at = LONG_AGO
        self._hello_at = self._ping_at = self._give_up_at = NEVER
        self._dial_at = dial_at if self.endpoints else NEVER
        return Act(hangup=True)

    def _replace(self, now: float) -> Act:
        """Give up on the connection; dial again soon, or seldom when nobody has answered for long."""
        kept = self._dialled == self._kept
        if self.state is Link.DIALING and kept:
            self._answers = False
        fraction = self._entropy.fraction()
        # The address that answered last is every second one: a probe is another address, and then this one.
        absent = kept and now - self._since > ABSENT_AFTER
        delay = ABSENT_REDIAL * (0.75 + 0.5 * fraction) if absent else self._redial.next(fraction)
        return self._close(now + delay, now)

    def _greet(self, now: float) -> Act:
        self.id = self._entropy.token(LINK_ID_BYTES)
        self._waiting = False
        self._hello.reset()
        self._ping_at = NEVER
        self._give_up_at = self._patience(now)
        self._unheard_for = self._unheard.next(self._entropy.fraction())
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
