"""Weights in the trash: moved within their own disk, so that gigabytes go at once and come back the same way.

LoRAs go through the LoRA shelf, which takes them off their characters and puts them back with an undo.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dalla.errors import Conflict, DallaError, InvalidInput, NotFound
from dalla.events import EventBus
from dalla.services.file_trash import FileTrash
from dalla.services.lora_shelf import LoraShelf
from dalla.services.model_inventory import Entry, Inventory
from dalla.services.model_usage import ModelUsage
from dalla.settings import Settings

#: A trash beside the models where the data folder is on another disk. The scans skip names that begin with a dot.
BESIDE = ".trash"


class ModelTrash:
    """Removes from the shelf and brings back."""

    def __init__(
        self, settings: Settings, inventory: Inventory, loras: LoraShelf, lora_trash: FileTrash, events: EventBus
    ) -> None:
        self._settings = settings
        self._inventory = inventory
        self._loras = loras
        self._lora_trash = lora_trash
        self._events = events
        self._here = FileTrash(Path(settings.data_dir), "models", lambda: Path(settings.models_dir))
        self._beside = FileTrash(Path(settings.models_dir) / BESIDE, "models", lambda: Path(settings.models_dir))

    def plan(self, ids: list[str], usage: ModelUsage, *, force: bool) -> list[dict[str, Any]]:
        """Say what a removal affects: {id, name, kind, sizeBytes, usedBy, warnings, blocked: reason | null}."""
        there = {entry.id: entry for entry in self._inventory.all()}
        rows = []
        for id in dict.fromkeys(ids):
            entry = there.get(id)
            if entry is None:
                raise InvalidInput.field("ids", f"There is nothing on the shelf with the id '{id}'.")
            warnings, users = [], usage.of(entry)
            if entry.bundled:
                warnings.append(
                    "It comes with the app. Without the starter model nothing can be drawn until another is put here."
                    if entry.kind == "model"
                    else "It comes with the app. Without it faces are not found."
                )
            if usage.is_default(entry):
                warnings.append("It is what is drawn with when nobody chooses a model.")
            if entry.kind == "model" and any(u["type"] in ("character", "task") for u in users):
                warnings.append("Those who use it keep its name and cannot draw until it is back.")
            rows.append(
                {
                    "id": id,
                    "name": entry.name,
                    "kind": entry.kind,
                    "sizeBytes": entry.size_bytes,
                    "usedBy": users,
                    "warnings": warnings,
                    "blocked": self._blocked(entry, usage, force),
                }
            )
        return rows

    def _blocked(self, entry: Entry, usage: ModelUsage, force: bool) -> str | None:
        if entry.source != "local" or entry.path is None:
            return "It lies on the ComfyUI server; remove it there."
        if working := usage.running(entry):
            return f"It is in use: {working[0].title or working[0].kind}."
        if entry.bundled and not force:
            return "It comes with the app and is removed only when that is confirmed."
        return None

    def put(self, ids: list[str], usage: ModelUsage, *, force: bool = False) -> list[dict[str, Any]]:
        """Move to the trash; return the rows of `plan` with trashId. All or nothing.

        Raises InvalidInput (unknown), Conflict (in use, on the server, comes with the app without `force`), StorageError.
        """
        rows = self.plan(ids, usage, force=force)
        if bad := next((row for row in rows if row["blocked"]), None):
            raise Conflict(
                f"'{bad['name']}' cannot be removed. {bad['blocked']}",
                remedy="Send force: true to remove it all the same." if "confirmed" in bad["blocked"] else "Wait for it, or stop it first." if "in use" in bad["blocked"] else None,
            )  # fmt: skip
        there = {entry.id: entry for entry in self._inventory.local()}
        done: list[str] = []
        try:
            for row in rows:
                row["trashId"] = self._one(there[row["id"]])
                done.append(row["trashId"])
        except DallaError:
            for id in reversed(done):
                self.restore(id)
            raise
        self._events.publish("shelf.updated", {"ids": [row["id"] for row in rows]})
        return rows

    def _one(self, entry: Entry) -> str:
        assert entry.path is not None
        if entry.kind == "lora" and self._is_ours(entry):
            return str(self._loras.delete(entry.name)["trashId"])
        facts = {"kind": entry.kind, "id": entry.id, "sizeBytes": entry.size_bytes}
        return self._for(entry.path).put(entry.name, [entry.path], facts)

    def _is_ours(self, entry: Entry) -> bool:
        """Whether the LoRA shelf knows it (a pickle or a misplaced file it does not)."""
        return self._loras.exists(entry.name) and entry.path is not None and entry.path.suffix == ".safetensors"

    def _for(self, path: Path) -> FileTrash:
        """The trash on the same disk: a move there is a rename."""
        data = Path(self._settings.data_dir)
        try:
            same = os.stat(path).st_dev == os.stat(data).st_dev
        except OSError:
            same = True
        return self._here if same else self._beside

    def restore(self, trash_id: str) -> dict[str, Any]:
        """Bring back; return {name, kind}. Raises NotFound, Conflict (there is a new one), StorageError."""
        for trash in (self._here, self._beside):
            try:
                back = trash.restore(trash_id)
            except NotFound:
                continue
            self._events.publish("shelf.updated", {"ids": [back["facts"].get("id")]})
            return {"name": back["name"], "kind": back["facts"].get("kind", "other")}
        lora = self._loras.restore(trash_id)
        self._events.publish("shelf.updated", {"ids": []})
        return {"name": lora["name"], "kind": "lora"}

    def all(self) -> list[dict[str, Any]]:
        """Return what can be brought back, newest first: {id, name, kind, sizeBytes, deletedAt}."""
        rows = [
            {**row, "kind": row.pop("facts", {}).get("kind", "other")}
            for trash in (self._here, self._beside)
            for row in trash.all(full=True)
        ]
        rows += [{**row, "kind": "lora"} for row in self._lora_trash.all(full=True)]
        for row in rows:
            row.pop("facts", None)
        return sorted(rows, key=lambda row: row["deletedAt"], reverse=True)

    def purge(self, trash_id: str) -> int:
        """Delete one for good; return the bytes. Raises NotFound, StorageError."""
        for trash in (self._here, self._beside, self._lora_trash):
            try:
                return trash.remove(trash_id)
            except NotFound:
                continue
        raise NotFound.of("deleted file", trash_id)

    def housekeeping(self, days: float) -> int:
        """Delete for good what was removed more than `days` ago; return how many."""
        return self._here.purge(days) + self._beside.purge(days)
