"""The zip file of an export: pictures, texts and a manifest, always in the same bytes."""

from __future__ import annotations

import hashlib
import json
import zipfile
from typing import IO, Any

from dalla import __version__
from dalla.errors import Conflict, DallaError
from dalla.jobs.base import Context
from dalla.records.dataset import DatasetVersion
from dalla.services.dataset_formats import ExportOptions, Format, Item
from dalla.services.dataset_formats_configs import About, texts
from dalla.services.dataset_pictures import read_entry, read_mask, render
from dalla.stores.base import BlobStore

#: The earliest time a zip can hold.
EPOCH = (1980, 1, 1, 0, 0, 0)
MANIFEST = "manifest.json"


def write_archive(
    ctx: Context, file: IO[bytes], blobs: BlobStore, about: About, source: DatasetVersion, items: list[Item],
    options: ExportOptions, format: Format, focus: dict[str, tuple[float, float]],
) -> list[dict[str, str]]:  # fmt: skip
    """Write pictures by path, then texts by path, then the manifest; nothing is compressed, so no zlib changes a byte.

    Return {imageId, filename, code, detail} of the pictures that could not be read; they are in the manifest as well.
    Raises Conflict (none could be read), Cancelled, OSError.
    """
    failed: list[dict[str, str]] = []
    good: list[Item] = []
    listed: list[dict[str, Any]] = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for number, item in enumerate(items):
            ctx.progress(number, len(items), item.entry["filename"])
            if format.pictures:
                try:
                    files = _picture(item, blobs, options, format, focus.get(item.entry["imageId"]))
                except DallaError as exc:
                    row = {"imageId": item.entry["imageId"], "filename": item.entry["filename"]}
                    failed.append({**row, "code": exc.code, "detail": exc.detail})
                    ctx.item_failed(item.entry["imageId"], exc.code, exc.detail)
                    continue
                listed += [_add(archive, name, data) | facts for name, data, facts in files]
                item.facts["sha256"] = next(row["sha256"] for row in listed[-len(files) :] if row["path"] == item.path)
            good.append(item)
        if not good:
            raise Conflict(
                "None of the pictures could be read, so nothing was exported.",
                remedy="Check the dataset (Datasets, Check): it says what is missing on the disk.",
            )
        for name, text in sorted(texts(format, good, options, about).items()):
            listed.append(_add(archive, name, text.encode()))
        manifest = {
            "dataset": {"name": about.name, "revision": source.revision, "sha256": source.sha256},
            "tool": {"name": "Digital Dalla", "version": __version__, **_codecs(listed)},
            "format": format.name,
            "options": options.model_dump(by_alias=True, mode="json", exclude={"image_ids"}),
            "pictures": len(good) if format.pictures else 0,
            "files": listed,
            "failed": failed,
        }
        ctx.check_cancelled()
        _add(archive, MANIFEST, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())
    return failed


def _picture(
    item: Item, blobs: BlobStore, options: ExportOptions, format: Format, focus: tuple[float, float] | None
) -> list[tuple[str, bytes, dict[str, Any]]]:
    """Return (name, bytes, line of the manifest) of a picture and of its mask."""
    entry = item.entry
    mask = read_mask(blobs, item.mask) if item.mask is not None and item.mask_path else None
    made = render(read_entry(blobs, entry), item, options, format, focus=focus, mask=mask)
    item.facts.update(width=made.width, height=made.height)
    facts = {
        "width": made.width,
        "height": made.height,
        "imageId": entry["imageId"],
        "source": entry["filename"],
        "sourceSha256": entry["sha256"],
        "transforms": made.transforms,
    }
    files: list[tuple[str, bytes, dict[str, Any]]] = [(item.path, made.data, facts)]
    if made.mask is not None and item.mask is not None and item.mask_path is not None:
        files.append((item.mask_path, made.mask, {"source": item.mask["filename"], "maskOf": item.path}))
    return files


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> dict[str, Any]:
    """Store one file, always the same way; return its line of the manifest."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system, info.external_attr = 3, 0o100644 << 16
    archive.writestr(info, data)
    return {"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _codecs(listed: list[dict[str, Any]]) -> dict[str, str]:
    """Name what wrote pixels, where some were written: another release may write other bytes."""
    if not any(row.get("transforms") for row in listed):
        return {}
    import PIL

    return {"pillow": PIL.__version__}
