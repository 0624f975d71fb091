"""Who uses a model or LoRA: characters, scheduled tasks, work that waits or runs, the default of the engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dalla.jobs.base import TaskStore
from dalla.records.character import ScheduledTask
from dalla.records.job import ACTIVE, Job
from dalla.services.characters import Characters
from dalla.services.model_inventory import Entry
from dalla.stores.base import DocumentStore


class ModelUsage:
    """One look at everything that names weights; make a new one for each answer."""

    def __init__(
        self,
        characters: Characters,
        schedule: DocumentStore[ScheduledTask],
        tasks: TaskStore,
        default: Callable[[], tuple[str, str] | None],
        last_used: tuple[dict[str, str], dict[str, str]] = ({}, {}),
    ) -> None:
        """`default` answers (engine, model) that is drawn with when nobody says otherwise; `last_used` is of the store."""
        self._default = default()
        self._last_model, self._last_lora = ({key(name): at for name, at in table.items()} for table in last_used)
        self._models: dict[str, list[dict[str, Any]]] = {}
        self._loras: dict[str, list[dict[str, Any]]] = {}
        for character in characters.all():
            who = {"type": "character", "id": character.id, "name": character.name}
            if character.preferred_model:
                self._models.setdefault(key(character.preferred_model), []).append(who)
            for use in character.loras:
                self._loras.setdefault(key(use.name), []).append({**who, "strength": use.strength})
        for task in schedule.all():
            name = str(getattr(task, "name", None) or (task.model_extra or {}).get("name") or task.type)
            who = {"type": "task", "id": task.id, "name": name}
            if isinstance(task.config.get("model"), str) and task.config["model"]:
                self._models.setdefault(key(task.config["model"]), []).append(who)
            for use in task.config.get("loras") or []:
                lora = use.get("name") if isinstance(use, dict) else use
                if isinstance(lora, str):
                    self._loras.setdefault(key(lora), []).append(who)
        self._working = [(job, set(_texts(job.payload))) for job in active_jobs(tasks)]

    def of(self, entry: Entry) -> list[dict[str, Any]]:
        """Return who uses it: {type: "character" | "task" | "run", id, name}."""
        table = self._loras if entry.kind == "lora" else self._models if entry.kind == "model" else {}
        users = [*table.get(key(entry.name), [])]
        users += [{"type": "run", "id": job.id, "name": job.title or job.kind} for job in self.running(entry)]
        return users

    def running(self, entry: Entry) -> list[Job]:
        """Return the work that waits or runs and names it."""
        names = {entry.name, entry.name.removesuffix(".safetensors")}
        if entry.path is not None:
            names.add(str(entry.path))
            if entry.kind not in ("model", "lora"):
                names |= {entry.path.name, entry.path.stem}
        if entry.kind == "lora":
            names.add(f"{entry.name}.safetensors")
        return [job for job, texts in self._working if texts & names]

    def last(self, entry: Entry) -> str | None:
        """Return when the newest picture was drawn with it."""
        table = self._last_lora if entry.kind == "lora" else self._last_model if entry.kind == "model" else {}
        return table.get(key(entry.name))

    def is_default(self, entry: Entry) -> bool:
        if self._default is None or entry.kind != "model":
            return False
        engine = "comfyui" if entry.source == "comfyui" else "builtin"
        return self._default == (engine, entry.name)


def key(name: str) -> str:
    """Return a name as it is compared: separators and the ending differ between systems."""
    return name.replace("\\", "/").removesuffix(".safetensors")


def active_jobs(tasks: TaskStore) -> Iterator[Job]:
    """Every job that waits, runs or is paused."""
    cursor = None
    while True:
        jobs, cursor, _ = tasks.page(statuses=sorted(ACTIVE), limit=200, cursor=cursor)
        yield from jobs
        if cursor is None:
            return


def _texts(value: Any) -> Iterator[str]:
    """Every text in a payload."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
