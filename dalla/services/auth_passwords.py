"""Passwords: which ones are taken, and their argon2id hashes."""

from __future__ import annotations

import re
import threading
import unicodedata
from typing import Any

from dalla.errors import InvalidInput, Unavailable

LEAST, MOST = 10, 256
#: What the commonest long passwords are made of, once digits and signs around them are taken away.
_COMMON = frozenset(
    "password passwort passw0rd motdepasse contrasena parola wachtwoord secret geheim letmein welcome willkommen hello "
    "hallo admin administrator root user test guest login master changeme default access dragon monkey shadow sunshine "
    "princess football baseball superman batman iloveyou ichliebedich trustno qwerty qwertz qwertyuiop qwertzuiop "
    "azerty azertyuiop asdfghjkl asdfasdf zxcvbnm yxcvbnm qazwsxedc abcdefghij abcdefgh abcabc digital dalla "
    "digitaldalla dashboard studio instagram twitter passwordpassword adminadmin testtest".split()
)
_RUNS = ("01234567890123456789", "98765432109876543210", "abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba",
         "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm", "1q2w3e4r5t6z7u8i9o0p", "1q2w3e4r5t6y7u8i9o0p",
         "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p", "qazwsxedcrfvtgbyhnujmikolp")  # fmt: skip
#: Each hash takes 64 MB for a moment; more at once would let strangers fill the memory by failing to sign in.
_room = threading.BoundedSemaphore(4)
_WAIT_SECONDS = 20.0


def normal(password: str) -> str:
    """Return the form that is hashed, so that é typed on any keyboard is the same letter."""
    return unicodedata.normalize("NFKC", password)


def check(password: str, name: str, field: str = "password") -> None:
    """Raise InvalidInput unless the password is long enough and not among the first that somebody would try."""
    text = normal(password)
    if len(text) < LEAST:
        raise InvalidInput.field(field, f"Use at least {LEAST} characters.", remedy="Three or four unrelated words are easy to keep in mind.")  # fmt: skip
    if len(password) > MOST or len(text) > MOST:
        raise InvalidInput.field(field, f"Use at most {MOST} characters.")
    folded = text.casefold()
    if folded == normal(name).casefold() or _core(folded) == normal(name).casefold():
        raise InvalidInput.field(field, "The password must not be the name.")
    if len(set(folded)) < 4 or _core(folded) in _COMMON or any(folded in run for run in _RUNS):
        raise InvalidInput.field(
            field, "This is one of the commonest passwords.", remedy="Three or four unrelated words are better."
        )


def _core(text: str) -> str:
    """Strip digits and signs around a word, as in "Password2026!"."""
    return re.sub(r"^[\W\d_]+|[\W\d_]+$", "", text)


class Passwords:
    """argon2id, by default as RFC 9106 recommends where memory is scarce. The library is loaded with the first use."""

    def __init__(self, time_cost: int = 3, memory_kib: int = 64 * 1024, parallelism: int = 4) -> None:
        """Hashes made with other parameters still fit, and are made anew when their user signs in (`outdated`)."""
        self._cost = (time_cost, memory_kib, parallelism)
        self._made: Any = None
        self._dummy = ""
        self._lock = threading.Lock()

    def hash(self, password: str) -> str:
        """Return the hash with its salt and parameters. Raises Unavailable when too many wait."""
        with _Room():
            return str(self._hasher().hash(normal(password)))

    def verify(self, hash: str | None, password: str) -> bool:
        """Whether the password belongs to the hash; without one the same work is done and the answer is no."""
        import argon2

        hasher = self._hasher()
        with _Room():
            try:
                return bool(hasher.verify(hash or self._dummy, normal(password)[: MOST + 1])) and hash is not None
            except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
                return False

    def outdated(self, hash: str) -> bool:
        """Whether the hash was made with other parameters than those of now."""
        return bool(self._hasher().check_needs_rehash(hash))

    def _hasher(self) -> Any:
        with self._lock:
            if self._made is None:
                import argon2

                made = argon2.PasswordHasher(*self._cost)
                self._dummy = made.hash("nobody has this password")
                self._made = made
            return self._made


class _Room:
    """A place among the few that may hash at the same time."""

    def __enter__(self) -> None:
        if not _room.acquire(timeout=_WAIT_SECONDS):
            raise Unavailable("Too many people are signing in at once.", remedy="Try again in a moment.", retry_after=5)

    def __exit__(self, *exc: object) -> None:
        _room.release()
