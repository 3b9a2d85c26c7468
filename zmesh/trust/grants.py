"""What other devices may do here, and how much of it: grants and limits, kept by the device they protect.

They are rows of the device's own file, which all its peers share; nobody else is told of them or can change them.
Without a rule, members may do what `DEFAULTS` says. This module must never let a rule about one device, one agent or
one capability count for another, nor one that has ended count at all.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from zmesh.errors import TrustError
from zmesh.protocol.bounds import MAX_BODY, RATE_BYTES, RATE_MESSAGES
from zmesh.protocol.directory import near_names
from zmesh.trust.trust_file import TrustFile

CAPABILITIES: Final = ("chat", "task", "inject", "exec", "file.write")
"""What can be granted: to write messages, to give work, to push into a running session, to run, to write files."""

DEFAULTS: Final = frozenset({"chat", "task", "inject"})
"""What members may do unless a rule says otherwise: pairing gives it, and shows it."""

EVERYBODY: Final = "*"
"""Stands for a device: all members."""

MAX_RULES: Final = 4096  # four for each device of a full mesh, and each is read at every change of the file
_NEEDS: Final = {"exec": "exec", "file.write": "file.write", "command": "task", "task": "task"}


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule: somebody may do something, or may not.

    Attributes:
        capability: One of `CAPABILITIES`.
        device: A device id, or `EVERYBODY`.
        agent: The name of one agent of that device; empty for all of them.
        allow: False when it denies.
        until: When it ends, seconds since 1970 by this machine's clock; None for never.
        at: When it was made, likewise.
    """

    capability: str
    device: str
    agent: str = ""
    allow: bool = True
    until: float | None = None
    at: float = 0.0

    def covers(self, capability: str, device: str, agent: str, now: float) -> bool:
        """Say whether it is about that, and has not ended."""
        return (
            self.capability == capability
            and self.device in (device, EVERYBODY)
            and self.agent in ("", agent)
            and (self.until is None or now < self.until)
        )

    @property
    def weight(self) -> tuple[bool, bool, bool]:
        """What decides between rules: one agent before its device, that before everybody; then deny before allow."""
        return bool(self.agent), self.device != EVERYBODY, not self.allow


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken from a device; 0 leaves it to what is set for everybody, or to the default.

    Attributes:
        messages: A second.
        octets: Of bodies, a second.
        size: Of one body, bytes.
    """

    messages: float = 0.0
    octets: float = 0.0
    size: int = 0

    def over(self, other: "Limits") -> "Limits":
        """Return these, and those of another one where these say nothing."""
        return Limits(self.messages or other.messages, self.octets or other.octets, self.size or other.size)


UNLIMITED: Final = Limits(RATE_MESSAGES, RATE_BYTES, MAX_BODY)
"""What holds where nothing was set: more than anybody needs who means no harm."""


def capability_for(kind: str) -> str:
    """Return the capability that a message of this type needs.

    However it is written, and whatever it adds behind a dot: a program that is careless about that is not tricked.
    """
    word = kind.strip().casefold()
    while word:
        if word in _NEEDS:
            return _NEEDS[word]
        word = word.rpartition(".")[0].rstrip()
    return "chat"


def ruling(rules: Iterable[Grant], capability: str, device: str, agent: str, now: float) -> Grant | None:
    """Return the rule that decides: the most specific one, and of two alike the one that denies; None for no rule.

    Args:
        rules: In any order.
        capability: One of `CAPABILITIES`.
        device: Device id of who asks.
        agent: Name of the agent that asks.
        now: Seconds since 1970.
    """
    found = (rule for rule in rules if rule.covers(capability, device, agent, now))
    return max(found, key=lambda rule: rule.weight, default=None)


def allows(rules: Iterable[Grant], capability: str, device: str, agent: str, now: float) -> bool:
    """Say whether a member may do something; arguments as in `ruling`."""
    rule = ruling(rules, capability, device, agent, now)
    return capability in DEFAULTS if rule is None else rule.allow


def limits_of(limits: Mapping[str, Limits], device: str, usual: Limits = UNLIMITED) -> Limits:
    """Return what is taken from a device: what was set for it, else for everybody, else what is usual, one by one."""
    nothing = Limits()
    return limits.get(device, nothing).over(limits.get(EVERYBODY, nothing)).over(usual)


class Grants:
    """The grants and limits of this device.

    Attributes:
        rules: As last read; those that have ended may be among them.
        limits: By device id or `EVERYBODY`, as last read.
        serial: Another number whenever they were read again.
    """

    def __init__(self, file: TrustFile) -> None:
        """Take the file that they are in; `load` reads them."""
        self._file = file
        self.rules: tuple[Grant, ...] = ()
        self.limits: dict[str, Limits] = {}
        self.serial = 0

    def load(self) -> None:
        """Read them, as the file has them now.

        Raises:
            TrustError: The file cannot be read.
        """
        rows = self._file.rows('SELECT capability, device, agent, allow, until, at FROM "grant" ORDER BY 2, 3, 1')
        limits = self._file.rows("SELECT device, messages, octets, size FROM peer_limit ORDER BY 1")
        self.rules = tuple(Grant(row[0], row[1], row[2], bool(row[3]), row[4], row[5]) for row in rows)
        self.limits = {device: Limits(*values) for device, *values in limits}
        self.serial += 1

    def next_end(self, now: float) -> float:
        """Return when the next rule ends that has not ended yet, seconds since 1970; infinity for never."""
        return min((rule.until for rule in self.rules if rule.until is not None and rule.until > now), default=inf)

    # --- changing ---

    def put(self, grant: Grant) -> None:
        """Make a rule, in place of the one about the same capability and the same one; what has ended goes.

        Raises:
            TrustError: There is no such capability, an agent is named without its device, or there are too many rules.
        """
        check_capability(grant.capability)
        if grant.agent and grant.device == EVERYBODY:
            raise TrustError(f"an agent belongs to a device: write {grant.agent}@MEMBER")
        with self._file.write():
            self._file.change('DELETE FROM "grant" WHERE until <= ?', (time.time(),))
            row = (grant.capability, grant.device, grant.agent, grant.allow, grant.until, grant.at)
            self._file.change('REPLACE INTO "grant" VALUES (?, ?, ?, ?, ?, ?)', row)
            self._check_room('SELECT count(*) FROM "grant"')
        self.load()

    def remove(self, capability: str, device: str, agent: str = "") -> bool:
        """Remove a rule; returns False when there was none."""
        with self._file.write():
            sql = 'DELETE FROM "grant" WHERE capability = ? AND device = ? AND agent = ?'
            removed = self._file.change(sql, (capability, device, agent))
        self.load()
        return removed > 0

    def limit(self, device: str, limits: Limits) -> None:
        """Set limits for a device or `EVERYBODY`; those that are 0 stay as they were.

        Raises:
            TrustError: There are too many.
        """
        with self._file.write():
            self.load()
            limits = limits.over(self.limits.get(device, Limits()))
            row = (device, limits.messages, limits.octets, limits.size)
            self._file.change("REPLACE INTO peer_limit VALUES (?, ?, ?, ?)", row)
            self._check_room("SELECT count(*) FROM peer_limit")
        self.load()

    def unlimit(self, device: str) -> bool:
        """Remove the limits of a device or `EVERYBODY`; returns False when there were none."""
        with self._file.write():
            removed = self._file.change("DELETE FROM peer_limit WHERE device = ?", (device,))
        self.load()
        return removed > 0

    def forget(self) -> None:
        """Forget all of them: they were about members of a mesh that this device is leaving."""
        with self._file.write():
            self._file.change('DELETE FROM "grant"')
            self._file.change("DELETE FROM peer_limit")
        self.load()

    def _check_room(self, sql: str) -> None:
        if self._file.rows(sql)[0][0] > MAX_RULES:
            raise TrustError(f"there are {MAX_RULES} of them already: remove some (zmesh grant remove)")


def check_capability(capability: str) -> str:
    """Return a capability.

    Raises:
        TrustError: It is none; the text names near ones.
    """
    if capability not in CAPABILITIES:
        near = near_names(capability, CAPABILITIES)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose among {', '.join(CAPABILITIES)}"
        raise TrustError(f"there is no capability {capability!r}: {hint}")
    return capability
