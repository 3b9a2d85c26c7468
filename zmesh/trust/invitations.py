"""The invitations that this device has open, on disk: how often each was tried, and who used it.

They are counted where a crash does not reset them. One that is held ends with the process that made it, however that
ends. This module must never give out a secret without having used up an
attempt of it first, and never let two machines in by one secret.
"""

import time
from dataclasses import dataclass
from typing import Final

from zmesh.errors import PairingError
from zmesh.trust.holding import Holding, clear, was_let_go
from zmesh.trust.invitation import CODE_ATTEMPTS, TOKEN_ATTEMPTS, Secret, new_code, new_token, read_secret
from zmesh.trust.refusal import Refusal
from zmesh.trust.trust_file import TrustFile

MAX_OPEN: Final = 16  # at a time: each is announced, and a person looks after one
MEMORY: Final = 3600.0  # seconds after its end that an invitation is remembered, for whoever waits for it


@dataclass(frozen=True, slots=True)
class Invitation:
    """How an invitation stands.

    Attributes:
        used: Device id of who used it; empty while nobody has.
        left: How many more attempts may begin.
        failed: How many have ended without success.
    """

    used: str
    left: int
    failed: int

    @property
    def spent(self) -> bool:
        """True when nobody can use it any more, and nobody is about to."""
        return not self.used and self.left <= 0 and self.failed >= CODE_ATTEMPTS


class Invitations:
    """The table of invitations."""

    def __init__(self, file: TrustFile) -> None:
        """Take the file that it is in."""
        self._file = file
        self._directory = file.path.parent / "invitations"
        self._held: dict[str, Holding] = {}

    def open(self, life: float, *, token: bool = False, held: bool = False) -> Secret:
        """Make an invitation; its nameplate is no other's that is open, or one's attempts would count for the other.

        Args:
            life: Seconds until it is over.
            token: Make a token in place of a code.
            held: It is over with this process, however that ends.

        Raises:
            PairingError: There are too many already.
            TrustError: It cannot be held.
        """
        with self._file.write():
            now = time.time()
            self._file.change("DELETE FROM invitation WHERE expires < ?", (now - MEMORY,))
            for nameplate in clear(self._directory):
                self._file.change("DELETE FROM invitation WHERE nameplate = ? AND used = ''", (nameplate,))
            taken = set(self.nameplates())
            if len(taken) >= MAX_OPEN:
                raise PairingError(f"{MAX_OPEN} invitations are open: wait until one is used, or end one with Ctrl-C")
            secret = new_token() if token else new_code()
            while secret.nameplate in taken:
                secret = new_code()
            attempts = TOKEN_ATTEMPTS if token else CODE_ATTEMPTS
            row = (secret.text, secret.nameplate, now + life, attempts)
            if held:  # before it is open, and while nobody can ask
                self._held[secret.text] = Holding(self._directory / secret.nameplate)
            self._file.change("INSERT INTO invitation VALUES (?, ?, ?, ?, 0, '')", row)
        return secret

    def attempt(self, nameplate: str) -> Secret:
        """Return the secret of an invitation, with one attempt of it used up, on disk.

        Raises:
            Refusal: There is none under this nameplate, or it has expired, was used, was tried too often, or its
                process has gone.
        """
        sql = "SELECT secret, attempts FROM invitation WHERE nameplate = ? AND expires > ? AND used = ''"
        if not self._file.rows(sql, (nameplate, time.time())):
            raise Refusal("over")  # without a write, which costs a stranger nothing and us an fsync
        with self._file.write():
            rows = self._file.rows(sql, (nameplate, time.time()))
            if not rows:
                raise Refusal("over")
            if was_let_go(self._directory / nameplate):
                raise Refusal("gone")
            text, attempts = rows[0]
            if attempts <= 0:
                raise Refusal("tries")
            self._file.change("UPDATE invitation SET attempts = attempts - 1 WHERE secret = ?", (text,))
        return read_secret(text)

    def fail(self, secret: Secret) -> None:
        """Note that an attempt has ended without success."""
        with self._file.write():
            self._file.change("UPDATE invitation SET failed = failed + 1 WHERE secret = ?", (secret.text,))

    def give_back(self, secret: Secret) -> None:
        """Give an attempt back: whoever made it has shown that it knows the secret, so it was no guess."""
        with self._file.write():
            self._file.change("UPDATE invitation SET attempts = attempts + 1 WHERE secret = ?", (secret.text,))

    def use(self, secret: Secret, device: str) -> None:
        """Use an invitation up.

        Raises:
            Refusal: Another machine was faster, it expired meanwhile, or was withdrawn.
        """
        with self._file.write():
            used = self._file.change(
                "UPDATE invitation SET used = ? WHERE secret = ? AND used = '' AND expires > ?",
                (device, secret.text, time.time()),
            )
            if used != 1:
                raise Refusal("over")

    def look(self, secret: Secret) -> Invitation | None:
        """Return how an invitation stands; None when there is none, or it was withdrawn."""
        rows = self._file.rows("SELECT used, attempts, failed FROM invitation WHERE secret = ?", (secret.text,))
        return Invitation(*rows[0]) if rows else None

    def withdraw(self, secret: Secret) -> None:
        """Take an invitation back, unless it was used."""
        with self._file.write():
            self._file.change("DELETE FROM invitation WHERE secret = ? AND used = ''", (secret.text,))
            held = self._held.pop(secret.text, None)
            if held is not None:
                held.release()

    def nameplates(self) -> list[str]:
        """Return the nameplates under which this device is to be found."""
        sql = "SELECT nameplate FROM invitation WHERE expires > ? AND used = '' AND attempts > 0"
        return [str(row[0]) for row in self._file.rows(sql, (time.time(),))]

    def forget(self) -> None:
        """Forget all of them."""
        with self._file.write():
            self._file.change("DELETE FROM invitation")
