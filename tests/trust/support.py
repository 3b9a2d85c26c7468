"""Devices and stores for the tests of trust: small, quick, and each in a directory of its own."""

from collections.abc import Iterable
from pathlib import Path

from zmesh.trust.device import Device, fingerprint
from zmesh.trust.entry import Body, Certificate, Entry, Joining, sign, sign_genesis
from zmesh.trust.pairing import Candidate
from zmesh.trust.trust_store import TrustStore, recovery_key

AT = 1_700_000_000
NAMES = ("ada", "bob", "cid", "dot", "eve", "fay", "gil", "hal")
DEVICES = tuple(Device.from_seed(bytes([number + 1]) * 32) for number in range(len(NAMES)))
WORDS = bytes(range(16))
"""What the words of the recovery phrase stand for."""


def founding(device: Device = DEVICES[0], name: str = "ada", nonce: bytes = bytes(32)) -> Entry:
    """A genesis."""
    return sign_genesis(device, name, recovery_key(WORDS).public, nonce, AT)


class Scribe:
    """Signs whatever it is told to, for any device, as nobody honest would: the logs of a whole mesh."""

    def __init__(self) -> None:
        genesis = founding()
        self.mesh = genesis.mesh
        self.logs: dict[bytes, list[Entry]] = {DEVICES[0].public: [genesis]}

    def sign(self, device: Device, body: Body) -> Entry:
        """The next entry of a device."""
        log = self.logs.setdefault(device.public, [])
        log.append(sign(device, self.mesh, log[-1] if log else None, body, AT))
        return log[-1]

    def invite(self, inviter: int, guest: int) -> None:
        """Certify; the guest joins by that if it has not joined yet."""
        device = DEVICES[guest]
        self.sign(DEVICES[inviter], Certificate(device.public, NAMES[guest]))
        if device.public not in self.logs:
            self.sign(device, Joining(DEVICES[inviter].public))

    @property
    def entries(self) -> list[Entry]:
        """All of them."""
        return [entry for log in self.logs.values() for entry in log]


def open_store(directory: Path, number: int) -> TrustStore:
    """The store of one of the devices."""
    return TrustStore(directory / f"{NAMES[number]}.db", DEVICES[number])


def candidate(inviter: TrustStore, number: int, name: str | None = None) -> Candidate:
    """One of the devices, which has proved to know the code."""
    device = DEVICES[number]
    joining = sign(device, inviter.mesh, None, Joining(inviter.device.public), AT)
    return Candidate(device.public, name or NAMES[number], joining)


def bring_in(inviter: TrustStore, guest: TrustStore) -> None:
    """Let a device into the mesh as pairing does."""
    number = DEVICES.index(guest.device)
    secret = inviter.invite(60)
    guest.join(inviter.mesh, inviter.admit(secret, candidate(inviter, number)))


def rows(entries: Iterable[Entry]) -> list[tuple[bytes, bytes]]:
    """Entries as they travel."""
    return [(entry.payload, entry.signature) for entry in entries]


def exchange(*stores: TrustStore) -> None:
    """Let stores tell each other all they have, until none has news."""
    while any(
        [one.take(rows(other.beyond(one.heads()))) for one in stores for other in stores if other is not one]  # noqa: C419
    ):
        pass


def living(store: TrustStore) -> set[str]:
    """The names of those that are members."""
    return {member.name for member in store.membership.members.values() if not member.revoked}


def device_id(number: int) -> str:
    """The id of one of the devices."""
    return fingerprint(DEVICES[number].public)
