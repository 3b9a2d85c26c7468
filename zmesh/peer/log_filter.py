"""Keeps a peer that misbehaves from filling the log: the same sentence is logged now and then, not once a frame."""

import logging
import time
from typing import Final

INTERVAL: Final = 10.0  # seconds between two records of one template
_REMEMBERED: Final = 256  # templates; there are a few dozen


class Sparing(logging.Filter):
    """Lets a record pass unless one of the same template has passed within `INTERVAL`."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record may pass."""
        now = time.monotonic()
        template = str(record.msg)
        if now < self._passed.get(template, float("-inf")) + INTERVAL:
            return False
        if len(self._passed) >= _REMEMBERED:
            self._passed.clear()
        self._passed[template] = now
        return True

    def forget(self) -> None:
        """Let everything pass once more."""
        self._passed.clear()
