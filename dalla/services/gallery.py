"""The library of pictures: take in, find, sort, trash and bring back.

Bytes are written before the record, so a crash leaves at most a file without a record (swept away
later), never a record without its picture.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dalla import imaging, recipes
from dalla.errors import DallaError, InvalidInput, NotFound
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.records.media import Collection, MediaFilter, MediaItem, Recipe
from dalla.stores.base import BlobStore, MediaStore, Page
from dalla.times import ago_iso, boundary, now_iso

logger = logging.getLogger(__name__)

BULK_LIMIT = 10_000


class Gallery:
    """Pictures and their records. Knows nothing of engines or platforms."""

    def __init__(self, media: MediaStore, blobs: BlobStore, events: EventBus) -> None:
        self._media = media
        self._blobs = blobs
        self._events = events

    # ------------------------------------------------------------ taking in

    def add_generated(
        self,
        png: bytes,
        recipe: Recipe,
        *,
        task_id: str | None,
        origin: str = "generated",
        parent_id: str | None = None,
    ) -> MediaItem:
        """Keep a picture an engine made, with its recipe inside. Raises StorageError."""
        picture = imaging.open_image(png, name="the generated picture")
        recipe = recipe.with_(width=picture.width, height=picture.height)
        return self._keep(
            recipes.embed(png, recipe), picture, recipe, origin=origin, task_id=task_id, parent_id=parent_id
        )

    def add_file(self, data: bytes, *, name: str, character_id: str | None = None) -> tuple[MediaItem, bool]:
        """Keep a picture from outside, byte for byte, reading the recipe it carries.

        Returns (item, False) with the existing item when the same bytes are here already.
        Raises UnsupportedMedia, TooLarge, InvalidInput, StorageError.
        """
        picture = imaging.open_image(data, name=name)
        known = self._media.find_by_sha256(hashlib.sha256(data).hexdigest())
        if known is not None:
            if known.trashed_at:
                self._media.update([known.id], trashed_at=None)
                self._changed([known.id])
            return self._media.get(known.id), False
        found = recipes.read(data)
        recipe = found.recipe if found else None
        if recipe is not None and character_id is None:
            character_id = recipe.character_id
        item = self._keep(
            data, picture, recipe, origin="imported", task_id=None, parent_id=None, character_id=character_id
        )
        return item, True

    def _keep(
        self,
        data: bytes,
        picture: imaging.Picture,
        recipe: Recipe | None,
        *,
        origin: str,
        task_id: str | None,
        parent_id: str | None,
        character_id: str | None = None,
    ) -> MediaItem:
        id, now = new_id("media"), now_iso()
        key = f"media/{now[:4]}/{now[5:7]}/{id}.{imaging.EXTENSIONS[picture.mime]}"
        thumbs = imaging.thumbnails(picture.image)
        written: list[str] = []
        try:
            self._blobs.put(key, data)
            written.append(key)
            for size, webp in thumbs.items():
                self._blobs.put(_thumb_key(id, size), webp, durable=False)  # can be made again
                written.append(_thumb_key(id, size))
            item = self._media.insert(
                MediaItem(
                    id=id,
                    origin=origin,  # type: ignore[arg-type]
                    character_id=character_id or (recipe.character_id if recipe else None),
                    task_id=task_id,
                    parent_id=parent_id,
                    path=key,
                    mime=picture.mime,
                    width=picture.width,
                    height=picture.height,
                    size_bytes=len(data),
                    sha256=hashlib.sha256(data).hexdigest(),
                    prompt=recipe.prompt if recipe else "",
                    negative_prompt=recipe.negative_prompt if recipe else None,
                    model=recipe.model if recipe else None,
                    family=recipe.family if recipe else None,
                    engine=recipe.engine if recipe else None,
                    loras=list(dict.fromkeys(use.name for use in recipe.loras)) if recipe else [],
                    recipe=recipe.to_json(exclude_none=True) if recipe else None,
                    alt_text=(recipe.user_prompt or recipe.prompt)[:1000] if recipe else None,
                    created_at=now,
                    updated_at=now,
                )
            )
        except BaseException:
            for done in written:
                with contextlib.suppress(DallaError):
                    self._blobs.delete(done)
            raise
        self._events.publish("media.created", self.public(item))
        return item

    # ------------------------------------------------------------ reading

    def get(self, id: str) -> MediaItem:
        """Raises NotFound."""
        return self._media.get(id)

    def page(self, where: MediaFilter, *, limit: int, cursor: str | None, sort: str, offset: int = 0) -> Page:
        return self._media.page(where, limit=limit, cursor=cursor, sort=sort, offset=offset)

    def ids(self, where: MediaFilter) -> list[str]:
        return self._media.ids(where, limit=BULK_LIMIT)

    def search(self, text: str, find_character: Callable[[str], str | None]) -> dict[str, Any]:
        """Turn the search box into filter fields; part of a model's or LoRA's name is enough.

        Raises InvalidInput for a date that is none.
        """
        fields = parse_query(text, find_character)
        for one, several in (("model", "models"), ("lora", "loras")):
            if one in fields:
                wanted = fields.pop(one)
                known = [facet["value"] for facet in self._media.facets(MediaFilter())[several] if facet["value"]]
                exact = [name for name in known if name == wanted]
                fields[several] = exact or [name for name in known if wanted.casefold() in name.casefold()]
        return fields

    def facets(self, where: MediaFilter) -> dict[str, list[dict[str, Any]]]:
        return self._media.facets(where)

    def counts(self) -> dict[str, int]:
        """Return pictures per character id."""
        return self._media.count_by_character()

    def bytes_of(self, item: MediaItem) -> bytes:
        return self._blobs.get(item.path)

    def file(self, item: MediaItem) -> Path:
        """Return the path of the picture. Raises NotFound when the file is gone."""
        if not self._blobs.exists(item.path):
            raise NotFound(f"The file of '{item.id}' is gone from the data folder.", remedy="Restore it from a backup.")
        return self._blobs.path(item.path)

    def thumbnail(self, item: MediaItem, size: str) -> Path:
        """Return the path of a thumbnail, making it again when it is missing."""
        if size not in imaging.THUMBNAILS:
            raise InvalidInput.field("size", f"Use one of {', '.join(imaging.THUMBNAILS)}.")
        key = _thumb_key(item.id, size)
        if not self._blobs.exists(key):
            for name, webp in imaging.thumbnails(imaging.open_image(self.bytes_of(item)).image).items():
                self._blobs.put(_thumb_key(item.id, name), webp, durable=False)
        return self._blobs.path(key)

    def public(self, item: MediaItem) -> dict[str, Any]:
        """Return the item as the API shows it, with immutable addresses of its bytes."""
        answer = item.to_json(exclude={"path", "recipe"})
        version = item.sha256[:12]
        answer["fileUrl"] = f"/api/media/{item.id}/file?v={version}"
        answer["thumbUrl"] = f"/api/media/{item.id}/thumb?size=s&v={version}"
        answer["previewUrl"] = f"/api/media/{item.id}/thumb?size=m&v={version}"
        recipe = item.recipe or {}
        answer["seed"] = recipe.get("seed")
        answer["hasRecipe"] = bool(item.recipe)
        return answer

    # ------------------------------------------------------------ changing

    def update(self, id: str, changes: dict[str, Any]) -> MediaItem:
        """Set starred, caption, alt_text, character_id or posted. Raises NotFound."""
        self._media.get(id)
        if changes:
            self._media.update([id], **changes, updated_at=now_iso())
            self._changed([id])
        return self._media.get(id)

    def bulk(self, action: str, ids: list[str], **more: Any) -> dict[str, list[Any]]:
        """Apply one action to many; return {"succeeded", "failed"}: never all-or-nothing in silence."""
        actions: dict[str, Callable[[], list[str]]] = {
            "star": lambda: self._media.update(ids, starred=True, updated_at=now_iso()),
            "unstar": lambda: self._media.update(ids, starred=False, updated_at=now_iso()),
            "trash": lambda: self._media.update(ids, trashed_at=now_iso()),
            "restore": lambda: self._media.update(ids, trashed_at=None),
            "delete": lambda: self.delete_for_good(ids),
            "setCharacter": lambda: self._media.update(
                ids, character_id=more.get("character_id"), updated_at=now_iso()
            ),
            "addToCollection": lambda: self._media.add_to_collection(more["collection_id"], ids, now_iso()),
            "removeFromCollection": lambda: self._media.remove_from_collection(more["collection_id"], ids),
        }
        if action not in actions:
            raise InvalidInput.field("action", f"Use one of {', '.join(actions)}.")
        if action.endswith("Collection") and not more.get("collection_id"):
            raise InvalidInput.field("collectionId", "Name the collection.")
        done = set(actions[action]())
        if action == "delete":
            self._events.publish("media.deleted", {"ids": sorted(done)})
        else:
            self._changed([id for id in ids if id in done])
        return {
            "succeeded": [id for id in ids if id in done],
            "failed": [NotFound.of("picture", id).problem() | {"id": id} for id in ids if id not in done],
        }

    def delete_for_good(self, ids: list[str]) -> list[str]:
        """Delete records, then their files; return the ids that existed."""
        gone = self._media.delete(ids)
        for item in gone:
            for key in (item.path, *(_thumb_key(item.id, size) for size in imaging.THUMBNAILS)):
                with contextlib.suppress(DallaError):
                    self._blobs.delete(key)
        return [item.id for item in gone]

    def purge_trash(self, days: int) -> int:
        """Delete for good what was trashed more than `days` ago; return how many."""
        ids = self._media.trashed_before(ago_iso(days * 86400))
        if ids:
            self.bulk("delete", ids)
        return len(ids)

    def _changed(self, ids: list[str]) -> None:
        if ids:
            self._events.publish("media.updated", {"ids": ids[:500], "count": len(ids)})

    def mark_posted(self, ids: list[str]) -> None:
        """Note that these pictures are live somewhere."""
        self._changed(self._media.update(ids, posted=True, updated_at=now_iso()))

    # ------------------------------------------------------------ collections

    def collections(self) -> list[Collection]:
        return self._media.collections()

    def collection(self, id: str) -> Collection:
        return self._media.get_collection(id)

    def save_collection(self, name: str, id: str | None = None) -> Collection:
        """Create or rename. Raises InvalidInput, Conflict (the name is taken), NotFound."""
        name = name.strip()
        if not name or len(name) > 200:
            raise InvalidInput.field("name", "Give a name of 1 to 200 characters.")
        if id is not None:
            self._media.get_collection(id)
        saved = self._media.save_collection(id or new_id("coll"), name, now_iso())
        self._events.publish("collection.updated", {"id": saved.id})
        return saved

    def delete_collection(self, id: str) -> None:
        """Forget the collection; its pictures stay. Raises NotFound."""
        self._media.delete_collection(id)
        self._events.publish("collection.updated", {"id": id, "deleted": True})


def _thumb_key(id: str, size: str) -> str:
    # Two characters of the random tail spread the thumbnails over folders of a bearable size.
    return f"media/thumbs/{id[-2:]}/{id}.{size}.webp"


# ---------------------------------------------------------------- the search box

_TOKEN = re.compile(r'(-?)(?:(\w+):)?("(?:[^"\\]|\\.)*"|\S+)')
_FIELDS = {
    "model": "model",
    "lora": "lora",
    "engine": "engine",
    "type": "type",
    "character": "character_id",
    "task": "task_id",
}


def parse_query(text: str, find_character: Callable[[str], str | None] | None = None) -> dict[str, Any]:
    """Turn `character:luna model:sdxl -hat is:starred after:2026-01-01 "red dress"` into filter fields.

    Words must occur in the prompt; `-word` must not. Raises InvalidInput for a date that is none.
    """
    result: dict[str, Any] = {"words": [], "not_words": []}
    for minus, field, raw in _TOKEN.findall(text):
        value = raw[1:-1].replace('\\"', '"') if raw.startswith('"') and raw.endswith('"') and len(raw) > 1 else raw
        field = field.lower()
        if field == "is" and value in ("starred", "posted", "trashed"):
            result[value] = not minus
        elif field in ("after", "before") and not minus:
            result[field] = boundary(value, "q", end_of_day=field == "before")
        elif field in _FIELDS and not minus:
            if field == "character" and find_character is not None:
                value = find_character(value) or value
            result[_FIELDS[field]] = value
        else:
            word = f"{field}:{value}" if field else value
            result["not_words" if minus else "words"].append(word)
    return result
