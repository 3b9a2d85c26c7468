"""Where the daemon of a home listens: a Unix socket in a directory of mode 0700, or loopback with a token.

A client finds it by the home alone. This module must never connect to, or make, a socket where other users could put
one in its place.
"""

import contextlib
import os
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zmesh.errors import DaemonError, StoreError

SOCKET: Final = "socket"
LOCK: Final = "lock"  # the running daemon holds it
TOKEN_FILE: Final = "address.json"  # noqa: S105 - where it lies
MAX_PATH: Final = 100  # bytes of a socket's path: 104 on macOS, 108 on Linux, the last one is zero
TOKEN_BYTES: Final = 32
MAX_FILE: Final = 1024
UNIX: Final = hasattr(socket, "AF_UNIX")
LOOK_EVERY: Final = 0.02  # seconds
SHORT: Final = Path("/tmp")  # noqa: S108 - the same for all programs, whatever their TMPDIR is; what is made there is checked
_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the daemon of one home is.

    Attributes:
        directory: Of mode 0700; holds the socket or the address, the lock and the log.
        socket_path: The Unix socket; None where there are none.
    """

    directory: Path
    socket_path: Path | None

    def connect(self, timeout: float) -> socket.socket:
        """Connect to the daemon.

        Raises:
            OSError: It is not running.
            DaemonError: Somebody else's directory is in its place.
        """
        self._check()
        if self.socket_path is not None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            address: str | tuple[str, int] = str(self.socket_path)
            token = b""
        else:
            port, token = self._read_address()
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            address = (_LOOPBACK, port)
        end = time.monotonic() + timeout
        try:
            connection.settimeout(timeout)
            while True:
                try:
                    connection.connect(address)
                    break
                except BlockingIOError:  # a Unix socket at which too many wait to be taken in
                    if time.monotonic() > end:
                        raise TimeoutError("the daemon takes nobody in") from None
                    time.sleep(LOOK_EVERY)
            connection.sendall(token)
        except BaseException:
            connection.close()
            raise
        return connection

    def listen(self) -> tuple[socket.socket, bytes]:
        """Listen, in the place of a daemon that has gone; the caller holds the daemon's lock.

        Returns:
            The socket, and the token that each connection must begin with; empty where none is needed.

        Raises:
            OSError: It cannot.
            DaemonError: Somebody else's directory is in its place.
        """
        self._check()
        if self.socket_path is not None:
            with contextlib.suppress(FileNotFoundError):
                self.socket_path.unlink()
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(str(self.socket_path))
            self.socket_path.chmod(0o600)
            listener.listen(512)
            return listener, b""
        import json  # noqa: PLC0415 - only where there are no Unix sockets

        listener = socket.create_server((_LOOPBACK, 0), backlog=512)
        token = os.urandom(TOKEN_BYTES)
        text = json.dumps({"port": listener.getsockname()[1], "token": token.hex()})
        aside = self.directory / f".{TOKEN_FILE}.{os.urandom(4).hex()}"
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
        aside.replace(self.directory / TOKEN_FILE)
        return listener, token

    @property
    def ended(self) -> Path:
        """The mark that the daemon was told to end: who was connected does not start it again."""
        return self.directory / "ended"

    @property
    def mark(self) -> tuple[int, ...]:
        """What tells the file by which clients find a daemon from any other in its place; empty if none is there."""
        try:
            status = (self.socket_path or self.directory / TOKEN_FILE).lstat()
        except OSError:
            return ()
        return status.st_dev, status.st_ino, status.st_mtime_ns

    def _check(self) -> None:
        """See that nobody else could have put something here; the socket may lie elsewhere, which cleaners visit."""
        _check(self.directory)
        if self.socket_path is not None and self.socket_path.parent != self.directory:
            _check(self.socket_path.parent)

    def leave(self) -> None:
        """Take away what a client would find."""
        for path in (self.socket_path, self.directory / TOKEN_FILE):
            if path is not None:
                path.unlink(missing_ok=True)

    def _read_address(self) -> tuple[int, bytes]:
        import json  # noqa: PLC0415 - only where there are no Unix sockets

        try:
            content = json.loads((self.directory / TOKEN_FILE).read_bytes()[:MAX_FILE])
            port = int(content["port"]).to_bytes(2, "big")
            return int.from_bytes(port, "big"), bytes.fromhex(content["token"])
        except (OverflowError, ValueError, KeyError, TypeError) as error:
            raise ConnectionRefusedError(f"{self.directory / TOKEN_FILE} is damaged: {error}") from error


def place_of(home: Path) -> Place:
    """Return where the daemon of a home is, with its directory made.

    Raises:
        StoreError: It cannot be made.
        DaemonError: It is open to others.
    """
    directory = home / "daemon"
    _make(directory, parents=True)
    if not UNIX:
        return Place(directory, None)
    path = directory / SOCKET
    if len(os.fsencode(path)) <= MAX_PATH:
        return Place(directory, path)
    short = short_directory(home)
    _make(short)
    return Place(directory, short / SOCKET)


def restore(place: Place) -> None:
    """Make the directories of a place again if they were removed.

    Raises:
        StoreError: They cannot be made, or the home is gone.
        DaemonError: Somebody else's are in their place.
    """
    for directory in {place.directory, (place.socket_path or place.directory / SOCKET).parent}:
        _make(directory)


def short_directory(home: Path) -> Path:
    """Return where the socket lies of a home whose own path is too long for one; nothing is made."""
    from hashlib import blake2b  # noqa: PLC0415 - takes 5 ms to load, and few homes have so long a name

    return SHORT / f"zmesh-{os.getuid()}-{blake2b(os.fsencode(home), digest_size=8).hexdigest()}"


def owner(place: Place) -> int:
    """Return the process id that the last daemon has left in its lock; 0 if none can be read. It may have gone."""
    with contextlib.suppress(OSError, ValueError):
        return max(0, int((place.directory / LOCK).read_bytes()[:20]))
    return 0


def is_token(given: bytes, token: bytes) -> bool:
    """Compare two tokens in constant time."""
    import hmac  # noqa: PLC0415 - for the daemon only: clients start faster without

    return hmac.compare_digest(given, token)


def _make(directory: Path, *, parents: bool = False) -> None:
    try:
        directory.mkdir(mode=0o700, parents=parents, exist_ok=True)
        _check(directory)
    except OSError as error:
        raise StoreError(
            f"cannot make {directory}, where the daemon listens: {error.strerror}. Make it possible, or set ZMESH_HOME "
            "to another place"
        ) from error


def _check(directory: Path) -> None:
    if os.name != "posix":  # the user profile's access list protects it
        return
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise DaemonError(
            f"{directory}, where the daemon listens, is open to others (owner {status.st_uid}, mode "
            f"{status.st_mode & 0o777:04o}): make it yours alone (chmod 700), or move it away"
        )
