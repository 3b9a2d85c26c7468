"""The device key: one Ed25519 seed per user and machine, from which the device's id and its CURVE key follow.

All peers of one user on one machine share the file, so whichever process comes first makes it and all others read
that one. This module must never overwrite a key that exists, use one that others can read, or put a secret into a
text.
"""

import contextlib
import os
import secrets
import stat
from base64 import b32encode
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final

from zmesh.errors import DeviceKeyError

SEED_BYTES: Final = 32  # an Ed25519 seed, RFC 8032 section 5.1.5
FINGERPRINT_BYTES: Final = 20  # 160 bits of BLAKE2b-256: no second key to an id; exactly 32 base32 characters
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"  # of base32, RFC 4648
_ID_CHARACTERS: Final = FINGERPRINT_BYTES * 8 // 5
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Device:
    """The keys of one device.

    Attributes:
        id: Fingerprint of the public key: 32 characters of lower-case base32.
        public: Ed25519 public key, 32 bytes.
        curve_public: Curve25519 public key, 32 bytes; the server key others dial with.
        curve_secret: Curve25519 secret key, 32 bytes.
        seed: Ed25519 signing seed, 32 bytes.
    """

    id: str
    public: bytes
    curve_public: bytes
    curve_secret: bytes = field(repr=False)
    seed: bytes = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> "Device":
        """Derive the device from its 32-byte seed.

        Raises:
            DeviceKeyError: The seed has another length.
        """
        from nacl.signing import SigningKey  # noqa: PLC0415 - 30 ms that commands without a key need not pay

        if len(seed) != SEED_BYTES:
            raise DeviceKeyError(f"a device seed has {SEED_BYTES} bytes, not {len(seed)}")
        signing = SigningKey(seed)
        public = bytes(signing.verify_key)
        curve = signing.to_curve25519_private_key()
        return cls(fingerprint(public), public, bytes(curve.public_key), bytes(curve), seed)

    @classmethod
    def load_or_create(cls, path: Path) -> "Device":
        """Read the device key at `path`, making it first if there is none.

        Any number of processes may call this at once; all get the same key. The key is on disk, with its directory
        entry, when this returns.

        Args:
            path: The key file; its parent directory is made with mode 0700 if it is missing.

        Raises:
            DeviceKeyError: The file or its directory is unsafe, damaged or cannot be made.
        """
        try:
            if not path.exists() and not path.is_symlink():
                _create(path)
            _check_directory(path.parent)
            return cls.from_seed(_read(path))
        except OSError as error:
            raise DeviceKeyError(
                f"cannot use the device key {path}: {error.strerror or error}; "
                "make its directory writable for you, or choose another with ZMESH_HOME"
            ) from error

    @property
    def curve_public_z85(self) -> bytes:
        """The CURVE public key as ZeroMQ writes keys in text: 40 bytes of Z85."""
        return _z85(self.curve_public)

    @property
    def curve_secret_z85(self) -> bytes:
        """The CURVE secret key as ZeroMQ writes keys in text: 40 bytes of Z85."""
        return _z85(self.curve_secret)

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte detached Ed25519 signature of `data`."""
        from nacl.signing import SigningKey  # noqa: PLC0415 - see from_seed

        return SigningKey(self.seed).sign(data).signature


def fingerprint(public: bytes) -> str:
    """Return the device id of an Ed25519 public key (32 bytes): 32 characters of lower-case base32."""
    digest = blake2b(public, digest_size=32).digest()
    return b32encode(digest[:FINGERPRINT_BYTES]).decode().lower()


def readable(device: str) -> str:
    """Write a device id for people: eight groups of four characters, and one that tells a slip of the pen."""
    groups = [device[start : start + 4] for start in range(0, len(device), 4)]
    return "-".join([*groups, _check_character(device)])


def read_device(text: str) -> str:
    """Return the device id that somebody wrote, with or without its dashes and check character.

    Raises:
        DeviceKeyError: It is none, or the check character does not fit.
    """
    plain = "".join(text.split()).replace("-", "").lower()
    if len(plain) not in (_ID_CHARACTERS, _ID_CHARACTERS + 1) or set(plain) - set(_ALPHABET) or not text.isascii():
        raise DeviceKeyError(
            f"{text[:80]!r} is no device id: one has {_ID_CHARACTERS} letters and digits, and one more to check them"
        )
    plain, check = plain[:_ID_CHARACTERS], plain[_ID_CHARACTERS:]
    if check and _check_character(plain) != check:
        raise DeviceKeyError(f"{text!r} has a slip: its last character does not fit the others")
    return plain


def _check_character(plain: str) -> str:
    """Return the Luhn check character in base 32, as of ISO/IEC 7812.

    One wrong character is always noticed, and two neighbours that were swapped unless they are the alphabet's ends.
    """
    total = 0
    for position, character in enumerate(reversed(plain)):
        value = _ALPHABET.index(character) * (2 - position % 2)
        total += value // len(_ALPHABET) + value % len(_ALPHABET)
    return _ALPHABET[-total % len(_ALPHABET)]


def curve_key(public: bytes) -> bytes:
    """Return the CURVE key (32 bytes) that belongs to an Ed25519 public key.

    Raises:
        DeviceKeyError: The bytes are no such key.
    """
    from nacl.exceptions import CryptoError  # noqa: PLC0415 - see Device.from_seed
    from nacl.exceptions import RuntimeError as NaclError  # noqa: PLC0415
    from nacl.signing import VerifyKey  # noqa: PLC0415

    try:
        return bytes(VerifyKey(public).to_curve25519_public_key())
    except (CryptoError, NaclError, ValueError) as error:
        raise DeviceKeyError(f"{public.hex()} is not the public key of a device: {error}") from None


def verify(public: bytes, data: bytes, signature: bytes) -> bool:
    """Say whether `signature` over `data` was made with the key whose public half is `public`."""
    from nacl.exceptions import BadSignatureError  # noqa: PLC0415 - see Device.from_seed
    from nacl.exceptions import ValueError as NaclValueError  # noqa: PLC0415
    from nacl.signing import VerifyKey  # noqa: PLC0415

    try:
        VerifyKey(public).verify(data, signature)
    except (BadSignatureError, NaclValueError):
        return False
    return True


def _z85(key: bytes) -> bytes:
    from zmq.utils import z85  # noqa: PLC0415 - only this form needs pyzmq

    encoded: bytes = z85.encode(key)
    return encoded


def _create(path: Path) -> None:
    """Put a new seed at `path` unless another process was faster: written and fsynced aside, then linked into place.

    `link` fails when the name exists and shows the whole file or none of it, which a plain O_EXCL file does not.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_directory(path.parent)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _flags(), 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(SEED_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process's key is there, and is the one to use
            os.link(aside, path)
    finally:
        aside.unlink()
    _sync_directory(path.parent)


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | _flags())
    with os.fdopen(handle, "rb") as file:
        _check_file(path, os.fstat(handle))
        return file.read(SEED_BYTES + 1)


def _check_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise DeviceKeyError(f"the device key {path} is not a plain file; move it away and start again")
    if status.st_size != SEED_BYTES:
        raise DeviceKeyError(
            f"the device key {path} is damaged: {status.st_size} bytes instead of {SEED_BYTES}; restore it from a "
            "backup, or delete it to become a new device that others must be introduced to again"
        )
    if os.name != "posix":  # elsewhere the user profile's access list protects the file, and the mode says nothing
        return
    if status.st_uid != os.geteuid():
        raise DeviceKeyError(
            f"the device key {path} belongs to user id {status.st_uid}, not to you ({os.geteuid()}); run as its owner, "
            "or choose another directory with ZMESH_HOME"
        )
    if status.st_mode & _OTHERS:
        raise DeviceKeyError(
            f"the device key {path} can be read or changed by others (mode {status.st_mode & 0o777:04o}); if nobody "
            f"has read it, run: chmod 600 {path}; else delete it to become a new device"
        )


def _check_directory(directory: Path) -> None:
    """Refuse a directory in which others could put a key of theirs in place of this one."""
    if os.name != "posix":
        return
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
        raise DeviceKeyError(
            f"others can change the directory of the device key, {directory} (owner {status.st_uid}, mode "
            f"{status.st_mode & 0o777:04o}); make it yours alone: chown {os.geteuid()} {directory} and "
            f"chmod 700 {directory}"
        )


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":  # Windows cannot open a directory to fsync it
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flags() -> int:
    """O_NOFOLLOW, O_CLOEXEC and O_BINARY, where the system has them."""
    return sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
