"""Captions and their history. The newest entry of a picture is its caption; `images.caption` repeats it for lists."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from dalla.records.dataset import CaptionBatch, CaptionChange, CaptionEntry, ImageFilter
from dalla.stores import dataset_query as query
from dalla.stores.dataset_rows import LANGUAGE, of_caption, raise_revision
from dalla.stores.dataset_tags import tag_key, tags_of
from dalla.stores.library import Library
from dalla.stores.schema import captions, image_metadata, image_tags, images
from dalla.times import now_iso

#: Measured of the caption, not of the picture.
_OF_CAPTIONS = ("tokensClip", "tokensT5", LANGUAGE)


class SqlCaptions:
    """A CaptionStore on a Library. Safe for threads and processes."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def write(
        self,
        dataset_id: str,
        changes: list[CaptionChange],
        *,
        source: str,
        model_used: str | None = None,
        batch_id: str | None = None,
    ) -> list[str]:
        wanted = {change.image_id: change for change in changes}
        now = now_iso()
        rows: list[dict[str, Any]] = []
        history: list[dict[str, Any]] = []
        tags = _TagChanges()
        written: list[str] = []
        with self._library.write() as connection:
            for chunk in query.chunks(list(wanted)):
                current = select(images.c.id, images.c.seq, images.c.caption, images.c.caption_locked)
                current = current.where(images.c.dataset_id == dataset_id, images.c.id.in_(chunk)).with_for_update()
                for id, seq, text, locked in connection.execute(current).all():
                    change = wanted[id]
                    lock = locked if change.locked is None else change.locked
                    if change.before not in (None, text) or (change.text == text and lock == locked):
                        continue
                    written.append(id)
                    rows.append(
                        {
                            "at": seq,
                            "caption": change.text,
                            "caption_source": source if change.text else "none",
                            "caption_locked": lock,
                            "caption_words": len(change.text.split()),
                            "updated_at": now,
                        }
                    )
                    history.append(
                        {
                            "image_seq": seq,
                            "dataset_id": dataset_id,
                            "caption_text": change.text,
                            "source": source,
                            "model_used": model_used,
                            "batch_id": batch_id,
                            "locked": lock,
                            "created_at": now,
                        }
                    )
                    if change.text != text:
                        tags.add(seq, text, change.text)
            if not written:
                return []
            raise_revision(connection, dataset_id)
            columns: dict[str, Any] = {name: bindparam(name) for name in rows[0] if name != "at"}
            connection.execute(update(images).where(images.c.seq == bindparam("at")).values(columns), rows)
            connection.execute(insert(captions), history)
            tags.write(connection)
        done = set(written)
        return [id for id in wanted if id in done]

    def history(self, image_id: str, *, limit: int = 100) -> list[CaptionEntry]:
        newest = select(captions, images.c.id.label("image_id")).join(images, captions.c.image_seq == images.c.seq)
        newest = newest.where(images.c.id == image_id).order_by(captions.c.id.desc()).limit(limit)
        with self._library.read() as connection:
            return [
                CaptionEntry(
                    id=row.id,
                    image_id=row.image_id,
                    dataset_id=row.dataset_id,
                    text=row.caption_text,
                    source=row.source,
                    model_used=row.model_used,
                    batch_id=row.batch_id,
                    locked=row.locked,
                    created_at=row.created_at,
                )
                for row in connection.execute(newest)
            ]

    def texts(self, dataset_id: str, where: ImageFilter) -> list[tuple[str, str, str, bool]]:
        rows = select(images.c.id, images.c.filename, images.c.caption, images.c.caption_locked)
        rows = rows.where(query.condition(dataset_id, where)).order_by(images.c.filename_key, images.c.seq)
        with self._library.read() as connection:
            return [(id, name, text, bool(locked)) for id, name, text, locked in connection.execute(rows)]

    def before_batch(self, dataset_id: str, batch_id: str) -> list[CaptionChange]:
        touched = select(captions.c.image_seq).where(
            captions.c.dataset_id == dataset_id, captions.c.batch_id == batch_id
        )
        entries = (
            select(images.c.id, images.c.caption, captions.c.caption_text, captions.c.locked, captions.c.batch_id)
            .join(images, captions.c.image_seq == images.c.seq)
            .where(captions.c.image_seq.in_(touched))
            .order_by(images.c.filename_key, images.c.seq, captions.c.id.desc())
        )
        found: list[CaptionChange] = []
        with self._library.read() as connection:
            state: tuple[str, bool] | None = (
                None  # the picture being read, and whether its earlier text is wanted still
            )
            open_change: CaptionChange | None = None
            for id, current, text, locked, batch in connection.execute(entries):
                if state is None or state[0] != id:  # its newest entry
                    if open_change is not None:
                        found.append(open_change)
                    ours = batch == batch_id and text == current
                    state = (id, ours)
                    # Without an entry before the batch the picture had no caption.
                    open_change = CaptionChange(image_id=id, text="", before=current, locked=False) if ours else None
                elif state[1] and batch != batch_id:
                    found.append(CaptionChange(image_id=id, text=text, before=current, locked=locked))
                    open_change, state = None, (id, False)
            if open_change is not None:
                found.append(open_change)
        return found

    def batches(self, dataset_id: str, *, limit: int = 50) -> list[CaptionBatch]:
        mine = captions.c.dataset_id == dataset_id
        first = func.min(captions.c.id).label("first")
        newest = (
            select(captions.c.batch_id, first, func.count(captions.c.image_seq.distinct()).label("images"))
            .where(mine, captions.c.batch_id.is_not(None))
            .group_by(captions.c.batch_id)
            .order_by(first.desc())
            .limit(limit)
            .subquery()
        )
        rows = select(newest.c.images, captions).join(newest, newest.c.first == captions.c.id)
        latest = select(func.max(captions.c.id)).where(mine).group_by(captions.c.image_seq)
        standing = select(captions.c.batch_id).where(captions.c.id.in_(latest), captions.c.batch_id.is_not(None))
        with self._library.read() as connection:
            still = set(connection.execute(standing.distinct()).scalars())
            return [
                CaptionBatch(
                    batch_id=row.batch_id,
                    dataset_id=dataset_id,
                    source=row.source,
                    model_used=row.model_used,
                    images=row.images,
                    created_at=row.created_at,
                    undone=row.batch_id not in still,
                )
                for row in connection.execute(rows.order_by(captions.c.id.desc()))
            ]

    def tags(self, dataset_id: str, *, limit: int = 1000) -> list[dict[str, Any]]:
        times = func.count(image_tags.c.image_seq.distinct())
        # Lower case sorts after upper case, so the largest spelling is the plainest one.
        rows = (
            select(func.max(image_tags.c.tag), times)
            .join(images, image_tags.c.image_seq == images.c.seq)
            .where(images.c.dataset_id == dataset_id, images.c.trashed_at.is_(None))
            .group_by(image_tags.c.tag_key)
            .order_by(times.desc(), image_tags.c.tag_key)
            .limit(limit)
        )
        with self._library.read() as connection:
            return [{"tag": tag, "count": number} for tag, number in connection.execute(rows)]


class _TagChanges:
    """The rows of `image_tags` that differ between old and new captions: an edit mostly touches one tag of many."""

    def __init__(self) -> None:
        self._pictures: list[int] = []
        self._languages: list[dict[str, Any]] = []
        self._changed: list[dict[str, Any]] = []
        self._new: list[dict[str, Any]] = []
        self._gone: list[dict[str, Any]] = []

    def add(self, seq: int, before: str, after: str) -> None:
        self._pictures.append(seq)
        if (language := of_caption(after)) is not None:
            self._languages.append({"image_seq": seq, "metadata_key": LANGUAGE, "metadata_value": language})
        old, new = tags_of(before), tags_of(after)
        for place, tag in enumerate(new):
            if place >= len(old):
                self._new.append({"image_seq": seq, "position": place, "tag": tag, "tag_key": tag_key(tag)})
            elif old[place] != tag:
                self._changed.append({"at": seq, "place": place, "tag": tag, "tag_key": tag_key(tag)})
        if len(new) < len(old):
            self._gone.append({"at": seq, "place": len(new)})

    def write(self, connection: Connection) -> None:
        mine, place = image_tags.c.image_seq == bindparam("at"), image_tags.c.position
        if self._changed:
            values: dict[str, Any] = {"tag": bindparam("tag"), "tag_key": bindparam("tag_key")}
            changed = update(image_tags).where(mine, place == bindparam("place")).values(values)
            connection.execute(changed, self._changed)
        if self._gone:
            connection.execute(delete(image_tags).where(mine, place >= bindparam("place")), self._gone)
        if self._new:
            connection.execute(insert(image_tags), self._new)
        for numbers in query.chunks(self._pictures):
            known = image_metadata.c  # what was counted of the old text no longer holds
            stale = delete(image_metadata).where(known.image_seq.in_(numbers), known.metadata_key.in_(_OF_CAPTIONS))
            connection.execute(stale)
        if self._languages:
            connection.execute(insert(image_metadata), self._languages)
