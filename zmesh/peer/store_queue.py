"""What the writer thread is asked for, and how much of it is done in one turn."""

import contextlib
import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from zmesh.protocol.bounds import MIB
from zmesh.protocol.effects import Persist
from zmesh.protocol.journal import PutIn, PutOut

BATCH_PERSISTS: Final = 512  # in one transaction; a commit of more takes longer than anybody should wait
BATCH_BYTES: Final = 8 * MIB  # of bodies in one transaction, some 100 ms of work


@dataclass(frozen=True, slots=True)
class FetchOutRows:
    """Bodies of outgoing messages are wanted."""

    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FetchInRows:
    """Incoming messages are wanted."""

    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A function to be called in the writer thread, and the future of what it returns."""

    work: Callable[[], Any]
    future: Future[Any]

    def do(self) -> None:
        """Carry it out and settle its future."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the asker's
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Stop:
    """The last thing in the queue."""


Item = Persist | FetchOutRows | FetchInRows | Job | Stop


@dataclass(slots=True)
class Batch:
    """What is done in one turn of the writer thread.

    Attributes:
        persists: To be committed, in order.
        fetches: To be read afterwards.
        jobs: To be done last.
        puts: Messages in `persists`, outgoing and incoming.
        size: Bytes of their bodies.
        stop: True when this is the last batch.
    """

    persists: list[Persist] = field(default_factory=list)
    fetches: list[FetchOutRows | FetchInRows] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    puts: list[int] = field(default_factory=lambda: [0, 0])
    size: int = 0
    stop: bool = False

    def add(self, item: Item) -> None:
        """Take one more."""
        if isinstance(item, Persist):
            self.persists.append(item)
            for op in item.ops:
                if isinstance(op, PutOut | PutIn):
                    self.size += len(op.body)
                    self.puts[isinstance(op, PutIn)] += 1
        elif isinstance(item, Job):
            self.jobs.append(item)
        elif isinstance(item, Stop):
            self.stop = True
        else:
            self.fetches.append(item)

    @property
    def full(self) -> bool:
        """True when the next item must wait for the next batch."""
        return self.stop or len(self.persists) >= BATCH_PERSISTS or self.size >= BATCH_BYTES


def drain(items: "queue.SimpleQueue[Item]", first: Item) -> Batch:
    """Take `first` and what is queued behind it, up to the bounds of a batch."""
    batch = Batch()
    batch.add(first)
    with contextlib.suppress(queue.Empty):
        while not batch.full:
            batch.add(items.get_nowait())
    return batch
