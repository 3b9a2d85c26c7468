"""Two hosts on one wire, made of network namespaces: what is unplugged in the middle is lost in silence.

The ends keep their carrier, their addresses and their routes; only the bridge between them no longer forwards. That is
what a dead switch port or a flight of stairs does to a laptop, and no RST or ICMP tells anybody.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.support import command, needs_root

_LEFT, _RIGHT = "10.77.0.1", "10.77.0.2"


@dataclass(frozen=True, slots=True)
class Wire:
    """The wire.

    Attributes:
        left: Name of the one host's namespace, `right` of the other's.
        middle: Name of the bridge's.
    """

    left: str
    right: str
    middle: str

    @property
    def addresses(self) -> tuple[str, str]:
        """The hosts' addresses."""
        return _LEFT, _RIGHT

    def inside(self, host: str) -> tuple[str, ...]:
        """Return what runs a program on a host."""
        return ("ip", "netns", "exec", host)

    def unplug(self) -> None:
        """From now on every packet is lost."""
        command("ip", "-n", self.middle, "link", "set", "right", "nomaster")

    def plug(self) -> None:
        """Packets go through again."""
        command("ip", "-n", self.middle, "link", "set", "right", "master", "bridge")


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    """Make the hosts and the wire; remove them in the end."""
    needs_root("network namespaces have to be made")
    made = Wire(*[f"zmesh-{os.getpid()}-{name}" for name in ("left", "right", "middle")])
    try:
        for name in (made.left, made.right, made.middle):
            command("ip", "netns", "add", name)
            command("ip", "-n", name, "link", "set", "lo", "up")
        command("ip", "-n", made.middle, "link", "add", "bridge", "type", "bridge", "stp_state", "0")
        command("ip", "-n", made.middle, "link", "set", "bridge", "up")
        for side, host, address in (("left", made.left, _LEFT), ("right", made.right, _RIGHT)):
            command("ip", "-n", made.middle, "link", "add", side, "type", "veth", "peer", "name", "wire", "netns", host)
            command("ip", "-n", made.middle, "link", "set", side, "master", "bridge", "up")
            command("ip", "-n", host, "address", "add", f"{address}/24", "dev", "wire")
            command("ip", "-n", host, "link", "set", "wire", "up")
        yield made
    finally:
        for name in (made.left, made.right, made.middle):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=20)
