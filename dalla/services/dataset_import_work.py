"""The work of an import on single pictures: decode, measure, name, write. Which pictures is decided elsewhere.

`prepare` runs in threads and touches nothing. `Intake` then takes prepared pictures in, a few dozen at a time:
bytes first, then the rows in one transaction, so that a picture is either wholly there or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import unicodedata
from collections.abc import Iterator
from concurrent.futures import Executor, wait
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from dalla import imaging, recipes
from dalla.errors import Conflict, DallaError, InvalidInput
from dalla.filenames import filename_key
from dalla.records.dataset import DatasetImage
from dalla.services.dataset_files import thumb_key
from dalla.services.dataset_import_captions import MAX_CHARACTERS, tidy
from dalla.services.dataset_sources import numbered
from dalla.stores.base import BlobStore, DatasetStore
from dalla.times import now_iso

if TYPE_CHECKING:
    from dalla.services.dataset_import_inventory import Found
    from dalla.services.dataset_masks import Mask

#: What a part of a key may have in bytes: file systems take 255, and a temporary name needs some of it.
_PART = 225
_KEY = 480


@dataclass
class Prepared:
    """A decoded and measured picture, ready to be written. Thumbnails by size as WebP."""

    data: bytes
    sha256: str
    pixel_sha256: str
    mime: str
    width: int
    height: int
    thumbs: dict[str, bytes]
    measures: dict[str, Any]
    recipe_prompt: str = ""
    mask: Mask | None = None
    mask_problem: DallaError | None = None

    def columns(self) -> dict[str, Any]:
        """Return what a row of `images` keeps of it."""
        return {
            "mime": self.mime,
            "format": self.mime.partition("/")[2].upper(),
            "width": self.width,
            "height": self.height,
            "size_bytes": len(self.data),
            "sha256": self.sha256,
            "pixel_sha256": self.pixel_sha256,
        }


@dataclass
class Outcome:
    """What became of pictures that were offered: rows as the task's result shows them."""

    added: list[DatasetImage] = field(default_factory=list)
    duplicates: list[dict[str, str]] = field(default_factory=list)  # name, of (a file name or id), kind
    renamed: list[dict[str, str]] = field(default_factory=list)  # name, to


def prepare(data: bytes, name: str, *, sha256: str = "", recipe: bool = True) -> Prepared:
    """Decode, measure and make thumbnails. Raises UnsupportedMedia, TooLarge, InvalidInput (damaged)."""
    from dalla.measures import measure, pixel_sha256

    picture = imaging.open_image(data, name=PurePosixPath(name).name)
    prompt = ""
    if recipe and picture.mime in ("image/png", "image/jpeg", "image/webp"):
        with contextlib.suppress(DallaError, ValueError):
            found = recipes.read(data)
            prompt = tidy(found.recipe.user_prompt or found.recipe.prompt)[:MAX_CHARACTERS] if found else ""
    return Prepared(
        data=data,
        sha256=sha256 or hashlib.sha256(data).hexdigest(),
        pixel_sha256=pixel_sha256(picture.image),
        mime=picture.mime,
        width=picture.width,
        height=picture.height,
        thumbs=imaging.thumbnails(picture.image),
        measures=measure(picture.image, data),
        recipe_prompt=prompt,
    )


def known_hashes(store: DatasetStore, dataset_id: str, values: list[str], column: str = "sha256") -> dict[str, str]:
    """Of these hashes, those that pictures of the dataset have, each with the file name of the first such picture."""
    found = store.hashes(dataset_id, column, values)
    names = {i.id: i.filename for i in store.images_by_id([ids[0] for ids in found.values()])} if found else {}
    return {value: names.get(ids[0], ids[0]) for value, ids in found.items()}


def thumb_keys(dataset_id: str, image_id: str) -> dict[str, str]:
    """Return the keys of a picture's thumbnails by size."""
    return {size: thumb_key(dataset_id, image_id, size) for size in imaging.THUMBNAILS}


def key_for(blobs: BlobStore, dataset_id: str, filename: str, folder: str = "originals") -> str:
    """Return the key for a file of a dataset: its own path where the blob store takes it, else plain letters.

    A name that cannot be written as it is (too long, another script) keeps what is plain of it and gets eight digits
    of its hash, so two names never meet.
    """
    root = f"datasets/{dataset_id}/{folder}/"
    key = root + filename
    if len(key) <= _KEY and all(len(part.encode()) <= _PART for part in filename.split("/")):
        with contextlib.suppress(InvalidInput):
            blobs.path(key)
            return key
    parts = [_plain(part) for part in filename.split("/")]
    key = root + "/".join(parts)
    if len(key) > _KEY:  # very deep: one folder less is better than no picture
        digest = hashlib.sha256(filename_key(filename).encode()).hexdigest()[:8]
        key = f"{root}{parts[-1][:150]}-{digest}{PurePosixPath(parts[-1]).suffix[:10]}"
    return key


def mask_key(blobs: BlobStore, dataset_id: str, filename: str, mask: Mask) -> str:
    """Return the key of the mask of the picture of that name. Another content has another key: versions keep theirs."""
    return key_for(blobs, dataset_id, f"{filename}.{mask.sha256[:8]}.{mask.ending}", "masks")


def _plain(part: str) -> str:
    stem, dot, suffix = part.rpartition(".") if "." in part[1:] else (part, "", "")
    plain = re.sub(
        r"[^A-Za-z0-9 ._()+@-]", "_", unicodedata.normalize("NFKD", stem).encode("ascii", "replace").decode()
    )
    plain = re.sub(r"_{2,}", "_", plain)[:120].strip(" .-_@+()")
    if plain == stem and suffix.isascii() and suffix.isalnum():
        return part
    ending = re.sub(r"[^A-Za-z0-9]", "", suffix)[:10]
    digest = hashlib.sha256(filename_key(part).encode()).hexdigest()[:8]
    return f"{plain or 'file'}-{digest}{dot and ending and '.'}{ending}"


class Claims:
    """Names and contents that imports under way have taken but not yet written down, per dataset.

    Two imports into one dataset share it: whoever claims first has the name, and the other sees the same picture.
    """

    def __init__(self, store: DatasetStore) -> None:
        self._store = store
        self._guard = threading.Lock()
        self._sets: dict[str, _Claimed] = {}

    @contextlib.contextmanager
    def of(self, dataset_id: str) -> Iterator[_Claimed]:
        """The claims of one dataset, for as long as somebody imports into it."""
        with self._guard:
            claimed = self._sets.get(dataset_id)
            if claimed is None:
                claimed = self._sets[dataset_id] = _Claimed(self._store.filenames(dataset_id, "original"))
            claimed.users += 1
        try:
            yield claimed
        finally:
            with self._guard:
                claimed.users -= 1
                if not claimed.users:
                    self._sets.pop(dataset_id, None)

    def busy(self, dataset_id: str) -> bool:
        """Whether somebody imports into the dataset at this moment."""
        with self._guard:
            return dataset_id in self._sets


class _Claimed:
    def __init__(self, names: set[str]) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.names = names
        self.contents: dict[str, str] = {}  # sha256 of file or pixels -> file name, until the row is there


@dataclass
class _Ticket:
    """One picture between its claim and its row."""

    found: Found
    prepared: Prepared
    image: DatasetImage
    claims: tuple[str, ...]
    existed: bool = False  # its file was on the disk already, with the same bytes
    mask_path: str = ""

    @property
    def measures(self) -> dict[str, Any]:
        """What is measured of the picture, with its mask."""
        mask = self.prepared.mask
        return self.prepared.measures | ({"mask": mask.facts(self.mask_path)} if mask is not None else {})


class Intake:
    """Takes prepared pictures into one dataset."""

    def __init__(
        self,
        dataset_id: str,
        store: DatasetStore,
        blobs: BlobStore,
        claimed: _Claimed,
        *,
        keep_duplicates: bool = False,
    ) -> None:
        self._dataset_id = dataset_id
        self._store = store
        self._blobs = blobs
        self._claimed = claimed
        self._keep_duplicates = keep_duplicates

    def known(self, sha256s: list[str]) -> dict[str, str]:
        """See `known_hashes`, for files."""
        return known_hashes(self._store, self._dataset_id, sha256s)

    def take(self, batch: list[tuple[str, Found, Prepared]], pool: Executor) -> Outcome:
        """Add the pictures (id, what was found, what was prepared); each is added, a duplicate, or an error for all.

        Raises StorageError (then nothing of this batch is left behind), NotFound when the dataset is gone.
        """
        outcome = Outcome()
        tickets = self._claim(batch, outcome)
        try:
            writes = [pool.submit(self._write, ticket) for ticket in tickets]
            wait(writes)  # all of them, before anything is cleaned up
            for write in writes:
                write.result()
            self._insert(tickets, outcome)
        except BaseException:
            self._take_back(tickets)
            raise
        finally:
            with self._claimed.lock:
                for ticket in tickets:
                    for claim in ticket.claims:
                        self._claimed.contents.pop(claim, None)
        return outcome

    def _take_back(self, tickets: list[_Ticket]) -> None:
        """Remove the files of pictures whose rows were not written, but none that was there before."""
        there: set[str] = set()
        with contextlib.suppress(DallaError):
            there = {image.id for image in self._store.images_by_id([ticket.image.id for ticket in tickets])}
        for ticket in tickets:
            if ticket.image.id in there:
                continue
            keys = list(thumb_keys(self._dataset_id, ticket.image.id).values())
            keys += [ticket.mask_path] if ticket.mask_path else []
            for key in keys if ticket.existed else [ticket.image.path, *keys]:
                with contextlib.suppress(DallaError):
                    self._blobs.delete(key)
            with self._claimed.lock:
                self._claimed.names.discard(filename_key(ticket.image.filename))

    # ------------------------------------------------------------ claiming

    def _claim(self, batch: list[tuple[str, Found, Prepared]], outcome: Outcome) -> list[_Ticket]:
        tickets: list[_Ticket] = []
        with self._claimed.lock:
            there = self._known_contents(batch)
            for id, found, ready in batch:
                twin = None if self._keep_duplicates else self._twin(ready, there)
                if twin is not None:
                    outcome.duplicates.append({"name": found.name, "of": twin[1], "kind": twin[0]})
                    continue
                filename, key = self._free_name(found.name, ready)
                if filename != found.name:
                    outcome.renamed.append({"name": found.name, "to": filename})
                self._claimed.names.add(filename_key(filename))
                claims = (ready.sha256, ready.pixel_sha256)
                for claim in claims:
                    self._claimed.contents.setdefault(claim, filename)
                image = self._image(id, found, ready, filename, key)
                ticket = _Ticket(found, ready, image, claims, self._blobs.exists(key))
                if ready.mask is not None:
                    ticket.mask_path = mask_key(self._blobs, self._dataset_id, filename, ready.mask)
                tickets.append(ticket)
        return tickets

    def _known_contents(self, batch: list[tuple[str, Found, Prepared]]) -> dict[str, str]:
        if self._keep_duplicates:
            return {}
        there = self.known([ready.sha256 for _, _, ready in batch])
        pixels = [ready.pixel_sha256 for _, _, ready in batch]
        return known_hashes(self._store, self._dataset_id, pixels, "pixel_sha256") | there

    def _twin(self, ready: Prepared, there: dict[str, str]) -> tuple[str, str] | None:
        for kind, value in (("file", ready.sha256), ("pixels", ready.pixel_sha256)):
            of = there.get(value) or self._claimed.contents.get(value)
            if of is not None:
                return kind, of
        return None

    def _free_name(self, wish: str, ready: Prepared) -> tuple[str, str]:
        """A name nobody has, in the dataset or on the disk, and its key.

        A file of the same bytes without a row is what a killed import left behind: it is taken over.
        """
        name, n = wish, 1
        while True:
            if filename_key(name) not in self._claimed.names:
                key = key_for(self._blobs, self._dataset_id, name)
                if not self._blobs.exists(key) or self._same(key, ready):
                    return name, key
            n += 1
            name = numbered(wish, n)

    def _same(self, key: str, ready: Prepared) -> bool:
        with contextlib.suppress(DallaError, OSError):
            return self._blobs.path(key).stat().st_size == len(ready.data) and self._blobs.get(key) == ready.data
        return False

    def _image(self, id: str, found: Found, ready: Prepared, filename: str, key: str) -> DatasetImage:
        caption = found.caption
        if found.caption_from in ("", "folder") and ready.recipe_prompt:
            caption = ready.recipe_prompt
        now = now_iso()
        return DatasetImage(
            id=id,
            dataset_id=self._dataset_id,
            kind="original",
            filename=filename,
            path=key,
            **ready.columns(),
            caption=caption,
            caption_source="file" if caption else "none",
            repeats=found.repeats,
            concept=found.concept,
            regularization=found.regularization,
            created_at=now,
            updated_at=now,
        )

    # ------------------------------------------------------------ writing

    def _write(self, ticket: _Ticket) -> None:
        image, ready = ticket.image, ticket.prepared
        self._blobs.put(image.path, ready.data)
        for size, key in thumb_keys(self._dataset_id, image.id).items():
            self._blobs.put(key, ready.thumbs[size], durable=False)  # can be made again
        if ready.mask is not None:
            self._blobs.put(ticket.mask_path, ready.mask.data)

    def _insert(self, tickets: list[_Ticket], outcome: Outcome) -> None:
        """Write the rows: all at once, or one by one when somebody else took a name meanwhile."""
        if not tickets:
            return
        metadata = {ticket.image.id: ticket.measures for ticket in tickets}
        try:
            self._store.add_images([ticket.image for ticket in tickets], metadata)
            outcome.added += [ticket.image for ticket in tickets]
            return
        except Conflict:
            pass
        for ticket in tickets:
            if self._store.images_by_id([ticket.image.id]):
                outcome.added.append(ticket.image)  # of an attempt before this one
                continue
            with self._claimed.lock:
                self._claimed.names |= self._store.filenames(self._dataset_id, "original")
                filename, key = self._free_name(numbered(ticket.image.filename, 2), ticket.prepared)
                self._claimed.names.add(filename_key(filename))
            self._blobs.put(key, ticket.prepared.data)
            moved = ticket.image.with_(filename=filename, path=key)
            self._store.add_images([moved], {moved.id: ticket.measures})
            outcome.added.append(moved)
            outcome.renamed.append({"name": ticket.image.filename, "to": filename})
