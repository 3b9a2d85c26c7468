"""Taking zmesh off a machine: its service, its daemon, and what it has made, as far as the user wants that.

First it is seen whether all can be done, then it is done: nothing is removed under a peer that runs. This module must
never remove what `belongings` does not know.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zmesh.daemon import installing
from zmesh.daemon.belongings import ASIDE, KEPT, Belonging, Survey, daemon_folder, peers, remove, survey
from zmesh.daemon.ending import end, nobody_starts, running
from zmesh.daemon.service import service_of
from zmesh.errors import PeerRunning
from zmesh.peer.lock_file import LockFile


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to be cleared.

    Attributes:
        found: What lies in the home.
        daemon: The process id of the daemon, if it runs.
        service: The service's file, if it is installed.
    """

    found: Survey
    daemon: int | None
    service: Path | None


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was done.

    Attributes:
        removed: The files that are gone.
        kept: Those that the user wanted to keep.
        rest: What is left and not zmesh's, or could not be told to be.
        home: True when the home itself is left.
        daemon: The process id of the daemon that was ended.
        service: The service's file that was removed.
        trouble: What could not be done with the service; empty when all was.
    """

    removed: tuple[Belonging, ...]
    kept: tuple[Belonging, ...]
    rest: tuple[Path, ...]
    home: bool
    daemon: int | None
    service: Path | None
    trouble: str


def plan(home: Path) -> Plan:
    """Look what there is, and whether it can be cleared; nothing is changed.

    Raises:
        PeerRunning: Other peers of this home run.
        ServiceError: The service's file is not zmesh's.
        StoreError, DaemonError: The home cannot be read, or is open to others.
    """
    daemon, service = running(home), service_of(home)
    if service.installed:
        service.check_own()
    with _locked(home, besides=daemon):
        return Plan(survey(home), daemon, service.file if service.installed else None)


def clear(home: Path, *, keep: bool) -> Cleared:
    """Take out the service, end the daemon, remove what zmesh has made; with `keep`, not keys, mail and settings.

    Raises:
        PeerRunning, ServiceError, StoreError, DaemonError: As `plan`; or a file cannot be removed.
    """
    before = plan(home)
    trouble = ""
    with contextlib.ExitStack() as held:
        folder = daemon_folder(home)
        if folder is not None:
            held.enter_context(nobody_starts(home))
        if before.service is not None:
            trouble = installing.uninstall(home).trouble
        end(home)
        held.enter_context(_locked(home))
        if os.name != "posix":
            held.close()  # no file is removed there while it is open
        found = survey(home)
        kept = tuple(file for file in found.files if keep and file.what in KEPT)
        removed = tuple(file for file in found.files if file not in kept)
        if folder is not None:
            _let_go(folder)
        remove(removed, [each for each in found.folders if each not in (Path.home(), *Path.home().parents)])
    return Cleared(removed, kept, found.rest, home.exists(), before.daemon, before.service, trouble)


def _let_go(folder: Path) -> None:
    """Empty the daemon's directory under another name: no client that was connected finds it, and starts it again."""
    aside = folder.with_name(ASIDE)
    try:
        folder.rename(aside)
    except OSError:  # Windows, while somebody has a file open
        return
    inside = survey(folder.parent)
    remove([file for file in inside.files if file.path.parent == aside], [aside])
    if aside.exists():
        aside.rename(folder)  # with what is somebody else's in it


@contextlib.contextmanager
def _locked(home: Path, besides: int | None = None) -> Iterator[None]:
    """Hold the locks of all peers of a home, so that none starts; that of the daemon's own peer may be taken.

    Raises:
        PeerRunning: Some run.
    """
    busy = []
    with contextlib.ExitStack() as held:
        for name, path in peers(home).items():
            lock = LockFile(path)
            try:
                lock.acquire()
            except PeerRunning as error:
                if besides is None or error.pid != besides:
                    busy.append(f"{name} (process {error.pid or 'unknown'})")
            else:
                held.callback(lock.release)
        if busy:
            raise PeerRunning(f"peers of {home} run: {', '.join(busy)}. End them first; nothing was removed")
        yield
