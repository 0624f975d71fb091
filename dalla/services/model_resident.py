"""Which models lie in memory now, how much they take and since when nobody used them; giving the memory back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from dalla.errors import Conflict, DallaError, NotFound, Unavailable

logger = logging.getLogger(__name__)


class Holder(Protocol):
    """Something with a child process that keeps a model."""

    def resident(self) -> list[dict[str, Any]]:
        """Return {name, memoryBytes, lastUsedAt, pid, device, precision, busy} per child that is alive."""

    def release(self) -> None:
        """End the child when it is idle."""


class ModelResident:
    """Asks the image engines and the children of captioners and upscalers."""

    def __init__(self, engines: Any, holders: Callable[[], list[tuple[str, str, Holder]]]) -> None:
        """`holders` answers (key, label, holder) of what has been started."""
        self._engines = engines
        self._holders = holders

    def all(self) -> dict[str, Any]:
        """Return {items, totalBytes}: {name, engine, label, memoryBytes, lastUsedAt, pid, …} each. Never raises."""
        items: list[dict[str, Any]] = []
        for engine in self._engines.all():
            resident = getattr(engine, "resident", None)
            if resident is not None:
                items += [{"engine": engine.name, "label": engine.label, **row} for row in resident()]
        for name, label, holder in self._holders():
            items += [{"engine": name, "label": label, **row} for row in holder.resident()]
        return {"items": items, "totalBytes": sum(row.get("memoryBytes") or 0 for row in items if row.get("pid"))}

    def free(self, engine: str | None = None) -> list[str]:
        """Give memory back: of one engine, or (None) of all that are idle. Return the engines that were asked.

        Raises NotFound (no such engine), Conflict (it is at work), Unavailable (ComfyUI does not answer).
        """
        freed: list[str] = []
        for one in self._engines.all():
            if engine in (None, one.name):
                release = getattr(one, "release", None)
                if release is None:
                    continue
                if any(row.get("busy") for row in one.resident()):
                    if engine is not None:
                        raise Conflict(f"{one.label} is drawing.", remedy="Wait for it, or cancel the picture.")
                    continue
                if release():
                    freed.append(one.name)
                elif engine is not None and one.name == "comfyui":
                    status = one.status(fresh=True)
                    raise Unavailable(
                        status.reason or "ComfyUI did not take the request for its memory.",
                        remedy=status.remedy or "Look at ComfyUI's log and try again.",
                    )
        for name, label, holder in self._holders():
            if engine in (None, name):
                rows = holder.resident()
                if any(row.get("busy") for row in rows):
                    if engine is not None:
                        raise Conflict(f"{label} is at work.", remedy="Wait for it, or cancel the task.")
                    continue
                if rows:
                    holder.release()
                    freed.append(name)
        if engine is not None and not freed and engine not in self._names():
            raise NotFound(f"There is no engine called '{engine}'.")
        return freed

    def drop(self, name: str) -> None:
        """Let go of a model before its file is moved away (Windows keeps open files in place). Never raises."""
        for row in self.all()["items"]:
            if row["name"] == name:
                try:
                    self.free(row["engine"])
                except DallaError as exc:
                    logger.info("%s stays in memory while its file is moved: %s", name, exc.detail)

    def _names(self) -> set[str]:
        return {e.name for e in self._engines.all()} | {name for name, _, _ in self._holders()}
