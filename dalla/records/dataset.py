"""Datasets, their pictures, captions, versions and exports, as they are kept and as pages see them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dalla.records.base import Record

ImageKind = Literal["original", "processed"]
#: Who wrote a caption. An engine's name stands in `model_used` beside it.
CaptionSource = Literal["none", "file", "human", "engine", "edit"]


class Dataset(Record):
    """A named set of pictures. `revision` grows with every change of the set, its pictures or their captions."""

    id: str
    name: str
    description: str = ""
    character_id: str | None = None
    trigger_word: str = ""
    source_path: str = ""  # where it came from: the name of the archive, a folder, "files"
    revision: int = 0
    created_at: str = ""
    updated_at: str = ""
    trashed_at: str | None = None


class DatasetImage(Record):
    """One picture of a dataset.

    `filename` is the path below `originals/` or `processed/`, with `/`; `path` the key in the blob store. Width and
    height are px of the upright picture. `caption` is the whole truth; tags are its comma-separated parts.
    """

    id: str
    dataset_id: str
    kind: ImageKind = "original"
    parent_id: str | None = None  # of a processed picture: what it was made from
    operation: str | None = None  # of a processed picture: "face_crop", "resize", "upscale"
    filename: str
    path: str
    mime: str = "image/png"
    format: str = "PNG"
    width: int = 0
    height: int = 0
    size_bytes: int = 0
    sha256: str = ""  # of the file
    pixel_sha256: str = ""  # of the upright sRGB pixels
    caption: str = ""
    caption_source: CaptionSource = "none"
    caption_locked: bool = False  # a person wrote it; batches leave it alone unless told otherwise
    repeats: int = 1
    concept: str = ""
    regularization: bool = False
    excluded: bool = False  # kept, but in no version, export or training
    created_at: str = ""
    updated_at: str = ""
    trashed_at: str | None = None

    @property
    def tags(self) -> list[str]:
        """The comma-separated parts of the caption, as they stand."""
        return [part.strip() for part in self.caption.split(",") if part.strip()]


class ImageFilter(Record):
    """Which pictures a list wants. Unset fields do not restrict; all set fields must match.

    `metadata` holds (key, lowest or None, highest or None) over `image_metadata.number`, ends included.
    """

    kind: str | None = None
    q: str | None = None  # words in caption or file name
    captioned: bool | None = None
    caption_source: str | None = None
    locked: bool | None = None
    excluded: bool | None = None
    tag: str | None = None  # a whole tag, any case
    without_tag: str | None = None
    concept: str | None = None
    regularization: bool | None = None
    folder: str | None = None
    format: str | None = None
    language: str | None = None  # of the caption, a code of languages.LANGUAGES
    min_side: int | None = None  # shorter side at least, px
    max_side: int | None = None  # shorter side at most, px
    parent_id: str | None = None
    group: str | None = None  # a duplicate group (metadata "duplicateGroup")
    shared_caption: bool | None = None  # whether another picture has the same caption
    same_pixels: bool | None = None  # whether another picture has the same pixels
    metadata: list[tuple[str, float | None, float | None]] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)  # metadata keys that are not there
    ids: list[str] | None = None
    trashed: bool = False


class CaptionEntry(Record):
    """One text a picture had. The newest is the current one; nothing is ever removed but with the picture."""

    id: int = 0
    image_id: str
    dataset_id: str
    text: str
    source: CaptionSource
    model_used: str | None = None
    batch_id: str | None = None  # what was written together is undone together
    locked: bool = False  # whether the picture's caption was locked from then on
    created_at: str = ""


class CaptionChange(Record):
    """A caption to be written. `before` (None: not looked at) must still be the current text, else it is left alone."""

    image_id: str
    text: str
    before: str | None = None
    locked: bool | None = None  # None: as it was


class CaptionBatch(Record):
    """What was written together: an edit of many captions or a run of a caption engine."""

    batch_id: str
    dataset_id: str
    source: str
    model_used: str | None = None
    images: int
    created_at: str
    undone: bool = False  # every caption of it has been replaced since or taken back


class ImagePair(Record):
    """What a person said of two pictures that look alike."""

    dataset_id: str
    first_id: str  # the lesser id
    second_id: str
    verdict: Literal["separate", "same"]
    created_at: str = ""


class DatasetVersion(Record):
    """An immutable snapshot. `entries` (only when asked for): {imageId, filename, path, kind, sha256, width, height,
    caption, repeats, concept, regularization}."""

    dataset_id: str
    number: int
    note: str = ""
    revision: int = 0
    images: int = 0
    added: int = 0
    removed: int = 0
    recaptioned: int = 0
    sha256: str = ""  # of the entries: equal content, equal hash
    entries: list[dict[str, Any]] | None = None
    created_at: str = ""


class DatasetExport(Record):
    """A file made from a version. `number` is the N of `training_data_vN.zip`."""

    id: str
    dataset_id: str
    number: int
    version: int
    format: str
    options: dict[str, Any] = Field(default_factory=dict)
    filename: str = ""
    path: str = ""  # key in the blob store; "" until it is made
    size_bytes: int = 0
    sha256: str = ""
    images: int = 0
    task_id: str | None = None
    created_at: str = ""
