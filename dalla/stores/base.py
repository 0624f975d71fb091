"""What each store promises. Contract suites in tests/stores run on every implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dalla.records.base import Record
from dalla.records.dataset import (
    CaptionBatch,
    CaptionChange,
    CaptionEntry,
    Dataset,
    DatasetExport,
    DatasetImage,
    DatasetVersion,
    ImageFilter,
    ImagePair,
)
from dalla.records.media import Collection, MediaFilter, MediaItem
from dalla.records.notice import Delivery, Notification, Webhook
from dalla.records.post import EDITABLE, AccountState, Attempt, OutboxRequest, Post, PostFilter
from dalla.records.run import Run, TaskState

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class DocumentsStatus:
    """Health of one document file. `ok=False`: it does not parse; the last good version is served read-only."""

    ok: bool
    path: str
    count: int
    detail: str = ""
    skipped: list[str] = field(default_factory=list)  # records that do not fit their schema, kept untouched


class DocumentStore(Protocol[R]):
    """A small ordered set of records that the user may also edit by hand (characters, tasks, prompts)."""

    def all(self) -> tuple[R, ...]:
        """Return every record in file order. Costs microseconds while nothing changed."""

    def get(self, id: str) -> R:
        """Raises NotFound."""

    def insert(self, record: R) -> R:
        """Append durably. Raises Conflict when the id is taken, StorageError."""

    def update(self, id: str, change: Callable[[R], R]) -> R:
        """Read, change and write one record as one atomic step across threads and processes.

        `change` gets the newest version and returns the new one (raise in it to leave all as it was).
        Raises NotFound, StorageError.
        """

    def delete(self, id: str) -> R:
        """Remove durably and return what was removed. Raises NotFound, StorageError."""

    def rewrite(self, change: Callable[[R], R], *, scrub_backup: bool = False) -> int:
        """Apply `change` to every record in one write; return how many changed.

        `scrub_backup` leaves no older version behind (used when a plain key is moved out of the file).
        """

    def revision(self) -> str:
        """Return a text that changes whenever the content may have changed."""

    def status(self) -> DocumentsStatus:
        """Never raises."""


class BlobStore(Protocol):
    """Bytes under keys such as `media/2026/11/media_….png`. Write the file first, the record second."""

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Write (temp, fsync, rename); without `durable` no fsync, for what can be made again. Raises StorageError."""

    def get(self, key: str) -> bytes:
        """Raises NotFound."""

    def path(self, key: str) -> Path:
        """Return the absolute path for sending the file. Raises InvalidInput for a key that escapes."""

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None:
        """Remove it; an absent key is no error."""

    def keys(self, prefix: str) -> Iterable[str]:
        """List keys below a prefix."""


class SecretStore(Protocol):
    """Named secrets, encrypted at rest."""

    def get(self, name: str) -> str | None: ...

    def put(self, name: str, value: str) -> None:
        """Save durably. Raises StorageError."""

    def delete(self, name: str) -> None:
        """Remove it; an absent name is no error."""

    def names(self) -> list[str]: ...


@dataclass(frozen=True)
class Page:
    """One page of a large list. `total` counts all that match."""

    items: list[Any]
    next_cursor: str | None
    total: int


class MediaStore(Protocol):
    """Records of pictures and videos, and collections of them."""

    def insert(self, item: MediaItem) -> MediaItem:
        """Raises Conflict when the id is taken."""

    def insert_many(self, items: list[MediaItem]) -> None:
        """Add many in one transaction."""

    def get(self, id: str) -> MediaItem:
        """Also finds trashed ones. Raises NotFound."""

    def get_many(self, ids: list[str]) -> list[MediaItem]:
        """Return those that exist, in the order asked for."""

    def page(
        self,
        where: MediaFilter,
        *,
        limit: int = 50,
        cursor: str | None = None,
        sort: str = "newest",
        offset: int = 0,
    ) -> Page:
        """Return one page by keyset. sort: newest | oldest. `offset` skips rows, for a jump into the middle. InvalidInput: bad cursor."""

    def ids(self, where: MediaFilter, *, limit: int = 10_000) -> list[str]:
        """Return the ids that match, newest first ("select all N matching")."""

    def facets(self, where: MediaFilter) -> dict[str, list[dict[str, Any]]]:
        """Return {"models": [{"value", "count"}], "loras": …, "characters": …, "engines": …}, largest first."""

    def update(self, ids: list[str], **changes: Any) -> list[str]:
        """Set columns on the given items; return the ids that exist (the others are the failures)."""

    def delete(self, ids: list[str]) -> list[MediaItem]:
        """Remove records for good and return them, so that their files can follow."""

    def find_by_sha256(self, sha256: str) -> MediaItem | None: ...
    def count_by_character(self) -> dict[str, int]: ...
    def trashed_before(self, moment: str) -> list[str]: ...
    def collections(self) -> list[Collection]: ...

    def get_collection(self, id: str) -> Collection:
        """Raises NotFound."""

    def save_collection(self, id: str, name: str, now: str) -> Collection:
        """Create or rename. Raises Conflict when another one has the name."""

    def delete_collection(self, id: str) -> None:
        """Raises NotFound. The media stay."""

    def add_to_collection(self, id: str, media_ids: list[str], now: str) -> list[str]:
        """Return the ids that were added or already in it. Raises NotFound for the collection."""

    def remove_from_collection(self, id: str, media_ids: list[str]) -> list[str]: ...


class IdempotencyStore(Protocol):
    """First answers by `Idempotency-Key`, kept for 24 hours."""

    def begin(self, key: str, fingerprint: str, now: str) -> dict[str, Any] | None:
        """Reserve the key and return None, or return the first answer ({"status", "body", "headers"}).

        Raises Conflict when the key is in use by a request still running, InvalidInput when it was
        used for another request (the fingerprint differs).
        """

    def finish(self, key: str, answer: dict[str, Any]) -> None: ...

    def forget(self, key: str) -> None:
        """Free the key after a failure that did nothing."""

    def forget_unfinished(self) -> int:
        """Free the keys whose request died with its process (at start, when no request can be running)."""

    def purge(self, before: str) -> int: ...


class PostStore(Protocol):
    """Posts with their attempts, and the outbox of dry runs. Every change of state is one conditional update."""

    def insert(self, post: Post) -> Post:
        """Raises Conflict when the id, or (task_id, platform, slot), is taken."""

    def get(self, id: str) -> Post:
        """Raises NotFound."""

    def get_many(self, ids: list[str]) -> list[Post]: ...

    def page(self, where: PostFilter, *, limit: int = 50, cursor: str | None = None, sort: str = "newest") -> Page:
        """By `scheduled_at`, else `created_at`. sort: newest | soonest. InvalidInput: bad cursor."""

    def between(self, start: str, end: str, *, character_id: str | None = None) -> list[Post]:
        """Return the posts whose time lies in [start, end), oldest first, for the calendar."""

    def for_slot(self, task_id: str, platform: str, slot: str) -> Post | None: ...

    def edit(
        self, id: str, *, if_revision: int | None = None, only_from: frozenset[str] = EDITABLE, **changes: Any
    ) -> Post:
        """Change fields (not the status) of a post that may still be edited. Raises NotFound, Conflict, Stale."""

    def transition(
        self, id: str, to: str, *, only_from: frozenset[str] | None = None, owned_by: str | None = None, **fields: Any
    ) -> Post:
        """Change the status if POST_TRANSITIONS (and `only_from`, and the lease's owner) allow it.

        Raises NotFound, Conflict: exactly one caller wins.
        """

    def save(self, id: str, owner: str, **fields: Any) -> Post:
        """Set fields of a post this owner holds the lease of. Raises Conflict when it has lost it."""

    def claim(
        self,
        owner: str,
        now: str,
        until: str,
        *,
        gaps: dict[str, int],
        skip: set[tuple[str, str]],
        limit: int = 10,
        only: str | None = None,
    ) -> list[Post]:
        """Take due posts: status scheduled -> claimed, due_at <= now (or just `only`), oldest first.

        At most one per account (character, platform), none for an account that has one in flight
        (claimed, uploading, publishing) or in `skip`, none within `gaps[platform]` seconds of the
        account's last published one. Atomic: two processes never get the same post, nor two posts of one account.
        """

    def adopt(self, owner: str, now: str, until: str, *, limit: int = 10) -> list[Post]:
        """Take posts in flight whose lease has run out, to be recovered by their state."""

    def resume(self, owner: str, now: str, until: str, *, limit: int = 10) -> list[Post]:
        """Take posts in flight without an owner whose `due_at` has come (waiting for the platform)."""

    def abandon(self, owners: Iterable[str], now: str) -> int:
        """Let the leases of dead owners run out at once; return how many."""

    def owners(self) -> set[str]:
        """Return who holds leases of posts in flight."""

    def renew(self, id: str, owner: str, until: str) -> bool:
        """Lengthen the lease; False when it is lost."""

    def overdue(self, before: str) -> list[Post]:
        """Return posts not in flight and not settled that were wanted before that moment."""

    def counts(self, *, character_id: str | None = None) -> dict[str, int]:
        """Return how many posts are in each status, and "held"."""

    def next_due(self) -> str | None:
        """Return the earliest moment something is due (scheduled, or waiting in flight)."""

    def last_published(self, character_id: str, platform: str) -> Post | None: ...

    def similar(
        self, character_id: str, platform: str, *, caption: str, sha256: list[str], after: str, except_id: str
    ) -> list[Post]:
        """Return posts since `after` with the same caption or one of these prepared pictures."""

    def used_media(self, character_id: str, platform: str | None = None) -> set[str]:
        """Return the ids of pictures that are in a post which is not cancelled, failed, missed or a dry run."""

    def posted_media(self, media_ids: list[str]) -> dict[str, list[str]]:
        """Return the platforms each of these pictures was published on."""

    def file_hashes(self, *, settled_before: str) -> set[str]:
        """Return the hashes of prepared pictures that some post still needs (all but those settled before)."""

    def delete(self, id: str) -> Post:
        """Remove a draft, cancelled, failed, missed or dry-run post with its attempts. Raises NotFound, Conflict."""

    def begin_attempt(self, attempt: Attempt) -> Attempt: ...
    def end_attempt(self, id: int, **fields: Any) -> None: ...
    def attempts(self, post_id: str) -> list[Attempt]: ...
    def add_outbox(self, request: OutboxRequest) -> OutboxRequest: ...
    def outbox(self, *, post_id: str | None = None, limit: int = 50, cursor: str | None = None) -> Page: ...
    def clear_outbox(self, before: str | None = None) -> int: ...


class AccountStore(Protocol):
    """What is known about each account (character on a platform)."""

    def get(self, character_id: str, platform: str) -> AccountState:
        """Return what is known; a fresh record for an account never seen."""

    def all(self) -> list[AccountState]: ...

    def save(self, character_id: str, platform: str, **changes: Any) -> AccountState:
        """Set fields in one transaction and return the row."""

    def count_failure(self, character_id: str, platform: str, error: str, now: str) -> int:
        """Add one to the failures in a row and return how many there are."""

    def delete(self, character_id: str) -> None: ...


class RunStore(Protocol):
    """Runs of scheduled tasks, and what is remembered about each task."""

    def insert(self, run: Run) -> Run:
        """Raises Conflict when the task has a run for this slot."""

    def get(self, id: str) -> Run:
        """Raises NotFound."""

    def update(self, id: str, *, only_from: frozenset[str] | None = None, **fields: Any) -> Run:
        """Raises NotFound, Conflict (not in `only_from`)."""

    def page(
        self,
        *,
        task_id: str | None = None,
        character_id: str | None = None,
        statuses: list[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page: ...
    def unfinished(self) -> list[Run]: ...
    def delete_before(self, moment: str) -> int: ...
    def state(self, task_id: str) -> TaskState | None: ...
    def for_slot(self, task_id: str, slot: str) -> Run | None: ...

    def counts(self) -> dict[str, int]:
        """Return how many runs are in each status."""

    def states(self, task_ids: Sequence[str] | None = None) -> dict[str, TaskState]:
        """Return the states of these tasks; None: all."""

    def dues(self) -> dict[str, str]:
        """Return `next_due` by task, for those that have one."""

    def edit_state(self, task_id: str, change: Callable[[TaskState], TaskState]) -> TaskState:
        """Read, change and write one state as one step. Raises NotFound."""

    def save_states(self, states: list[TaskState]) -> None:
        """Insert or replace many in one transaction."""

    def delete_states(self, task_ids: list[str]) -> None: ...

    def due(self, now: str, *, limit: int = 1000) -> list[TaskState]:
        """Return the states whose `next_due` has come, oldest first."""

    def next_due(self) -> str | None: ...

    def fire(self, state: TaskState, run: Run | None, *, expected_due: str | None) -> bool:
        """Move the task on to `state` and insert the run in one transaction.

        False, and nothing changed, when `next_due` is no longer `expected_due` (another process was
        first) or the slot has a run already.
        """

    def fire_many(self, moves: Sequence[tuple[TaskState, Run | None, str | None]]) -> list[bool]:
        """Do `fire` for many (state, run, expected due) in one transaction; each answers for itself."""


class LeaseStore(Protocol):
    """Who may do what only one process may do, and switches for everybody."""

    def acquire(self, name: str, owner: str, now: str, until: str) -> bool:
        """Take or renew the lease; False while somebody else holds it."""

    def release(self, name: str, owner: str) -> None: ...

    def holder(self, name: str) -> tuple[str, str, str] | None:
        """Return (owner, until, heartbeat_at)."""

    def switch(self, name: str) -> Any:
        """Return the value of a switch; None when it was never set."""

    def set_switch(self, name: str, value: Any, now: str) -> None: ...

    def change_switch(self, name: str, now: str, change: Callable[[Any], Any]) -> Any:
        """Read, change and write a switch as one step; return the new value."""


class NoticeStore(Protocol):
    """Notifications, webhooks and their deliveries."""

    def notify(self, notice: Notification) -> Notification:
        """Add it; one with the same `key` is replaced (and unread again)."""

    def mark_read(self, ids: list[str] | None, now: str) -> int:
        """None: all of them."""

    def find(self, key: str) -> Notification | None:
        """Return the notification with this key."""

    def discard(self, key: str) -> bool:
        """Remove the notification with this key; return whether there was one."""

    def notifications(self, *, unread: bool = False, limit: int = 50, cursor: str | None = None) -> Page: ...
    def unread(self) -> int: ...
    def delete_notifications(self, before: str) -> int: ...
    def webhooks(self) -> list[Webhook]: ...

    def webhook(self, id: str) -> Webhook:
        """Raises NotFound."""

    def delete_webhook(self, id: str) -> None:
        """Raises NotFound."""

    def save_webhook(self, webhook: Webhook) -> Webhook: ...
    def add_delivery(self, delivery: Delivery) -> Delivery: ...
    def due_deliveries(self, now: str, *, limit: int = 50) -> list[Delivery]: ...
    def save_delivery(self, id: str, **fields: Any) -> Delivery: ...
    def deliveries(self, webhook_id: str, *, limit: int = 50, cursor: str | None = None) -> Page: ...
    def delete_deliveries(self, before: str) -> int: ...

    def delivery(self, id: str) -> Delivery:
        """Raises NotFound."""

    def claim_delivery(self, id: str, due: str | None, until: str) -> bool:
        """Take a pending delivery that is due at `due`; False: somebody was first."""

    def last_deliveries(self) -> dict[str, Delivery]:
        """Return the newest delivery of each webhook that has any."""


class DatasetStore(Protocol):
    """Datasets and their pictures. Every change of a dataset raises its `revision` in the same transaction."""

    def insert(self, dataset: Dataset) -> Dataset:
        """Raises Conflict when the id is taken."""

    def get(self, id: str) -> Dataset:
        """Raises NotFound. One in the trash is found too."""

    def page(self, *, q: str = "", trashed: bool = False, limit: int = 50, cursor: str | None = None) -> Page:
        """Return one page of Dataset, newest first. Raises InvalidInput: bad cursor."""

    def update(self, id: str, **changes: Any) -> Dataset:
        """Set columns (`trashed_at` too). Raises NotFound."""

    def delete(self, id: str) -> list[str]:
        """Remove it with everything that hangs on it; return the blob keys nobody needs any more."""

    def trashed_before(self, moment: str) -> list[str]:
        """Ids of datasets that went into the trash before then."""

    def counts(self, ids: list[str]) -> dict[str, dict[str, int]]:
        """Per dataset: images, captioned, processed, excluded, sizeBytes (the trash does not count)."""

    def covers(self, ids: list[str], each: int = 4) -> dict[str, list[str]]:
        """Per dataset the ids of its first pictures, for the mosaic."""

    def add_images(self, images: list[DatasetImage], metadata: dict[str, dict[str, Any]] | None = None) -> None:
        """Add pictures of one dataset, all or none, each with a first entry in its caption history when it has a
        caption. Raises Conflict (id or file name taken), NotFound (the dataset is gone)."""

    def image(self, id: str) -> DatasetImage:
        """Raises NotFound."""

    def images_by_id(self, ids: list[str]) -> list[DatasetImage]:
        """Those that exist, in the order asked."""

    def images(
        self,
        dataset_id: str,
        where: ImageFilter,
        *,
        sort: str = "name",
        limit: int = 100,
        cursor: str | None = None,
        offset: int | None = None,
    ) -> Page:
        """Return one page of DatasetImage. `sort`: name, newest, oldest, largest, smallest, sharpest, blurriest,
        caption; a metadata key with `-` before it is also taken. `offset` is for jumps of the grid only."""

    def image_ids(self, dataset_id: str, where: ImageFilter) -> list[str]:
        """The ids of all that match, by file name."""

    def facets(self, dataset_id: str, where: ImageFilter) -> dict[str, list[dict[str, Any]]]:
        """Counts {value, count} of what the filter leaves: formats, folders, concepts, captioned, faces, groups."""

    def hashes(self, dataset_id: str, column: str, values: list[str]) -> dict[str, list[str]]:
        """Ids of pictures not in the trash by "sha256" or "pixel_sha256", for the values that are there."""

    def filenames(self, dataset_id: str, kind: str) -> set[str]:
        """The keys (`filename_key`) that are taken, trash included."""

    def update_images(self, ids: list[str], **changes: Any) -> list[str]:
        """Set the same columns (never the caption) on all of one dataset; return the ids that were there."""

    def delete_images(self, ids: list[str]) -> list[DatasetImage]:
        """Remove the rows for good; return what they were."""

    def put_metadata(self, dataset_id: str, values: dict[str, dict[str, Any]]) -> None:
        """Set measured values by picture id and key; a value of None removes the key."""

    def metadata(self, ids: list[str], keys: list[str] | None = None) -> dict[str, dict[str, Any]]:
        """What was measured, by picture id."""

    def columns(self, dataset_id: str, keys: list[str], where: ImageFilter | None = None) -> list[tuple[Any, ...]]:
        """(id, value of each metadata key or None) of every picture that matches, by file name: for hashes and groups."""

    def statistics(self, dataset_id: str, where: ImageFilter | None = None) -> dict[str, Any]:
        """What the pictures (by default those not excluded) add up to, aggregated in SQL, as JSON. No file is read."""

    def sizes(self, dataset_id: str, where: ImageFilter) -> list[tuple[int, int, int, int]]:
        """(width, height, pictures, the sum of their repeats) of what matches, by size in px."""

    def trashed_images_before(self, moment: str) -> list[str]:
        """Ids of pictures that went into the trash before then."""

    def pairs(self, dataset_id: str) -> list[ImagePair]: ...

    def save_pairs(self, pairs: list[ImagePair]) -> None:
        """Remember verdicts; a new one replaces the old."""

    def delete_pairs(self, pairs: list[ImagePair]) -> None: ...


class CaptionStore(Protocol):
    """The captions of pictures and how they came about. Raises the dataset's revision like DatasetStore."""

    def write(
        self,
        dataset_id: str,
        changes: list[CaptionChange],
        *,
        source: str,
        model_used: str | None = None,
        batch_id: str | None = None,
    ) -> list[str]:
        """Set captions and tags and add to the history, in one transaction; return the ids that changed. A picture
        whose caption is no longer `before`, or that is gone, is left out."""

    def history(self, image_id: str, *, limit: int = 100) -> list[CaptionEntry]:
        """Newest first."""

    def texts(self, dataset_id: str, where: ImageFilter) -> list[tuple[str, str, str, bool]]:
        """(id, file name, caption, locked) of all that match, by file name."""

    def before_batch(self, dataset_id: str, batch_id: str) -> list[CaptionChange]:
        """What would take the batch back: for each picture whose current caption is still the batch's, the text (and
        the lock) before it, with `before` set to the current text. Empty when there is nothing left to undo."""

    def batches(self, dataset_id: str, *, limit: int = 50) -> list[CaptionBatch]:
        """Newest first."""

    def tags(self, dataset_id: str, *, limit: int = 1000) -> list[dict[str, Any]]:
        """{tag, count}, most frequent first; spellings that differ in case count as one."""


class DatasetVersionStore(Protocol):
    """Immutable snapshots and the files made from them."""

    def add(self, version: DatasetVersion) -> DatasetVersion:
        """Keep it under the next number (the one given is ignored); two at once get two numbers."""

    def get(self, dataset_id: str, number: int) -> DatasetVersion:
        """With its entries. Raises NotFound."""

    def all(self, dataset_id: str) -> list[DatasetVersion]:
        """Newest first, without entries."""

    def add_export(self, export: DatasetExport) -> DatasetExport:
        """Keep it under the next number of its dataset."""

    def update_export(self, id: str, **changes: Any) -> DatasetExport:
        """Raises NotFound."""

    def export(self, dataset_id: str, number: int) -> DatasetExport:
        """Raises NotFound."""

    def exports(self, dataset_id: str) -> list[DatasetExport]:
        """Newest first."""

    def delete_export(self, id: str) -> DatasetExport:
        """Raises NotFound."""

    def keys_in_versions(self, dataset_id: str) -> set[str]:
        """Blob keys that a version still names: their files stay when a picture is removed for good."""
