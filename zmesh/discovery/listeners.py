"""Who listens at a TCP port of this machine, as far as this user may know, and whether the port can be had.

Linux tells by /proc: the process for one's own programs (for all to root), the user for those of others. This module
must never show the command line of a program, in which there may be secrets, and must never raise for what it cannot
find out.
"""

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Final

from zmesh.discovery.observation import PortUse

MAX_PROCESSES: Final = 20_000  # looked at for one port; each costs some microseconds
_LISTENING: Final = "0A"  # TCP_LISTEN in /proc/net/tcp
_FIELDS: Final = 10  # of a line there, up to the inode


def listen(port: int) -> socket.socket:
    """Listen at a port on all addresses, as a peer does.

    Raises:
        OSError: It cannot be had.
    """
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    return socket.create_server(("", port))


def port_use(port: int) -> PortUse:
    """Say whether a port can be had now, and who has it otherwise."""
    try:
        listen(port).close()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        return PortUse(port, error.strerror or str(error), taken, describe(port) if taken else "")
    return PortUse(port)


def describe(port: int) -> str:
    """Name who listens at a port: "process 4711 (python3)", "a program of user postgres", or "" for nobody known."""
    found = _listening(port)
    if found is None:
        return ""
    inode, user = found
    pid = _process(inode)
    return f"process {pid} ({_program(pid)})" if pid else f"a program of user {_user_name(user)}"


def process_at(port: int) -> int:
    """Return the process that listens at a port; 0 when that cannot be known."""
    found = _listening(port)
    return _process(found[0]) if found is not None else 0


def _listening(port: int) -> tuple[int, int] | None:
    """Return inode and user of the socket that listens at a port."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if len(fields) < _FIELDS or fields[3] != _LISTENING:
                    continue
                if int(fields[1].rpartition(":")[2], 16) == port:
                    return int(fields[9]), int(fields[7])
    return None


def _process(inode: int) -> int:
    wanted = f"socket:[{inode}]"
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are what is wanted
        for name in names[:MAX_PROCESSES]:
            if _holds(name, wanted):
                return int(name)
    return 0


def _holds(process: str, wanted: str) -> bool:
    with contextlib.suppress(OSError), os.scandir(f"/proc/{process}/fd") as entries:  # another user's, or has ended
        for entry in entries:
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) == wanted:  # noqa: PTH115 - thousands of them
                    return True
    return False


def _program(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a program"
    return "".join(character if character.isprintable() else "?" for character in name) or "a program"


def _user_name(user: int) -> str:
    try:
        import pwd  # noqa: PLC0415 - not on Windows

        return pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return str(user)
