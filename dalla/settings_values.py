"""From text to the value of a setting, and what is wrong with it. The table of settings is settings.py.

`parse` says whether a value is of its kind and holds for every source; `objection` is asked when a person
saves, and knows what cannot work although it is well-formed.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dalla import addresses
from dalla.errors import InvalidInput

if TYPE_CHECKING:
    from dalla.settings import Row

MASK = "••••"
#: Servers of one's own, whose address may hold a password in the environment; it is never shown.
WITH_PASSWORD = ("comfyui_url", "caption_url")
ENV = "env:"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HOST = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?\Z|\[?[0-9A-Fa-f:.]+\]?\Z")
_METADATA_NAMES = (
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
)
_LOOK_UP_SECONDS = 2.0


def parse(row: Row, raw: Any, root: Path) -> Any:
    """Turn text (or JSON) into the setting's type. Raises InvalidInput with the setting's name."""

    def refuse(why: str) -> InvalidInput:
        return InvalidInput.field(row.key, f"{row.env}: {why}")

    match row.kind:
        case "int" | "float":
            return _number(row, raw, refuse)
        case "bool":
            if isinstance(raw, bool):
                return raw
            text = str(raw).strip().lower()
            if text in ("1", "true", "yes", "on"):
                return True
            if text in ("0", "false", "no", "off", ""):
                return False
            raise refuse("this must be true or false.")
        case "json":
            return _json_object(raw, refuse)
    if not isinstance(raw, str | Path):
        raise refuse("this must be text.")
    text = str(raw).strip()
    if "|" in row.kind:
        if text not in row.kind.split("|"):
            raise refuse(f"this must be one of {', '.join(row.kind.split('|'))}.")
    elif row.kind == "path":
        try:
            return (root / Path(text).expanduser()).resolve() if text else ""
        except (OSError, RuntimeError, ValueError):  # a loop of links, ~ of nobody, a NUL
            raise refuse("this is not a folder that can be found.") from None
    elif row.kind == "url" and text:
        try:
            parts = urlsplit(text)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a broken IPv6 address, a port that is none
            usable = False
        if not usable:
            raise refuse("this must be an address that starts with http:// or https://.")
        if "@" in parts.netloc and row.name not in WITH_PASSWORD:
            raise refuse("this must be an address without a user name or password: it is shown, and sent elsewhere.")
        return text.rstrip("/")
    elif row.kind == "zone" and text:
        try:
            ZoneInfo(text)
        except (KeyError, ValueError, OSError):
            raise refuse("this must be an IANA time zone such as Europe/Berlin.") from None
    return text


def plain(value: Any) -> Any:
    """Return a value as JSON has it (a path as text)."""
    return str(value) if isinstance(value, Path) else value


def masked(value: Any) -> str | None:
    """Return what may be shown of a secret: dots and, of a long one, the last four characters. None when empty."""
    if not value:
        return None
    return MASK + (value[-4:] if isinstance(value, str) and len(value) >= 12 else "")


def without_password(url: str) -> str:
    """Return an address as it may be shown: dots instead of a name and password in it."""
    head, slashes, rest = url.partition("://")
    server, slash, path = rest.partition("/")
    name, at, host = server.rpartition("@")
    return f"{head}{slashes}{MASK}@{host}{slash}{path}" if at else url


def variable(text: Any) -> str | None:
    """Return the name in `env:NAME`; None when the text is no such reference. Raises InvalidInput for a broken one."""
    if not isinstance(text, str) or not text.strip().startswith(ENV):
        return None
    name = text.strip().removeprefix(ENV)
    if not _VARIABLE.match(name):
        raise InvalidInput("After env: stands the name of an environment variable, for instance env:GEMINI_KEY.")
    return name


def objection(row: Row, value: Any) -> str | None:
    """Say why a well-formed value cannot work; None when it may be saved. May look up a host name (2 s at most)."""
    if value in ("", {}, None):
        return None
    if row.kind == "url":
        return _address_objection(row, str(value))
    if row.kind == "path":
        path = Path(value)
        if path.exists() and not path.is_dir():
            return f"{path} is a file. This must be a folder."
    check = _CHECKS.get(row.name)
    return check(value) if check else None


def _number(row: Row, raw: Any, refuse: Callable[[str], InvalidInput]) -> int | float:
    try:
        if isinstance(raw, bool):
            raise ValueError
        number: int | float = float(raw)
        if row.kind == "int":
            number = int(raw)
            if isinstance(raw, float) and raw != number:
                raise refuse("this must be a whole number.")
    except (TypeError, ValueError, OverflowError):
        raise refuse("this must be a number.") from None
    if not row.min <= number <= row.max:
        unit = f" {row.unit}" if row.unit else ""
        raise refuse(f"this must be between {row.min:,g} and {_plain_number(row.max)}{unit}.")
    return number


def _plain_number(number: float) -> str:
    return f"{int(number):,}" if number == int(number) else f"{number:,g}"


def _json_object(raw: Any, refuse: Callable[[str], InvalidInput]) -> dict[str, Any]:
    if isinstance(raw, str):
        try:
            raw = json.loads(raw or "{}")
        except (ValueError, RecursionError):
            raise refuse("this must be a JSON object.") from None
    if not isinstance(raw, dict):
        raise refuse("this must be a JSON object.")
    return raw


def _address_objection(row: Row, url: str) -> str | None:
    """Addresses that hand out the machine's own credentials are never right; the private network may be."""
    if "@" in urlsplit(url).netloc:
        return "Put no user name or password into the address: everybody who signs in can read it."
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if host in _METADATA_NAMES:
        return f"{host} is a cloud's metadata service. Nothing is sent there."
    try:
        found = [host] if addresses.refusal(host) != "not an IP address" else _look_up(host)
    except UnicodeError:
        return "The name of the server is not a valid host name."
    for ip in found:
        reason = addresses.refusal(ip, private=True)
        if reason is not None:
            shown = host if host == ip else f"{host} ({ip})"
            return f"{shown} is {reason}. Nothing is sent there."
    if row.name == "s3_endpoint" and urlsplit(url).path.strip("/"):
        return "Leave the path away: the bucket's name has its own field."
    return None


def _look_up(host: str) -> list[str]:
    """Return the addresses of a name; nothing when it is not known now (this computer may be offline)."""
    if host == "localhost":
        return []
    found: list[str] = []

    def ask() -> None:
        try:
            found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError):
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_LOOK_UP_SECONDS)
    return list(found)


def _quiet_hours(value: str) -> str | None:
    message = "Write two times such as 23:00-07:00."
    ends = [part.strip() for part in str(value).replace("–", "-").split("-")]
    try:
        first, last = (time.fromisoformat(end.zfill(5)) for end in ends)
    except ValueError:
        return message
    return "Both times are the same; leave this empty for no quiet hours." if first == last else None


def _host_names(value: str) -> str | None:
    wrong = [name.strip() for name in str(value).split(",") if name.strip() and not _HOST.match(name.strip())]
    return f"'{wrong[0]}' is not a host name. Give names without http:// and without a path." if wrong else None


def _one_host(value: str) -> str | None:
    return None if _HOST.match(str(value)) else "Give a host name or an IP address, without http:// and without a port."


def _pattern(pattern: str, message: str) -> Callable[[Any], str | None]:
    return lambda value: None if re.fullmatch(pattern, str(value)) else message


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "host": _one_host,
    "allowed_hosts": _host_names,
    "quiet_hours": _quiet_hours,
    "instagram_graph_version": _pattern(r"v\d{1,3}\.\d", "Write the version as Meta does, for instance v26.0."),
    "instagram_app_id": _pattern(r"\d{5,25}", "A Meta app id is a number."),
    "s3_bucket": _pattern(
        r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "A bucket's name has 3 to 63 lower-case letters, digits, dots and dashes."
    ),
    "database_url": _pattern(
        r"postgres(ql)?(\+\w+)?://\S+", "The address of a PostgreSQL server begins with postgresql://."
    ),
    "redis_url": _pattern(r"(rediss?|unix)://\S+", "The address of a Redis server begins with redis:// or rediss://."),
}
