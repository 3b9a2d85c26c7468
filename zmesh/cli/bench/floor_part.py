"""What the machine itself allows: bare SQLite commits and bare CURVE sockets, with no protocol in between.

Both are used as plainly as they can be, blocking and without an event loop: a floor that is slow by itself would
flatter whatever is compared with it.
"""

import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import zmq

from zmesh.cli.bench.scale import STEP_SECONDS, beats, now, percentiles, stamp, stamped

_WAIT: Final = int(STEP_SECONDS * 1000)  # ms
_WORD: Final = b"all"  # what a receiver answers when it has everything: the sender may then close
_HOST: Final = "tcp://127.0.0.1"


class FloorPart:
    """One side of a pair of bare sockets, with a bare database."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._database: sqlite3.Connection | None = None

    def verbs(self) -> dict[str, Callable[..., Awaitable[dict[str, Any]]]]:
        """Return what this part can do."""
        return {
            "bind": self.bind,
            "connect": self.connect,
            "database": self.database,
            "commit_paced": self.commit_paced,
            "send_paced": self.send_paced,
            "receive_paced": self.receive_paced,
            "send": self.send,
            "receive": self.receive,
        }

    async def close(self) -> None:
        """Close what is open."""
        self._context.destroy(0)
        if self._database is not None:
            self._database.close()

    async def bind(self) -> dict[str, Any]:
        """Open the ROUTER; returns where and with which key."""
        public, secret = zmq.curve_keypair()
        socket = self._open(zmq.ROUTER, public, secret)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        return {"endpoint": f"{_HOST}:{socket.bind_to_random_port(_HOST)}", "key": public.decode()}

    async def connect(self, endpoint: str, key: str) -> dict[str, Any]:
        """Open the DEALER and wait for the handshake."""
        socket = self._open(zmq.DEALER, *zmq.curve_keypair())
        socket.setsockopt(zmq.CURVE_SERVERKEY, key.encode())
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.connect(endpoint)
        socket.poll(_WAIT, zmq.POLLOUT)
        return {}

    async def database(self, path: str) -> dict[str, Any]:
        """Open a database as strict as a store: WAL, FULL, one exclusive connection."""
        self._database = database = sqlite3.connect(Path(path), isolation_level=None)
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("PRAGMA fullfsync=1")  # heeded on macOS only
        database.execute("CREATE TABLE message (row INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        return {}

    async def commit_paced(self, count: int, rate: float) -> dict[str, Any]:
        """Commit one row at a time; percentiles of a commit."""
        spent: list[int] = []
        for wait in beats(count, rate):
            time.sleep(wait)  # noqa: ASYNC251 - no event loop is part of the floor
            start = now()
            self._commit(stamped(start))
            spent.append(now() - start)
        return percentiles("commit", spent)

    async def send_paced(self, count: int, rate: float) -> dict[str, Any]:
        """Send one message at a time; with a database open, each once it is committed there."""
        assert self._socket is not None
        for wait in beats(count, rate):
            time.sleep(wait)  # noqa: ASYNC251 - no event loop is part of the floor
            body = stamped(now())
            if self._database is not None:
                self._commit(body)
            self._socket.send(body)
        self._socket.recv()
        return {}

    async def receive_paced(self, count: int) -> dict[str, Any]:
        """Receive messages; percentiles of the way, which ends with the commit here when a database is open."""
        assert self._socket is not None
        spent: list[int] = []
        path = b""
        for _ in range(count):
            path, body = self._socket.recv_multipart()
            if self._database is not None:
                self._commit(body)
            spent.append(now() - stamp(body))
        self._socket.send_multipart([path, _WORD])
        return percentiles("way", spent)

    async def send(self, count: int) -> dict[str, Any]:
        """Send messages as fast as the socket takes them; `at` is when that began."""
        assert self._socket is not None
        at = now()
        for number in range(count):
            self._socket.send(stamped(number))
        self._socket.recv()
        return {"at": at}

    async def receive(self, count: int) -> dict[str, Any]:
        """Receive messages; `at` is when the last one was there."""
        assert self._socket is not None
        path = b""
        for _ in range(count):
            path, _ = self._socket.recv_multipart()
        at = now()
        self._socket.send_multipart([path, _WORD])
        return {"at": at}

    def _commit(self, body: bytes) -> None:
        assert self._database is not None
        self._database.execute("BEGIN")
        self._database.execute("INSERT INTO message (body) VALUES (?)", (body,))
        self._database.execute("COMMIT")

    def _open(self, kind: int, public: bytes, secret: bytes) -> zmq.Socket[bytes]:
        self._socket = socket = self._context.socket(kind)
        for option in (zmq.SNDTIMEO, zmq.RCVTIMEO):
            socket.setsockopt(option, _WAIT)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        return socket
