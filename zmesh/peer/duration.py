"""Reads durations as people write them: 90, "30s", "15m", "2h", "7d"."""

import re
from typing import Final

from zmesh.protocol.bounds import DEFAULT_TTL, MAX_TTL

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_TEXT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*\Z")


def parse_ttl(ttl: float | str | None) -> float | None:
    """Return a ttl in seconds; None means that the message never expires.

    Args:
        ttl: Seconds, or a number with a unit (ms, s, m, h, d, w), or "never", or None for never.

    Raises:
        ValueError: It is none of these, or not between 0 and a year.
    """
    if ttl is None or ttl == "never":
        return None
    if ttl is DEFAULT_TTL:
        return DEFAULT_TTL
    seconds = _seconds(ttl)
    if not 0 < seconds <= MAX_TTL:
        message = f"a ttl lies between 0 and {MAX_TTL:.0f} seconds (366d), not {ttl!r}"
        raise ValueError(message)
    return seconds


def _seconds(ttl: float | str) -> float:
    if isinstance(ttl, str):
        match = _TEXT.match(ttl)
        if match is None:
            message = f"{ttl!r} is no duration: write a number and a unit, such as '30s', '15m', '2h' or '7d'"
            raise ValueError(message)
        return float(match[1]) * _UNITS[match[2] or "s"]  # as many digits as there may be: too many are infinity
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        message = f"a ttl is a number of seconds or a text such as '7d', not {ttl!r}"
        raise ValueError(message)  # noqa: TRY004 - one error for all wrong durations
    try:
        return float(ttl)
    except OverflowError:  # an int beyond all floats
        return float("inf")
