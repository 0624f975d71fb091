"""Versions of a dataset: immutable snapshots, the difference of two, and the way back to one.

A version is a list of what would be trained: every picture that is neither excluded nor in the trash, with its
caption, repeats and concept. No file is copied; files a version names stay even when their picture is removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import orjson

from dalla.errors import Conflict, DallaError, InvalidInput, NotFound
from dalla.ids import new_id
from dalla.records.dataset import CaptionChange, DatasetImage, DatasetVersion, ImageFilter
from dalla.services.dataset_import_work import Prepared, prepare
from dalla.services.dataset_masks import KEY as MASK
from dalla.services.datasets import Datasets
from dalla.stores.base import BlobStore, CaptionStore, DatasetStore, DatasetVersionStore
from dalla.times import now_iso

#: Stands for the dataset as it is now wherever a version's number may stand.
CURRENT = "current"
MAX_NOTE = 2000
_CHUNK = 500
_TRIES = 5
#: What makes two pictures of two versions differ, beside the caption: key of an entry -> name in the difference.
_SETTINGS = ("repeats", "concept", "regularization", "filename")
#: What the hash of a version covers.
_HASHED = ("imageId", "filename", "path", "kind", "sha256", "caption", "repeats", "concept", "regularization")


class DatasetVersions:
    """Makes, compares and restores snapshots."""

    def __init__(
        self,
        datasets: Datasets,
        store: DatasetStore,
        captions: CaptionStore,
        versions: DatasetVersionStore,
        blobs: BlobStore,
    ) -> None:
        self._datasets = datasets
        self._store = store
        self._captions = captions
        self._versions = versions
        self._blobs = blobs

    # ------------------------------------------------------------ reading

    def all(self, dataset_id: str) -> list[DatasetVersion]:
        """Return every version, newest first, without entries. Raises NotFound."""
        self._datasets.get(dataset_id)
        return self._versions.all(dataset_id)

    def get(self, dataset_id: str, number: int) -> DatasetVersion:
        """Return one version with its entries. Raises NotFound."""
        self._datasets.get(dataset_id)
        return self._versions.get(dataset_id, number)

    def entries(self, dataset_id: str, version: int | None = None) -> tuple[list[dict[str, Any]], int]:
        """Return (entries by file name, revision) of a version, or of the dataset as it is now. Raises NotFound."""
        if version is None:
            return self._present(dataset_id)
        found = self.get(dataset_id, version)
        return list(found.entries or []), found.revision

    def public(self, version: DatasetVersion) -> dict[str, Any]:
        """Return a version as the API answers it: without its entries."""
        return version.to_json(exclude={"entries"})

    # ------------------------------------------------------------ making

    def snapshot(self, dataset_id: str, note: str = "") -> tuple[DatasetVersion, bool]:
        """Keep the dataset as it is now; return (version, whether it is new).

        Nothing changed since the newest version: that one is returned. Raises NotFound, Conflict (in the trash,
        nothing in it, or changed by a task faster than it can be read), InvalidInput (a long note).
        """
        dataset = self._datasets.live(dataset_id)
        if len(note) > MAX_NOTE:
            raise InvalidInput.field("note", f"A note may have {MAX_NOTE} characters.")
        entries, revision = self._present(dataset_id)
        if not entries:
            raise Conflict(
                f"'{dataset.name}' has no picture to keep in a version.",
                remedy="Import pictures, or take back some exclusions.",
            )
        digest = entries_sha(entries)
        newest = next(iter(self._versions.all(dataset_id)), None)
        if newest is not None and newest.sha256 == digest:
            return newest, False
        before = self._versions.get(dataset_id, newest.number).entries if newest else []
        change = difference(before or [], entries)
        made = self._versions.add(
            DatasetVersion(
                dataset_id=dataset_id,
                number=0,
                note=note.strip(),
                revision=revision,
                images=len(entries),
                added=len(change["added"]),
                removed=len(change["removed"]),
                recaptioned=len(change["recaptioned"]),
                sha256=digest,
                entries=entries,
                created_at=now_iso(),
            )
        )
        self._datasets.changed(dataset_id)
        return made, True

    # ------------------------------------------------------------ comparing

    def compare(self, dataset_id: str, number: int | str, against: int | str | None = None) -> dict[str, Any]:
        """Return what changed from `against` (left out: the version before) to `number`; either may be "current".

        {number, against, same, counts:{added, removed, recaptioned, replaced, changed}, added:[{imageId, filename,
        caption}], removed: likewise, recaptioned:[{imageId, filename, before, after}], replaced:[{imageId, filename}]
        (another file or mask), changed:[{imageId, filename, fields:{repeats:[before, after], …}}]}. Raises NotFound,
        InvalidInput.
        """
        self._datasets.get(dataset_id)
        target = self._number(number, "number")
        base = self._before(dataset_id, target) if against is None else self._number(against, "against")
        old = [] if base is None else self._side(dataset_id, base)
        change = difference(old, self._side(dataset_id, target))
        return {
            "datasetId": dataset_id,
            "number": target,
            "against": base,
            "same": not any(change.values()),
            "counts": {name: len(rows) for name, rows in change.items()},
            **change,
        }

    # ------------------------------------------------------------ going back

    def restore(self, dataset_id: str, number: int) -> dict[str, Any]:
        """Make the dataset what it was in a version: captions, exclusions, repeats, concepts.

        What is there now is kept as a version first (`savedAs`, None when it already was). Pictures come back from
        the trash, or from their file when they were removed for good; what is gone is told by name. Pictures that
        came later are excluded, not removed. Raises NotFound, Conflict.
        """
        self._datasets.live(dataset_id)
        wanted = self._versions.get(dataset_id, number)
        saved: DatasetVersion | None = None
        if self._store.image_ids(dataset_id, ImageFilter(excluded=False)):
            made, new = self.snapshot(dataset_id, f"Before going back to version {number}")
            saved = made if new else None
        entries = {str(entry["imageId"]): entry for entry in wanted.entries or []}
        there = {image.id: image for image in self._images(list(entries)) if image.dataset_id == dataset_id}
        from_trash = [id for id, image in there.items() if image.trashed_at is not None]
        if from_trash:
            self._store.update_images(from_trash, trashed_at=None)
        remade, gone = self._remake(dataset_id, {id: e for id, e in entries.items() if id not in there})
        there |= {image.id: image for image in self._images(remade)}
        batch = new_id("batch")
        captions = [
            CaptionChange(image_id=id, text=str(entries[id]["caption"]))
            for id, image in there.items()
            if image.caption != entries[id]["caption"]
        ]
        written = (
            self._captions.write(dataset_id, captions, source="edit", model_used=f"version {number}", batch_id=batch)
            if captions
            else []
        )
        self._settle_masks(dataset_id, there, entries)
        settings = self._settle(there, entries)
        later = [id for id in self._store.image_ids(dataset_id, ImageFilter(excluded=False)) if id not in entries]
        if later:
            self._store.update_images(later, excluded=True)
        self._datasets.changed(dataset_id)
        if written:
            self._datasets.after_captions(dataset_id, {id: str(entries[id]["caption"]) for id in written})
        return {
            "datasetId": dataset_id,
            "number": number,
            "savedAs": saved.number if saved else None,
            "captions": len(written),
            "batchId": batch if written else None,
            "settings": settings,
            "fromTrash": len(from_trash),
            "fromFiles": len(remade),
            "excluded": len(later),
            "gone": gone,
        }

    def size(self, dataset_id: str, number: int) -> int:
        """How many pictures a version has, 0 when there is no such version. Raises NotFound (the dataset)."""
        return next((v.images for v in self.all(dataset_id) if v.number == number), 0)

    def _remake(self, dataset_id: str, missing: dict[str, dict[str, Any]]) -> tuple[list[str], list[dict[str, str]]]:
        """Add records again for pictures whose files are still there; return (their ids, those that are gone)."""
        gone: list[dict[str, str]] = []
        made: list[str] = []
        for id, entry in sorted(
            missing.items(), key=lambda item: item[1]["kind"]
        ):  # originals before what came of them
            name = str(entry["filename"])
            try:
                data = self._blobs.get(entry["path"])
                if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                    raise NotFound("Its file is another one now.")
                ready = prepare(data, name, sha256=entry["sha256"], recipe=False)
                self._store.add_images([_image(id, dataset_id, entry, ready)], {id: ready.measures})
                self._datasets.put_thumbnails(dataset_id, id, ready.thumbs)
            except DallaError as exc:
                detail = exc.detail
                if isinstance(exc, NotFound):
                    detail = "Its file is gone."
                elif isinstance(exc, Conflict):
                    detail = "Another picture has this name now."
                gone.append({"imageId": id, "filename": name, "detail": detail})
            else:
                made.append(id)
        return made, gone

    def _settle_masks(
        self, dataset_id: str, there: dict[str, DatasetImage], entries: dict[str, dict[str, Any]]
    ) -> None:
        """Give pictures the masks they had; a mask whose file is gone stays away."""
        now = self._masks_of(list(there))
        changes: dict[str, dict[str, Any]] = {}
        for id in there:
            mask = entries[id].get("mask")
            if mask and not self._blobs.exists(mask["path"]):
                mask = None
            if (now.get(id) or {}).get("sha256") != (mask or {}).get("sha256"):
                changes[id] = {MASK: mask}
        self._store.put_metadata(dataset_id, changes)

    def _settle(self, there: dict[str, DatasetImage], entries: dict[str, dict[str, Any]]) -> int:
        """Set exclusion, repeats, concept and regularization back; return how many pictures that changed."""
        groups: dict[tuple[int, str, bool], list[str]] = {}
        for id, image in there.items():
            entry = entries[id]
            wish = (int(entry["repeats"]), str(entry["concept"]), bool(entry["regularization"]))
            if image.excluded or (image.repeats, image.concept, image.regularization) != wish:
                groups.setdefault(wish, []).append(id)
        for (repeats, concept, regularization), ids in groups.items():
            self._store.update_images(
                ids, excluded=False, repeats=repeats, concept=concept, regularization=regularization
            )
        return sum(map(len, groups.values()))

    # ------------------------------------------------------------ parts

    def _present(self, dataset_id: str) -> tuple[list[dict[str, Any]], int]:
        """Read all pictures between two looks at the revision, so that the list is of one moment."""
        for _ in range(_TRIES):
            revision = self._datasets.get(dataset_id).revision
            ids = self._store.image_ids(dataset_id, ImageFilter(excluded=False))
            masks = self._masks_of(ids)
            entries = [entry_of(image, masks.get(image.id)) for image in self._images(ids)]
            if self._datasets.get(dataset_id).revision == revision:
                return sorted(entries, key=_order), revision
        raise Conflict(
            "A task is changing this dataset faster than a version of it can be made.",
            remedy="Wait until the task has finished, or cancel it, and try again.",
        )

    def _images(self, ids: list[str]) -> Iterator[DatasetImage]:
        for start in range(0, len(ids), _CHUNK):
            yield from self._store.images_by_id(ids[start : start + _CHUNK])

    def _masks_of(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        """The masks of pictures by id: {path, sha256, width, height, sizeBytes}."""
        found = self._store.metadata(ids, [MASK])
        return {id: values[MASK] for id, values in found.items() if isinstance(values.get(MASK), dict)}

    def _side(self, dataset_id: str, number: int | str) -> list[dict[str, Any]]:
        return self.entries(dataset_id, None if isinstance(number, str) else number)[0]

    def _before(self, dataset_id: str, number: int | str) -> int | str | None:
        numbers = [version.number for version in self._versions.all(dataset_id)]
        return max((n for n in numbers if isinstance(number, str) or n < number), default=None)

    @staticmethod
    def _number(value: int | str, field: str) -> int | str:
        if value == CURRENT:
            return CURRENT
        try:
            number = int(value)
        except ValueError:
            number = 0
        if not 1 <= number < 2**31:
            raise InvalidInput.field(field, f"Give the number of a version, or '{CURRENT}'.")
        return number


def _image(id: str, dataset_id: str, entry: dict[str, Any], ready: Prepared) -> DatasetImage:
    now = now_iso()
    return DatasetImage(
        id=id,
        dataset_id=dataset_id,
        kind=entry["kind"],
        parent_id=entry.get("parentId"),
        operation=entry.get("operation"),
        filename=entry["filename"],
        path=entry["path"],
        mime=ready.mime,
        format=entry.get("format") or ready.mime.rpartition("/")[2].upper(),
        width=ready.width,
        height=ready.height,
        size_bytes=len(ready.data),
        sha256=ready.sha256,
        pixel_sha256=ready.pixel_sha256,
        caption=entry["caption"],
        caption_source="edit" if entry["caption"] else "none",
        repeats=entry["repeats"],
        concept=entry["concept"],
        regularization=entry["regularization"],
        created_at=now,
        updated_at=now,
    )


def entry_of(image: DatasetImage, mask: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what a version keeps of a picture and its mask."""
    entry: dict[str, Any] = {
        "imageId": image.id,
        "filename": image.filename,
        "path": image.path,
        "kind": image.kind,
        "sha256": image.sha256,
        "width": image.width,
        "height": image.height,
        "caption": image.caption,
        "repeats": image.repeats,
        "concept": image.concept,
        "regularization": image.regularization,
        "format": image.format,
    }
    if image.parent_id:
        entry |= {"parentId": image.parent_id, "operation": image.operation}
    if mask:
        entry["mask"] = mask
    return entry


def entries_sha(entries: list[dict[str, Any]]) -> str:
    """Return the SHA-256 of what is trained: equal pictures, captions and settings give equal hashes."""
    rows = [
        [entry.get(key) for key in _HASHED] + ([_mask_sha(entry)] if _mask_sha(entry) else [])
        for entry in sorted(entries, key=_order)
    ]
    return hashlib.sha256(orjson.dumps(rows)).hexdigest()


def difference(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return {added, removed, recaptioned, replaced, changed} from one list of entries to another, by file name."""
    before = {entry["imageId"]: entry for entry in old}
    after = {entry["imageId"]: entry for entry in new}

    def named(entry: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"imageId": entry["imageId"], "filename": entry["filename"], **more}

    both = [
        (before[id], entry) for id, entry in sorted(after.items(), key=lambda item: _order(item[1])) if id in before
    ]
    return {
        "added": [named(e, caption=e["caption"]) for e in sorted(new, key=_order) if e["imageId"] not in before],
        "removed": [named(e, caption=e["caption"]) for e in sorted(old, key=_order) if e["imageId"] not in after],
        "recaptioned": [
            named(e, before=was["caption"], after=e["caption"]) for was, e in both if was["caption"] != e["caption"]
        ],
        "replaced": [named(e) for was, e in both if was["sha256"] != e["sha256"] or _mask_sha(was) != _mask_sha(e)],
        "changed": [
            named(e, fields={key: [was[key], e[key]] for key in _SETTINGS if was[key] != e[key]})
            for was, e in both
            if any(was[key] != e[key] for key in _SETTINGS)
        ],
    }


def _mask_sha(entry: dict[str, Any]) -> str:
    return str((entry.get("mask") or {}).get("sha256", ""))


def _order(entry: dict[str, Any]) -> tuple[str, str]:
    return str(entry["filename"]), str(entry["imageId"])
