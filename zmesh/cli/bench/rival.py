"""NATS JetStream, measured beside zmesh: the same bodies, count, pace and disk, through nats-py.

With its default settings the server acknowledges what is not on disk yet (it syncs every two minutes); a second line
is measured with `sync_interval: always`, where the server knows it, because that is what zmesh does.
"""

import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Self

from zmesh.cli.bench.measurements import Figures
from zmesh.cli.bench.scale import PACE, START_SECONDS, Sizes
from zmesh.cli.bench.workers import BenchError, Worker, together

ALWAYS: Final = "always"
_PLACES: Final = (None, "/usr/sbin:/usr/local/sbin")  # PATH first; Debian puts the server beside it


@dataclass(frozen=True, slots=True)
class Nats:
    """The rival on this machine.

    Attributes:
        program: Path of nats-server.
        server_version: Its version.
        client_version: That of nats-py.
    """

    program: str
    server_version: str
    client_version: str

    @classmethod
    def find(cls) -> Self:
        """Find server and client.

        Raises:
            BenchError: One is missing; the message says how to get it.
        """
        program = next((found for places in _PLACES if (found := shutil.which("nats-server", path=places))), None)
        if program is None:
            raise BenchError(
                "nats-server is neither in PATH nor in /usr/sbin. On Debian or Ubuntu run, as root, `apt-get install "
                "nats-server`; elsewhere see https://github.com/nats-io/nats-server/releases. Or leave out --compare"
            )
        try:
            client = version("nats-py")
        except PackageNotFoundError:
            raise BenchError(
                "nats-py is missing: run `pip install 'zmesh-agents[bench]'`, or leave out --compare"
            ) from None
        told = subprocess.run(  # noqa: S603 - the program found above
            [program, "--version"], capture_output=True, text=True, check=False, timeout=START_SECONDS
        )
        return cls(program, told.stdout.rpartition("v")[2].strip(), client)

    def always_syncs(self, place: Path) -> bool:
        """Say whether the server can be told to sync before it acknowledges (2.10 and later)."""
        with Worker("nats-server", place) as server:
            return bool(
                server.start("accepts", program=self.program, directory=str(place / "try"), sync=ALWAYS)["accepted"]
            )

    def throughput(self, place: Path, sizes: Sizes, sync: str = "") -> Figures:
        """Publishes, each acknowledged, in the two ways nats-py has; nobody consumes."""
        with Worker("nats-server", place) as server, Worker("nats", place) as sender:
            self._open(server, sender, place, sync)
            sender.call("send", count=sizes.warm_up)
            return {
                "stored_per_s": sizes.burst / sender.call("send", count=sizes.burst)["stored_s"],
                "in_tasks_per_s": sizes.burst / sender.call("send_in_tasks", count=sizes.burst)["stored_s"],
            }

    def latency(self, place: Path, sizes: Sizes, sync: str = "") -> Figures:
        """One publish at a time: until it is acknowledged, and until a push consumer has it."""
        with (
            Worker("nats-server", place) as server,
            Worker("nats", place) as receiver,
            Worker("nats", place) as sender,
        ):
            url = self._open(server, sender, place, sync)
            receiver.start("open", url=url, stream=False)
            receiver.start("subscribe")
            receiver.ask("receive_paced", count=sizes.paced)
            sender.ask("send_paced", count=sizes.paced, rate=PACE)
            sent, received = together(sender, receiver)
            return sent | received

    def _open(self, server: Worker, client: Worker, place: Path, sync: str) -> str:
        url: str = server.start("serve", program=self.program, directory=str(place / "nats"), sync=sync)["url"]
        client.start("open", url=url, stream=True)
        return url
