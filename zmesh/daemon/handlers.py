"""What a program does with the messages that `listen` takes: handlers by type.

A message that nobody here handles may be for another program that has the same mailbox. So it goes back uncounted, as
if it had not been taken, and comes again later and later; its ttl ends it, as it ends what nobody takes. This module
must never let such a message die of attempts that were none.
"""

from collections.abc import Callable
from typing import Any, Final

from zmesh.protocol.bounds import MAILBOX_MESSAGES, REDELIVERY_FIRST, REDELIVERY_MAX

EVERY: Final = "*"

Handler = Callable[[Any], Any]


class Handlers:
    """The handlers of one client."""

    def __init__(self) -> None:
        """Begin with none."""
        self._handlers: dict[str, Handler] = {}
        self._unhandled: dict[bytes, float] = {}  # when each message comes again, in seconds
        self._warned: set[str] = set()

    def on(self, type: str) -> Callable[[Handler], Handler]:  # noqa: A002 - the public name
        """Return a decorator that registers the handler of a type; `*` stands for all others."""

        def register(handler: Handler) -> Handler:
            self._handlers[type] = handler
            return handler

        return register

    def find(self, ident: bytes, type: str) -> Handler | None:  # noqa: A002 - as the message calls it
        """Return who handles a message of that type; None when nobody does."""
        handler = self._handlers.get(type) or self._handlers.get(EVERY)
        if handler is not None:
            self._unhandled.pop(ident, None)
        return handler

    def later(self, ident: bytes, type: str, mailbox: str) -> float:  # noqa: A002 - as the message calls it
        """Return in how many seconds a message that nobody here handles is to come again."""
        if type not in self._warned and len(self._warned) < MAILBOX_MESSAGES:
            self._warned.add(type)
            import logging  # noqa: PLC0415 - 10 ms, which a program that only sends need not wait for

            logging.getLogger("zmesh.client").warning(
                "a message of type %r came to %s, and nothing here handles it: register on(%r) or on('*')",
                type, mailbox, type,
            )  # fmt: skip
        delay = min(self._unhandled.get(ident, REDELIVERY_FIRST) * 2, REDELIVERY_MAX)
        if len(self._unhandled) >= MAILBOX_MESSAGES:  # a mailbox has no more: most of these have gone elsewhere
            self._unhandled.clear()
        self._unhandled[ident] = delay
        return delay
