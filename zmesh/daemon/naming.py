"""What things are called when nobody says: this machine's peer, and the mailbox of a program by the folder it works in.

A name must be the same at every start, and be one that the grammar of addresses allows.
"""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zmesh.peer.folders import named_folder
from zmesh.peer.home import device_key_path, trust_path
from zmesh.protocol.address import is_name
from zmesh.protocol.bounds import MAX_NAME

if TYPE_CHECKING:
    from zmesh.peer.configuration import Configuration

AGENT: Final = "ZMESH_AGENT"
"""The environment variable that names a program's mailbox."""
ADAPTER: Final = "ZMESH_ADAPTER"
"""The environment variable in which a program finds as which adapter the daemon has started it."""
_MARKS: Final = (".git", ".hg", ".svn", "pyproject.toml", "package.json", "Cargo.toml", "go.mod")
"""What the folder of a project has in it."""


def cleaned(text: str, otherwise: str) -> str:
    """Return a text as far as it is a name: lower case, all else than letters, digits, '.', '_' and '-' as '-'."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in text.lower())
    name = plain[:MAX_NAME].strip("._-")
    return name if is_name(name) else otherwise


def host_name() -> str:
    """Return this host's name as far as it is a name for a peer."""
    return cleaned(socket.gethostname().partition(".")[0], "machine")


def own_name(home: Path, configuration: "Configuration") -> str:
    """Return what this machine's peer is called: as configured, or as the device in its mesh, or as the host."""
    if configuration.name:
        return configuration.name
    if trust_path(home).exists():
        from zmesh.trust.device import Device  # noqa: PLC0415 - libsodium: only where there is a mesh
        from zmesh.trust.trust_store import TrustStore  # noqa: PLC0415

        with TrustStore(trust_path(home), Device.load_or_create(device_key_path(home))) as store:
            me = store.me()
        if me is not None:
            return me.name
    return host_name()


def agent_name(folder: Path, home: Path) -> str:
    """Return the mailbox of a program that works in a folder.

    It is what `ZMESH_AGENT` says, or the configuration of that folder or one above, or else the name of the project's
    folder: the nearest one that has what projects have, such as `.git`; without one, the folder itself.

    Raises:
        ConfigurationError: The configuration of the home cannot be read.
    """
    said = os.environ.get(AGENT) or named_folder(home, folder)
    if said:
        return said
    project = next(
        (each for each in (folder, *folder.parents) if any((each / mark).exists() for mark in _MARKS)), folder
    )
    return cleaned(project.name, "agent")
