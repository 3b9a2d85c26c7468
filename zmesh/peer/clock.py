"""The store's own clock: seconds that never step, across restarts and as far as possible across reboots.

Every deadline in the store is written on this clock, so that somebody who sets the wall clock by an hour expires
nothing. Within one boot it follows the system's steady clock, sleep included; across a reboot it is carried on by what
the wall clock says, but never backwards. No other machine's clock plays any part.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Final

import msgpack

CLOCK_KEY: Final = "clock"  # in the store's meta table
SAVE_EVERY: Final = 60.0  # seconds; after a crash and a reboot the clock is behind by at most this
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_FORGET: Final = 366 * 86400.0  # seconds; a longer absence is a wrong wall clock
_OLDEST: Final = 1000 * _FORGET  # seconds; a clock beyond it is damaged: floats must still tell milliseconds apart


def steady() -> float:
    """Return seconds since some moment before, sleep of the machine included where the system tells (Linux)."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def boot_id() -> str:
    """Return what names this boot of the machine; empty where the system does not tell."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Sources:
    """The clocks of the machine.

    Attributes:
        steady: Seconds that do not step within a boot.
        wall: Seconds since 1970.
        boot: Names this boot; empty when unknown.
    """

    steady: Callable[[], float]
    wall: Callable[[], float]
    boot: str


def machine_clocks() -> Sources:
    """Return the real clocks."""
    return Sources(steady, time.time, boot_id())


class StoreClock:
    """The clock of one store."""

    def __init__(self, saved: bytes | None, sources: Sources) -> None:
        """Go on where `saved` ended.

        Args:
            saved: What `state` returned once, or None for a new store; damaged bytes begin a new clock.
            sources: The clocks of the machine.
        """
        self._sources = sources
        self._offset = _offset(saved, sources)

    def now(self) -> float:
        """Return the time, in seconds since the store was made."""
        return self._offset + self._sources.steady()

    def state(self) -> bytes:
        """Return what to write down, so that the clock can go on after a restart."""
        packed: bytes = msgpack.packb(
            (self._sources.boot, self._sources.steady(), self._sources.wall(), self.now()), use_bin_type=True
        )
        return packed


def _offset(saved: bytes | None, sources: Sources) -> float:
    """Return what to add to the steady clock."""
    try:
        boot, *times = msgpack.unpackb(saved) if saved else ("", 0.0, sources.wall(), 0.0)
        then_steady, then_wall, then = map(float, times)
    except (ValueError, TypeError, OverflowError):
        return -sources.steady()
    if not all(map(isfinite, (then_steady, then_wall, then))) or not 0 <= then <= _OLDEST:
        return -sources.steady()
    if boot and boot == sources.boot and sources.steady() >= then_steady:
        return then - then_steady
    away = sources.wall() - then_wall
    return then + min(max(0.0, away), _FORGET) - sources.steady()


def saved_clock(meta: dict[str, bytes]) -> bytes | None:
    """Return the saved state of the clock from the store's meta table."""
    return meta.get(CLOCK_KEY)
