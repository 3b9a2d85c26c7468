"""The grammar of names and addresses: `agent`, `agent@peer`, `agent@peer~STORE`.

Agent and peer names are 1 to 63 characters of `a-z 0-9 . _ -`, beginning with a letter or a digit; capitals are folded.
`~STORE`, the first characters of a store id in base32, tells two peers of one name apart. This module never guesses:
what breaks the grammar raises `AddressError` with the rule that was broken.
"""

import re
from base64 import b32encode
from functools import lru_cache

from zmesh.errors import AddressError
from zmesh.protocol.bounds import MAX_NAME, MAX_WORD
from zmesh.protocol.record import record

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")
_STORE = re.compile(r"[a-z2-7]{4,26}\Z")
_WORD = re.compile(r"[a-z][a-z-]*\Z")
_RULE = "1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or a digit"


def store_text(store: bytes) -> str:
    """Write a store id (16 bytes) as people see it: 26 characters of lower-case base32."""
    return b32encode(store).decode().rstrip("=").lower()


def is_name(text: object) -> bool:
    """Say whether `text` is a name in its canonical, lower-case form."""
    return isinstance(text, str) and len(text) <= MAX_NAME and _matches_name(text)


@lru_cache(4096)  # the same few names come with every message
def _matches_name(text: str) -> bool:
    return _NAME.match(text) is not None


def is_word(text: object) -> bool:
    """Say whether `text` is a short word such as a status: 1 to 16 of `a-z -`, beginning with a letter."""
    return isinstance(text, str) and len(text) <= MAX_WORD and _WORD.match(text) is not None


def check_name(text: object, what: str = "name") -> str:
    """Return the canonical form of a name.

    Args:
        text: What a person or program wrote.
        what: What to call it in the error.

    Raises:
        AddressError: The name breaks the grammar.
    """
    # Only ASCII is folded: lower() also turns a few foreign capitals, such as the Kelvin sign, into ASCII letters.
    folded = text.strip().lower() if isinstance(text, str) and text.isascii() else ""
    if not is_name(folded):
        message = f"{text!r} is not a valid {what}: use {_RULE}"
        raise AddressError(message)
    return folded


@record
class Address:
    """Where a message goes.

    Attributes:
        agent: The mailbox.
        peer: The peer's name; None when any peer may have the mailbox.
        store: First characters of the store id in base32, or None.
    """

    agent: str
    peer: str | None = None
    store: str | None = None

    @classmethod
    def parse(cls, text: object) -> "Address":
        """Read an address.

        Raises:
            AddressError: The text breaks the grammar.
        """
        if not isinstance(text, str):
            message = f"an address is a text such as 'browser@studio', not {text!r}"
            raise AddressError(message)
        agent, at, rest = text.partition("@")
        if not at:
            return cls(check_name(agent, "agent name"))
        peer, tilde, store = rest.partition("~")
        store = store.strip().lower()
        if tilde and not _STORE.match(store):
            message = f"{text!r}: after '~' come 4 to 26 characters of the store id"
            raise AddressError(message)
        return cls(check_name(agent, "agent name"), check_name(peer, "peer name"), store or None)

    def __str__(self) -> str:
        """Write the address in its canonical form."""
        peer = f"@{self.peer}" if self.peer else ""
        return f"{self.agent}{peer}~{self.store}" if self.store else f"{self.agent}{peer}"
