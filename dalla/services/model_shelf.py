"""The model shelf: all weights with family, size, hash, licence, users and problems; the parts do the work.

`inventory` says what there is, `hashes`, `fit`, `trash`, `files`, `versions` and `resident` what can be done with it.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dalla import weights
from dalla.errors import DallaError, InvalidInput, NotFound
from dalla.jobs.base import TaskStore
from dalla.records.character import ScheduledTask
from dalla.records.family import FAMILIES
from dalla.records.shelf import FileFacts, Peak
from dalla.services.characters import Characters
from dalla.services.model_files import ModelFiles
from dalla.services.model_fit import Machine, ModelFit
from dalla.services.model_hashes import ModelHashes, autov2
from dalla.services.model_inventory import KINDS, Entry, Inventory
from dalla.services.model_resident import ModelResident
from dalla.services.model_trash import ModelTrash
from dalla.services.model_usage import ModelUsage, key
from dalla.services.model_versions import ModelVersions
from dalla.settings import Settings
from dalla.stores.base import DocumentStore, ShelfStore

logger = logging.getLogger(__name__)

MAX_NOTES, MAX_LICENSE = 5000, 300
#: What the texts of well-known licences begin with.
_LICENSES = (
    (r"Apache License\s+Version 2\.0", "Apache-2.0"),
    (r"MIT License|Permission is hereby granted, free of charge", "MIT"),
    (r"CreativeML Open RAIL\+\+-M", "CreativeML Open RAIL++-M"),
    (r"CreativeML Open ?RAIL-M", "CreativeML OpenRAIL-M"),
    (r"Stability AI Community License", "Stability AI Community License"),
    (r"FLUX\.1 \[dev\] Non-Commercial", "FLUX.1 [dev] Non-Commercial License"),
    (r"Redistribution and use in source and binary forms", "BSD"),
    (r"GNU AFFERO GENERAL PUBLIC LICENSE", "AGPL-3.0"),
    (r"GNU GENERAL PUBLIC LICENSE", "GPL"),
)
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---", re.S)


class ModelShelf:
    """What the web and the pages ask. One per app."""

    def __init__(
        self,
        settings: Settings,
        inventory: Inventory,
        store: ShelfStore,
        hashes: ModelHashes,
        fit: ModelFit,
        trash: ModelTrash,
        files: ModelFiles,
        versions: ModelVersions,
        resident: ModelResident,
        characters: Characters,
        schedule: DocumentStore[ScheduledTask],
        tasks: TaskStore,
        default: Callable[[], tuple[str, str] | None],
    ) -> None:
        self._settings = settings
        self.inventory = inventory
        self._store = store
        self.hashes = hashes
        self._fit = fit
        self._trash = trash
        self.files = files
        self.versions = versions
        self.resident = resident
        self._characters = characters
        self._schedule = schedule
        self._tasks = tasks
        self._default = default

    # ------------------------------------------------------------ reading

    def all(
        self, *, kind: str | None = None, source: str | None = None, q: str | None = None, used: bool | None = None,
        problems: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Return {items, counts, totalBytes, volumes, server}: what fits the filters, largest first."""
        entries = self.inventory.all()
        usage, facts, peaks = self.usage(), self._store.facts(), self._store.peaks()
        doubles = self._duplicates(entries, facts)
        machines = {name: self._fit.machine(name) for name in {entry.source for entry in entries}}
        pinned = self._pinned()
        rows = [self._row(e, usage, facts, doubles, machines, peaks, pinned) for e in entries]
        words = (q or "").lower().split()
        items = [
            row
            for row in rows
            if (kind is None or row["kind"] == kind)
            and (source is None or row["source"] == source)
            and (used is None or used == bool(row["usedBy"] or row["default"]))
            and (not problems or not row["loadable"] or row["duplicates"])
            and all(word in f"{row['name']} {row['label']} {row['family']} {row['sha256']} {row['notes']}".lower() for word in words)
        ]  # fmt: skip
        items.sort(key=lambda row: (-(row["sizeBytes"] or 0), row["name"]))
        return {
            "items": items,
            "counts": {name: sum(row["kind"] == name for row in rows) for name in KINDS},
            "kinds": KINDS,
            "total": len(rows),
            "unhashed": sum(row["sha256"] is None and row["hashable"] for row in rows),
            "totalBytes": sum(row["sizeBytes"] or 0 for row in rows if row["source"] == "local"),
            "volumes": self._volumes(rows),
            "server": "comfyui" in machines,
            "pickleWeights": bool(self._settings.pickle_weights),
        }

    def get(self, id: str) -> dict[str, Any]:
        """Return one with its metadata, files and fit at its native size. Raises NotFound."""
        entry = self.entry(id)
        facts = self._store.facts()
        entries = self.inventory.all()
        doubles = self._duplicates(entries, facts)
        machines = {entry.source: self._fit.machine(entry.source)}
        peaks = self._store.peaks()
        row = self._row(entry, self.usage(), facts, doubles, machines, peaks, self._pinned())
        names = {e.id: e.name for e in entries}
        row["duplicates"] = [{"id": other, "name": names[other]} for other in row["duplicates"]]
        row["files"] = [{"name": self._inside(entry, f), "sizeBytes": _size(f)} for f in entry.files[:200]]
        row["metadata"], row["tensors"], row["dtypes"] = self._inside_facts(entry)
        row["measured"] = [
            {"width": p.width, "height": p.height, "device": p.device, "precision": p.precision, "bytes": p.peak_bytes, "at": p.at}
            for p in peaks
            if p.model == entry.name and entry.kind == "model" and entry.source == "local"
        ]  # fmt: skip
        return row

    def entry(self, id: str) -> Entry:
        """Raises NotFound."""
        found = self.inventory.find(id)
        if found is None:
            raise NotFound(f"There is nothing on the shelf with the id '{id}'.")
        return found

    def usage(self) -> ModelUsage:
        return ModelUsage(self._characters, self._schedule, self._tasks, self._default, self._store.last_used())

    def fit(
        self, name: str, *, width: int | None = None, height: int | None = None, batch: int = 1,
        precision: str | None = None, source: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Say whether a model fits into memory (ModelFit.answer). Raises NotFound."""
        for where, look in (("local", self.inventory.local), ("comfyui", self.inventory.comfyui)):
            for entry in look() if source in (None, where) else []:
                if entry.kind == "model" and key(entry.name) == key(name):
                    return self._fit.answer(entry, width, height, batch, precision)
        off = self.inventory.server_off() if source != "local" else None
        raise NotFound(
            f"There is no model called '{name}' on the shelf." + (f" {off.reason}" if off else ""),
            remedy=off.remedy if off else None,
        )

    # ------------------------------------------------------------ writing

    def update(self, id: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Write licence and notes (None: what the file says counts again). Raises NotFound, InvalidInput, StorageError."""
        entry = self.entry(id)
        errors = [
            {"field": field, "message": f"At most {longest} characters."}
            for field, longest in (("license", MAX_LICENSE), ("notes", MAX_NOTES))
            if len(changes.get(field) or "") > longest
        ]
        if errors:
            raise InvalidInput("Some values are not acceptable.", errors=errors)
        values = {k: (v or "").strip() for k, v in changes.items() if k in ("license", "notes")}
        if "license" in values:
            values["license"] = values["license"] or None
        if values:
            self._store.save_facts(entry.id, **values)
        return self.get(id)

    def remove(self, ids: list[str], *, dry_run: bool = False, force: bool = False) -> list[dict[str, Any]]:
        """Move to the trash; `dry_run` only says what it affects. See ModelTrash.put for what it raises."""
        usage = self.usage()
        if dry_run:
            return self._trash.plan(ids, usage, force=force)
        for row in self._trash.plan(ids, usage, force=force):
            if not row["blocked"]:
                self.resident.drop(str(row["name"]))
        return self._trash.put(ids, usage, force=force)

    def restore(self, trash_ids: list[str]) -> list[dict[str, Any]]:
        """Bring back; return {name, kind} each. Raises NotFound, Conflict, StorageError."""
        return [self._trash.restore(id) for id in trash_ids]

    def trashed(self) -> list[dict[str, Any]]:
        return self._trash.all()

    def purge(self, trash_id: str) -> int:
        """Delete one of the trash for good; return the bytes. Raises NotFound, StorageError."""
        return self._trash.purge(trash_id)

    def housekeeping(self, days: float) -> None:
        """Empty the trash of what is older, and log what changed while nobody looked."""
        self._trash.housekeeping(days)
        self.versions.look()

    # ------------------------------------------------------------ inside

    def _row(
        self,
        entry: Entry,
        usage: ModelUsage,
        facts: dict[str, FileFacts],
        doubles: dict[str, list[str]],
        machines: dict[str, Machine],
        peaks: list[Peak],
        pinned: dict[tuple[str, str], list[str]],
    ) -> dict[str, Any]:
        sha256 = self.hashes.known(entry, facts)
        written = facts.get(entry.id)
        licence, licence_source = self._license(entry, written)
        family = FAMILIES.get(entry.family or "")
        return {
            "id": entry.id,
            "kind": entry.kind,
            "kindLabel": KINDS[entry.kind],
            "name": entry.name,
            "label": entry.label or entry.name,
            "family": entry.family,
            "familyLabel": family.label if family else entry.family,
            "familyNote": entry.family_note,
            "source": entry.source,
            "path": str(entry.path) if entry.path else None,
            "sizeBytes": entry.size_bytes,
            "modifiedAt": entry.modified_at,
            "sha256": sha256,
            "autoV2": autov2(sha256) if entry.path and entry.path.is_file() else None,
            "hashable": entry.path is not None,
            "license": licence,
            "licenseSource": licence_source,
            "notes": written.notes if written else "",
            "usedBy": usage.of(entry),
            "default": usage.is_default(entry),
            "loadable": entry.loadable,
            "reason": entry.reason,
            "remedy": entry.remedy,
            "note": entry.note,
            "bundled": entry.bundled,
            "convertible": entry.convertible,
            "removable": entry.source == "local",
            "duplicates": doubles.get(entry.id, []),
            "pinnedBy": pinned.get((entry.kind, key(entry.name)), []),
            "lastUsedAt": usage.last(entry),
            "fit": self._fit.brief(entry, machines[entry.source], peaks) if entry.kind == "model" else None,
        }

    def _duplicates(self, entries: list[Entry], facts: dict[str, FileFacts]) -> dict[str, list[str]]:
        """Return the other ids of the same bytes. One file seen locally and through the server is no duplicate."""
        table: dict[str, list[Entry]] = {}
        for entry in entries:
            if sha256 := self.hashes.known(entry, facts):
                table.setdefault(sha256, []).append(entry)
        found: dict[str, list[str]] = {}
        for same in table.values():
            for entry in same:
                others = [o.id for o in same if o.id != entry.id and _real(o) != _real(entry)]
                if others:
                    found[entry.id] = others
        return found

    def _pinned(self) -> dict[tuple[str, str], list[str]]:
        names = {character.id: character.name for character in self._characters.all()}
        found: dict[tuple[str, str], list[str]] = {}
        for id, pin in self._store.pins().items():
            if id in names:
                if pin.state.model:
                    found.setdefault(("model", key(pin.state.model.name)), []).append(names[id])
                for used in pin.state.loras:
                    found.setdefault(("lora", key(used.name)), []).append(names[id])
        return found

    def _license(self, entry: Entry, written: FileFacts | None) -> tuple[str | None, str | None]:
        """Return (licence, where that is said): a person's word, the file's metadata, a file or card beside it."""
        if written and written.license:
            return written.license, "person"
        if entry.path is None:
            return None, None
        if entry.path.suffix.lower() == ".safetensors" and entry.loadable:
            try:
                said = self.inventory.header(entry.path).metadata.get("modelspec.license", "").strip()
            except DallaError:
                said = ""
            if said:
                return said[:MAX_LICENSE], "metadata"
        return license_beside(entry.path)

    def _inside_facts(self, entry: Entry) -> tuple[dict[str, str], int | None, dict[str, int]]:
        if entry.path is None or entry.path.suffix.lower() != ".safetensors":
            return {}, None, {}
        try:
            header = self.inventory.header(entry.path)
        except DallaError:
            return {}, None, {}
        metadata = {k: v if len(v) <= 2000 else v[:2000] + " …" for k, v in sorted(header.metadata.items())[:200]}
        return metadata, len(header), _dtypes(header)

    @staticmethod
    def _inside(entry: Entry, file: Path) -> str:
        base = entry.path if entry.path and entry.path.is_dir() else file.parent
        return file.relative_to(base).as_posix() if base in file.parents else file.name

    def _volumes(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return free and used bytes of the disks the folders lie on."""
        found: dict[int, dict[str, Any]] = {}
        for label, folder in (("models", self._settings.models_dir), ("loras", self._settings.loras_dir)):
            try:
                device, usage = Path(folder).stat().st_dev, shutil.disk_usage(folder)
            except OSError:
                continue
            row = found.setdefault(device, {"folders": [], "usedBytes": 0, "freeBytes": usage.free, "totalBytes": usage.total})  # fmt: skip
            row["folders"].append(label)
            row["usedBytes"] += sum(
                r["sizeBytes"] or 0
                for r in rows
                if r["source"] == "local" and r["path"] and Path(folder) in Path(r["path"]).parents
            )
        return list(found.values())


def license_beside(path: Path) -> tuple[str | None, str | None]:
    """Return (licence, "card" | "file") from a card's front matter or the first line of a LICENSE file, else Nones."""
    folder = path if path.is_dir() else path.parent
    cards = [path / "README.md"] if path.is_dir() else [path.with_suffix(".md"), folder / "README.md"]
    for card in cards:
        if match := _FRONT_MATTER.match(_read(card)):
            for line in match[1].splitlines():
                name, _, value = line.partition(":")
                if name.strip() in ("license_name", "license") and value.strip() and value.strip() != "other":
                    return value.strip().strip("'\"")[:MAX_LICENSE], "card"
    names = [path.with_suffix(end) for end in (".LICENSE", ".license", ".LICENSE.txt", ".license.txt")] if path.is_file() else []  # fmt: skip
    names += [folder / name for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "License.txt", "license.txt")]
    for file in names:
        text = _read(file)
        if known := next((name for pattern, name in _LICENSES if re.search(pattern, text[:6000], re.I)), None):
            return known, "file"
        if first := next((line for line in (raw.strip(" #*\t") for raw in text.splitlines()) if line), None):
            return first[:MAX_LICENSE], "file"
    return None, None


def _read(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(20_000)
    except OSError:
        return ""


def _real(entry: Entry) -> Path | None:
    try:
        return entry.path.resolve() if entry.path else None
    except OSError:
        return entry.path


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _dtypes(header: weights.Header) -> dict[str, int]:
    """Return bytes by number format."""
    found: dict[str, int] = {}
    for info in header.values():
        found[info.dtype] = found.get(info.dtype, 0) + info.end - info.start
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
