"""The LoRAs in `loras/`: what each is, who uses it, what people write about it, trash and undo.

The truth is the files: `<name>.safetensors` and, beside it, `<name>.json` (LoraCard). Both may be put there by
hand. A name is never used twice for different weights, because ComfyUI does not read a replaced file again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from pydantic import ValidationError

from dalla.errors import Conflict, DallaError, InvalidInput, NotFound, StorageError
from dalla.events import EventBus
from dalla.paths import fsync_folder, safe_name, write_atomic
from dalla.records.character import Character, LoraUse
from dalla.records.family import FAMILIES
from dalla.records.image import LoraInfo
from dalla.records.lora import LoraCard
from dalla.services.characters import Characters
from dalla.services.file_trash import FileTrash
from dalla.services.training_sets import plain_name
from dalla.settings import Settings
from dalla.times import iso, now_iso

logger = logging.getLogger(__name__)

MAX_TEXT = 5000
MAX_TAGS = 50


class LocalFiles(Protocol):
    """What lies in `models/` and `loras/` (engines/images/local_models.py)."""

    def models(self) -> dict[str, Any]:
        """Return {name: model with .info (ModelInfo) and .path}."""

    def loras(self) -> dict[str, tuple[LoraInfo, Path, str]]:
        """Return {name: (info, path, stamp)}."""


class LoraShelf:
    """All LoRAs of this installation."""

    def __init__(
        self, settings: Settings, files: LocalFiles, characters: Characters, events: EventBus, trash: FileTrash
    ) -> None:
        self._settings = settings
        self._files = files
        self._characters = characters
        self._events = events
        self._trash = trash
        self._lock = threading.Lock()

    @property
    def root(self) -> Path:
        return Path(self._settings.loras_dir)

    # ------------------------------------------------------------ reading

    def all(self) -> list[dict[str, Any]]:
        """Return every LoRA, newest first."""
        users = self._users()
        rows = [self._public(info, path, users) for info, path, _ in self._files.loras().values()]
        return sorted(rows, key=lambda row: (row["createdAt"] or "", row["name"]), reverse=True)

    def get(self, name: str) -> dict[str, Any]:
        """Return one LoRA with what its file says about itself. Raises NotFound."""
        info, path = self._find(name)
        from dalla import weights

        answer = self._public(info, path, self._users())
        answer["card"] = self.card(name).to_json(exclude_unset=True)
        answer["metadata"] = {}
        with contextlib.suppress(DallaError):
            header = weights.read_header(path)
            answer["metadata"] = {k: v if len(v) <= 2000 else v[:2000] + " …" for k, v in header.metadata.items()}
            answer["format"] = weights.lora_format(header)
            answer["triggerWord"] = answer["triggerWord"] or weights.lora_trigger_word(header)
        return answer

    def path(self, name: str) -> Path:
        """Return the file. Raises NotFound."""
        return self._find(name)[1]

    def download(self, name: str, form: str | None = None) -> tuple[str, Path | list[bytes]]:
        """Return the name to download a LoRA under, and its file; for another `form` (lora_forms.FORMS) than it has,
        the pieces of the converted file. Raises NotFound, and what `lora_forms.convert` raises.
        """
        from dalla import lora_forms, weights

        info, path = self._find(name)
        if form is None or lora_forms.form_of(weights.read_header(path)) == form:
            return path.name, path
        return f"{path.stem}-{form}.safetensors", lora_forms.convert(path, form, family=info.family)

    def card(self, name: str) -> LoraCard:
        """Return what stands beside the LoRA; empty when there is nothing."""
        return _read_card(self.path(name).with_suffix(".json"))

    def exists(self, name: str) -> bool:
        return self._taken(name, {p.name.lower() for p in self._entries()})

    def of_character(self, character_id: str) -> dict[str, str]:
        """Return the LoRAs that were trained for this character: {name: trigger word, "" without one}."""
        found = {}
        for _, path, _ in self._files.loras().values():
            card = _read_card(path.with_suffix(".json"))
            if card.character_id == character_id:
                found[path.stem] = (card.trigger_word or "").strip()
        return found

    def users(self, name: str) -> list[dict[str, Any]]:
        """Return the characters that use it: {id, name, strength}."""
        return self._users().get(name, [])

    def free_name(self, wish: str, taken: set[str] | None = None) -> str:
        """Return a name like the wish that no LoRA has and nothing in `taken` reserves."""
        plain = plain_name(wish, "lora")[:80]
        used = {p.name.lower() for p in self._entries()} | {f"{t.lower()}.safetensors" for t in taken or ()}
        name, n = plain, 2
        while self._taken(name, used):
            name, n = f"{plain}-{n}", n + 1
        return name

    # ------------------------------------------------------------ writing

    def update(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Change what stands beside a LoRA (snake_case fields of LoraCard). Raises NotFound, InvalidInput, StorageError."""
        path = self.path(name)
        errors = []
        for field, longest in (("trigger_word", 100), ("description", MAX_TEXT)):
            if len(changes.get(field) or "") > longest:
                errors.append({"field": _camel(field), "message": f"At most {longest} characters."})
        if changes.get("family") is not None and changes["family"] not in FAMILIES:
            errors.append({"field": "family", "message": f"Use one of {', '.join(FAMILIES)}."})
        if changes.get("strength") is not None and not -10 <= changes["strength"] <= 10:
            errors.append({"field": "strength", "message": "Use a strength between -10 and 10."})
        tags = changes.get("tags")
        if tags is not None and (len(tags) > MAX_TAGS or any(not t.strip() or len(t) > 100 for t in tags)):
            errors.append({"field": "tags", "message": f"At most {MAX_TAGS} tags of 1 to 100 characters."})
        if errors:
            raise InvalidInput("Some values are not acceptable.", errors=errors)
        values = {k: [] if k == "tags" and v is None else v for k, v in changes.items()}
        with self._lock:
            self._change_card(path.with_suffix(".json"), values)
        self._tell(name)
        return self.get(name)

    def add_copy(self, source: Path, wish: str, card: LoraCard, *, trained: bool = False) -> str:
        """Put a copy of a LoRA file on the shelf under a fresh name; return it. Whole or not at all.

        `trained` here: it takes the new name as its own, and what it says of how it was made joins the card.
        Raises InvalidInput when the file is no LoRA, StorageError.
        """
        from dalla import lora_texts, weights

        header = weights.read_header(source, name=f"{source.stem}.safetensors")  # an upload has another ending
        if weights.lora_format(header) is None:
            raise InvalidInput(f"{source.name} holds no LoRA weights.")
        temp = self.root / f".{secrets.token_hex(8)}.tmp"
        with self._lock:
            name = self.free_name(wish)
            target = self.root / f"{name}.safetensors"
            try:
                pieces = lora_texts.named(source, name) if trained else None
                with open(source, "rb") as old, open(temp, "xb") as new:
                    if pieces is None:
                        shutil.copyfileobj(old, new, 1 << 20)
                    else:
                        new.writelines(pieces)
                    new.flush()
                    os.fsync(new.fileno())
                card = card.with_(name=name, created_at=now_iso(), sha256=weights.file_sha256(temp))
                notes = lora_texts.notes(header) if trained else {}
                self._write_card(target.with_suffix(".json"), notes | card.to_json(exclude_unset=True))
                os.replace(temp, target)
                fsync_folder(self.root)
            except OSError as exc:
                with contextlib.suppress(OSError):
                    temp.unlink(missing_ok=True)
                    if not target.exists():
                        target.with_suffix(".json").unlink(missing_ok=True)
                raise StorageError.from_os(exc, "the LoRA") from exc
        self._tell(name)
        return name

    def complete_card(self, name: str, **facts: Any) -> None:
        """Add what the dashboard knows (task, character …) to a card; what stands there already stays."""
        path = self.path(name).with_suffix(".json")
        with self._lock:
            card = _read_card(path)
            facts["name"] = name
            missing = {k: v for k, v in facts.items() if v is not None and getattr(card, k) in (None, "")}
            if missing:
                self._change_card(path, missing)
        self._tell(name)

    def delete(self, name: str) -> dict[str, Any]:
        """Move a LoRA to the trash and take it off the characters; return {"trashId", "usedBy"} for undo."""
        path = self.path(name)
        users = self.users(name)
        for user in users:
            self._take_off(user["id"], name)
        beside = path.with_suffix(".json")
        try:
            id = self._trash.put(name, [path, *([beside] if beside.is_file() else [])], {"users": users})
        except StorageError:
            for user in users:
                self._put_on(user["id"], name, user["strength"])
            raise
        self._tell(name)
        return {"trashId": id, "usedBy": users}

    def restore(self, trash_id: str) -> dict[str, Any]:
        """Undo a delete: the file, and the characters that used it. Raises NotFound, Conflict, StorageError."""
        back = self._trash.restore(trash_id)
        for user in back["facts"].get("users", []):
            self._put_on(user["id"], back["name"], user.get("strength", 1.0))
        self._tell(back["name"])
        return self.get(back["name"])

    def trashed(self) -> list[dict[str, Any]]:
        """Return what can be restored: {id, name, deletedAt}."""
        return self._trash.all()

    # ------------------------------------------------------------ inside

    def _find(self, name: str) -> tuple[LoraInfo, Path]:
        found = self._files.loras().get(name.removesuffix(".safetensors"))
        if found is None:
            raise NotFound(f"There is no LoRA called '{name}'.")
        return found[0], found[1]

    def _public(self, info: LoraInfo, path: Path, users: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
        card = _read_card(path.with_suffix(".json"))
        created = card.created_at
        if created is None:
            with contextlib.suppress(OSError):
                created = iso(datetime.fromtimestamp(path.stat().st_mtime, UTC))
        return {
            "name": info.name,
            "family": info.family,
            "familyLabel": FAMILIES[info.family].label if info.family in FAMILIES else info.family,
            "baseModel": card.base_model,
            "triggerWord": card.trigger_word,
            "description": card.description,
            "tags": card.tags,
            "strength": card.strength,
            "sizeBytes": info.size_bytes,
            "createdAt": created,
            "characterId": card.character_id,
            "taskId": card.task_id,
            "step": card.step,
            "note": info.note,
            "usedBy": users.get(info.name, []),
            "fileUrl": f"/api/loras/{quote(info.name, safe='')}/file",
        }

    def _users(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for character in self._characters.all():
            for use in character.loras:
                row = {"id": character.id, "name": character.name, "strength": use.strength}
                found.setdefault(use.name.removesuffix(".safetensors"), []).append(row)
        return found

    def _take_off(self, character_id: str, name: str) -> None:
        character = self._characters.get(character_id)
        left = [use for use in character.loras if use.name.removesuffix(".safetensors") != name]
        self._characters.update(character_id, {"loras": left})

    def _put_on(self, character_id: str, name: str, strength: float) -> None:
        with contextlib.suppress(NotFound):  # the character is gone meanwhile
            character: Character = self._characters.get(character_id)
            if all(use.name.removesuffix(".safetensors") != name for use in character.loras):
                self._characters.update(
                    character_id, {"loras": [*character.loras, LoraUse(name=name, strength=strength)]}
                )

    def _entries(self) -> list[Path]:
        try:
            return list(self.root.iterdir())
        except OSError:
            return []

    @staticmethod
    def _taken(name: str, used: set[str]) -> bool:
        return bool(used & {f"{name.lower()}.safetensors", f"{name.lower()}.json"})

    def _change_card(self, path: Path, changes: dict[str, Any]) -> None:
        """Set fields (snake_case) in a card; everything else in the file stays as it is."""
        raw = _read_raw(path)
        if raw is None:
            raise Conflict(
                f"{path.name} beside the LoRA cannot be read, so it is not overwritten.",
                remedy="Correct the file (it must hold one JSON object) or move it away.",
            )
        self._write_card(path, {**raw, **{_camel(key): value for key, value in changes.items()}})

    @staticmethod
    def _write_card(path: Path, values: dict[str, Any]) -> None:
        try:
            write_atomic(path, json.dumps(values, indent=2, ensure_ascii=False).encode() + b"\n")
        except OSError as exc:
            raise StorageError.from_os(exc, "the notes on the LoRA") from exc

    def _tell(self, name: str) -> None:
        self._events.publish("lora.updated", {"name": name})


def check_new_name(shelf: LoraShelf, name: str, taken: set[str]) -> str:
    """Return a name that somebody chose for a new LoRA. Raises InvalidInput, Conflict when there is one."""
    safe_name(name)
    if len(name) > 100:
        raise InvalidInput.field("name", "The name of a LoRA may have at most 100 characters.")
    if name.lower().endswith(".safetensors"):
        raise InvalidInput.field("name", "Leave '.safetensors' out of the name; it is added.")
    if shelf.exists(name) or name.lower() in {t.lower() for t in taken}:
        other = shelf.free_name(name, taken)
        raise Conflict(
            f"There is a LoRA called '{name}' already, or one is being trained.",
            remedy=f"Use another name, for example '{other}'. Programs like ComfyUI do not read a replaced file again.",
            extra={"suggestion": other},
        )
    return name


def _read_raw(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; {} when there is no file, None when it holds something else."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _read_card(path: Path) -> LoraCard:
    """Read what stands beside a LoRA; fields that other programs use in another way count as not there."""
    raw = _read_raw(path) or {}
    try:
        return LoraCard.model_validate(raw)
    except ValidationError as exc:
        wrong = {error["loc"][0] for error in exc.errors()}
        return LoraCard.model_validate({key: value for key, value in raw.items() if key not in wrong})


def _camel(name: str) -> str:
    from pydantic.alias_generators import to_camel

    return to_camel(name)
