"""What somebody wished of the daemon when it was brought up: its name, port and peers, beyond the configuration.

They are remembered until the daemon is told to end. Whoever starts it again after it was killed starts the same one:
under another name it would be another peer, with other mail. This module must never fail because of what it remembers.
"""

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from zmesh.daemon.place import Place

FILE: Final = "wishes.json"
MAX_FILE: Final = 64 * 1024  # bytes; it holds what fits in one command


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was wished; empty or 0 for what was not."""

    name: str = ""
    port: int = 0
    peers: tuple[str, ...] = ()


def wishes(place: Place, words: Sequence[str]) -> Wishes:
    """Read the words of the daemon's command line, and remember them; without any, recall those of before.

    Raises:
        ValueError: A word is wrong.
        OSError: They cannot be remembered.
    """
    if words:
        wanted = _read(words)
        (place.directory / FILE).write_text(json.dumps(list(words)), encoding="utf-8")
        return wanted
    with suppress(OSError, ValueError, TypeError):
        return _read([str(word) for word in json.loads((place.directory / FILE).read_bytes()[:MAX_FILE])])
    return Wishes()


def forget(place: Place) -> None:
    """Remember nothing any more."""
    with suppress(OSError):
        (place.directory / FILE).unlink(missing_ok=True)


def _read(words: Sequence[str]) -> Wishes:
    parser = argparse.ArgumentParser(prog="zmesh.daemon", exit_on_error=False)
    parser.add_argument("--name", default="")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--peer", action="append", dest="peers", default=[])
    try:
        given, rest = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from None
    if rest:
        raise ValueError(f"the daemon does not know {rest[0]!r}")
    return Wishes(given.name, given.port, tuple(given.peers))
