"""Read a folder of training pictures and say before the start what will become of each one.

Nothing is written and nothing is scaled: size, turn, crop, bucket, final caption and every problem are
reported, so that a page can show them and the trainer can follow them. Pictures are read through
`imaging.open_image`, so phones' sideways photos, CMYK, palettes and 16-bit files come out right.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from dalla.bucketing import batches_per_epoch, buckets, plan
from dalla.errors import DallaError, InvalidInput, StorageError
from dalla.plural import counted
from dalla.records.base import Record

PICTURES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
#: Told by name why they are not used, instead of silence.
FOREIGN = {
    ".heic": "HEIC pictures cannot be read here; save it as JPEG or PNG",
    ".heif": "HEIF pictures cannot be read here; save it as JPEG or PNG",
    ".svg": "a vector drawing; save it as PNG",
    ".psd": "a Photoshop file; save it as PNG",
    ".raw": "a raw photo; save it as JPEG",
    ".dng": "a raw photo; save it as JPEG",
    ".mp4": "a video; save frames of it as pictures",
    ".mov": "a video; save frames of it as pictures",
    ".webm": "a video; save frames of it as pictures",
}
CAPTIONS = (".txt", ".caption")
MASKS = ("-masklabel.png", ".mask.png")
#: Below this many pictures a likeness is rarely learned well.
FEW = 5
#: More of a picture's area than this cut off is worth a word.
HEAVY_CROP = 0.2
#: CLIP reads 75 tokens; English captions have about 1.3 tokens a word.
LONG_WORDS = 58
_MADE_UP = re.compile(r"[^\W\d]\w*_\w+|[^\W\d_]+\d\w*|ohwx|sks")
_REPEATS = re.compile(r"(\d{1,3})_(.*)\Z")


class SetPicture(Record):
    """One picture as it will be trained. `box` is in px of the upright picture; `caption` is the final one."""

    file: str  # relative to the folder, with /
    width: int
    height: int
    caption: str
    caption_source: str  # "txt" | "caption" | "none"
    bucket: tuple[int, int]
    box: tuple[int, int, int, int]
    scale: float = 1.0
    lost_fraction: float = 0.0
    rotated: bool = False
    alpha: bool = False
    mask: str | None = None
    trigger_added: bool = False
    repeats: int = 1
    problems: list[dict[str, str]] = Field(default_factory=list)  # code, message
    sha256: str = ""
    duplicate_of: str | None = None


class SetReport(Record):
    """A whole set. `skipped` holds {file, reason}, `buckets` {width, height, pictures, batches}, `warnings`
    {code, message, fix}. `steps_per_epoch` counts optimizer steps with the batch size asked about."""

    folder: str
    pictures: list[SetPicture] = Field(default_factory=list)
    skipped: list[dict[str, str]] = Field(default_factory=list)
    buckets: list[dict[str, int]] = Field(default_factory=list)
    warnings: list[dict[str, str]] = Field(default_factory=list)
    captions_found: int = 0
    steps_per_epoch: int = 0
    fingerprint: str = ""


def scan(
    folder: Path | str,
    *,
    trigger_word: str = "",
    class_word: str = "",
    resolution: int = 512,
    bucket_step: int = 64,
    batch_size: int = 1,
    gradient_accumulation: int = 1,
    repeats: int = 1,
    masked_loss: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> SetReport:
    """Look at every picture of a folder (and of subfolders named "10_anything", which repeat ten times).

    An empty folder gives a report without pictures and a warning. Raises InvalidInput when there is no such
    folder, StorageError when it cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InvalidInput.field(
            "datasetFolder", f"There is no folder '{root.name}' with training pictures.", remedy="Check its name."
        )
    choices = buckets(resolution, bucket_step)
    skipped: list[dict[str, str]] = []
    try:
        files = list(_files(root, skipped))
    except OSError as exc:
        raise StorageError(f"The folder '{root.name}' cannot be read: {exc.strerror or exc}.") from exc
    pictures: list[SetPicture] = []
    seen: dict[str, str] = {}
    looks: list[tuple[str, bytes]] = []
    for number, (path, times) in enumerate(files):
        if on_progress is not None:
            on_progress(number, len(files))
        name = path.relative_to(root).as_posix()
        try:
            picture, look = _look(path, name, choices, trigger_word, class_word)
        except DallaError as exc:
            skipped.append({"file": name, "reason": exc.detail})
            continue
        except OSError as exc:
            skipped.append({"file": name, "reason": f"it cannot be read: {exc.strerror or exc}"})
            continue
        twin = seen.get(picture.sha256) or next((other for other, theirs in looks if _alike(look, theirs)), None)
        if twin is not None:
            same = picture.sha256 in seen
            problem = {
                "code": "duplicate" if same else "near_duplicate",
                "message": f"{'The same file as' if same else 'Looks the same as'} {twin}.",
            }
            picture = picture.with_(duplicate_of=twin, problems=[*picture.problems, problem])
        seen.setdefault(picture.sha256, name)
        looks.append((name, look))
        pictures.append(picture.with_(repeats=times * repeats))
    table: dict[tuple[int, int], int] = {}
    for picture in pictures:
        table[picture.bucket] = table.get(picture.bucket, 0) + picture.repeats
    rows = [
        {"width": w, "height": h, "pictures": n, "batches": -(-n // batch_size)} for (w, h), n in sorted(table.items())
    ]
    batches = batches_per_epoch(list(table.values()), batch_size)
    lines = sorted(f"{p.sha256} {p.caption} {p.repeats}" for p in pictures)
    return SetReport(
        folder=root.name,
        pictures=pictures,
        skipped=skipped,
        buckets=rows,
        warnings=_warnings(pictures, skipped, rows, trigger_word, batch_size, masked_loss),
        captions_found=sum(p.caption_source != "none" for p in pictures),
        steps_per_epoch=-(-batches // gradient_accumulation),
        fingerprint=hashlib.sha256("\n".join(lines).encode()).hexdigest() if pictures else "",
    )


def read_text(path: Path) -> str:
    """Read a caption in whatever encoding it was saved: UTF-8 (with or without BOM), UTF-16 with BOM, cp1252.

    Lines are joined; control characters are dropped. Raises OSError.
    """
    data = path.read_bytes()[:65536]
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", errors="replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def with_trigger(caption: str, trigger_word: str, class_word: str = "") -> tuple[str, bool]:
    """Return the caption that is trained and whether the trigger word was put in front of it.

    "[trigger]" is replaced. An empty caption becomes "<trigger>, <class word>".
    """
    trigger = trigger_word.strip()
    if trigger and "[trigger]" in caption:
        return caption.replace("[trigger]", trigger), False
    if not caption:
        return ", ".join(part for part in (trigger, class_word.strip()) if part), bool(trigger)
    if trigger and not has_word(caption, trigger):
        return f"{trigger}, {caption}", True
    return caption, False


def shared_word(captions: Iterable[str]) -> str:
    """Return the made-up word that every caption begins with (at least two), up to its first comma; "" without one.

    Made up is what no language writes: letters with an underscore or with digits behind them, or a word known for it.
    Empty captions do not count.
    """
    firsts = [caption.split(",")[0].strip() for caption in captions if caption.strip()]
    word = firsts[0] if len(firsts) > 1 and len(set(firsts)) == 1 else ""
    return word if _MADE_UP.fullmatch(word) else ""


def alone(word: str) -> re.Pattern[str]:
    """Return what finds the word where it stands on its own, upper and lower case alike."""
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


def has_word(text: str, word: str) -> bool:
    """Say whether the word stands in the text on its own, upper and lower case alike."""
    return alone(word).search(text) is not None


def open_rgb(path: Path, name: str | None = None) -> tuple[Any, Any]:
    """Decode a training picture: (RGB image on a white ground, its alpha channel or None).

    Raises what `imaging.open_image` raises, and OSError.
    """
    from dalla import imaging

    image = imaging.open_image(path.read_bytes(), name=name or path.name).image
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if alpha is not None and alpha.getextrema()[0] == 255:
        alpha = None  # an alpha channel that hides nothing
    return imaging.flatten(image), alpha


def open_mask(path: Path) -> Any:
    """Decode a mask (mode L: white counts). Raises what `imaging.open_image` raises, and OSError."""
    from dalla import imaging

    return imaging.open_image(path.read_bytes(), name=path.name).image.convert("L")


def _files(root: Path, skipped: list[dict[str, str]]) -> Iterator[tuple[Path, int]]:
    folders = [(root, 1)]
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and (match := _REPEATS.match(entry.name)):
            folders.append((entry, max(1, int(match[1]))))
    for folder, times in folders:
        for path in sorted(folder.iterdir(), key=lambda p: p.name.lower()):
            suffix = path.suffix.lower()
            if not path.is_file() or path.name.startswith(".") or path.name.lower().endswith(MASKS):
                continue
            if suffix in PICTURES:
                yield path, times
            elif suffix in FOREIGN:
                skipped.append({"file": path.relative_to(root).as_posix(), "reason": FOREIGN[suffix]})


def _look(path: Path, name: str, choices: list[Any], trigger: str, class_word: str) -> tuple[SetPicture, bytes]:
    from PIL import Image

    data = path.read_bytes()
    if not data:
        raise InvalidInput(f"{name} is an empty file.")
    image, alpha = open_rgb(path, name)
    with Image.open(path) as raw:
        rotated = raw.getexif().get(0x0112, 1) not in (0, 1)
    crop = plan(image.width, image.height, choices)
    words, source = "", "none"
    for suffix in CAPTIONS:
        beside = _beside(path, suffix)
        if beside is not None:
            words, source = read_text(beside), suffix[1:]
            break
    caption, added = with_trigger(words, trigger, class_word)
    problems = []

    def problem(code: str, message: str) -> None:
        problems.append({"code": code, "message": message})

    mask, shows = _mask(path), alpha
    if mask is not None:
        try:
            shows = open_mask(path.with_name(mask))
        except (DallaError, OSError) as exc:
            why = exc.detail if isinstance(exc, DallaError) else f"{mask} cannot be read: {exc.strerror or exc}."
            problem("mask_damaged", f"Its mask is left out: {why}")
            mask = None
    if crop.lost_fraction and shows is not None:
        crop = plan(image.width, image.height, choices, focus=_focus(shows, (crop.box[3] - crop.box[1]) / image.height))
    if not words:
        problem("no_caption", "It has no caption." if source == "none" else "Its caption file is empty.")
        source = "none"
    if crop.scale > 1.02:
        problem("upscaled", f"It is smaller than it is trained at and will be enlarged {crop.scale:.1f} times.")
    if crop.lost_fraction > HEAVY_CROP:
        problem("heavy_crop", f"{crop.lost_fraction:.0%} of it is cut off: its shape is far from every bucket's.")
    if len(caption.split()) > LONG_WORDS:
        problem("long_caption", "Its caption may be longer than one text encoder window (77 tokens).")
    return SetPicture(
        file=name, width=image.width, height=image.height, caption=caption, caption_source=source, bucket=crop.bucket,
        box=crop.box, scale=round(crop.scale, 4), lost_fraction=crop.lost_fraction, rotated=rotated,
        alpha=alpha is not None, mask=mask, trigger_added=added, problems=problems,
        sha256=hashlib.sha256(data).hexdigest(),
    ), image.resize((16, 16)).tobytes()  # fmt: skip


def _beside(path: Path, suffix: str) -> Path | None:
    for candidate in (path.with_suffix(suffix), path.with_suffix(suffix.upper()), path.with_name(path.name + suffix)):
        if candidate.is_file():
            return candidate
    return None


def _mask(path: Path) -> str | None:
    return next((path.stem + end for end in MASKS if path.with_name(path.stem + end).is_file()), None)


def _focus(mask: Any, kept: float) -> tuple[float, float] | None:
    """Return the middle of what a mask shows, as shares of width and height; None when it shows all or nothing.

    Of what is taller than the share of the height that is `kept` it is the middle of the upper part: heads are there.
    """
    box = mask.point(lambda value: 255 if value >= 128 else 0).getbbox()
    if box is None or box == (0, 0, *mask.size):
        return None
    left, top, right, bottom = (edge / mask.size[n % 2] for n, edge in enumerate(box))
    return (left + right) / 2, top + min(bottom - top, kept) / 2


def _alike(a: bytes, b: bytes) -> bool:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) < 1.5 * len(a)


def _warnings(
    pictures: list[SetPicture], skipped: list[dict[str, str]], rows: list[dict[str, int]], trigger: str, batch: int,
    masked: bool,
) -> list[dict[str, str]]:  # fmt: skip
    found: list[dict[str, str]] = []

    def warn(code: str, message: str, fix: str) -> None:
        found.append({"code": code, "message": message, "fix": fix})

    def having(code: str) -> int:
        return sum(any(p["code"] == code for p in picture.problems) for picture in pictures)

    count = len(pictures)
    if not count:
        warn("no_pictures", "There is no usable picture in this folder.", "Put PNG, JPEG or WebP pictures into it.")
        if not skipped:
            return found
    elif count < FEW:
        warn(
            "few_pictures",
            f"{counted(count, 'picture')}: a likeness needs about 10 to 30.",
            "Add pictures that show other poses, clothes and backgrounds.",
        )
    if skipped:
        warn("skipped", f"{counted(len(skipped), 'file')} cannot be used.", "See the list for the reason of each.")
    bare = having("no_caption")
    if bare and bare == count:
        warn(
            "no_captions",
            "No picture has a caption, so everything in them is bound to the trigger word.",
            "Caption them (Datasets, Caption), naming what should stay changeable: clothes, background, expression.",
        )
    elif bare:
        warn("captions_missing", f"{bare} of {count} pictures have no caption.", "Caption the rest as well.")
    if not trigger and count:
        warn("no_trigger", "There is no trigger word.", "Give a made-up word, so that the likeness can be called up.")
    elif count and (added := sum(p.trigger_added for p in pictures)):
        lead = f"{trigger.strip()}, "
        if added == count and (
            other := shared_word(p.caption.removeprefix(lead) for p in pictures if p.caption != trigger)
        ):
            warn(
                "other_trigger",
                f"Every caption begins with '{other}', and the trigger word is '{trigger}': both words would be trained.",
                f"Use '{other}' as the trigger word, or take it out of the captions.",
            )
            found[-1]["word"] = other
        else:
            those = "none" if added == count else str(count - added)
            warn(
                "trigger_added",
                f"The trigger word '{trigger}' stands in {those} of {count} captions; it is put in front of the "
                f"{'others' if added < count else 'caption' if count == 1 else 'captions'}.",
                "Nothing to do, unless it should stand elsewhere in the caption.",
            )
    if small := having("upscaled"):
        warn(
            "too_small", f"{counted(small, 'picture')} will be enlarged.", "Use larger originals or a lower resolution."
        )
    if cut := having("heavy_crop"):
        warn(
            "heavy_crop", f"{counted(cut, 'picture')} will lose a large part.", "Look at the crops; cut them yourself."
        )
    if twins := having("duplicate") + having("near_duplicate"):
        warn("duplicates", f"{counted(twins, 'picture')} repeat others and count double.", "Remove the copies.")
    if long := having("long_caption"):
        warn(
            "long_captions",
            f"{counted(long, 'caption')} may be longer than 77 tokens.",
            "SD 1.5 and SDXL read long captions in windows here; programs without that cut them off.",
        )
    short = [row for row in rows if row["pictures"] < batch]
    if short and count >= batch:
        warn(
            "bucket_smaller_than_batch",
            f"{counted(len(short), 'bucket')} hold fewer pictures than the batch size {batch}; they train as smaller batches.",
            "Nothing is dropped. Crop these pictures to a common shape if you want full batches.",
        )
    if masked and not any(p.alpha or p.mask for p in pictures):
        warn(
            "no_masks",
            "Masked loss is on, but no picture has transparency or a mask file.",
            "Add <name>-masklabel.png beside the pictures (white counts, black does not), or switch it off.",
        )
    if damaged := having("mask_damaged"):
        warn("masks_damaged", f"{counted(damaged, 'mask')} cannot be read.", "Save them again as PNG, or delete them.")
    if not masked and (see := sum(p.alpha for p in pictures)):
        warn("transparent", f"{counted(see, 'picture')} are transparent and get a white ground.", "Or use masked loss.")
    if not masked and (have := sum(p.mask is not None for p in pictures)):
        warn(
            "masks_unused",
            f"{counted(have, 'mask')} beside the pictures {'is' if have == 1 else 'are'} not used.",
            "Switch masked loss on.",
        )
    return found
