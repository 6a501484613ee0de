"""The operator's key, and hashes in place of ids of users and requests.

With a key in a file, an id has the same hash after restarts and on every server. The file is a secret: with the key an
id can be found by trying ids.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from meshfold.model.errors import InvalidConfig

LEAST_BYTES = 32
_MOST_BYTES = 4096
_TEXT_DIGITS = 32
_REQUEST_ID, _USER_KEY = b"request id ", b"user key "
# Refused permissions of a key file. A group may read, as mounted secrets often need.
_EVERYBODY = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP


class KeyedHash:
    """HMAC-SHA256 of ids. The same id has the same hash under the same key."""

    def __init__(self, key: bytes | None = None) -> None:
        """key: None for a random one, which is not stored, so that other processes make other hashes."""
        self.key = secrets.token_bytes(LEAST_BYTES) if key is None else key

    def user_id(self, user_id: int) -> int:
        """The hash of an integer id, from 1 to 2^63 - 1; 0 for 0, which is no user."""
        if user_id == 0:
            return 0
        return (int.from_bytes(self._digest(user_id.to_bytes(8, "big", signed=True))[:8], "big") >> 1) or 1

    def user_key(self, user_key: str) -> str:
        """The hash of a string id, 32 hexadecimal digits; "" for ""."""
        return self._text(_USER_KEY, user_key)

    def request_id(self, request_id: str) -> str:
        """The hash of a request id, 32 hexadecimal digits; "" for ""."""
        return self._text(_REQUEST_ID, request_id)

    def _text(self, kind: bytes, text: str) -> str:
        return self._digest(kind + text.encode()).hex()[:_TEXT_DIGITS] if text else ""

    def _digest(self, content: bytes) -> bytes:
        return hmac.digest(self.key, content, hashlib.sha256)


def keyed_hash(file: str) -> KeyedHash:
    """A hash with the key of a file, or with a random key where `file` is "". Raises InvalidConfig."""
    return KeyedHash(read_key(Path(file)) if file else None)


def read_key(path: Path) -> bytes:
    """The bytes of a key file, without trailing line ends. Raises InvalidConfig."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidConfig(
            f"the key file {path} cannot be read: {error.strerror}; `meshfold shadow key --out FILE` makes one"
        ) from None
    if mode & _EVERYBODY:
        raise InvalidConfig(
            f"the key file {path} has mode {stat.S_IMODE(mode):04o}; expected its owner alone to write it and nobody "
            f"but its group to read it: chmod 600 {path}"
        )
    key = content.rstrip(b"\r\n")
    if not LEAST_BYTES <= len(key) <= _MOST_BYTES:
        had = f"more than {_MOST_BYTES}" if len(key) > _MOST_BYTES else str(len(key))
        raise InvalidConfig(
            f"the key file {path} holds {had} bytes; expected {LEAST_BYTES} to {_MOST_BYTES}, such as "
            "`meshfold shadow key --out FILE` writes"
        )
    return key


def write_key(path: Path) -> None:
    """Writes a new random key of 256 bits in hexadecimal digits, readable by its owner alone. Raises InvalidConfig."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidConfig(
            f"{path} is there already, and a new key would give every user another hash; name a new file"
        ) from None
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be written: {error.strerror}") from None
    try:
        with open(descriptor, "w") as file:
            file.write(secrets.token_hex(LEAST_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise InvalidConfig(f"{path} cannot be written: {error.strerror}") from None
