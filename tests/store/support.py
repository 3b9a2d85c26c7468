"""What the tests of the store share: a listener to wait for, held batches, a connection that fails on demand."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zmesh.errors import StoreError
from zmesh.peer.connection import Connection, Row, SqliteConnection
from zmesh.peer.sqlite_store import SqliteStore
from zmesh.protocol.effects import Persist
from zmesh.protocol.journal import EndOut, Op, PutIn, PutOut, Written
from zmesh.protocol.states import Sent

PATIENCE = 30.0  # seconds; a store that takes longer hangs
DEST = b"D" * 16
DEVICE = "d" * 32


class Recorder:
    """A `StoreListener` that keeps what it is told, in order; any thread may wait for a token."""

    def __init__(self) -> None:
        self.committed_tokens: dict[int, Written] = {}
        self.failures: dict[int, str] = {}
        self.bodies: list[dict[int, bytes]] = []
        self.messages: list[dict[int, tuple[bytes, bytes]]] = []
        self.troubles: list[str] = []
        self.batches = 0
        self._news = threading.Condition()

    def post(self, tell: Callable[[], None]) -> None:
        with self._news:
            self.batches += 1
            tell()
            self._news.notify_all()

    def committed(self, token: int, written: Written) -> None:
        assert token not in self.committed_tokens
        self.committed_tokens[token] = written

    def failed(self, token: int, reason: str) -> None:
        self.failures[token] = reason

    def fetched_out(self, bodies: dict[int, bytes]) -> None:
        self.bodies.append(bodies)

    def fetched_in(self, messages: dict[int, tuple[bytes, bytes]]) -> None:
        self.messages.append(messages)

    def unreadable(self, reason: str) -> None:
        self.troubles.append(reason)

    def wait(self, what: Callable[[], object]) -> None:
        """Return as soon as `what()` is true; it is looked at after each batch."""
        with self._news:
            assert self._news.wait_for(lambda: bool(what()), PATIENCE), "the store did not answer"

    def settled(self, tokens: Sequence[int]) -> bool:
        return all(token in self.committed_tokens or token in self.failures for token in tokens)


class Driven:
    """A started store and its recorder."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.snapshot = store.open()
        self.recorder = Recorder()
        self._tokens = itertools.count(1)
        store.start(self.recorder.post, self.recorder)

    def submit(self, *ops: Op, generation: int = 1) -> int:
        """Submit one Persist; return its token."""
        token = next(self._tokens)
        self.store.submit(Persist(token, generation, ops))
        return token

    def commit(self, *ops: Op, generation: int = 1) -> Written:
        """Submit one Persist, wait, and return what was ignored."""
        token = self.submit(*ops, generation=generation)
        self.recorder.wait(lambda: self.recorder.settled([token]))
        assert token in self.recorder.committed_tokens, self.recorder.failures[token]
        return self.recorder.committed_tokens[token]

    def refuse(self, *ops: Op, generation: int = 1) -> str:
        """Submit one Persist that must fail, and return the reason."""
        token = self.submit(*ops, generation=generation)
        self.recorder.wait(lambda: self.recorder.settled([token]))
        return self.recorder.failures[token]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What is submitted meanwhile becomes one batch."""
        entered, release = threading.Event(), threading.Event()

        def hold(_: Connection) -> None:
            entered.set()
            release.wait(PATIENCE)

        self.store.query(hold)
        assert entered.wait(PATIENCE)
        try:
            yield
        finally:
            release.set()

    def ask(self, sql: str, *params: Any) -> list[Row]:
        """Return the rows of a question."""
        return self.store.query(lambda connection: connection.execute(sql, params)).result(PATIENCE)


@contextlib.contextmanager
def driven(directory: Path, device: str = DEVICE, **options: Any) -> Iterator[Driven]:
    """Open and start a store, and close it at the end."""
    store = SqliteStore(directory, device, **options)
    it = Driven(store)
    try:
        yield it
    finally:
        store.close()


class FlakyConnection:
    """A connection whose statements fail when told.

    Attributes:
        fuse: Statements that still work; None for all of them.
        once: True when only one statement fails.
        statements: All so far.
    """

    def __init__(self, inner: Connection) -> None:
        self.inner = inner
        self.fuse: int | None = None
        self.once = False
        self.statements: list[str] = []

    @property
    def in_transaction(self) -> bool:
        return self.inner.in_transaction

    @property
    def total_changes(self) -> int:
        return self.inner.total_changes

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        self.statements.append(sql)
        if self.fuse is not None and sql != "ROLLBACK":
            self.fuse -= 1
            if self.fuse < 0:
                if self.once:
                    self.fuse = None
                raise StoreError("the disk was made to fail")
        return self.inner.execute(sql, params)

    def close(self) -> None:
        self.inner.close()


class Flaky:
    """Makes flaky connections; `connection` is the newest."""

    connection: FlakyConnection

    def __call__(self, path: Path) -> Connection:
        self.connection = FlakyConnection(SqliteConnection(path))
        return self.connection


def ident(number: int) -> bytes:
    """A message id."""
    return number.to_bytes(16, "big")


def put_out(row: int, *, body: bytes = b"body", state: Sent = Sent.QUEUED, id_: bytes | None = None) -> PutOut:
    """An outgoing message."""
    return PutOut(row, id_ or ident(row), DEST, "code@studio", 2, 1, row, state, None, b"envelope", body)


def put_in(row: int, *, body: bytes = b"body", id_: bytes | None = None, device: str = "device") -> PutIn:
    """An incoming message."""
    return PutIn(row, id_ or ident(row), device, DEST, "code", 2, 0, 0.0, None, b"envelope", body)


def end_out(first: int, last: int, state: Sent = Sent.STORED) -> EndOut:
    """The end of some outgoing messages."""
    return EndOut(first, last, state, "")
