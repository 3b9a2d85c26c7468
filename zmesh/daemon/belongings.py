"""What zmesh has made in a home, found by what it makes and by nothing else, and removed.

A home may be any directory, the user's own by mistake: whatever is not in the tables below stays where it is. This
module must never follow a symbolic link, nor remove a directory that has something in it. Whoever has zmesh make
another file adds it here.
"""

import os
import re
import socket
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zmesh.daemon.place import short_directory
from zmesh.errors import ConfigurationError, StoreError
from zmesh.peer.configuration import load_configuration
from zmesh.peer.folders import FILE

KEYS: Final = "keys and trust"
MAIL: Final = "mail"
SETTINGS: Final = "settings"
TRACES: Final = "logs, locks and sockets"
KEPT: Final = (KEYS, MAIL, SETTINGS)
"""What is kept with `--keep-data`: what nobody can make again."""

ASIDE: Final = ".daemon-removed"
"""What the daemon's directory is called while it is removed: no client finds it any more."""

_DATABASE: Final = r"\.db(-wal|-shm|-journal)?"
_IN_HOME: Final = re.compile(rf"device\.key|\.device\.key\.[0-9a-f]{{16}}|trust{_DATABASE}")
_HALF: Final = re.compile(rf"\.{re.escape(FILE)}\.[a-z0-9_]{{8}}\.new")
"""A configuration that was being written when its daemon was killed."""
_IN_PEER: Final = re.compile(rf"store\.lock|[a-z]+{_DATABASE}")
_IN_DAEMON: Final = re.compile(
    r"lock|starting|ended|socket|daemon\.err|daemon\.log(\.\d)?|\.?address\.json(\.[0-9a-f]{8})?|\.?zmesh-[0-9a-f]{8}\.xml(\.new)?"
    r"|adapter-[a-z0-9][a-z0-9._-]*\.(log(\.\d)?|lock)"
)
_IN_RENDEZVOUS: Final = re.compile(r"[a-z2-7]{26}\.json|\.[a-z2-7]{26}\.[0-9a-f]+")
_IN_INVITATIONS: Final = re.compile(r"\d{1,4}|t[0-9a-f]{12}")
"""Locks of invitations that are held open, called by their nameplates; empty files."""
_SQLITE: Final = b"SQLite format 3\0"
_SEED: Final = 32  # bytes of a device key
_PID_BYTES: Final = 20
_OWN_PEER: Final = ("store.lock",)
_OWN_DAEMON: Final = ("lock", "starting")


@dataclass(frozen=True, slots=True)
class Belonging:
    """One file of zmesh's.

    Attributes:
        path: Where it is.
        what: `KEYS`, `MAIL`, `SETTINGS` or `TRACES`.
        size: Bytes.
    """

    path: Path
    what: str
    size: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies in a home.

    Attributes:
        home: The home.
        files: What is zmesh's.
        folders: The directories zmesh has made, the inner ones first.
        rest: What is somebody else's, or a link; not looked into.
    """

    home: Path
    files: tuple[Belonging, ...]
    folders: tuple[Path, ...]
    rest: tuple[Path, ...]


def survey(home: Path) -> Survey:
    """Look for what zmesh has made in a home and among the temporary files.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        found = _Found(home)
        return Survey(home, tuple(found.files), tuple(found.folders), tuple(found.rest))
    except OSError as error:
        raise StoreError(f"cannot read {error.filename}: {error.strerror}. Give it to this user") from error


def remove(files: Iterable[Belonging], folders: Iterable[Path]) -> None:
    """Remove files, and those of the folders that are empty then.

    Raises:
        StoreError: One cannot be removed; those before it are gone.
    """
    try:
        for file in files:
            file.path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot remove {error.filename}: {error.strerror}. The files before it are removed"
        ) from error
    for folder in folders:
        with suppress(OSError):  # somebody else has something in it
            folder.rmdir()


def peers(home: Path) -> dict[str, Path]:
    """Return the locks of the peers of a home by the peers' names."""
    folders = sorted((home / "peers").iterdir()) if _is_folder(home / "peers") else []
    own = (folder for folder in folders if _is_folder(folder) and is_lock(folder / _OWN_PEER[0]))
    return {folder.name: folder / _OWN_PEER[0] for folder in own}


def daemon_folder(home: Path) -> Path | None:
    """Return the directory of a home's daemon; None where there is none, or one of that name that is not zmesh's."""
    folder = home / "daemon"
    return folder if _is_folder(folder) and any(is_lock(folder / name) for name in _OWN_DAEMON) else None


class _Found:
    """What is found, while it is looked for."""

    def __init__(self, home: Path) -> None:
        self.files: list[Belonging] = []
        self.folders: list[Path] = []
        self.rest: list[Path] = []
        with suppress(FileNotFoundError):
            self._look(home)
        if hasattr(socket, "AF_UNIX"):
            self._folder(short_directory(home), re.compile("socket"), TRACES, (), self.rest)

    def _look(self, home: Path) -> None:
        own: list[Path] = []
        for entry in sorted(home.iterdir()):
            if entry.name == "peers" and _is_folder(entry):
                self._peers(entry)
            elif entry.name in ("daemon", ASIDE):
                self._folder(entry, _IN_DAEMON, TRACES, _OWN_DAEMON, self.rest)
            elif entry.name == "rendezvous":
                self._folder(entry, _IN_RENDEZVOUS, TRACES, (), self.rest)
            elif _IN_HOME.fullmatch(entry.name) and _is_own(entry):
                self._file(entry, KEYS)
            else:
                own.append(entry)
        for entry in own:
            if entry.name == "invitations" and self.files and _holds_locks(entry):
                self._folder(entry, _IN_INVITATIONS, TRACES, (), self.rest)
                continue
            half = _HALF.fullmatch(entry.name) is not None and _is_file(entry)
            if self.files and (half or (entry.name == FILE and _is_configuration(entry))):
                self._file(entry, SETTINGS)
            else:
                self.rest.append(entry)
        if self.files or self.folders:
            self.folders.append(home)

    def _peers(self, folder: Path) -> None:
        before = len(self.folders)
        rest: list[Path] = []
        for entry in sorted(folder.iterdir()):
            self._folder(entry, _IN_PEER, MAIL, _OWN_PEER, rest)
        if len(self.folders) > before or not rest:
            self.folders.append(folder)
            self.rest += rest
        else:
            self.rest.append(folder)  # a directory of that name, and none of zmesh's

    def _folder(
        self, folder: Path, names: "re.Pattern[str]", what: str, needed: tuple[str, ...], rest: list[Path]
    ) -> None:
        """Take what has these names in a folder, if the folder has one of those that it needs to be zmesh's."""
        if not _is_folder(folder):
            if os.path.lexists(folder):
                rest.append(folder)
            return
        entries = sorted(folder.iterdir())
        if needed and entries and not any(is_lock(folder / name) for name in needed):
            rest.append(folder)
            return
        for entry in entries:
            if names.fullmatch(entry.name) and (_is_file(entry) or _is_a(entry, stat.S_ISSOCK)):
                self._file(entry, what)
            else:
                rest.append(entry)
        self.folders.append(folder)

    def _file(self, path: Path, what: str) -> None:
        self.files.append(Belonging(path, what, path.lstat().st_size))


def _is_folder(path: Path) -> bool:
    """Say whether it is a directory of this user's, and no link to one."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and (os.name != "posix" or status.st_uid == os.geteuid())


def _is_file(path: Path) -> bool:
    """Say whether it is a file, and no link to one."""
    return _is_a(path, stat.S_ISREG)


def _is_a(path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(path.lstat().st_mode)
    except OSError:
        return False


def is_lock(path: Path) -> bool:
    """Say whether a file is a lock as zmesh makes them: it holds a process id, or nothing.

    To be asked before it is locked in a directory that may be somebody else's: locking writes into it.
    """
    if not _is_file(path) or path.lstat().st_size > _PID_BYTES:
        return False
    text = path.read_bytes().strip()
    return not text or text.isdigit()


def _holds_locks(path: Path) -> bool:
    """Say whether there is nothing in a directory but locks of invitations: its name is used by others too."""
    return _is_folder(path) and all(
        _IN_INVITATIONS.fullmatch(entry.name) and _is_file(entry) and not entry.lstat().st_size
        for entry in path.iterdir()
    )


def _is_own(path: Path) -> bool:
    """Say whether a file in the home is what its name says: names such as device.key are used by others too."""
    if not _is_file(path):
        return False
    if "device.key" in path.name:
        return path.lstat().st_size <= _SEED
    if path.suffix != ".db":
        return _is_own(path.with_name("trust.db"))
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) in (b"", _SQLITE)


def _is_configuration(path: Path) -> bool:
    if not _is_file(path):
        return False
    try:
        load_configuration(path.parent)
    except ConfigurationError:
        return False
    return True
