"""Read zip archives from anybody, safely and without holding them in memory.

Nothing is ever unpacked to the names inside: entries are listed under cleaned paths and streamed one at a time.
What must not be followed is refused by the name of its sin (`SINS`), entry by entry; the rest stays usable. An
archive inside the archive is opened too, one level deep.
"""

from __future__ import annotations

import os
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dalla.errors import InvalidInput, StorageError, TooLarge, UnsupportedMedia
from dalla.filenames import filename_key

#: Why an entry is refused: code -> sentence.
SINS = {
    "path_escape": "Its path leads out of the archive ('..').",
    "absolute_path": "Its path starts at the root of a disk.",
    "link": "It is a link to somewhere else.",
    "special_file": "It is a device, socket or pipe, not a file.",
    "device_name": "Windows keeps that name for a device.",
    "bad_name": "Its name has characters no file may have, or is too long.",
    "case_collision": "Another file of the archive has the same name but for upper and lower case.",
    "same_name": "Another file of the archive has the same name.",
    "encrypted": "It is encrypted. Unpack the archive with its password and import the folder.",
    "nested_archive": "It is an archive inside an archive inside an archive; only one level is opened.",
    "unsupported_archive": "It is an archive of a kind that is not opened here. Unpack it, or pack it as zip.",
    "compression": "It is packed by a method that cannot be read here. Pack the archive anew as plain zip.",
    "bomb": "It unpacks to far more than it could hold: a decompression bomb.",
    "too_large": "It is larger than a single file may be.",
    "too_many": "The archive holds more files than are taken at once.",
    "too_much": "The archive unpacks to more than is taken at once.",
    "damaged": "The archive is damaged there.",
}
ZIPS = (".zip", ".cbz")
OTHER_ARCHIVES = (".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".cbr", ".cb7")
_DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    "conin$",
    "conout$",
    *(f"{p}{n}" for p in ("com", "lpt") for n in "0123456789¹²³"),
}
_PIECE = 1 << 20
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Limits:
    """What is taken from one archive, what is nested in it included."""

    entries: int = 200_000
    total_bytes: int = 200 * 1000**3  # unpacked
    entry_bytes: int = 4 * 1000**3  # unpacked, of one entry that is not an archive
    nested_bytes: int = 20 * 1000**3  # of one archive inside
    ratio: float = 300.0  # unpacked to packed, looked at from `ratio_from` bytes on
    ratio_from: int = 16 * 1024 * 1024
    directory_bytes: int = 128 * 1024 * 1024  # of the table of contents


@dataclass(frozen=True)
class Entry:
    """One readable file. `name` is its clean path with `/`; `inside` the nested archive it lies in ("" : none).

    The full path, `inside` as a folder included, is `path`. Sizes in bytes; `crc` is the one the archive tells.
    """

    name: str
    size: int
    crc: int
    inside: str = ""
    index: int = 0

    @property
    def path(self) -> str:
        return f"{self.inside.rpartition('.')[0]}/{self.name}" if self.inside else self.name


@dataclass(frozen=True)
class Refusal:
    """A file that is not taken, and why: `code` is a key of SINS or of whoever refused it."""

    name: str
    code: str
    detail: str

    def json(self) -> dict[str, str]:
        return {"name": self.name, "code": self.code, "detail": self.detail}


class Archive:
    """An open zip. `entries` are readable, `refused` are not; use it with `with`. Safe for several threads.

    Raises UnsupportedMedia (not a zip), InvalidInput (damaged from the start), TooLarge (a table of contents beyond
    all measure), StorageError (the file, or room for a nested archive).
    """

    def __init__(
        self, file: Path, *, name: str | None = None, limits: Limits | None = None, temp: Path | None = None
    ) -> None:
        """Open `file`; `temp` is the folder in which a nested archive is unpacked while it is read."""
        self._temp = temp
        self.name = name or file.name
        self.limits = limits or Limits()
        self.entries: list[Entry] = []
        self.refused: list[Refusal] = []
        self._open = ExitStack()
        self._zips: dict[str, zipfile.ZipFile] = {}
        self._infos: dict[tuple[str, int], zipfile.ZipInfo] = {}
        self._left = self.limits.total_bytes
        self._room = self.limits.entries
        try:
            self._read(file, "", self.name)
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and remove what was unpacked for a nested archive."""
        self._open.close()

    def open(self, entry: Entry) -> IO[bytes]:
        """Return the stream of an entry. It ends after `entry.size` bytes; reading may raise what `read` names."""
        try:
            return self._zips[entry.inside].open(self._infos[entry.inside, entry.index])
        except _BROKEN as exc:
            raise self._damaged(entry, exc) from exc

    def read(self, entry: Entry, limit: int | None = None) -> bytes:
        """Return an entry whole, or its first `limit` bytes. Raises InvalidInput when it is damaged there."""
        try:
            with self.open(entry) as stream:
                return stream.read() if limit is None else stream.read(limit)
        except _BROKEN as exc:
            raise self._damaged(entry, exc) from exc
        except OSError as exc:
            raise StorageError(f"The archive '{self.name}' cannot be read: {exc.strerror or exc}.") from exc

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """Yield an entry in pieces of a megabyte. Raises like `read`."""
        try:
            with self.open(entry) as stream:
                while piece := stream.read(_PIECE):
                    yield piece
        except _BROKEN as exc:
            raise self._damaged(entry, exc) from exc

    def _damaged(self, entry: Entry, exc: Exception) -> InvalidInput:
        return InvalidInput(
            f"'{entry.name}' is damaged inside the archive: {exc}",
            remedy="Pack the archive again.",
            extra={"sin": "damaged"},
        )

    # ------------------------------------------------------------ reading the table of contents

    def _read(self, source: Path | IO[bytes], inside: str, label: str) -> None:
        handle = self._handle(source)
        _check_directory(handle, label, self.limits)
        try:
            opened = self._open.enter_context(zipfile.ZipFile(handle))
            infos = opened.infolist()
        except zipfile.BadZipFile as exc:
            raise UnsupportedMedia(
                f"{label} is not a zip archive, or its end is missing: {exc}.", remedy="Send it again, or pack it anew."
            ) from exc
        except (NotImplementedError, *_BROKEN) as exc:
            raise InvalidInput(f"{label} is damaged: {exc}.", remedy="Pack it anew.") from exc
        self._zips[inside] = opened
        shared = _overlapping(infos)
        seen: dict[str, str] = {}
        nested: list[Entry] = []
        for index, info in enumerate(infos):
            shown = _given_name(info)
            if info.is_dir() or _is_litter(shown):
                continue
            name, sin = _clean(shown)
            sin = sin or self._sin(info, index in shared) or _twin(seen, name)
            suffix = os.path.splitext(name)[1].lower()
            if not sin and suffix in OTHER_ARCHIVES:
                sin = "unsupported_archive"
            if not sin and suffix in ZIPS and inside:
                sin = "nested_archive"
            if not sin and self._room <= 0:
                sin = "too_many"
            if not sin and info.file_size > self._left:
                sin = "too_much"
            if sin:
                self._refuse(f"{inside}/{shown}" if inside else shown, sin)
                continue
            entry = Entry(name, info.file_size, info.CRC, inside, index)
            self._infos[inside, index] = info
            if suffix in ZIPS:
                nested.append(entry)
                continue
            self._room -= 1
            self._left -= info.file_size
            self.entries.append(entry)
        for entry in nested:
            self._read_nested(entry)

    def _handle(self, source: Path | IO[bytes]) -> IO[bytes]:
        if not isinstance(source, Path):
            return source
        try:
            return self._open.enter_context(source.open("rb"))
        except OSError as exc:
            raise StorageError(f"{source.name} cannot be read: {exc.strerror or exc}.") from exc

    def _read_nested(self, entry: Entry) -> None:
        """Unpack an archive inside into a nameless temporary file and list it."""
        room = min(self.limits.nested_bytes, self._left)
        if entry.size > room:
            self._refuse(entry.name, "too_large" if entry.size > self.limits.nested_bytes else "too_much")
            return
        self._left -= entry.size
        try:
            spool = self._open.enter_context(tempfile.TemporaryFile(prefix="dalla-", dir=self._temp))
            for piece in self.pieces(entry):
                spool.write(piece)
            spool.seek(0)
            self._read(spool, entry.name, entry.name)
        except OSError as exc:
            raise StorageError.from_os(exc, f"the archive inside ({entry.name})") from exc
        except TooLarge:
            self._refuse(entry.name, "bomb")
        except (InvalidInput, UnsupportedMedia):
            self._refuse(entry.name, "damaged")

    def _sin(self, info: zipfile.ZipInfo, shared: bool) -> str | None:
        mode = info.external_attr >> 16
        if stat.S_ISLNK(mode):
            return "link"
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            return "special_file"
        if info.flag_bits & 0x1 or info.flag_bits & 0x40:
            return "encrypted"
        if info.compress_type not in _METHODS:
            return "encrypted" if info.compress_type == 99 else "compression"
        packed = max(1, info.compress_size)
        if shared or (info.file_size >= self.limits.ratio_from and info.file_size / packed > self.limits.ratio):
            return "bomb"
        is_zip = os.path.splitext(info.filename)[1].lower() in ZIPS
        if info.file_size > (self.limits.nested_bytes if is_zip else self.limits.entry_bytes):
            return "too_large"
        return None

    def _refuse(self, name: str, sin: str) -> None:
        self.refused.append(Refusal(printable(name), sin, SINS[sin]))


def printable(name: str) -> str:
    """Return a name that can be shown and written to a log: no control characters, at most 300 characters."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name)[:300]


def clean_path(name: str) -> tuple[str, str | None]:
    """Return a relative path with `/`, and the sin that forbids it or None. For names from outside of any kind.

    >>> clean_path("a\\\\b/../../c.png")
    ('a/b/../../c.png', 'path_escape')
    >>> clean_path("./set//Ä.png")
    ('set/Ä.png', None)
    """
    return _clean(name)


def _clean(given: str) -> tuple[str, str | None]:
    name = unicodedata.normalize("NFC", given.replace("\\", "/"))
    if name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        return name, "absolute_path"
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        return name, "path_escape"
    for part in parts:
        if len(part) > 255 or any(_unfit(c) for c in part):
            return name, "bad_name"
        if part.split(".")[0].rstrip().lower() in _DEVICES:
            return name, "device_name"
    path = "/".join(parts)
    return (path, None) if path and len(path) <= 1000 else (name, "bad_name")


def _unfit(c: str) -> bool:
    """Control characters, lone surrogates, and the marks that make a name read other than it is."""
    return (
        unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
        or c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
    )


def is_hidden(name: str) -> bool:
    """Whether a path is what operating systems leave behind: __MACOSX, dotfiles, Thumbs.db, desktop.ini."""
    return _is_litter(name)


def _is_litter(name: str) -> bool:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return any(p == "__MACOSX" or p.startswith(".") for p in parts) or (
        bool(parts) and parts[-1].lower() in ("thumbs.db", "desktop.ini", "@eadir")
    )


def _twin(seen: dict[str, str], name: str) -> str | None:
    key = filename_key(name)
    if key not in seen:
        seen[key] = name
        return None
    return "same_name" if seen[key] == name else "case_collision"


def _given_name(info: zipfile.ZipInfo) -> str:
    """The name as it was meant: many programs write UTF-8 without saying so, which zipfile then reads as cp437."""
    name = info.orig_filename.split("\0")[0]
    if info.flag_bits & 0x800 or name.isascii():
        return name
    try:
        raw = name.encode("cp437")
    except UnicodeEncodeError:
        return name
    unicode_path = _unicode_path(info.extra, raw)
    if unicode_path is not None:
        return unicode_path
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return name


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """The extra field 0x7075, valid only beside the name whose CRC it tells."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        body = extra[at + 4 : at + 4 + size]
        if (
            kind == 0x7075
            and len(body) > 5
            and body[0] == 1
            and struct.unpack_from("<I", body, 1)[0] == zlib.crc32(raw)
        ):
            try:
                return body[5:].decode("utf-8")
            except UnicodeDecodeError:
                return None
        at += 4 + size
    return None


def _overlapping(infos: list[zipfile.ZipInfo]) -> set[int]:
    """Positions of entries whose packed bytes lie inside another's: the trick of bombs that share one kernel."""
    spans = sorted(
        (info.header_offset, info.header_offset + 30 + info.compress_size, n) for n, info in enumerate(infos)
    )
    found: set[int] = set()
    reach, last = -1, -1
    for start, end, n in spans:
        if start < reach:
            found |= {n, last}
        if end > reach:
            reach, last = end, n
    return found


def _check_directory(handle: IO[bytes], label: str, limits: Limits) -> None:
    """Look at the end of the file before the table of contents is read: it may claim millions of entries.

    Raises UnsupportedMedia (not a zip), TooLarge.
    """
    handle.seek(0, os.SEEK_END)
    size = handle.tell()
    tail_size = min(size, 65_557 + 20)
    handle.seek(size - tail_size)
    tail = handle.read(tail_size)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + 22 > len(tail):
        raise UnsupportedMedia(
            f"{label} is not a zip archive, or its end is missing.", remedy="Send it again, or pack it anew as zip."
        )
    count, directory = struct.unpack_from("<HI", tail, at + 10)
    locator = at - 20
    if locator >= 0 and tail[locator : locator + 4] == b"PK\6\7":
        (end64,) = struct.unpack_from("<Q", tail, locator + 8)
        handle.seek(min(end64, size))
        record = handle.read(56)
        if len(record) == 56 and record[:4] == b"PK\6\6":
            count, directory = struct.unpack_from("<QQ", record, 32)
    handle.seek(0)
    if count > 2 * limits.entries or directory > limits.directory_bytes:
        raise TooLarge(
            f"{label} says it holds {count:,} files; at most {limits.entries:,} are taken at once.",
            remedy="Split it into several archives.",
        )


def is_zip(head: bytes) -> bool:
    """Whether a file with these first bytes is a zip, whatever its name says."""
    return head[:4] in (b"PK\3\4", b"PK\5\6", b"PK\7\x08")


def describe(refused: list[Refusal]) -> list[dict[str, Any]]:
    """Return {code, count, detail, names} per sin, most frequent first, with at most 20 names each."""
    groups: dict[str, list[Refusal]] = {}
    for refusal in refused:
        groups.setdefault(refusal.code, []).append(refusal)
    rows = [
        {"code": code, "count": len(found), "detail": found[0].detail, "names": [r.name for r in found[:20]]}
        for code, found in groups.items()
    ]
    return sorted(rows, key=lambda row: (-int(str(row["count"])), str(row["code"])))
