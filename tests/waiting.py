"""Waiting for a condition, with a deadline that says what did not happen. Tests must never sleep instead."""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator

ENOUGH = 90  # seconds for a command that ends by itself; less than the timeout of a test
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


@contextlib.contextmanager
def killed_in_the_end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process when the block is left, as `Popen` itself then waits for its end, without a bound."""
    try:
        yield
    finally:
        process.kill()
