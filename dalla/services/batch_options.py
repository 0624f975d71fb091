"""Read the options of batch operations. Every problem is an InvalidInput that names `options.<name>`."""

from __future__ import annotations

from typing import Any

from dalla.errors import InvalidInput

Options = dict[str, Any]
#: No side of a picture is made longer, px.
MAX_SIDE = 16_384


def known(options: Options, names: tuple[str, ...]) -> None:
    """Refuse options with other names."""
    for name in options:
        if name not in names:
            allowed = f"Use only {', '.join(names)}." if names else "There are no options."
            raise InvalidInput.field(f"options.{name}", allowed)


def number(options: Options, name: str, default: float, low: float, high: float, *, hint: str = "") -> float:
    """A number from low to high; `hint` says what else is taken."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidInput.field(f"options.{name}", f"Give a number from {low:g} to {high:g} {hint}".strip() + ".")
    return float(value)


def whole(options: Options, name: str, default: int, low: int, high: int) -> int:
    value = number(options, name, default, low, high)
    if value != int(value):
        raise InvalidInput.field(f"options.{name}", "Give a whole number.")
    return int(value)


def choice(options: Options, name: str, allowed: tuple[str, ...], default: str) -> str:
    value = options.get(name, default)
    if value not in allowed:
        raise InvalidInput.field(f"options.{name}", f"Use one of {', '.join(allowed)}.")
    return str(value)


def flag(options: Options, name: str, default: bool) -> bool:
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInput.field(f"options.{name}", "Use true or false.")
    return value


def colour(options: Options, name: str, default: str) -> str:
    """A colour as #rrggbb, in small letters."""
    value = options.get(name, default)
    try:
        if not isinstance(value, str) or len(value) != 7 or value[0] != "#":
            raise ValueError
        int(value[1:], 16)
    except ValueError:
        raise InvalidInput.field(f"options.{name}", "Give a colour such as #ffffff.") from None
    return value.lower()


def rgb(text: str) -> tuple[int, int, int]:
    """The three channels of what `colour` returned."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
