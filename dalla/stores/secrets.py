"""Credentials in one encrypted file, `data/secrets/secrets.json`.

Protects copies of the data folder made without its key file (backups, synchronised folders) and
careless looks. Not against somebody who can read the key as well.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Any

import orjson

from dalla.errors import StorageError
from dalla.paths import fsync_folder, remove_stale_temps, write_atomic
from dalla.stores.locks import SharedLock

_REMEDY = (
    "Set DALLA_SECRET_KEY to the key they were saved with (or put the key file back as {key}). "
    "If that key is lost, move {file} away and enter the credentials again."
)


class FileSecrets:
    """A SecretStore. `key` wins over the key file, which is made on first use.

    A key that is 32 bytes in URL-safe base64 is used as it is; any other text is stretched (scrypt).
    """

    def __init__(self, folder: Path, key: str | None = None) -> None:
        self.folder = Path(folder)
        self.file = self.folder / "secrets.json"
        self.key_file = self.folder / "key"
        self._key = key or None
        self._lock = SharedLock(self.folder / ".secrets.lock", "the credentials")
        self._cached: tuple[Any, dict[str, str]] | None = None
        self._ciphers: dict[tuple[str, str | None], Any] = {}
        self._salt: str | None = None  # of the file as last read; kept, because stretching takes a while

    def get(self, name: str) -> str | None:
        return self._read().get(name)

    def names(self) -> list[str]:
        return sorted(self._read())

    def put(self, name: str, value: str) -> None:
        self._prepare_folder()
        with self._lock.hold():
            values = self._read()
            if values.get(name) != value:
                self._write({**values, name: value})

    def delete(self, name: str) -> None:
        if name not in self._read():
            return
        with self._lock.hold():
            values = dict(self._read())
            if values.pop(name, None) is not None:
                self._write(values)

    # ------------------------------------------------------------------ the file

    def _read(self) -> dict[str, str]:
        try:
            info = os.stat(self.file)
            stamp = (info.st_ino, info.st_mtime_ns, info.st_size)
            cached = self._cached
            if cached is not None and cached[0] == stamp:
                return cached[1]
            raw = self.file.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise StorageError(
                f"The stored credentials cannot be read: {exc.strerror or exc}.",
                remedy=f"Give this user permission to read {self.file}.",
            ) from exc
        values = self._decrypt(raw)
        self._cached = (stamp, values)
        return values

    def _decrypt(self, raw: bytes) -> dict[str, str]:
        from cryptography.fernet import InvalidToken

        try:
            envelope = orjson.loads(raw)
            salt, token = envelope["salt"], envelope["token"]
            if not isinstance(token, str) or not isinstance(salt, str | None):
                raise TypeError("not what we write")
        except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
            raise StorageError(
                f"The file of stored credentials, {self.file}, is damaged. It is left as it is.",
                remedy=f"Restore {self.file} from a backup, or move it away and enter the credentials again.",
            ) from exc
        try:
            values: dict[str, str] = orjson.loads(self._cipher(salt, create=False).decrypt(token))
        except InvalidToken as exc:
            raise StorageError(
                "The stored credentials were saved with another key and cannot be decrypted. They are left as they are.",
                remedy=_REMEDY.format(key=self.key_file, file=self.file),
            ) from exc
        self._salt = salt
        return values

    def _write(self, values: dict[str, str]) -> None:
        salt = None
        if self._key is not None and not _is_raw_key(self._key):
            salt = self._salt or base64.urlsafe_b64encode(os.urandom(16)).decode()
        token = self._cipher(salt, create=True).encrypt(orjson.dumps(values, option=orjson.OPT_SORT_KEYS))
        data = orjson.dumps({"version": 1, "salt": salt, "token": token.decode()}, option=orjson.OPT_INDENT_2) + b"\n"
        try:
            write_atomic(self.file, data, mode=0o600)
        except OSError as exc:
            raise StorageError.from_os(exc, "the credentials") from exc

    def _prepare_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.name != "nt" and self.folder.stat().st_mode & 0o077:
                self.folder.chmod(0o700)
            remove_stale_temps(self.folder)
        except OSError as exc:
            raise StorageError.from_os(exc, "the credentials") from exc

    # ------------------------------------------------------------------ the key

    def _cipher(self, salt: str | None, *, create: bool) -> Any:
        from cryptography.fernet import Fernet

        key = self._key or self._key_from_file(create)
        if (key, salt) not in self._ciphers:
            raw = key.encode() if _is_raw_key(key) else _stretch(key, salt or "")
            self._ciphers = {(key, salt): Fernet(raw)}
        return self._ciphers[key, salt]

    def _key_from_file(self, create: bool) -> str:
        try:
            return self.key_file.read_text("ascii").strip()
        except FileNotFoundError:
            if not create:
                raise StorageError(
                    f"The key of the stored credentials, {self.key_file}, is missing. They are left as they are.",
                    remedy=_REMEDY.format(key=self.key_file, file=self.file),
                ) from None
        except (OSError, ValueError) as exc:
            raise StorageError(
                f"The key file {self.key_file} cannot be read.",
                remedy="Check its permissions, or set DALLA_SECRET_KEY.",
            ) from exc
        key = base64.urlsafe_b64encode(os.urandom(32)).decode()
        try:
            write_atomic(self.key_file, key.encode() + b"\n", mode=0o600)
            fsync_folder(self.folder)
        except OSError as exc:
            raise StorageError.from_os(exc, "the key of the credentials") from exc
        return key


def _is_raw_key(key: str) -> bool:
    try:
        return len(key) == 44 and len(base64.b64decode(key, altchars=b"-_", validate=True)) == 32
    except (ValueError, binascii.Error):
        return False


def _stretch(passphrase: str, salt: str) -> bytes:
    import hashlib

    raw = hashlib.scrypt(passphrase.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=32)
    return base64.urlsafe_b64encode(raw)
