"""The batch operation that finds pictures that look alike and keeps the groups beside them."""

from __future__ import annotations

from typing import Any

from dalla.measures import MAX_DISTANCE, SAME_PICTURE, groups_of, measure, near_pairs, pixel_sha256
from dalla.records.dataset import DatasetImage
from dalla.services.batch_options import choice, flag, known, whole
from dalla.services.batch_run import BatchContext
from dalla.services.duplicates import KEEP, best, exact_pairs, group_id, verdicts_of
from dalla.services.processed_pictures import ProcessedPictures
from dalla.stores.base import DatasetStore
from dalla.times import now_iso


class Dedupe:
    """Batch operation: measure what lacks hashes, group, store the groups, and trash all but one where asked to."""

    name, label, changes = "dedupe", "Find duplicates", True
    kinds = ("original",)

    def __init__(self, store: DatasetStore, pictures: ProcessedPictures) -> None:
        self._store = store
        self._pictures = pictures

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """distance: 0..12 bits; exact: same pixels only; trash: move all but one of each group to the trash;
        keep: which one stays (largest, sharpest, captioned)."""
        known(options, ("distance", "exact", "trash", "keep"))
        return {
            "distance": whole(options, "distance", SAME_PICTURE, 0, MAX_DISTANCE),
            "exact": flag(options, "exact", False),
            "trash": flag(options, "trash", False),
            "keep": choice(options, "keep", KEEP, "largest"),
        }

    def begin(self, ctx: BatchContext, images: list[DatasetImage], options: dict[str, Any]) -> None:
        ctx.shared["hashes"] = {
            id: (values["dhash"], values["dhashMirror"])
            for id, values in self._store.metadata([image.id for image in images], ["dhash", "dhashMirror"]).items()
            if values.get("dhash") and values.get("dhashMirror")
        }
        ctx.shared["ids"] = [image.id for image in images if image.trashed_at is None]

    def run(self, ctx: BatchContext, image: DatasetImage, options: dict[str, Any]) -> dict[str, Any] | None:
        """Only pictures that were never measured cost anything."""
        if image.id in ctx.shared["hashes"] and image.pixel_sha256:
            return {"measured": False}
        picture, data = self._pictures.read(image)
        found = measure(picture.image, data)
        ctx.shared["hashes"][image.id] = (found["dhash"], found["dhashMirror"])
        if not ctx.dry_run:
            self._store.put_metadata(image.dataset_id, {image.id: found})
            if not image.pixel_sha256:
                self._store.update_images([image.id], pixel_sha256=pixel_sha256(picture.image))
        return {"measured": True}

    def finish(self, ctx: BatchContext, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
        options = ctx.journal.plan()["options"]
        hashes = ctx.shared["hashes"]
        rows = [(id, *hashes[id]) for id in ctx.shared["ids"] if id in hashes]
        separate, same = verdicts_of(self._store, ctx.dataset_id)
        pairs = near_pairs(rows, options["distance"])
        if options["exact"]:
            pairs, same = exact_pairs(self._store, rows), []
        groups = groups_of([row[0] for row in rows], pairs, separate, same)
        trashed = self._surplus(groups, options["keep"]) if options["trash"] else []
        answer = {"groups": len(groups), "grouped": sum(map(len, groups)), "trashed": len(trashed)}
        if ctx.dry_run:
            return answer
        # Written down before it is done: a run after a crash finds them in the trash already.
        ctx.journal.keep_file("trashed", "\n".join(trashed).encode())
        trashed = (ctx.journal.kept_file("trashed") or b"").decode().split()
        self._store_groups(ctx, groups, pairs)
        if trashed:
            self._store.update_images(trashed, trashed_at=now_iso())
        return answer | {"trashed": len(trashed)}

    def undo(self, ctx: BatchContext, results: dict[str, dict[str, Any]]) -> dict[str, int]:
        """Bring back what went to the trash, and forget the groups."""
        trashed = (ctx.journal.kept_file("trashed") or b"").decode().split()
        restored = self._store.update_images(trashed, trashed_at=None) if trashed else []
        nothing: dict[str, Any] = dict.fromkeys(("duplicateGroup", "duplicateDistance"))
        self._store.put_metadata(ctx.dataset_id, {id: nothing for id in results})
        return {"restored": len(restored)}

    def _surplus(self, groups: list[list[str]], rule: str) -> list[str]:
        found = []
        for ids in groups:
            stays = best(self._store.images_by_id(ids), self._store.metadata(ids, ["sharpness"]))[rule]
            found += [id for id in ids if id != stays]
        return found

    def _store_groups(self, ctx: BatchContext, groups: list[list[str]], pairs: list[tuple[str, str, int]]) -> None:
        nearest: dict[str, int] = {}
        home = {id: number for number, group in enumerate(groups) for id in group}
        for first, second, bits in pairs:
            if first in home and home[first] == home.get(second):
                for id in (first, second):
                    nearest[id] = min(bits, nearest.get(id, bits))
        values: dict[str, dict[str, Any]] = {
            id: dict.fromkeys(("duplicateGroup", "duplicateDistance")) for id in ctx.shared["ids"]
        }
        for group in groups:
            for id in group:
                values[id] = {"duplicateGroup": group_id(group), "duplicateDistance": nearest.get(id)}
        self._store.put_metadata(ctx.dataset_id, values)
