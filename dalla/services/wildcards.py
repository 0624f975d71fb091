"""Prompts with choices: `{red|green|blue}` and `__colour__`, a line of `data/wildcards/colour.txt`.

Braces nest, options may be weighted (`{3::often|rarely}`) and empty; braces without `|` are text, as
is what follows a backslash. The same text and seed always give the same result as long as the files
stay the same. Files are plain text: one option per line, `#` begins a comment line.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dalla.errors import InvalidInput, NotFound, StorageError
from dalla.paths import write_atomic

MAX_DEPTH = 12
MAX_USES = 500
MAX_LENGTH = 20_000  # characters of an expanded prompt
MAX_BYTES = 1_000_000
MAX_OPTIONS = 20_000

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?\Z")
_USE = re.compile(r"__([A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}?[A-Za-z0-9])??)__")
_ESCAPE = re.compile(r"\\([{}|])")
_WEIGHT = re.compile(r"\s*(\d+(?:\.\d+)?)::")


class Wildcards:
    """The files of options and the texts that use them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    # ------------------------------------------------------------ files

    def all(self) -> list[dict[str, Any]]:
        """Return [{"name", "count", "text"}] by name."""
        return [self.get(path.stem) for path in sorted(self._folder.glob("*.txt")) if _NAME.match(path.stem)]

    def get(self, name: str) -> dict[str, Any]:
        """Raises NotFound, InvalidInput for a name that cannot be one."""
        text = self._read(check_name(name))
        return {"name": name, "count": len(options(text)), "text": text}

    def save(self, name: str, text: str) -> dict[str, Any]:
        """Write a file. Raises InvalidInput, StorageError."""
        check_name(name)
        text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n") + "\n"
        found = options(text)
        if not found:
            raise InvalidInput.field("options", "Give at least one option, one per line.")
        if len(text.encode()) > MAX_BYTES or len(found) > MAX_OPTIONS:
            raise InvalidInput.field("options", f"At most {MAX_OPTIONS} options and {MAX_BYTES // 1_000_000} MB.")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._folder / f"{name}.txt", text.encode())
        except OSError as exc:
            raise StorageError.from_os(exc, f"the wildcard '{name}'") from exc
        return {"name": name, "count": len(found), "text": text}

    def delete(self, name: str) -> None:
        """Raises NotFound, StorageError."""
        try:
            (self._folder / f"{check_name(name)}.txt").unlink()
        except FileNotFoundError:
            raise NotFound(f"There is no wildcard called '{name}'.") from None
        except OSError as exc:
            raise StorageError.from_os(exc, f"the wildcard '{name}'") from exc

    def missing(self, text: str) -> list[str]:
        """Return the names a text uses that have no file."""
        names = dict.fromkeys(_USE.findall(text))
        return [name for name in names if not (self._folder / f"{name}.txt").is_file()]

    def _read(self, name: str) -> str:
        try:
            with open(self._folder / f"{name}.txt", "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise NotFound(f"There is no wildcard called '{name}'.") from None
        except OSError as exc:
            raise StorageError(f"The wildcard '{name}' cannot be read: {exc.strerror or exc}.") from exc
        return data.decode("utf-8-sig", "replace")

    # ------------------------------------------------------------ expanding

    def expand(self, text: str, seed: int | str) -> str:
        """Choose one option everywhere. Raises InvalidInput for a missing or empty file, or endless nesting."""
        return self._expand(text, random.Random(str(seed)), 0, iter(range(MAX_USES)))

    def _expand(self, text: str, rng: random.Random, depth: int, budget: Iterator[int]) -> str:
        if depth > MAX_DEPTH:
            raise InvalidInput.field("prompt", "The wildcards refer to each other without end.")
        text = _braces(text, rng)

        def line(match: re.Match[str]) -> str:
            name = match[1]
            if next(budget, None) is None:
                raise InvalidInput.field("prompt", f"The prompt uses more than {MAX_USES} wildcards.")
            try:
                choices = options(self._read(name))
            except NotFound:
                raise InvalidInput.field(
                    "prompt",
                    f"The prompt uses __{name}__, but there is no wildcard file '{name}.txt'.",
                    remedy="Add it on the Prompts page, or write the prompt without it.",
                ) from None
            if not choices:
                raise InvalidInput.field("prompt", f"The wildcard file '{name}.txt' has no options.")
            return self._expand(_choose(choices, rng), rng, depth + 1, budget)

        result = _USE.sub(line, text)
        if len(result) > MAX_LENGTH:
            raise InvalidInput.field("prompt", f"With its wildcards the prompt has more than {MAX_LENGTH} characters.")
        return result if depth else _tidy(_ESCAPE.sub(r"\1", result))


def check_name(name: str) -> str:
    """Return the name of a wildcard unchanged. Raises InvalidInput."""
    if not _NAME.match(name) or "__" in name:
        raise InvalidInput.field("name", "Use letters, digits, '-' and single '_', at most 64 of them.")
    return name


def options(text: str) -> list[str]:
    """Return the options of a file: lines without the empty ones and those that begin with '#'."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _choose(choices: list[str], rng: random.Random) -> str:
    weights, texts = [], []
    for choice in choices:
        weight = _WEIGHT.match(choice)
        weights.append(min(float(weight[1]), 1e6) if weight else 1.0)
        texts.append(choice[weight.end() :] if weight else choice)
    if not any(weights):
        weights = [1.0] * len(texts)
    return rng.choices(texts, weights)[0]


def _braces(text: str, rng: random.Random, depth: int = 0) -> str:
    """Replace every `{a|b}`; outermost groups choose first, so what is not chosen costs nothing."""
    if depth > MAX_DEPTH:
        raise InvalidInput.field("prompt", f"Braces nest at most {MAX_DEPTH} deep.")
    ends = _pairs(text)
    out: list[str] = []
    place = 0
    while place < len(text):
        char = text[place]
        if char == "\\" and text[place + 1 : place + 2] in ("{", "}", "|"):
            out.append(text[place : place + 2])  # taken off at the very end
            place += 2
        elif place in ends:
            inner = text[place + 1 : ends[place]]
            parts = _parts(inner)
            if len(parts) > 1:
                out.append(_braces(_choose(parts, rng).strip(), rng, depth + 1))
            else:
                out.append("{" + _braces(inner, rng, depth + 1) + "}")
            place = ends[place] + 1
        else:
            out.append(char)
            place += 1
    return "".join(out)


def _pairs(text: str) -> dict[int, int]:
    """Return the place of the closing brace for each opening one that has one."""
    ends: dict[int, int] = {}
    open_ones: list[int] = []
    for place, char in _unescaped(text):
        if char == "{":
            open_ones.append(place)
        elif char == "}" and open_ones:
            ends[open_ones.pop()] = place
    return ends


def _parts(inner: str) -> list[str]:
    """Cut the inside of a group at its own `|`, not at those of groups within."""
    cuts, depth = [-1], 0
    for place, char in _unescaped(inner):
        depth += (char == "{") - (char == "}")
        if char == "|" and depth == 0:
            cuts.append(place)
    return [inner[a + 1 : b] for a, b in zip(cuts, [*cuts[1:], len(inner)], strict=True)]


def _unescaped(text: str) -> Iterator[tuple[int, str]]:
    place = 0
    while place < len(text):
        if text[place] == "\\" and text[place + 1 : place + 2] in ("{", "}", "|"):
            place += 2
            continue
        yield place, text[place]
        place += 1


def _tidy(text: str) -> str:
    """Remove the doubled spaces and commas that empty options leave."""
    text = re.sub(r"[ \t]{2,}", " ", text)
    return re.sub(r"(?:[ \t]*,){2,}", ",", text).strip(" ,")
