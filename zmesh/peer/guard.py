"""What other devices may send here: the core's guard, as grants and limits have it.

Asked once for each message of another device: what was decided about a sender and a type is remembered until the rules
change or one of them ends. Rates are counted per device, not per store: a device can run as many peers as it likes. A
refusal's text must hold nothing of what a peer says but its names, which were checked.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from zmesh.peer.gate import Gate
from zmesh.protocol.bounds import KIB, MAX_TEXT, MIB, RATE_BURST
from zmesh.protocol.bucket import Bucket
from zmesh.protocol.envelope import Envelope
from zmesh.protocol.guard import Refusal
from zmesh.trust.grants import DEFAULTS, UNLIMITED, Limits, allows, capability_for, check_capability, limits_of, ruling

_REMEMBERED: Final = 4096  # verdicts of one device: it chooses the names and the types
_SHOWN: Final = 24  # characters of a name in a refusal, so that the sentence has an end
_UNDECIDED: Final = ("", "")


class MemberGuard:
    """Answers for the members of the mesh."""

    def __init__(self, gate: Gate, wall: Callable[[], float] = time.time) -> None:
        """Take the gate, which knows the members and their grants.

        Args:
            gate: Of this device.
            wall: Seconds since 1970: people say until when a grant holds.
        """
        self._gate, self._wall = gate, wall
        self._grants = gate.store.grants
        self._usual = UNLIMITED
        self._serial = -1
        self._end = 0.0  # when the first rule ends that counts now
        self._accounts: dict[str, _Account] = {}  # of members that have sent something: no more than there can be

    def limit(self, messages: float, octets: float) -> None:
        """Take so much a second, of bodies so many bytes, from each device for which no limit was set."""
        self._usual = replace(UNLIMITED, messages=messages, octets=octets)
        self._serial = -1  # whoever is known is told with the next message

    def standing(self, device: str, now: float) -> tuple[Limits, float, float]:
        """Return what holds for a device, and how many messages and bytes of what may come at once are used up."""
        account = self._account(device)
        return account.limits, *account.used(now)

    def refusal(self, device: str, envelope: Envelope, size: int) -> Refusal | None:
        """Say why a message is not taken from a device at all, or None; as `zmesh.protocol.guard.Guard`."""
        account = self._account(device)
        key = (envelope.sender, envelope.type)
        verdict = account.verdicts.get(key, _UNDECIDED)
        if verdict is _UNDECIDED:
            if len(account.verdicts) >= _REMEMBERED:
                account.verdicts = {}
            verdict = account.verdicts[key] = self._judge(device, envelope)
        if verdict is None and size > account.size:
            return "too-large", f"{account.most}, and this one has {size}: send it in pieces, or a reference to it"
        return verdict

    def charge(self, device: str, size: int, now: float) -> Refusal | None:
        """Count a message against the rates of a device, or refuse it; as `zmesh.protocol.guard.Guard`."""
        return self._account(device).charge(size, now)

    def allows(self, capability: str, device: str, agent: str) -> bool:
        """Say whether an agent of a device may do something here.

        Raises:
            TrustError: There is no such capability.
        """
        check_capability(capability)
        if device == self._gate.own:
            return True
        return self._gate.knows(device) and allows(self._grants.rules, capability, device, agent, self._wall())

    def _account(self, device: str) -> "_Account":
        if self._serial != self._grants.serial or self._wall() >= self._end:
            self._renew()
        account = self._accounts.get(device)
        if account is None:
            account = self._accounts[device] = _Account()
            self._tell(device, account)
        return account

    def _renew(self) -> None:
        """The rules are others than they were: decide everything afresh."""
        self._serial, self._end = self._grants.serial, self._grants.next_end(self._wall())
        for device, account in self._accounts.items():
            account.verdicts = {}
            self._tell(device, account)

    def _tell(self, device: str, account: "_Account") -> None:
        limits = limits_of(self._grants.limits, device, self._usual)
        account.follow(limits, self._here, _brief(self._gate.name_of(device)))

    def _judge(self, device: str, envelope: Envelope) -> Refusal | None:
        capability = capability_for(envelope.type)
        agent = envelope.sender.partition("@")[0]
        rule = ruling(self._grants.rules, capability, device, agent, self._wall())
        if capability in DEFAULTS if rule is None else rule.allow:
            return None
        text = f"{self._here} does not take {capability} from {_brief(envelope.sender)}"
        if rule is None:
            text += f": `zmesh grant {capability} {self._typed(device)} --for 1h` on {self._here} allows it"
        return "denied", text[:MAX_TEXT]

    @property
    def _here(self) -> str:
        return _brief(self._gate.name_of(self._gate.own))

    def _typed(self, device: str) -> str:
        """Return what names a device in a command: its name, or the beginning of its id."""
        name = self._gate.name_of(device)
        alone = len(self._gate.store.membership.by_name(name)) == 1
        return name if alone and len(name) <= _SHOWN else device[:8]


class _Account:
    """What one device has left.

    Attributes:
        verdicts: By sender and type: why such messages are refused, or None.
        size: Largest body that is taken; `most` says so.
        limits: What holds for it.
    """

    __slots__ = ("_messages", "_much", "_octets", "_often", "limits", "most", "size", "verdicts")

    def __init__(self) -> None:
        self.verdicts: dict[tuple[str, str], Refusal | None] = {}
        self.size, self.most = 0, ""
        self.limits = UNLIMITED
        self._messages: Bucket | None = None  # made when the store's time is known
        self._octets: Bucket | None = None
        self._often = self._much = _UNDECIDED

    def follow(self, limits: Limits, here: str, name: str) -> None:
        """Take limits, and the names of this device and that one; the buckets are new only if the limits are."""
        if limits != self.limits:
            self._messages = self._octets = None
        self.limits, self.size = limits, limits.size
        self.most = f"{here} takes bodies of at most {limits.size} bytes from {name}"
        self._often = "rate-limited", f"{here} takes at most {limits.messages:g} messages a second from {name}"
        self._much = "rate-limited", f"{here} takes at most {_size(limits.octets)} a second from {name}"

    def used(self, now: float) -> tuple[float, float]:
        """Return how many messages and bytes are used up of what may come at once."""
        found = (bucket.used(now) if bucket is not None else 0.0 for bucket in (self._messages, self._octets))
        return next(found), next(found)

    def charge(self, size: int, now: float) -> Refusal | None:
        """Count a message, or say which rate it exceeds."""
        messages, octets = self._messages, self._octets
        if messages is None or octets is None:
            rate, flow = self.limits.messages, self.limits.octets
            messages = self._messages = Bucket(rate, rate * RATE_BURST, now)
            octets = self._octets = Bucket(flow, flow * RATE_BURST, now)
        if not messages.holds(1, now):
            return self._often
        if not octets.holds(size, now):
            return self._much
        messages.take(1)
        octets.take(size)
        return None


def _brief(name: str) -> str:
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN - 1]}~"


def _size(octets: float) -> str:
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if octets >= unit:
            return f"{octets / unit:.4g} {name}"
    return f"{octets:g} bytes"
