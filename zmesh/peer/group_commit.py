"""Commits many `Persist`s in one transaction, and finds the one that cannot be committed when that fails.

The rule it keeps: of each generation the committed ones are a prefix. It must never report a `Persist` as committed
before COMMIT has returned, and never try one whose generation has failed.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from zmesh.errors import StoreError
from zmesh.peer.connection import Connection
from zmesh.peer.op_writer import OpWriter
from zmesh.protocol.effects import Persist
from zmesh.protocol.journal import NOTHING_SPECIAL, PutIn, PutOut, Written

_log = logging.getLogger("zmesh.peer")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one `Persist`.

    Attributes:
        token: Its token.
        reason: Why it failed; None when it is committed.
        written: What is to be said of its rows.
    """

    token: int
    reason: str | None = None
    written: Written = NOTHING_SPECIAL


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
            lost = [writer.add(persist.ops) for persist in persists]
            written = writer.finish()
            connection.execute("COMMIT")
        except BaseException:
            writer.reset()
            self._roll_back()
            raise
        if written is NOTHING_SPECIAL and not any(lost):
            return [Result(persist.token) for persist in persists]
        shares = zip(persists, lost, strict=True)
        return [Result(persist.token, None, _share(persist, written, gone)) for persist, gone in shares]

    def _roll_back(self) -> None:
        """End a failed transaction. SQLite may have done so itself."""
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except StoreError as error:
                _log.warning("could not roll back: %s", error)


def _share(persist: Persist, written: Written, lost: tuple[bytes, ...]) -> Written:
    """Find out what of a group's commit is about this `Persist`."""
    outs = {op.row for op in persist.ops if isinstance(op, PutOut)}
    ins = {op.row for op in persist.ops if isinstance(op, PutIn)}
    return Written(
        {row: state for row, state in written.ignored_out.items() if row in outs},
        {row: state for row, state in written.ignored_in.items() if row in ins},
        lost,
    )
