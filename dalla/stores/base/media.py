"""Pages of large lists, and the records of pictures and videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from dalla.records.media import Collection, MediaFilter, MediaItem


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
