"""Publish what is due, exactly once: claims, recovery, breakers, the stop switch, what could not be settled.

Walk: `tick` claims due posts and queues a job for each; the job drives its post (publishing_drive.py).
A post in flight has a lease. When its owner dies, another tick adopts it and goes on *by its state*:
what was only staged is staged on, what may have been published is looked for and never simply repeated.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from dalla.errors import Conflict, DallaError, InvalidInput, NotFound
from dalla.events import EventBus
from dalla.jobs.base import Context, JobQueue
from dalla.platforms.base import PlatformError
from dalla.records.character import Character
from dalla.records.platform import Issue
from dalla.records.post import IN_FLIGHT, Post, PostFilter, Snapshot
from dalla.services.characters import Characters
from dalla.services.gallery import Gallery
from dalla.services.notices import Notices
from dalla.services.pauses import Pauses
from dalla.services.platform_access import PlatformAccess
from dalla.services.post_times import quiet_until, zone_named
from dalla.services.publishing_after import Aftermath, PromptUse
from dalla.services.publishing_drive import Drive, Hosting
from dalla.services.shared_accounts import must_wait, shared
from dalla.settings import Settings
from dalla.stores.base import AccountStore, BlobStore, PostStore
from dalla.times import iso, now_iso

logger = logging.getLogger(__name__)

LEASE_SECONDS = 600
CLAIMS_PER_TICK = 20
_STARTABLE = frozenset({"draft", "approved", "scheduled", "failed", "missed", "cancelled", "dry_run"})
#: As if it had never been tried.
_FRESH: dict[str, Any] = {"snapshot": None, "remote": {}, "attempts": 0, "looks": 0, "publish_started_at": None}
#: What a link to a post of each platform looks like, and an id alone.
_LINKS = {
    "twitter": re.compile(r"https?://(?:[\w-]+\.)?(?:x|twitter)\.com/(?:i/web|\w+)/status(?:es)?/(\d{5,25})(?![\w-])"),
    "instagram": re.compile(
        r"https?://(?:[\w-]+\.)?instagram\.com/(?:\w[\w.]*/)?(?:p|reel|tv|stories/[\w.]+)/([\w-]{5,64})(?![\w-])"
    ),
}
_IDS = {"twitter": re.compile(r"\d{5,25}\Z"), "instagram": re.compile(r"[A-Za-z0-9_-]{5,64}\Z")}


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Preparing(Protocol):
    """The last checks, and the pictures as they go out (services/posts.py)."""

    def check(self, post: Post) -> list[Issue]: ...

    def prepare(self, post: Post) -> Post: ...


class Publishing:
    """The publisher of this process. Several processes may run one each on the same database."""

    KIND = "publish_post"

    def __init__(
        self,
        settings: Settings,
        store: PostStore,
        accounts: AccountStore,
        posts: Preparing,
        pauses: Pauses,
        characters: Characters,
        platforms: PlatformAccess,
        blobs: BlobStore,
        hosting: Hosting,
        gallery: Gallery,
        notices: Notices,
        prompts: PromptUse,
        jobs: JobQueue,
        events: EventBus,
        *,
        owner: str,
        is_dead: Callable[[str], bool] = lambda owner: False,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`owner` names this process in leases; `is_dead` tells whether the process of an owner is certainly gone."""
        self._settings = settings
        self._store = store
        self._accounts = accounts
        self._posts = posts
        self._pauses = pauses
        self._characters = characters
        self._platforms = platforms
        self._notices = notices
        self._jobs = jobs
        self._events = events
        self._owner = owner
        self._is_dead = is_dead
        self._now = now
        self._working: dict[str, str] = {}  # post -> job, of this process
        self._lock = threading.RLock()
        self._here = threading.local()
        self._after = Aftermath(accounts, characters, platforms, gallery, notices, prompts, events, now)
        self.listeners = self._after.listeners
        self.settled = self._after.settled
        self._drive = Drive(
            settings,
            store,
            platforms,
            blobs,
            hosting,
            owner,
            now,
            snapshot=self._take_snapshot,
            settle=self._after.settled,
            stop_account=self._after.open_breaker,
            count_failure=self._after.count_failure,
            remember=self._after.remember,
            stopped=self._stopped_meanwhile,
            wanted=lambda context: self._jobs.get(context.job.id).cancel_requested,
        )
        jobs.register(self.KIND, self.run, lane="publish")

    # ------------------------------------------------------------ the clock

    def tick(self) -> int:
        """Renew what runs here, recover what others left, note what is too late, start what is due; return how many started."""
        self._here.ticking = True
        try:
            return self._tick(self._now())
        finally:
            self._here.ticking = False

    def _tick(self, now: datetime) -> int:
        self._renew(now)
        self._recover_dead(now)
        self._miss(now)
        started = 0
        until = iso(now + timedelta(seconds=LEASE_SECONDS))
        for post in self._store.adopt(self._owner, iso(now), until, limit=CLAIMS_PER_TICK):
            logger.info("recovering post %s (%s)", post.id, post.status)
            started += self._start(post)
        for post in self._store.resume(self._owner, iso(now), until, limit=CLAIMS_PER_TICK):
            started += self._start(post)
        if self._pauses.all()["all"] is None:
            blocked = self._blocked(now)
            skip = blocked | self._shared(now, blocked=blocked)
            for post in self._store.claim(
                self._owner, iso(now), until, gaps=self._gaps(), skip=skip, limit=CLAIMS_PER_TICK
            ):
                started += self._start(post)
        return started

    def wake(self) -> None:
        """Look now instead of at the next tick. Never raises."""
        try:
            self.tick()
        except DallaError as exc:
            logger.warning("the publisher could not look for due posts: %s", exc.detail)

    def next_due(self) -> str | None:
        """Return when something is due next."""
        return self._store.next_due()

    def chores(self) -> None:
        """Once an hour: fetch the links that could not be read right after publishing, forget old dry runs."""
        limit = iso(self._now() - timedelta(days=2))
        page = self._store.page(PostFilter(statuses=["published"], after=limit), limit=200)
        for post in page.items if not self._settings.dry_run else ():
            if post.permalink or not post.platform_post_id:
                continue
            character = self._after.character(post)
            if character is None or character.dry_run or self._platforms.credentials_missing(character, post.platform):
                continue
            account = self._platforms.account(character, post.platform, dry_run=False, post_id=post.id)
            with contextlib.closing(account.session):
                link = self._platforms.get(post.platform).permalink(account, post.platform_post_id)
            if link:
                self._after.tell(self._store.edit(post.id, only_from=frozenset({"published"}), permalink=link))
        self._store.clear_outbox(before=iso(self._now() - timedelta(days=30)))

    def _gaps(self) -> dict[str, int]:
        return dict.fromkeys(self._platforms.names(), self._settings.min_gap_minutes * 60)

    def _shared(
        self, now: datetime, *, blocked: set[tuple[str, str]] | None = None, only: tuple[str, str] | None = None
    ) -> set[tuple[str, str]]:
        """Return the accounts that wait because another character uses the same real one (see shared_accounts.py)."""
        groups = shared(self._characters.all(), self._accounts.all())
        gap = timedelta(0) if only else timedelta(minutes=self._settings.min_gap_minutes)
        return must_wait(self._store, groups, now, gap, blocked=blocked or set(), only=only) if groups else set()

    def _blocked(self, now: datetime) -> set[tuple[str, str]]:
        """Return the accounts that must not be used now: breaker open, stopped by a person, character inactive."""
        names = self._platforms.names()
        stopped = set(self._pauses.all()["characters"])
        blocked = {
            (state.character_id, state.platform)
            for state in self._accounts.all()
            if state.paused or (state.breaker_reason and (not state.breaker_until or state.breaker_until > iso(now)))
        }
        stopped |= {character.id for character in self._characters.all() if not character.is_active}
        return blocked | {(id, name) for id in stopped for name in names}

    def _renew(self, now: datetime) -> None:
        until = iso(now + timedelta(seconds=LEASE_SECONDS))
        with self._lock:
            working = dict(self._working)
        for post_id, job_id in working.items():
            try:
                job = self._jobs.get(job_id)
            except NotFound:
                job = None
            if job is not None and not job.finished:
                self._store.renew(post_id, self._owner, until)
                continue
            with self._lock:  # meanwhile another job may have taken the post up again: then it is not ours to let go
                if self._working.get(post_id) != job_id:
                    continue
                del self._working[post_id]
            self._let_go(post_id, now, cancelled=job is not None and job.status == "cancelled")

    def _let_go(self, post_id: str, now: datetime, *, cancelled: bool) -> None:
        """Give back a post whose job ended without having begun it: cancelled by a person while it waited, or lost."""
        try:
            post = self._store.get(post_id)
            if post.lease_owner == self._owner and post.status in IN_FLIGHT:
                if post.status == "publishing" or not cancelled:
                    self._store.save(post.id, self._owner, due_at=iso(now), lease_owner=None, lease_until=None)
                else:
                    self._after.settled(self._store.transition(post.id, "cancelled", owned_by=self._owner))
        except (NotFound, Conflict):
            pass

    def _recover_dead(self, now: datetime) -> None:
        dead = [owner for owner in self._store.owners() if owner != self._owner and self._is_dead(owner)]
        if dead:
            self._store.abandon(dead, iso(now))

    def _miss(self, now: datetime) -> None:
        limit = iso(now - timedelta(minutes=self._settings.late_window_minutes))
        for post in self._store.overdue(limit):
            error = {
                "detail": f"It was due at {post.scheduled_at} and could not go out in time. {self._kept_by(post)}".strip(),
                "remedy": "Post it now, choose a new time, or cancel it.",
                "code": "missed",
                "cause": "missed",
                "action": "ask",
            }
            try:
                self._after.settled(self._store.transition(post.id, "missed", error=error))
            except Conflict:
                continue  # claimed this very moment

    def _kept_by(self, post: Post) -> str:
        """Say what keeps a post from going out, for a person."""
        if post.hold or post.status in ("draft", "approved"):
            return "It waited for a person." if post.hold else ""
        pause = self._pauses.of(post.character_id)
        if pause is not None:
            return f"Publishing is stopped{': ' + pause['reason'] if pause['reason'] else ''}."
        character = self._after.character(post)
        if character is not None and not character.is_active:
            return f"{character.name} is switched off."
        state = self._accounts.get(post.character_id, post.platform)
        if state.paused or state.breaker_reason:
            return f"The account is stopped{': ' + state.breaker_reason if state.breaker_reason else ' by hand'}."
        return post.deferred_reason or ""

    # ------------------------------------------------------------ jobs

    def _start(self, post: Post, *, at_once: bool = False) -> int:
        label = self._platforms.get(post.platform).info.label
        verb = "Rehearse a post on" if post.dry_run else "Post on"
        character = self._after.character(post)
        title = f"{verb} {label}" + (f" as {character.name}" if character else "")
        with self._lock:
            job = self._jobs.submit(
                self.KIND, {"post_id": post.id, "at_once": at_once}, title=title, character_id=post.character_id
            )
            self._working[post.id] = job.id
        try:
            self._store.save(post.id, self._owner, job_id=job.id)
        except Conflict:
            pass  # done already
        self._after.tell(post)
        return 1

    def run(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        """Do one post's next stretch (job `publish_post`)."""
        post = self._store.get(payload["post_id"])
        if post.lease_owner != self._owner or post.status not in IN_FLIGHT:
            return {"postId": post.id, "status": post.status, "note": "Nothing was left to do."}
        with self._lock:
            if self._working.setdefault(post.id, context.job.id) != context.job.id:  # e.g. an old job tried again
                return {"postId": post.id, "status": post.status, "note": "Another task is at it."}
        try:
            done = self._drive_post(post, context, bool(payload.get("at_once")))
        except Conflict:
            done = self._store.get(post.id)  # cancelled or taken over meanwhile; the row says how it stands
        finally:
            with self._lock:
                if self._working.get(post.id) == context.job.id:
                    del self._working[post.id]
        self._after.tell(done)
        with self._after.changed:
            self._after.changed.notify_all()
        with self._lock:
            free = len(self._working) < CLAIMS_PER_TICK // 2
        # Do not leave what is due to the next tick. (Inside a tick there is nothing to hurry.)
        if free and not getattr(self._here, "ticking", False):
            self.wake()
        return {
            "postId": done.id,
            "status": done.status,
            "platformPostId": done.platform_post_id,
            "permalink": done.permalink,
            "detail": (done.error or {}).get("detail"),
        }

    def _drive_post(self, post: Post, context: Context, at_once: bool) -> Post:
        character = self._after.character(post)
        if character is None:
            if post.status == "publishing":
                return self._unconfirmed(post, "The character was deleted while the post was on its way.")
            return self._fail(post, "unknown_character", "The character of this post does not exist any more.")
        if post.status != "publishing":
            stop = self._why_not_now(post, character, at_once)
            if stop is not None:
                due, reason = stop
                return self._store.transition(
                    post.id, "scheduled", owned_by=self._owner, due_at=due, deferred_reason=reason
                )
            dry_run = post.dry_run or self._settings.dry_run or character.dry_run
            if dry_run != post.dry_run:
                post = self._store.save(post.id, self._owner, dry_run=dry_run)
        elif self._settings.dry_run and not post.dry_run:
            # Asking the platform would leave the machine; it is asked when the app runs for real again.
            due = iso(self._now() + timedelta(minutes=15))
            return self._store.save(post.id, self._owner, due_at=due, lease_owner=None, lease_until=None)
        missing = [] if post.dry_run else self._platforms.credentials_missing(character, post.platform)
        if missing:
            label = self._platforms.get(post.platform).info.label
            detail = f"{character.name} has no {' and '.join(missing)} for {label}."
            if post.status == "publishing":
                return self._unconfirmed(post, detail)
            return self._fail(post, "no_credentials", detail, remedy="Enter the keys on the character's Accounts tab.")
        return self._drive.run(post, character, context, at_once=at_once)

    def _stopped_meanwhile(self, post: Post, at_once: bool) -> tuple[str, str] | None:
        character = self._after.character(post)
        if character is None:
            return None
        if not post.dry_run and (self._settings.dry_run or character.dry_run):
            return iso(self._now()), "It was switched to a rehearsal."  # taken up again at once, as one
        return self._why_not_now(post, character, at_once)

    def _why_not_now(self, post: Post, character: Character, at_once: bool) -> tuple[str, str] | None:
        """Return (try again at, reason) when the post must wait although it was claimed."""
        now = self._now()
        pause = self._pauses.of(character.id)
        if pause is not None:
            return post.due_at or iso(now), f"Publishing is stopped: {pause['reason'] or 'by hand'}."
        if at_once:  # a person wants it now: the account was looked at then, and quiet hours do not count
            return None
        if (character.id, post.platform) in self._blocked(now):
            return post.due_at or iso(now), "The account is stopped."
        end = quiet_until(self._settings.quiet_hours, now, zone_named(character.timezone, self._settings.timezone))
        if end is not None and post.snapshot is None:
            return iso(end), f"It is inside the quiet hours ({self._settings.quiet_hours})."
        return None

    def _take_snapshot(self, post: Post) -> Snapshot:
        """Freeze what is sent. Raises PlatformError (action fix) for what the checks refuse."""
        errors = [issue for issue in self._posts.check(post) if issue.level == "error"]
        if errors:
            raise PlatformError(
                " ".join(issue.message for issue in errors),
                platform=post.platform,
                cause=errors[0].code,
                action="fix",
                remedy=errors[0].remedy,
            )
        post = self._posts.prepare(post)
        return Snapshot(
            platform=post.platform,
            kind=post.kind,
            caption=post.caption,
            alt_texts=post.alt_texts,
            files=post.files,
            options=post.options,
            taken_at=iso(self._now()),
        )

    def _fail(self, post: Post, cause: str, detail: str, remedy: str | None = None) -> Post:
        error = PlatformError(detail, platform=post.platform, cause=cause, action="fix", remedy=remedy)
        done = self._store.transition(post.id, "failed", owned_by=self._owner, error=error.problem())
        self._after.settled(done)
        return done

    def _unconfirmed(self, post: Post, detail: str) -> Post:
        error = PlatformError(detail, platform=post.platform, cause="unconfirmed", action="ask")
        done = self._store.transition(post.id, "unconfirmed", owned_by=self._owner, error=error.problem())
        self._after.settled(done)
        return done

    # ------------------------------------------------------------ by hand

    def publish_now(self, post_id: str) -> Post:
        """Start this post now. Raises NotFound, Conflict (wrong state, account busy or stopped)."""
        post = self._store.get(post_id)
        if post.status not in _STARTABLE:
            raise Conflict(f"The post is {post.status}; it cannot be posted now.", extra={"postStatus": post.status})
        self._refuse_when_stopped(post)
        now = self._now()
        changes: dict[str, Any] = {
            "scheduled_at": iso(now),  # from now on it counts: the late window, the calendar
            "due_at": iso(now),
            "hold": None,
            "hold_reason": None,
            "error": None,
            "deferred_reason": None,
        }
        if post.status != "scheduled":
            post = self._store.transition(post_id, "scheduled", only_from=_STARTABLE, **changes, **_FRESH)
        else:
            post = self._store.edit(post_id, only_from=frozenset({"scheduled"}), **changes)
        until = iso(now + timedelta(seconds=LEASE_SECONDS))
        busy = self._shared(now, only=(post.character_id, post.platform))
        for _ in range(2):
            claimed = self._store.claim(self._owner, iso(now), until, gaps={}, skip=busy, limit=1, only=post_id)
            if claimed:
                self._start(claimed[0], at_once=True)
                return self._store.get(post_id)
            time.sleep(0.05)
        # Another post of this account is on its way: this one follows by itself.
        return self._store.get(post_id)

    def _refuse_when_stopped(self, post: Post) -> None:
        pause = self._pauses.of(post.character_id)
        if pause is not None:
            raise Conflict(
                f"Publishing is stopped{': ' + pause['reason'] if pause['reason'] else ''}.",
                remedy="Resume it on the schedule page.",
            )
        state = self._accounts.get(post.character_id, post.platform)
        dry = post.dry_run or self._settings.dry_run
        if not dry and state.paused:
            raise Conflict("This account is stopped.", remedy="Resume it on the connections page.")
        if not dry and state.breaker_reason and (state.breaker_until is None or state.breaker_until > iso(self._now())):
            raise Conflict(
                f"This account is stopped: {state.breaker_reason}",
                remedy="Mend the cause, then test the account on the connections page.",
            )

    def wait(self, post_id: str, timeout: float) -> Post:
        """Return the post when it has come to rest (or waits for a later try), at the latest after `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            post = self._store.get(post_id)
            left = end - time.monotonic()
            with self._lock:
                working = post_id in self._working
            resting = post.status not in IN_FLIGHT and not working
            if resting or left <= 0:
                return self._store.get(post_id)
            with self._after.changed:
                self._after.changed.wait(min(left, 0.5))

    def settle(self, post_id: str, *, posted: bool, reference: str | None = None, again: bool = False) -> Post:
        """Settle an unconfirmed post: it is there (with its link or id), or it is not (and maybe goes out again).

        Raises NotFound, Conflict (not unconfirmed), InvalidInput (no usable link).
        """
        only = frozenset({"unconfirmed"})
        if posted:
            id, link = _reference(reference, self._store.get(post_id).platform)
            fields = {"platform_post_id": id, "permalink": link, "published_at": now_iso(), "error": None}
            done = self._store.transition(post_id, "published", only_from=only, **fields)
            self._after.settled(done)
            return done
        if again:
            now = iso(self._now())
            done = self._store.transition(
                post_id, "scheduled", only_from=only, scheduled_at=now, due_at=now, error=None, **_FRESH
            )
            self._notices.resolve(f"post:{post_id}")
            self._after.tell(done)
            self.wake()
            return self._store.get(post_id)
        done = self._store.transition(post_id, "cancelled", only_from=only)
        self._after.settled(done)
        return done

    # ------------------------------------------------------------ the stop switch, breakers

    def pause(self, reason: str, character_id: str | None = None) -> dict[str, Any]:
        """Stop publishing for everybody or one character."""
        return self._pauses.pause(reason, character_id)

    def resume(self, character_id: str | None = None) -> dict[str, Any]:
        """Let it go on, and look at once for what is due."""
        pauses = self._pauses.resume(character_id)
        self.wake()
        return pauses

    def pauses(self) -> dict[str, Any]:
        """Return what is stopped (see Pauses.all)."""
        return self._pauses.all()

    def close_breaker(self, character_id: str, platform: str) -> None:
        """Use the account again."""
        self._accounts.save(
            character_id,
            platform,
            breaker_reason=None,
            breaker_code=None,
            breaker_since=None,
            breaker_until=None,
            failures=0,
        )
        self._notices.resolve(f"account:{character_id}:{platform}")
        self._events.publish("account.updated", {"characterId": character_id, "platform": platform})
        self.wake()

    def pause_account(self, character_id: str, platform: str, paused: bool) -> None:
        """Stop one account, or let it go on."""
        self._accounts.save(character_id, platform, paused=paused)
        self._events.publish("account.updated", {"characterId": character_id, "platform": platform})
        if not paused:
            self.wake()


def _reference(text: str | None, platform: str) -> tuple[str, str | None]:
    """Return (id, link) from a link to a post, or from its id. Raises InvalidInput."""
    text = (text or "").strip()
    if text.startswith(("https://", "http://")):
        found = _LINKS[platform].match(text)
        if found:
            return found[1], text
    elif _IDS[platform].match(text):
        return text, None
    raise InvalidInput.field(
        "permalink", "Paste the link of the post (or its id), so that it can be found again.",
        remedy="Open the post itself on the platform and copy its address.",
    )  # fmt: skip
