"""A program on each of many machines, and devices made members of one mesh without the network."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mesh.lan import Machine
from tests.storm.processes import wait_until
from zmesh.peer.home import device_key_path, trust_path
from zmesh.trust.device import Device
from zmesh.trust.entry import Joining, sign
from zmesh.trust.pairing import Candidate
from zmesh.trust.trust_store import TrustStore

DISCOVERY = "rendezvous,static,mdns"
PATIENCE = 60.0
_TAIL = 4000  # characters of a log that are shown when something went wrong


# --- members ---


def device_of(machine: Machine) -> Device:
    """Return the key of a machine, made at first use."""
    return Device.load_or_create(device_key_path(machine.home))


def mesh_of(machines: Sequence[Machine]) -> None:
    """Make machines members of one mesh, the first one its founder, as pairing would; each knows all."""
    mesh_of_homes({machine.name: machine.home for machine in machines})


def mesh_of_homes(homes: Mapping[str, Path]) -> None:
    """Make the devices of homes, by name, members of one mesh, the first one its founder; each knows all."""
    with contextlib.ExitStack() as stack:
        stores = [
            stack.enter_context(TrustStore(trust_path(home), Device.load_or_create(device_key_path(home))))
            for home in homes.values()
        ]
        founder, *guests = stores
        name, *names = homes
        founder.found(name)
        for name, guest in zip(names, guests, strict=True):
            secret = founder.invite(600)
            joining = sign(guest.device, founder.mesh, None, Joining(founder.device.public), int(time.time()))
            guest.join(founder.mesh, founder.admit(secret, Candidate(guest.device.public, name, joining)))
        for guest in guests:
            guest.take((entry.payload, entry.signature) for entry in founder.beyond(guest.heads()))


# --- programs ---


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses.

    Attributes:
        memory: Resident, in MiB.
        sockets: How many it has open.
        descriptors: The same of all file descriptors, sockets among them.
    """

    memory: float
    sockets: int
    descriptors: int


class Hand:
    """A program on a machine (see `tests.mesh.program`), which is killed in the end.

    Attributes:
        machine: Where it runs.
        name: What its peer is called.
        spawned: When it was started, by the clock of its answers.
        log: Its standard error.
        endpoints: Where its peer can be dialled, once it was ready.
    """

    def __init__(self, machine: Machine, name: str = "", discovery: str = DISCOVERY) -> None:
        """Start it; `ready` waits for it.

        Args:
            machine: Where.
            name: What its peer is called; the machine's name if that is empty.
            discovery: Sources of addresses.
        """
        self.machine, self.name = machine, name or machine.name
        self.log = machine.home / f"{self.name}.log"
        self.spawned = time.monotonic()
        self._process = machine.start("-m", "tests.mesh.program", self.name, discovery, log=self.log)
        self.endpoints: list[str] = []
        self._unread = 1  # answers: the first line comes by itself

    def ready(self) -> Any:
        """Wait for the answer to what it was told last; return it."""
        answer: Any = None
        while self._unread:
            self._unread -= 1
            answer = self._read()
            assert not _is_error(answer), f"{self.name}: {answer}\n{self.tail()}"
            self.endpoints = self.endpoints or answer
        return answer

    def tell(self, *words: str | float) -> None:
        """Give it a command, and do not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        self._unread += 1

    def say(self, *words: str | float) -> Any:
        """Give it a command; return its answer."""
        self.tell(*words)
        return self.ready()

    def fails(self, *words: str | float) -> str:
        """Give it a command that it cannot carry out; return the error."""
        self.tell(*words)
        self._unread -= 1
        answer = self._read()
        assert _is_error(answer), f"{self.name} should have failed: {answer}"
        return str(answer["error"])

    def takes(self, count: int) -> None:
        """Wait until its box has taken so many messages."""
        wait_until(lambda: self.say("count") >= count, PATIENCE, f"{self.name} has taken {count}")

    def usage(self) -> Usage:
        """Return what it uses at present."""
        process = Path(f"/proc/{self._process.pid}")
        pages = int((process / "statm").read_text(encoding="ascii").split()[1])
        open_files = list((process / "fd").iterdir())
        sockets = 0
        for file in open_files:
            with contextlib.suppress(OSError):  # it was closed meanwhile
                sockets += str(file.readlink()).startswith("socket:")
        return Usage(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, sockets, len(open_files))

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-_TAIL:]

    def kill(self) -> None:
        """SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate(timeout=PATIENCE)

    def stop(self) -> None:
        """End it in an orderly way, as the end of its input does."""
        self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, self.tail()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self.name} has ended\n{self.tail()}"
        return json.loads(line)

    def close(self) -> None:
        """See that it has ended."""
        if self._process.poll() is None:
            self.kill()


@contextlib.contextmanager
def crew(*machines: Machine, discovery: str = DISCOVERY) -> Iterator[list[Hand]]:
    """Run a program on each machine, all started at once, and kill them in the end."""
    with contextlib.ExitStack() as stack:
        hands: list[Hand] = []
        for machine in machines:
            hands.append(Hand(machine, discovery=discovery))
            stack.callback(hands[-1].close)
        for hand in hands:
            hand.ready()
        yield hands


def _is_error(answer: Any) -> bool:
    return isinstance(answer, dict) and "error" in answer


def everybody(hands: Sequence[Hand], *words: str | float) -> list[Any]:
    """Give all programs one command; return their answers once all are there."""
    for hand in hands:
        hand.tell(*words)
    return [hand.ready() for hand in hands]
