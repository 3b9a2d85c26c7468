"""Where zmesh keeps its state: one home per user, one directory in it per peer.

`ZMESH_HOME` names the home; otherwise it is the platform's user data directory. Directories are made with mode 0700.
"""

import os
from pathlib import Path

import platformdirs

from zmesh.errors import StoreError
from zmesh.protocol.address import check_name


def home_directory(home: Path | str | None = None) -> Path:
    """Return the home, made if it was missing.

    Args:
        home: What the caller asks for; None for `ZMESH_HOME`, or else the platform's place.

    Raises:
        StoreError: It cannot be made.
    """
    chosen = home or os.environ.get("ZMESH_HOME") or platformdirs.user_data_dir("zmesh", appauthor=False)
    try:
        return _make(Path(chosen).expanduser().absolute())
    except RuntimeError as error:  # '~' of a user that there is not
        raise StoreError(f"cannot make {chosen}: {error}. Set ZMESH_HOME to another place") from error


def peer_directory(home: Path, name: str) -> Path:
    """Return the directory of one peer, made if it was missing.

    Raises:
        AddressError: The name is no peer name.
        StoreError: It cannot be made.
    """
    checked = check_name(name, "peer name")
    return _make(_make(home / "peers") / checked)


def device_key_path(home: Path) -> Path:
    """Return where the device key of this user lies."""
    return home / "device.key"


def rendezvous_directory(home: Path) -> Path:
    """Return where the peers of this home tell each other their addresses."""
    return home / "rendezvous"


def _make(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"cannot make {directory}: {error.strerror}. Give it to this user, or set ZMESH_HOME to another place"
        ) from error
    return directory
