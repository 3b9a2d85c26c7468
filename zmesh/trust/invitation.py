"""Invitations: the codes and tokens by which a machine is let into a mesh, and how often they may be tried.

A code is for people: a number that finds the inviter and two words, 16 bits, so it lives for ten minutes and three
attempts. A token is for machines: 256 bits, which nobody guesses, with an expiry of its own. Both are used up by the
first machine that joins; `invitations` keeps count. This module must never put a secret, or a part of one, into an
error or a repr.
"""

import re
import secrets
from base64 import b32decode, b32encode
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from zmesh.errors import PairingError, TrustError
from zmesh.trust.words import read_words, spell

CODE_LIFE: Final = 600.0  # seconds a code lives: long enough to walk to the other machine
MAX_CODE_LIFE: Final = 3600.0  # seconds; the longer it lives, the more people have seen it
TOKEN_LIFE: Final = 86400.0  # seconds
MAX_TOKEN_LIFE: Final = 30 * 86400.0  # seconds; whatever holds it forgotten for longer is not to be let in
CODE_ATTEMPTS: Final = 3  # of 65,536 codes: a guesser succeeds once in 21,845 invitations
TOKEN_ATTEMPTS: Final = 1000  # a token is not guessed; this only ends a frenzy
TOKEN_BYTES: Final = 32
NAMEPLATES: Final = 99  # numbers that find an inviter; several machines may have one, and are tried in turn
CODE_WORDS: Final = 2
MAX_NAMEPLATE: Final = 16  # characters; a token's has 13
JOIN_VARIABLE: Final = "ZMESH_JOIN"
_MARK: Final = "zmesh-"
_CODE: Final = re.compile(r"\s*0?([1-9][0-9]?)[-\s]+([A-Za-z]{4,})[-\s]+([A-Za-z]{4,})\s*\Z")


@dataclass(frozen=True, slots=True)
class Secret:
    """A code or a token, as both sides know it.

    Attributes:
        text: In its canonical form, as people see it.
        nameplate: What the inviter announces, so that it is found; says nothing of the rest.
        password: What both sides prove to know.
    """

    text: str = field(repr=False)
    nameplate: str
    password: bytes = field(repr=False)

    @property
    def is_token(self) -> bool:
        """True for a token, which is not for people."""
        return self.text.startswith(_MARK)


def new_code() -> Secret:
    """Draw a code, such as `7-lantern-clover`."""
    number = secrets.randbelow(NAMEPLATES) + 1
    return read_secret("-".join([str(number), *spell(secrets.token_bytes(CODE_WORDS))]))


def new_token() -> Secret:
    """Draw a token of 256 bits."""
    return _token(secrets.token_bytes(TOKEN_BYTES))


def read_secret(text: str) -> Secret:
    """Read a code or token that somebody typed or passed on.

    Raises:
        PairingError: It is neither.
    """
    cleaned = text.strip()
    if cleaned.lower().startswith(_MARK):
        return _read_token(cleaned.lower())
    found = _CODE.match(cleaned)
    if found is None:
        raise PairingError(
            "this is not a pairing code; one looks like 7-lantern-clover, as `zmesh invite` shows it on the other side"
        )
    number = str(int(found[1]))
    try:
        octets = read_words([found[2], found[3]])
    except TrustError as error:
        raise PairingError(f"this is not a pairing code: {error}") from None
    canonical = "-".join([number, *spell(octets)])
    return Secret(canonical, number, canonical.encode())


def take_token(environ: MutableMapping[str, str]) -> Secret | None:
    """Return the join token of `ZMESH_JOIN`, and remove it there, so that no program started from here inherits it.

    The system may go on showing the environment that this process was started with to its own user.

    Raises:
        PairingError: It is no token.
    """
    text = environ.pop(JOIN_VARIABLE, "").strip()
    if not text:
        return None
    if not text.lower().startswith(_MARK):
        raise PairingError(f"{JOIN_VARIABLE} does not hold a token: pass on what `zmesh invite --token` printed")
    return read_secret(text)


def _read_token(text: str) -> Secret:
    packed = text.removeprefix(_MARK).upper()
    try:
        octets = b32decode(packed + "=" * (-len(packed) % 8))
    except ValueError:
        octets = b""
    if len(octets) != TOKEN_BYTES:
        raise PairingError("this token is not complete: pass on all of what `zmesh invite --token` printed")
    return _token(octets)


def _token(octets: bytes) -> Secret:
    text = _MARK + b32encode(octets).decode().rstrip("=").lower()
    return Secret(text, _plate(octets), text.encode())


def _plate(octets: bytes) -> str:
    """Return what announces a token: a hash, which gives nothing of it away."""
    return "t" + blake2b(b"zmesh nameplate" + octets, digest_size=6).hexdigest()
