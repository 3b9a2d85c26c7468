"""The decorator of the core's records: frozen for the type checker, plain at run time.

A dataclass that is frozen at run time sets each field through `object.__setattr__`, which costs four to five times a
plain assignment; some ten records are made per message, a sixth of a peer's processor time. mypy refuses to assign to a
field either way. A record must never be changed once made: `hash` and equality go by its fields.
"""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

C = TypeVar("C")


@dataclass_transform(frozen_default=True)
def record(cls: type[C]) -> type[C]:
    """Make a class a record: slots, equality and hash by its fields, and no assignment that mypy would let pass."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
