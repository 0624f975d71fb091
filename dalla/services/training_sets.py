"""The folders in `training_data/`: take pictures and captions in, report what a training makes of them.

A folder holds what a trainer reads: pictures with captions of the same name beside them. People may fill it by
hand as well; nothing here needs a database.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dalla import imaging, training_set
from dalla.errors import DallaError, InvalidInput, NotFound, StorageError
from dalla.paths import safe_join, safe_name, write_atomic
from dalla.services.file_trash import FileTrash
from dalla.settings import Settings
from dalla.times import iso
from dalla.training_set import CAPTIONS, PICTURES, SetReport

logger = logging.getLogger(__name__)

MAX_FILES = 2000  # in one upload
MAX_CAPTION = 65_536  # bytes
KEPT_REPORTS = 16
_UNSAFE = re.compile(r"[^A-Za-z0-9._()+-]+")


@dataclass
class Added:
    """What became of an upload: names that were written, names that were not and why."""

    name: str
    files: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)


class TrainingSets:
    """All training sets of this installation."""

    def __init__(self, settings: Settings, trash: FileTrash) -> None:
        self._settings = settings
        self._trash = trash
        self._reports: OrderedDict[tuple[Any, ...], SetReport] = OrderedDict()
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    @property
    def root(self) -> Path:
        return Path(self._settings.training_data_dir)

    # ------------------------------------------------------------ reading

    def folder(self, name: str, field: str = "trainingData") -> Path:
        """Return the folder of a set. Raises InvalidInput for a name that leads elsewhere, NotFound; both name `field`."""
        if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
            raise InvalidInput.field(field, "Give the name of one folder in training_data/, without slashes.")
        path = safe_join(self.root, name)
        if not _is(path.is_dir):
            message = f"There is no folder '{name}' in training_data/."
            raise NotFound(message, errors=[{"field": field, "message": message}])
        return path

    def all(self) -> list[dict[str, Any]]:
        """Return every set, newest first: {name, pictures, captions, sizeBytes, updatedAt, coverUrl}."""
        try:
            folders = [p for p in self.root.iterdir() if p.is_dir() and not p.name.startswith(".")]
        except OSError:
            return []
        return sorted((self.summary(p) for p in folders), key=lambda row: row["updatedAt"], reverse=True)

    def summary(self, folder: Path) -> dict[str, Any]:
        """Count without decoding a picture."""
        from datetime import UTC, datetime

        files = list(self._files(folder))
        pictures = [
            p for p in files if p.suffix.lower() in PICTURES and not p.name.lower().endswith(training_set.MASKS)
        ]
        texts = [p for p in files if p.suffix.lower() in CAPTIONS]
        stems = {p.with_suffix("") for p in texts}  # "a.txt" belongs to a.png, and so does "a.png.txt"
        newest, size = folder.stat().st_mtime, 0
        for path in files:
            with contextlib.suppress(OSError):
                stat = path.stat()
                newest, size = max(newest, stat.st_mtime), size + stat.st_size
        cover = pictures[0].relative_to(folder).as_posix() if pictures else None
        return {
            "name": folder.name,
            "pictures": len(pictures),
            "captions": sum(p.with_suffix("") in stems or p in stems for p in pictures),
            "sizeBytes": size,
            "updatedAt": iso(datetime.fromtimestamp(newest, UTC)),
            "coverUrl": file_url(folder.name, cover) + "?size=s" if cover else None,
        }

    def report(self, name: str, **how: Any) -> SetReport:
        """Look at every picture as a training with these settings would (see training_set.scan).

        Remembered until a file of the folder changes. Raises NotFound, InvalidInput, StorageError.
        """
        folder = self.folder(name)
        key = (name, self._stamp(folder), tuple(sorted(how.items())))
        with self._lock:
            if key in self._reports:
                self._reports.move_to_end(key)
                return self._reports[key]
        report = training_set.scan(folder, **how)
        with self._lock:
            self._reports[key] = report
            while len(self._reports) > KEPT_REPORTS:
                self._reports.popitem(last=False)
        return report

    def own_trigger(self, name: str) -> str:
        """Return the made-up word that all captions of a set begin with, "" without one. Raises NotFound, InvalidInput."""
        texts = (path for path in self._files(self.folder(name)) if path.suffix.lower() in CAPTIONS)
        try:
            return training_set.shared_word(training_set.read_text(path) for path in texts)
        except OSError:
            return ""  # the look at the pictures tells what cannot be read

    def picture(self, name: str, file: str) -> Path:
        """Return the path of a picture of a set. Raises NotFound, InvalidInput."""
        folder = self.folder(name)
        path = safe_join(folder, *file.replace("\0", "?").split("/"))
        if path.suffix.lower() not in PICTURES or not _is(path.is_file) or path.name.startswith("."):
            raise NotFound(f"'{name}' has no picture '{file}'.")
        return path

    def thumbnail(self, name: str, file: str, size: str = "s") -> bytes:
        """Return a small upright WebP of a picture. Raises NotFound, InvalidInput and what decoding raises."""
        if size not in imaging.THUMBNAILS:
            raise InvalidInput.field("size", f"Use {' or '.join(imaging.THUMBNAILS)}.")
        picture = imaging.open_image(self.picture(name, file).read_bytes(), name=file)
        return imaging.thumbnails(picture.image)[size]

    # ------------------------------------------------------------ writing

    def free_name(self, wish: str) -> str:
        """Return a folder name like the wish that no set has yet."""
        plain = plain_name(wish, "pictures")
        name, n = plain, 2
        while (self.root / name).exists():
            name, n = f"{plain}-{n}", n + 1
        return name

    def add(self, name: str, files: Iterable[tuple[str, bytes]]) -> Added:
        """Put pictures and caption files into a set, making the folder if it is new.

        Each file succeeds or fails by itself; the same bytes are taken once. Raises InvalidInput when nothing
        usable was given (then no folder is left behind), StorageError.
        """
        safe_name(name)
        folder = safe_join(self.root, name)
        result = Added(name)
        pictures: list[tuple[str, bytes]] = []
        texts: list[tuple[str, bytes]] = []
        for n, (given, data) in enumerate(files):
            if n >= MAX_FILES:
                raise InvalidInput.field("files", f"At most {MAX_FILES} files at once.")
            is_text = Path(given).suffix.lower() in CAPTIONS
            (texts if is_text else pictures).append((Path(given.replace("\\", "/")).name or "picture", data))
        try:
            with self._writing:
                self._write(folder, pictures, texts, result)
        except OSError as exc:
            raise StorageError.from_os(exc, "the training pictures") from exc
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only when it is empty
        if not result.files and not result.captions and not result.duplicates:
            why = result.failed[0]["detail"] if result.failed else "No file was sent."
            raise InvalidInput(
                why if len(result.failed) <= 1 else f"None of the {len(result.failed)} files could be used. {why}",
                errors=[{"field": "files", "message": f"{row['id']}: {row['detail']}"} for row in result.failed]
                or [{"field": "files", "message": why}],
            )
        return result

    def _write(
        self, folder: Path, pictures: list[tuple[str, bytes]], texts: list[tuple[str, bytes]], result: Added
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        known = {_sha(p.read_bytes()): p.name for p in self._files(folder) if p.suffix.lower() in PICTURES}
        stems: dict[str, str] = {}  # as sent -> as written
        for given, data in pictures:
            try:
                picture = imaging.open_image(data, name=given)
            except DallaError as exc:
                result.failed.append({"id": given, "code": exc.code, "detail": exc.detail})
                continue
            if (twin := known.get(_sha(data))) is not None:
                result.duplicates.append(given)
                stems.setdefault(Path(given).stem, Path(twin).stem)
                continue
            ending = imaging.EXTENSIONS[picture.mime]
            path = _free(folder, plain_name(Path(given).stem, "picture"), ending)
            write_atomic(path, data)
            known[_sha(data)] = path.name
            stems[Path(given).stem] = path.stem
            result.files.append(path.name)
        there = {p.stem for p in self._files(folder) if p.suffix.lower() in PICTURES}
        for given, data in texts:
            stem = Path(given).stem
            target = stems.get(stem) or stems.get(Path(stem).stem) or (stem if stem in there else None)
            if target is None:
                result.failed.append({"id": given, "code": "no_picture", "detail": f"There is no picture '{stem}' for this caption."})  # fmt: skip
            elif len(data) > MAX_CAPTION:
                result.failed.append({"id": given, "code": "too_large", "detail": "A caption may have 64 kB."})
            else:
                self._write_caption(folder / f"{target}.txt", data)
                result.captions.append(f"{target}.txt")

    @staticmethod
    def _write_caption(path: Path, data: bytes) -> None:
        temp = path.with_name(f".{path.name}.in")
        temp.write_bytes(data)
        try:
            text = training_set.read_text(temp)  # whatever encoding it came in
        finally:
            temp.unlink()
        write_atomic(path, text.encode() + b"\n")

    def set_caption(self, name: str, file: str, caption: str) -> None:
        """Write the caption of one picture; an empty one removes it. Raises NotFound, InvalidInput, StorageError."""
        path = self.picture(name, file)
        try:
            for suffix in CAPTIONS:
                for old in (
                    path.with_suffix(suffix),
                    path.with_suffix(suffix.upper()),
                    path.with_name(path.name + suffix),
                ):
                    if old != path.with_suffix(".txt"):
                        old.unlink(missing_ok=True)
            if caption.strip():
                write_atomic(path.with_suffix(".txt"), " ".join(caption.split()).encode() + b"\n")
            else:
                path.with_suffix(".txt").unlink(missing_ok=True)
        except OSError as exc:
            raise StorageError.from_os(exc, "the caption") from exc

    def delete_picture(self, name: str, file: str) -> str:
        """Move a picture and what belongs to it to the trash; return the id for `restore`."""
        path = self.picture(name, file)
        beside = [path.with_suffix(s) for s in CAPTIONS] + [path.with_name(path.name + s) for s in CAPTIONS]
        beside += [path.with_name(path.stem + s) for s in training_set.MASKS]
        return self._trash.put(f"{name}/{file}", [path, *(p for p in dict.fromkeys(beside) if p.is_file())])

    def delete(self, name: str) -> str:
        """Move a whole set to the trash; return the id for `restore`. Raises NotFound, StorageError."""
        return self._trash.put(name, [self.folder(name)])

    def restore(self, trash_id: str) -> str:
        """Bring a set or a picture back; return its name. Raises NotFound, Conflict."""
        return str(self._trash.restore(trash_id)["name"])

    # ------------------------------------------------------------ files

    @staticmethod
    def _files(folder: Path) -> Iterable[Path]:
        """The files of a set: in the folder itself and in folders named "10_anything" below it."""
        with contextlib.suppress(OSError):
            for path in sorted(folder.iterdir(), key=lambda p: p.name.lower()):
                if path.name.startswith("."):
                    continue
                if path.is_file():
                    yield path
                elif re.match(r"\d{1,3}_", path.name) and path.is_dir():
                    yield from (p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith("."))

    def _stamp(self, folder: Path) -> str:
        parts = []
        for path in self._files(folder):
            with contextlib.suppress(OSError):
                stat = path.stat()
                parts.append(f"{path.relative_to(folder)}:{stat.st_size}:{stat.st_mtime_ns}")
        return hashlib.sha1("|".join(parts).encode(), usedforsecurity=False).hexdigest()


def file_url(name: str, file: str) -> str:
    """Return the address of a picture of a set."""
    from urllib.parse import quote

    return f"/api/lora/training-data/{quote(name, safe='')}/files/{quote(file)}"


def plain_name(text: str, otherwise: str) -> str:
    """Return the text as a file name of plain letters: what people type or upload, made safe.

    >>> plain_name("Luna (2) Übung!", "x")
    'Luna-(2)-Ubung'
    """
    import unicodedata

    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"\.{2,}", ".", _UNSAFE.sub("-", letters)).strip("-._() ")[:80].rstrip("-. ")
    with contextlib.suppress(InvalidInput):
        return safe_name(name) if name else otherwise
    return otherwise


def _free(folder: Path, stem: str, ending: str) -> Path:
    """A name in the folder whose stem no other file has: captions go by the stem."""
    taken = {p.stem.lower() for p in folder.iterdir()}
    name, n = stem, 2
    while name.lower() in taken:
        name, n = f"{stem}-{n}", n + 1
    return folder / f"{name}.{ending}"


def _is(look: Callable[[], bool]) -> bool:
    """Ask a path what it is; a name too long to exist is nothing."""
    try:
        return look()
    except OSError:
        return False


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def from_base64(images: list[str]) -> list[tuple[str, bytes]]:
    """Return pictures that came inside JSON (plain base64 or data: addresses). Raises InvalidInput by position."""
    import base64
    import binascii

    found = []
    for n, text in enumerate(images):
        body = text.partition(",")[2] if text.startswith("data:") else text
        try:
            data = base64.b64decode("".join(body.split()), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInput.field(f"images.{n}", "This is not base64.") from None
        if not data:
            raise InvalidInput.field(f"images.{n}", "This picture is empty.")
        found.append((f"picture-{n + 1:03}", data))
    return found
