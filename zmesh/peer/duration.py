"""Reads durations as people write them: 90, "30s", "15m", "2h", "7d"."""

import re
from math import inf, isnan
from typing import Final

from zmesh.peer.arguments import brief
from zmesh.protocol.bounds import DEFAULT_TTL, MAX_TTL

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_TEXT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*\Z")


def parse_ttl(ttl: float | str | None, name: str = "ttl") -> float | None:
    """Return a ttl in seconds; None means that the message never expires.

    Args:
        ttl: Seconds, or a number with a unit (ms, s, m, h, d, w), or "never", or None for never.
        name: Of the argument, for the error.

    Raises:
        ValueError: It is none of these, or not more than 0 and at most a year.
    """
    if ttl is None or ttl == "never":
        return None
    if ttl is DEFAULT_TTL:
        return DEFAULT_TTL
    seconds = _seconds(ttl, name)
    if not 0 < seconds <= MAX_TTL:
        raise ValueError(f"{name} is more than 0 and at most {MAX_TTL:.0f} seconds (366d), not {brief(ttl)}")
    return seconds


def parse_timeout(timeout: float | str | None, name: str = "timeout") -> float | None:
    """Return how long to wait, in seconds; None means for ever.

    Args:
        timeout: As a ttl is written; 0 or less does not wait at all, as after the end of a deadline.
        name: Of the argument, for the error.

    Raises:
        ValueError: It is no time.
    """
    if timeout is None or timeout == "never":
        return None
    seconds = _seconds(timeout, name)
    if isnan(seconds):
        raise ValueError(f"{name} is a number of seconds, not {brief(timeout)}")
    return None if seconds == inf else max(0.0, seconds)


def _seconds(value: float | str, name: str) -> float:
    if isinstance(value, str):
        match = _TEXT.match(value)
        if match is None:
            raise ValueError(
                f"{name}: {brief(value)} is no duration: write a number and a unit, such as '30s', '15m', '2h' or '7d'"
            )
        return float(match[1]) * _UNITS[match[2] or "s"]  # as many digits as there may be: too many are infinity
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(  # noqa: TRY004 - one error for all wrong durations
            f"{name} is a number of seconds or a text such as '7d', not {brief(value)}"
        )
    try:
        return float(value)
    except OverflowError:  # an int beyond all floats
        return inf if value > 0 else -inf
