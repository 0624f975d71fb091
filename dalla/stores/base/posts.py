"""Posts, and what is known about the accounts they go out with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from dalla.records.post import EDITABLE, AccountState, Attempt, OutboxRequest, Post, PostFilter
from dalla.stores.base.media import Page


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

    def counts_by_platform(self) -> list[tuple[str, str, int]]:
        """Return (platform, status, how many posts)."""

    def next_due(self) -> str | None:
        """Return the earliest moment something is due (scheduled, or waiting in flight)."""

    def last_published(self, character_id: str, platform: str) -> Post | None: ...

    def similar(
        self, character_id: str, platform: str, *, caption: str, sha256: list[str], after: str, except_id: str
    ) -> list[Post]:
        """Return posts since `after` with the same caption or one of these prepared pictures."""

    def used_media(self, character_id: str, platform: str | None = None) -> set[str]:
        """Return the ids of pictures that are in a post which is not cancelled, failed, missed or a dry run."""

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
