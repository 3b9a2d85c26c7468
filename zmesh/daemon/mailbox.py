"""What a program's client knows of its mailbox, be it blocking or async: its address, handlers, what was polled.

This module must never talk to the daemon.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from zmesh.daemon.handlers import EVERY, Handlers
from zmesh.daemon.told import ToldMessage
from zmesh.errors import LeaseLost, MeshError
from zmesh.peer.arguments import brief

M = TypeVar("M", bound=ToldMessage)


class ClientMailbox(Generic[M]):
    """The part of a client that both kinds have."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._handlers = Handlers()
        self._polled: list[M] = []

    @property
    def address(self) -> str:
        """`agent@peer`, as others write it; empty without a mailbox."""
        return str(self._told.get("address", ""))

    @property
    def peer(self) -> str:
        """Name of this machine's peer."""
        return str(self._told.get("peer", ""))

    @property
    def _told(self) -> dict[str, Any]:
        """What the daemon has said of the mailbox."""
        raise NotImplementedError

    def on(self, type: str = EVERY) -> Callable[[Callable[[M], Any]], Callable[[M], Any]]:  # noqa: A002 - the public name
        """Register, as a decorator, what `listen` does with messages of a type; `*` stands for all others."""
        return self._handlers.on(type)

    def keep(self, message: M) -> None:
        """Keep a polled message beyond the next poll; it must be finished with `done` or `nack`.

        Args:
            message: One that `poll` has returned; another one is as it was.

        Raises:
            TypeError: It is no message.
        """
        if not isinstance(message, ToldMessage):
            raise TypeError(f"keep takes a message, not {brief(message)}")
        if message in self._polled:
            self._polled.remove(message)

    @property
    def _unfinished(self) -> list[M]:
        """What was polled and is to be finished by the next poll."""
        return [message for message in self._polled if not message.finished]

    def _finished(self, messages: Sequence[M], errors: Sequence[BaseException | None]) -> None:
        """Take note of how the ends of polled messages went; who has lost a lease has nothing to finish.

        Raises:
            MeshError: What went wrong first; what is not finished is finished by the next poll.
        """
        wrong = [error for error in errors if isinstance(error, MeshError) and not isinstance(error, LeaseLost)]
        for message, error in zip(messages, errors, strict=True):
            message.finished = error is None or isinstance(error, LeaseLost)
        if wrong:
            raise wrong[0]
        self._polled = []
