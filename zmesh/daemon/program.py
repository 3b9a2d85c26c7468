"""The daemon of a home as a process of its own: its command line, its log, its exit code.

What it has to say goes to a log that is rotated. It must never print what could be secret, nor need a terminal.
"""

import logging
import sys
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from zmesh.daemon.host import Daemon, run_until_signal
from zmesh.daemon.naming import own_name
from zmesh.daemon.place import place_of
from zmesh.daemon.process import LOG, started
from zmesh.daemon.wishes import wishes
from zmesh.errors import MeshError
from zmesh.peer.configuration import load_configuration
from zmesh.peer.home import home_directory

LOG_BYTES: Final = 1 << 20  # of one log file
LOGS: Final = 3  # older ones that are kept


def run(words: Sequence[str]) -> int:
    """Run the daemon until it is told to end; return its exit code."""
    home = home_directory(None)
    handler = RotatingFileHandler(
        place_of(home).directory / LOG, maxBytes=LOG_BYTES, backupCount=LOGS, encoding="utf-8"
    )
    logging.basicConfig(
        level=logging.INFO, handlers=[handler], format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    log = logging.getLogger("zmesh.daemon")
    try:
        run_until_signal(lambda: daemon_of(home, words), _up)
    except (MeshError, ValueError) as error:
        log.error("%s", error)  # noqa: TRY400 - what a person can mend has no traceback
        sys.stderr.write(f"{error}\n")
        return 1
    except BaseException:
        log.exception("the daemon ends")
        raise
    log.info("down")
    return 0


def daemon_of(home: Path, words: Sequence[str]) -> Daemon:
    """Return the daemon that somebody wants: as the words say; without any, as it was last up and was not ended.

    Raises:
        ConfigurationError, TrustError: It cannot be known what it is called.
        AddressError, ValueError: A word is wrong.
    """
    wanted = wishes(place_of(home), words)
    configuration = load_configuration(home)
    name = wanted.name or own_name(home, configuration)
    return Daemon(home, name, port=wanted.port or configuration.port, peers=wanted.peers or None)


def _up(daemon: Daemon) -> None:
    logging.getLogger("zmesh.daemon").info("%s is up at %s", daemon.peer.name, ", ".join(daemon.peer.endpoints))
    started()
