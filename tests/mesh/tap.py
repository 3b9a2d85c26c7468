"""A switch made of TAP devices, for what this kernel's own cannot do: lose packets, each with a given probability.

One thread forwards Ethernet frames between the devices, which machines have as their interface. What is lost follows
from a seed and the order of the frames. It must never wait for a machine: a queue that is full loses the frame.
"""

import contextlib
import fcntl
import os
import random
import selectors
import struct
import threading

from tests.faults.support import command

_TUN = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_TUNSETCARRIER = 0x400454E2
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_FRAME = 65_536  # bytes, more than any frame has
_GROUP = 0x01  # of a destination's first octet: broadcast and multicast


class TapSwitch:
    """A learning switch that loses frames.

    Attributes:
        loss: Probability that a frame is lost on its way to one machine.
        forwarded: Frames that went through, counted once for each machine that they went to.
        lost: Frames that did not, by chance.
    """

    def __init__(self, mark: str, loss: float, seed: int) -> None:
        """Begin with no machine.

        Args:
            mark: Of the devices' names.
            loss: Probability that a frame is lost on its way to one machine.
            seed: Of the losses.
        """
        self.forwarded = self.lost = 0
        self._mark, self.loss, self._chance = mark, loss, random.Random(seed)
        self._ports: list[int] = []
        self._unplugged: set[int] = set()
        self._where: dict[bytes, int] = {}  # the port of an Ethernet address
        self._selector = selectors.DefaultSelector()
        self._ended, self._end = os.pipe()
        self._selector.register(self._ended, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="switch", daemon=True)
        self._thread.start()

    def attach(self, namespace: str, device: str) -> None:
        """Give a namespace a device that leads here."""
        port = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        name = f"{self._mark}{len(self._ports)}"
        fcntl.ioctl(port, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        command("ip", "link", "set", name, "netns", namespace, "name", device)
        self._ports.append(port)
        self._selector.register(port, selectors.EVENT_READ, len(self._ports) - 1)

    def unplug(self, number: int) -> None:
        """Lose whatever goes to and comes from a machine, in silence."""
        self._unplugged.add(number)

    def plug(self, number: int) -> None:
        """Forward it again."""
        self._unplugged.discard(number)

    def carrier(self, number: int, *, up: bool) -> None:
        """Pull the cable, or put it in: the machine notices."""
        fcntl.ioctl(self._ports[number], _TUNSETCARRIER, struct.pack("i", up))

    def close(self) -> None:
        """End the thread and the devices."""
        os.close(self._end)
        self._thread.join(10)
        self._selector.close()
        for descriptor in (*self._ports, self._ended):
            os.close(descriptor)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._ended:
                    return
                self._drain(key.fd, key.data)

    def _drain(self, port: int, number: int) -> None:
        for _ in range(64):  # then the others have a turn
            try:
                frame = os.read(port, _FRAME)
            except OSError:  # there is no more, or the device is down
                return
            if number not in self._unplugged:
                self._forward(frame, number)

    def _forward(self, frame: bytes, source: int) -> None:
        self._where[frame[6:12]] = source
        known = None if frame[0] & _GROUP else self._where.get(frame[:6])
        for number in range(len(self._ports)) if known is None else (known,):
            if number == source or number in self._unplugged:
                continue
            if self._chance.random() < self.loss:
                self.lost += 1
                continue
            with contextlib.suppress(OSError):  # its queue is full, or it is down
                os.write(self._ports[number], frame)
                self.forwarded += 1
