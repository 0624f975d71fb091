"""The pictures of a post as they will go out: framed once, kept under the hash of their bytes.

Equal input gives equal bytes, so the same picture framed the same way is one file, whoever asks: the
preview of the composer, the post itself, its duplicate. A post refers to the file, not to the gallery,
so that a picture trashed after it was prepared still goes out.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dalla.engines.faces.base import FaceFinder
from dalla.errors import DallaError, InvalidInput, NotFound
from dalla.records.media import MediaItem
from dalla.records.platform import PlatformInfo
from dalla.records.post import PostOptions, PreparedFile
from dalla.services.gallery import Gallery
from dalla.stores.base import BlobStore

PREFIX = "posts/"
#: A prepared picture no post refers to is kept this long (seconds): it may be the preview of one being written.
KEEP_UNUSED = 2 * 86400
REMEMBERED = 500

_SHA = re.compile(r"[0-9a-f]{64}\Z")


def file_key(sha256: str) -> str:
    """Return the blob key of a prepared picture."""
    return f"{PREFIX}{sha256[:2]}/{sha256}.jpg"


class PostFiles:
    """Prepares pictures and keeps house among the prepared ones."""

    def __init__(self, gallery: Gallery, blobs: BlobStore, faces: FaceFinder) -> None:
        self._gallery = gallery
        self._blobs = blobs
        self._faces = faces
        self._known: OrderedDict[tuple[Any, ...], PreparedFile] = OrderedDict()
        self._lock = threading.Lock()

    def frame(
        self, items: Sequence[MediaItem], info: PlatformInfo, kind: str, options: PostOptions
    ) -> list[PreparedFile]:
        """Frame the pictures for the platform; return one file per item, in order.

        All pictures of a carousel get the ratio of the first: the platform would crop the others to it.
        Raises NotFound (the file of a picture is gone), InvalidInput (it is damaged), TooLarge, StorageError.
        """
        files: list[PreparedFile] = []
        ratio: float | None = None
        for item in items:
            file = self._frame_one(item, info, kind, options, ratio)
            if kind == "carousel" and ratio is None:
                ratio = file.width / file.height
            files.append(file)
        return files

    def _frame_one(
        self, item: MediaItem, info: PlatformInfo, kind: str, options: PostOptions, ratio: float | None
    ) -> PreparedFile:
        wish = (item.sha256, info.name, kind, options.model_dump_json(), ratio)
        with self._lock:
            known = self._known.get(wish)
        if known is not None and self.exists(known):
            self._touch(known)
            return known.with_(media_id=item.id)
        from dalla import framing, imaging

        try:
            data = self._gallery.bytes_of(item)
        except NotFound as exc:
            raise NotFound(
                f"The file of the picture {item.id} is gone from the data folder.",
                remedy="Choose another picture, or restore the file from a backup.",
            ) from exc
        image = imaging.open_image(data, name=f"the picture {item.id}").image
        faces = self._faces.find(image) if options.fit == "crop" and options.focus is None else []
        framed = framing.prepare(
            image,
            info.images,
            kind=kind,
            options=options,
            faces=[face.box for face in faces],
            ratio=ratio,
        )
        sha256 = hashlib.sha256(framed.data).hexdigest()
        file = PreparedFile(
            media_id=item.id,
            key=file_key(sha256),
            sha256=sha256,
            mime=framed.mime,
            width=framed.width,
            height=framed.height,
            size_bytes=len(framed.data),
            notes=list(framed.notes),
        )
        if self.exists(file):
            self._touch(file)
        else:
            self._blobs.put(file.key, framed.data)
        with self._lock:
            self._known[wish] = file
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return file

    def exists(self, file: PreparedFile) -> bool:
        return self._blobs.exists(file.key)

    def path(self, sha256: str) -> Path:
        """Return the path of a prepared picture. Raises NotFound."""
        if not _SHA.match(sha256) or not self._blobs.exists(file_key(sha256)):
            raise NotFound(
                "There is no prepared picture with this name.", remedy="Open the post again to prepare it anew."
            )
        return self._blobs.path(file_key(sha256))

    def _touch(self, file: PreparedFile) -> None:
        """Let the file count as fresh, so that the clean-up leaves it to the post being made."""
        try:
            os.utime(self._blobs.path(file.key))
        except (OSError, InvalidInput):
            pass  # removed this moment, or a store without files: then there is nothing to lose

    def clean(self, needed: set[str], *, older_than_seconds: float = KEEP_UNUSED) -> int:
        """Delete prepared pictures whose hash is not in `needed` and that are older; return how many."""
        limit, count = time.time() - older_than_seconds, 0
        for key in list(self._blobs.keys(PREFIX)):
            sha256 = Path(key).stem
            if not _SHA.match(sha256) or sha256 in needed:
                continue
            try:
                if self._blobs.path(key).stat().st_mtime < limit:
                    self._blobs.delete(key)
                    count += 1
            except (OSError, DallaError):
                continue  # gone already, or the disk refuses now: the next round tries again
        return count
