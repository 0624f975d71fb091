"""Where the files of an import come from: a zip, single files that were uploaded, a folder on this computer.

All of them look the same to the import: a list of `SourceFile` with clean relative paths, what had to be refused,
and bytes on request. Which file is a picture and which caption belongs to it is found in dataset_import_captions.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from dalla import imaging
from dalla.archives import (
    OTHER_ARCHIVES,
    ZIPS,
    Archive,
    Entry,
    Limits,
    Refusal,
    clean_path,
    is_hidden,
    is_zip,
    printable,
)
from dalla.errors import Forbidden, InvalidInput, NotFound, StorageError, TooLarge, UnsupportedMedia
from dalla.filenames import filename_key

PICTURES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".avif",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".heic",
    ".heif",
)
HEIC = (".heic", ".heif")
MAX_FILES = 200_000  # in one folder
#: Sentences for what this module refuses itself.
WHY = {
    "link": "It is a link that leads out of the folder.",
    "special_file": "It is a device, socket or pipe, not a file.",
    "unreadable": "It cannot be read with the permissions of this app.",
    "too_many": f"More than {MAX_FILES:,} files are not taken at once.",
    "same_name": "Another file has the same name.",
}


@dataclass(frozen=True)
class SourceFile:
    """One file that can be read. `name` is its relative path with `/`.

    `twin_key` is equal for files that may have the same bytes, and differs for those that surely have not.
    """

    name: str
    size: int
    twin_key: tuple[int, ...]
    handle: object = None  # the source's own


class Source(Protocol):
    """Files to import. Close it when done."""

    kind: str  # "zip" | "folder" | "files"
    label: str  # the name of the archive or folder, "3 files"
    files: list[SourceFile]
    refused: list[Refusal]

    def read(self, file: SourceFile, limit: int | None = None) -> bytes:
        """Return its bytes, or the first `limit`. Raises InvalidInput (damaged), StorageError. Safe in threads."""

    def close(self) -> None: ...


class ZipSource:
    """An archive. `prefix` is put in front of every name."""

    kind = "zip"

    def __init__(self, path: Path, name: str, *, limits: Limits | None = None, temp: Path | None = None) -> None:
        self.label = name
        self._archive = Archive(path, name=name, limits=limits, temp=temp)
        self.refused = self._archive.refused
        self.files: list[SourceFile] = []
        taken: set[str] = set()
        for entry in self._archive.entries:
            key = filename_key(entry.path)
            if key in taken:  # of an archive inside, beside a folder of its name
                self.refused.append(Refusal(printable(entry.path), "same_name", WHY["same_name"]))
                continue
            taken.add(key)
            self.files.append(SourceFile(entry.path, entry.size, (entry.size, entry.crc), entry))

    def read(self, file: SourceFile, limit: int | None = None) -> bytes:
        assert isinstance(file.handle, Entry)
        return self._archive.read(file.handle, limit)

    def close(self) -> None:
        self._archive.close()


class _OnDisk:
    files: list[SourceFile]
    refused: list[Refusal]

    def read(self, file: SourceFile, limit: int | None = None) -> bytes:
        assert isinstance(file.handle, Path)
        try:
            with file.handle.open("rb") as stream:
                return stream.read() if limit is None else stream.read(limit)
        except OSError as exc:
            raise StorageError(
                f"'{file.name}' cannot be read: {exc.strerror or exc}.", remedy="Check the disk and its permissions."
            ) from exc

    def close(self) -> None:
        """Nothing is held open."""


class FolderSource(_OnDisk):
    """A folder on this computer with everything below it. Links that lead out of it are refused, never followed.

    Raises StorageError when the folder itself cannot be read.
    """

    kind = "folder"

    def __init__(self, root: Path) -> None:
        self.label = root.name or str(root)
        self.files: list[SourceFile] = []
        self.refused: list[Refusal] = []
        self._root = Path(os.path.realpath(root))
        try:
            with os.scandir(self._root) as listing:
                next(listing, None)
        except OSError as exc:
            raise StorageError(
                f"The folder '{self.label}' cannot be read: {exc.strerror or exc}.",
                remedy="Give this user permission to read it.",
            ) from exc
        for path, name in self._walk():
            self._look(path, name)

    def _walk(self) -> Iterator[tuple[Path, str]]:
        def failed(exc: OSError) -> None:
            name = os.path.relpath(exc.filename, self._root) if exc.filename else self.label
            self.refused.append(Refusal(printable(name), "unreadable", WHY["unreadable"]))

        for where, folders, names in os.walk(self._root, onerror=failed):
            here = Path(where)
            for folder in list(folders):
                if is_hidden(folder):
                    folders.remove(folder)
                elif (here / folder).is_symlink():
                    folders.remove(folder)
                    self.refused.append(Refusal(printable(self._relative(here / folder)), "link", WHY["link"]))
            folders.sort()
            for name in sorted(names):
                if not is_hidden(name):
                    yield here / name, self._relative(here / name)

    def _relative(self, path: Path) -> str:
        name = path.relative_to(self._root).as_posix()
        try:
            name.encode()
            return name
        except UnicodeEncodeError:  # the bytes of the name are in an older encoding
            return os.fsencode(name).decode("cp1252", "replace")

    def _look(self, path: Path, name: str) -> None:
        if len(self.files) >= MAX_FILES:
            if not any(refusal.code == "too_many" for refusal in self.refused):
                self.refused.append(Refusal(printable(name), "too_many", WHY["too_many"]))
            return
        clean, sin = clean_path(name)
        if sin in ("bad_name", "device_name"):
            self.refused.append(
                Refusal(printable(name), "bad_name", "Its name cannot be written everywhere. Rename it.")
            )
            return
        try:
            if path.is_symlink():
                real = Path(os.path.realpath(path))
                if self._root not in real.parents:
                    self.refused.append(Refusal(printable(name), "link", WHY["link"]))
                    return
            state = path.stat()
        except OSError:
            self.refused.append(Refusal(printable(name), "unreadable", WHY["unreadable"]))
            return
        if not stat.S_ISREG(state.st_mode):
            self.refused.append(Refusal(printable(name), "special_file", WHY["special_file"]))
            return
        if path.suffix.lower() in (*ZIPS, *OTHER_ARCHIVES):
            detail = "An archive in a folder is left alone; import it by itself."
            self.refused.append(Refusal(printable(name), "archive_in_folder", detail))
            return
        self.files.append(SourceFile(clean, state.st_size, (state.st_size,), path))


class FilesSource(_OnDisk):
    """Single files: (name as sent, path where its bytes lie). A name sent twice is numbered the second time."""

    kind = "files"

    def __init__(self, files: Iterable[tuple[str, Path]]) -> None:
        self.files: list[SourceFile] = []
        self.refused: list[Refusal] = []
        taken: set[str] = set()
        for given, path in files:
            name, sin = clean_path(given)
            if sin:
                self.refused.append(Refusal(printable(given), sin, "Its name cannot be used. Rename it."))
                continue
            if is_hidden(name):
                continue
            try:
                size = path.stat().st_size
            except OSError:
                self.refused.append(Refusal(printable(given), "unreadable", WHY["unreadable"]))
                continue
            if path.suffix.lower() in OTHER_ARCHIVES or Path(name).suffix.lower() in OTHER_ARCHIVES:
                detail = "It is an archive of a kind that is not opened here. Pack it as zip."
                self.refused.append(Refusal(printable(given), "unsupported_archive", detail))
                continue
            wish, n = name, 1
            while filename_key(name) in taken:
                n += 1
                name = numbered(wish, n)
            taken.add(filename_key(name))
            self.files.append(SourceFile(name, size, (size,), path))
        self.label = self.files[0].name.rpartition("/")[2] if len(self.files) == 1 else f"{len(self.files)} files"


class Sources:
    """Several sources as one: uploads of which some are archives. Names that meet get the archive's name in front."""

    kind = "files"

    def __init__(self, parts: list[Source]) -> None:
        self._parts = parts
        self.files: list[SourceFile] = []
        self.refused = [refusal for part in parts for refusal in part.refused]
        self.label = parts[0].label if len(parts) == 1 else " + ".join(part.label for part in parts[:3])
        if len(parts) > 3:
            self.label += f" + {len(parts) - 3} more"
        if len(parts) == 1:
            self.kind = parts[0].kind
        folders: set[str] = set()
        taken: set[str] = set()
        for part in parts:
            keys = {filename_key(file.name) for file in part.files}
            prefix = ""
            if len(parts) > 1 and keys & taken:
                prefix = _free_folder(part.label, folders)
            for file in part.files:
                name = prefix + file.name
                key = filename_key(name)
                if key in taken:
                    self.refused.append(Refusal(printable(name), "same_name", WHY["same_name"]))
                    continue
                taken.add(key)
                self.files.append(SourceFile(name, file.size, file.twin_key, (part, file)))

    def read(self, file: SourceFile, limit: int | None = None) -> bytes:
        assert isinstance(file.handle, tuple)
        part, inner = file.handle
        data: bytes = part.read(inner, limit)
        return data

    def close(self) -> None:
        for part in self._parts:
            part.close()


def open_source(
    *,
    uploads: list[tuple[str, Path]] | None = None,
    path: str | None = None,
    private: Path,
    limits: Limits | None = None,
) -> Source:
    """Open what is to be imported: uploaded files (name, path), or a folder, archive or picture on this computer.

    `private` is the data folder, which is never imported from; archives inside archives are unpacked in its
    `uploads/`. Raises InvalidInput, NotFound, Forbidden, UnsupportedMedia, TooLarge, StorageError.
    """
    temp = private / "uploads"
    with contextlib.suppress(OSError):
        temp.mkdir(parents=True, exist_ok=True)
    if path is not None:
        place = server_path(path, private)
        if place.is_dir():
            return FolderSource(place)
        if _looks_like_zip(place, place.name):
            return ZipSource(place, place.name, limits=limits, temp=temp)
        return FilesSource([(place.name, place)])
    zips: list[tuple[str, Path]] = []
    loose: list[tuple[str, Path]] = []
    for name, file in uploads or []:
        (zips if _looks_like_zip(file, name) else loose).append((name, file))
    parts: list[Source] = []
    refused: list[Refusal] = []
    try:
        for name, file in zips:
            try:
                parts.append(ZipSource(file, name.rpartition("/")[2], limits=limits, temp=temp))
            except (InvalidInput, TooLarge, UnsupportedMedia) as exc:
                if len(zips) + len(loose) == 1:
                    raise
                refused.append(Refusal(printable(name), "damaged", exc.detail))
        if loose or not parts:
            parts.insert(0, FilesSource(loose))  # single files keep their names
    except BaseException:
        for part in parts:
            part.close()
        raise
    whole = Sources(parts)
    whole.refused += refused
    return whole


def server_path(text: str, private: Path) -> Path:
    """Return the place a person named. Raises InvalidInput, NotFound, Forbidden (inside the data folder)."""
    given = text.strip()
    if not given or "\0" in given:
        raise InvalidInput.field("path", "Give the path of a folder or archive on this computer.")
    place = Path(os.path.expanduser(given))
    if not place.is_absolute():
        raise InvalidInput.field("path", "Give the whole path, from the root of the disk.")
    try:
        real = Path(os.path.realpath(place))
        there = real.exists()
    except (OSError, ValueError) as exc:
        raise InvalidInput.field("path", "This is not a path.") from exc
    data = Path(os.path.realpath(private))
    if real == data or data in real.parents or real in data.parents:
        raise Forbidden(
            "The data folder of this app, or one that contains it, is not imported from.",
            remedy="Copy the pictures to another folder first.",
        )
    if not there:
        raise NotFound(f"There is no folder or file '{printable(given)}' on this computer.", remedy="Check the path.")
    if not real.is_dir() and not real.is_file():
        raise InvalidInput.field("path", "This is neither a folder nor a file.")
    return real


def reads_heic() -> bool:
    """Whether HEIC pictures can be read: pillow-heif is installed."""
    return "image/heic" in imaging.EXTENSIONS and importlib.util.find_spec("pillow_heif") is not None


def kind_of(head: bytes) -> str:
    """Say what a file with these first 32 bytes is: "picture", "heic", "video", "zip", "empty" or "other"."""
    if not head:
        return "empty"
    if head[4:8] == b"ftyp":
        brands = head[8:32]
        if brands[:4] in (b"avif", b"avis") or b"avif" in brands:
            return "picture"
        if brands[:4] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"):
            return "heic"
        return "video"
    if head.startswith(
        (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    ):
        return "picture"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "picture"
    if head[:4] == b"\x1aE\xdf\xa3" or head[8:12] == b"AVI ":
        return "video"
    return "zip" if is_zip(head) else "other"


def _looks_like_zip(path: Path, name: str) -> bool:
    try:
        with path.open("rb") as stream:
            return is_zip(stream.read(4)) or name.lower().endswith(ZIPS)
    except OSError as exc:
        raise StorageError(f"{path.name} cannot be read: {exc.strerror or exc}.") from exc


def numbered(filename: str, n: int) -> str:
    """Return "a/b-2.png" for ("a/b.png", 2)."""
    path = PurePosixPath(filename)
    return str(path.with_name(f"{path.stem}-{n}{path.suffix}"))


def _free_folder(label: str, taken: set[str]) -> str:
    stem = label.rpartition(".")[0] or label
    name, n = stem, 2
    while filename_key(name) in taken:
        name, n = f"{stem}-{n}", n + 1
    taken.add(filename_key(name))
    return f"{name}/"
