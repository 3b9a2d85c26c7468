"""Where zmesh keeps its state: one home per user, one directory in it per peer.

`ZMESH_HOME` names the home; otherwise it is the platform's user data directory. Directories are made with mode 0700.
"""

import errno
import os
import sys
from pathlib import Path
from typing import Final

from zmesh.errors import StoreError
from zmesh.peer.arguments import brief, checked_name

_WAYS_OUT: Final = {
    errno.EACCES: "Give it to this user",
    errno.EPERM: "Give it to this user",
    errno.EEXIST: "Move away the file that is in its place",
    errno.ENOTDIR: "Move away the file that is in its place",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.ENOSPC: "Free some space on its file system",
    errno.EROFS: "Mount its file system writable",
}


def home_directory(home: Path | str | None = None) -> Path:
    """Return the home, made if it was missing.

    Args:
        home: What the caller asks for; None for `ZMESH_HOME`, or else the platform's place.

    Raises:
        TypeError: It is no path.
        StoreError: It cannot be made.
    """
    return _make(home_path(home))


def home_path(home: Path | str | None = None) -> Path:
    """Return where the home is, as `home_directory`; nothing is made."""
    if home is not None and not isinstance(home, Path | str):
        raise TypeError(f"home is a path, not {brief(home)}")
    chosen = home or os.environ.get("ZMESH_HOME") or _platform_home()
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError as error:  # '~' of a user that there is not
        raise StoreError(f"cannot make {chosen}: {error}. Set ZMESH_HOME to another place") from error


def _platform_home() -> str:
    import platformdirs  # noqa: PLC0415 - 4 ms, which a short command need not wait for when ZMESH_HOME says it

    return platformdirs.user_data_dir("zmesh", appauthor=False)


def is_usual(home: Path) -> bool:
    """Say whether a home is the one that a process of this user finds whose environment says nothing about it."""
    if os.name == "posix" and sys.platform != "darwin":
        return home == Path.home() / ".local/share/zmesh"  # whatever XDG_DATA_HOME is here
    return home == Path(_platform_home())


def peer_directory(home: Path, name: str) -> Path:
    """Return the directory of one peer, made if it was missing.

    Raises:
        AddressError: The name is no peer name.
        StoreError: It cannot be made.
    """
    checked = checked_name(name, "peer name")
    return _make(_make(home / "peers") / checked)


def device_key_path(home: Path) -> Path:
    """Return where the device key of this user lies."""
    return home / "device.key"


def trust_path(home: Path) -> Path:
    """Return where the membership logs of this device lie."""
    return home / "trust.db"


def rendezvous_directory(home: Path) -> Path:
    """Return where the peers of this home tell each other their addresses."""
    return home / "rendezvous"


def _make(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        way_out = _WAYS_OUT.get(error.errno or 0, "See to that")
        raise StoreError(
            f"cannot make {directory}: {error.strerror}. {way_out}, or set ZMESH_HOME to another place"
        ) from error
    return directory
