"""Datasets and pictures as the API shows them, and what people send cleaned up."""

from __future__ import annotations

from typing import Any

from dalla.errors import InvalidInput, NotFound
from dalla.filenames import folder_of
from dalla.records.dataset import DatasetImage

CAPTION_LIMIT = 20_000
#: Measured values that only the program itself needs.
_INSIDE = {"mask", "faceVectors"}
COUNTS = ("images", "captioned", "processed", "excluded", "sizeBytes")


def image_json(image: DatasetImage, measured: dict[str, Any]) -> dict[str, Any]:
    """Return a picture as the API shows it; `measured` is its metadata."""
    mask = measured.get("mask")
    measured = {key: value for key, value in measured.items() if key not in _INSIDE}
    if isinstance(mask, dict):  # where it lies is nobody's business
        measured["mask"] = {"width": mask["width"], "height": mask["height"]}
    return image.to_json(exclude={"path", "pixel_sha256"}) | {
        "folder": folder_of(image.filename),
        "tags": image.tags,
        "words": len(image.caption.split()),
        "fileUrl": f"/api/images/{image.id}/file?v={image.sha256[:12]}",
        "thumbUrl": thumb_url(image, "s"),
        "previewUrl": thumb_url(image, "m"),
        "maskUrl": f"/api/images/{image.id}/mask?v={mask['sha256'][:12]}" if isinstance(mask, dict) else None,
        "metadata": measured,
    }


def thumb_url(image: DatasetImage, size: str) -> str:
    """Return the immutable address of a thumbnail."""
    return f"/api/images/{image.id}/thumb?size={size}&v={image.sha256[:12]}"


def outcome(ids: list[str], found: dict[str, DatasetImage]) -> dict[str, list[Any]]:
    """Return which of the pictures asked for were there and which not."""
    wanted = list(dict.fromkeys(ids))
    return {
        "succeeded": [id for id in wanted if id in found],
        "failed": [NotFound.of("picture", id).problem() | {"id": id} for id in wanted if id not in found],
    }


def clean_name(name: str) -> str:
    """Return the name of a dataset without spare spaces. Raises InvalidInput."""
    name = " ".join(name.split())
    if not name or len(name) > 200:
        raise InvalidInput.field("name", "Give a name of 1 to 200 characters.")
    return name


def wanted_caption(changes: dict[str, Any]) -> str | None:
    """Return the text a change asks for, None when it asks for none. Raises InvalidInput."""
    text = changes.get("caption")
    if changes.get("tags") is not None:
        if text is not None:
            raise InvalidInput.field("tags", "Send the caption or the tags, not both.")
        text = ", ".join(tag.strip() for tag in changes["tags"] if tag.strip())
    if text is None:
        return None
    text = "\n".join(
        line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ").split("\n")
    ).strip()
    text = "".join(c for c in text if c.isprintable() or c in "\n\u200d")
    if len(text) > CAPTION_LIMIT:
        raise InvalidInput.field("caption", f"A caption may have {CAPTION_LIMIT} characters.")
    return text
