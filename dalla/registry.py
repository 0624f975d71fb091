"""Adapters by name, imported on first use, so that start-up stays light."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dalla.errors import NotFound, Unavailable


class Registry:
    """A table of `name -> "package.module:Attribute"`.

    A new adapter is one file and one line in such a table. Nothing is imported before `load`.
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self.entries = dict(entries)

    def names(self) -> list[str]:
        return list(self.entries)

    def load(self, name: str) -> Any:
        """Import and return the attribute. Raises NotFound or Unavailable (a library is missing)."""
        if name not in self.entries:
            raise NotFound(f"There is no {self.kind} called '{name}'. Known: {', '.join(self.entries)}.")
        module_name, _, attribute = self.entries[name].partition(":")
        try:
            module = import_module(module_name)
        except ModuleNotFoundError as exc:
            if exc.name and exc.name.split(".")[0] == "dalla":
                raise
            raise Unavailable(
                f"The {self.kind} '{name}' needs the Python package '{exc.name}', which is not installed.",
                remedy="Run 'make install' (or pip install -r requirements.txt).",
            ) from exc
        return getattr(module, attribute)
