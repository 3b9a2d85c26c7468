"""Where a peer may be used: in the event loop it was started in, and nowhere else.

Neither the core nor the shell is thread-safe, and a forked process has no writer thread and owns nothing of what it
inherits. So whoever comes from elsewhere gets an error that names the rule; this module must never repair anything.
"""

import asyncio
import os
import selectors

from zmesh.errors import WrongLoop


class Place:
    """The process and the running event loop in which this was made."""

    def __init__(self) -> None:
        """Take note of both.

        Raises:
            RuntimeError: No event loop is running.
        """
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()

    @property
    def forked(self) -> bool:
        """True in a process that was forked from this one."""
        return os.getpid() != self._pid

    def abandon(self) -> None:
        """In a forked process: let go of the event loop that it inherits, so that it can end.

        The two loops share one epoll object of the system, and closing the one here would take the parent's sockets out
        of it: the parent would sleep for ever. asyncio offers no way to say so, hence the private name.
        """
        if self.forked and hasattr(self._loop, "_selector"):
            self._loop._selector = selectors.SelectSelector()  # noqa: SLF001

    def check_process(self) -> None:
        """See that this is the process.

        Raises:
            WrongLoop: It is another one, forked from it.
        """
        if self.forked:
            raise WrongLoop(
                f"this peer belongs to process {self._pid}, of which this one is a fork: open a peer of another name "
                "here, or start processes in another way (multiprocessing: the method 'spawn')"
            )

    def check_loop(self) -> None:
        """See that the caller runs in the event loop.

        Raises:
            WrongLoop: It does not.
        """
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop:
            raise WrongLoop(
                "a peer is used in the event loop it was started in, and nowhere else: from another thread, "
                "asyncio.run_coroutine_threadsafe(coroutine, loop) brings a coroutine there"
            )
