"""What the public methods are given, checked before anything is done with it.

A wrong argument is a mistake of the caller: a TypeError, ValueError or AddressError that names the argument and shows
what it was, cut to a line. It must never get to the core, where it would pass for an error of zmesh and stop the peer.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, Literal, get_args

from zmesh.errors import AddressError
from zmesh.protocol.address import Address, check_name
from zmesh.protocol.bounds import ID_BYTES, MAX_CAPABILITIES, MAX_NAME, MAX_TTL
from zmesh.protocol.envelope import is_type
from zmesh.protocol.priority import Priority

PriorityName = Literal["critical", "high", "normal", "low", "bulk"]
"""The five priorities, the most urgent first."""

StatusName = Literal["idle", "busy", "away"]
"""What an agent can say of itself."""

PRIORITY_NAMES: Final[dict[Priority, PriorityName]] = {Priority.parse(name): name for name in get_args(PriorityName)}

SHOWN: Final = 60  # characters of a value that an error shows
_LONGEST: Final = 200  # characters: more than any address has


def brief(value: object) -> str:
    """Write a value as errors show it: as Python would, cut to `SHOWN` characters."""
    long = isinstance(value, str | bytes) and len(value) > SHOWN
    try:
        text = repr(value[:SHOWN] if isinstance(value, str | bytes) else value)
    except Exception:  # noqa: BLE001 - a number of more digits than Python writes, or a __repr__ that fails
        return f"<{type(value).__name__}>"
    return f"{text[: SHOWN - 3]}..." if long or len(text) > SHOWN else text


def checked_name(name: object, what: str) -> str:
    """Return the canonical form of the name of an agent or a peer.

    Args:
        name: What was given.
        what: What to call it in the error.

    Raises:
        AddressError: It breaks the grammar.
    """
    if not isinstance(name, str):
        raise AddressError(f"{brief(name)} is not a valid {what}: it is no text")
    try:
        return check_name(name, what)
    except AddressError as error:
        raise AddressError(str(error).replace(repr(name), brief(name))) from None  # there it is shown whole


def checked_address(address: object) -> str:
    """Return an address that keeps to the grammar, as it was given.

    Raises:
        AddressError: It does not.
    """
    if not isinstance(address, str):
        raise AddressError(f"an address is a text such as 'browser@studio', not {brief(address)}")
    if len(address) <= _LONGEST and _is_address(address):
        return address
    place, tilde, store = address.partition("~")
    if tilde and not _is_address(f"agent@peer~{store[:_LONGEST]}"):
        raise AddressError(
            f"{brief(address)}: after '~' come 4 to 26 characters of the store id, as `Peer.peers()` tells it"
        )
    for name, what in zip(place.split("@", 1), ("agent name", "peer name"), strict=False):
        checked_name(name, what)
    return address


def checked_type(type: object) -> str:  # noqa: A002 - as the argument is called
    """Return a message type.

    Raises:
        ValueError: It is none.
    """
    if isinstance(type, str) and is_type(type):
        return type
    raise ValueError(f"a message type is a text of 1 to {MAX_NAME} printable characters, not {brief(type)}")


def checked_priority(priority: object) -> Priority:
    """Return the priority of that name.

    Raises:
        ValueError: The name is none of the five.
    """
    if isinstance(priority, str):
        try:
            return Priority.parse(priority)
        except ValueError:
            pass
    raise ValueError(f"no priority is called {brief(priority)}; choose one of {', '.join(get_args(PriorityName))}")


def checked_id(ident: object, name: str) -> bytes:
    """Return a message id.

    Args:
        ident: What was given.
        name: Of the argument.

    Raises:
        TypeError, ValueError: It is none.
    """
    if isinstance(ident, bytes) and len(ident) == ID_BYTES:
        return ident
    hint = "; bytes.fromhex() reads an id that was written as text" if isinstance(ident, str) else ""
    kind = ValueError if isinstance(ident, bytes) else TypeError
    raise kind(f"{name} is a message id of {ID_BYTES} bytes, not {brief(ident)}{hint}")


def checked_id_or_none(ident: object, name: str) -> bytes:
    """Return a message id, or empty bytes where None or empty bytes were given; errors as in `checked_id`."""
    return b"" if ident is None or ident == b"" else checked_id(ident, name)


def checked_count(count: object, name: str) -> int:
    """Return a number of messages, at least 1.

    Raises:
        TypeError, ValueError: It is none.
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} is a whole number, not {brief(count)}")
    if count < 1:
        raise ValueError(f"{name} is at least 1, not {brief(count)}")
    return count


def checked_delay(delay: object) -> float | None:
    """Return the delay of a nack in seconds, or None for the usual one.

    Raises:
        TypeError, ValueError: It is no number, or not between 0 and a year.
    """
    if delay is None:
        return None
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        raise TypeError(f"delay is a number of seconds, or None for the usual delay, not {brief(delay)}")
    if not 0 <= delay <= MAX_TTL:  # no comparison holds for nan
        raise ValueError(f"delay is between 0 and {MAX_TTL:.0f} seconds (366d), not {brief(delay)}")
    return float(delay)


def checked_role(role: object, what: str = "role") -> str:
    """Return the role of an agent, or its project; empty for none.

    Raises:
        TypeError, ValueError: It is none.
    """
    if not isinstance(role, str):
        raise TypeError(f"a {what} is a text, not {brief(role)}")
    if role and not is_type(role):
        raise ValueError(f"a {what} is a text of at most {MAX_NAME} printable characters, not {brief(role)}")
    return role


def checked_status(status: object) -> str:
    """Return the status of an agent; empty for None.

    Raises:
        ValueError: It is none of the three.
    """
    if status is None or (isinstance(status, str) and status in get_args(StatusName)):
        return status or ""
    names = ", ".join(get_args(StatusName))
    raise ValueError(f"no status is called {brief(status)}; choose one of {names}, or None for what is seen")


def checked_capabilities(capabilities: Iterable[Any]) -> tuple[str, ...]:
    """Return what an agent can do.

    Raises:
        TypeError, ValueError: These are no capabilities; one text would be taken for its letters, and is none.
    """
    listed = several(capabilities, "capabilities", "['python']")
    wrong = [word for word in listed if not is_type(word)]
    if wrong or len(listed) > MAX_CAPABILITIES:
        what = brief(wrong[0]) if wrong else f"{len(listed)} of them"
        raise ValueError(
            f"capabilities are at most {MAX_CAPABILITIES} texts of 1 to {MAX_NAME} printable characters, not {what}"
        )
    return listed


def several(values: object, name: str, example: str) -> tuple[Any, ...]:
    """Return the values of a list or another iterable.

    Raises:
        TypeError: It is none, or one text.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: a list such as {example}, not {brief(values)}")
    return tuple(values)


@lru_cache(1024)  # the same few come with every message
def _is_address(text: str) -> bool:
    try:
        Address.parse(text)
    except AddressError:
        return False
    return True
