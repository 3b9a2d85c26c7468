"""The daemon of a home as a process of its own: its command line, its log, its exit code.

What it has to say goes to a log that is rotated. It must never print what could be secret, nor need a terminal.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from zmesh.daemon.host import Daemon, run_until_signal
from zmesh.daemon.naming import own_name
from zmesh.daemon.place import place_of
from zmesh.daemon.process import LOG, started
from zmesh.daemon.wishes import wishes
from zmesh.errors import MeshError, PeerRunning
from zmesh.peer.configuration import load_configuration
from zmesh.peer.home import home_directory

LOG_BYTES: Final = 1 << 20  # of one log file
LOGS: Final = 3  # older ones that are kept


def run(words: Sequence[str]) -> int:
    """Run the daemon until it is told to end; return its exit code."""
    parser = argparse.ArgumentParser(prog="zmesh.daemon", description=__doc__)
    parser.add_argument("--home", help="instead of ZMESH_HOME, where a service cannot be given that")
    parser.add_argument("--service", action="store_true", help="the system has started it, and looks after it")
    given, rest = parser.parse_known_args(words)
    home = home_directory(given.home)
    try:
        handler = RotatingFileHandler(
            place_of(home).directory / LOG, maxBytes=LOG_BYTES, backupCount=LOGS, encoding="utf-8"
        )
    except (MeshError, OSError) as error:
        _say(error)
        return 1
    logging.basicConfig(
        level=logging.INFO, handlers=[handler], format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    log = logging.getLogger("zmesh.daemon")
    try:
        run_until_signal(lambda: daemon_of(home, rest), _up_as_service if given.service else _up)
    except PeerRunning as error:
        log.error("%s", error)  # noqa: TRY400 - what a person can mend has no traceback
        _say(error)
        return 0 if given.service else 1  # another one does the work: nothing has failed, nothing is to be tried again
    except (MeshError, ValueError) as error:
        log.error("%s", error)  # noqa: TRY400 - what a person can mend has no traceback
        _say(error)
        return 1
    except OSError as error:
        log.exception("the daemon ends")
        _say(error)
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


def _up_as_service(daemon: Daemon) -> None:
    """Take SIGTERM, by which a service is stopped, as being told to end: clients do not start it again at once."""
    _up(daemon)
    with suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, daemon.end)


def _say(error: Exception) -> None:
    with suppress(AttributeError):  # on Windows there may be no stderr
        sys.stderr.write(f"{error}\n")
