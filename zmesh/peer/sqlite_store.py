"""The durable memory of one peer: a SQLite file, one connection, one writer thread.

What is queued while a commit runs shares the next one: no linger, no batch size to choose. All methods may be called
from any thread; the listener is called wherever `post` leads, once per batch. The store must never report anything
as committed that an fsync has not confirmed, and never keep the caller waiting for the disk, but in `open` and `close`.
"""

import atexit
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Protocol, TypeVar

from zmesh.errors import StoreError
from zmesh.peer.commands import install_commands
from zmesh.peer.connection import Connect, Connection, sqlite_connect
from zmesh.peer.group_commit import GroupCommit, Result
from zmesh.peer.lock_file import LockFile
from zmesh.peer.schema import configure, migrate, quick_check
from zmesh.peer.store_files import make_directory, make_file
from zmesh.peer.store_identity import RESERVED, STORE, place, settle, write_meta
from zmesh.peer.store_queue import Batch, FetchInRows, FetchOutRows, Item, Job, Stop, drain
from zmesh.peer.store_reader import ReceiptRow, read_bodies, read_messages, read_receipt, read_snapshot
from zmesh.peer.upkeep import Upkeep
from zmesh.protocol.bounds import KEPT_ENDED
from zmesh.protocol.effects import Persist
from zmesh.protocol.journal import Snapshot, Written

__all__ = ["ReceiptRow", "SqliteStore", "StoreListener"]

T = TypeVar("T")
_log = logging.getLogger("zmesh.peer")

IDLE_AFTER: Final = 0.25  # seconds without work before housekeeping begins


class StoreListener(Protocol):
    """Whoever is told what the writer thread has done."""

    def committed(self, token: int, written: Written) -> None:
        """A `Persist` is on disk."""
        ...

    def failed(self, token: int, reason: str) -> None:
        """Nothing of a `Persist` is on disk; the reason is for people."""
        ...

    def fetched_out(self, bodies: dict[int, bytes]) -> None:
        """Bodies asked for by `fetch_out`, as far as they are there."""
        ...

    def fetched_in(self, messages: dict[int, tuple[bytes, bytes]]) -> None:
        """Envelopes and bodies asked for by `fetch_in`, as far as they are there."""
        ...

    def unreadable(self, reason: str) -> None:
        """What was asked for could not be read; the reason is for people."""
        ...


class SqliteStore:
    """One peer's store.

    Attributes:
        adopted: True when `open` found a copy, or a store of another machine or device, and gave it a new id.
        meta: Small named values, as of `open` and of every `put_meta` that is done.
    """

    def __init__(
        self,
        directory: Path,
        device: str,
        *,
        connect: Connect = sqlite_connect,
        machine: str | None = None,
        keep: int = KEPT_ENDED,
    ) -> None:
        """Name the directory; nothing is touched before `open`.

        Args:
            directory: Where store.db and store.lock are; made if it is missing.
            device: The id of the device that it is opened on. A store of another device takes a new id.
            connect: Opens the database.
            machine: Names the machine; None for the real one.
            keep: Ended messages kept per direction.
        """
        self.adopted = False
        self.meta: dict[str, bytes] = {}
        self.path = directory / "store.db"
        self._pid = os.getpid()
        self._connect = connect
        self._device = device
        self._machine = machine
        self._lock = LockFile(directory / "store.lock")
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._upkeep = Upkeep(keep)
        self._gate = threading.Lock()  # between those who submit and the one who closes
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._post: Callable[[Callable[[], None]], object]
        self._listener: StoreListener
        self._group: GroupCommit

    # --- opening and closing ----------------------------------------------------------------------------------------

    def open(self) -> Snapshot:
        """Take the lock, open or make the database, and read it. Blocks.

        Raises:
            PeerRunning: Another process has the store open.
            StoreError: It cannot be opened; the text names the file and the way out.
        """
        if self._closed or self._connection is not None:
            raise StoreError(f"{self.path} was opened before: make another SqliteStore")
        make_directory(self.path.parent)
        self._lock.acquire()
        try:
            make_file(self.path)
            self._connection = self._connect(self.path)
            return self._prepare(self._connection)
        except BaseException:
            if self._connection is not None:
                with contextlib.suppress(StoreError):
                    self._connection.close()
                self._connection = None
            self._lock.release()
            raise

    def _prepare(self, connection: Connection) -> Snapshot:
        configure(connection, self.path)
        quick_check(connection, self.path)
        migrate(connection, self.path)
        where = place(self.path, self._machine, self._device)
        connection.execute("BEGIN IMMEDIATE")
        self.meta, self.adopted = settle(connection, self.path, where)
        connection.execute("COMMIT")
        install_commands(connection)
        self._group = GroupCommit(connection)
        return read_snapshot(connection, self.meta[STORE])

    def start(self, post: Callable[[Callable[[], None]], object], listener: StoreListener) -> None:
        """Start the writer thread.

        Args:
            post: Brings a function to the listener's thread; `loop.call_soon_threadsafe`. Called once per batch.
            listener: Told what was done.

        Raises:
            StoreError: The store is not open.
        """
        if self._connection is None or self._thread is not None:
            raise StoreError(f"{self.path} is not open, or was started before")
        self._post, self._listener = post, listener
        # A daemon, so that a program that forgets `close` can end; then it is `atexit` that closes.
        self._thread = threading.Thread(target=self._run, args=(self._connection,), name="zmesh store", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Commit what was submitted, fold the WAL in, release everything. Blocks; idempotent.

        In a forked child it does nothing: the store is the parent's.
        """
        if os.getpid() != self._pid:
            return
        with self._gate:
            first, self._closed = not self._closed, True
            if first and self._thread is not None:
                self._items.put(Stop())
        if self._thread is not None:
            self._thread.join()
            atexit.unregister(self.close)
        elif self._connection is not None:
            self._finish(self._connection)

    def _finish(self, connection: Connection) -> None:
        """Leave a file without a WAL behind, if the disk allows."""
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except StoreError as error:
            _log.warning("the write-ahead log stays beside the store: %s", error)
        with contextlib.suppress(StoreError):
            connection.close()
        self._connection = None
        self._lock.release()

    # --- what others ask for ----------------------------------------------------------------------------------------

    def submit(self, persist: Persist) -> None:
        """Commit this after all before it; `committed` or `failed` tells when.

        Raises:
            StoreError: The store is closed.
        """
        self._put(persist)

    def fetch_out(self, rows: Sequence[int]) -> None:
        """Read bodies of outgoing messages; `fetched_out` brings them.

        Raises:
            StoreError: The store is closed.
        """
        self._put(FetchOutRows(tuple(rows)))

    def fetch_in(self, rows: Sequence[int]) -> None:
        """Read incoming messages; `fetched_in` brings them.

        Raises:
            StoreError: The store is closed.
        """
        self._put(FetchInRows(tuple(rows)))

    def receipt(self, ident: bytes) -> Future[ReceiptRow | None]:
        """Return a future of what is known of an outgoing message.

        Raises:
            StoreError: The store is closed.
        """
        return self.query(lambda connection: read_receipt(connection, ident))

    def query(self, fn: Callable[[Connection], T]) -> Future[T]:
        """Return a future of `fn(connection)`, which runs in the writer thread and can only read.

        Raises:
            StoreError: The store is closed, or not started.
        """

        def work() -> T:
            connection = self._opened()
            connection.execute("PRAGMA query_only=ON")
            try:
                return fn(connection)
            finally:
                connection.execute("PRAGMA query_only=OFF")

        return self._job(work)

    def change(self, fn: Callable[[Connection], T]) -> Future[T]:
        """Return a future of `fn(connection)`, which runs in the writer thread after the commits that were due.

        It is for upkeep: it must take no longer than a commit, leave no transaction open, and never change what the
        core remembers.

        Raises:
            StoreError: The store is closed, or not started.
        """
        return self._job(lambda: fn(self._opened()))

    def put_meta(self, key: str, value: bytes) -> Future[None]:
        """Keep a small value under a name; a transaction of its own. Return a future of its commit.

        Raises:
            StoreError: The store is closed, or not started.
            ValueError: The name is one of the store's own.
        """
        if key in RESERVED:
            raise ValueError(f"{key!r} belongs to the store: choose another name")

        def work() -> None:
            write_meta(self._opened(), {key: value})  # one statement is one transaction
            self.meta[key] = value

        return self._job(work)

    def _job(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        if self._thread is None:
            raise StoreError(f"{self.path} is not started: nobody would answer")
        self._put(Job(work, future))
        return future

    def _put(self, item: Item) -> None:
        with self._gate:
            if self._closed:
                raise StoreError(f"{self.path} is closed: open it again")
            self._items.put(item)

    def _opened(self) -> Connection:
        assert self._connection is not None, "only the writer thread asks, and it ends before the connection does"
        return self._connection

    # --- the writer thread ------------------------------------------------------------------------------------------

    def _run(self, connection: Connection) -> None:
        idle_from = time.monotonic() + IDLE_AFTER
        idle_work = True
        try:
            while True:
                try:
                    patience = max(0.0, idle_from - time.monotonic()) if idle_work else None
                    batch = drain(self._items, self._items.get(timeout=patience))
                except queue.Empty:
                    idle_work = self._keep_house(lambda: self._upkeep.idle_step(connection))
                    continue
                self._turn(connection, batch)
                if batch.stop:
                    return
                idle_work = True
                idle_from = time.monotonic() + IDLE_AFTER
        except Exception:  # noqa: BLE001 - it must be known why nothing is stored any more
            _log.exception("%s: an error in zmesh ended the store, please report it", self.path)
        finally:
            with self._gate:
                self._closed = True
            self._finish(connection)

    def _turn(self, connection: Connection, batch: Batch) -> None:
        """Do a batch: commit, read, report; then what others asked for, and at most one step of housekeeping."""
        results = self._group.commit(batch.persists) if batch.persists else []
        fetched = [self._fetch(connection, fetch) for fetch in batch.fetches]
        if results or fetched:
            self._report(results, fetched)
        for job in batch.jobs:
            job.do()
        if batch.persists:
            self._upkeep.added(*batch.puts)
            self._keep_house(lambda: self._upkeep.step(connection))

    def _keep_house(self, step: Callable[[], bool | None]) -> bool:
        try:
            return bool(step())
        except StoreError as error:
            _log.warning("housekeeping of the store failed: %s", error)
            return False

    def _fetch(self, connection: Connection, fetch: FetchOutRows | FetchInRows) -> Callable[[], None]:
        """Read, and return what tells the listener."""
        listener = self._listener
        try:
            if isinstance(fetch, FetchOutRows):
                bodies = read_bodies(connection, fetch.rows)
                return lambda: listener.fetched_out(bodies)
            messages = read_messages(connection, fetch.rows)
        except StoreError as error:
            # An error is not an absence: to call these messages gone would strand them.
            reason = str(error)
            return lambda: listener.unreadable(reason)
        return lambda: listener.fetched_in(messages)

    def _report(self, results: list[Result], fetched: list[Callable[[], None]]) -> None:
        listener = self._listener

        def tell() -> None:
            for result in results:
                if result.reason is None:
                    listener.committed(result.token, result.written)
                else:
                    listener.failed(result.token, result.reason)
            for tell_fetched in fetched:
                tell_fetched()

        try:
            self._post(tell)
        except RuntimeError as error:  # the loop is closed: nobody listens any more
            _log.debug("nobody was told of %d commits: %s", len(results), error)
