"""What a client and the daemon have said to each other, without a socket: requests under way, and what is held.

The daemon may be ended and started at any time. What was asked and not answered is asked again then, under the same
ids, so that nothing is lost or done twice. This module must never open a connection, wait, or look at a clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from zmesh import errors
from zmesh.daemon.wire import FAILED, VERSION, Frames, pack
from zmesh.errors import DaemonError, LeaseLost, MeshError

HELLO: Final = 0
"""The number of the first request of each connection."""
_ENDINGS: Final = frozenset({"done", "nack"})
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
    wanted: bool = True  # somebody waits for the answer


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
        self._frames = Frames()
        self._number = HELLO
        self._pending: dict[int, _Request] = {}
        self._held: dict[int, Values] = {}

    def request(self, verb: str, arguments: Values, now: float) -> tuple[int, bytes]:
        """Note a request; return its number, and what to send if there is a connection that is ready.

        Args:
            verb: What is asked for.
            arguments: Of it; `timeout` is how many seconds it may wait.
            now: Seconds on the caller's clock.

        Raises:
            DaemonError: It is too long.
        """
        self._number += 1
        data = pack([self._number, verb, arguments])
        timeout = arguments.get("timeout")
        until = now + timeout if isinstance(timeout, int | float) else None
        self._pending[self._number] = _Request(verb, arguments, until)
        return self._number, data if self.ready else b""

    def forget(self, number: int) -> bytes:
        """Nobody waits for the answer any more: return what to say about that, if anything."""
        request = self._pending.get(number)
        if request is None:
            return b""
        request.wanted = False
        if not self.ready:
            del self._pending[number]
            return b""
        return self._aside("forget", number=number)

    def _aside(self, verb: str, **arguments: Any) -> bytes:
        """Write a request whose answer does not matter."""
        self._number += 1
        return pack([self._number, verb, arguments])

    def connected(self) -> bytes:
        """A connection is there: return what to say first."""
        self._frames = Frames()
        self.ready = False
        return pack([HELLO, "hello", {"v": VERSION, "held": list(self._held.values()), **self._said}])

    def lost(self) -> None:
        """The connection is gone."""
        self.ready = False

    def received(self, data: bytes, now: float) -> Iterator[Answer | bytes]:
        """Take what the daemon has said; yield answers, and what to send now.

        Raises:
            DaemonError: It is not to be understood.
            MeshError: The daemon does not take this client.
        """
        for number, status, *rest in self._frames.feed(data):
            if number == HELLO:
                if status == FAILED:
                    raise read_error(rest)
                yield from self._welcomed(rest[0], now)
                continue
            request = self._pending.pop(number, None)
            if request is None:
                continue
            answer = self._answered(number, request, status, rest)
            if request.wanted:
                yield answer
            elif request.verb == "poll" and answer.value:  # it came just when its caller gave up
                for message in answer.value:
                    self._held.pop(message["lease"], None)
                    yield self._aside("nack", lease=message["lease"], delay=0.0)

    def _welcomed(self, told: Values, now: float) -> Iterator[Answer | bytes]:
        self.told = told
        gone, taken = set(told["gone"]), set(told["taken"])
        for row in gone | taken:
            self._held.pop(row, None)
        self.ready = True
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
                yield pack([number, request.verb, _again(request, now)])

    def _answered(self, number: int, request: _Request, status: int, rest: list[Any]) -> Answer:
        if status == FAILED:
            error = read_error(rest)
            if isinstance(error, LeaseLost):
                self._held.pop(request.arguments.get("lease", 0), None)
            return Answer(number, error=error)
        value = rest[0]
        if request.verb == "poll":
            for message in value:
                self._held[message["lease"]] = {name: of for name, of in message.items() if name != "body"}
        elif request.verb in _ENDINGS:
            self._held.pop(request.arguments["lease"], None)
        return Answer(number, value)


def _again(request: _Request, now: float) -> Values:
    """Return the arguments of a request that is asked again: its time has gone on."""
    if request.until is None:
        return request.arguments | {"again": True}
    return request.arguments | {"again": True, "timeout": max(0.0, request.until - now)}


def read_error(rest: list[Any]) -> MeshError:
    """Return what a failed request's answer says after its second field: the error's name, and its text."""
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
