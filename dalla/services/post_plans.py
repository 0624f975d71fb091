"""Posts on their way to being sent: framed, planned, approved, taken back; and when an account is free.

The half of `Posts` (posts.py) that changes the state. Each change is one conditional update in the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dalla.engines.faces.base import FaceFinder
from dalla.errors import Conflict, DallaError, InvalidInput
from dalla.events import EventBus
from dalla.records.platform import Issue
from dalla.records.post import EDITABLE, IN_FLIGHT, Post
from dalla.services.characters import Characters
from dalla.services.gallery import Gallery
from dalla.services.pauses import Pauses
from dalla.services.platform_access import PlatformAccess
from dalla.services.post_checks import TRANSIENT, HostingMode, PostChecks, refuse
from dalla.services.post_files import PostFiles
from dalla.services.post_json import CANCELLABLE, RETRYABLE, PostJson
from dalla.services.post_times import checked_time, free_time, usual_times, zone_named
from dalla.settings import Settings
from dalla.stores.base import AccountStore, BlobStore, LeaseStore, PostStore
from dalla.times import iso, parse

logger = logging.getLogger(__name__)

#: What belongs to one try; a post that starts anew forgets it.
FRESH: dict[str, Any] = {"snapshot": None, "remote": {}, "attempts": 0, "looks": 0, "publish_started_at": None}
_HISTORY_DAYS = 60
_PLANNED_DAYS = 14


def _utc_now() -> datetime:
    return datetime.now(UTC)


class PostPlans:
    """See Posts."""

    def __init__(
        self,
        settings: Settings,
        store: PostStore,
        accounts: AccountStore,
        leases: LeaseStore,
        characters: Characters,
        gallery: Gallery,
        blobs: BlobStore,
        platforms: PlatformAccess,
        faces: FaceFinder,
        hosting: HostingMode,
        events: EventBus,
        *,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._settings = settings
        self._store = store
        self._characters = characters
        self._gallery = gallery
        self._platforms = platforms
        self._events = events
        self._now = now
        self._files = PostFiles(gallery, blobs, faces)
        self._checks = PostChecks(
            settings,
            store,
            accounts,
            Pauses(leases, events),
            characters,
            gallery,
            platforms,
            hosting,
            self._files,
            now,
        )
        self._json = PostJson(settings, characters, gallery, platforms, self._files, self._checks)
        #: Called after a person changed a post's state (planned, approved, cancelled, deleted): notices and runs may care.
        self.listeners: list[Callable[[Post], None]] = []
        #: The coming occurrences of a character's rules (automation.occurrences); free times keep clear of them.
        self.planned: Callable[..., Iterable[Any]] | None = None

    # ------------------------------------------------------------ pictures

    def prepare(self, post: Post) -> Post:
        """Frame the pictures and save them with the post; one whose pictures are all prepared is returned as it is.

        Raises NotFound (a picture is gone), InvalidInput, TooLarge, StorageError, Conflict (somebody else has it).
        """
        if self.is_prepared(post):
            return post
        framed = self._framed(post, strict=True)
        if post.status in IN_FLIGHT:
            return self._store.save(post.id, post.lease_owner or "", files=framed.files)
        return self._store.edit(post.id, files=framed.files)

    def is_prepared(self, post: Post) -> bool:
        """Whether every picture of the post is framed and its file is there."""
        ready = self._checks.prepared(post)
        return [file.media_id for file in post.files] == post.media_ids and all(id in ready for id in post.media_ids)

    def _framed(self, post: Post, *, strict: bool) -> Post:
        """Return the post with its pictures framed. What was prepared before stays for pictures that are gone by now.

        Unless `strict`, pictures that cannot be framed are left out; `check` says what is wrong with them.
        """
        if not post.media_ids:
            return post.with_(files=[])
        info = self._platforms.get(post.platform).info
        items = {item.id: item for item in self._checks.items(post.media_ids)}
        usable = [
            id for id in post.media_ids if id in items and items[id].trashed_at is None and items[id].type == "image"
        ]
        kept = self._checks.prepared(post)
        if strict:
            refuse([issue for issue in self._checks.pictures(post) if issue.code.startswith("picture_")])
        try:
            framed = self._files.frame([items[id] for id in usable], info, post.kind, post.options)
        except DallaError as exc:
            if strict and not all(id in kept for id in post.media_ids):
                raise
            logger.info("a picture of a post cannot be framed: %s", exc.detail)
            framed = []
        files = kept | {file.media_id: file for file in framed}
        return post.with_(files=[files[id] for id in post.media_ids if id in files])

    def _noted(self, issues: Iterable[Issue]) -> list[dict[str, str]]:
        return [issue.to_json() for issue in issues if issue.level == "warning" and issue.code not in TRANSIENT]

    # ------------------------------------------------------------ planning

    def schedule(self, id: str, at: str | None = None) -> Post:
        """Plan the post for `at` (an ISO time; None: the next free one). Raises NotFound, Conflict, InvalidInput."""
        post = self._store.get(id)
        self._refuse_unless(post, EDITABLE, "planned")
        when = self.next_free_slot(post.character_id, post.platform) if at is None else iso(checked_time(at))
        refuse(self._checks.when(parse(when)))
        return self._plan(post, when)

    def approve(self, ids: Sequence[str]) -> dict[str, list[Any]]:
        """Let held drafts go out: planned ones are scheduled, others wait as approved. Returns {"succeeded", "failed"}."""
        return _each(ids, self.approve_one)

    def approve_one(self, id: str) -> Post:
        """Let a held draft go out. Raises NotFound, Conflict, InvalidInput, NotConfigured."""
        post = self._store.get(id)
        self._refuse_unless(post, frozenset({"draft"}), "approved")
        if post.hold == "caption" and not post.caption.strip():
            raise InvalidInput.field("caption", "This post waits for a caption. Write one, then approve it.")
        if post.scheduled_at:
            return self._plan(post, post.scheduled_at, only_from=frozenset({"draft"}))
        post, issues = self._made_ready(post)
        approved = self._store.transition(
            id,
            "approved",
            only_from=frozenset({"draft"}),
            hold=None,
            hold_reason=None,
            approved_at=iso(self._now()),
            warnings=self._noted(issues),
        )
        self._tell(approved, listeners=True)
        return approved

    def retry(self, id: str) -> Post:
        """Plan a failed, missed, cancelled or rehearsed post again: at its time if that is to come, else now."""
        post = self._store.get(id)
        self._refuse_unless(post, RETRYABLE, "tried again")
        now = iso(self._now())
        return self._plan(post, max(post.scheduled_at or now, now), only_from=RETRYABLE)

    def cancel(self, id: str) -> Post:
        """Take the post out of the plan, or stop it on its way as long as nothing can be live. Raises NotFound, Conflict."""
        post = self._store.get(id)
        if post.status == "cancelled":
            return post
        if post.status == "unconfirmed":
            raise Conflict(
                "Nobody knows yet whether this post is live, so it cannot be cancelled.",
                remedy="Look at the account and say whether the post is there.",
            )
        self._refuse_unless(post, CANCELLABLE, "cancelled")
        done = self._store.transition(id, "cancelled", only_from=CANCELLABLE, hold=None, hold_reason=None)
        self._tell(done, listeners=True)
        return done

    def delete(self, id: str) -> Post:
        """Remove a post that is neither planned, on its way, published nor unconfirmed. Raises NotFound, Conflict."""
        gone = self._store.delete(id)
        self._events.publish(
            "post.updated",
            {"id": id, "status": "deleted", "platform": gone.platform, "characterId": gone.character_id, "hold": None},
        )
        self._call_listeners(gone if gone.status == "cancelled" else gone.with_(status="cancelled"))
        return gone

    def bulk(self, action: str, ids: Sequence[str], *, at: str | None = None) -> dict[str, list[Any]]:
        """Do one thing with many: approve, cancel, delete or schedule.

        schedule without `at` gives each the next free time; with it the posts of one account follow one another.
        Returns {"succeeded": [ids], "failed": [{"id", "code", "detail"}]}. Raises InvalidInput.
        """
        works: dict[str, Callable[[str], Any]] = {
            "approve": self.approve_one,
            "cancel": self.cancel,
            "delete": self.delete,
            "schedule": self._in_turn(at),
        }
        if action not in works:
            raise InvalidInput.field("action", f"Use one of {', '.join(works)}.")
        return _each(ids, works[action])

    def _in_turn(self, at: str | None) -> Callable[[str], Post]:
        start = None if at is None else checked_time(at)
        if start is not None:
            refuse(self._checks.when(start))
        turns: dict[tuple[str, str], int] = {}
        gap = max(self._checks.gap(), timedelta(minutes=1))

        def one(id: str) -> Post:
            if start is None:
                return self.schedule(id)
            post = self._store.get(id)
            account = (post.character_id, post.platform)
            done = self.schedule(id, iso(start + turns.get(account, 0) * gap))
            turns[account] = turns.get(account, 0) + 1
            return done

        return one

    def next_free_slot(self, character_id: str, platform: str) -> str:
        """Return the next time (ISO) at which the account usually posts and nothing else is planned.

        Without usual times it is the next free full hour in the character's zone, outside the quiet hours.
        Raises NotFound, InvalidInput.
        """
        character = self._characters.get(character_id)
        self._platforms.get(platform)
        zone = zone_named(character.timezone, self._settings.timezone)
        now = self._now()
        around = self._store.between(
            iso(now - timedelta(days=_HISTORY_DAYS)),
            iso(now + timedelta(days=_HISTORY_DAYS)),
            character_id=character_id,
        )
        mine = [
            post
            for post in around
            if post.platform == platform and post.status not in ("cancelled", "failed", "missed", "dry_run")
        ]
        taken = [
            parse(text)
            for post in mine
            for text in {post.scheduled_at, post.due_at if post.status != "published" else None, post.published_at}
            if text
        ]
        history = [parse(post.scheduled_at) for post in mine if post.scheduled_at]
        rules = [moment for moment in self._planned_times(character_id, platform, now)]
        moment = free_time(
            now,
            zone,
            usual=usual_times(history, rules, zone),
            taken=[*taken, *rules],
            gap=self._checks.gap(),
            quiet=self._settings.quiet_hours,
        )
        return iso(moment)

    def _planned_times(self, character_id: str, platform: str, now: datetime) -> list[datetime]:
        if self.planned is None:
            return []
        try:
            coming = self.planned(now, now + timedelta(days=_PLANNED_DAYS), character_id=character_id, limit=500)
            found = [o for o in coming if platform in o.platforms and not getattr(o, "skipped", False)]
            return [parse(o.at) if isinstance(o.at, str) else o.at for o in found if getattr(o, "active", True)]
        except DallaError as exc:  # a broken scheduler.json must not keep anybody from posting
            logger.warning("the rules could not be read for free times: %s", exc.detail)
            return []

    def _plan(self, post: Post, at: str, *, only_from: frozenset[str] = EDITABLE) -> Post:
        post, issues = self._made_ready(post.with_(scheduled_at=at))
        fields: dict[str, Any] = {
            "scheduled_at": at,
            "due_at": max(at, iso(self._now())),
            "hold": None,
            "hold_reason": None,
            "error": None,
            "deferred_reason": None,
            "approved_at": post.approved_at or iso(self._now()),
            "warnings": self._noted(issues),
        }
        if post.status == "scheduled":
            planned = self._store.edit(post.id, only_from=frozenset({"scheduled"}), **fields)
        else:
            planned = self._store.transition(post.id, "scheduled", only_from=only_from & EDITABLE, **fields, **FRESH)
        self._tell(planned, listeners=True)
        return planned

    def _made_ready(self, post: Post) -> tuple[Post, list[Issue]]:
        """Frame the pictures and check; raises for what would keep the post from going out."""
        refuse(self._checks.all(post))
        if not self.is_prepared(post):
            saved = self.prepare(post)
            post = post.with_(files=saved.files)
        return post, self._checks.all(post)

    # ------------------------------------------------------------ parts

    @staticmethod
    def _refuse_unless(post: Post, statuses: frozenset[str], what: str) -> None:
        if post.status not in statuses:
            raise Conflict(f"A post that is {words(post.status)} cannot be {what}.", extra={"postStatus": post.status})

    def _tell(self, post: Post, *, listeners: bool = False) -> None:
        self._events.publish(
            "post.updated",
            {
                "id": post.id,
                "status": post.status,
                "platform": post.platform,
                "characterId": post.character_id,
                "hold": post.hold,
            },
        )
        if listeners:
            self._call_listeners(post)

    def _call_listeners(self, post: Post) -> None:
        for listener in list(self.listeners):
            try:
                listener(post)
            except Exception:  # noqa: BLE001 - the change is made; who listens must not undo that
                logger.exception("after post %s became %s", post.id, post.status)


def _each(ids: Sequence[str], work: Callable[[str], Any]) -> dict[str, list[Any]]:
    succeeded: list[str] = []
    failed: list[dict[str, Any]] = []
    for id in dict.fromkeys(ids):
        try:
            work(id)
            succeeded.append(id)
        except DallaError as exc:
            failed.append({"id": id, "code": exc.code, "detail": exc.detail, "remedy": exc.remedy})
    return {"succeeded": succeeded, "failed": failed}


def words(status: str) -> str:
    return {"claimed": "on its way", "uploading": "on its way", "publishing": "on its way", "dry_run": "rehearsed"}.get(
        status, status
    )
