"""What a client and the daemon have said to each other, without a socket: requests under way, and what is held.

The daemon may be ended and started at any time. What was asked and not answered is asked again then, under the same
ids, so that nothing is lost or done twice. This module must never open a connection, wait, or look at a clock.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from zmesh import errors
from zmesh.daemon.silence import PATIENCE, NotHeard, Silence
from zmesh.daemon.wire import FAILED, HELLO, VERSION, WAITING, Frames, pack
from zmesh.errors import DaemonError, DaemonUnreachable, LeaseLost, MeshError, WaitTimeout

AT_ONCE: Final = 128  # requests that are answered soon, under way at a time: half of what the daemon takes
_ENDINGS: Final = frozenset({"done", "nack"})
_PATIENT: Final = frozenset({"poll", "wait", "find", "daemon.down"})
_LOST: Final = "the message went to another program while the daemon was away"

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request.

    Attributes:
        number: Of the request.
        value: The answer; None if it failed.
        error: Why it failed, or None.
    """

    number: int
    value: Any = None
    error: MeshError | None = None


@dataclass(slots=True)
class _Request:
    verb: str
    arguments: Values
    until: float | None  # when it has waited long enough, on the caller's clock
    ends: Values | None = None  # what was held, if it ends a lease: the same row may be leased again before the answer
    wanted: bool = True  # somebody waits for the answer
    asked: bool = False  # it was sent, to this daemon or one before


class Conversation:
    """One client's side.

    Attributes:
        told: What the daemon has said of itself and of the mailbox in its last welcome.
        ready: True when the daemon has answered the hello of this connection.
    """

    def __init__(self, **said: Any) -> None:
        """Begin; what is said goes with every hello."""
        self.told: Values = {}
        self.ready = False
        self._said = said
        self._connected = False
        self._silence = Silence()
        self._frames = Frames()
        self._number = HELLO
        self._pending: dict[int, _Request] = {}
        self._later: deque[int] = deque()  # requests that wait until fewer are under way
        self._under_way: set[int] = set()  # those of this connection that are answered soon
        self._held: dict[int, Values] = {}

    # --- asking ---

    def request(self, verb: str, arguments: Values, now: float) -> tuple[int, bytes]:
        """Note a request; return its number, and what to send now.

        Args:
            verb: What is asked for.
            arguments: Of it; `timeout` is how many seconds it may wait.
            now: Seconds on the caller's clock.

        Raises:
            DaemonError: It is too long.
            MeshError: An argument cannot be written; also a TypeError or ValueError.
        """
        self._number += 1
        data = _written(self._number, verb, arguments)
        timeout = arguments.get("timeout")
        until = now + timeout if isinstance(timeout, int | float) else None
        ends = self._held.get(arguments.get("lease", 0)) if verb in _ENDINGS else None
        request = self._pending[self._number] = _Request(verb, arguments, until, ends)
        if not self.ready or not self._may_go(self._number, request):
            return self._number, b""
        return self._number, data

    def _may_go(self, number: int, request: _Request) -> bool:
        """Say whether a request is sent now; else it is when one before it is answered."""
        if request.verb not in WAITING:
            if len(self._under_way) >= AT_ONCE:
                self._later.append(number)
                return False
            self._under_way.add(number)
        request.asked = True
        return True

    def forget(self, number: int) -> bytes:
        """Nobody waits for the answer any more: return what to say about that, if anything."""
        request = self._pending.get(number)
        if request is None:
            return b""
        request.wanted = False
        if not self.ready or not request.asked:
            del self._pending[number]
            return b""
        return self._aside("forget", number=number) if request.verb in WAITING else b""

    def give_back(self, verb: str, value: Any) -> bytes:
        """Return what to say of an answer to a `poll` or an `ask` at which nobody has looked: others get the messages.

        They come again at once, and no attempt is counted.
        """
        messages = value if verb == "poll" else [value] if verb == "ask" else []
        said = b""
        for message in messages:
            self._held.pop(message["lease"], None)
            said += self._aside("nack", lease=message["lease"], delay=0.0, counted=False)
        return said

    def _aside(self, verb: str, **arguments: Any) -> bytes:
        """Write a request whose answer does not matter."""
        self._number += 1
        return pack([self._number, verb, arguments])

    @property
    def urgent(self) -> bool:
        """True when something is asked that cannot wait until somebody starts a daemon that was told to end."""
        return any(request.verb not in _PATIENT for request in list(self._pending.values()))

    # --- the connection ---

    def connected(self) -> bytes:
        """A connection is there: return what to say first."""
        self._frames = Frames()
        self.ready, self._connected = False, True
        self._silence.begin()
        address = str(self.told.get("address", ""))
        was = {"was": address.partition("@")[0]} if address else {}
        return pack([HELLO, "hello", {"v": VERSION, "held": list(self._held.values()), **was, **self._said}])

    def lost(self) -> None:
        """The connection is gone."""
        self.ready = self._connected = False

    def received(self, data: bytes, now: float) -> Iterator[Answer | bytes]:
        """Take what the daemon has said; yield answers, and what to send now.

        Raises:
            DaemonError: It is not to be understood.
            MeshError: The daemon does not take this client.
        """
        self._silence.broken()
        for frame in self._frames.feed(data):
            try:
                heard = self._heard(frame, now)
            except (KeyError, IndexError, TypeError, AttributeError) as error:
                raise DaemonError(f"the daemon's answer is not to be understood: {error!r}") from None
            yield from heard

    # --- a daemon that does not answer ---

    def look(self, now: float, blame: Callable[[], str]) -> Iterator[Answer | bytes]:
        """Somebody has waited for a while: yield what to say, and an error for each who has waited long enough.

        Whoever asks for something that may take long waits for it, as long as the daemon shows that it is there.

        Args:
            now: Seconds on the caller's clock.
            blame: Says what is the matter with a daemon that says nothing.
        """
        if not self._connected:  # it is being looked for, which has an end of its own
            return
        if self._silence.look(now):
            yield self._aside("ping")
        for number, request in list(self._pending.items()):
            if request.wanted and (error := self._too_late(request, now, blame)) is not None:
                if said := self.forget(number):
                    yield said
                yield Answer(number, error=error)

    def hung(self, timeout: float | None) -> bool:
        """Say whether the daemon has said nothing for longer than who has so many seconds waits for its welcome."""
        return self._connected and not self.ready and self._silence.enough(timeout or None)

    def _too_late(self, request: _Request, now: float, blame: Callable[[], str]) -> MeshError | None:
        timeout = request.arguments.get("timeout")
        if request.until is None or not timeout:
            return DaemonUnreachable(blame()) if self._silence.enough(None) else None
        if now >= request.until + PATIENCE:
            return WaitTimeout(f"no answer of the daemon to {request.verb!r} within {timeout:g} s: is its disk slow?")
        if now >= request.until and self._silence.enough(0.0):
            return NotHeard(blame())
        return None

    def _heard(self, frame: list[Any], now: float) -> list[Answer | bytes]:
        number, status, *rest = frame
        if number == HELLO:
            if status == FAILED:
                raise read_error(rest)
            return list(self._welcomed(rest[0], now))
        heard: list[Answer | bytes] = []
        request = self._pending.pop(number, None)
        if request is not None:
            answer = self._answered(number, request, status, rest)
            if request.wanted:
                heard.append(answer)
            elif answer.error is None and (said := self.give_back(request.verb, answer.value)):
                heard.append(said)  # it came just when its caller gave up
        self._under_way.discard(number)
        return [*heard, *self._next()]

    def _next(self) -> Iterator[bytes]:
        while self._later and len(self._under_way) < AT_ONCE:
            number = self._later.popleft()
            request = self._pending.get(number)
            if request is not None and self._may_go(number, request):
                yield pack([number, request.verb, request.arguments])

    def _welcomed(self, told: Values, now: float) -> Iterator[Answer | bytes]:
        gone, taken = set(told["gone"]), set(told["taken"])
        self.told = told
        for row in gone | taken:
            self._held.pop(row, None)
        self.ready = True
        self._later.clear()
        self._under_way.clear()
        for number, request in sorted(self._pending.items()):
            lease = request.arguments.get("lease")
            if not request.wanted:
                del self._pending[number]
            elif lease in gone and request.verb in _ENDINGS:  # it was ended just before the daemon went
                del self._pending[number]
                yield Answer(number)
            elif lease in taken:
                del self._pending[number]
                yield Answer(number, error=None if request.verb == "nack" else LeaseLost(_LOST))
            else:
                again = _again(request, now)
                if self._may_go(number, request):
                    yield pack([number, request.verb, again])

    def _answered(self, number: int, request: _Request, status: int, rest: list[Any]) -> Answer:
        if status == FAILED:
            error = read_error(rest)
            if isinstance(error, LeaseLost) and "lease" in request.arguments:
                self._drop(request)
            return Answer(number, error=error)
        value = rest[0]
        if request.verb in {"poll", "ask"}:
            for message in value if request.verb == "poll" else [value]:
                self._held[message["lease"]] = {name: of for name, of in message.items() if name != "body"}
        elif request.verb in _ENDINGS:
            self._drop(request)
        elif request.verb == "status":  # the next daemon hears of it, too
            self._said["status"] = request.arguments["status"]
        elif request.verb == "report":
            self._said["report"] = {name: request.arguments[name] for name in ("health", "text")}
        return Answer(number, value)

    def _drop(self, request: _Request) -> None:
        """The lease of a request is over."""
        row = request.arguments["lease"]
        held = self._held.get(row)
        if held is not None and (held is request.ends or request.verb not in _ENDINGS):
            del self._held[row]


def _written(number: int, verb: str, arguments: Values) -> bytes:
    try:
        return pack([number, verb, arguments])
    except TypeError as error:
        raise _WrongType(f"an argument of {verb!r} cannot be sent: {error}") from None
    except (ValueError, OverflowError) as error:  # such as a text that is no Unicode
        raise _WrongValue(f"an argument of {verb!r} cannot be sent: {error}") from None


def _again(request: _Request, now: float) -> Values:
    """Return the arguments of a request that is asked, perhaps again: its time has gone on."""
    again = {"again": True} if request.asked else {}
    if request.until is None:
        return request.arguments | again
    return request.arguments | again | {"timeout": max(0.0, request.until - now)}


def read_error(rest: list[Any]) -> MeshError:
    """Return what a failed request says after its second field: the error's name, and its text."""
    name, text = [*map(str, rest), "", ""][:2]
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, MeshError):
        return kind(text)
    return _PLAIN.get(name, DaemonError)(text)


class _WrongType(MeshError, TypeError):  # noqa: N818 - names the mistake
    """An argument of the wrong type; also a TypeError."""


class _WrongValue(MeshError, ValueError):  # noqa: N818 - names the mistake
    """An argument that is out of its range; also a ValueError."""


_PLAIN: Final[dict[str, type[MeshError]]] = {"TypeError": _WrongType, "ValueError": _WrongValue}
