"""The verbs of an administrator, `admin.*`: what is done to the daemon's peer by hand.

Who asked for what is on disk before it is done, and what came of it is written beside it. This module must never do
anything that is not in the audit log.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from typing import Any, ClassVar, Final

from zmesh.daemon import keeping, traffic
from zmesh.daemon.keeping import Keeping
from zmesh.daemon.settings import Settings, discreet
from zmesh.errors import DaemonError, MeshError
from zmesh.peer.administration import Administration
from zmesh.peer.arguments import brief
from zmesh.peer.configuration import load_configuration
from zmesh.peer.peer import Peer
from zmesh.peer.traffic import Traffic
from zmesh.protocol.bounds import ID_BYTES

PREFIX: Final = "admin."
_log = logging.getLogger("zmesh.daemon")

Values = dict[str, Any]
Rule = Callable[["Administrator", Values], Awaitable[Any]]
Act = Callable[[], Awaitable[Any]]


class Administrator:
    """Carries out what an administrator asks of one daemon.

    Attributes:
        traffic: What is done to its peer's traffic.
        keeping: What is done to its store.
        settings: What holds for it.
    """

    def __init__(self, peer: Peer, settings: Settings | None = None) -> None:
        """Take the daemon's peer, which is running, and its settings; None for those of a peer of its own."""
        self._peer = Administration(peer)
        self.traffic = Traffic(peer)
        self.keeping: Keeping = Keeping(peer)
        self.settings: Settings = settings or Settings(peer, load_configuration(peer.home), None)
        self._under_way: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Break off what is under way: the daemon ends."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def carry_out(self, verb: str, arguments: Values) -> Any:
        """Do what is asked for; `by` among the arguments says who asks, in words.

        Raises:
            DaemonError: There is no such verb.
            MeshError, TypeError, ValueError: It cannot be done; the audit log says so too.
        """
        if verb in self._LOOKS:
            return await self._LOOKS[verb](self, arguments)
        rule = self._ACTS.get(verb)
        if rule is None:
            raise DaemonError(f"there is no {brief(verb)} in this daemon: update it, then `zmesh down`")
        return await self.audited(verb, lambda: rule(self, arguments), arguments)

    async def audited(self, verb: str, act: Act, arguments: Values) -> Any:
        """Do something, to its end though whoever asked goes away; the audit log says who asked, and how it ended.

        Args:
            verb: What is asked for.
            act: Does it.
            arguments: What was asked; `by` is taken out before `act` is called.

        Raises:
            MeshError, TypeError, ValueError: As of `act`.
        """
        task = asyncio.get_running_loop().create_task(self._act(verb, act, arguments))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._under_way.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.debug("an action has failed: %s", task.exception())  # whoever asked was told, if still there

    async def _act(self, verb: str, act: Act, arguments: Values) -> Any:
        by = str(arguments.pop("by", "somebody"))
        asked = " ".join(f"{name}={_word(value)}" for name, value in discreet(arguments).items() if value is not None)
        await self._note(verb, f"{by} asks{': ' if asked else ''}{asked}")
        if verb in traffic.SIGNED:
            arguments["by"] = by
        try:
            answer = await act()
        except (MeshError, TypeError, ValueError) as error:
            await self._note(verb, f"not done: {error}")
            raise
        await self._note(verb, f"done{': ' if answer else ''}{told(answer)}")
        return answer

    async def _note(self, kind: str, text: str) -> None:
        _log.info("%s: %s", kind, text)
        await self._peer.note(kind, text)

    async def _tell_log(self, arguments: Values) -> list[Values]:
        return [asdict(line) for line in await self._peer.log(**arguments)]

    _LOOKS: ClassVar[dict[str, Rule]] = {"admin.log": _tell_log, **keeping.LOOKS, **traffic.LOOKS}
    """Verbs that change nothing."""
    _ACTS: ClassVar[dict[str, Rule]] = {**keeping.ACTS, **traffic.ACTS}
    """Verbs that do something: what they return is told in the audit log."""


def _word(value: Any) -> str:
    return value.hex()[: 2 * ID_BYTES] if isinstance(value, bytes) else brief(value)


def told(answer: Any) -> str:
    """Return what came of an action in the words of the audit log."""
    return " ".join(f"{name}={brief(value)}" for name, value in _flat(answer)) if isinstance(answer, dict) else ""


def _flat(values: Values, within: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value
