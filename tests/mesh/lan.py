"""Machines on one switch: each a network namespace with an address and a home of its own. Only packets join them.

The switch is a bridge in a namespace of its own, with snooping off: multicast goes everywhere, as it does at home. All
of it is removed in the end, with whatever still runs inside.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.support import command, needs_root

PREFIX = "10.78.0."
DEVICE = "wire"
PORTS = "7420-7421"  # at which a program listens, and its door


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine.

    Attributes:
        name: What it is called.
        namespace: Its network namespace.
        address: Its IPv4 address.
        home: Its ZMESH_HOME.
    """

    name: str
    namespace: str
    address: str
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What its programs find in their environment."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "PYTHONPATH")}
        return kept | {"ZMESH_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}

    def start(self, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Start a Python program on this machine, its streams as pipes."""
        inside = ["ip", "netns", "exec", self.namespace, sys.executable, *map(str, arguments)]
        return subprocess.Popen(
            inside, env=self.environment | variables, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def zmesh(self, *arguments: str, status: int = 0, timeout: float = 60.0) -> str:
        """Run a zmesh command on this machine to its end; return what it printed."""
        process = self.start("-m", "zmesh", *arguments)
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == status, f"zmesh {' '.join(arguments)}: {process.returncode}\n{output}{errors}"
        return output + errors


class Lan:
    """The switch and its machines.

    Attributes:
        machines: In the order they were named.
    """

    def __init__(self, machines: list[Machine], switch: str) -> None:
        self.machines = machines
        self._switch = switch

    def unplug(self, machine: Machine) -> None:
        """From now on every packet to and from it is lost, in silence."""
        command("ip", "-n", self._switch, "link", "set", self._port(machine), "nomaster")

    def plug(self, machine: Machine) -> None:
        """Its packets go through again."""
        command("ip", "-n", self._switch, "link", "set", self._port(machine), "master", "bridge")

    def shut(self, machine: Machine) -> None:
        """From now on nobody gets through to its ports, as behind NAT or a firewall; what it dials goes through."""
        command("ip", "-n", machine.namespace, "rule", "add", "ipproto", "tcp", "sport", PORTS, "blackhole")

    def open(self, machine: Machine) -> None:
        """Everybody gets through to it again."""
        command("ip", "-n", machine.namespace, "rule", "delete", "ipproto", "tcp", "sport", PORTS, "blackhole")

    def readdress(self, machine: Machine, address: str) -> None:
        """Give it another address, as a new lease does."""
        inside = ("ip", "-n", machine.namespace, "address")
        command(*inside, "flush", "dev", DEVICE, "scope", "global")
        command(*inside, "add", f"{address}/24", "dev", DEVICE)

    def _port(self, machine: Machine) -> str:
        return f"port{self.machines.index(machine)}"


@contextlib.contextmanager
def lan(root: Path, *names: str) -> Iterator[Lan]:
    """Make machines of these names on one switch; remove them in the end."""
    needs_root("network namespaces have to be made")
    mark = f"zmesh-{os.getpid()}"
    switch = f"{mark}-switch"
    machines = [
        Machine(name, f"{mark}-{name}", f"{PREFIX}{number}", root / name) for number, name in enumerate(names, start=1)
    ]
    try:
        command("ip", "netns", "add", switch)
        command("ip", "-n", switch, "link", "add", "bridge", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        command("ip", "-n", switch, "link", "set", "bridge", "up")
        for number, machine in enumerate(machines):
            _attach(switch, machine, f"port{number}")
        yield Lan(machines, switch)
    finally:
        for namespace in (*(machine.namespace for machine in machines), switch):
            _end(namespace)


def _attach(switch: str, machine: Machine, port: str) -> None:
    machine.home.mkdir(parents=True)
    command("ip", "netns", "add", machine.namespace)
    command("ip", "-n", machine.namespace, "link", "set", "lo", "up")
    command("ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name", DEVICE, "netns", machine.namespace)
    command("ip", "-n", switch, "link", "set", port, "master", "bridge", "up")
    command("ip", "-n", machine.namespace, "address", "add", f"{machine.address}/24", "dev", DEVICE)
    command("ip", "-n", machine.namespace, "link", "set", DEVICE, "up")
    # Without a default route the kernel has none for multicast either.
    command("ip", "-n", machine.namespace, "route", "add", "default", "dev", DEVICE)


def _end(namespace: str) -> None:
    found = subprocess.run(["ip", "netns", "pids", namespace], check=False, capture_output=True, text=True, timeout=20)
    for pid in found.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), 9)
    subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True, timeout=20)
