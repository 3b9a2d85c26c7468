"""The verbs of an administrator, `admin.*`: what is done to the daemon's peer by hand.

Who asked for what is on disk before it is done, and what came of it is written beside it. This module must never do
anything that is not in the audit log.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, ClassVar, Final

from zmesh.daemon import traffic
from zmesh.errors import DaemonError, MeshError
from zmesh.peer.administration import Administration
from zmesh.peer.arguments import brief
from zmesh.peer.peer import Peer
from zmesh.peer.traffic import Traffic

PREFIX: Final = "admin."
_log = logging.getLogger("zmesh.daemon")

Values = dict[str, Any]
Rule = Callable[["Administrator", Values], Awaitable[Any]]


class Administrator:
    """Carries out what an administrator asks of one daemon.

    Attributes:
        traffic: What is done to its peer's traffic.
    """

    def __init__(self, peer: Peer) -> None:
        """Take the daemon's peer, which is running."""
        self._peer = Administration(peer)
        self.traffic = Traffic(peer)

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
        by = str(arguments.pop("by", "somebody"))
        asked = " ".join(f"{name}={brief(value)}" for name, value in arguments.items())
        await self._note(verb, f"{by} asks{': ' if asked else ''}{asked}")
        if verb in traffic.SIGNED:
            arguments["by"] = by
        try:
            answer = await rule(self, arguments)
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

    _LOOKS: ClassVar[dict[str, Rule]] = {"admin.log": _tell_log, **traffic.LOOKS}
    """Verbs that change nothing."""
    _ACTS: ClassVar[dict[str, Rule]] = {**traffic.ACTS}
    """Verbs that do something: what they return is told in the audit log."""


def told(answer: Any) -> str:
    """Return what came of an action in the words of the audit log."""
    return " ".join(f"{name}={brief(value)}" for name, value in answer.items()) if isinstance(answer, dict) else ""
