"""Find and replace in captions: plain text, regular expressions with a guard, whole tags."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from dalla.errors import InvalidInput, Unavailable
from dalla.services.caption_text import Item, fill, tag_key

MAX_PATTERN = 500  # characters
#: Seconds a pattern may take on one caption, and on all of them.
ONE_TEXT, ALL_TEXTS = 0.25, 10.0
MODES = ("plain", "regex", "tag")

#: (caption, picture) -> (new caption, places changed)
Apply = Callable[[str, Item], tuple[str, int]]


class Options:
    """Reads options with their checks."""

    def __init__(
        self, values: Mapping[str, Any], trigger: str, frequency: Callable[[], Mapping[str, int]] | None
    ) -> None:
        self._values = values
        self.trigger = trigger.strip()
        self.frequency = frequency

    def text(self, name: str, *, default: str | None = None, longest: int = 5000) -> str:
        value = self._values.get(name)
        if value is None:
            if default is None:
                raise InvalidInput.field(name, "This is needed.")
            return default
        if not isinstance(value, str):
            raise InvalidInput.field(name, "Give text.")
        if len(value) > longest:
            raise InvalidInput.field(name, f"At most {longest} characters.")
        return value

    def needed(self, name: str, what: str = "Give the text.") -> str:
        value = self.text(name, default="")
        if not value.strip():
            raise InvalidInput.field(name, what)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidInput.field(name, "Use true or false.")
        return value

    def number(self, name: str, default: int, most: int) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise InvalidInput.field(name, f"Use a whole number from 0 to {most}.")
        return value

    def choice(self, name: str, known: tuple[str, ...], default: str) -> str:
        value = self._values.get(name)
        if value is None:
            return default
        if value not in known:
            raise InvalidInput.field(name, f"Use {', '.join(known)}.")
        return str(value)

    def tags(self, *names: str) -> list[str]:
        """Tags from the first option that is there: a text with commas, or a list."""
        for name in names:
            value = self._values.get(name)
            if value is None:
                continue
            if isinstance(value, list) and all(isinstance(part, str) for part in value):
                value = ",".join(value)
            if not isinstance(value, str):
                raise InvalidInput.field(name, "Give tags as text with commas, or as a list.")
            found = [part.strip() for part in value.split(",") if part.strip()]
            if found:
                return found
        raise InvalidInput.field(names[0], "Name the tag.")


def compile_pattern(pattern: str, *, case_sensitive: bool = False, field: str = "find") -> Any:
    """Compile a regular expression. Raises InvalidInput that says what is wrong and where, Unavailable."""
    try:
        import regex
    except ImportError as exc:
        raise Unavailable(
            "Patterns need the Python package 'regex', which is not installed.",
            remedy="Run 'make install' (or pip install -r requirements.txt).",
        ) from exc
    if not pattern:
        raise InvalidInput.field(field, "Give a pattern.")
    if len(pattern) > MAX_PATTERN:
        raise InvalidInput.field(field, f"A pattern may have {MAX_PATTERN} characters.")
    try:
        return regex.compile(pattern, regex.VERSION0 | (0 if case_sensitive else regex.IGNORECASE))
    except (regex.error, RecursionError, OverflowError, ValueError) as exc:
        where = getattr(exc, "pos", None)
        at = f" (at character {where + 1})" if isinstance(where, int) else ""
        why = getattr(exc, "msg", None) or "it is nested too deeply"
        raise InvalidInput.field(
            field,
            f"This is not a pattern: {why}{at}.",
            remedy="Put \\ before ( ) [ ] { } . * + ? | ^ $ to mean the character itself, or choose plain text.",
        ) from exc


class _Clock:
    """How long patterns may still take in this edit."""

    def __init__(self) -> None:
        self.left = ALL_TEXTS

    def run(self, work: Callable[[float], Any], item: Item) -> Any:
        began = time.monotonic()
        try:
            if self.left <= 0:
                raise TimeoutError
            return work(min(ONE_TEXT, self.left))
        except TimeoutError:
            raise InvalidInput.field(
                "find",
                f"This pattern takes too long (at {item.filename}): it can match the same words in too many ways.",
                remedy="Avoid a repeat inside a repeat, such as (a+)+ or (.*,)*; name the characters instead, e.g. [^,]+.",
            ) from None
        finally:
            self.left -= time.monotonic() - began


def finder(o: Options, replacement: str) -> Apply:
    """Find and replace in the three modes; also what "remove" is made of."""
    mode = o.choice("mode", MODES, "plain")
    strict = o.flag("caseSensitive")
    if mode == "tag":
        return swap({_key(tag, strict) for tag in o.tags("find")}, lambda _: replacement, strict)
    if mode == "plain":
        find = o.text("find", longest=5000)
        if not find:
            raise InvalidInput.field("find", "Give the text to look for.")
        plain = re.compile(re.escape(find), 0 if strict else re.IGNORECASE)

        def replace_plain(text: str, item: Item) -> tuple[str, int]:
            words = fill(replacement, item, text, o.trigger)
            return plain.subn(lambda _: words, text)

        return replace_plain
    pattern = compile_pattern(o.text("find", longest=10_000), case_sensitive=strict)
    replacement = _with_dollars(replacement)
    clock = _Clock()

    def replace_pattern(text: str, item: Item) -> tuple[str, int]:
        import regex

        words = _escaped_fill(replacement, item, text, o.trigger)
        try:
            after, places = clock.run(lambda seconds: pattern.subn(words, text, timeout=seconds), item)
        except (regex.error, IndexError) as exc:
            raise _bad_replacement(getattr(exc, "msg", None) or str(exc)) from exc
        return after, places

    _check_replacement(replacement, pattern)
    return replace_pattern


def _with_dollars(replacement: str) -> str:
    """Take $1, ${1} and ${name} for groups as well, and $$ for a dollar sign."""

    def group(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return f"\\g<{name}>" if name else "$"

    return re.sub(r"\$(?:\$|(\d{1,2})|\{(\w+)\})", group, replacement)


def _check_replacement(replacement: str, pattern: Any) -> None:
    """Tell of a group that the pattern does not have, also when nothing matches. Raises InvalidInput."""
    for match in re.finditer(r"\\(?:\\|([1-9]\d?)|g<([^>]*)>)", replacement):
        name = match[1] or match[2]
        if name is None:
            continue
        known = int(name) <= pattern.groups if name.isdecimal() else name in pattern.groupindex
        if not known:
            raise _bad_replacement(f"the pattern has no group {name}")


def _bad_replacement(why: str) -> InvalidInput:
    return InvalidInput.field(
        "replacement",
        f"The replacement cannot be used: {why}.",
        remedy="Name a group of the pattern as $1 or ${name}; write $$ for a dollar sign and \\\\ for a backslash.",
    )


def _escaped_fill(replacement: str, item: Item, text: str, trigger: str) -> str:
    """Fill the variables into a pattern's replacement so that their values are taken literally."""
    if "{" not in replacement:
        return replacement
    parts = re.split(r"(\{(?:trigger|tags|name|folder)\})", replacement)
    return "".join(
        fill(part, item, text, trigger).replace("\\", "\\\\") if n % 2 else part for n, part in enumerate(parts)
    )


def _key(tag: str, strict: bool) -> str:
    return " ".join(tag.split()) if strict else tag_key(tag)


def swap(keys: set[str], new: Callable[[str], str], strict: bool = False) -> Apply:
    """Replace whole tags; those that become empty go away with their comma."""

    def apply(text: str, item: Item) -> tuple[str, int]:
        places = 0
        parts: list[str] = []
        for part in text.split(","):
            bare = part.strip()
            if not bare or _key(bare, strict) not in keys:
                parts.append(part)
                continue
            words = new(bare)
            if words == bare:
                parts.append(part)
                continue
            places += 1
            if words.strip():
                lead = part[: len(part) - len(part.lstrip())]
                parts.append(lead + words.strip() + part[len(part.rstrip()) :])
        if not places:
            return text, 0
        after = ",".join(parts)
        return (after.strip() if text == text.strip() else after), places

    return apply
