"""Every error zmesh raises on purpose, in one tree under `MeshError`.

Each message names the thing that went wrong and the way out of it. This module must never import anything of zmesh, so
that every layer can use it.
"""


class MeshError(Exception):
    """The base of all zmesh errors; catching it catches everything zmesh raises on purpose."""


class AddressError(MeshError):
    """An agent or peer name that breaks the grammar of `zmesh.protocol.address`."""


class UnknownAgent(MeshError):  # noqa: N818 - the public name in the design
    """Nobody of that name is known, and the caller asked not to wait for one (`strict`)."""


class AmbiguousAddress(MeshError):  # noqa: N818 - names the thing, as the address errors of other libraries do
    """More than one agent or peer answers to the name; the message lists the candidates."""


class MeshFull(MeshError):  # noqa: N818 - the public name in the design
    """A quota is used up; nothing was stored. Wait for the peer to drain, or raise the quota."""


class BodyTooLarge(MeshError):  # noqa: N818 - names the thing
    """A message body above the bound of one message."""


class BodyError(MeshError):
    """A message body that msgpack cannot carry."""


class PeerRunning(MeshError):  # noqa: N818 - the public name in the design
    """Another process owns this peer's store.

    Attributes:
        pid: The process id of the owner, or None when it could not be read.
    """

    def __init__(self, message: str, pid: int | None = None) -> None:
        """Keep the pid beside the message."""
        super().__init__(message)
        self.pid = pid


class ConfigurationError(MeshError):
    """Something in the configuration file is wrong; the message names the file and the key or line."""


class StoreError(MeshError):
    """The store could not be opened, read or written; the message names the file and the cause."""


class StoreFull(StoreError):  # noqa: N818 - names the thing
    """The disk is full; what was being stored was not stored, what was stored is safe."""


class DeviceKeyError(MeshError):
    """The device key file is missing, damaged or readable by others."""


class TransportError(MeshError):
    """A socket could not be bound or opened."""


class MessageRefused(MeshError):  # noqa: N818 - names the outcome
    """The recipient's peer refused the message, for the reason in the text; it was not stored there."""


class MessageExpired(MeshError):  # noqa: N818 - names the outcome
    """The message's ttl ended before anybody took it, or it was cancelled."""


class MessageDead(MeshError):  # noqa: N818 - names the outcome
    """The recipient gave up on the message after the limit of attempts; it is kept there."""


class NoAnswer(MeshError):  # noqa: N818 - names the outcome
    """The question was handled, and no answer came with that; one that comes later goes to the inbox."""


class UnknownMessage(MeshError, KeyError):  # noqa: N818 - also a KeyError: it was looked for by its id
    """No message of that id is remembered by this peer: it was never sent here, or has ended long ago."""

    __str__ = Exception.__str__  # a KeyError shows its text in quotes


class MessageLost(MeshError):  # noqa: N818 - names the outcome
    """The recipient's disk went back in time after it had acknowledged the message."""


class LeaseLost(MeshError):  # noqa: N818 - names the outcome
    """The message is no longer leased to this holder: it was finished already or redelivered to another one."""


class MailboxBusy(MeshError):  # noqa: N818 - names the state
    """Somebody is there to take a mailbox's messages, or some are just arriving: it cannot be merged now."""


class PeerHalted(MeshError):  # noqa: N818 - names the state
    """An administrator has paused the peer, or has it drained; the message says how that ends."""


class PeerClosed(MeshError):  # noqa: N818 - names the state
    """The peer was closed; open another one to go on."""


class PeerFailed(PeerClosed):
    """An error in zmesh itself has stopped the peer; what was acknowledged is safe, and opening it again helps."""


class DaemonError(MeshError):
    """The daemon of this machine and a program do not understand each other."""


class DaemonUnreachable(DaemonError):  # noqa: N818 - names the state
    """The daemon of this machine cannot be started, or does not answer; the message says where its log is."""


class ServiceError(MeshError):
    """The daemon cannot be made a service of this system, or not be taken out; the message says why."""


class WrongLoop(MeshError, RuntimeError):  # noqa: N818 - names the mistake; asyncio raises RuntimeError for it
    """A peer was used from outside the event loop it was started in: another loop, another thread, a forked process."""


class WaitTimeout(MeshError, TimeoutError):  # noqa: N818 - also a TimeoutError, so that both idioms catch it
    """What was awaited was not observed in time; the text says how the message got on."""


class TrustError(MeshError):
    """A membership entry, certificate or invitation that cannot be believed or carried out; the message says why."""


class PairingError(TrustError):
    """Two machines could not be paired; the message says what to do on which of them."""
