"""Discovery on one host: a directory with one small JSON file per running peer.

Works without any network. A file is a hint like every sighting; this module must never delete the file of a process
that may be alive, follow a link, read more than its bounds, or let one bad file hide the others.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zmesh.discovery.sighting import Sighting, parse_endpoint, store_id, store_text
from zmesh.protocol.bounds import MAX_PEERS

SCAN_INTERVAL: Final = 0.5  # seconds; a scan of 100 unchanged files takes under 1 ms
TOUCH_INTERVAL: Final = 600.0  # seconds between signs of life in the file's time
ABANDONED_AFTER: Final = 86_400.0  # seconds without one: a file whose process cannot be asked after is deleted
MAX_FILES: Final = 2 * MAX_PEERS  # looked at per scan: as many peers as are remembered, and as much litter
MAX_BYTES: Final = 4096  # of one file: 16 endpoints of 128 characters, names, and room for later fields
_SUFFIX: Final = ".json"
_VERSION: Final = 1
_log = logging.getLogger("zmesh.discovery.rendezvous")


@dataclass(frozen=True, slots=True)
class _Known:
    """A file as last read: its stamp and its process; no process if it was garbage."""

    stamp: tuple[int, int, int]
    pid: int | None = None
    place: str = ""


class RendezvousSource:
    """Announces this peer by a file in `directory` and watches the files of others.

    Attributes:
        trouble: Why the directory cannot be used, or None.
    """

    def __init__(self, directory: Path) -> None:
        """Name the directory (made with mode 0700); nothing is touched before `start`."""
        self.trouble: str | None = None
        self._directory = directory
        self._own: Sighting | None = None
        self._found: Callable[[Sighting], None] = lambda _: None
        self._known: dict[str, _Known] = {}
        self._written: tuple[int, int, int] | None = None
        self._written_at = 0.0
        self._place = _place()
        self._timer: asyncio.TimerHandle | None = None
        self._full_logged = False

    async def start(self, own: Sighting, found: Callable[[Sighting], None]) -> None:
        """Write the file for `own`, report every other peer's file at once, then each change within 0.5 s."""
        self._own, self._found = own, found
        self._turn()

    async def update(self, own: Sighting) -> None:
        """Rewrite the file, as `own` has changed."""
        if self._own is None:
            return
        self._forget_own()
        self._own = own
        self._guarded(self._write)

    async def stop(self) -> None:
        """Stop watching and remove the own file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._forget_own()
        self._own = None

    def _turn(self) -> None:
        self._guarded(self._keep_own)
        self._guarded(self._scan)
        self._timer = asyncio.get_running_loop().call_later(SCAN_INTERVAL, self._turn)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do file work; what fails becomes `trouble`, is logged when it is new, and is tried again at the next scan."""
        try:
            _prepare(self._directory)
            work()
        except OSError as error:
            trouble = f"the rendezvous directory {self._directory} cannot be used: {error.strerror or error}"
            if trouble != self.trouble:
                _log.warning("%s; peers on this host are found by mDNS only", trouble)
            self.trouble = trouble
        else:
            self.trouble = None

    # --- the own file ---

    def _path(self, own: Sighting) -> Path:
        return self._directory / (store_text(own.store) + _SUFFIX)

    def _keep_own(self) -> None:
        """Write the file if it is missing or was changed by somebody, and touch it now and then."""
        own = self._own
        if own is None:
            return
        with contextlib.suppress(FileNotFoundError):
            intact = self._written == _stamp(self._path(own).lstat())
            if intact and time.monotonic() - self._written_at < TOUCH_INTERVAL:
                return
        self._write()

    def _write(self) -> None:
        own = self._own
        if own is None:
            return
        content = {
            "v": _VERSION,
            "store": store_text(own.store),
            "name": own.name,
            "device": own.device,
            "endpoints": own.endpoints,
            "door": own.door,
            "pid": os.getpid(),
            "place": self._place,
        }
        aside = self._directory / f".{store_text(own.store)}.{secrets.token_hex(4)}"
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(content, file)
            aside.replace(self._path(own))  # shows the whole file or none of it
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        self._written = _stamp(self._path(own).lstat())
        self._written_at = time.monotonic()

    def _forget_own(self) -> None:
        """Remove the own file, unless another process has put its own in that place."""
        own, written, self._written = self._own, self._written, None
        if own is None or written is None:
            return
        with contextlib.suppress(OSError):
            if _stamp(self._path(own).lstat()) == written:
                self._path(own).unlink()

    # --- the files of others ---

    def _scan(self) -> None:
        own = None if self._own is None else self._path(self._own).name
        seen: set[str] = set()
        with os.scandir(self._directory) as entries:
            for count, entry in enumerate(entries):
                if count >= MAX_FILES:
                    self._log_full()
                    break
                if entry.name == own:
                    continue
                with contextlib.suppress(FileNotFoundError):  # its owner was just leaving
                    self._look(entry)
                    seen.add(entry.name)
        for name in self._known.keys() - seen:
            del self._known[name]

    def _look(self, entry: os.DirEntry[str]) -> None:
        status = Path(entry.path).lstat()  # entry.stat() lacks st_ino on Windows
        known = self._known.get(entry.name)
        if not entry.name.endswith(_SUFFIX):
            self._litter(entry, status)
        elif known is None or known.stamp != _stamp(status):
            self._known[entry.name] = self._read(entry, _stamp(status))
        elif self._is_over(known, status):
            Path(entry.path).unlink(missing_ok=True)

    def _read(self, entry: os.DirEntry[str], stamp: tuple[int, int, int]) -> _Known:
        """Read a new or changed file and report what it says, unless its process is gone."""
        try:
            content = _content(entry.path)
            pid, place = content["pid"], content["place"]
            if type(pid) is not int or not 0 < pid < 2**31 or not isinstance(place, str):
                raise ValueError("its process cannot be told")  # noqa: TRY301 - garbage is garbage
            store = store_id(entry.name.removesuffix(_SUFFIX))
            endpoints = tuple(content["endpoints"])
            if place != self._place:  # a container with the same home: its loopback is not ours
                endpoints = tuple(e for e in endpoints if not parse_endpoint(e).ip.is_loopback)
            sighting = Sighting(
                store, content["name"], content["device"], endpoints, "rendezvous", content.get("door", 0)
            )
        except FileNotFoundError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
            _log.warning("ignoring the rendezvous file %s: %s", entry.path, error)
            return _Known(stamp)
        if place != self._place or _alive(pid):
            self._found(sighting)
        return _Known(stamp, pid, place)

    def _is_over(self, known: _Known, status: os.stat_result) -> bool:
        if known.pid is None:  # not written by this version of zmesh: not for it to delete
            return False
        if known.place == self._place:
            return not _alive(known.pid)
        return time.time() - status.st_mtime > ABANDONED_AFTER

    def _litter(self, entry: os.DirEntry[str], status: os.stat_result) -> None:
        """Delete what a writer killed between `open` and `rename` has left."""
        if entry.name.startswith(".") and time.time() - status.st_mtime > ABANDONED_AFTER:
            Path(entry.path).unlink(missing_ok=True)

    def _log_full(self) -> None:
        if not self._full_logged:
            self._full_logged = True
            _log.warning(
                "%s has more than %d files; the others are not looked at. Delete what is not zmesh's",
                self._directory,
                MAX_FILES,
            )


def running(directory: Path) -> list[Sighting]:
    """Return what the running peers of this host say in the directory, without saying anything there."""
    return look(directory)[0]


def look(directory: Path) -> tuple[list[Sighting], str | None]:
    """Return what `running` does, and why the directory cannot be used, or None."""
    found: list[Sighting] = []
    source = RendezvousSource(directory)
    source._found = found.append  # noqa: SLF001 - of this module
    source._guarded(source._scan)  # noqa: SLF001
    return found, source.trouble


def _prepare(directory: Path) -> None:
    """Make the directory, and refuse one in which other users can write."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name != "posix":  # the user profile's access list protects it
        return
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others can write in it; run: chmod 700 {directory}")


def _content(path: str) -> dict[str, Any]:
    """Read one file.

    Raises:
        ValueError: It is not a plain file of this user with one JSON object of the known version in it.
        OSError: It cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    handle = os.open(path, flags)  # O_NONBLOCK: a FIFO must not hold the loop
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or (os.name == "posix" and status.st_uid != os.geteuid()):
            raise ValueError("it is not a plain file of this user")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES} bytes")
    content = json.loads(data)
    if not isinstance(content, dict) or content.get("v") != _VERSION:
        raise ValueError("it is not a rendezvous file of a version known here")
    if content["store"] != Path(path).name.removesuffix(_SUFFIX) or not isinstance(content["endpoints"], list):
        raise ValueError("its name and its content differ")
    return content


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_ino, status.st_size


def _alive(pid: int) -> bool:
    """Say whether the process may exist; only a plain "no such process" is a no."""
    if os.name != "posix":  # os.kill would end it there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _place() -> str:
    """Name the set of processes among which pids mean something: the host, and on Linux the pid namespace."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}/{namespace}"
