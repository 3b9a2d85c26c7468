"""What is done by hand to keep the daemon's store as small, and its bounds as wide, as its owner wants them.

Work that takes a while is done once at a time, and tells how far it has got to whoever asks. This module must never
be asked for anything but by `administration`, which writes it down.
"""

import asyncio
from dataclasses import asdict
from typing import Any

from zmesh.peer.compaction import compact
from zmesh.peer.peer import Peer

Values = dict[str, Any]


class Keeping:
    """Looks after the store of one daemon.

    Attributes:
        progress: Of the work under way: `done` of `total` steps, of whatever size; both 0 when there is none.
    """

    def __init__(self, peer: Peer) -> None:
        """Take the daemon's peer, which is running."""
        self._peer = peer
        self._turn = asyncio.Lock()
        self._tell(0, 0)

    def _tell(self, done: int, total: int) -> None:
        self.progress: Values = {"done": done, "total": total}

    async def compact(self) -> Values:
        """Give what is free in the store back to the file system.

        Raises:
            StoreError: The disk refused; what was given back stays so.
        """
        async with self._turn:
            try:
                before, after = await compact(self._peer.store, self._tell)
            finally:
                self._tell(0, 0)
        return {"before": asdict(before), "after": asdict(after)}
