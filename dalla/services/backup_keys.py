"""Credentials inside a backup, encrypted under a passphrase: scrypt for the key, Fernet for the content."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import threading

import orjson

from dalla.errors import Conflict, InvalidInput

SHORTEST = 8
_N, _R, _P = 2**15, 8, 1
#: What a file may ask for: more would be a way to use up memory or hours.
_MOST = {"n": 2**17, "r": 16, "p": 4}


class Passphrases:
    """Passphrases between a request and the task it starts: in memory, because the task table keeps no secrets."""

    def __init__(self) -> None:
        self._held: dict[str, str] = {}
        self._lock = threading.Lock()

    def hold(self, passphrase: str | None) -> str | None:
        """Keep a passphrase; return what to put into the task's payload (None: there is none)."""
        if passphrase is None:
            return None
        ticket = secrets.token_hex(16)
        with self._lock:
            self._held[ticket] = passphrase
        return ticket

    def take(self, ticket: str | None) -> str | None:
        """Return the passphrase of a ticket, once. Raises Conflict: the app was restarted, or it was used."""
        if ticket is None:
            return None
        with self._lock:
            found = self._held.pop(ticket, None)
        if found is None:
            raise Conflict(
                "The passphrase is not kept anywhere, so this task cannot run again.", remedy="Start it anew."
            )
        return found


def check_passphrase(passphrase: str) -> str:
    """Return the passphrase. Raises InvalidInput when it is too short to keep anything."""
    if len(passphrase) < SHORTEST:
        raise InvalidInput.field(
            "passphrase", f"Use at least {SHORTEST} characters; a few words in a row are easy to keep."
        )
    return passphrase


def seal(values: dict[str, str], passphrase: str) -> bytes:
    """Return the credentials as a file that only this passphrase opens."""
    from cryptography.fernet import Fernet

    salt = os.urandom(16)
    token = Fernet(_key(passphrase, salt, _N, _R, _P)).encrypt(orjson.dumps(values, option=orjson.OPT_SORT_KEYS))
    envelope = {
        "format": 1,
        "kdf": "scrypt",
        "n": _N,
        "r": _R,
        "p": _P,
        "salt": base64.b64encode(salt).decode(),
        "token": token.decode(),
    }
    return orjson.dumps(envelope, option=orjson.OPT_INDENT_2)


def unseal(sealed: bytes, passphrase: str) -> dict[str, str]:
    """Return the credentials of `seal`. Raises InvalidInput: another passphrase, or not such a file."""
    from cryptography.fernet import Fernet, InvalidToken

    try:
        envelope = orjson.loads(sealed)
        n, r, p = (int(envelope[name]) for name in ("n", "r", "p"))
        salt, token = base64.b64decode(envelope["salt"], validate=True), str(envelope["token"])
        if (
            envelope["format"] != 1
            or envelope["kdf"] != "scrypt"
            or not (n > 1 and r > 0 and p > 0 and n & (n - 1) == 0)
        ):
            raise ValueError("not what we write")
        if n > _MOST["n"] or r > _MOST["r"] or p > _MOST["p"]:
            raise ValueError("more work than is done for a file")
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, binascii.Error) as exc:
        raise InvalidInput(f"The credentials in this backup cannot be read: {exc}.") from exc
    try:
        values = orjson.loads(Fernet(_key(passphrase, salt, n, r, p)).decrypt(token.encode()))
    except InvalidToken as exc:
        raise InvalidInput.field(
            "passphrase",
            "This passphrase does not open the credentials of this backup.",
            remedy="Give the one it was made with, or leave it empty and enter the credentials again afterwards.",
        ) from exc
    except orjson.JSONDecodeError as exc:
        raise InvalidInput("The credentials in this backup cannot be read.") from exc
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in (*values, *values.values())):
        raise InvalidInput("The credentials in this backup cannot be read.")
    return values


def _key(passphrase: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    raw = hashlib.scrypt(passphrase.encode(), salt=salt, n=n, r=r, p=p, dklen=32, maxmem=256 * n * r * p + (1 << 20))
    return base64.urlsafe_b64encode(raw)
