"""File descriptors: libzmq aborts the whole process when they run out, so they are counted before they do.

This module must never lower a limit, and must cost nothing where the system has no such limit.
"""

import os
from typing import Final

from zmesh.errors import TransportError

WANTED: Final = 65_536  # 1,024 peers use 4 each; more only slows down programs that loop over all descriptors
SPARE: Final = 32  # kept for the store, logs, accepted connections, and what libzmq opens behind our back
_LISTS: Final = ("/proc/self/fd", "/dev/fd")  # Linux; macOS and the BSDs


def raise_limit() -> None:
    """Raise the soft limit to the hard one, up to `WANTED`; where that is not possible it stays as it is."""
    try:
        import resource  # noqa: PLC0415 - not on Windows, which has no such limit
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < target:
        for limit in (target, min(target, 10_240)):  # macOS accepts OPEN_MAX at most, whatever the hard limit says
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, soft), hard))
            except (ValueError, OSError):
                continue
            return


def limit() -> int | None:
    """Return how many descriptors this process may have; None where that has no limit."""
    try:
        import resource  # noqa: PLC0415 - see raise_limit
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def left() -> int | None:
    """Count the descriptors that can still be opened; None where that cannot be known."""
    soft = limit()
    if soft is None:
        return None
    for path in _LISTS:
        try:
            return max(0, soft - len(os.listdir(path)))  # noqa: PTH208 - names are not wanted, and 1,000 Paths cost
        except FileNotFoundError:
            continue
        except OSError:  # not even the list can be opened
            return 0
    return None


def check_left(purpose: str) -> None:
    """See that there are descriptors for `purpose`.

    Raises:
        TransportError: Fewer than `SPARE` are left.
    """
    count = left()
    if count is not None and count < SPARE:
        raise TransportError(
            f"no file descriptors left for {purpose}: {count} of the limit; raise it (ulimit -n) or close connections"
        )
