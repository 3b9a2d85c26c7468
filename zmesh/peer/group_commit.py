"""Commits many `Persist`s in one transaction, and finds the one that cannot be committed when that fails.

The rule it keeps: of each generation the committed ones are a prefix. It must never report a `Persist` as committed
before COMMIT has returned, and never try one whose generation has failed.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zmesh.errors import StoreError
from zmesh.peer.connection import Connection
from zmesh.peer.op_writer import OpWriter
from zmesh.protocol.effects import Persist
from zmesh.protocol.journal import PutIn, PutOut

_log = logging.getLogger("zmesh.peer")
_NONE: Final[frozenset[int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one `Persist`.

    Attributes:
        token: Its token.
        reason: Why it failed; None when it is committed.
        ignored_out: Rows of `PutOut` that were ignored.
        ignored_in: Rows of `PutIn` that were ignored.
    """

    token: int
    reason: str | None = None
    ignored_out: frozenset[int] = _NONE
    ignored_in: frozenset[int] = _NONE


class GroupCommit:
    """The only writer of the mail in a store."""

    def __init__(self, connection: Connection) -> None:
        """Take the connection; its command views are installed."""
        self._connection = connection
        self._writer = OpWriter(connection)
        self._failed = -1  # every generation up to it has failed
        self._reason = ""

    def commit(self, persists: Sequence[Persist]) -> list[Result]:
        """Commit these, and return what became of each, in their order."""
        hopeful = [persist for persist in persists if persist.generation > self._failed]
        if len(hopeful) > 1:
            try:
                return self._refused(persists) + self._commit(hopeful)
            except Exception as error:  # noqa: BLE001 - whatever it is, one of them is to blame and the others are not
                _log.debug("commit of %d at once failed (%s): one by one", len(hopeful), error)
        return [self._commit_one(persist) for persist in persists]

    def _refused(self, persists: Sequence[Persist]) -> list[Result]:
        return [Result(persist.token, self._reason) for persist in persists if persist.generation <= self._failed]

    def _commit_one(self, persist: Persist) -> Result:
        if persist.generation <= self._failed:
            return Result(persist.token, self._reason)
        try:
            return self._commit([persist])[0]
        except StoreError as error:
            self._reason = str(error)
            _log.warning("nothing can be stored: %s", error)
        except Exception as error:  # noqa: BLE001 - a bug must not stop the thread that everybody waits for
            self._reason = f"an error in zmesh, please report it: {error!r}"
            _log.exception("a transaction failed because of an error in zmesh")
        self._failed = persist.generation
        return Result(persist.token, self._reason)

    def _commit(self, persists: Sequence[Persist]) -> list[Result]:
        connection, writer = self._connection, self._writer
        connection.execute("BEGIN IMMEDIATE")
        try:
            for persist in persists:
                writer.add(persist.ops)
            ignored_out, ignored_in = writer.finish()
            connection.execute("COMMIT")
        except BaseException:
            writer.reset()
            self._roll_back()
            raise
        if ignored_out or ignored_in:
            return [_with_ignored(persist, ignored_out, ignored_in) for persist in persists]
        return [Result(persist.token) for persist in persists]

    def _roll_back(self) -> None:
        """End a failed transaction. SQLite may have done so itself."""
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except StoreError as error:
                _log.warning("could not roll back: %s", error)


def _with_ignored(persist: Persist, ignored_out: frozenset[int], ignored_in: frozenset[int]) -> Result:
    """Find out which of the ignored rows are of this `Persist`."""
    outs = frozenset(op.row for op in persist.ops if isinstance(op, PutOut)) & ignored_out
    ins = frozenset(op.row for op in persist.ops if isinstance(op, PutIn)) & ignored_in
    return Result(persist.token, None, outs, ins)
