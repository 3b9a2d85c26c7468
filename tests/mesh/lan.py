"""Machines on one switch: each a network namespace with an address and a home of its own. Only packets join them.

The switch is a bridge in a namespace of its own, with snooping off: multicast goes everywhere, as it does at home; or,
where packets are to be lost, one made of TAP devices. All of it is removed in the end, with whatever still runs inside.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.faults.support import command, needs_root
from tests.mesh.tap import TapSwitch

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

    def start(self, *arguments: str | Path, log: Path | None = None, **variables: str) -> subprocess.Popen[str]:
        """Start a Python program on this machine, its streams as pipes; its errors go behind those in `log`, if any."""
        inside = ["ip", "netns", "exec", self.namespace, sys.executable, *map(str, arguments)]
        with contextlib.ExitStack() as stack:
            errors = subprocess.PIPE if log is None else stack.enter_context(log.open("ab"))
            return subprocess.Popen(
                inside, env=self.environment | variables, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
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


class Switch(Protocol):
    """What machines are attached to, each at a port: the first one at 0."""

    def attach(self, namespace: str, device: str) -> None:
        """Give a namespace a device that leads here."""

    def unplug(self, number: int) -> None:
        """Lose whatever goes to and comes from a port, in silence."""

    def plug(self, number: int) -> None:
        """Forward it again."""

    def carrier(self, number: int, *, up: bool) -> None:
        """Pull the cable of a port, or put it in: the machine notices."""

    def close(self) -> None:
        """Remove it."""


class Bridge:
    """The kernel's own switch."""

    def __init__(self, namespace: str) -> None:
        """Make it in a namespace of its own."""
        self._namespace, self._count = namespace, 0
        command("ip", "netns", "add", namespace)
        self._link("add", "bridge", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        self._link("set", "bridge", "up")

    def attach(self, namespace: str, device: str) -> None:
        """Give a namespace a device that leads here."""
        port = f"port{self._count}"
        self._count += 1
        self._link("add", port, "type", "veth", "peer", "name", device, "netns", namespace)
        self._link("set", port, "master", "bridge", "up")

    def unplug(self, number: int) -> None:
        """Lose whatever goes to and comes from a port, in silence."""
        self._link("set", f"port{number}", "nomaster")

    def plug(self, number: int) -> None:
        """Forward it again."""
        self._link("set", f"port{number}", "master", "bridge")

    def carrier(self, number: int, *, up: bool) -> None:
        """Pull the cable of a port, or put it in: the machine notices."""
        self._link("set", f"port{number}", "up" if up else "down")

    def isolate(self) -> None:
        """Forward nothing from port to port, as an access point that keeps its clients apart."""
        for number in range(self._count):
            self._link("set", f"port{number}", "type", "bridge_slave", "isolated", "on")

    def close(self) -> None:
        """Remove it."""
        _end(self._namespace)

    def _link(self, *words: str) -> None:
        command("ip", "-n", self._namespace, "link", *words)


class Lan:
    """The switch and its machines.

    Attributes:
        machines: In the order they were named.
    """

    def __init__(self, machines: list[Machine], switch: Switch) -> None:
        self.machines = machines
        self._switch = switch

    def unplug(self, machine: Machine) -> None:
        """From now on every packet to and from it is lost, in silence."""
        self._switch.unplug(self.machines.index(machine))

    def plug(self, machine: Machine) -> None:
        """Its packets go through again."""
        self._switch.plug(self.machines.index(machine))

    def carrier(self, machine: Machine, *, up: bool) -> None:
        """Pull its cable, or put it in: it notices, as it does not notice `unplug`."""
        self._switch.carrier(self.machines.index(machine), up=up)

    def isolate(self) -> None:
        """Keep the machines apart from each other; only on the kernel's switch."""
        assert isinstance(self._switch, Bridge)
        self._switch.isolate()

    def lose(self, loss: float) -> None:
        """From now on lose packets with this probability; only where `lan` was given one."""
        assert isinstance(self._switch, TapSwitch)
        self._switch.loss = loss

    @property
    def lost(self) -> int:
        """How many packets were lost by chance; only where `lan` was given a probability."""
        assert isinstance(self._switch, TapSwitch)
        return self._switch.lost

    def shut(self, machine: Machine) -> None:
        """From now on nobody gets through to its ports, as behind NAT or a firewall; what it dials goes through."""
        command("ip", "-n", machine.namespace, "rule", "add", "ipproto", "tcp", "sport", PORTS, "blackhole")

    def open(self, machine: Machine) -> None:
        """Everybody gets through to it again."""
        command("ip", "-n", machine.namespace, "rule", "delete", "ipproto", "tcp", "sport", PORTS, "blackhole")

    def readdress(self, machine: Machine, address: str) -> None:
        """Give it another address, as a new lease does."""
        inside = ("ip", "-n", machine.namespace)
        command(*inside, "address", "flush", "dev", DEVICE, "scope", "global")
        command(*inside, "address", "add", f"{address}/24", "dev", DEVICE)
        # The kernel drops a route whose preferred source has gone.
        command(*inside, "route", "replace", "default", "dev", DEVICE)


@contextlib.contextmanager
def lan(root: Path, *names: str, loss: float | None = None, seed: int = 1) -> Iterator[Lan]:
    """Make machines of these names on one switch; remove them in the end.

    Args:
        root: Their homes are made in it.
        names: What the machines are called.
        loss: Probability that a packet is lost on its way to one machine; None for the kernel's switch.
        seed: Of the losses.
    """
    needs_root("network namespaces have to be made")
    mark = f"zmesh-{os.getpid()}"
    machines = [
        Machine(name, f"{mark}-{name}", f"{PREFIX}{number}", root / name) for number, name in enumerate(names, start=1)
    ]
    with contextlib.ExitStack() as stack:
        for machine in machines:
            stack.callback(_end, machine.namespace)
        switch: Switch = Bridge(f"{mark}-switch") if loss is None else TapSwitch(f"zt{os.getpid()}x", loss, seed)
        stack.callback(switch.close)
        for machine in machines:
            _attach(switch, machine)
        yield Lan(machines, switch)


def _attach(switch: Switch, machine: Machine) -> None:
    machine.home.mkdir(parents=True)
    command("ip", "netns", "add", machine.namespace)
    command("ip", "-n", machine.namespace, "link", "set", "lo", "up")
    switch.attach(machine.namespace, DEVICE)
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
