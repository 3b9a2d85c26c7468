"""The file of a store before SQLite opens it: made for its user alone, and known to the disk by its name."""

import os
from pathlib import Path

from zmesh.errors import StoreError


def make_directory(directory: Path) -> None:
    """Make the directory of a store, for this user alone, if it is missing.

    Raises:
        StoreError: It cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unusable(directory, error) from error


def make_file(path: Path) -> None:
    """Make an empty database file that only this user can read, if it is missing, and put its name on disk.

    Raises:
        StoreError: It cannot be made, or not be written.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if os.name == "posix":
            for directory in (path.parent, path.parent.parent):
                descriptor = os.open(directory, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}: {error.strerror}. Give it to this user, or set ZMESH_HOME to another place"
    )
