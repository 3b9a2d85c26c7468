"""The table `[quotas]` of the configuration: how much this machine's peers keep and take.

    [quotas]
    mailbox.messages = 50_000
    mailbox.bytes = 268_435_456

What is not said is as by default. This module must never take a quota that it does not know for another one.
"""

import difflib
from dataclasses import replace
from typing import Any, Final

from zmesh.protocol.quotas import RANGES, Quotas, check_quota, default_quotas

KEY: Final = "quotas"
NAMES: Final = {name.replace("_", "."): name for name in RANGES}
"""The quotas as people write them, and as the core has them."""


def check_quotas(key: str, value: object) -> None:
    """Check the table.

    Raises:
        ValueError: Something in it is wrong; the message names it.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{key} is a table, such as [quotas] with mailbox.messages = 50000")  # noqa: TRY004 - as others
    for name, number in _flat(value).items():
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
            raise ValueError(f"{key}: {name!r:.80} is no quota: {hint}")
        try:
            check_quota(NAMES[name], number)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None


def read_quotas(said: dict[str, Any]) -> Quotas:
    """Return the quotas of a table that was checked; what it does not say is as by default."""
    return replace(default_quotas(), **{NAMES[name]: number for name, number in _flat(said).items()})


def _flat(said: dict[str, Any]) -> dict[str, Any]:
    """Return a table with `mailbox.messages` where it has `messages` in `mailbox`."""
    found: dict[str, Any] = {}
    for what, value in said.items():
        if isinstance(value, dict):
            found |= {f"{what}.{unit}": number for unit, number in value.items()}
        else:
            found[what] = value
    return found
