"""What an export may contain: the formats, the options, which pictures go in and under which names.

Nothing here reads a picture or a clock: the same entries and options always give the same plan.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from dalla.errors import InvalidInput
from dalla.filenames import filename_key
from dalla.records.base import RequestBody
from dalla.training_set import MASKS, PICTURES, with_trigger

Split = Literal["train", "validation", "reg"]
Entry = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """One kind of export. `keeps` names the picture formats its readers open; others become PNG."""

    name: str
    label: str
    keeps: frozenset[str]
    captions: bool = True  # a .txt beside each picture
    pictures: bool = True
    grouped: bool = False  # one folder per repeats and concept
    every_caption: bool = False  # its reader stops at a picture without a .txt
    masks: Literal["beside", "folder", "none"] = "folder"


_COMMON = frozenset({"PNG", "JPEG", "WEBP"})
_ALL = _COMMON | {"GIF", "BMP", "TIFF", "AVIF"}
FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("kohya", "kohya (sd-scripts, kohya_ss, FluxGym)", _COMMON | {"BMP"}, grouped=True),
        Format("imagefolder", "Hugging Face imagefolder", _ALL - {"AVIF"}, captions=False),
        Format("pairs", "Pictures with captions beside them", _ALL, masks="beside"),
        Format("jsonl", "Pictures and one JSON Lines file", _ALL, captions=False),
        Format("csv", "Pictures and one CSV file", _ALL, captions=False),
        Format("captions", "Captions only", _ALL, pictures=False, masks="none"),
        Format("ai-toolkit", "ai-toolkit (YAML)", _COMMON, grouped=True),
        Format("onetrainer", "OneTrainer (concepts JSON)", _ALL - {"GIF"}, grouped=True, masks="beside"),
        Format("simpletuner", "SimpleTuner (dataloader JSON)", _COMMON | {"BMP", "TIFF"}, grouped=True, every_caption=True),
    )
}  # fmt: skip
_SUFFIX = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "AVIF": "avif"}
_MEANS = {"jpeg": "JPEG", "jpg": "JPEG", "jfif": "JPEG", "tif": "TIFF", "tiff": "TIFF", "MPO": "JPEG"}
MAX_REPEATS = 999  # what folder names can say


class ExportOptions(RequestBody):
    """How pictures are chosen, named and changed on their way into an export. Everything has a default."""

    model_config = ConfigDict(frozen=True)

    use: Literal["originals", "processed", "replaced", "all"] = Field("originals", description="Which pictures: originals, processed ones, processed ones where there are some and originals otherwise, or all")  # fmt: skip
    operations: list[str] | None = Field(None, max_length=20, description="Of processed pictures only those made so: face_crop, resize, upscale")  # fmt: skip
    filter: dict[str, Any] | None = Field(None, description="Only pictures that match: the fields of the list's query, by name")  # fmt: skip
    image_ids: list[str] | None = Field(None, max_length=100_000, description="Only these pictures")
    regularization: bool = Field(True, description="Take regularization pictures along, in a folder of their own")
    resize: Literal["none", "fit", "buckets"] = Field("none", description="fit: longest side at most the resolution; buckets: cut and scale to the sizes a trainer would use")  # fmt: skip
    resolution: int = Field(1024, ge=64, le=4096, description="px")
    bucket_step: int = Field(64, ge=8, le=256, description="px")
    enlarge: bool = Field(False, description="Also enlarge pictures that are too small")
    crop_to_faces: bool = Field(True, description="Where a face was found, cuts keep it; else more of the top is kept")
    format: Literal["keep", "png", "jpeg", "webp"] = Field("keep", description="Format of the pictures")
    quality: int = Field(95, ge=1, le=100, description="Of JPEG and WebP")
    upright: bool = Field(True, description="Rewrite pictures that other programs would read sideways or in wrong colours")  # fmt: skip
    strip_metadata: bool = Field(False, description="Remove EXIF, XMP, recipes and comments")
    mirror: bool = Field(False, description="Add a mirrored copy of every picture")
    numbering: bool = Field(False, description="0001, 0002 … instead of file names")
    validation_percent: float = Field(0, ge=0, le=50, description="Set aside so much for validation")
    trigger_word: str | None = Field(None, max_length=200, description="Left out: the dataset's")
    class_word: str = Field("", max_length=200, description="What the subject is: woman, dog, style")
    add_trigger: bool = Field(False, description="Put the trigger word in front of captions that lack it")
    family: Literal["sd15", "sdxl", "sd3", "flux1"] = Field("sdxl", description="Base model family, for the configurations")  # fmt: skip
    base_model: str | None = Field(None, max_length=500, description="Base model, for the configurations")
    base_path: str = Field("", max_length=1000, description="Where the archive will be unpacked; left out: paths are relative")  # fmt: skip
    batch_size: int = Field(1, ge=1, le=256)

    @property
    def makes_pixels(self) -> bool:
        return self.resize != "none" or self.format != "keep"


def options_of(values: dict[str, Any] | None) -> ExportOptions:
    """Check options as they were sent. Raises InvalidInput with `options.<name>` for each wrong one."""
    try:
        return ExportOptions.model_validate(values or {})
    except ValidationError as exc:
        errors = [
            {"field": ".".join(["options", *map(str, row["loc"])]), "message": str(row["msg"])}
            for row in exc.errors(include_url=False, include_input=False)
        ]
        raise InvalidInput(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors) from None


def format_of(name: str) -> Format:
    """Return a format. Raises InvalidInput."""
    if name not in FORMATS:
        raise InvalidInput.field("format", f"Use one of {', '.join(FORMATS)}.")
    return FORMATS[name]


@dataclass(frozen=True)
class Item:
    """One picture of an export. `path` and `mask_path` are names in the archive, with `/`."""

    entry: Entry
    split: Split
    folder: str
    stem: str
    suffix: str
    caption: str
    label: str = ""
    repeats: int = 1
    mirrored: bool = False
    mask: Entry | None = None
    masks: str = "none"
    facts: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.stem}.{self.suffix}" if self.folder else f"{self.stem}.{self.suffix}"

    @property
    def caption_path(self) -> str:
        return self.path.rpartition(".")[0] + ".txt"

    @property
    def mask_path(self) -> str | None:
        if self.mask is None or self.masks == "none":
            return None
        if self.masks == "beside":
            return self.path.rpartition(".")[0] + MASKS[0]
        return f"masks/{self.folder}/{self.stem}.png" if self.folder else f"masks/{self.stem}.png"


def plan(entries: list[Entry], options: ExportOptions, format: Format, *, trigger: str, name: str) -> list[Item]:
    """Decide which pictures go in, where, and with which captions; sorted by path.

    `trigger` is the dataset's trigger word, `name` its name (for folders when there is neither trigger nor class).
    """
    word = trigger if options.trigger_word is None else options.trigger_word
    plain, masks = apart(entries)
    pictures = chosen(plain, options)
    if not options.regularization:
        pictures = [entry for entry in pictures if not entry["regularization"]]
    stems = numbers(pictures) if options.numbering else flat_names(pictures)
    aside = set_aside(pictures, options.validation_percent) if format.name != "kohya" else set()
    items: list[Item] = []
    for entry in pictures:
        id = entry["imageId"]
        split: Split = "reg" if entry["regularization"] else "validation" if id in aside else "train"
        caption = one_line(entry["caption"])
        if options.add_trigger and split != "reg":
            caption = with_trigger(caption, word, options.class_word)[0]
        repeats = min(MAX_REPEATS, max(1, int(entry["repeats"])))
        label = label_of(entry, word, options.class_word, name, regularization=split == "reg")
        item = Item(
            entry, split, folder_of(format, split, repeats, label), stems[id], suffix_of(entry, options, format), caption,
            label, repeats, mask=masks.get(id), masks=format.masks,
        )  # fmt: skip
        items.append(item)
    if options.mirror and format.pictures:
        taken = {filename_key(item.stem) for item in items}
        for item in [one for one in items if one.split == "train"]:
            stem = free(f"{item.stem}_mirror", taken)
            items.append(replace(item, stem=stem, mirrored=True))
    return sorted(items, key=lambda item: item.path)


# ---------------------------------------------------------------- which


def chosen(entries: Iterable[Entry], options: ExportOptions) -> list[Entry]:
    """Return the entries the options ask for, by file name. A processed picture without a caption has its parent's."""
    every = sorted(entries, key=lambda e: (e["filename"], e["imageId"]))
    by_id = {entry["imageId"]: entry for entry in every}
    only = None if options.image_ids is None else set(options.image_ids)
    every = [entry for entry in every if only is None or entry["imageId"] in only or entry.get("parentId") in only]

    def made(entry: Entry) -> bool:
        return entry["kind"] == "processed" and (
            options.operations is None or entry.get("operation") in options.operations
        )

    def with_caption(entry: Entry) -> Entry:
        parent = by_id.get(entry.get("parentId") or "")
        return entry if entry["caption"] or parent is None else {**entry, "caption": parent["caption"]}

    replaced = {entry.get("parentId") for entry in every if made(entry)}
    found = []
    for entry in every:
        if entry["kind"] == "original":
            take = options.use in ("originals", "all") or (
                options.use == "replaced" and entry["imageId"] not in replaced
            )
        else:
            take = options.use != "originals" and made(entry)
        if take and (only is None or entry["imageId"] in only or entry["kind"] == "processed"):
            found.append(with_caption(entry))
    return found


def apart(entries: list[Entry]) -> tuple[list[Entry], dict[str, Entry]]:
    """Return (pictures, mask entry by image id): what the picture's entry names, and what is made from it in its shape.

    A picture "a-masklabel.png" that was taken into the set as one belongs to "a.png" when that is there too.
    """
    stems: dict[str, str] = {}
    for entry in entries:
        stems.setdefault(_stem_path(entry["filename"]), entry["imageId"])
    masks: dict[str, Entry] = {}
    pictures = []
    for entry in entries:
        ending = next((end for end in MASKS if entry["filename"].lower().endswith(end)), None)
        owner = stems.get(filename_key(entry["filename"][: -len(ending)])) if ending else None
        if owner is not None and owner not in masks:
            masks[owner] = entry
        else:
            pictures.append(entry)
    by_id = {entry["imageId"]: entry for entry in entries}
    for entry in pictures:
        source = entry if entry.get("mask") else by_id.get(entry.get("parentId") or "", {})
        if source.get("mask") and (source is entry or _same_shape(source, entry)):
            masks[entry["imageId"]] = {**source["mask"], "imageId": source["imageId"], "filename": source["filename"]}
    return pictures, masks


def _same_shape(one: Entry, other: Entry) -> bool:
    """Whether two pictures have the same width by height but for what rounding to px does: one is the other, scaled."""
    wide, high = int(one["width"]), int(one["height"])
    return abs(int(other["width"]) * high - int(other["height"]) * wide) <= max(wide, high)


def set_aside(pictures: list[Entry], percent: float) -> set[str]:
    """Return the ids of the pictures for validation: always the same for the same pictures; never all of them."""
    rows = [entry for entry in pictures if not entry["regularization"]]
    if percent <= 0 or len(rows) < 2:
        return set()
    count = min(len(rows) - 1, max(1, round(len(rows) * percent / 100)))
    rows.sort(key=lambda e: hashlib.sha256(f"{e['sha256']} {e['imageId']}".encode()).hexdigest())
    return {entry["imageId"] for entry in rows[:count]}


# ---------------------------------------------------------------- names


def flat_names(pictures: list[Entry]) -> dict[str, str]:
    """Return a file name without ending for each image id; no two are alike, not even in another case.

    A name that occurs once stays. One that occurs again gets its folder in front, then a number.

    >>> flat_names([{"imageId": "1", "filename": "a/x.png"}, {"imageId": "2", "filename": "b/X.jpg"}])
    {'1': 'a_x', '2': 'b_X'}
    """
    rows = sorted(pictures, key=lambda e: (e["filename"], e["imageId"]))
    wishes = {entry["imageId"]: clean_stem(PurePosixPath(entry["filename"]).stem) for entry in rows}
    count = Counter(filename_key(wish) for wish in wishes.values())
    taken = {filename_key(wish) for wish in wishes.values() if count[filename_key(wish)] == 1}
    names = {}
    for entry in rows:
        wish = wishes[entry["imageId"]]
        if count[filename_key(wish)] > 1:
            folder = PurePosixPath(entry["filename"]).parent.as_posix()
            wish = free(wish if folder == "." else clean_stem(f"{folder}_{wish}"), taken)
        names[entry["imageId"]] = wish
    return names


def numbers(pictures: list[Entry]) -> dict[str, str]:
    """Return "0001", "0002" … by image id, in the order of the file names."""
    width = max(4, len(str(len(pictures))))
    return {entry["imageId"]: f"{n:0{width}}" for n, entry in enumerate(pictures, 1)}


def free(wish: str, taken: set[str]) -> str:
    """Return the wish, or the wish with the first number that is free, and take it."""
    name, n = wish, 2
    while filename_key(name) in taken:
        name, n = f"{wish}-{n}", n + 1
    taken.add(filename_key(name))
    return name


_BAD = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?\Z")


def clean_stem(text: str) -> str:
    """Return the text as a file name without ending that every system takes; letters of any script stay.

    No ending of a picture, caption or mask is left at its end: trainers would take one file for another's.
    """
    name = _BAD.sub("_", unicodedata.normalize("NFC", text)).strip(" .")
    for end in MASKS:
        bare = end.rpartition(".")[0]
        if name.lower().endswith(bare):
            name = name[: -len(bare)] + bare.replace(".", "_").replace("-", "_")
    head, dot, tail = name.rpartition(".")
    if dot and (f".{tail.lower()}" in PICTURES or tail.lower() in ("txt", "caption", "json", "npz")):
        name = f"{head}_{tail}"
    while len(name.encode()) > 150:
        name = name[:-1]
    name = name.strip(" .") or "picture"
    return f"_{name}" if _DEVICE.match(name) else name


@lru_cache(maxsize=256)
def clean_label(text: str) -> str:
    """Return the text as (part of) a folder's name."""
    return clean_stem(" ".join(text.split()))[:80].strip(" .")


def label_of(entry: Entry, trigger: str, class_word: str, name: str, *, regularization: bool = False) -> str:
    """Return the second part of kohya's folder name: the concept, or "trigger class"; of regularization the class."""
    if regularization:
        return clean_label(class_word or entry["concept"] or "class")
    return clean_label(entry["concept"] or f"{trigger} {class_word}".strip() or name)


def folder_of(format: Format, split: Split, repeats: int, label: str) -> str:
    """Return the folder of a picture in the archive, "" for its top."""
    if format.name == "kohya":
        return f"{'reg' if split == 'reg' else 'img'}/{repeats}_{label}"
    if format.grouped:
        return f"{split}/{repeats}_{label}"
    if format.name == "imagefolder":
        return split
    if format.name in ("jsonl", "csv"):
        return "images" if split == "train" else f"images/{split}"
    return "" if split == "train" else split


def suffix_of(entry: Entry, options: ExportOptions, format: Format) -> str:
    """Return the ending of a picture's file in the archive, without the dot."""
    wanted = picture_format(entry, options, format)
    given = PurePosixPath(entry["filename"]).suffix.lower().lstrip(".")
    if options.format == "keep" and wanted == kind_of(entry) and given in ("jpeg", "tiff"):
        return given
    return _SUFFIX[wanted]


def picture_format(entry: Entry, options: ExportOptions, format: Format) -> str:
    """Return "PNG", "JPEG" …: what a picture is in the archive."""
    if options.format != "keep":
        return options.format.upper()
    kind = kind_of(entry)
    if not format.pictures:
        return kind if kind in _SUFFIX else "PNG"
    return kind if kind in format.keeps else "PNG"


def kind_of(entry: Entry) -> str:
    """Return the format of a picture's file, as Pillow calls it."""
    kind = str(entry.get("format") or PurePosixPath(entry["filename"]).suffix.lstrip(".").lower())
    return _MEANS.get(kind, _MEANS.get(kind.lower(), kind.upper()))


def one_line(text: str) -> str:
    """Return a caption as trainers read it: one line, single spaces, nothing invisible.

    >>> one_line("a cat,\\n  sitting")
    'a cat, sitting'
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())


def _stem_path(filename: str) -> str:
    return filename_key(PurePosixPath(filename).with_suffix("").as_posix())
