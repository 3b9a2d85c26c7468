"""What the core asks about a message of another device before it takes it: is it allowed, and is it not too much.

The answers are the shell's: the core knows neither grants nor members, and must never ask about messages of its own
device, between whose programs there is no boundary.
"""

from typing import Final, Protocol

from zmesh.protocol.envelope import Envelope

Refusal = tuple[str, str]
"""A code (docs/PROTOCOL.md, section 9) and a sentence for the sender."""


class Guard(Protocol):
    """Answers for the devices of the mesh; asked once for each message, so it must be quick."""

    def refusal(self, device: str, envelope: Envelope, size: int) -> Refusal | None:
        """Say why a message is not taken from a device at all, or None.

        Args:
            device: As CURVE established it.
            envelope: What the message says about itself; its sender was checked.
            size: Bytes of its body.
        """

    def charge(self, device: str, size: int, now: float) -> Refusal | None:
        """Count a message against the rates of a device, or say which of them it exceeds: then nothing is counted.

        Args:
            device: As in `refusal`, which had nothing against the message; nor has its mailbox.
            size: Bytes of its body.
            now: Seconds on the store's clock.
        """


class Unguarded:
    """Allows everything."""

    def refusal(self, device: str, envelope: Envelope, size: int) -> Refusal | None:  # noqa: ARG002 - as `Guard` has it
        """Allow it."""
        return None

    def charge(self, device: str, size: int, now: float) -> Refusal | None:  # noqa: ARG002 - as `Guard` has it
        """Count nothing."""
        return None


UNGUARDED: Final = Unguarded()
