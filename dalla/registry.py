"""Adapters by name, imported on first use, so that start-up stays light."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any, Generic, TypeVar

from dalla.errors import NotFound, Unavailable

T = TypeVar("T")


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


class BuiltOnce(Generic[T]):
    """The adapters of a registry, each built with the same arguments when it is first asked for."""

    def __init__(self, registry: Registry, *arguments: Any) -> None:
        self._registry = registry
        self._arguments = arguments
        self._built: dict[str, T] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        return self._registry.names()

    def get(self, name: str) -> T:
        """Raises NotFound, Unavailable (a library is missing)."""
        with self._lock:
            if name not in self._built:
                self._built[name] = self._build(name)
            return self._built[name]

    def built(self) -> list[T]:
        """Return those that were asked for so far."""
        return list(self._built.values())

    def close(self) -> None:
        for adapter in self.built():
            adapter.close()  # type: ignore[attr-defined]

    def _build(self, name: str) -> T:
        made: T = self._registry.load(name)(*self._arguments)
        return made
