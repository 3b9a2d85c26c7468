"""ZAP, the question ZeroMQ asks at each CURVE handshake: whose key is this, and may it come in?

The answer's User-Id is what every frame of the connection carries from then on, so it is the only identity in zmesh
that a remote cannot choose. This module must never answer 200 for a key that the `admit` callable did not admit, and
400 only for a revoked key: it ends the asking socket for good, whereas 300 lets it try again.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import zmq

from zmesh.peer.zmq_reader import Reader

ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"  # RFC 27; libzmq looks for exactly this
_KEY_BYTES: Final = 32  # a Curve25519 public key
_FRAMES: Final = 7  # version, request id, domain, address, routing id, mechanism, key
_VERSION: Final = b"1.0"
_log = logging.getLogger("zmesh.link")


class Status(Enum):
    """What becomes of a key, with ZAP's own codes."""

    ADMITTED = b"200"
    STRANGER = b"300"
    REVOKED = b"400"


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision about one key.

    Attributes:
        status: What becomes of it.
        device: The device id it belongs to; not empty when it is admitted.
    """

    status: Status
    device: str = ""

    @classmethod
    def member(cls, device: str) -> "Admission":
        """Admit the key as that of `device`.

        Raises:
            ValueError: The device id is empty, so its frames could not be told from nobody's.
        """
        if not device:
            raise ValueError("an admitted key needs a device id")
        return cls(Status.ADMITTED, device)


STRANGER: Final = Admission(Status.STRANGER)
REVOKED: Final = Admission(Status.REVOKED)

Admit = Callable[[bytes], Admission]  # from a Curve25519 public key of 32 bytes


class ZapHandler:
    """Answers the ZAP requests of one ZeroMQ context in the running loop."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", admit: Admit, domain: bytes) -> None:
        """Bind the handler; from then on no CURVE server of the context lets anybody in unasked.

        Args:
            context: The context of the servers.
            admit: Decides; called in the loop. One that raises counts as a stranger's key.
            domain: The ZAP domain of the servers; requests for another one are refused.
        """
        self._admit = admit
        self._domain = domain
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        try:
            self._socket.bind(ZAP_ENDPOINT)
            self._reader = Reader(asyncio.get_running_loop(), self._socket, self._answer_one)
            self._reader.start()
        except BaseException:
            self._socket.close(0)  # an open socket would hold up the end of the context
            raise

    def close(self) -> None:
        """Stop answering. Close the servers first: libzmq treats a missing handler as consent."""
        self._reader.stop()
        self._socket.close(0)

    def _answer_one(self) -> None:
        request = self._socket.recv_multipart(zmq.DONTWAIT)
        admission = self._decide(request)
        request_id = request[1] if len(request) > 1 else b""
        user = admission.device.encode() if admission.status is Status.ADMITTED else b""
        reply = [_VERSION, request_id, admission.status.value, admission.status.name.encode(), user, b""]
        self._socket.send_multipart(reply, zmq.DONTWAIT)

    def _decide(self, request: list[bytes]) -> Admission:
        if len(request) != _FRAMES or request[0] != _VERSION or request[5] != b"CURVE" or len(request[6]) != _KEY_BYTES:
            return STRANGER
        if request[2] != self._domain:
            return STRANGER
        try:
            return self._admit(request[6])
        except Exception:  # noqa: BLE001 - whatever it is, nobody gets in by it
            _log.exception("a key could not be checked; its owner is not let in")
            return STRANGER
