"""Waiting for a condition, with a deadline that says what did not happen. Tests must never sleep instead."""

import asyncio
import time
from collections.abc import Callable

INTERVAL = 0.005  # seconds between two looks


async def until(condition: Callable[[], object], seconds: float = 10, what: str = "the condition") -> None:
    """Return as soon as `condition()` is true, leaving the loop free meanwhile.

    Raises:
        AssertionError: It was not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(INTERVAL)
